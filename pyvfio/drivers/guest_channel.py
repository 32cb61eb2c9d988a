"""A channel device of a guest, for the driver: by the instructions of its channel subsystem.

The driver then works where a guest's operating system would, on `pyvfio.passthrough.GuestChannelSubsystem` or on any
other `pyvfio.css.ChannelSubsystem`::

    css.attach(device, "0.0.1234")
    with Dasd(GuestChannel(css, schid, memory, 0x10000, wait=css.wait)) as disk: ...

Source: z/Architecture Principles of Operation, chapter "I/O Instructions".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from pyvfio.address import SubchannelId
from pyvfio.channel_program import ChannelCommand, LaidProgram, ProgramResult, Read
from pyvfio.channel_status import merge
from pyvfio.css.instructions import ChannelSubsystem, Storage
from pyvfio.css.irb import Irb
from pyvfio.css.orb import Orb
from pyvfio.css.schib import Schib
from pyvfio.css.scsw import Actl
from pyvfio.errors import DeviceBusy, Misuse, NotAvailable, Timeout

if TYPE_CHECKING:
    from pyvfio.iommu import AddressSpace, DmaBuffer

__all__ = ["GuestChannel"]

_LIMIT = 1 << 31
_SLICE, _TICK = 0.05, 0.001
_GRANULE = 4 * 1024
_MOST_BYTES = 0xFFFF
_PATIENCE = 1.0
_RUNNING = Actl.SUBCHANNEL_ACTIVE | Actl.DEVICE_ACTIVE


@dataclass(frozen=True, slots=True)
class _Space:
    """What `LaidProgram` asks of an address space when the memory is given."""

    granule: int


class _Memory:
    """A part of the guest's storage, kept beside it: written before a program runs, read after it."""

    def __init__(self, storage: Storage, iova: int, length: int) -> None:
        self.storage, self.iova, self.length = storage, iova, length
        self.view = memoryview(bytearray(length))

    def store(self, length: int) -> None:
        """Put the first bytes into the storage."""
        self.storage.write(self.iova, bytes(self.view[:length]))

    def fetch(self, start: int, length: int) -> None:
        """Get bytes from the storage."""
        self.view[start : start + length] = self.storage.read(self.iova + start, length)


