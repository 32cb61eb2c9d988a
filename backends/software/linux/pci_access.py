"""How Linux's PCI core and its drivers reach a function: configuration space, base addresses, capabilities, command.

A function that is lost is not touched any more: what the kernel itself reads of it is all ones.
"""

from __future__ import annotations

import errno
import mmap
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, cast

from pyvfio.abi import pci_regs as regs
from pyvfio.errors import NotModelled
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.vfs import fail
from pyvfio_backends.software.register_mapping import RegisterMapping

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci import PciBus
    from pyvfio_backends.software.linux.pci_host import PciSysdata

__all__ = ["ErrorState", "PciAccess"]

_ALL_ONES = 0xFFFFFFFF
_NEXT_SHIFT, _NEXT_MASK = 20, 0xFFC
_LEAST_CAPABILITY = 8
_INTX_DISABLE = regs.PCI_COMMAND_INTX_DISABLE


class ErrorState(Enum):
    """``pci_channel_state_t``: works, kept from doing more, lost."""

    NORMAL = "normal"
    FROZEN = "frozen"
    LOST = "permanent failure"


class PciAccess(Device):
    """The accesses to a function; `sysdata` is what the architecture has behind it.

    `error_state` is what an error has left of it, `config_size` how much configuration space it has, and `express`
    where its PCI Express capability is, 0 without one.
    """

    config_size = regs.PCI_CFG_SPACE_SIZE
    express = 0

    def __init__(self, sysdata: PciSysdata, name: str, parent: Device, bus: PciBus) -> None:
        super().__init__(bus.kernel, name, parent, bus=bus)
        self.sysdata = sysdata
        self.error_state = ErrorState.NORMAL

    @property
    def disconnected(self) -> bool:
        """Whether it is lost (``pci_dev_is_disconnected``)."""
        return self.error_state is ErrorState.LOST

    def load_config(self, offset: int, length: int) -> int:
        """Read configuration space for a program, also of a function that is lost (``pci_user_read_config_dword``).

        Raise OSError as `PciSysdata.config_read`.
        """
        return self.sysdata.config_read(offset, length)

    def store_config(self, offset: int, length: int, value: int) -> None:
        """Write configuration space for a program.  Errors as `load_config`."""
        self.sysdata.config_write(offset, length, value)

    def config_at_once(self, first: int, end: int) -> bytes | None:
        """Bytes as `load_config` of each word would read them, or None: the function does not answer, or some of the
        bytes only exist when they are looked at.
        """
        return None if self.disconnected else self.sysdata.peek(first, end - first)

    def read_config(self, offset: int, length: int) -> int:
        """Read configuration space for the kernel itself: all ones when that fails, or the function is lost."""
        try:
            if not self.disconnected:
                return self.load_config(offset, length)
            return (1 << 8 * length) - 1
        except OSError:
            return (1 << 8 * length) - 1

    def write_config(self, offset: int, length: int, value: int) -> None:
        """Write configuration space for the kernel itself: nothing happens when that fails, or it is lost."""
        try:
            if not self.disconnected:
                self.store_config(offset, length, value)
        except OSError:
            return

    def load_bar(self, bar: int, offset: int, length: int) -> int:
        """Read a BAR: all ones when nobody answers (``ioread32`` and the like)."""
        return self.sysdata.bar_read(bar, offset, length)

    def store_bar(self, bar: int, offset: int, length: int, value: int) -> None:
        """Write a BAR: nothing happens when nobody answers."""
        self.sysdata.bar_write(bar, offset, length, value)

    def map_bar(
        self, bar: int, length: int, flags: int, prot: int, offset: int, allowed: Callable[[], bool] = lambda: True
    ) -> mmap.mmap:
        """Map a BAR into a program, once it was found to be allowed.

        Memory is real memory.  Registers are reached by the mapping's items alone (`RegisterMapping`), while it is
        `allowed`: loads and stores of a program's memory reach no device here.  Raise `NotModelled` for those of IBM Z,
        where they would not, either: it takes PCI instructions, or the system calls that make them.
        """
        memory = self.sysdata.bar_memory(bar)
        if memory is not None:
            return memory.map(length, flags, prot, offset)
        if not self.sysdata.maps_registers:
            raise NotModelled("a mapping of the registers of a PCI function", self.name)

        def load(at: int, size: int) -> int:
            with self.kernel.lock:
                if not allowed():
                    raise fail(errno.EIO)  # a program would get SIGBUS
                value = self.load_bar(bar, offset + at, size)
                self.kernel.clock.settle()
                return value

        def store(at: int, size: int, value: int) -> None:
            with self.kernel.lock:
                if not allowed():
                    raise fail(errno.EIO)
                self.store_bar(bar, offset + at, size, value)
                self.kernel.clock.settle()

        readable, writable = bool(prot & mmap.PROT_READ), bool(prot & mmap.PROT_WRITE)
        return cast("mmap.mmap", RegisterMapping(length, load, store, readable=readable, writable=writable))

    # capabilities

    def find_capability(self, number: int) -> int:
        """Where the capability with this id is, 0 when there is none (``pci_find_capability``)."""
        data = self.sysdata.config.data
        if not data[regs.PCI_STATUS] & regs.PCI_STATUS_CAP_LIST:
            return 0
        at = data[regs.PCI_CAPABILITY_LIST]
        for _ in range(len(data) // 4):
            if at < regs.PCI_STD_HEADER_SIZEOF or data[at] == number:
                break
            at = data[at + regs.PCI_CAP_LIST_NEXT]
        return at if at >= regs.PCI_STD_HEADER_SIZEOF and data[at] == number else 0

    def size_of_config(self) -> int:
        """4 KiB for a PCI Express function that answers beyond the first 256 bytes (``pci_cfg_space_size``)."""
        if not self.express or self.read_config(regs.PCI_CFG_SPACE_SIZE, 4) == _ALL_ONES:
            return regs.PCI_CFG_SPACE_SIZE
        return regs.PCI_CFG_SPACE_EXP_SIZE

    def find_extended_capability(self, number: int) -> int:
        """Where the extended capability with this id is, 0 when there is none (``pci_find_ext_capability``).

        As many are looked at as there is room for: the chain of a function that is gone, all ones, leads to itself.
        """
        if self.config_size <= regs.PCI_CFG_SPACE_SIZE:
            return 0
        at = regs.PCI_CFG_SPACE_SIZE
        for _ in range((self.config_size - at) // _LEAST_CAPABILITY):
            header = self.read_config(at, 4) if at >= regs.PCI_CFG_SPACE_SIZE else 0
            if not header:
                break
            if header & 0xFFFF == number:
                return at
            at = header >> _NEXT_SHIFT & _NEXT_MASK
        return 0

    # the command register

    @property
    def command(self) -> int:
        """The command register."""
        return self.read_config(regs.PCI_COMMAND, 2)

    def set_command(self, clear: int, set_: int) -> None:
        """Change bits of the command register, if that changes anything."""
        old = self.command
        new = old & ~clear | set_
        if new != old:
            self.write_config(regs.PCI_COMMAND, 2, new)

    def set_master(self, on: bool) -> None:
        """Let the device be bus master, or not."""
        bit = regs.PCI_COMMAND_MASTER
        self.set_command(0 if on else bit, bit if on else 0)

    def set_intx(self, on: bool) -> None:
        """Permit INTx, or not (``pci_intx``)."""
        self.set_command(_INTX_DISABLE if on else 0, 0 if on else _INTX_DISABLE)

    def check_and_set_intx_mask(self, mask: bool) -> bool:
        """Mask INTx if it is pending, unmask it if it is not; whether that was so (``pci_check_and_mask_intx``)."""
        if bool(self.read_config(regs.PCI_STATUS, 2) & regs.PCI_STATUS_INTERRUPT) is not mask:
            return False
        self.set_intx(not mask)
        return True

    def intx_can_be_masked(self) -> bool:
        """Whether the INTx disable bit can be changed (``pci_intx_mask_supported``)."""
        old = self.command
        self.write_config(regs.PCI_COMMAND, 2, old ^ _INTX_DISABLE)
        new = self.command
        self.write_config(regs.PCI_COMMAND, 2, old)
        return bool((new ^ old) & _INTX_DISABLE)
