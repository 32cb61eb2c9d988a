"""What a driver of `edu` does, without any waiting: operations as generators.

A `Work` yields for how many seconds, at most, it waits for an interrupt, or a `Blocking` call to be run, and is sent
whether an interrupt came; so the same code serves a driver that blocks and one for asyncio.  Registers are drawn in
`pyvfio.pci.edu`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final, TypeVar

from pyvfio.drivers.blocking import Blocking
from pyvfio.drivers.claim import Claim
from pyvfio.drivers.pci_lines import Lines
from pyvfio.drivers.pci_registers import GONE, Registers, require_ids, set_bus_master
from pyvfio.errors import Misuse, NotAvailable, PyvfioError, Timeout
from pyvfio.iommu import DmaBuffer
from pyvfio.pci import edu as regs
from pyvfio.pci.edu import EduDma, EduInterrupt, EduStatus
from pyvfio.vfio.device import Device

__all__ = ["Blocking", "EduIdentity", "EduWork", "Work"]

T = TypeVar("T")
Work = Generator[float | Blocking, bool, T]
_DWORD: Final = 0xFFFFFFFF
_MAGIC: Final = 0xED
_LOOK: Final = 0.002
_LIVENESS: Final = (0, 0x12345678, _DWORD)
_KINDS: Final = ("auto", "msi", "intx", "poll")


@dataclass(frozen=True, slots=True)
class EduIdentity:
    """What the device says that it is: its version."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"edu {self.major}.{self.minor}"


