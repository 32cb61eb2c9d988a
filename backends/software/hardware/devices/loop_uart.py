"""A serial port whose output is its own input, with the registers of a 16550A.

::

    0 | data: receive and send     | 4 | modem control              divisor latch (bit 7 of 3 is 1):
    1 | enabled interrupts         | 5 | line status                0 | low byte
    2 | interrupt / FIFO control   | 6 | modem status               1 | high byte
    3 | line control               | 7 | scratch

It is what the kernel's sample of a mediated device (``mtty``) has, with that one's ways: an interrupt for received data
comes with each character, and the divisor's halves are joined by or.  `image` is its whole state, the 36 bytes that
``mtty`` puts into its stream: registers, FIFO with its head, tail and count, latch bit, overrun, divisor, FIFO control,
size and level.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

__all__ = ["IMAGE_SIZE", "LoopUart"]

_DATA, _ENABLE, _IDENTITY, _LINE, _MODEM, _LINE_STATUS, _MODEM_STATUS, _SCRATCH = range(8)
_RECEIVED, _EMPTY, _STATUS, _MODEM_CHANGED = 1, 2, 4, 8
"""Interrupts, as they are enabled."""
_CLEAR_FIFO, _ENABLE_FIFO = 0x06, 0x01
_LATCH, _OUT2, _LINES = 0x80, 0x08, 0x03
_READY, _OVERRUN, _IDLE = 0x01, 0x02, 0x60
_NO_INTERRUPT, _FIFOS = 0x01, 0xC0
_IDS: Final = {_STATUS: 0x06, _RECEIVED: 0x04, _EMPTY: 0x02, _MODEM_CHANGED: 0x00}
_CONNECTED: Final = 0xA2
"""Carrier; the other end is ready, and has just become so."""
_CLEAR_TO_SEND, _FLOW = 0x11, 0x20
_DEPTH: Final = 16
_IMAGE: Final = struct.Struct("<8s16sBBBBBxHBBBx")
IMAGE_SIZE: Final = _IMAGE.size


class LoopUart:
    """The port; `interrupt` is called when it wants attention."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self._interrupt = interrupt
        self.reset()

    def reset(self) -> None:
        """As at first: nothing enabled."""
        self._registers = bytearray(8)
        self._fifo: list[int] = []
        self._latched = self._overrun = False
        self._divisor = self._control = 0
        self._depth = _DEPTH

    @property
    def _on(self) -> int:
        return self._registers[_ENABLE]

    def read(self, offset: int) -> int:
        """A register."""
        if offset == _DATA:
            return self._divisor & 0xFF if self._latched else self._receive()
        if offset == _ENABLE:
            return self._divisor >> 8 if self._latched else self._on & 0x0F
        if offset == _IDENTITY:
            return self._identity() | _FIFOS
        if offset == _LINE_STATUS:
            status = _READY if self._fifo else _IDLE
            return status | (_OVERRUN if self._overrun else 0)
        if offset == _MODEM_STATUS:
            return self._modem_status()
        return self._registers[offset]

    def _receive(self) -> int:
        value = self._fifo.pop(0) if self._fifo else 0
        if not self._fifo and self._on & _EMPTY:
            self._interrupt()
        return value

    def _identity(self) -> int:
        pending = {
            _STATUS: self._overrun,
            _RECEIVED: bool(self._fifo),
            _EMPTY: not self._fifo,
            _MODEM_CHANGED: bool(self._registers[_MODEM] & _LINES),
        }
        found = 0
        for interrupt, now in pending.items():
            found |= _IDS[interrupt] if self._on & interrupt and now else 0
        return found or _NO_INTERRUPT

    def _modem_status(self) -> int:
        full = len(self._fifo) >= self._depth
        return _CONNECTED if self._registers[_MODEM] & _FLOW and full else _CONNECTED | _CLEAR_TO_SEND

    def write(self, offset: int, value: int) -> None:
        """Store into a register."""
        if offset == _DATA:
            if self._latched:
                self._divisor |= value
            else:
                self._send(value)
        elif offset == _ENABLE:
            if self._latched:
                self._divisor |= value << 8
            else:
                self._registers[_ENABLE] = value
                self._wake(bool(value & _EMPTY) and not self._fifo)
        elif offset == _IDENTITY:
            self._control = value
            if value & _CLEAR_FIFO:
                self._fifo.clear()
            self._depth = _DEPTH if value & _ENABLE_FIFO else 1
        elif offset == _LINE:
            self._latched = bool(value & _LATCH)
            if self._latched:
                self._divisor = 0
            self._registers[_LINE] = value
        elif offset == _MODEM:
            self._registers[_MODEM] = value
            self._wake(bool(self._on & _MODEM_CHANGED and value & (_OUT2 | _LINES)))
        elif offset == _SCRATCH:
            self._registers[_SCRATCH] = value

    def _send(self, value: int) -> None:
        if len(self._fifo) < self._depth:
            self._fifo.append(value)
            self._overrun = False
            self._wake(bool(self._on & _RECEIVED) and len(self._fifo) == 1)
        else:
            self._overrun = True
            self._wake(bool(self._on & _STATUS))

    def _wake(self, wanted: bool) -> None:
        if wanted:
            self._interrupt()

    # its state

    def image(self) -> bytes:
        """All of it."""
        count = len(self._fifo)
        return _IMAGE.pack(
            bytes(self._registers),
            bytes(self._fifo),
            count % _DEPTH,
            0,
            count,
            self._latched,
            self._overrun,
            self._divisor & 0xFFFF,
            self._control,
            self._depth,
            1,
        )

    def load(self, image: bytes) -> None:
        """Be as an image says."""
        registers, fifo, _, tail, count, latched, overrun, divisor, control, depth, _ = _IMAGE.unpack(image)
        self._registers = bytearray(registers)
        self._fifo = [fifo[(tail + place) % _DEPTH] for place in range(min(count, _DEPTH))]
        self._latched, self._overrun = bool(latched), bool(overrun)
        self._divisor, self._control, self._depth = divisor, control, max(1, min(depth, _DEPTH))
