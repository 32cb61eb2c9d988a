"""Drivers of the host that hold functions of PCI: what they put into sysfs and switch on, not what they do.

=========  =====================================================================================================
`e1000e`   Ethernet 82574L: a network interface, a clock (PTP), three vectors of MSI-X
`igb`      Ethernet 82576: the same with its queues; configures its virtual functions
`nvme`     NVM Express: a controller, MSI-X for its admin queue and each processor's queue
`pci-stub` holds what people tell it to, and leaves it alone
=========  =====================================================================================================

They match as the drivers of Linux 6.12 do (``drivers/net/ethernet/intel``, ``drivers/nvme/host/pci.c``,
``drivers/pci/pci-stub.c``).  A driver that is given another function by ``driver_override`` refuses it: Linux's would
read registers that are not there, and crash.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.net import Interface, add_interface, remove_interface
from pyvfio_backends.software.linux.pci_device import ErrorState, PciDevice, SavedState
from pyvfio_backends.software.linux.pci_driver import PciDriver, PciId, Recovery
from pyvfio_backends.software.linux.vfs import Attribute, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci import PciBus

__all__ = ["HostPciDriver", "StubDriver", "host_pci_drivers"]

_INTEL, _E1000E, _IGB = 0x8086, 0x10D3, 0x10C9
_NVME_CLASS, _CLASS_MASK = 0x010802, 0xFFFFFF
_DMA_BITS = 64
_QUEUES_MOST = 8
_VIRTUAL_MOST = 7  # the eighth has no queues left (igb_probe_vfs)
_MAC = "52:54:00:12:34:{:02x}"
_FIRST_MAC = 0x56


class HostPciDriver(PciDriver):
    """A driver that makes its function a master with MSI-X, and something of a class below it.

    Of errors, it has its function reset and set up again; with `goes_on` only of those for which the link was reset.
    """

    goes_on = True

    def __init__(self, bus: PciBus, name: str, *, module: str = "") -> None:
        super().__init__(bus, name, module=module)
        self._saved: dict[PciDevice, SavedState] = {}

    def probe(self, device: Device) -> None:
        """See `Driver.probe`.  Raise OSError ENODEV for what it is not made for."""
        self._hold(device, quiet=False)

    def boot(self, devices: Sequence[PciDevice]) -> None:
        """Hold those of the devices that it knows, as after boot, without events."""
        for device in devices:
            if device.driver is None and self.bus.match(device, self):
                device.driver = self
                self.devices[device.name] = device
                self._hold(device, quiet=True)

    def _hold(self, device: Device, *, quiet: bool) -> None:
        if not isinstance(device, PciDevice) or not self._made_for(device):
            raise fail(errno.ENODEV)
        device.enable(io=False)
        device.dma_mask_bits = _DMA_BITS
        device.set_master(True)
        names = self.vectors(device)
        if names:
            device.msi.allocate(1, len(names), names)
        self.populate(device, quiet=quiet)
        self._saved[device] = device.save_state()

    # pci_error_handlers

    def error_detected(self, device: PciDevice) -> Recovery:
        """See `PciDriver.error_detected`."""
        if device.error_state is ErrorState.LOST:
            return Recovery.DISCONNECT
        if device.error_state is ErrorState.NORMAL and self.goes_on:
            return Recovery.CAN_RECOVER
        device.disable()
        return Recovery.NEED_RESET

    def slot_reset(self, device: PciDevice) -> Recovery:
        """See `PciDriver.slot_reset`."""
        device.enable(io=False)
        device.restore_state(self._saved[device])
        device.set_master(True)
        return Recovery.RECOVERED

    def resume(self, device: PciDevice) -> None:
        """See `PciDriver.resume`: what it does then is not modelled, but that it is told is."""

    def _made_for(self, device: PciDevice) -> bool:
        ids = device.vendor, device.device_id, device.subsystem_vendor, device.subsystem_device, device.class_code
        return any(entry.matches(*ids) for entry in (*self.table, *self.dynamic))

    def remove(self, device: Device) -> None:
        """See `Driver.remove`."""
        if not isinstance(device, PciDevice):
            return
        if device.sriov is not None:
            device.sriov.disable()
        self.clear(device)
        self._saved.pop(device, None)
        device.msi.driver_left()
        device.disable()

    def vectors(self, device: PciDevice) -> list[str]:
        """What its interrupts are called."""
        return []

    def populate(self, device: PciDevice, *, quiet: bool) -> None:
        """Make what is below the function."""

    def clear(self, device: PciDevice) -> None:
        """Take it away again."""
        for child in reversed(list(device.child_devices())):
            if isinstance(child, Interface):
                remove_interface(child)
            elif child.cls is not None and child.cls.name in ("ptp", "nvme"):
                self.kernel.remove_class_device(child)


class _Ethernet(HostPciDriver):
    """Drivers of Intel's Ethernet controllers."""

    def populate(self, device: PciDevice, *, quiet: bool) -> None:
        interfaces = self.kernel.class_("net").devices
        clocks = self.kernel.class_("ptp")
        number = next(number for number in range(len(clocks.devices) + 1) if f"ptp{number}" not in clocks.devices)
        clock = Device(self.kernel, f"ptp{number}", device, cls=clocks)
        self.kernel.add_class_device(clock, quiet=quiet)
        add_interface(device, _MAC.format((_FIRST_MAC + len(interfaces)) & 0xFF), quiet=quiet)


