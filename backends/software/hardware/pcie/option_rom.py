"""An expansion ROM with one image: what firmware and Linux look at, and code that ends at once.

::

    0000  55 AA | length in units of 512 bytes | E9 ...: a jump        0018  where the data structure is
    0040  "PCIR" | vendor | device | ... | length of this, 24 | class | length | code type | 80: the last image

Source: PCI Firmware Specification, 3.3, chapter 5.
"""

from __future__ import annotations

from typing import Final

from pyvfio_backends.software.hardware.pci.config import Identity

__all__ = ["OptionRom"]

_UNIT, _DATA, _DATA_LENGTH = 512, 0x40, 24
_JUMP: Final = b"\xe9\x5d\x00"  # to the return at 0x63
_RETURN: Final = 0x63, 0xCB


class OptionRom:
    """The ROM of a device (implements `Registers`): an image of so many `units`, and zeros up to `size` bytes."""

    def __init__(self, identity: Identity, size: int, units: int) -> None:
        self.size = size
        image = bytearray(units * _UNIT)
        image[:3] = b"\x55\xaa" + bytes([units])
        image[3:6] = _JUMP
        image[0x18:0x1A] = _DATA.to_bytes(2, "little")
        structure = b"PCIR" + identity.vendor.to_bytes(2, "little") + identity.device.to_bytes(2, "little") + bytes(2)
        structure += _DATA_LENGTH.to_bytes(2, "little") + b"\0" + identity.class_code.to_bytes(3, "little")
        structure += units.to_bytes(2, "little") + bytes(2) + b"\0\x80" + bytes(2)
        image[_DATA : _DATA + _DATA_LENGTH] = structure
        image[_RETURN[0]] = _RETURN[1]
        self.image = bytes(image)

    def read(self, offset: int, length: int) -> int:
        """See `Registers.read`."""
        return int.from_bytes(self.image[offset : offset + length], "little")

    def write(self, offset: int, length: int, value: int) -> None:
        """See `Registers.write`: nothing happens."""

    def takes(self, offset: int, length: int) -> bool:
        """See `Registers.takes`."""
        return True

    def reset(self) -> None:
        """See `Registers.reset`."""
