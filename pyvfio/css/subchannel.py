"""A channel device that is open through vfio-ccw: its subchannel, as a program uses it.

::

    with Subchannel.open(host, "0.0.1001") as subchannel:
        print(subchannel.sense_id(), subchannel.run([Read(0x02, 80, CcwFlag.SLI)]).data)

=====================  =======================================================================================
what                   blocking, and with ``_async`` for asyncio
=====================  =======================================================================================
channel programs       `run` (commands), `start` (an ORB or a `Program`), `sense_id`, `sense`, `read`, `write`
stopping               `halt`, `clear`, `stop` (halt; clear when that does not help; then reset)
unsolicited status     `attention`: the next one that is kept (attention, device end after not ready)
channel reports        `report`: the next CRW about a path; ``async for crw in subchannel.reports()``
the host               `wanted`: it asks for the device back
never waits            `schib`, `crw`, `check`, `take_attention`, `is_wanted`, `buffer`, `storage`
=====================  =======================================================================================

Any number of threads and tasks may use it.  Programs wait for their turn, as a subchannel does one start at a time;
halt and clear do not.  A program that is given up (timeout, Ctrl-C, a cancelled task) is halted, then cleared, then the
device is reset, until it has stopped: its memory is the caller's again then.  What an interrupt brings is never
dropped: an end goes to who started, unsolicited statuses are kept (the last `KEPT`), reports stay in the kernel.

vfio-ccw translates a program as a whole before it starts it: at most 256 CCWs, no changes while it runs, and the 2 KiB
behind its first CCW must be mapped.  Addresses in CCWs have 31 bits.  Source: ``Documentation/arch/s390/vfio-ccw.rst``,
``drivers/s390/cio/vfio_ccw_cp.c``.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from pyvfio.abi import vfio_ccw as abi
from pyvfio.channel_events import Steps, Wait
from pyvfio.channel_functions import ChannelFunctions
from pyvfio.channel_program import ChannelCommand, LaidProgram, ProgramResult, Read, Write
from pyvfio.channel_storage import MappedStorage
from pyvfio.css.ccw import CcwFlag
from pyvfio.css.checker import check
from pyvfio.css.commands import Command
from pyvfio.css.crw import Crw
from pyvfio.css.irb import Irb
from pyvfio.css.orb import Orb
from pyvfio.css.program import Program
from pyvfio.css.rules import Violation
from pyvfio.css.schib import Schib
from pyvfio.css.senseid import SenseId
from pyvfio.errors import Misuse, NotAvailable, Timeout

if TYPE_CHECKING:
    from pyvfio.address import Address
    from pyvfio.css.trace import StepListener
    from pyvfio.host import Host
    from pyvfio.iommu import DmaBuffer
    from pyvfio.sysfs_device import SysfsDevice
    from pyvfio.vfio import Device

__all__ = ["Subchannel"]

_BELOW: Final = 1 << 31
_SECONDS: Final = 10.0
_SENSE_ID: Final = (Read(Command.SENSE_ID, 256, CcwFlag.SLI),)
_SENSE: Final = (Read(Command.SENSE, 32, CcwFlag.SLI),)
_READ, _WRITE = 0x02, 0x01


class Subchannel(ChannelFunctions):
    """The subchannel of an open vfio-ccw `device`, which stays the caller's to close (see `open` for the other way).

    `name` is what errors call it, by default the device number (``0.0.1001``).  `trace` is told the steps Q1 to Q7.
    With `scratch` bytes (0: none) programs that fit share memory which is mapped from the first of them until `close`,
    and not anew for each.  A context manager, in ``async with`` too: closing stops what is under way.

    Raise `Misuse` when the device is of another kind or somebody else has its I/O interrupt.
    """

    def __init__(
        self, device: Device, *, name: str = "", trace: StepListener | None = None, scratch: int = 1 << 14
    ) -> None:
        super().__init__(device, name, trace)
        self._scratch_size = scratch
        self._scratch: DmaBuffer | None = None
        self._owns = False

    @classmethod
    def open(
        cls,
        host: Host,
        device: str | Address | SysfsDevice,
        *,
        way: str = "auto",
        name: str = "",
        trace: StepListener | None = None,
        scratch: int = 1 << 14,
    ) -> Self:
        """Open a device that was taken (``pyvfio ccw take``), by any of its names; `close` closes it.

        Raise as `pyvfio.open_device` and the class itself.
        """
        from pyvfio.vfio.opening import open_device

        opened = open_device(host, device, way=way)
        try:
            made = cls(opened, name=name, trace=trace, scratch=scratch)
        except BaseException:
            opened.close()
            raise
        made._owns = True
        return made

    # programs

    def run(
        self,
        commands: Sequence[ChannelCommand],
        *,
        timeout: float = _SECONDS,
        check: bool = True,
        memory: DmaBuffer | None = None,
        lpm: int = 0xFF,
    ) -> ProgramResult:
        """Run commands as one chained program and collect what was read.

        It is laid out in `memory` (see `LaidProgram`), else in the scratch memory or in new memory, and started on the
        paths of the mask `lpm`.  `timeout` counts from the call.  Raise the class of `pyvfio.channel_errors` for an
        unusual end (unless `check` is false), `Timeout` when it did not end in time and was stopped, `DeviceBusy` when
        its turn did not come in time, or the class for the errno of a start that the kernel refuses.
        """
        return self._intake.run(self._run(commands, timeout, check, memory, lpm))

    async def run_async(
        self,
        commands: Sequence[ChannelCommand],
        *,
        timeout: float = _SECONDS,
        check: bool = True,
        memory: DmaBuffer | None = None,
        lpm: int = 0xFF,
    ) -> ProgramResult:
        """As `run`, without blocking the event loop.  A cancelled task stops its program before it ends."""
        return await self._intake.run_async(self._run(commands, timeout, check, memory, lpm))

    def start(self, program: Orb | Program, *, timeout: float = _SECONDS, check: bool = True) -> Irb:
        """Start the program of an ORB, which lies in mapped memory, and await its end.  Raise as `run`.

        A `Program` is put into the mapped memory at its address first, and its lists of IDAWs at theirs.  The status is
        that of the whole function: when channel end and device end come apart, they are put together.
        """
        return self._intake.run(self._started(program, timeout, check))

    async def start_async(self, program: Orb | Program, *, timeout: float = _SECONDS, check: bool = True) -> Irb:
        """As `start`, without blocking the event loop.  A cancelled task stops its program before it ends."""
        return await self._intake.run_async(self._started(program, timeout, check))

    def check(self, program: Orb | Program | Sequence[ChannelCommand]) -> list[Violation]:
        """Which rules of the architecture a program breaks; it is put into memory as by `start` or `run`, not started.

        Raise `StorageError` when there is no room for it in mapped memory, and for commands what laying them out gives.
        """
        if isinstance(program, Orb | Program):
            return check(self._orb(program), self.storage)
        with LaidProgram(self.device.space, self.name, program) as laid:
            return check(laid.orb, self.storage)

    def _run(
        self, commands: Sequence[ChannelCommand], timeout: float, check: bool, memory: DmaBuffer | None, lpm: int
    ) -> Steps[ProgramResult]:
        deadline, ticket = time.monotonic() + timeout, object()
        try:
            yield from self._turn(ticket, deadline)
            with self._lay(commands, memory) as laid:
                irb = yield from self._perform(laid.request(lpm), deadline, timeout, check, laid.orb)
                return laid.result(irb)
        finally:
            self._leave(ticket)

    def _started(self, program: Orb | Program, timeout: float, check: bool) -> Steps[Irb]:
        deadline, ticket = time.monotonic() + timeout, object()
        try:
            yield from self._turn(ticket, deadline)
            orb = self._orb(program)
            return (yield from self._perform(orb.to_bytes(), deadline, timeout, check, orb))
        finally:
            self._leave(ticket)

    def _orb(self, program: Orb | Program) -> Orb:
        if isinstance(program, Orb):
            return program
        for address, part in program.parts:
            self.storage.write(address, part)
        return program.orb()

    def _lay(self, commands: Sequence[ChannelCommand], memory: DmaBuffer | None) -> LaidProgram:
        if (
            memory is None
            and self._scratch_size
            and LaidProgram.room(self.device.space, commands) <= self._scratch_size
        ):
            if self._scratch is None:
                self._scratch = self.buffer(self._scratch_size)
            memory = self._scratch
        return LaidProgram(self.device.space, self.name, commands, memory)

    def _abandon(self) -> None:
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            scratch.close()

    # what most devices understand

    def sense_id(self) -> SenseId:
        """Ask what it is (SENSE ID)."""
        return SenseId.from_bytes(self.run(_SENSE_ID).data)

    async def sense_id_async(self) -> SenseId:
        """As `sense_id`, without blocking the event loop."""
        return SenseId.from_bytes((await self.run_async(_SENSE_ID)).data)

    def sense(self) -> bytes:
        """BASIC SENSE: up to 32 bytes."""
        return self.run(_SENSE).data

    async def sense_async(self) -> bytes:
        """As `sense`, without blocking the event loop."""
        return (await self.run_async(_SENSE)).data

    def read(self, count: int, cmd: int = _READ) -> bytes:
        """Read up to `count` bytes with one command (default: READ)."""
        return self.run([Read(cmd, count, CcwFlag.SLI)]).data

    async def read_async(self, count: int, cmd: int = _READ) -> bytes:
        """As `read`, without blocking the event loop."""
        return (await self.run_async([Read(cmd, count, CcwFlag.SLI)])).data

    def write(self, data: bytes, cmd: int = _WRITE) -> ProgramResult:
        """Write with one command (default: WRITE)."""
        return self.run([Write(cmd, data)])

    async def write_async(self, data: bytes, cmd: int = _WRITE) -> ProgramResult:
        """As `write`, without blocking the event loop."""
        return await self.run_async([Write(cmd, data)])

    # stopping

    def halt(self, *, timeout: float = _SECONDS) -> Irb:
        """HALT SUBCHANNEL, and the IRB of its end; a program that another thread has started ends with it, too.

        Raise `NotAvailable` (before Linux 5.2), `DeviceBusy`, `Timeout`, or the class for the errno.
        """
        return self._intake.run(self._function(abi.VFIO_CCW_ASYNC_CMD_HSCH, time.monotonic() + timeout))

    async def halt_async(self, *, timeout: float = _SECONDS) -> Irb:
        """As `halt`, without blocking the event loop."""
        return await self._intake.run_async(self._function(abi.VFIO_CCW_ASYNC_CMD_HSCH, time.monotonic() + timeout))

    def clear(self, *, timeout: float = _SECONDS) -> Irb:
        """CLEAR SUBCHANNEL, and the IRB of its end.  Raise as `halt`."""
        return self._intake.run(self._function(abi.VFIO_CCW_ASYNC_CMD_CSCH, time.monotonic() + timeout))

    async def clear_async(self, *, timeout: float = _SECONDS) -> Irb:
        """As `clear`, without blocking the event loop."""
        return await self._intake.run_async(self._function(abi.VFIO_CCW_ASYNC_CMD_CSCH, time.monotonic() + timeout))

    def stop(self) -> str:
        """Stop what is under way: halt, clear when it is active still, reset when that does not help either.

        What was done, in words (``was halted``, ``was left running (...)``, ``it was idle``).  Takes 3 seconds at most.
        """
        return self._intake.run(self._stop())

    async def stop_async(self) -> str:
        """As `stop`, without blocking the event loop; being cancelled does not end it early."""
        return await self._intake.run_async(self._stop())

    # what comes unasked

    def attention(self, timeout: float | None = None) -> Irb:
        """Wait up to `timeout` seconds (None: for ever) for the next unsolicited status, and take it.  Raise `Timeout`.

        Those that came before are kept: attention of a terminal, device end of a tape that became ready.
        """
        return self._intake.run(self._next_attention(timeout))

    async def attention_async(self, timeout: float | None = None) -> Irb:
        """As `attention`, without blocking the event loop."""
        return await self._intake.run_async(self._next_attention(timeout))

    async def attentions(self) -> AsyncIterator[Irb]:
        """Unsolicited statuses as they come, without an end."""
        while True:
            yield await self.attention_async()

    def take_attention(self) -> Irb | None:
        """The oldest unsolicited status that is kept, None when there is none.  Never waits."""
        with self._intake.lock:
            self._intake.is_so(Wait(lambda: True, None))
            return self._attentions.popleft() if self._attentions else None

    def _next_attention(self, timeout: float | None) -> Steps[Irb]:
        found: list[Irb] = []

        def done() -> bool:
            if not found and self._attentions:
                found.append(self._attentions.popleft())
            return bool(found)

        yield from self._await(done, timeout, "wait for an unsolicited status")
        return found[0]

    def crw(self) -> Crw | None:
        """Take the next channel-report word about a path of this subchannel, None when none is pending.  Never waits.

        Raise `NotAvailable` before Linux 5.8, else the class for the errno.
        """
        with self._explained("store channel report word"):
            return self._regions.crw()

    def report(self, timeout: float | None = None) -> Crw:
        """Wait up to `timeout` seconds (None: for ever) for the next channel report.  Raise `Timeout`, or as `crw`."""
        return self._intake.run(self._next_report(timeout))

    async def report_async(self, timeout: float | None = None) -> Crw:
        """As `report`, without blocking the event loop."""
        return await self._intake.run_async(self._next_report(timeout))

    async def reports(self) -> AsyncIterator[Crw]:
        """Channel reports as they come, without an end."""
        while True:
            yield await self.report_async()

    def _next_report(self, timeout: float | None) -> Steps[Crw]:
        found: list[Crw] = []

        def done() -> bool:
            if not found and (crw := self.crw()) is not None:
                found.append(crw)
            return bool(found)

        with self._explained("wait for a channel report"):
            irq = self._regions.crw_irq()
            if irq is None:
                self.crw()  # says what is missing
                raise NotAvailable("wait for a channel report", self.name, cause="this kernel has no interrupt for it")
            self._intake.add(irq)
        yield from self._await(done, timeout, "wait for a channel report")
        return found[0]

    # the host wants it back

    def wanted(self, timeout: float | None = None) -> int:
        """Wait up to `timeout` seconds (None: for ever) until the host asks for the device back; how often it has.

        Its driver is being unbound or its mediated device removed, and whoever does that waits until the device is
        closed.  Raise `Timeout`; `NotAvailable` before Linux 5.11; `Misuse` when `Device.on_request` looks for it.
        """
        return self._intake.run(self._requested(timeout))

    async def wanted_async(self, timeout: float | None = None) -> int:
        """As `wanted`, without blocking the event loop."""
        return await self._intake.run_async(self._requested(timeout))

    @property
    def is_wanted(self) -> bool:
        """Whether the host asked for the device back since this was asked first.  Raise as `wanted`; never waits."""
        try:
            return bool(self.wanted(0))
        except Timeout:
            return False

    def _requested(self, timeout: float | None) -> Steps[int]:
        operation = "wait for a request of the host"
        with self._explained(operation):
            irq = self.device.request
            if irq is None:
                cause, then = "this kernel has no interrupt for it", "it needs Linux 5.11 or a later kernel"
                raise NotAvailable(operation, self.name, cause=cause, next_step=then)
            self._intake.add(irq)
        yield from self._await(lambda: self.requests, timeout, operation)
        return self.requests

    # state and memory

    def schib(self) -> Schib:
        """The subchannel-information block of now: paths, masks, status.  Never waits.

        Raise `NotAvailable` before Linux 5.8, `DeviceGone` when the subchannel or its device is not there any more.
        """
        with self._explained("store subchannel"):
            return self._regions.schib()

    @property
    def storage(self) -> MappedStorage:
        """What the device sees of this process's memory, by the addresses of channel programs."""
        return MappedStorage(self.device.space)

    def buffer(self, length: int) -> DmaBuffer:
        """Zeroed memory at addresses that CCWs can name (below 2 GiB); the caller closes it."""
        return self.device.space.buffer(length, below=_BELOW)

    def close(self) -> None:
        """Stop what is under way, disable the interrupts, free the scratch memory; a second call does nothing.

        Who waits on another thread or in a task gets `Misuse`.
        """
        if not self._intake.closed:
            with suppress(Misuse):
                if self.busy:
                    self.stop()
            self._intake.close()
        self._abandon()
        if self._owns:
            self.device.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self.busy:
            await self.stop_async()
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}{' closed' if self._intake.closed else ''}>"
