"""The registers behind a BAR as a driver uses them: 32 bits at a time, by a mapping or by ``pread`` and ``pwrite``."""

from __future__ import annotations

from typing import Final

from pyvfio.abi import pci_regs as regs
from pyvfio.errors import Misuse, NotAvailable
from pyvfio.vfio.device import Device

__all__ = ["ACCESSES", "GONE", "Registers", "require_ids", "set_bus_master"]

ACCESSES: Final = ("auto", "mmap", "pread")
GONE: Final = 0xFFFFFFFF
"""What a register reads as when the function does not answer."""


class Registers:
    """BAR `bar` of `device`.  `access` is ``mmap``, ``pread``, or ``auto``: a mapping where the kernel offers one.

    Raise `Misuse` for another access or when there is no such BAR, `NotAvailable` for a mapping that is not offered.
    """

    def __init__(self, device: Device, bar: int, access: str = "auto") -> None:
        if access not in ACCESSES:
            cause = f"registers are accessed by {', '.join(ACCESSES)}, not {access!r}"
            raise Misuse("use registers", device.name, cause=cause)
        self._region = device.bar(bar)
        if not self._region.size:
            raise Misuse("use registers", device.name, cause=f"the function has no BAR {bar}")
        self.access = "pread" if access == "pread" else self._region.access
        if access == "mmap" and self.access != "mmap":
            cause = self._region.access_note or "the kernel offers no mapping of this BAR"
            raise NotAvailable("map registers", device.name, cause=cause, next_step="use access='pread'")

    @property
    def size(self) -> int:
        """In bytes."""
        return self._region.size

    def read(self, offset: int) -> int:
        """The 32 bits at `offset`."""
        if self.access == "mmap":
            return self._region.read_u32(offset)
        return int.from_bytes(self._region.read(offset, 4), "little")

    def write(self, offset: int, value: int) -> None:
        """Write 32 bits at `offset`."""
        if self.access == "mmap":
            self._region.write_u32(offset, value)
        else:
            self._region.write(offset, value.to_bytes(4, "little"))

    def read_pair(self, offset: int) -> int:
        """64 bits as two accesses, the lower half first."""
        low = self.read(offset)
        return low | self.read(offset + 4) << 32

    def write_pair(self, offset: int, value: int) -> None:
        """Write 64 bits as two accesses, the lower half first."""
        self.write(offset, value & 0xFFFFFFFF)
        self.write(offset + 4, value >> 32)


def require_ids(
    device: Device, what: str, *, ids: tuple[int, int] | None = None, class_code: int | None = None
) -> None:
    """Raise `Misuse` unless a function has these ids (vendor, device), or this class."""
    config = device.config
    found = (config.vendor_id, config.device_id)
    if (ids is None or found == ids) and (class_code is None or config.class_code == class_code):
        return
    raise Misuse(
        f"drive {what}",
        device.name,
        cause=f"it is {found[0]:04x}:{found[1]:04x} of class {config.class_code:06x}, no {what}",
        next_step="pyvfio list shows what the functions are",
    )


def set_bus_master(device: Device, on: bool) -> None:
    """Let a function read and write memory by itself (DMA, messages), or stop it."""
    command = int(device.config.command)
    wanted = command | regs.PCI_COMMAND_MASTER if on else command & ~regs.PCI_COMMAND_MASTER
    if wanted != command:
        device.config.command = regs.Command(wanted)
