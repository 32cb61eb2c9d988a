"""A driver for ECKD DASDs over vfio-ccw: the disk of a channel device that was taken from the kernel, in a program.

::

    with pyvfio.open_device(host, "0.0.013f") as device, CcwDevice(device) as channel, Dasd(channel) as disk:
        print(disk.characteristics, disk.layout, disk.label)
        block = disk.read_blocks(24)

It sets the disk online as Linux' driver does (SENSE ID, configuration data by every path, path group, features,
characteristics, layout), tries again what may pass, waits while another system has the disk, and halts a program that
is given up.  Source: ``drivers/s390/block/dasd_eckd.c``; "3990/9390 Storage Control Reference" GA32-0274.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Self, TypeVar

from pyvfio.channel_program import ProgramResult
from pyvfio.drivers.ckd_file import CkdFile
from pyvfio.drivers.facts import DRIVER, SENSE, SENSE_GROUP, DasdFacts
from pyvfio.drivers.format_work import FormatMode, Misformatted
from pyvfio.drivers.layout import DiskLayout, LayoutKind
from pyvfio.drivers.operations import Located, Partition, Request, Stream, Work
from pyvfio.drivers.retries import wants_sense, with_sense
from pyvfio.drivers.track import TrackImage
from pyvfio.drivers.work import Item, Progress, untold
from pyvfio.errors import PyvfioError, Timeout

__all__ = ["BLOCK_SIZE", "DRIVER", "Dasd", "Progress"]

BLOCK_SIZE = 4 * 1024
T = TypeVar("T")


class Dasd(DasdFacts):
    """The disk behind a channel device.  A context manager, which sets it online; see `DasdFacts` for the arguments.

    Every method raises `DasdFailed` with decoded sense, `DeviceBusy`, `Timeout` (the program was halted, or cleared),
    or the class for the errno of a start that the kernel refuses.
    """

    # -- the start and the end -----------------------------------------------------------------------------------

    def online(self) -> None:
        """Find out what the disk is.  Raise `Misuse` when it is none, `NotAvailable` when no path works."""
        self._prepare()
        self.run(self.work.online(self._installed(), group=self.path_group))

    def close(self) -> None:
        """Dissolve the path group and free the memory of the programs; a second call does nothing."""
        try:
            if self.channel.is_prepared:
                with contextlib.suppress(PyvfioError):  # the device may be gone
                    self.run(self.work.offline())
        finally:
            self.channel.finish()

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

    def stream(self, stream: Stream[T]) -> Iterator[T]:
        """Do an operation of `DiskWork` that has many results, as they are taken."""
        answer: ProgramResult | None = None
        try:
            while True:
                came = stream.send(answer)
                if isinstance(came, Item):
                    answer = None
                    yield came.value
                else:
                    answer = self._perform(came)
        except StopIteration:
            return
        finally:
            stream.close()

    def _perform(self, request: Request) -> ProgramResult:
        tries = self._tries()
        while True:
            try:
                came = self._start(request, self._lpm(request, tries))
            except Timeout as error:
                held = self._held(request, self.channel.run(SENSE_GROUP, self.timeout, request.lpm))
                raise held or error from error.__cause__
            except PyvfioError as error:
                time.sleep(tries.refused(error))
                continue
            pause = tries.pause(came.irb)
            if pause is None:
                return self._checked(request, came, tries)
            time.sleep(pause)

    def _start(self, request: Request, lpm: int) -> ProgramResult:
        came = self.channel.run(request.commands, self.timeout, lpm)
        if wants_sense(came.irb):
            sense = self.channel.run(SENSE, self.timeout, lpm).data
            came = ProgramResult(with_sense(came.irb, sense), came.parts)
        return came

    # -- reservations --------------------------------------------------------------------------------------------

    def reserve(self) -> None:
        """Keep other systems out until `release`.  Raise `DeviceBusy` while another has it."""
        self._prepare()
        self.run(self.work.reserve(self._installed()))

    def release(self) -> None:
        """Let other systems in again."""
        self._prepare()
        self.run(self.work.release(self._installed()))

    def steal(self) -> None:
        """Break another system's reservation and have it; that system's programs then fail.  Works before `online`."""
        self._prepare()
        self.run(self.work.steal(self._installed()))

    @contextlib.contextmanager
    def reserved(self) -> Iterator[Self]:
        """Keep other systems out meanwhile."""
        self.reserve()
        try:
            yield self
        finally:
            self.release()

    # -- the volume ----------------------------------------------------------------------------------------------

    def vtoc(self) -> list[Located]:
        """All DSCBs in use with their places.  Raise `MalformedAnswer` when the label points to no VTOC."""
        return self.run(self.work.vtoc())

    def partitions(self) -> list[Partition]:
        """The partitions as Linux finds them: none when it cannot read the table."""
        return self.run(self.work.partitions())

    def messages(self, disk: str = "dasda") -> list[str]:
        """What a Linux prints that sets this disk online and calls it `disk`, made of what was read."""
        return self.run(self.work.messages(f"{DRIVER} {self.work.name}", disk))

    def write_partitions(self, parts: Sequence[tuple[int, int]]) -> None:
        """Write a new table of contents: each part, from first to last track, is a partition.  Raise `Misuse`."""
        self.run(self.work.write_partitions(parts))

    def relabel(self, serial: str) -> None:
        """Give the volume another serial.  Raise `Misuse` when it has no label."""
        self.run(self.work.relabel(serial))

    # -- blocks --------------------------------------------------------------------------------------------------

    def blocks(self, first: int = 0, count: int | None = None) -> Iterator[bytes]:
        """The bytes of `count` blocks (default: to the end), in pieces of many blocks.

        Raise `Misuse` when they are not all on the disk, or it is not formatted in blocks.
        """
        return self.stream(self.work.blocks(first, count))

    def read_blocks(self, first: int, count: int = 1) -> bytes:
        """The bytes of blocks.  Raise as `blocks`."""
        return self.run(self.work.read_blocks(first, count))

    def write_blocks(
        self,
        first: int,
        data: bytes | bytearray | memoryview,
        progress: Progress | None = None,
        *,
        verify: bool = False,
    ) -> None:
        """Write whole blocks from `first` on, and read them again with `verify`.  Raise as `blocks`, `VerifyFailed`.

        Of a block of the first two tracks of a compatible layout only what its record holds is written.
        """
        self.run(self.work.write_blocks(first, data, progress or untold, verify=verify))

    # -- tracks --------------------------------------------------------------------------------------------------

    def tracks(self, first: int = 0, count: int | None = None) -> Iterator[TrackImage]:
        """Tracks with all their records (default: to the end), formatted or not.  Raise `Misuse`, `NotAvailable`."""
        return self.stream(self.work.tracks(first, count))

    def read_track(self, track: int) -> TrackImage:
        """One track.  Raise as `tracks`."""
        return self.run(self.work.read_track(track))

    def write_track(self, image: TrackImage) -> None:
        """Write all records of a track; those that were there are gone.  Raise `Misuse` for a place not on the disk."""
        self.run(self.work.write_track(image))

    def write_tracks(self, images: Iterable[TrackImage], *, verify: bool = False) -> None:
        """Write tracks, consecutive ones in one program.  Raise as `write_track`, `VerifyFailed`."""
        self.run(self.work.write_tracks(images, verify=verify))

    def format(
        self,
        first: int = 0,
        count: int | None = None,
        *,
        kind: LayoutKind | str = LayoutKind.CDL,
        block_size: int = BLOCK_SIZE,
        progress: Progress | None = None,
    ) -> None:
        """Format tracks (default: to the end); their data are gone, and so are label and VTOC there.

        Raise `Misuse` for tracks not on the disk or another block size than 512, 1024, 2048 and 4 KiB.
        """
        self.run(self.work.format(first, count, kind, block_size, progress or untold))

    def format_volume(
        self,
        serial: str | None,
        *,
        kind: LayoutKind | str = LayoutKind.CDL,
        block_size: int = BLOCK_SIZE,
        mode: FormatMode | str = FormatMode.FULL,
        partition: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Make a volume as dasdfmt does: tracks, label `serial` (None: none), table; `partition`: one over the rest.

        Raise `Misuse` for a serial, a size or a mode that cannot be.
        """
        told = progress or untold
        self.run(self.work.format_volume(serial, kind, block_size, mode, told, partition=partition))

    def check(
        self,
        first: int = 0,
        count: int | None = None,
        *,
        layout: DiskLayout | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Misformatted]:
        """The tracks that have not the records of the layout (default: the disk's own).  Raise `Misuse`."""
        for found in self.stream(self.work.check(first, count, layout)):
            if isinstance(found, Misformatted):
                yield found
            elif progress is not None:
                progress(found)

    # -- copies --------------------------------------------------------------------------------------------------

    def copy_to(
        self,
        image: CkdFile,
        first: int = 0,
        count: int | None = None,
        *,
        verify: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Copy tracks into an image file.  Raise `Misuse` for another geometry, `VerifyFailed`."""
        self.run(self.work.copy_to(image, first, count, progress or untold, verify=verify))

    def copy_from(
        self,
        image: CkdFile,
        first: int = 0,
        count: int | None = None,
        *,
        verify: bool = False,
        changed: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Copy tracks of an image file to the disk; `changed`: only those that differ.  Raise as `copy_to`."""
        self.run(self.work.copy_from(image, first, count, progress or untold, verify=verify, changed=changed))
