"""VFIO objects: container, group, device node, device, region, interrupt."""

from pyvfio.vfio.cdev import Cdev
from pyvfio.vfio.container import Container
from pyvfio.vfio.device import Device, DeviceFacts
from pyvfio.vfio.feature import Features
from pyvfio.vfio.group import Group
from pyvfio.vfio.irq import Irq
from pyvfio.vfio.opening import open_device
from pyvfio.vfio.region import MappedArea, Region
from pyvfio.vfio.request import RequestWatch

__all__ = [
    "Cdev",
    "Container",
    "Device",
    "DeviceFacts",
    "Features",
    "Group",
    "Irq",
    "MappedArea",
    "Region",
    "RequestWatch",
    "open_device",
]
