"""A display adapter: frame buffer, the old window at a0000 and ports at 3b0 and 3c0, and the registers of Bochs.

::

    3c0 attribute (index, then data)  3c2 miscellaneous output (3cc reads it)      3d4, 3d5 or 3b4, 3b5 CRT controller
    3c4, 3c5 sequencer                3c7, 3c8, 3c9 palette, three bytes a colour  3da or 3ba status, index again
    3ce, 3cf graphics controller      which CRT controller: bit 0 of miscellaneous output

BAR 2 has the ports from 3c0 on at 400 and the registers of Bochs, of 16 bits, at 500.  Registers keep what is written
and nothing is drawn; the old window is plain memory, without planes.  Sources: IBM's VGA, QEMU's
``docs/specs/standard-vga``.
"""

from __future__ import annotations

from typing import Final

from pyvfio_backends.software.hardware.pci.bar import Unmapped

__all__ = ["IO_WINDOWS", "MEMORY_WINDOW", "VgaPorts", "VgaRegisters"]

MEMORY_WINDOW: Final = range(0xA0000, 0xC0000)
IO_WINDOWS: Final = (range(0x3B0, 0x3BC), range(0x3C0, 0x3E0))
_BANKS: Final = {0x3C4: 8, 0x3CE: 16}
_CRT, _CRT_SIZE, _ATTRIBUTES = 4, 64, 32
_COLOUR, _MONO = 0x3D0, 0x3B0
_MISC, _MISC_READ, _STATUS_LOW, _FEATURE_READ = 0x3C2, 0x3CC, 0xA, 0x3CA
_DAC_MASK, _DAC_READ, _DAC_WRITE, _DAC_DATA = 0x3C6, 0x3C7, 0x3C8, 0x3C9
_PORTS, _PORTS_SIZE, _BOCHS = 0x400, 0x20, 0x500
_BOCHS_ID, _BOCHS_COUNT, _BOCHS_MEMORY = 0xB0C5, 11, 10
_PALETTE = 256 * 3


class VgaPorts:
    """The state behind the ports: `read` and `write` take their numbers, a byte at a time."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As after power on."""
        self.misc = 1  # the CRT controller is the one for colour
        self._index = {0x3C4: 0, 0x3CE: 0, _CRT: 0, 0x3C0: 0}
        self._values = {bank: bytearray(size) for bank, size in _BANKS.items()}
        self._values |= {_CRT: bytearray(_CRT_SIZE), 0x3C0: bytearray(_ATTRIBUTES)}
        self._attribute_data = False
        self._palette = bytearray(_PALETTE)
        self._mask = 0xFF
        self._read_at = self._write_at = 0

    def _crt(self, port: int) -> int | None:
        """The offset of a port among those of the CRT controller, None for those of the one that is off."""
        base = _COLOUR if self.misc & 1 else _MONO
        return port - base if 0 <= port - base < 0x10 else None

    def read(self, port: int) -> int:
        """The byte at a port; ones where nothing is."""
        if port in _BANKS:
            return self._index[port]
        if port - 1 in _BANKS:
            return self._banked(port - 1)
        fixed = {
            0x3C0: self._index[0x3C0],
            0x3C1: self._values[0x3C0][self._index[0x3C0] % _ATTRIBUTES],
            _MISC: 0,
            _MISC_READ: self.misc,
            _FEATURE_READ: 0,
            _DAC_MASK: self._mask,
            _DAC_READ: 0,
            _DAC_WRITE: self._write_at // 3,
        }
        if port in fixed:
            return fixed[port]
        if port == _DAC_DATA:
            value = self._palette[self._read_at]
            self._read_at = (self._read_at + 1) % _PALETTE
            return value
        offset = self._crt(port)
        if offset == _CRT:
            return self._index[_CRT]
        if offset == _CRT + 1:
            return self._banked(_CRT)
        if offset == _STATUS_LOW:
            self._attribute_data = False
            return 0
        return 0xFF

    def _banked(self, bank: int) -> int:
        values = self._values[bank]
        return values[self._index[bank]] if self._index[bank] < len(values) else 0

    def write(self, port: int, value: int) -> None:
        """Write a byte; nothing happens where nothing is."""
        if port in _BANKS:
            self._index[port] = value
        elif port - 1 in _BANKS:
            self._set(port - 1, value)
        elif port == 0x3C0:
            if self._attribute_data:
                self._values[0x3C0][self._index[0x3C0] % _ATTRIBUTES] = value
            else:
                self._index[0x3C0] = value
            self._attribute_data = not self._attribute_data
        elif port == _MISC:
            self.misc = value
        elif port == _DAC_MASK:
            self._mask = value
        elif port == _DAC_READ:
            self._read_at = value * 3
        elif port == _DAC_WRITE:
            self._write_at = value * 3
        elif port == _DAC_DATA:
            self._palette[self._write_at] = value & 0x3F
            self._write_at = (self._write_at + 1) % _PALETTE
        else:
            offset = self._crt(port)
            if offset == _CRT:
                self._index[_CRT] = value
            elif offset == _CRT + 1:
                self._set(_CRT, value)

    def _set(self, bank: int, value: int) -> None:
        if self._index[bank] < len(self._values[bank]):
            self._values[bank][self._index[bank]] = value


class VgaRegisters:
    """Some of the ports from `first` on, or with `bochs` what is behind BAR 2 (implements `Registers`)."""

    def __init__(self, ports: VgaPorts, first: int = 0, *, bochs: int = 0) -> None:
        self._ports = ports
        self._first = first
        self._bochs = bytearray(2 * _BOCHS_COUNT)
        self._is_bochs = bochs != 0
        self._memory = bochs >> 16
        self.reset()

    def reset(self) -> None:
        """See `Registers.reset`."""
        self._bochs[:] = bytes(len(self._bochs))
        self._bochs[:2] = _BOCHS_ID.to_bytes(2, "little")
        self._bochs[2 * _BOCHS_MEMORY :] = self._memory.to_bytes(2, "little")
        self._ports.reset()

    def _port(self, offset: int) -> int:
        if not self._is_bochs:
            return self._first + offset
        if _PORTS <= offset < _PORTS + _PORTS_SIZE:
            return offset - _PORTS + 0x3C0
        raise Unmapped

    def takes(self, offset: int, length: int) -> bool:
        """See `Registers.takes`."""
        return True

    def read(self, offset: int, length: int) -> int:
        """See `Registers.read`."""
        place = offset - _BOCHS
        if self._is_bochs and place >= 0 and place + length <= len(self._bochs):
            return int.from_bytes(self._bochs[place : place + length], "little")
        return int.from_bytes(bytes(self._ports.read(self._port(offset + at)) for at in range(length)), "little")

    def write(self, offset: int, length: int, value: int) -> None:
        """See `Registers.write`."""
        place = offset - _BOCHS
        data = value.to_bytes(length, "little")
        if self._is_bochs and place >= 0 and place + length <= len(self._bochs):
            for at, byte in enumerate(data):
                if 2 <= place + at < 2 * _BOCHS_MEMORY:  # the id and the size of the memory stay
                    self._bochs[place + at] = byte
            return
        for at, byte in enumerate(data):
            self._ports.write(self._port(offset + at), byte)