class _E1000e(_Ethernet):
    table = (PciId(_INTEL, _E1000E),)
    goes_on = False

    def vectors(self, device: PciDevice) -> list[str]:
        return [f"{device.name}-{name}" for name in ("rx-0", "tx-0", "other")]


class _Igb(_Ethernet):
    table = (PciId(_INTEL, _IGB),)
    has_sriov = True

    def populate(self, device: PciDevice, *, quiet: bool) -> None:
        """See `HostPciDriver.populate`."""
        super().populate(device, quiet=quiet)
        if device.sriov is not None:
            device.sriov.most = min(device.sriov.total, _VIRTUAL_MOST)

    def vectors(self, device: PciDevice) -> list[str]:
        queues = min(self.kernel.interrupts.processors, _QUEUES_MOST)
        return [device.name, *(f"{device.name}-TxRx-{number}" for number in range(queues))]

    def sriov_configure(self, device: PciDevice, count: int) -> None:
        """See `PciDriver.sriov_configure`.  Raise OSError EINVAL without SR-IOV."""
        if device.sriov is None:
            raise fail(errno.EINVAL)
        if count:
            device.sriov.enable(count)
        else:
            device.sriov.disable()


class _Nvme(HostPciDriver):
    table = (PciId(class_code=_NVME_CLASS, class_mask=_CLASS_MASK),)

    def vectors(self, device: PciDevice) -> list[str]:
        return [f"nvme{device.name}q{number}" for number in range(1 + self.kernel.interrupts.processors)]

    def populate(self, device: PciDevice, *, quiet: bool) -> None:
        controllers = self.kernel.class_("nvme")
        places = range(len(controllers.devices) + 1)
        number = next(number for number in places if f"nvme{number}" not in controllers.devices)
        self.kernel.add_class_device(Device(self.kernel, f"nvme{number}", device, cls=controllers), quiet=quiet)
        device.driver_files["pools"] = Attribute(partial(_pools, self.kernel.page_size))

    def clear(self, device: PciDevice) -> None:
        super().clear(device)
        device.driver_files.pop("pools", None)


def _pools(page: int) -> str:
    """``pools``: what nvme has taken from its DMA pools, nothing (``mm/dmapool.c``)."""
    sizes = {"prp list 256": 256, "prp list page": page}
    rows = (f"{name:<16} {0:4} {0:4} {size:4} {0:2}\n" for name, size in sizes.items())
    return "poolinfo - 0.1\n" + "".join(rows)


class StubDriver(PciDriver):
    """``pci-stub``, which binds to what it is told to and touches nothing: it leaves DMA to who owns the group."""

    driver_managed_dma = True

    def __init__(self, bus: PciBus) -> None:
        super().__init__(bus, "pci-stub", module="pci_stub")

    def probe(self, device: Device) -> None:
        """See `Driver.probe`."""

    def remove(self, device: Device) -> None:
        """See `Driver.remove`."""


def host_pci_drivers(bus: PciBus) -> list[HostPciDriver]:
    """The drivers, to be registered and booted."""
    return [_E1000e(bus, "e1000e"), _Igb(bus, "igb"), _Nvme(bus, "nvme")]
