"""``virtio-pci``: the host's driver of virtio functions, which holds them before anybody else does.

It negotiates as ``drivers/virtio/virtio_pci_modern.c`` does, as far as registers remember it, and puts a device on the
virtio bus.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from pyvfio.abi import virtio_pci as abi
from pyvfio_backends.software.hardware.devices.virtio_registers import COMMON, DEVICE, ISR
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.linux.pci_driver import PciDriver, PciId
from pyvfio_backends.software.linux.vfs import fail
from pyvfio_backends.software.linux.virtio import RING_FEATURES, VirtioDevice, VirtioDriver, virtio_bus
from pyvfio_backends.software.linux.virtio_drivers import (
    VIRTIO_BLK,
    VIRTIO_CONSOLE,
    VIRTIO_NET,
    VIRTIO_P9,
    VIRTIO_RNG,
)

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.irq_line import IrqAction, IrqLine
    from pyvfio_backends.software.linux.pci import PciBus

__all__ = ["VirtioPciDriver"]

_VENDOR = 0x1AF4
_ID_BLOCK, _ID_BITS = 0x20, 7
"""Virtio's device ids are 1000 to 107f: these upper bits, and seven more."""
_FIRST_MODERN_ID = 0x1040
_BAR = 4
_MAC_LENGTH, _SECTOR = 6, 512
_WORD = 0xFFFFFFFF
# One interrupt for the configuration and one for each queue, or one for all where there are not as many; other devices
# of this kind have at least one queue.
_QUEUES = {
    VIRTIO_NET: ("input.0", "output.0"),
    VIRTIO_BLK: ("req.0",),
    VIRTIO_CONSOLE: ("virtqueues",),
    VIRTIO_RNG: ("input",),
    VIRTIO_P9: ("requests",),
}
_SOME_QUEUE = ("queue",)
_ACKNOWLEDGE, _DRIVER_OK = 0x01, 0x0F
_RUNS = 0x04
_SR_IOV, _READ_ONLY = 37, 5
# Virtio drivers register in link order (drivers/char, block, net), so their devices get interrupt numbers in it.
_BOOT_ORDER = (VIRTIO_CONSOLE, VIRTIO_RNG, VIRTIO_BLK, VIRTIO_NET)


