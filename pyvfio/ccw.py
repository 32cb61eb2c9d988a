"""Channel programs through vfio-ccw: start, halt, clear, and what comes back.

`CcwDevice` lays a program out in DMA memory, writes the ORB to the I/O region in one ``pwrite`` (any write there starts
the request), awaits the interrupt and reads the IRB.  Halt and clear go through the asynchronous command region.
Addresses in CCWs have 31 bits, so programs lie below 2 GiB of the IO address space.

vfio-ccw translates a program as a whole before it starts it: at most 256 CCWs, no changes while it runs, and the 2 KiB
behind its first CCW must be mapped.  Source: ``Documentation/arch/s390/vfio-ccw.rst``,
``drivers/s390/cio/vfio_ccw_cp.c``.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Self, Unpack

from pyvfio.abi import vfio_ccw as abi
from pyvfio.channel_program import ChannelCommand, LaidProgram, ProgramResult, Read, Write
from pyvfio.channel_status import decode, merge
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
from pyvfio.css.scsw import Actl, Fctl, Scsw
from pyvfio.css.senseid import SenseId
from pyvfio.css.trace import Step, StepDetails, StepListener
from pyvfio.errors import ChannelProgramFailed, Misuse, NotAvailable, PyvfioError, Timeout

if TYPE_CHECKING:
    from pyvfio.iommu import DmaBuffer
    from pyvfio.vfio import Device, Region

__all__ = ["CcwDevice"]

_SENSE_ID_SIZE = 256
_PATIENCE = 1.0
_RUNNING = Actl.SUBCHANNEL_ACTIVE | Actl.DEVICE_ACTIVE
_REFUSED = {
    errno.EINVAL: "the program cannot be translated: an address in it is not mapped, or it has more than 256 CCWs",
    errno.ENOENT: "an address in the program is not mapped",
    errno.EFAULT: "an address in the program is mapped to memory that is not there any more",
    errno.EPERM: "an address in the program is mapped without the permission that it needs",
    errno.EBUSY: "a start is under way, or its status was not taken yet",
    errno.EAGAIN: "the subchannel is busy with another request",
    errno.EACCES: "no path to the device is operational for the ORB's path mask",
    errno.ENODEV: "the device is not operational",
    errno.EIO: "the subchannel is not operational",
    errno.EOPNOTSUPP: "vfio-ccw does not do this (transport mode, or halt and clear as part of a start)",
}


class CcwDevice:
    """A channel device, through an open vfio-ccw `device` (which stays the caller's to close).

    A context manager: closing disables the interrupts that it enabled.  `trace` is told the steps Q1 to Q7.  Raise
    `Misuse` when the device is of another kind.
    """

    def __init__(self, device: Device, *, trace: StepListener | None = None) -> None:
        if device.kind != "ccw":
            raise Misuse("drive a channel device", device.name, cause=f"it is a {device.kind} device")
        self.device = device
        self._trace = trace
        self._io = device.region(abi.VFIO_CCW_CONFIG_REGION_INDEX)
        self._tell("Q1", f"the I/O region has {self._io.size} bytes at offset {self._io.offset:#x}")
        self.irq = device.irq(abi.VFIO_CCW_IO_IRQ_INDEX)
        self.irq.enable()
        self._tell("Q2", "an eventfd awaits the end of I/O")

    def _tell(self, name: str, text: str, **details: Unpack[StepDetails]) -> None:
        if self._trace is not None:
            self._trace(Step(name, self.device.name, text, **details))

    def _region(self, subtype: int, what: str) -> Region:
        region = self.device.find_region(abi.VFIO_REGION_TYPE_CCW, subtype)
        if region is None:
            raise NotAvailable(what, self.device.name, cause="this kernel's vfio-ccw has no such region")
        return region

    # starting

    def run(
        self,
        commands: Sequence[ChannelCommand],
        *,
        timeout: float = 10.0,
        check: bool = True,
        memory: DmaBuffer | None = None,
        lpm: int = 0xFF,
    ) -> ProgramResult:
        """Run commands as one chained program and collect what was read.

        It is laid out in new memory or in `memory` (see `LaidProgram`), and started on the paths of the mask `lpm`.
        Raise `ChannelProgramFailed` when it ends with an unusual status (unless `check` is false), `Timeout` after
        halting and clearing, or the class for the errno of a start that the kernel refuses.
        """
        with self._layout(commands, memory) as laid:
            irb = self.start(replace(laid.orb, lpm=lpm), timeout=timeout, check=check)
            return laid.result(irb)

    async def run_async(
        self,
        commands: Sequence[ChannelCommand],
        *,
        timeout: float = 10.0,
        check: bool = True,
        memory: DmaBuffer | None = None,
        lpm: int = 0xFF,
    ) -> ProgramResult:
        """As `run`, without blocking the event loop."""
        with self._layout(commands, memory) as laid:
            irb = await self.start_async(replace(laid.orb, lpm=lpm), timeout=timeout, check=check)
            return laid.result(irb)

    def start(self, program: Orb | Program, *, timeout: float = 10.0, check: bool = True) -> Irb:
        """Start the program of an ORB, which lies in mapped memory, and await its end.  Raise as `run`.

        A `Program` is put into the mapped memory at its address first, and its lists of IDAWs at theirs.  The status is
        that of the whole function: when channel end and device end come apart, they are put together.  Whatever ends
        the waiting early (Ctrl-C, too) halts the program, so that the caller may free its memory.
        """
        self._request(self._orb(program))
        irb, ended, deadline = None, False, time.monotonic() + timeout
        try:
            while irb is None or not ended:
                self.irq.wait(max(0.0, deadline - time.monotonic()))
                irb, ended = merge(irb, self._take())
        except Timeout as error:
            raise self._too_late(timeout, self._stop()) from error
        except BaseException:
            self._stop()
            raise
        return self._ended(irb, check)

    async def start_async(self, program: Orb | Program, *, timeout: float = 10.0, check: bool = True) -> Irb:
        """As `start`, without blocking the event loop.  A cancelled task halts its program."""
        self._request(self._orb(program))
        irb, ended, deadline = None, False, time.monotonic() + timeout
        try:
            while irb is None or not ended:
                await self.irq.wait_async(max(0.0, deadline - time.monotonic()))
                irb, ended = merge(irb, self._take())
        except Timeout as error:
            raise self._too_late(timeout, self._stop()) from error
        except BaseException:
            self._stop()
            raise
        return self._ended(irb, check)

    def check(self, program: Orb | Program | Sequence[ChannelCommand]) -> list[Violation]:
        """Which rules of the architecture a program breaks; it is put into memory as by `start` or `run`, not started.

        Raise `StorageError` when there is no room for it in mapped memory, and for commands what laying them out gives.
        """
        storage = MappedStorage(self.device.space)
        if isinstance(program, Orb | Program):
            return check(self._orb(program), storage)
        with self._layout(program) as laid:
            return check(laid.orb, storage)

    def _orb(self, program: Orb | Program) -> Orb:
        if isinstance(program, Orb):
            return program
        storage = MappedStorage(self.device.space)
        for address, part in program.parts:
            storage.write(address, part)
        return program.orb()

    def _request(self, orb: Orb) -> None:
        self._tell("Q3", "START SUBCHANNEL is requested", orb=orb)
        start = Scsw(fctl=Fctl.START)
        image = orb.to_bytes() + start.to_bytes() + bytes(abi.IRB_AREA_SIZE) + bytes(4)
        self.irq.poll()  # what came before this start is not its end
        self._tell("Q4", f"{len(image)} bytes with the ORB are written to the I/O region")
        try:
            self._io.write(0, image)
        except PyvfioError as error:
            self._tell("Q5", f"the start is refused: {error.errno_name}")
            raise self._refused(error, "start channel program") from error
        self._tell("Q5", "the condition code is 0: started", condition_code=0)

    def _refused(self, error: PyvfioError, operation: str) -> PyvfioError:
        cause = _REFUSED.get(error.errno or 0, error.cause)
        return type(error)(operation, self.device.name, errno=error.errno, cause=cause, next_step=error.next_step)

    def _take(self) -> Irb:
        start = abi.ORB_AREA_SIZE + abi.SCSW_AREA_SIZE
        irb = Irb.from_bytes(self._io.read(start, abi.IRB_AREA_SIZE))
        self._tell("Q6", "the event came; the IRB is read from the I/O region", irb=irb)
        return irb

    def _ended(self, irb: Irb, check: bool) -> Irb:
        self._tell("Q7", "the interrupt is handed to who asked for the start")
        if check and not irb.scsw.ok:
            raise ChannelProgramFailed("run channel program", self.device.name, cause=decode(irb), irb=irb)
        return irb

    def _stop(self) -> str:
        """Halt a program that does not end, and clear if halting does not help; what was done, in words."""
        try:
            if not self.halt(timeout=_PATIENCE).scsw.actl & _RUNNING:
                return "halted"
            cause = "it was active still"  # some subchannels end a halt function so; only a clear stops them
            raise Timeout("halt subchannel", self.device.name, cause=cause)
        except PyvfioError:
            try:
                self.clear(timeout=_PATIENCE)
                return "cleared"
            except PyvfioError as worse:
                return f"left running ({worse.operation} {worse.errno_name})"

    def _too_late(self, timeout: float, did: str) -> Timeout:
        return Timeout(
            "run channel program",
            self.device.name,
            cause=f"it did not end within {timeout:g} s and was {did}",
            next_step="give a longer timeout if the device may take so long",
        )

    # halt, clear, status

    def halt(self, *, timeout: float = 10.0) -> Irb:
        """HALT SUBCHANNEL, and the IRB of its end.  Raise the class for the errno, or `Timeout`."""
        return self._async(abi.VFIO_CCW_ASYNC_CMD_HSCH, "halt subchannel", timeout)

    def clear(self, *, timeout: float = 10.0) -> Irb:
        """CLEAR SUBCHANNEL, and the IRB of its end.  Raise the class for the errno, or `Timeout`."""
        return self._async(abi.VFIO_CCW_ASYNC_CMD_CSCH, "clear subchannel", timeout)

    async def halt_async(self, *, timeout: float = 10.0) -> Irb:
        """As `halt`, without blocking the event loop."""
        self._command(abi.VFIO_CCW_ASYNC_CMD_HSCH, "halt subchannel")
        await self.irq.wait_async(timeout)
        return self._take()

    async def clear_async(self, *, timeout: float = 10.0) -> Irb:
        """As `clear`, without blocking the event loop."""
        self._command(abi.VFIO_CCW_ASYNC_CMD_CSCH, "clear subchannel")
        await self.irq.wait_async(timeout)
        return self._take()

    def _async(self, command: int, operation: str, timeout: float) -> Irb:
        self._command(command, operation)
        self.irq.wait(timeout)
        return self._take()

    def _command(self, command: int, operation: str) -> None:
        region = self._region(abi.VFIO_REGION_SUBTYPE_CCW_ASYNC_CMD, operation)
        self.irq.poll()
        try:
            region.write(0, bytes(abi.CcwCmdRegion(command=command)))
        except PyvfioError as error:
            raise self._refused(error, operation) from error

    def schib(self) -> Schib:
        """The subchannel-information block of now."""
        return Schib.from_bytes(
            self._region(abi.VFIO_REGION_SUBTYPE_CCW_SCHIB, "store subchannel").read(0, abi.SCHIB_AREA_SIZE)
        )

    def crw(self) -> Crw | None:
        """The next channel-report word of this subchannel, None when none is pending."""
        region = self._region(abi.VFIO_REGION_SUBTYPE_CCW_CRW, "store channel report word")
        word = region.read(0, region.size)[:4]
        return Crw.from_bytes(word) if any(word) else None

    # what most devices understand

    def sense_id(self) -> SenseId:
        """Ask what it is (SENSE ID)."""
        return SenseId.from_bytes(self.run([Read(Command.SENSE_ID, _SENSE_ID_SIZE, CcwFlag.SLI)]).data)

    def sense(self) -> bytes:
        """BASIC SENSE: up to 32 bytes."""
        return self.run([Read(Command.SENSE, 32, CcwFlag.SLI)]).data

    def read(self, count: int, cmd: int = 0x02) -> bytes:
        """Read up to `count` bytes with one command (default: READ)."""
        return self.run([Read(cmd, count, CcwFlag.SLI)]).data

    def write(self, data: bytes, cmd: int = 0x01) -> ProgramResult:
        """Write with one command (default: WRITE)."""
        return self.run([Write(cmd, data)])

    def _layout(self, commands: Sequence[ChannelCommand], memory: DmaBuffer | None = None) -> LaidProgram:
        return LaidProgram(self.device.space, self.device.name, commands, memory)

    def close(self) -> None:
        """Disable the interrupt; a second call does nothing."""
        self.irq.disable()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
