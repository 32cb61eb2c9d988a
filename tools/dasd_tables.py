"""The facts of a DASD as ``pyvfio dasd`` prints them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from pyvfio.drivers.dasd import Dasd
from pyvfio.drivers.label import EBCDIC
from pyvfio.drivers.operations import Located, Partition
from pyvfio.drivers.track import TrackImage
from pyvfio.drivers.vtoc import DataSet, Extents, FreeSpace, FreeTracks, VolumeSpace

__all__ = ["dscb_dict", "dscb_row", "info_dict", "info_pairs", "record_rows"]


def info_pairs(disk: Dasd, partitions: Sequence[Partition]) -> Iterator[tuple[str, object]]:
    """The facts of ``pyvfio dasd info`` in lines."""
    geometry, layout, label = disk.characteristics, disk.layout, disk.label
    yield "device", disk.work.name
    yield "device type", disk.sense_id.device
    yield "control unit", disk.sense_id.cu
    yield "identity", disk.configuration
    yield "paths", f"{disk.paths:02x}"
    yield "cylinders", geometry.cylinders
    yield "heads", geometry.heads
    yield "tracks", geometry.tracks
    yield "layout", "not formatted" if layout is None else str(layout.kind)
    if layout is not None:
        yield "blocks", f"{layout.blocks} of {layout.block_size} bytes, {layout.per_track} on a track"
    yield "label", "none" if label is None else f"{label.kind} {label.volser}"
    for one in partitions:
        yield f"partition {one.number}", f"{one.name}: blocks {one.first} to {one.first + one.count - 1}"


def info_dict(disk: Dasd, partitions: Sequence[Partition], messages: Sequence[str]) -> dict[str, Any]:
    """The facts of ``pyvfio dasd info`` as data."""
    layout, label = disk.layout, disk.label
    return {
        "device": disk.work.name,
        "device_type": disk.sense_id.device,
        "control_unit": disk.sense_id.cu,
        "identity": None if disk.configuration is None else str(disk.configuration),
        "paths": f"{disk.paths:02x}",
        "characteristics": asdict(disk.characteristics),
        "layout": None if layout is None else {**asdict(layout), "blocks": layout.blocks},
        "label": None if label is None else asdict(label),
        "partitions": [asdict(one) for one in partitions],
        "messages": list(messages),
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
