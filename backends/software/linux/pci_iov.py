"""SR-IOV as Linux's PCI core keeps it: counting, enabling and taking away virtual functions, and its attributes.

The model is ``drivers/pci/iov.c`` (6.12) with ``arch/s390/pci/pci_iov.c``.  Of PCI Express the core makes the virtual
functions itself (`PciSysdata.add_virtual`), and the ``change`` event of the physical function comes last.  On s390 it
does not look for them (``no_vf_scan``): each comes by an event of the machine when the write to ``sriov_numvfs`` is
over, on the bus of its physical function, and is linked then.  So the ``change`` event is the first; and what a virtual
function's files are was decided before Linux knew that it is one: it has no ``sriov_vf_msix_count``.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.kstrtox import kstrtobool, kstrtoul
from pyvfio_backends.software.linux.pci_driver import PciDriver
from pyvfio_backends.software.linux.resource import ResourceFlag
from pyvfio_backends.software.linux.vfs import Attribute, Node, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = ["FIRST_IOV", "PciSriov"]

FIRST_IOV = 7
"""Where the resources of virtual functions begin (``PCI_IOV_RESOURCES``)."""

_U16 = 0xFFFF
_PAGE_SHIFT = 12  # the sizes of pages are counted from 4 KiB on
_WORD = 0xFFFFFFFF
_ENABLED = regs.PCI_SRIOV_CTRL_VFE | regs.PCI_SRIOV_CTRL_MSE


class PciSriov:
    """The state of a physical function (``struct pci_sriov``); `at` is where its capability is.

    `autoprobe` says whether drivers are sought for its virtual functions, `num_vfs` how many are enabled.
    """

    def __init__(self, device: PciDevice, at: int) -> None:
        self.device = device
        self.at = at
        self.total = self._read(regs.PCI_SRIOV_TOTAL_VF)
        self.vf_device = self._read(regs.PCI_SRIOV_VF_DID)
        self.autoprobe = True
        self.num_vfs = 0
        self.most = self.total
        """How many the driver lets people have (``driver_max_VFs``)."""
        self._ari = 0
        self._set_page_size()
        self.bar_sizes = [0] * regs.PCI_STD_NUM_BARS
        """What each virtual function gets of a base address, by its number."""
        self._set_number(0)

    def _read(self, offset: int) -> int:
        return self.device.read_config(self.at + offset, 2)

    def _set_number(self, count: int) -> None:
        self.device.write_config(self.at + regs.PCI_SRIOV_NUM_VF, 2, count)
        self.offset = self._read(regs.PCI_SRIOV_VF_OFFSET)
        self.stride = self._read(regs.PCI_SRIOV_VF_STRIDE)

    def _set_control(self, clear: int, set_: int) -> None:
        control = self._read(regs.PCI_SRIOV_CTRL) & ~clear | set_
        self.device.write_config(self.at + regs.PCI_SRIOV_CTRL, 2, control)

    def _set_page_size(self) -> None:
        """The smallest that the function and the kernel can have (``sriov_init``)."""
        able = self.device.read_config(self.at + regs.PCI_SRIOV_SUP_PGSIZE, 4)
        able &= -(self.device.kernel.page_size >> _PAGE_SHIFT)
        self.device.write_config(self.at + regs.PCI_SRIOV_SYS_PGSIZE, 4, able & -able)

    def use_ari(self) -> None:
        """Tell the function that the port above forwards to more than eight functions: offset and stride may differ."""
        self._ari = regs.PCI_SRIOV_CTRL_ARI
        self._set_control(0, self._ari)
        self._set_number(self.num_vfs)

    def measure(self) -> None:
        """Take the sizes of base addresses from the device's resources, which are those of all virtual functions."""
        resources = self.device.resources[FIRST_IOV : FIRST_IOV + regs.PCI_STD_NUM_BARS]
        self.bar_sizes = [resource.size // max(1, self.total) for resource in resources]

    def routing_id(self, number: int) -> int:
        """Bus (from bit 8 on) and devfn of virtual function `number`, from 0."""
        sysdata = self.device.sysdata
        return (sysdata.bus_number << 8 | sysdata.devfn) + self.offset + self.stride * number

    # pci_enable_sriov, pci_disable_sriov: for drivers

    def enable(self, count: int) -> None:
        """Enable `count` virtual functions.  Raise OSError EINVAL or ENOMEM."""
        if self.num_vfs or count > self.total:
            raise fail(errno.EINVAL)
        sysdata, resources = self.device.sysdata, self.device.resources
        if not sysdata.no_vf_scan:
            if self._read(regs.PCI_SRIOV_INITIAL_VF) != self.total:
                raise fail(errno.EIO)
            places = resources[FIRST_IOV : FIRST_IOV + regs.PCI_STD_NUM_BARS]
            if any(size and not place.claimed for size, place in zip(self.bar_sizes, places, strict=True)):
                raise fail(errno.ENOMEM)
        if self.routing_id(count - 1) >> 8 > sysdata.last_bus:
            raise fail(errno.ENOMEM)
        sysdata.before_virtual(self.total)
        self._set_number(count)
        self._set_control(0, _ENABLED)
        if not sysdata.no_vf_scan:
            self._add(count)
        self.device.uevent("change")
        self.num_vfs = count

    def _add(self, count: int) -> None:
        """Add the virtual functions; none stays when one cannot be (``sriov_add_vfs``).  Raise OSError."""
        sysdata = self.device.sysdata
        for number in range(count):
            try:
                sysdata.add_virtual(number)
            except OSError:
                for there in reversed(range(number)):
                    sysdata.remove_virtual(there)
                self._set_control(_ENABLED, 0)
                sysdata.after_virtual()
                self._set_number(0)
                raise

    def disable(self) -> None:
        """Take all virtual functions away.  May block until their users let them go."""
        if not self.num_vfs:
            return
        for number in range(self.num_vfs):
            self.device.sysdata.remove_virtual(number)
        self._set_control(_ENABLED, 0)
        self.device.sysdata.after_virtual()
        self.num_vfs = 0
        self._set_number(0)

    def write_bars(self) -> None:
        """Put the addresses that the BARs of virtual functions have into the capability (``sriov_restore_state``)."""
        for index, resource in enumerate(self.device.resources[FIRST_IOV : FIRST_IOV + regs.PCI_STD_NUM_BARS]):
            if not resource.start:
                continue
            register = self.at + regs.PCI_SRIOV_BAR + 4 * index
            start = self.device.sysdata.bus_address(resource.start)
            self.device.write_config(register, 4, start & _WORD)
            if resource.flags & ResourceFlag.MEM_64:
                self.device.write_config(register + 4, 4, start >> 32)

    def restore(self) -> None:
        """Bring the capability back after a reset (``pci_restore_iov_state``)."""
        if self._read(regs.PCI_SRIOV_CTRL) & regs.PCI_SRIOV_CTRL_VFE:
            return
        self.write_bars()
        self._set_page_size()
        self._set_control(0, self._ari)
        if self.num_vfs:
            self._set_number(self.num_vfs)
            self._set_control(0, _ENABLED)

    def links(self) -> dict[str, str]:
        """``virtfnN`` for each virtual function that is there."""
        return {f"virtfn{number}": device.devpath for number, device in self.device.sysdata.virtfns().items()}

    # attributes

    def attributes(self) -> dict[str, Node]:
        """The files of a physical function."""
        return {
            "sriov_drivers_autoprobe": Attribute(lambda: f"{int(self.autoprobe)}\n", self._store_autoprobe),
            "sriov_numvfs": Attribute(self._show_number, self._store_number),
            "sriov_offset": Attribute(lambda: f"{self.offset}\n"),
            "sriov_stride": Attribute(lambda: f"{self.stride}\n"),
            "sriov_totalvfs": Attribute(lambda: f"{self.most}\n"),
            "sriov_vf_device": Attribute(lambda: f"{self.vf_device:x}\n"),
            "sriov_vf_total_msix": Attribute(lambda: "0\n"),  # no driver here hands vectors out
        }

    def _store_autoprobe(self, data: bytes) -> None:
        self.autoprobe = kstrtobool(data)

    def _show_number(self) -> str:
        self.device.pci_bus.wait_unlocked(self.device)
        return f"{self.num_vfs}\n"

    def _store_number(self, data: bytes) -> None:
        try:
            count = kstrtoul(data, 0)
        except OSError:
            raise fail(errno.EINVAL) from None
        if count > _U16:
            raise fail(errno.EINVAL)
        if count > self.most:
            raise fail(errno.ERANGE)
        device = self.device
        with device.pci_bus.hold(device):
            if count == self.num_vfs:
                return
            driver = device.driver
            if not isinstance(driver, PciDriver) or not driver.has_sriov:
                raise fail(errno.ENOENT)
            if count and self.num_vfs:
                raise fail(errno.EBUSY)
            driver.sriov_configure(device, count)
