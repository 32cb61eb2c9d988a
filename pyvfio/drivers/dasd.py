"""A driver for ECKD DASDs over vfio-ccw: the disk of a channel device that was taken from the kernel, in a program.

::

    with pyvfio.open_device(host, "0.0.013f") as device, CcwDevice(device) as channel, Dasd(channel) as disk:
        print(disk.characteristics, disk.layout, disk.label)
        block = disk.read_blocks(24)

It sets the disk online as Linux' driver does (SENSE ID, configuration data by every path, characteristics, layout),
tries again what may pass, waits while another system has the disk, and halts a program that is given up.
Source: ``drivers/s390/block/dasd_eckd.c``; "3990/9390 Storage Control Reference" GA32-0274.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Self, TypeVar

from pyvfio.ccw import CcwDevice
from pyvfio.channel_program import ProgramResult, Read
from pyvfio.css.ccw import CcwFlag
from pyvfio.css.commands import Command
from pyvfio.css.senseid import SenseId
from pyvfio.drivers.characteristics import Characteristics, Configuration
from pyvfio.drivers.label import VolumeLabel
from pyvfio.drivers.layout import DiskLayout, LayoutKind
from pyvfio.drivers.operations import DiskWork, Located, Partition, Request, Work
from pyvfio.drivers.programs import LARGEST_TRACK, MOST_TRACKS
from pyvfio.drivers.retries import Retries, wants_sense, with_sense
from pyvfio.drivers.sense import SENSE_SIZE
from pyvfio.drivers.track import TrackImage
from pyvfio.errors import Misuse, NotAvailable, PyvfioError
from pyvfio.iommu import DmaBuffer

__all__ = ["BLOCK_SIZE", "DRIVER", "Dasd", "Progress", "dma_memory", "installed_paths"]

DRIVER = "dasd-eckd"
BLOCK_SIZE = 4 * 1024
Progress = Callable[[int], None]
"""Called with the number of blocks or tracks that were just done."""

_BELOW = 1 << 31
_PROGRAM_ROOM = 1 << 16
_SENSE = [Read(Command.SENSE, SENSE_SIZE, CcwFlag.SLI)]
T = TypeVar("T")


def dma_memory(channel: CcwDevice) -> DmaBuffer:
    """Memory in which every program of the driver has room."""
    return channel.device.space.buffer(_PROGRAM_ROOM + MOST_TRACKS * LARGEST_TRACK, below=_BELOW)


def installed_paths(channel: CcwDevice) -> int:
    """The mask of paths that can be used; all when the subchannel cannot be asked."""
    try:
        pmcw = channel.schib().pmcw
    except NotAvailable:
        return 0xFF
    return pmcw.pim & pmcw.pam or 0x80


class Dasd:
    """The disk behind `channel`, which stays the caller's to close.  A context manager, which sets it online.

    A program has `timeout` seconds; one that fails for a passing reason is started `retries` times again, one that
    finds the device busy for `patience` seconds.  Every method raises `DasdFailed` with decoded sense, `DeviceBusy`,
    `Timeout` (the program was halted, or cleared), or the class for the errno of a start that the kernel refuses.
    """

    def __init__(
        self, channel: CcwDevice, *, name: str = "", timeout: float = 30.0, retries: int = 5, patience: float = 10.0
    ) -> None:
        self.channel = channel
        self.work = DiskWork(name or channel.device.name)
        self.timeout, self.retries, self.patience = timeout, retries, patience
        self._memory: DmaBuffer | None = None

    # -- the start and the end -----------------------------------------------------------------------------------

    def online(self) -> None:
        """Find out what the disk is.  Raise `Misuse` when it is none, `NotAvailable` when no path works."""
        if self._memory is None:
            self._memory = dma_memory(self.channel)
        self.run(self.work.online(installed_paths(self.channel)))

    def close(self) -> None:
        """Free the memory of the programs; a second call does nothing."""
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.close()

    def __enter__(self) -> Self:
        try:
            self.online()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- running programs ----------------------------------------------------------------------------------------

    def run(self, work: Work[T]) -> T:
        """Do an operation of `DiskWork`, one program after the other."""
        try:
            request = next(work)
            while True:
                request = work.send(self._perform(request))
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            work.close()

    def _perform(self, request: Request) -> ProgramResult:
        tries = Retries(self.retries, self.patience)
        while True:
            try:
                came = self._start(request)
            except PyvfioError as error:
                time.sleep(tries.refused(error))
                continue
            pause = tries.pause(came.irb)
            if pause is None:
                break
            time.sleep(pause)
        if request.check and not came.scsw.ok:
            raise tries.error(request.words, self.work.name, came.irb)
        return came

    def _start(self, request: Request) -> ProgramResult:
        if self._memory is None:
            raise Misuse(request.words, self.work.name, cause="the disk is closed or was never set online")
        paths = request.lpm & (self.work.paths or 0xFF)
        came = self.channel.run(
            request.commands, timeout=self.timeout, check=False, memory=self._memory, lpm=paths or request.lpm
        )
        if wants_sense(came.irb):
            sense = self.channel.run(_SENSE, timeout=self.timeout, check=False).data
            came = ProgramResult(with_sense(came.irb, sense), came.parts)
        return came

    # -- what it is ----------------------------------------------------------------------------------------------

    @property
    def sense_id(self) -> SenseId:
        """Types and models of control unit and device."""
        return self.work.sense_id

    @property
    def characteristics(self) -> Characteristics:
        """The geometry.  Raise `Misuse` before `online`."""
        return self.work.disk

    @property
    def configuration(self) -> Configuration | None:
        """Maker, serial number and address: the identity of the disk."""
        return self.work.configuration

    @property
    def paths(self) -> int:
        """The mask of the paths that lead to this disk and work."""
        return self.work.paths

    @property
    def layout(self) -> DiskLayout | None:
        """The disk layout of Linux, None when it is not formatted so."""
        return self.work.layout

    @property
    def label(self) -> VolumeLabel | None:
        """The volume label, None when there is none."""
        return self.work.label

    def vtoc(self) -> list[Located]:
        """All DSCBs in use with their places.  Raise `MalformedAnswer` when the label points to no VTOC."""
        return self.run(self.work.vtoc())

    def partitions(self) -> list[Partition]:
        """The partitions as Linux would find them.  Raise as `vtoc`."""
        return self.work.partitions(self.vtoc())

    def messages(self, disk: str = "dasda") -> list[str]:
        """What a Linux prints that sets this disk online and calls it `disk`, made of what was read."""
        return self.work.messages(f"{DRIVER} {self.work.name}", disk, self.partitions())

    # -- blocks --------------------------------------------------------------------------------------------------

    def blocks(self, first: int = 0, count: int | None = None) -> Iterator[bytes]:
        """The bytes of `count` blocks (default: to the end), in pieces of many blocks.

        Raise `Misuse` when they are not all on the disk, or it is not formatted in blocks.
        """
        total = self.work.formatted().blocks - first if count is None else count
        for piece in self.work.pieces(first, total, by_tracks=True):
            yield self.run(self.work.read_piece(piece))

    def read_blocks(self, first: int, count: int = 1) -> bytes:
        """The bytes of blocks.  Raise as `blocks`."""
        return b"".join(self.blocks(first, count))

    def write_blocks(self, first: int, data: bytes | bytearray | memoryview, progress: Progress | None = None) -> None:
        """Write whole blocks from `first` on.  Raise as `blocks`, `Misuse` for a part of a block.

        Of a block of the first two tracks of a compatible layout only what its record holds is written.
        """
        size, view = self.work.formatted().block_size, memoryview(data)
        if len(view) % size:
            raise Misuse("write blocks", self.work.name, cause=f"{len(view)} bytes are not whole blocks of {size}")
        for piece in self.work.pieces(first, len(view) // size, by_tracks=False):
            at = (piece.first - first) * size
            self.run(self.work.write_piece(piece, view[at : at + piece.count * size]))
            if progress is not None:
                progress(piece.count)

    # -- tracks --------------------------------------------------------------------------------------------------

    def tracks(self, first: int = 0, count: int | None = None) -> Iterator[TrackImage]:
        """Tracks with all their records (default: to the end), formatted or not.  Raise `Misuse`, `NotAvailable`."""
        total = self.work.disk.tracks - first if count is None else count
        for at, step in self.work.track_runs(first, total):
            yield from self.run(self.work.read_tracks(at, step))

    def read_track(self, track: int) -> TrackImage:
        """One track.  Raise as `tracks`."""
        return next(self.tracks(track, 1))

    def write_track(self, image: TrackImage) -> None:
        """Write all records of a track; those that were there are gone.  Raise `Misuse` for a place not on the disk."""
        self.run(self.work.write_track(image))

    def format(
        self,
        first: int = 0,
        count: int | None = None,
        *,
        kind: LayoutKind | str = LayoutKind.CDL,
        block_size: int = BLOCK_SIZE,
        progress: Progress | None = None,
    ) -> None:
        """Format tracks (default: to the end), as dasdfmt does; their data are gone, and so are label and VTOC there.

        Raise `Misuse` for tracks not on the disk or another block size than 512, 1024, 2048 and 4 KiB.
        """
        layout = self.work.layout_for(kind, block_size)
        total = self.work.disk.tracks - first if count is None else count
        for at, step in self.work.format_runs(layout, first, total):
            self.run(self.work.format_tracks(layout, at, step))
            if progress is not None:
                progress(step)
        self.run(self.work.analyse())
