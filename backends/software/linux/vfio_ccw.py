"""The module vfio_ccw: its driver on the css bus and its driver of mediated devices.

The first makes a subchannel a parent of mediated devices of one type, ``vfio_ccw-io``, of which there can be one at a
time; the second makes that a VFIO device.  Source: ``drivers/s390/cio/vfio_ccw_drv.c``, ``vfio_ccw_ops.c``.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.abi import vfio as abi
from pyvfio.css.crw import Crw, ErrorRecovery, ReportingSource
from pyvfio.css.irb import Irb
from pyvfio_backends.software.linux.css import CSS
from pyvfio_backends.software.linux.css_bus import CssBus
from pyvfio_backends.software.linux.css_driver import CssDriver, PathEvent
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.mdev import (
    MdevBus,
    MdevDevice,
    MdevDriver,
    MdevParent,
    MdevType,
    MdevTypes,
    mdev_bus,
)
from pyvfio_backends.software.linux.module import Module
from pyvfio_backends.software.linux.subchannel import SubchannelDevice
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.vfio_ccw_device import VfioCcwDevice

__all__ = ["VfioCcwDriver", "VfioCcwMdevDriver", "load"]

_MODULE = "vfio_ccw"
_CANCEL_TRIES = 255


class VfioCcwMdevDriver(MdevDriver):
    """``vfio_ccw_mdev``; `open_devices` are the VFIO devices by the subchannel they use."""

    def __init__(self, bus: MdevBus) -> None:
        super().__init__(bus, "vfio_ccw_mdev", module=_MODULE, api=abi.VFIO_DEVICE_API_CCW_STRING, most=1)
        self.vfio_devices: dict[str, VfioCcwDevice] = {}

    def probe(self, device: Device) -> None:
        """See `Driver.probe`."""
        from pyvfio_backends.software.linux.vfio_ccw_device import VfioCcwDevice  # most machines never have one

        if not isinstance(device, MdevDevice) or not isinstance(device.parent, SubchannelDevice):
            raise fail(errno.ENODEV)
        vfio = VfioCcwDevice(device, device.parent)
        self.vfio_devices[device.parent.name] = vfio
        try:
            vfio.register()
        except OSError:
            del self.vfio_devices[device.parent.name]
            vfio.release()
            raise

    def remove(self, device: Device) -> None:
        """See `Driver.remove`; blocks until the VFIO device is closed."""
        if device.parent is not None:
            vfio = self.vfio_devices.get(device.parent.name)
            if vfio is not None:
                vfio.unregister()
                self.vfio_devices.pop(device.parent.name, None)


class VfioCcwDriver(CssDriver):
    """``vfio_ccw`` on the css bus: takes I/O subchannels without QDIO."""

    def __init__(self, bus: CssBus, mdev: VfioCcwMdevDriver) -> None:
        super().__init__(bus, "vfio_ccw", module=_MODULE)
        self.mdev = mdev
        self.parents: dict[str, MdevParent] = {}

    def _vfio(self, sch: SubchannelDevice) -> VfioCcwDevice | None:
        return self.mdev.vfio_devices.get(sch.name)

    def probe(self, device: Device) -> None:
        """See `Driver.probe`.  Raise OSError ENODEV for a QDIO subchannel."""
        if not isinstance(device, SubchannelDevice) or device.schib.pmcw.qf:
            raise fail(errno.ENODEV)
        device.children["parent"] = Device(self.kernel, "parent", device)
        parent = MdevParent(device, self.mdev, (MdevType("io", "I/O subchannel (Non-QDIO)"),))
        self.parents[device.name] = parent
        device.extra["mdev_supported_types"] = MdevTypes(parent)
        parent.register()

    def remove(self, device: Device) -> None:
        """See `Driver.remove`; blocks until the VFIO device is closed."""
        parent = self.parents.pop(device.name, None)
        if parent is not None and isinstance(device, SubchannelDevice):
            parent.unregister()
            device.extra.clear()
            device.children.pop("parent", None)

    def irq(self, sch: SubchannelDevice, irb: Irb) -> None:
        """See `CssDriver.irq`."""
        vfio = self._vfio(sch)
        if vfio is None:
            sch.disable()
        else:
            vfio.machine.interrupt(irb)

    def sch_event(self, sch: SubchannelDevice) -> int:
        """See `CssDriver.sch_event`."""
        if sch.leaving and not sch.dead:
            return errno.EAGAIN
        vfio = self._vfio(sch)
        if sch.update_schib() and vfio is not None:
            vfio.machine.not_operational()
        return 0

    def chp_event(self, sch: SubchannelDevice, chpid: int, event: PathEvent) -> int:
        """See `CssDriver.chp_event`; a path that came or went is reported to the guest, a varied one is not."""
        vfio, mask = self._vfio(sch), sch.path_mask(chpid)
        if vfio is None or not mask:
            return 0
        if sch.update_schib():
            return errno.ENODEV
        sch.use_path(mask, event)
        if event in (PathEvent.VARY_OFF, PathEvent.OFFLINE) and sch.schib.pmcw.lpum & mask:
            sch.cancel_halt_clear([_CANCEL_TRIES])
        if event in (PathEvent.OFFLINE, PathEvent.ONLINE):
            erc = ErrorRecovery.INITIALIZED if event is PathEvent.ONLINE else ErrorRecovery.PERMANENT_ERROR
            vfio.report(Crw(rsc=ReportingSource.CHANNEL_PATH, erc=erc, rsid=chpid))
        return 0


def load(kernel: Kernel) -> None:
    """Load the module (``modprobe vfio_ccw``): both drivers, without offering devices to them.

    Raise OSError ENODEV on a machine without a channel subsystem.
    """
    css = kernel.subsystems.get(CSS)
    if css is None:
        raise fail(errno.ENODEV)
    bus = mdev_bus(kernel)
    mdev = VfioCcwMdevDriver(bus)
    driver = VfioCcwDriver(css.bus, mdev)
    bus.drivers[mdev.name] = mdev
    css.bus.drivers[driver.name] = driver
    module = kernel.modules.load(Module(_MODULE), needs=("vfio", "mdev"))
    module.drivers |= {f"css:{driver.name}": driver.sysfs_path, f"mdev:{mdev.name}": mdev.sysfs_path}