class GuestChannel:
    """The subchannel `schid` of `css`, with the guest's `storage` from the address `begin` (below 2 GiB) for programs.

    `wait` is called with seconds while an interruption is awaited, and may return early (default: it sleeps).  Raise
    `NotAvailable` when there is no such subchannel, and `Misuse` when its storage is too high.
    """

    def __init__(
        self,
        css: ChannelSubsystem,
        schid: SubchannelId,
        storage: Storage,
        begin: int,
        *,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self.css, self.schid, self.storage, self.begin = css, schid, storage, begin
        self._wait = wait
        self._memory: _Memory | None = None
        schib = self.schib()
        self._name = str(schid)
        if not schib.pmcw.ena:
            condition = css.msch(schid, replace(schib, pmcw=replace(schib.pmcw, ena=True)))
            if condition:
                raise NotAvailable("enable subchannel", str(schid), cause=f"its condition code is {condition}")

    @property
    def name(self) -> str:
        """See `Channel.name`."""
        return self._name

    def prepare(self, size: int) -> None:
        """See `Channel.prepare`."""
        if self.begin + size > _LIMIT:
            raise Misuse("place channel programs", f"{self.begin:#x}", cause="a program lies below 2 GiB")
        if self._memory is None:
            self._memory = _Memory(self.storage, self.begin, size)

    def finish(self) -> None:
        """See `Channel.finish`."""
        self._memory = None

    @property
    def is_prepared(self) -> bool:
        """See `Channel.is_prepared`."""
        return self._memory is not None

    def schib(self) -> Schib:
        """See `Channel.schib`."""
        condition, schib = self.css.stsch(self.schid)
        if condition or schib is None:
            raise NotAvailable("store subchannel", str(self.schid), cause="there is no such subchannel")
        return schib

    # -- programs ------------------------------------------------------------------------------------------------

    def run(self, commands: Sequence[ChannelCommand], timeout: float, lpm: int) -> ProgramResult:
        """See `Channel.run`."""
        with self._started(commands, lpm) as program:
            try:
                while not program.ended:
                    self._wait(program.pause(timeout))
                    self._test(program)
            except BaseException:
                self._stop()
                raise
            return program.result()

    async def run_async(self, commands: Sequence[ChannelCommand], timeout: float, lpm: int) -> ProgramResult:
        """See `Channel.run_async`."""
        with self._started(commands, lpm) as program:
            try:
                while not program.ended:
                    program.pause(timeout)
                    self._wait(0.0)
                    self._test(program)
                    if not program.ended:
                        await asyncio.sleep(_TICK)
            except BaseException:
                self._stop()
                raise
            return program.result()

    @contextmanager
    def _started(self, commands: Sequence[ChannelCommand], lpm: int) -> Iterator[_Program]:
        if self._memory is None:
            raise Misuse("run channel program", self._name, cause="there is no memory for it")
        space, memory = cast("AddressSpace", _Space(_GRANULE)), cast("DmaBuffer", self._memory)
        with LaidProgram(space, self._name, commands, memory) as laid:
            program = _Program(self._name, self._memory, laid)
            self._memory.store(program.length)
            self._start(replace(laid.orb, lpm=lpm))
            self._test(program)
            yield program

    def _start(self, orb: Orb) -> None:
        condition = self.css.ssch(self.schid, orb)
        if condition == 1:  # a status that is no answer to a start of ours: it is taken and told nobody
            self.css.tsch(self.schid)
            condition = self.css.ssch(self.schid, orb)
        if condition == 3:
            raise NotAvailable("start channel program", self._name, cause="the subchannel is not operational")
        if condition:
            raise DeviceBusy("start channel program", self._name, cause="the subchannel is busy with another function")

    def _test(self, program: _Program) -> None:
        condition, irb = self.css.tsch(self.schid)
        if condition == 3:
            raise NotAvailable("test subchannel", self._name, cause="the subchannel is not operational any more")
        if condition == 0:
            program.irb, program.ended = merge(program.irb, irb)

    def _stop(self) -> None:
        """Halt a program that is given up, and clear the subchannel if it is active still."""
        for stop in (self.css.hsch, self.css.csch):
            if stop(self.schid) == 3:
                return
            end = time.monotonic() + _PATIENCE
            while time.monotonic() < end:
                self._wait(_TICK)
                condition, irb = self.css.tsch(self.schid)
                if condition == 3 or (condition == 0 and not irb.scsw.actl & _RUNNING):
                    return


@dataclass(slots=True)
class _Program:
    """A program that was started: what came of it so far."""

    name: str
    memory: _Memory
    laid: LaidProgram
    irb: Irb | None = None
    ended: bool = False
    began: float = field(default_factory=time.monotonic)

    @property
    def length(self) -> int:
        """Its bytes with its data areas."""
        last = self.laid.commands[-1]
        return min(self.memory.length, self.laid.offsets[-1] + (last.count if isinstance(last, Read) else _MOST_BYTES))

    def pause(self, timeout: float) -> float:
        """How long to wait next.  Raise `Timeout` when it was long enough."""
        left = self.began + timeout - time.monotonic()
        if left <= 0:
            raise Timeout(
                "run channel program",
                self.name,
                cause=f"it did not end within {timeout:g} s and was halted",
                next_step="give a longer timeout if the device may take so long",
            )
        return min(_SLICE, left)

    def result(self) -> ProgramResult:
        """The status, and what the reads brought."""
        for command, offset in zip(self.laid.commands, self.laid.offsets, strict=True):
            if isinstance(command, Read):
                self.memory.fetch(offset, command.count)
        return self.laid.result(self.irb if self.irb is not None else Irb())
