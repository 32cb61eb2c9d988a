"""The registers of an NVMe controller that nobody starts: what it is can be read, what it should do is not modelled.

::

    00 CAP (8)   08 VS   0c INTMS   10 INTMC   14 CC   1c CSTS   24 AQA   28 ASQ (8)   30 ACQ (8)   1000 doorbells

Source: NVM Express base specification 1.4, chapter 3.1; ``include/linux/nvme.h``.  Limits are those of QEMU's device,
whose ids the function has.
"""

from __future__ import annotations

from typing import Final

from pyvfio.abi import pci_regs as regs
from pyvfio.errors import NotModelled
from pyvfio_backends.software.hardware.devices.pci_kinds import BarShape, MsixShape, PciKind
from pyvfio_backends.software.hardware.pci_config import Identity
from pyvfio_backends.software.hardware.zpci.bar import Unmapped

__all__ = ["NVME", "NvmeRegisters"]

NVME: Final = PciKind(
    "NVMe controllers",
    Identity(0x1B36, 0x0010, 0x1AF4, 0x1100, 0x010802, 2),
    (BarShape(0, 14, regs.PCI_BASE_ADDRESS_MEM_TYPE_64),),
    0x0B,
    MsixShape(65, 0, 0x2000, 0x3000),
)
"""A solid state disk with QEMU's ids, of the function type that IBM Z has for it."""

_CAP, _VS, _INTMS, _INTMC, _CC, _CSTS, _AQA, _ASQ, _ACQ = 0x00, 0x08, 0x0C, 0x10, 0x14, 0x1C, 0x24, 0x28, 0x30
_DOORBELLS: Final = 0x1000
_MOST_ENTRIES, _CONTIGUOUS, _TIMEOUT, _NVM_COMMANDS, _LARGEST_PAGE = 0x7FF, 1 << 16, 0xF << 24, 1 << 37, 4 << 52
_CAPABILITIES: Final = _MOST_ENTRIES | _CONTIGUOUS | _TIMEOUT | _NVM_COMMANDS | _LARGEST_PAGE
_VERSION: Final = 0x00010400
_ENABLE, _SHUTDOWN = 0x0001, 0xC000
_WRITABLE: Final = {_AQA: 0x0FFF0FFF, _ASQ: (1 << 64) - 1 & ~0xFFF, _ACQ: (1 << 64) - 1 & ~0xFFF, _CC: 0x00FFFFF0}
_WIDE: Final = (_CAP, _ASQ, _ACQ)


class NvmeRegisters:
    """Implements `Registers`.  Accesses are of 4 bytes, or of 8 where a register has them."""

    def __init__(self) -> None:
        self._values: dict[int, int] = {}
        self.reset()

    def reset(self) -> None:
        """See `Registers.reset`."""
        self._values = {_CAP: _CAPABILITIES, _VS: _VERSION, _INTMS: 0, _CC: 0, _AQA: 0, _ASQ: 0, _ACQ: 0}

    def _place(self, offset: int, length: int) -> tuple[int, int]:
        """The register of an access, and the bits to shift its value by."""
        if length == 8 and offset in _WIDE:
            return offset, 0
        if length != 4 or offset % 4:
            raise Unmapped
        if offset - 4 in _WIDE:
            return offset - 4, 32
        return offset, 0

    def read(self, offset: int, length: int) -> int:
        """See `Registers.read`; what is reserved, and doorbells, are zeros."""
        register, shift = self._place(offset, length)
        value = self._values.get(_INTMS if register == _INTMC else register, 0)
        return value >> shift & (1 << 8 * length) - 1

    def takes(self, offset: int, length: int) -> bool:
        """See `Registers.takes`."""
        try:
            self._place(offset, length)
        except Unmapped:
            return False
        return True

    def write(self, offset: int, length: int, value: int) -> None:
        """See `Registers.write`.  Raise `NotModelled` for what starts or stops the controller."""
        register, shift = self._place(offset, length)
        if register >= _DOORBELLS or (register == _CC and value & (_ENABLE | _SHUTDOWN)):
            raise NotModelled("the commands of NVMe controllers")
        if register == _INTMS:
            self._values[_INTMS] |= value
        elif register == _INTMC:
            self._values[_INTMS] &= ~value
        elif register in _WRITABLE:
            mask = _WRITABLE[register] & (1 << 8 * length) - 1 << shift
            self._values[register] = self._values[register] & ~mask | value << shift & mask
