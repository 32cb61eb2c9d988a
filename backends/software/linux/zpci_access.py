"""How Linux reaches the registers of a zPCI function: by its handle, or by addresses (``arch/s390/pci/pci.c``)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.abi import pci_regs as regs
from pyvfio.zpci.handle import FH_ENABLED
from pyvfio_backends.software.hardware.zpci import CONFIG_SPACE, OperandException, Refused, ZpciFunction
from pyvfio_backends.software.linux.pci_device import ROM
from pyvfio_backends.software.linux.pci_host import BarMemory, PciSysdata
from pyvfio_backends.software.linux.resource import Resource, ResourceFlag
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.pci.config import ConfigSpace
    from pyvfio_backends.software.linux.zpci_host import ZpciHost

__all__ = ["ZpciAccess"]

_IOMAP_BASE = 0x4000000000000000
_IOMAP_SHIFT = 48


class ZpciAccess(PciSysdata):
    """The part of `ZpciDev` that loads and stores.

    `function` is the hardware, `entries` has the entry of each BAR in Linux's table of them.
    """

    host: ZpciHost
    function: ZpciFunction
    entries: dict[int, int]
    no_vf_scan = True

    @property
    def use_mio(self) -> bool:
        """Whether BARs are reached by their addresses (PCI memory I/O instructions), not by handle."""
        return self.host.mio and self.function.facts.mio_capable

    def bar_address(self, index: int) -> int:
        """Where a BAR is in Linux's address space: the machine's address of it (write-through), else one entry of
        Linux's own table per BAR (``ZPCI_ADDR``).
        """
        if self.use_mio:
            return self.function.mio[index]
        return _IOMAP_BASE | self.entries[index] << _IOMAP_SHIFT

    # accesses (struct pci_ops: zpci_cfg_load, zpci_cfg_store)

    @property
    def config(self) -> ConfigSpace:
        """See `PciSysdata.config`."""
        return self.function.config

    def config_read(self, where: int, size: int) -> int:
        """See `PciSysdata.config_read`.

        Raise OSError EIO when the function refuses, ENODEV when it is not enabled, ENXIO for what the instruction
        rejects.
        """
        function = self.function
        if not function.fh & FH_ENABLED:
            raise fail(errno.ENODEV)
        try:
            value = function.load(CONFIG_SPACE, where, size)
        except Refused:
            raise fail(errno.EIO) from None
        except OperandException:
            raise fail(errno.ENXIO) from None
        function.counts.loads += 1
        return value

    def config_write(self, where: int, size: int, value: int) -> None:
        """See `PciSysdata.config_write`.  Errors as `config_read`."""
        function = self.function
        if not function.fh & FH_ENABLED:
            raise fail(errno.ENODEV)
        try:
            function.store(CONFIG_SPACE, where, size, value)
        except Refused:
            raise fail(errno.EIO) from None
        except OperandException:
            raise fail(errno.ENXIO) from None
        function.counts.stores += 1

    def peek(self, position: int, count: int) -> bytes | None:
        """See `PciSysdata.peek`."""
        function, end = self.function, position + count
        first, last = function.config.live
        if not function.usable or (position < last and end > first):
            return None
        function.counts.loads += (end + 3) // 4 - position // 4
        return bytes(function.config.data[position:end])

    def map_resources(self, resources: list[Resource]) -> None:
        """See `PciSysdata.map_resources` (``zpci_map_resources``): a ROM has no address."""
        for index, bar in self.function.bars.items():
            if bar.is_io:
                continue  # s390 has no I/O space
            flags = ResourceFlag.MEM | ResourceFlag.SIZEALIGN | bar.flags & 0xF
            if bar.flags & regs.PCI_BASE_ADDRESS_MEM_PREFETCH:
                flags |= ResourceFlag.PREFETCH
            if bar.flags & regs.PCI_BASE_ADDRESS_MEM_TYPE_64:
                flags |= ResourceFlag.MEM_64
            start = self.bar_address(index)
            resources[index] = Resource(start, start + bar.size - 1, flags)
        if self.function.rom_size:
            flags = ResourceFlag.MEM | ResourceFlag.PREFETCH | ResourceFlag.READONLY | ResourceFlag.SIZEALIGN
            resources[ROM] = Resource(0, self.function.rom_size - 1, flags)

    def bar_read(self, bar: int, offset: int, size: int) -> int:
        """See `PciSysdata.bar_read` (``zpci_read``)."""
        try:
            value = self.function.load(bar, offset, size)
        except (Refused, OperandException):
            return (1 << 8 * size) - 1
        self.function.counts.loads += 1
        return value

    def bar_write(self, bar: int, offset: int, size: int, value: int) -> None:
        """See `PciSysdata.bar_write` (``zpci_write``)."""
        try:
            self.function.store(bar, offset, size, value)
        except (Refused, OperandException):
            return
        self.function.counts.stores += 1

    def bar_memory(self, bar: int) -> BarMemory | None:
        """See `PciSysdata.bar_memory`."""
        return self.function.bars[bar].memory
