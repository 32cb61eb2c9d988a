"""Take a device away from the Linux kernel, drive it, and give it back: VFIO for PCI, zPCI, channel I/O and mdev.

The same program runs on a real host and on a software machine::

    import pyvfio
    from pyvfio.testing.bell import Bell

    with pyvfio.Host("software", machine="z15-lpar") as host:
        function = host.device("0060:00:00.0")
        pyvfio.bind(function)
        with pyvfio.open_device(host, function) as device, Bell(device) as bell:
            with device.space.buffer(8192) as memory:
                bell.fill(memory.iova, 0x55, 100)
        pyvfio.release(function)

`Host` is the way in; `pyvfio.backend` is the seam below it; `pyvfio.testing` is for testers.  The names below are
loaded when they are used, so importing the package is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio.lazy_names import lazy_names

if TYPE_CHECKING:
    from pyvfio.address import DeviceNumber, MdevUuid, PciAddress, SubchannelId, parse_address
    from pyvfio.backend import Backend, Holder, backend_names, open_backend
    from pyvfio.binding import (
        Plan,
        bind,
        ccw_give_back,
        ccw_take,
        plan_bind,
        plan_ccw_give_back,
        plan_ccw_take,
        plan_release,
        plan_unbind,
        release,
        run,
        unbind,
    )
    from pyvfio.ccw import CcwDevice
    from pyvfio.channel_program import Control, ProgramResult, Read, Tic, Write
    from pyvfio.css.irb import Irb
    from pyvfio.css.orb import Orb
    from pyvfio.css.scsw import Scsw
    from pyvfio.devices import ChannelDevice, MediatedDevice, PciFunction, Subchannel
    from pyvfio.errors import PyvfioError
    from pyvfio.host import Host
    from pyvfio.iommu import AddressSpace, DmaBuffer, Iommufd, IovaAllocator
    from pyvfio.process import AnonymousMemory, EventFd
    from pyvfio.uevent import Uevent
    from pyvfio.vfio import Cdev, Container, Device, Group, Irq, Region, open_device

_HOMES = {
    "address": "DeviceNumber MdevUuid PciAddress SubchannelId parse_address",
    "backend": "Backend Holder backend_names open_backend",
    "binding": "Plan bind ccw_give_back ccw_take plan_bind plan_ccw_give_back plan_ccw_take plan_release plan_unbind"
    " release run unbind",
    "ccw": "CcwDevice",
    "channel_program": "Control ProgramResult Read Tic Write",
    "css.irb": "Irb",
    "css.orb": "Orb",
    "css.scsw": "Scsw",
    "devices": "ChannelDevice MediatedDevice PciFunction Subchannel",
    "errors": "PyvfioError",
    "host": "Host",
    "iommu": "AddressSpace DmaBuffer Iommufd IovaAllocator",
    "process": "AnonymousMemory EventFd",
    "uevent": "Uevent",
    "vfio": "Cdev Container Device Group Irq Region open_device",
}

__all__ = [
    "AddressSpace",
    "AnonymousMemory",
    "Backend",
    "CcwDevice",
    "Cdev",
    "ChannelDevice",
    "Container",
    "Control",
    "Device",
    "DeviceNumber",
    "DmaBuffer",
    "EventFd",
    "Group",
    "Holder",
    "Host",
    "Iommufd",
    "IovaAllocator",
    "Irb",
    "Irq",
    "MdevUuid",
    "MediatedDevice",
    "Orb",
    "PciAddress",
    "PciFunction",
    "Plan",
    "ProgramResult",
    "PyvfioError",
    "Read",
    "Region",
    "Scsw",
    "Subchannel",
    "SubchannelId",
    "Tic",
    "Uevent",
    "Write",
    "backend_names",
    "bind",
    "ccw_give_back",
    "ccw_take",
    "open_backend",
    "open_device",
    "parse_address",
    "plan_bind",
    "plan_ccw_give_back",
    "plan_ccw_take",
    "plan_release",
    "plan_unbind",
    "release",
    "run",
    "unbind",
]


__getattr__, __dir__ = lazy_names(__name__, _HOMES)
