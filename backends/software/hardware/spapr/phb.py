"""A host bridge of a guest: a root bus without ports, and the windows that lead to it.

::

    processor                                      bus
    0x200000000000 + n * 64 KiB   64 KiB   ports   0
    0x200080000000 + n * 2 GiB    2 GiB    memory  2 GiB
    0x210000000000 + n * 1 TiB    1 TiB    memory  the same address

Source: ``hw/ppc/spapr.c`` (`spapr_phb_placement`), ``include/hw/pci-host/spapr.h`` of QEMU 10.0.
"""

from __future__ import annotations

from typing import Final

from pyvfio_backends.software.hardware.dma import DmaSpace
from pyvfio_backends.software.hardware.pcie.host_bridges import HostBridge
from pyvfio_backends.software.hardware.pcie.request import Completion, Outcome, Request, Space
from pyvfio_backends.software.hardware.spapr.dma import DmaWindows

__all__ = ["MESSAGES", "LogicalPhb"]

MESSAGES: Final = range(0x40000000000, 0x40000010000)
"""Where functions send their messages."""
_BUID: Final = 0x800000020000000
_IO, _IO_SIZE = 0x200000000000, 1 << 16
_M32, _M32_SIZE, _M32_BUS = 0x200080000000, 1 << 31, 1 << 31
_M64, _M64_SIZE = 0x210000000000, 1 << 40


def _window(base: int, size: int, number: int) -> range:
    return range(base + number * size, base + (number + 1) * size)


class LogicalPhb(HostBridge):
    """The bridge of segment `segment`, with `memory` by the guest's real addresses.

    `io`, `m32` and `m64` are its windows, by the processor's addresses.  Interrupt messages go to `dma.deliver`.
    """

    def __init__(self, memory: DmaSpace, *, segment: int = 0) -> None:
        self.number = segment
        self.dma = DmaWindows(segment, memory)
        super().__init__(self.dma, peer_to_peer=False)
        self.message_range = MESSAGES
        self.io = _window(_IO, _IO_SIZE, segment)
        self.m32 = _window(_M32, _M32_SIZE, segment)
        self.m64 = _window(_M64, _M64_SIZE, segment)
        self.root_bus = self.add_root_bus(segment)
        self.root_bus.has_port_0 = True  # ``pci_allow_0_address`` of the machine

    @property
    def buid(self) -> int:
        """The number that the hypervisor knows it by (bus unit id)."""
        return _BUID + self.number

    @property
    def m32_bus(self) -> range:
        """The 32-bit window by addresses on the bus."""
        return range(_M32_BUS, _M32_BUS + _M32_SIZE)

    def to_bus(self, address: int) -> tuple[Space, int] | None:
        """What an address of the processor is on the bus; None: no window has it."""
        if address in self.m64:
            return Space.MEMORY, address
        if address in self.m32:
            return Space.MEMORY, address - self.m32.start + _M32_BUS
        if address in self.io:
            return Space.IO, address - self.io.start
        return None

    def from_bus(self, address: int) -> int | None:
        """The processor's address of one of memory on the bus; None: no window reaches it."""
        if address in self.m64:
            return address
        return address - _M32_BUS + self.m32.start if address in self.m32_bus else None

    def reaches(self, space: Space, address: int) -> bool:
        """See `HostBridge.reaches`: ports are memory to the processor."""
        return space is Space.MEMORY and self.to_bus(address) is not None

    def transfer(self, request: Request) -> Completion:
        """See `RootComplex.transfer`; the address is the processor's."""
        place = self.to_bus(request.address) if request.space is Space.MEMORY else None
        if place is None:
            return Completion(Outcome.UNSUPPORTED)
        kept = request.space, request.address
        request.space, request.address = place
        try:
            return super().transfer(request)
        finally:
            request.space, request.address = kept
