"""The module ``aer_inject``: a program makes Linux believe that a function has reported errors.

The module of Linux 6.12 (``drivers/pci/pcie/aer_inject.c``) has the kernel read status registers of its own; here they
are put into those of the function and of its root port, and the port's service is called.  Nothing is detected, so a
message that would be masked is not held back by device control.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi.aer_inject import AER_INJECT, AER_INJECT_MODULE, AER_INJECT_WITHOUT_DOMAIN
from pyvfio.abi.pci_regs import ExpressType
from pyvfio.address import PciAddress
from pyvfio_backends.software.linux.file import File
from pyvfio_backends.software.linux.kernel_log import ERROR, say
from pyvfio_backends.software.linux.misc import add_misc_device
from pyvfio_backends.software.linux.module import Module
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.linux.pcie_recovery import above
from pyvfio_backends.software.linux.pcie_type import express_type
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.pci_aer import PciAer
    from pyvfio_backends.software.linux.pcieport import PortDriver

__all__ = ["load"]

_MINOR = 258
_MODE = 0o600
_WORDS = 4


class _InjectFile(File):
    """An open ``/dev/aer_inject``: each write is one request; offsets do not count."""

    lasting = True
    pwrite_when_read_only = errno.EBADF

    def __init__(self, ports: PortDriver) -> None:
        self._ports = ports

    def place(self, path: str, offset: int | None) -> tuple[str, int]:
        """See `File.place`."""
        return path, 0

    def pwrite(self, data: bytes, offset: int) -> int:
        """See `write`."""
        return self.write(data)

    def write(self, data: bytes) -> int:
        """Inject.  Raise OSError EINVAL (length; all errors are masked), ENODEV (no function, no root port or event
        collector with the service), EPROTONOSUPPORT (one of them has no AER).
        """
        if not AER_INJECT_WITHOUT_DOMAIN <= len(data) <= AER_INJECT.size:
            raise fail(errno.EINVAL)
        fields = AER_INJECT.unpack(data.ljust(AER_INJECT.size, b"\0"))
        bus, slot, function, uncorrectable, correctable, *header, domain = fields
        if domain > 0xFFFF:
            raise fail(errno.ENODEV)
        name = str(PciAddress(domain, bus, slot & 0x1F, function & 7))
        device = self._ports.bus.find(name)
        if not isinstance(device, PciDevice):
            raise fail(errno.ENODEV)
        port = _root_port(device) or device.collector
        if port is None:
            say(device, ERROR, "aer_inject: Neither Root Port nor RCEC found")
            raise fail(errno.ENODEV)
        if device.aer is None or port.aer is None:
            raise fail(errno.EPROTONOSUPPORT)
        _note(device, device.aer, uncorrectable, correctable, header)
        _note_at_root(device, device.aer, port, port.aer, uncorrectable, correctable)
        service = self._ports.errors.get(port)
        if service is None:
            raise fail(errno.ENODEV)
        service.interrupt()
        return len(data)


def _root_port(device: PciDevice) -> PciDevice | None:
    """``pcie_find_root_port``."""
    found: PciDevice | None = device
    while found is not None and express_type(found) != ExpressType.ROOT_PORT:
        found = above(found)
    return found


def _note(device: PciDevice, aer: PciAer, uncorrectable: int, correctable: int, header: list[int]) -> None:
    """Put the errors into the function's registers; EINVAL, with them noted all the same, when all are masked."""
    config = device.sysdata.config
    registers = (
        (extended.PCI_ERR_UNCOR_STATUS, extended.PCI_ERR_UNCOR_MASK, uncorrectable),
        (extended.PCI_ERR_COR_STATUS, extended.PCI_ERR_COR_MASK, correctable),
    )
    for status, _, bits in registers:
        config.put(aer.at + status, 4, config.read(aer.at + status, 4) | bits)
    for word in range(_WORDS):
        config.put(aer.at + extended.PCI_ERR_HEADER_LOG + 4 * word, 4, header[word])
    for _, mask, bits in registers:
        if bits and not bits & ~config.read(aer.at + mask, 4):
            raise fail(errno.EINVAL)


def _note_at_root(
    device: PciDevice, aer: PciAer, port: PciDevice, root: PciAer, uncorrectable: int, correctable: int
) -> None:
    config, rid = port.sysdata.config, device.sysdata.bus_number << 8 | device.devfn
    status = config.read(root.at + extended.PCI_ERR_ROOT_STATUS, 4)
    source = config.read(root.at + extended.PCI_ERR_ROOT_ERR_SRC, 4)
    if correctable:
        several = status & extended.PCI_ERR_ROOT_COR_RCV
        status |= extended.PCI_ERR_ROOT_MULTI_COR_RCV if several else extended.PCI_ERR_ROOT_COR_RCV
        source = source & ~0xFFFF | rid
    if uncorrectable:
        several = status & extended.PCI_ERR_ROOT_UNCOR_RCV
        status |= extended.PCI_ERR_ROOT_MULTI_UNCOR_RCV if several else 0
        if aer.read(extended.PCI_ERR_UNCOR_SEVER) & uncorrectable:
            status |= extended.PCI_ERR_ROOT_FATAL_RCV | (0 if several else extended.PCI_ERR_ROOT_FIRST_FATAL)
        else:
            status |= extended.PCI_ERR_ROOT_NONFATAL_RCV
        status |= extended.PCI_ERR_ROOT_UNCOR_RCV
        source = source & 0xFFFF | rid << 16
    config.put(root.at + extended.PCI_ERR_ROOT_STATUS, 4, status)
    config.put(root.at + extended.PCI_ERR_ROOT_ERR_SRC, 4, source)


def load(kernel: Kernel, ports: PortDriver) -> None:
    """Load the module."""
    kernel.modules.load(Module(AER_INJECT_MODULE))
    add_misc_device(kernel, "aer_inject", _MINOR, "aer_inject", _MODE, lambda path, flags: _InjectFile(ports))
