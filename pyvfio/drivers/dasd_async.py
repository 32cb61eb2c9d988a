"""The DASD driver for asyncio: as `pyvfio.drivers.dasd`, without blocking the event loop.

A cancelled task halts its program (and clears it when halting does not help) before the cancellation goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Self, TypeVar

from pyvfio.ccw import CcwDevice
from pyvfio.channel_program import ProgramResult, Read
from pyvfio.css.ccw import CcwFlag
from pyvfio.css.commands import Command
from pyvfio.drivers.dasd import dma_memory, installed_paths
from pyvfio.drivers.operations import DiskWork, Located, Request, Work
from pyvfio.drivers.retries import Retries, wants_sense, with_sense
from pyvfio.drivers.sense import SENSE_SIZE
from pyvfio.drivers.track import TrackImage
from pyvfio.errors import Misuse, PyvfioError
from pyvfio.iommu import DmaBuffer

__all__ = ["AsyncDasd"]

T = TypeVar("T")


class AsyncDasd:
    """As `pyvfio.drivers.dasd.Dasd`; what is known of the disk is in `work`.  One operation at a time."""

    def __init__(
        self, channel: CcwDevice, *, name: str = "", timeout: float = 30.0, retries: int = 5, patience: float = 10.0
    ) -> None:
        self.channel = channel
        self.work = DiskWork(name or channel.device.name)
        self.timeout, self.retries, self.patience = timeout, retries, patience
        self._memory: DmaBuffer | None = None

    async def online(self) -> None:
        """See `Dasd.online`."""
        if self._memory is None:
            self._memory = dma_memory(self.channel)
        await self.run(self.work.online(installed_paths(self.channel)))

    def close(self) -> None:
        """See `Dasd.close`."""
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.close()

    async def __aenter__(self) -> Self:
        try:
            await self.online()
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

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

    async def _perform(self, request: Request) -> ProgramResult:
        tries = Retries(self.retries, self.patience)
        while True:
            try:
                came = await self._start(request)
            except PyvfioError as error:
                await asyncio.sleep(tries.refused(error))
                continue
            pause = tries.pause(came.irb)
            if pause is None:
                break
            await asyncio.sleep(pause)
        if request.check and not came.scsw.ok:
            raise tries.error(request.words, self.work.name, came.irb)
        return came

    async def _start(self, request: Request) -> ProgramResult:
        if self._memory is None:
            raise Misuse(request.words, self.work.name, cause="the disk is closed or was never set online")
        paths = request.lpm & (self.work.paths or 0xFF)
        came = await self.channel.run_async(
            request.commands, timeout=self.timeout, check=False, memory=self._memory, lpm=paths or request.lpm
        )
        if wants_sense(came.irb):
            ask = [Read(Command.SENSE, SENSE_SIZE, CcwFlag.SLI)]
            sense = (await self.channel.run_async(ask, timeout=self.timeout, check=False)).data
            came = ProgramResult(with_sense(came.irb, sense), came.parts)
        return came

    async def vtoc(self) -> list[Located]:
        """See `Dasd.vtoc`."""
        return await self.run(self.work.vtoc())

    async def blocks(self, first: int = 0, count: int | None = None) -> AsyncIterator[bytes]:
        """See `Dasd.blocks`."""
        total = self.work.formatted().blocks - first if count is None else count
        for piece in self.work.pieces(first, total, by_tracks=True):
            yield await self.run(self.work.read_piece(piece))

    async def read_blocks(self, first: int, count: int = 1) -> bytes:
        """See `Dasd.read_blocks`."""
        return b"".join([part async for part in self.blocks(first, count)])

    async def write_blocks(self, first: int, data: bytes | bytearray | memoryview) -> None:
        """See `Dasd.write_blocks`."""
        size, view = self.work.formatted().block_size, memoryview(data)
        if len(view) % size:
            raise Misuse("write blocks", self.work.name, cause=f"{len(view)} bytes are not whole blocks of {size}")
        for piece in self.work.pieces(first, len(view) // size, by_tracks=False):
            at = (piece.first - first) * size
            await self.run(self.work.write_piece(piece, view[at : at + piece.count * size]))

    async def read_track(self, track: int) -> TrackImage:
        """See `Dasd.read_track`."""
        for at, step in self.work.track_runs(track, 1):
            return (await self.run(self.work.read_tracks(at, step)))[0]
        raise Misuse("read track", str(track), cause="no track was asked for")

    async def write_track(self, image: TrackImage) -> None:
        """See `Dasd.write_track`."""
        await self.run(self.work.write_track(image))
