"""The volume: its table of contents, its partitions, and what Linux prints for it."""

from __future__ import annotations

from dataclasses import dataclass

from pyvfio.drivers import ibm_partitions, programs
from pyvfio.drivers.block_work import BlockWork
from pyvfio.drivers.characteristics import COMPATIBLE_CYLINDERS
from pyvfio.drivers.failures import DamagedVolume
from pyvfio.drivers.ibm_partitions import Found, Partition
from pyvfio.drivers.label import LabelKind
from pyvfio.drivers.layout import FILLER
from pyvfio.drivers.track_work import TrackWork
from pyvfio.drivers.vtoc import DSCB_SIZE, KEY_SIZE, Dscb, VolumeSpace, parse_dscb
from pyvfio.drivers.work import Request, Work

__all__ = ["Located", "VolumeWork"]


@dataclass(frozen=True, slots=True)
class Located:
    """A DSCB and where it lies: cylinder, head, record."""

    cylinder: int
    head: int
    record: int
    dscb: Dscb


class VolumeWork(BlockWork, TrackWork):
    """What is on the whole volume."""

    def vtoc(self) -> Work[list[Located]]:
        """All DSCBs in use, in their order on the disk; none when the label names no VTOC.

        Raise `MalformedAnswer` when what the label points to is no VTOC.
        """
        label = self.label
        if label is None or label.kind is not LabelKind.VOL1 or label.vtoc is None:
            return []
        cylinder, head, record = label.vtoc
        first = cylinder * self.disk.heads + head
        where = f"cylinder {cylinder} head {head} record {record}"
        if cylinder >= self.disk.cylinders or head >= self.disk.heads:
            raise DamagedVolume("read VTOC", self.name, f"the label says that it begins at {where}")
        image = (yield from self.read_tracks(first, 1))[0]
        start = next((one for one in image.records if one.number == record), None)
        if start is None or len(start.key) + len(start.data) != DSCB_SIZE or len(start.key) != KEY_SIZE:
            return []  # a volume that was formatted and not yet given a VTOC
        volume = parse_dscb(start.key + start.data)
        if volume is None:
            return []
        if not isinstance(volume, VolumeSpace):
            raise DamagedVolume("read VTOC", self.name, f"there is no format-4 DSCB at {where}")
        tracks = volume.extents[0].tracks(self.disk.heads) if volume.extents else range(first, first + 1)
        if not tracks or tracks[0] != first or tracks[-1] >= self.disk.tracks:
            raise DamagedVolume("read VTOC", self.name, f"its own extent is {volume.extents[0]}")
        found: list[Located] = []
        for at, count in self.track_runs(tracks[0], len(tracks)):
            for image in (yield from self.read_tracks(at, count)):
                for one in image.records:
                    raw = one.key + one.data
                    dscb = parse_dscb(raw) if len(raw) == DSCB_SIZE else None
                    if dscb is not None:
                        found.append(Located(image.cylinder, image.head, one.number, dscb))
        return found

    def scan(self) -> Work[Found]:
        """Look for partitions as Linux does; nothing is found on a disk that is not formatted in blocks."""
        layout = self.layout
        if layout is None:
            return Found("")
        cylinders = min(self.disk.cylinders, COMPATIBLE_CYLINDERS)
        search = ibm_partitions.scan(layout, cylinders, self.disk.heads)
        try:
            number = next(search)
            while True:
                blocks = [layout.locate(number)]
                came = yield Request(programs.read_blocks(self.disk, blocks), f"read block {number}", check=False)
                found = came.data.ljust(layout.block_size, FILLER) if came.scsw.ok else None
                number = search.send(found)
        except StopIteration as stop:
            result: Found = stop.value
            return result

    def partitions(self) -> Work[list[Partition]]:
        """The partitions that Linux makes of the disk: none when it cannot read the table."""
        found = yield from self.scan()
        return [] if found.failed else list(found.partitions)

    def messages(self, device: str, disk: str) -> Work[list[str]]:
        """What a Linux prints when it sets the disk online as `device` and calls it `disk`.

        It may print the first line, of the first path that worked, twice.
        """
        told = [f"{device}: A channel path to the device has become operational", f"{device}: {self.disk}"]
        if self.layout is None:
            return [*told, f"{device}: {self.trouble}"]
        return [*told, f"{device}: {self.layout}", *(yield from self.scan()).lines(disk)]
