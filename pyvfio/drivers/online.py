"""Setting a DASD online and offline: what it is, its paths, what its storage control can, how it is formatted.

Source of the sequence: ``drivers/s390/block/dasd_eckd.c`` (dasd_eckd_check_characteristics, dasd_eckd_end_analysis);
``drivers/s390/cio/device_pgid.c`` (the path group comes before).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pyvfio.channel_program import Read
from pyvfio.css.ccw import CcwFlag
from pyvfio.css.commands import Command
from pyvfio.css.senseid import SenseId
from pyvfio.drivers import path_group, programs
from pyvfio.drivers.characteristics import Characteristics, Configuration
from pyvfio.drivers.disk_state import DiskState
from pyvfio.drivers.features import Features
from pyvfio.drivers.label import VolumeLabel
from pyvfio.drivers.layout import BLOCK_SIZES, DiskLayout
from pyvfio.drivers.path_group import PathGroup, own_group
from pyvfio.drivers.sense import Sense
from pyvfio.drivers.track import COUNT_SIZE, Count
from pyvfio.drivers.work import Request, Work
from pyvfio.errors import MalformedAnswer, Misuse, NotAvailable

__all__ = ["CONTROL_UNITS", "OnlineWork"]

CONTROL_UNITS: Final = (0x3990, 0x2105, 0x2107, 0x1750)
_DISKS: Final = (0x3390, 0x3380)
_SENSE_ID_SIZE: Final = 256
_NOT_FORMATTED: Final = "The DASD is not formatted"
_NOT_SUPPORTED: Final = "The disk layout of the DASD is not supported"
_NOT_DETECTED: Final = "Detecting the DASD disk layout failed because of an I/O error"


def _each(paths: int) -> Iterator[int]:
    return (path for path in (0x80 >> number for number in range(8)) if paths & path)


class OnlineWork(DiskState):
    """The start and the end, and reservations."""

    def online(self, paths: int, *, group: bool = True) -> Work[None]:
        """Find out what it is, by way of each of `paths` (a mask, 80 is the first), which become one path group.

        Raise `NotAvailable` when none of them works, `Misuse` when it is no DASD.
        """
        self._disk = None
        came = yield Request([Read(Command.SENSE_ID, _SENSE_ID_SIZE, CcwFlag.SLI)], "ask what it is")
        self.sense_id = SenseId.from_bytes(came.data)
        if self.sense_id.cu_type not in CONTROL_UNITS or self.sense_id.dev_type not in _DISKS:
            raise Misuse(
                "drive a DASD",
                self.name,
                cause=f"it is a {self.sense_id}, not an ECKD DASD",
                next_step="pyvfio lsdasd lists DASDs",
            )
        yield from self._verify_paths(paths)
        if group:
            yield from self._join_paths()
        yield from self._read_features()
        came = yield Request(programs.characteristics(), "read its characteristics")
        self._disk = Characteristics.from_bytes(came.data)
        yield from self.analyse()

    def offline(self) -> Work[None]:
        """Dissolve the path group, if `online` made one; what fails is left, because the device may be gone."""
        if self.grouped:
            self.grouped = False
            yield Request(programs.set_path_group(path_group.LEAVE, bytes(11)), "leave its path group", check=False)

    def _verify_paths(self, paths: int) -> Work[None]:
        """Read the configuration data on each path: those that lead to another disk, or fail, are not used."""
        self.paths, self.configuration = 0, None
        for path in _each(paths):
            words = f"read configuration data on path {path:02x}"
            came = yield Request(programs.configuration(), words, False, path, True)
            if not came.scsw.ok:
                continue
            try:
                found = Configuration.from_bytes(came.data)
            except MalformedAnswer:
                continue  # a path of which nobody knows where it leads
            if self.configuration is None:
                self.configuration = found
            if found == self.configuration:
                self.paths |= path
        if not self.paths:
            raise NotAvailable(
                "set DASD online",
                self.name,
                cause=f"none of its paths ({paths:02x}) works",
                next_step="pyvfio lscss shows its channel paths (PAM, POM, CHPIDs)",
            )

    def _join_paths(self) -> Work[None]:
        """Make the paths one group under the id that they have already, or a new one; without it goes on, too."""
        ids: set[bytes] = set()
        for path in _each(self.paths):
            came = yield Request(programs.sense_path_group(), f"sense path group on {path:02x}", False, path, True)
            if not came.scsw.ok or len(came.data) != path_group.GROUP_SIZE:
                return
            found = PathGroup.from_bytes(came.data)
            if any(found.group):
                ids.add(found.group)
        if len(ids) > 1:
            return  # its paths belong to different groups: not ours to join
        group = ids.pop() if ids else own_group(self.name)
        for path in _each(self.paths):
            order = programs.set_path_group(path_group.ESTABLISH | path_group.MULTIPATH, group)
            came = yield Request(order, f"set path group on {path:02x}", False, path, True)
            if not came.scsw.ok:
                return
        self.grouped = True

    def _read_features(self) -> Work[None]:
        came = yield Request(programs.features(), "read its features", check=False)
        self.features = Features(came.data if came.scsw.ok else b"")

    def analyse(self) -> Work[None]:
        """Look at the first records anew: which layout, which label.  No record found means: not formatted."""
        came = yield Request(programs.analysis(self.disk), "look for a disk layout", check=False)
        self.layout, self.trouble = None, ""
        if came.scsw.ok:
            counts = [Count.from_bytes(part) for part in came.parts if len(part) == COUNT_SIZE]
            capacity = {size: self.disk.blocks_per_track(size) for size in BLOCK_SIZES}
            self.layout = DiskLayout.from_counts(counts, capacity, self.disk.tracks)
            self.trouble = "" if self.layout is not None else _NOT_SUPPORTED
        else:
            sense = Sense(came.irb.sense)  # behind tracks without records the search leaves the extent
            self.trouble = _NOT_FORMATTED if sense.no_record_found or sense.file_protected else _NOT_DETECTED
        came = yield Request(programs.read_label(self.disk), "read its label", check=False)
        self.label = VolumeLabel.from_block(came.data) if came.scsw.ok else None

    # -- reservations --------------------------------------------------------------------------------------------

    def reserve(self, paths: int) -> Work[None]:
        """Keep other systems out (RESERVE) until `release`.  Raise `DeviceBusy` while another has it.

        It holds for the path group; without one for the first of `paths` (a mask), which `release` has to take, too.
        """
        yield Request(programs.reserve(), "reserve DASD", lpm=self._holding(paths), firm=True)

    def release(self, paths: int) -> Work[None]:
        """Let other systems in again (RELEASE)."""
        yield Request(programs.release(), "release DASD", lpm=self._holding(paths), firm=True)

    def steal(self, paths: int) -> Work[None]:
        """Break another system's reservation and have it (UNCONDITIONAL RESERVE); that system's programs then fail."""
        yield Request(programs.steal(), "take over the reservation of DASD", lpm=self._holding(paths), firm=True)

    def _holding(self, paths: int) -> int:
        return self.paths if self.grouped else next(_each(self.paths or paths))