class VirtioPciDriver(PciDriver):
    """The driver; each device it has makes one `VirtioDevice`."""

    table = (PciId(vendor=_VENDOR),)
    has_sriov = True

    def __init__(self, bus: PciBus) -> None:
        super().__init__(bus, "virtio-pci", module="virtio_pci")
        self.virtio = virtio_bus(bus.kernel)
        self._lines: dict[PciDevice, tuple[IrqLine, IrqAction]] = {}

    def boot(self, devices: Sequence[PciDevice]) -> None:
        """Hold these devices as after boot, without events."""
        children: list[tuple[PciDevice, VirtioDevice]] = []
        for device in devices:
            if device.device_id >> _ID_BITS == _ID_BLOCK and device.vendor == _VENDOR:
                device.driver = self
                self.devices[device.name] = device
                children.append((device, self._start(device)))
        order = {kind: place for place, kind in enumerate(_BOOT_ORDER)}
        for device, child in sorted(children, key=lambda pair: order.get(pair[1].device_id, len(order))):
            self.virtio.add_boot(child)
            self._use(device, child)

    def probe(self, device: Device) -> None:
        """See `Driver.probe`.  Raise OSError ENODEV for an id that virtio does not have."""
        if not isinstance(device, PciDevice) or device.device_id >> _ID_BITS != _ID_BLOCK:
            raise fail(errno.ENODEV)
        child = self._start(device)
        child.start = lambda: self._set_up(device, child)
        self.virtio.add(child)

    def _start(self, device: PciDevice) -> VirtioDevice:
        """Enable the function and ask it who it is."""
        device.enable()
        device.dma_mask_bits = 64
        modern = device.device_id - _FIRST_MODERN_ID
        kind = modern if modern >= 0 else device.subsystem_device
        self._status(device, 0)
        device.set_master(True)
        offered = 0
        for word in range(2):
            device.store_bar(_BAR, COMMON + abi.VIRTIO_PCI_COMMON_DFSELECT, 4, word)
            offered |= device.load_bar(_BAR, COMMON + abi.VIRTIO_PCI_COMMON_DF, 4) << 32 * word
        # VERSION_1 first: without it the configuration is big-endian.
        self._accept(device, offered & sum(1 << bit for bit in RING_FEATURES))
        return VirtioDevice(
            self.virtio,
            device,
            kind,
            _VENDOR,
            [bit for bit in range(64) if offered >> bit & 1],
            options=self._configuration(device, kind, offered),
        )

    def _configuration(self, device: PciDevice, kind: int, offered: int) -> dict[str, object]:
        """What the child's driver reads of the device's own configuration."""
        if kind == VIRTIO_NET:
            address = (device.load_bar(_BAR, DEVICE + place, 1) for place in range(_MAC_LENGTH))
            return {"mac": ":".join(f"{byte:02x}" for byte in address)}
        if kind == VIRTIO_BLK:
            size = device.load_bar(_BAR, DEVICE, 8) * _SECTOR
            return {"size": size, "readonly": bool(offered >> _READ_ONLY & 1)}
        if kind == VIRTIO_P9:
            length = device.load_bar(_BAR, DEVICE, 2)
            tag = bytes(device.load_bar(_BAR, DEVICE + 2 + place, 1) for place in range(length))
            return {"mount_tag": tag.decode(errors="replace")}
        return {}

    def _use(self, device: PciDevice, child: VirtioDevice) -> None:
        if child.driver is not None:
            self._set_up(device, child)

    def _set_up(self, device: PciDevice, child: VirtioDevice) -> None:
        """Accept features and set up interrupts, as the child's driver does."""
        driver = next((d for d in self.virtio.drivers.values() if self.virtio.match(child, d)), None)
        if not isinstance(driver, VirtioDriver):
            return
        accepted = child.offered & (driver.features | RING_FEATURES)
        self._accept(device, sum(1 << bit for bit in accepted))
        names = [f"{child.name}-{name}" for name in ("config", *_QUEUES.get(child.device_id, _SOME_QUEUE))]
        try:
            device.msi.allocate(1, len(names), names)
        except OSError:
            if device.sysdata.irq_line() is None:
                raise
            self._use_line(device, child)
        last = device.load_bar(_BAR, COMMON + abi.VIRTIO_PCI_COMMON_NUMQ, 2) - 1
        device.store_bar(_BAR, COMMON + abi.VIRTIO_PCI_COMMON_Q_SELECT, 2, last)  # it ends with the last queue
        self._status(device, _DRIVER_OK)

    def _use_line(self, device: PciDevice, child: VirtioDevice) -> None:
        """Interrupts by the pin, when there are none by messages (``vp_find_vqs_intx``)."""
        line = device.sysdata.irq_line()
        if line is not None:
            isr = partial(device.load_bar, _BAR, ISR, 1)
            self._lines[device] = line, line.request(lambda: bool(isr()), child.name)

    def _free_line(self, device: PciDevice) -> None:
        line, action = self._lines.pop(device, (None, None))
        if line is not None and action is not None:
            line.free(action)

    def _accept(self, device: PciDevice, features: int) -> None:
        for word in range(2):
            device.store_bar(_BAR, COMMON + abi.VIRTIO_PCI_COMMON_GFSELECT, 4, word)
            device.store_bar(_BAR, COMMON + abi.VIRTIO_PCI_COMMON_GF, 4, features >> 32 * word & _WORD)

    def _status(self, device: PciDevice, value: int) -> None:
        device.store_bar(_BAR, COMMON + abi.VIRTIO_PCI_COMMON_STATUS, 1, value)

    def sriov_configure(self, device: PciDevice, count: int) -> None:
        """See `PciDriver.sriov_configure`.  Raise OSError EBUSY before the device runs, EINVAL without SR-IOV."""
        if device.load_bar(_BAR, COMMON + abi.VIRTIO_PCI_COMMON_STATUS, 1) & _RUNS == 0:
            raise fail(errno.EBUSY)
        if device.sriov is None or not self._accepted(device) >> _SR_IOV & 1:
            raise fail(errno.EINVAL)
        if count:
            device.sriov.enable(count)
        else:
            device.sriov.disable()

    def _accepted(self, device: PciDevice) -> int:
        features = 0
        for word in range(2):
            device.store_bar(_BAR, COMMON + abi.VIRTIO_PCI_COMMON_GFSELECT, 4, word)
            features |= device.load_bar(_BAR, COMMON + abi.VIRTIO_PCI_COMMON_GF, 4) << 32 * word
        return features

    def remove(self, device: Device) -> None:
        """See `Driver.remove`."""
        if isinstance(device, PciDevice) and device.sriov is not None:
            device.sriov.disable()
        for child in reversed(list(device.child_devices())):
            self.virtio.remove(child)
        if isinstance(device, PciDevice):
            self._status(device, 0)
            self._status(device, _ACKNOWLEDGE)  # by the virtio core, when a driver has left (virtio_dev_remove)
            device.msi.driver_left()
            self._free_line(device)
            device.disable()
