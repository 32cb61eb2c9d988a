"""The driver and the module of vfio-pci (``drivers/vfio/pci/vfio_pci.c``, 6.12)."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.kstrtox import kstrtobool
from pyvfio_backends.software.linux.module import Module
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.linux.pci_driver import PciDriver, PciId, Recovery
from pyvfio_backends.software.linux.pci_power import D0
from pyvfio_backends.software.linux.vfs import Attribute, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci import PciBus
    from pyvfio_backends.software.linux.vfio_pci import VfioPciDevice
    from pyvfio_backends.software.machine import Machine

__all__ = ["VfioPciDriver", "boot"]

_TOKEN_LENGTH = 16


class VfioPciDriver(PciDriver):
    """The driver ``vfio-pci``: it knows every id, but only for devices whose override names it."""

    driver_managed_dma = True
    table = (PciId(override_only=True),)

    has_sriov = True
    manages_power = True

    def __init__(self, bus: PciBus, random: Random, *, name: str = "vfio-pci", module: str = "vfio_pci") -> None:
        super().__init__(bus, name, module=module)
        self._vfio: dict[PciDevice, VfioPciDevice] = {}
        self._random = random
        self._physical: list[PciDevice] = []
        self.enable_sriov = False
        """The module's parameter."""
        self.disable_vga = False
        self.nointxmask = False
        """Another: INTx is masked at its line, which a device must have for itself then."""
        self.disable_idle_d3 = False
        """The parameter as it was when the module was loaded: functions that nobody has open are left awake."""

    def sriov_configure(self, device: PciDevice, count: int) -> None:
        """See `PciDriver.sriov_configure`.  Raise OSError ENOENT while the parameter is off."""
        if not self.enable_sriov:
            raise fail(errno.ENOENT)
        self._configure(device, count)

    def _configure(self, device: PciDevice, count: int) -> None:
        """``vfio_pci_core_sriov_configure``: while it is in the list, its virtual functions need its token."""
        if device.sriov is None:
            return
        if not count:
            device.sriov.disable()
        else:
            if device in self._physical:
                raise fail(errno.EINVAL)
            self._physical.append(device)
            try:
                device.sriov.enable(count)
            except OSError:
                self._physical.remove(device)
                raise
            return
        if device in self._physical:
            self._physical.remove(device)

    def virtual_found(self, physical: PciDevice, virtual: PciDevice) -> None:
        """See `PciDriver.virtual_found`: no other driver is to take it by itself (``vfio_pci_bus_notifier``)."""
        if physical in self._vfio:
            virtual.override = self.name

    def error_detected(self, device: PciDevice) -> Recovery:
        """See `PciDriver.error_detected`."""
        if device in self._vfio:
            self._vfio[device].error_detected()
        return Recovery.CAN_RECOVER

    def probe(self, device: Device) -> None:
        """See `Driver.probe`."""
        self._take(device, quiet=False)

    def make(self, device: PciDevice) -> VfioPciDevice:
        """What VFIO offers of a device; drivers for one kind of device subclass it.  Raise OSError."""
        from pyvfio_backends.software.linux.vfio_pci import VfioPciDevice  # most machines never have one

        return VfioPciDevice(device)

    def _take(self, device: Device, *, quiet: bool) -> None:
        if not isinstance(device, PciDevice):
            raise fail(errno.ENODEV)
        if device.is_bridge:
            raise fail(errno.EINVAL)  # vfio_pci_core_register_device: no header but type 0
        if device.sriov is not None and device.sriov.num_vfs:
            raise fail(errno.EBUSY)  # nobody could tell who uses its virtual functions
        vdev = self.make(device)
        vdev.masks_lines = lambda: self.nointxmask
        key = device.sysdata.reset_key()
        vdev.peers = next((one.peers for one in self._vfio.values() if one.pdev.sysdata.reset_key() == key), [])
        vdev.peers.append(vdev)
        self._vfio[device] = vdev
        device.set_power_state(D0)
        device.runtime.allow(True)
        if not self.disable_idle_d3:
            device.runtime.put()
        if device.physfn is not None:
            if device.physfn in self._physical:
                vdev.tokens.physical = self._vfio[device.physfn]
        elif device.sriov is not None:
            vdev.tokens.token = self._random.randbytes(_TOKEN_LENGTH)
        try:
            vdev.register(quiet=quiet)
        except OSError:
            vdev.release()
            self._release(device)
            raise

    def boot(self, devices: Sequence[PciDevice]) -> None:
        """Hold these devices as after boot, without events."""
        for device in devices:
            device.override = self.name
            device.driver = self
            device.runtime.get()
            self._take(device, quiet=True)
            self.devices[device.name] = device

    def remove(self, device: Device) -> None:
        """See `Driver.remove`: blocks until the program has closed the device."""
        if isinstance(device, PciDevice):
            vdev = self._vfio[device]
            self._configure(device, 0)
            vdev.unregister()
            self._release(device)
            device.msi.driver_left()

    def _release(self, device: PciDevice) -> None:
        vdev = self._vfio.pop(device)
        vdev.peers.remove(vdev)
        if not self.disable_idle_d3:
            device.runtime.users += 1
        device.runtime.allow(False)

    def runtime_suspend(self, device: PciDevice) -> None:
        """See `PciDriver.runtime_suspend`."""
        if device in self._vfio:
            self._vfio[device].low_power.suspend()

    def runtime_resume(self, device: PciDevice) -> None:
        """See `PciDriver.runtime_resume`."""
        if device in self._vfio:
            self._vfio[device].low_power.resume()


def _switch(mode: int) -> Attribute:
    """A parameter that is off; vfio-pci looks at it when it is loaded, so that writing changes what it shows only."""
    on = False

    def store(data: bytes) -> None:
        nonlocal on
        on = kstrtobool(data)

    return Attribute(lambda: "Y\n" if on else "N\n", store if mode & 0o200 else None, mode=mode)


def _flag(driver: VfioPciDriver, name: str, mode: int) -> Attribute:
    """A parameter that can be changed."""
    return Attribute(
        lambda: "Y\n" if getattr(driver, name) else "N\n",
        (lambda data: setattr(driver, name, kstrtobool(data))) if mode & 0o200 else None,
        mode=mode,
    )


def boot(machine: Machine, bus: PciBus, held: Sequence[PciDevice]) -> None:
    """Load the module if the machine's description names it, and let it hold the functions in `held`."""
    wanted = {name.replace("-", "_") for name in machine.spec.modules}
    if "vfio_pci" not in wanted:
        return
    modules = machine.kernel.modules
    modules.load(Module("irqbypass"))
    modules.load(Module("vfio_pci_core"), needs=("vfio", "irqbypass"))
    names = {"disable_denylist": 0o444, "disable_idle_d3": 0o644, "enable_sriov": 0o644, "nointxmask": 0o644}
    driver = VfioPciDriver(bus, machine.random)
    parameters = {name: _switch(mode) for name, mode in names.items()}
    for name in ("enable_sriov", "nointxmask", *(["disable_vga"] if bus.has_vga_arbiter else [])):
        parameters[name] = _flag(driver, name, 0o444 if name == "disable_vga" else 0o644)
    module = modules.load(Module("vfio_pci", parameters=parameters), needs=("vfio", "vfio_pci_core"))
    module.drivers["pci:vfio-pci"] = driver.sysfs_path
    bus.register(driver)
    driver.boot(held)
    if "copier_vfio_pci" in wanted:
        from pyvfio_backends.software.linux.copier_vfio_pci import boot as boot_copiers

        boot_copiers(machine, bus)
