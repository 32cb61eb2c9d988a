"""A userspace driver for the bell: a complete small example of DMA and MSI-X with pyvfio.

The registers are documented in `pyvfio.pci.bell`.  ::

    with pyvfio.open_device(host, "0060:00:00.0") as device, Bell(device) as bell:
        with device.space.buffer(8192) as memory:
            bell.fill(memory.iova, 0x55, 100)
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, Self

from pyvfio.abi.pci_regs import PCI_COMMAND, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY
from pyvfio.abi.vfio import PciIrq
from pyvfio.errors import KernelRefused, Timeout, WrongBus
from pyvfio.pci import bell as regs
from pyvfio.pci.bell import BellCommand, BellStatus

if TYPE_CHECKING:
    from pyvfio.vfio import Device

__all__ = ["Bell", "BellFailed"]

_ONES: Final = 0xFFFFFFFF


class BellFailed(KernelRefused):
    """The bell says that a command failed; `status` are its bits and `fault` the IOVA where DMA failed.

    On IBM Z a function that uses an address which was not mapped is lost until it is recovered: `lost` says so, and
    what the bell would tell is unknown.
    """

    def __init__(self, name: str, status: BellStatus, fault: int, *, lost: bool = False) -> None:
        cause = f"status {status!r}" + (f", DMA failed at {fault:#x}" if fault else "")
        next_step = "map the addresses for DMA first"
        if lost:
            cause = "it does not answer any more, as after DMA to an address that is not mapped"
            next_step = f"pyvfio zpci reset {name} when it is closed; map the addresses for DMA first"
        super().__init__("ring the bell", name, cause=cause, next_step=next_step)
        self.status = status
        self.fault = fault
        self.lost = lost


class Bell:
    """The driver of one bell over an open `device`: bus mastering on, vector 0 enabled; both off again at `close`.

    Raise `WrongBus` when the function is not a bell.
    """

    def __init__(self, device: Device, *, vector: int = 0) -> None:
        identity = device.config.read_u32(0)
        if identity != regs.DEVICE_ID << 16 | regs.VENDOR_ID:
            raise WrongBus(
                "drive the bell", device.name, cause=f"the function is {identity & 0xFFFF:04x}:{identity >> 16:04x}"
            )
        self.device = device
        self.bar = device.bar(regs.BAR)
        self.irq = device.irq(PciIrq.MSIX)
        self._vector = vector
        self._command = device.config.read_u16(PCI_COMMAND)
        device.config.write_u16(PCI_COMMAND, self._command | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER)
        self.irq.enable(vector + 1)
        self.bar.write_u32(regs.VECTOR, vector)

    def copy(self, target: int, source: int, count: int, *, timeout: float = 5.0) -> int:
        """Let the device copy `count` bytes from IOVA `source` to IOVA `target`; the interrupts that came.

        Raise `BellFailed` or `Timeout`.
        """
        self.bar.write_u64(regs.SOURCE, source)
        self.bar.write_u64(regs.TARGET, target)
        return self._do(BellCommand.COPY, count, timeout)

    def fill(self, target: int, byte: int, count: int, *, timeout: float = 5.0) -> None:
        """Let the device fill memory with one byte."""
        self.bar.write_u64(regs.TARGET, target)
        self.bar.write_u32(regs.PATTERN, byte)
        self._do(BellCommand.FILL, count, timeout)

    def check(self, source: int, count: int, *, timeout: float = 5.0) -> int:
        """Let the device read memory; its CRC-32 (as `binascii.crc32`)."""
        self.bar.write_u64(regs.SOURCE, source)
        self._do(BellCommand.CHECK, count, timeout)
        return self.bar.read_u32(regs.PATTERN)

    def _do(self, command: BellCommand, count: int, timeout: float) -> int:
        self.bar.write_u32(regs.COUNT, count)
        self.bar.write_u32(regs.COMMAND, command)
        self._status()  # no interrupt comes from a function that is lost
        try:
            interrupts = self.irq.wait(timeout, self._vector)
        except Timeout:
            self._status()
            raise
        status = self._status()
        self.bar.write_u32(regs.STATUS, status)
        if status & BellStatus.ERROR:
            raise BellFailed(self.device.name, status, self.bar.read_u64(regs.FAULT))
        return interrupts

    def _status(self) -> BellStatus:
        """The status.  Raise `BellFailed` when the function is lost."""
        status = self.bar.read_u32(regs.STATUS)
        if status == _ONES:
            raise BellFailed(self.device.name, BellStatus.ERROR, 0, lost=True)
        return BellStatus(status)

    def close(self) -> None:
        """Interrupt off, command register as it was, unless the function is lost."""
        self.irq.disable()
        with contextlib.suppress(KernelRefused):
            self.device.config.write_u16(PCI_COMMAND, self._command)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
