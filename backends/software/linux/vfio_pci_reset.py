"""Hot resets of vfio-pci: a slot or bus at once, for whoever has all that is on it (``vfio_pci_core.c``, 6.12).

::

    set        the devices of vfio-pci that share a slot, or a bus where slots cannot be reset (``dev_set``)
    affected   all devices in that slot or on that bus, with any driver, and what is behind them
    owned      by groups: the caller gave the descriptor of the device's group; by iommufd: the device, or another one
               of its group, is bound to the caller's context

A hot reset is for a set that has everything affected in it, and whose devices the caller owns.  When the last open
device of a set that could not be reset by itself is closed, such a reset is tried.
"""

from __future__ import annotations

import contextlib
import errno
import struct
from typing import TYPE_CHECKING

from pyvfio.abi import vfio as abi
from pyvfio.abi.layout import native_struct
from pyvfio_backends.software.linux.pci_power import D0
from pyvfio_backends.software.linux.pci_reset import reset_together
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfio_group import GroupFile, VfioGroup
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.iommufd import IommufdContext
    from pyvfio_backends.software.linux.pci_device import PciDevice
    from pyvfio_backends.software.linux.vfio_pci import VfioPciDevice

__all__ = ["hot_reset", "hot_reset_info", "reset_after_close"]

_INFO = native_struct(abi.PciHotResetInfo)
_DEPENDENT = struct.Struct("=IHBB")
_RESET = native_struct(abi.PciHotReset)
_FD = struct.Struct("=i")
_SEGMENT = 0xFFFF


def _affected(vdev: VfioPciDevice) -> list[PciDevice]:
    """Raise OSError ENODEV where neither slot nor bus can be reset."""
    devices = vdev.pdev.sysdata.reset_scope()
    if not devices:
        raise fail(errno.ENODEV)
    return devices


def hot_reset_info(vdev: VfioPciDevice, argument: Argument) -> int:
    """VFIO_DEVICE_GET_PCI_HOT_RESET_INFO.

    Raise OSError EINVAL, ENODEV, ENOSPC (the count is told), EPERM (a device is in no group).
    """
    argsz, _, _ = _INFO.unpack(argument.read(0, _INFO.size))
    if argsz < _INFO.size:
        raise fail(errno.EINVAL)
    devices = _affected(vdev)
    if len(devices) > (argsz - _INFO.size) // _DEPENDENT.size:
        argument.write(0, _INFO.pack(argsz, 0, len(devices)))
        raise fail(errno.ENOSPC)
    flags = 0
    context = _context(vdev) if vdev.cdev_opened else None
    if context is not None:
        flags = abi.VFIO_PCI_HOT_RESET_FLAG_DEV_ID | abi.VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED
    rows = b""
    for device in devices:
        if context is not None:
            number = _id_of(next((one for one in vdev.peers if one.pdev is device), None), context)
            if number == abi.VFIO_PCI_DEVID_NOT_OWNED:
                flags &= ~abi.VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED
        else:
            if device.iommu_group is None:
                raise fail(errno.EPERM)
            number = device.iommu_group.number
        rows += _DEPENDENT.pack(number, device.address.domain & _SEGMENT, device.sysdata.bus_number, device.devfn)
    argument.write(_INFO.size, rows)
    argument.write(0, _INFO.pack(argsz, flags, len(devices)))
    return 0


def _context(vdev: VfioPciDevice) -> IommufdContext | None:
    return vdev.iommufd.context if vdev.iommufd is not None else None


def _id_of(vdev: VfioPciDevice | None, context: IommufdContext) -> int:
    """The number of a device in a context; 0: another of its group is there, all ones: the context does not own it."""
    if vdev is None:
        return abi.VFIO_PCI_DEVID_NOT_OWNED
    if vdev.iommufd is not None and vdev.iommufd.context is context:
        return vdev.iommufd.id
    group = vdev.pdev.iommu_group
    return abi.VFIO_PCI_DEVID_OWNED if group in context.groups else abi.VFIO_PCI_DEVID_NOT_OWNED


def hot_reset(vdev: VfioPciDevice, argument: Argument) -> int:
    """VFIO_DEVICE_PCI_HOT_RESET.

    Raise OSError EINVAL (the head; what is affected is not all in the set, or not all owned), ENODEV, EBADF, EAGAIN.
    """
    argsz, flags, count = _RESET.unpack(argument.read(0, _RESET.size))
    if argsz < _RESET.size or flags or bool(count) == vdev.cdev_opened:
        raise fail(errno.EINVAL)
    if count > len(_affected(vdev)):
        raise fail(errno.EINVAL)
    groups = _groups(vdev, argument, count)
    context = None if count else _context(vdev)
    devices = _resettable(vdev)
    if devices is None:
        raise fail(errno.EINVAL)
    for one in vdev.peers:
        if context is not None:
            owned = _id_of(one, context) != abi.VFIO_PCI_DEVID_NOT_OWNED
        else:
            owned = one.group in groups
        if not owned:
            raise fail(errno.EINVAL)
    _reset(vdev, devices)
    return 0


def _groups(vdev: VfioPciDevice, argument: Argument, count: int) -> list[VfioGroup]:
    groups: list[VfioGroup] = []
    raw = argument.read(_RESET.size, count * _FD.size)
    for (descriptor,) in _FD.iter_unpack(raw):
        file = vdev.kernel.fds.get(descriptor)
        if not isinstance(file, GroupFile):
            raise fail(errno.EINVAL)
        groups.append(file.group)
    return groups


def _resettable(vdev: VfioPciDevice) -> list[PciDevice] | None:
    """What would be reset, if all of it is in the set (``vfio_pci_dev_set_resettable``)."""
    devices = vdev.pdev.sysdata.reset_scope()
    own = {one.pdev for one in vdev.peers}
    return devices if devices and own.issuperset(devices) else None


def _reset(vdev: VfioPciDevice, devices: list[PciDevice]) -> None:
    with contextlib.ExitStack() as awake:
        for one in vdev.peers:
            awake.enter_context(one.pdev.runtime.awake())
        for one in vdev.peers:
            one.set_power_state(D0)
            one.dma_bufs.move(True)
        try:
            reset_together(devices, vdev.pdev.sysdata.reset_bus)
        finally:
            for one in vdev.peers:
                if one.open_count:
                    one.dma_bufs.move(False)
        for one in vdev.peers:
            if one.open_count:
                one.was_reset()


def reset_after_close(vdev: VfioPciDevice) -> None:
    """Try to reset the set, if it has a device that nobody could reset and no other that is open.

    Source: ``vfio_pci_dev_set_try_reset``.
    """
    others = any(one.open_count for one in vdev.peers if one is not vdev)
    devices = _resettable(vdev)
    if others or devices is None or not any(one.needs_reset for one in vdev.peers):
        return
    with contextlib.suppress(OSError):
        _reset(vdev, devices)
        for one in vdev.peers:
            one.needs_reset = False
