"""What a device is, in a few words."""

from __future__ import annotations

from pyvfio.devices import ChannelDevice, MediatedDevice, PciFunction, Subchannel
from pyvfio.sysfs_device import SysfsDevice

__all__ = ["summary"]


def summary(device: SysfsDevice) -> str:
    """One phrase for a list."""
    if isinstance(device, PciFunction):
        zpci = f" uid {device.uid:#x} fid {device.fid:#x}" if device.uid is not None and device.fid is not None else ""
        return f"{device.vendor_id:04x}:{device.device_id:04x} class {device.class_code:06x}{zpci}"
    if isinstance(device, ChannelDevice):
        kind = device.cutype if device.devtype == "n/a" else f"{device.devtype} behind {device.cutype}"
        return f"{kind}, " + ("online" if device.online else "offline")
    if isinstance(device, Subchannel):
        number = device.device_number
        return f"type {device.type}, " + ("no device" if number is None else f"device {number}")
    if isinstance(device, MediatedDevice):
        return f"{device.type.id} of {device.parent.address}"
    return ""
