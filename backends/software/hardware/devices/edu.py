"""`edu`: liveness, factorials, interrupts and a DMA engine.  Its registers are documented in `pyvfio.pci.edu`.

What the documents of the original leave open is as QEMU 10.0 does it: a register that does not exist reads as ones and
an access of the wrong size does too; a reset changes no register; the interrupt pin stays asserted when MSI is switched
on.  A transfer that is not within the buffer, which there goes past it, moves nothing here; it ends as others do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from pyvfio.pci.edu import (
    ACK,
    BUFFER,
    BUFFER_SIZE,
    COMMAND,
    COUNT,
    DMA_MASK,
    FACTOR,
    ID,
    IDENTIFICATION,
    IRQ,
    LIVE,
    RAISE,
    SOURCE,
    STATUS,
    TARGET,
    EduDma,
    EduInterrupt,
    EduStatus,
)
from pyvfio_backends.software.hardware.dma import DmaFault, PinInitiator
from pyvfio_backends.software.hardware.pci.bar import Unmapped

__all__ = ["Edu", "factorial"]

_DWORD: Final = 0xFFFFFFFF
_WIDE: Final = 0x80
_DELAY: Final = 0.1
_ALL_ZERO: Final = 34  # 34! has 32 factors of two

Schedule = Callable[[float, Callable[[], None]], None]


def factorial(number: int) -> int:
    """The factorial as a register of 32 bits holds it."""
    return math.factorial(number) & _DWORD if number < _ALL_ZERO else 0


class Edu:
    """The registers of BAR 0 (implements `Registers`), and what they do through the function of `attach`.

    `schedule` puts work off (a delay in seconds, and the work): a transfer `delay` seconds, a factorial no time, so
    that STATUS and COMMAND are seen busy.  Without it both are done inside the store that starts them.
    """

    def __init__(self, *, dma_mask: int = DMA_MASK, delay: float = _DELAY, schedule: Schedule | None = None) -> None:
        self.dma_mask = dma_mask
        self.buffer = bytearray(BUFFER_SIZE)
        self._delay = delay
        self._schedule = schedule
        self._function: PinInitiator | None = None
        self._values = dict.fromkeys((LIVE, FACTOR, STATUS, IRQ, SOURCE, TARGET, COUNT, COMMAND), 0)
        self._values[ID] = IDENTIFICATION

    def attach(self, function: PinInitiator) -> None:
        """Belong to a function."""
        self._function = function

    # registers

    def reset(self) -> None:
        """See `Registers.reset`: nothing changes, and work goes on."""

    def takes(self, offset: int, length: int) -> bool:
        """See `Registers.takes`."""
        return length in (4, 8) and offset % length == 0

    def _known(self, offset: int, length: int) -> bool:
        if not self.takes(offset, length):
            raise Unmapped
        return length == 4 or offset >= _WIDE

    def read(self, offset: int, length: int) -> int:
        """See `Registers.read`."""
        ones = (1 << 8 * length) - 1
        if not self._known(offset, length):
            return ones
        return self._values.get(offset, ones) & ones

    def write(self, offset: int, length: int, value: int) -> None:
        """See `Registers.write`."""
        if not self._known(offset, length):
            return
        values = self._values
        if offset == LIVE:
            values[LIVE] = ~value & _DWORD
        elif offset == FACTOR and not values[STATUS] & EduStatus.COMPUTING:
            values[FACTOR] = value
            values[STATUS] |= EduStatus.COMPUTING
            self._start(0.0, self._compute)
        elif offset == STATUS:
            values[STATUS] = values[STATUS] & ~EduStatus.INTERRUPT | value & EduStatus.INTERRUPT
        elif offset == RAISE:
            self._raise(value)
        elif offset == ACK:
            self._acknowledge(value)
        elif offset >= _WIDE and offset in values and not values[COMMAND] & EduDma.RUN:
            self._set_transfer(offset, value)

    def _set_transfer(self, offset: int, value: int) -> None:
        if offset != COMMAND:
            self._values[offset] = value
        elif value & EduDma.RUN:
            self._values[COMMAND] = value
            self._start(self._delay, self._transfer)

    # work

    def _start(self, delay: float, work: Callable[[], None]) -> None:
        if self._schedule is None:
            work()
        else:
            self._schedule(delay, work)

    def _compute(self) -> None:
        values = self._values
        values[FACTOR] = factorial(values[FACTOR])
        values[STATUS] &= ~EduStatus.COMPUTING
        if values[STATUS] & EduStatus.INTERRUPT:
            self._raise(EduInterrupt.FACTORIAL)

    def _transfer(self) -> None:
        values, function = self._values, self._function
        command = values[COMMAND]
        inside, outside = (SOURCE, TARGET) if command & EduDma.FROM_BUFFER else (TARGET, SOURCE)
        first, count = values[inside] - BUFFER, values[COUNT]
        address = values[outside] & self.dma_mask
        if function is not None and first >= 0 and first + count <= BUFFER_SIZE and count:
            try:
                if command & EduDma.FROM_BUFFER:
                    function.dma_write(address, bytes(self.buffer[first : first + count]))
                else:
                    self.buffer[first : first + count] = function.dma_read(address, count)
            except DmaFault:
                pass  # the device has no register to tell; the function reported what was answered
        values[COMMAND] &= ~EduDma.RUN
        if command & EduDma.INTERRUPT:
            self._raise(EduInterrupt.DMA)

    # interrupts

    def _raise(self, bits: int) -> None:
        self._values[IRQ] |= bits
        function = self._function
        if function is None or not self._values[IRQ]:
            return
        if function.messages_on:
            function.signal(0)
        else:
            function.set_intx(True)

    def _acknowledge(self, bits: int) -> None:
        self._values[IRQ] &= ~bits
        function = self._function
        if function is not None and not self._values[IRQ] and not function.messages_on:
            function.set_intx(False)
