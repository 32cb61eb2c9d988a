"""The facts of a DASD as ``pyvfio dasd`` prints them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from pyvfio.dasd import Dasd as Listed
from pyvfio.drivers.dasd import Dasd
from pyvfio.drivers.ibm_partitions import Found, Partition
from pyvfio.drivers.label import EBCDIC
from pyvfio.drivers.operations import Located
from pyvfio.drivers.track import TrackImage
from pyvfio.drivers.vtoc import Attributes, DataSet, Extents, FreeSpace, FreeTracks, VolumeSpace
from pyvfio_tools.lsdasd import table_lines

__all__ = [
    "dscb_dict",
    "dscb_row",
    "info_dict",
    "info_pairs",
    "lsdasd_lines",
    "partition_dict",
    "partition_row",
    "record_rows",
]
_SECTOR, _KIB = 512, 1024


def info_pairs(disk: Dasd, found: Found) -> Iterator[tuple[str, object]]:
    """The facts of ``pyvfio dasd info`` in lines."""
    geometry, layout, label = disk.characteristics, disk.layout, disk.label
    yield "device", disk.work.name
    yield "device type", disk.sense_id.device
    yield "control unit", disk.sense_id.cu
    yield "identity", disk.configuration
    yield "paths", f"{disk.paths:02x}{', one path group' if disk.work.grouped else ''}"
    yield "features", ", ".join(disk.features.names) or "none known"
    yield "cylinders", geometry.cylinders
    yield "heads", geometry.heads
    yield "tracks", geometry.tracks
    yield "alternates", f"{geometry.alternates} tracks" if geometry.alternates else "none"
    yield "layout", "not formatted" if layout is None else str(layout.kind)
    if layout is not None:
        yield "blocks", f"{layout.blocks} of {layout.block_size} bytes, {layout.per_track} on a track"
    yield "label", "none" if label is None else f"{label.kind} {label.volser}"
    for one in found.partitions:
        yield f"partition {one.number}", f"{one.name}: blocks {one.first} to {one.first + one.count - 1}"


def info_dict(disk: Dasd, found: Found, messages: Sequence[str], name: str) -> dict[str, Any]:
    """The facts of ``pyvfio dasd info`` as data."""
    layout, label = disk.layout, disk.label
    return {
        "device": disk.work.name,
        "device_type": disk.sense_id.device,
        "control_unit": disk.sense_id.cu,
        "identity": None if disk.configuration is None else str(disk.configuration),
        "paths": f"{disk.paths:02x}",
        "path_group": disk.work.grouped,
        "features": list(disk.features.names),
        "characteristics": asdict(disk.characteristics),
        "layout": None if layout is None else {**asdict(layout), "blocks": layout.blocks},
        "label": None if label is None else asdict(label),
        "partitions": [partition_dict(disk, one, name) for one in found.partitions],
        "messages": list(messages),
        "lsdasd": lsdasd_lines(disk, name),
    }


_MINORS, _FIRST_LETTER = 4, ord("a")


def lsdasd_lines(disk: Dasd, name: str) -> list[str]:
    """What lsdasd prints of the disk when Linux calls it `name`; its minor numbers follow from that."""
    index = 0
    for letter in name.removeprefix("dasd"):
        index = index * 26 + ord(letter) - _FIRST_LETTER + 1
    layout = disk.layout
    facts = Listed(
        disk.name,
        online=True,
        alias=False,
        readonly=False,
        discipline="ECKD",
        uid=str(disk.configuration),
        ese=False,
        copy_role="none",
        disk=name,
        number=f"94:{max(0, index - 1) * _MINORS}",
        sectors=0 if layout is None else layout.blocks * layout.block_size // _SECTOR,
        block_size=None if layout is None else layout.block_size,
    )
    return table_lines(facts)


def partition_row(disk: Dasd, one: Partition, name: str) -> list[str]:
    """A line of ``pyvfio dasd partitions``: the tracks and the size as fdasd prints them, and the data set's name."""
    facts = partition_dict(disk, one, name)
    size = f"{facts['bytes'] // _KIB} KiB"
    return [facts["device"], *(str(facts[key]) for key in ("start", "end", "tracks", "blocks")), size, one.name]


def partition_dict(disk: Dasd, one: Partition, name: str) -> dict[str, Any]:
    """A partition as data: first and last track and their number, blocks, bytes."""
    layout = disk.work.formatted()
    start, end = one.first // layout.per_track, (one.first + one.count - 1) // layout.per_track
    return {
        "number": one.number,
        "device": f"/dev/{name}{one.number}",
        "name": one.name,
        "start": start,
        "end": end,
        "tracks": end - start + 1,
        "first": one.first,
        "blocks": one.count,
        "bytes": one.count * layout.block_size,
    }


def _what(located: Located) -> str:
    dscb = located.dscb
    if isinstance(dscb, DataSet):
        return f"data set {dscb.name} of {dscb.serial}"
    if isinstance(dscb, VolumeSpace):
        return f"volume of {dscb.cylinders} cylinders, {dscb.free_records} free records"
    if isinstance(dscb, FreeTracks):
        return "free tracks " + ", ".join(f"{first}-{end - 1}" for first, end in dscb.free)
    if isinstance(dscb, FreeSpace):
        return f"free space, {len(dscb.free)} extents"
    if isinstance(dscb, Attributes):
        return f"attributes, subtype {dscb.subtype}"
    return "further extents" if isinstance(dscb, Extents) else ""


def dscb_row(located: Located) -> tuple[str, str, str, str]:
    """A line of ``pyvfio dasd vtoc``."""
    place = f"{located.cylinder}/{located.head}/{located.record}"
    extents = getattr(located.dscb, "extents", ())
    return place, located.dscb.format, _what(located), "; ".join(map(str, extents)) or "-"


def dscb_dict(located: Located) -> dict[str, Any]:
    """A DSCB as data."""
    facts = {name: value for name, value in asdict(located.dscb).items() if name != "raw"}
    where = {"cylinder": located.cylinder, "head": located.head, "record": located.record}
    return {**where, **facts, "raw": located.dscb.raw.hex()}


def record_rows(tracks: Iterable[TrackImage]) -> Iterator[dict[str, Any]]:
    """The records of tracks; a key that is text is shown as that, else in hexadecimal."""
    for track in tracks:
        for record in track.records:
            text = record.key.decode(EBCDIC).rstrip()
            yield {
                "cylinder": track.cylinder,
                "head": track.head,
                "record": record.number,
                "key_length": len(record.key),
                "data_length": len(record.data),
                "key": text if text.isascii() and text.isprintable() else record.key.hex(),
            }
