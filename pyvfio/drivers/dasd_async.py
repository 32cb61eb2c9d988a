"""The DASD driver for asyncio: as `pyvfio.drivers.dasd`, without blocking the event loop while the disk works.

A cancelled task halts its program (and clears it when halting does not help) before the cancellation goes on.  Image
files of copies are read and written in between, as any file is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from typing import Self, TypeVar

from pyvfio.channel_program import ProgramResult
from pyvfio.drivers.ckd_file import CkdFile
from pyvfio.drivers.dasd import BLOCK_SIZE
from pyvfio.drivers.facts import DRIVER, SENSE, SENSE_GROUP, DasdFacts
from pyvfio.drivers.format_work import FormatMode, Misformatted
from pyvfio.drivers.layout import DiskLayout, LayoutKind
from pyvfio.drivers.operations import Located, Partition, Request, Stream, Work
from pyvfio.drivers.retries import wants_sense, with_sense
from pyvfio.drivers.track import TrackImage
from pyvfio.drivers.work import Item, Progress, untold
from pyvfio.errors import PyvfioError, Timeout

__all__ = ["AsyncDasd"]

T = TypeVar("T")


class AsyncDasd(DasdFacts):
    """As `pyvfio.drivers.dasd.Dasd`: the same methods and arguments, one operation at a time."""

    # -- the start and the end -----------------------------------------------------------------------------------

    async def online(self) -> None:
        """See `Dasd.online`."""
        self._prepare()
        await self.run(self.work.online(self._installed(), group=self.path_group))

    async def close(self) -> None:
        """See `Dasd.close`."""
        try:
            if self.channel.is_prepared:
                with contextlib.suppress(PyvfioError):  # the device may be gone
                    await self.run(self.work.offline())
        finally:
            self.channel.finish()

    async def __aenter__(self) -> Self:
        try:
            await self.online()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    # -- running programs ----------------------------------------------------------------------------------------

    async def run(self, work: Work[T]) -> T:
        """Do an operation of `DiskWork`, one program after the other."""
        try:
            request = next(work)
            while True:
                request = work.send(await self._perform(request))
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            work.close()

    async def stream(self, stream: Stream[T]) -> AsyncGenerator[T, None]:
        """Do an operation of `DiskWork` that has many results, as they are taken."""
        answer: ProgramResult | None = None
        try:
            while True:
                came = stream.send(answer)
                if isinstance(came, Item):
                    answer = None
                    yield came.value
                else:
                    answer = await self._perform(came)
        except StopIteration:
            return
        finally:
            stream.close()

    async def _perform(self, request: Request) -> ProgramResult:
        tries = self._tries()
        while True:
            try:
                came = await self._start(request, self._lpm(request, tries))
            except Timeout as error:
                held = self._held(request, await self.channel.run_async(SENSE_GROUP, self.timeout, request.lpm))
                raise held or error from error.__cause__
            except PyvfioError as error:
                await asyncio.sleep(tries.refused(error))
                continue
            pause = tries.pause(came.irb)
            if pause is None:
                return self._checked(request, came, tries)
            await asyncio.sleep(pause)

    async def _start(self, request: Request, lpm: int) -> ProgramResult:
        came = await self.channel.run_async(request.commands, self.timeout, lpm)
        if wants_sense(came.irb):
            sense = (await self.channel.run_async(SENSE, self.timeout, lpm)).data
            came = ProgramResult(with_sense(came.irb, sense), came.parts)
        return came

    # -- reservations --------------------------------------------------------------------------------------------

    async def reserve(self) -> None:
        """See `Dasd.reserve`."""
        self._prepare()
        await self.run(self.work.reserve(self._installed()))

    async def release(self) -> None:
        """See `Dasd.release`."""
        self._prepare()
        await self.run(self.work.release(self._installed()))

    async def steal(self) -> None:
        """See `Dasd.steal`."""
        self._prepare()
        await self.run(self.work.steal(self._installed()))

    @contextlib.asynccontextmanager
    async def reserved(self) -> AsyncIterator[Self]:
        """See `Dasd.reserved`."""
        await self.reserve()
        try:
            yield self
        finally:
            await self.release()

    # -- the volume ----------------------------------------------------------------------------------------------

    async def vtoc(self) -> list[Located]:
        """See `Dasd.vtoc`."""
        return await self.run(self.work.vtoc())

    async def partitions(self) -> list[Partition]:
        """See `Dasd.partitions`."""
        return await self.run(self.work.partitions())

    async def messages(self, disk: str = "dasda") -> list[str]:
        """See `Dasd.messages`."""
        return await self.run(self.work.messages(f"{DRIVER} {self.work.name}", disk))

    async def write_partitions(self, parts: Sequence[tuple[int, int]]) -> None:
        """See `Dasd.write_partitions`."""
        await self.run(self.work.write_partitions(parts))

    async def relabel(self, serial: str) -> None:
        """See `Dasd.relabel`."""
        await self.run(self.work.relabel(serial))

    # -- blocks --------------------------------------------------------------------------------------------------

    def blocks(self, first: int = 0, count: int | None = None) -> AsyncIterator[bytes]:
        """See `Dasd.blocks`."""
        return self.stream(self.work.blocks(first, count))

    async def read_blocks(self, first: int, count: int = 1) -> bytes:
        """See `Dasd.read_blocks`."""
        return await self.run(self.work.read_blocks(first, count))

    async def write_blocks(
        self,
        first: int,
        data: bytes | bytearray | memoryview,
        progress: Progress | None = None,
        *,
        verify: bool = False,
    ) -> None:
        """See `Dasd.write_blocks`."""
        await self.run(self.work.write_blocks(first, data, progress or untold, verify=verify))

    # -- tracks --------------------------------------------------------------------------------------------------

    def tracks(self, first: int = 0, count: int | None = None) -> AsyncIterator[TrackImage]:
        """See `Dasd.tracks`."""
        return self.stream(self.work.tracks(first, count))

    async def read_track(self, track: int) -> TrackImage:
        """See `Dasd.read_track`."""
        return await self.run(self.work.read_track(track))

    async def write_track(self, image: TrackImage) -> None:
        """See `Dasd.write_track`."""
        await self.run(self.work.write_track(image))

    async def write_tracks(self, images: Iterable[TrackImage], *, verify: bool = False) -> None:
        """See `Dasd.write_tracks`."""
        await self.run(self.work.write_tracks(images, verify=verify))

    async def format(
        self,
        first: int = 0,
        count: int | None = None,
        *,
        kind: LayoutKind | str = LayoutKind.CDL,
        block_size: int = BLOCK_SIZE,
        progress: Progress | None = None,
    ) -> None:
        """See `Dasd.format`."""
        await self.run(self.work.format(first, count, kind, block_size, progress or untold))

    async def format_volume(
        self,
        serial: str | None,
        *,
        kind: LayoutKind | str = LayoutKind.CDL,
        block_size: int = BLOCK_SIZE,
        mode: FormatMode | str = FormatMode.FULL,
        partition: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """See `Dasd.format_volume`."""
        told = progress or untold
        await self.run(self.work.format_volume(serial, kind, block_size, mode, told, partition=partition))

    async def check(
        self,
        first: int = 0,
        count: int | None = None,
        *,
        layout: DiskLayout | None = None,
        progress: Progress | None = None,
    ) -> AsyncIterator[Misformatted]:
        """See `Dasd.check`."""
        async for found in self.stream(self.work.check(first, count, layout)):
            if isinstance(found, Misformatted):
                yield found
            elif progress is not None:
                progress(found)

    # -- copies --------------------------------------------------------------------------------------------------

    async def copy_to(
        self,
        image: CkdFile,
        first: int = 0,
        count: int | None = None,
        *,
        verify: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """See `Dasd.copy_to`."""
        await self.run(self.work.copy_to(image, first, count, progress or untold, verify=verify))

    async def copy_from(
        self,
        image: CkdFile,
        first: int = 0,
        count: int | None = None,
        *,
        verify: bool = False,
        changed: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """See `Dasd.copy_from`."""
        await self.run(self.work.copy_from(image, first, count, progress or untold, verify=verify, changed=changed))