class EduWork:
    """The operations of one device.  `timeout` in seconds is for each of them."""

    def __init__(self, device: Device, *, interrupts: str, access: str, dma_mask: int, timeout: float) -> None:
        if interrupts not in _KINDS:
            cause = f"interrupts are {', '.join(_KINDS)}, not {interrupts!r}"
            raise Misuse("drive edu", device.name, cause=cause)
        if not timeout > 0:  # nor is one that is not a number
            raise Misuse("drive edu", device.name, cause=f"a timeout is more than 0 seconds, not {timeout}")
        self.device = device
        self.timeout = timeout
        self.dma_mask = dma_mask
        self._interrupts = interrupts
        self._access = access
        self._claim: Claim | None = None
        self._registers: Registers | None = None
        self._lines: Lines | None = None
        self._memory: DmaBuffer | None = None

    # -- the start and the end -----------------------------------------------------------------------------------

    def start(self) -> EduIdentity:
        """Check what it is, let it use memory, and have its interrupts on.  Raise `Misuse` when it is no edu."""
        require_ids(self.device, "edu", ids=(regs.VENDOR_ID, regs.DEVICE_ID))
        self._claim = Claim(self.device, "edu")
        self._registers = Registers(self.device, regs.BAR, self._access)
        found = self.identity()
        self._memory = self.device.space.buffer(regs.BUFFER_SIZE, below=self.dma_mask + 1)
        self._lines = Lines(self.device, self._interrupts)
        self._switch_on()
        return found

    def _switch_on(self) -> None:
        set_bus_master(self.device, True)
        self._write(regs.ACK, _DWORD)  # what an earlier driver left
        self._write(regs.STATUS, EduStatus.INTERRUPT if self.by_interrupt else 0)

    def stop(self) -> None:
        """No interrupts, no access to memory, and the memory is free; a second call does nothing.

        The device may be gone.  A transfer that still runs is stopped by taking the bus from it.
        """
        if self._registers is not None:
            with contextlib.suppress(PyvfioError):
                self._write(regs.STATUS, 0)
                self._write(regs.ACK, _DWORD)
            with contextlib.suppress(PyvfioError):
                set_bus_master(self.device, False)
        self._registers = None
        lines, self._lines = self._lines, None
        memory, self._memory = self._memory, None
        claim, self._claim = self._claim, None
        with contextlib.ExitStack() as stack:
            if claim is not None:
                stack.callback(claim.close)
            if memory is not None:
                stack.callback(memory.close)
            if lines is not None:
                stack.callback(lines.close)

    # -- what it is ----------------------------------------------------------------------------------------------

    @property
    def registers(self) -> Registers:
        """BAR 0.  Raise `Misuse` before `start`."""
        if self._registers is None:
            raise Misuse("drive edu", self.device.name, cause="the driver is not started", next_step="use it in `with`")
        return self._registers

    @property
    def lines(self) -> Lines:
        """Its interrupts.  Raise `Misuse` before `start`."""
        if self._lines is None:
            raise Misuse("drive edu", self.device.name, cause="the driver is not started", next_step="use it in `with`")
        return self._lines

    @property
    def by_interrupt(self) -> bool:
        """Whether the end of work is told by interrupts."""
        return self.lines.kind != "poll"

    def identity(self) -> EduIdentity:
        """Read the identification.  Raise `Misuse` when it is another's, `NotAvailable` when nothing answers."""
        value = self._read(regs.ID)
        if value == GONE:
            raise NotAvailable(
                "drive edu", self.device.name, cause="the device does not answer: its registers are ones"
            )
        if value & 0xFF != _MAGIC:
            raise Misuse("drive edu", self.device.name, cause=f"its identification is {value:#010x}, not ......ed")
        return EduIdentity(value >> 24, value >> 16 & 0xFF)

    def alive(self) -> bool:
        """Whether the device answers with the complement of what it is given."""
        for value in _LIVENESS:
            self._write(regs.LIVE, value)
            if self._read(regs.LIVE) != ~value & _DWORD:
                return False
        return True

    # -- what it does --------------------------------------------------------------------------------------------

    def factorial(self, number: int) -> Work[int]:
        """The factorial modulo 2**32, as the device computes it.  Raise `Misuse` for no 32-bit number, `Timeout`."""
        if not 0 <= number <= _DWORD:
            raise Misuse("compute factorial", self.device.name, cause=f"{number} is no number of 32 bits")
        words = f"compute the factorial of {number}"
        yield from self._until(lambda: not self._read(regs.STATUS) & EduStatus.COMPUTING, words)
        self._write(regs.FACTOR, number)
        if self.by_interrupt:
            yield from self._interrupted(EduInterrupt.FACTORIAL, words)
        # also after an interrupt, which may have been one of an earlier number that was not waited for
        yield from self._until(lambda: not self._read(regs.STATUS) & EduStatus.COMPUTING, words)
        return self._read(regs.FACTOR)

    def interrupt(self, bits: int) -> Work[int]:
        """Have the device raise an interrupt, and take it: what it says the reason is, which includes `bits`.

        Raise `Misuse` for no bits, `Timeout` when no interrupt came.
        """
        if not 0 < bits <= _DWORD:
            raise Misuse("raise interrupt", self.device.name, cause=f"{bits:#x} are no bits of 32")
        self.lines.poll(0)  # what came before is not the answer
        self.lines.rearm()
        self._write(regs.RAISE, bits)
        return (yield from self._interrupted(bits, "raise an interrupt"))

    def put(self, data: bytes, offset: int) -> Work[None]:
        """DMA: have the device read `data` from memory into its buffer, at `offset`."""
        memory = self._room(len(data), offset)
        memory.view[: len(data)] = data
        yield from self._move(memory.iova, len(data), offset, out=False)

    def get(self, count: int, offset: int) -> Work[bytes]:
        """DMA: have the device write `count` bytes of its buffer, from `offset` on, to memory."""
        memory = self._room(count, offset)
        yield from self._move(memory.iova, count, offset, out=True)
        return bytes(memory.view[:count])

    def transfer(self, iova: int, count: int, offset: int, *, out: bool) -> Work[None]:
        """DMA between memory at `iova` and the buffer at `offset`; `out` of the buffer or into it.

        Raise `Misuse` for what is not within the buffer or the addresses that the device reaches, `Timeout`.  The
        device cannot tell that an address was not mapped: nothing comes then, and the kernel's log has the fault.
        """
        self._room(count, offset)
        if iova < 0 or iova + count - 1 > self.dma_mask:
            cause = f"the device reaches addresses up to {self.dma_mask:#x}, not {iova:#x} and {count} bytes"
            raise Misuse("transfer by DMA", self.device.name, cause=cause, next_step="buffer(..., below=dma_mask + 1)")
        yield from self._move(iova, count, offset, out=out)

    def _move(self, iova: int, count: int, offset: int, *, out: bool) -> Work[None]:
        words = f"transfer {count} bytes by DMA"
        yield from self._until(lambda: not self._read(regs.COMMAND) & EduDma.RUN, words)
        inside = regs.BUFFER + offset
        self._write(regs.SOURCE, inside if out else iova)
        self._write(regs.TARGET, iova if out else inside)
        self._write(regs.COUNT, count)
        command = EduDma.RUN | (EduDma.FROM_BUFFER if out else 0)
        self._write(regs.COMMAND, command | (EduDma.INTERRUPT if self.by_interrupt else 0))
        if self.by_interrupt:
            yield from self._interrupted(EduInterrupt.DMA, words)
        yield from self._until(lambda: not self._read(regs.COMMAND) & EduDma.RUN, words)

    # -- inside --------------------------------------------------------------------------------------------------

    def _pause(self, seconds: float) -> float:
        """How long to wait, at most, before the device is looked at again."""
        return seconds

    def _room(self, count: int, offset: int) -> DmaBuffer:
        if self._memory is None:
            raise Misuse("drive edu", self.device.name, cause="the driver is not started", next_step="use it in `with`")
        if count <= 0 or offset < 0 or offset + count > regs.BUFFER_SIZE:
            cause = f"{count} bytes at {offset:#x} are not within the buffer of {regs.BUFFER_SIZE} bytes"
            raise Misuse("transfer by DMA", self.device.name, cause=cause)
        return self._memory

    def _interrupted(self, bits: int, words: str) -> Work[int]:
        """Wait for an interrupt with this reason, and acknowledge it; all reasons that there were."""
        deadline = time.monotonic() + self.timeout
        fired = not self.by_interrupt
        while True:
            reasons = self._read(regs.IRQ)
            if reasons & bits == bits and fired:
                self._write(regs.ACK, reasons)
                self.lines.rearm()
                return reasons
            left = deadline - time.monotonic()
            if left <= 0:
                missing = "the device gives the reason, but no interrupt came" if reasons & bits == bits else ""
                raise self._late(words, missing or f"no interrupt came within {self.timeout} s")
            fired = (yield self._pause(left)) or fired
            reasons = self._read(regs.IRQ)
            if fired and reasons & bits != bits:  # of something else, or dealt with already
                self._write(regs.ACK, reasons)
                self.lines.rearm()

    def _until(self, done: Callable[[], bool], words: str) -> Work[None]:
        deadline = time.monotonic() + self.timeout
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._late(words, f"the device was still busy after {self.timeout} s")
            yield min(left, _LOOK)

    def _late(self, words: str, cause: str) -> Timeout:
        return Timeout(words, self.device.name, cause=cause)

    def _read(self, offset: int) -> int:
        return self.registers.read(offset)

    def _write(self, offset: int, value: int) -> None:
        self.registers.write(offset, int(value))
