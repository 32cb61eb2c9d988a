"""Vital product data: what is behind the window of the capability, and how to make some.

::

    82 length (16) | name                              a string
    90 length (16) | key (2 letters) length (8) value  read-only fields, the last of them RV: a checksum
    78                                                 the end

Software writes an address (a multiple of four) with the flag clear and waits until the hardware sets it: the data
register has four bytes.  It writes data, then the address with the flag set, and waits until the flag is clear.
The capability is drawn in `capabilities`.  Source: PCI Local Bus Specification, 3.0, appendix I.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyvfio.abi import pci_bridge_regs as bridge
from pyvfio_backends.software.hardware.pcie.capabilities import VitalProductData
from pyvfio_backends.software.hardware.pcie.function import Function

__all__ = ["ProductData", "product_data"]

_NAME, _READ_ONLY, _END = 0x82, 0x90, 0x78
_STEP = 4


def product_data(name: str, fields: Mapping[str, str]) -> bytes:
    """Vital product data with a name and read-only fields (by their keys of two letters, as ``PN`` or ``SN``)."""
    text = name.encode("ascii")
    body = b"".join(key.encode("ascii") + bytes([len(value)]) + value.encode("ascii") for key, value in fields.items())
    length = len(body) + 4  # and RV, with the checksum alone
    data = bytes([_NAME]) + len(text).to_bytes(2, "little") + text
    data += bytes([_READ_ONLY]) + length.to_bytes(2, "little") + body + b"RV\x01"
    return data + bytes([-sum(data) & 0xFF, _END])


class ProductData:
    """Gives `function` the capability with `data` behind it; it is written too unless it is `read_only`."""

    def __init__(self, function: Function, data: bytes, *, read_only: bool = True, at: int | None = None) -> None:
        self.data = bytearray(data)
        self.read_only = read_only
        self.config = function.config
        self.offset = function.add(VitalProductData(), at)
        self.config.watch(self.offset + bridge.PCI_VPD_ADDR, 2, self._addressed)

    def _addressed(self, before: int, ones: int) -> None:
        config, register, window = self.config, self.offset + bridge.PCI_VPD_ADDR, self.offset + bridge.PCI_VPD_DATA
        value = config.read(register, 2)
        place = value & bridge.PCI_VPD_ADDR_MASK & -_STEP
        if value & bridge.PCI_VPD_ADDR_F:
            if not self.read_only and place + _STEP <= len(self.data):
                self.data[place : place + _STEP] = config.read(window, _STEP).to_bytes(_STEP, "little")
        else:
            config.put(window, _STEP, int.from_bytes(self.data[place : place + _STEP], "little"))
        config.put(register, 2, value ^ bridge.PCI_VPD_ADDR_F)
