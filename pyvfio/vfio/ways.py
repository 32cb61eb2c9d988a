"""The ways into a device: which of them this host has for it, and why not the others.

===========  ==================================================================================  ======================
way          how                                                                                 needs
===========  ==================================================================================  ======================
``iommufd``  the device's own node, bound to ``/dev/iommu``                                      Linux 6.6, two options
``group``    the node of its IOMMU group, in a container; type 1 version 2, else version 1       any kernel with VFIO
             (on POWER the TCE IOMMU, version 2, else version 1)
``noiommu``  the same without any IOMMU: the device reads and writes all memory of the host      a module's parameter
===========  ==================================================================================  ======================

`ways` judges from what sysfs and the nodes show and opens nothing, so a way that is said to be there can still be
refused: another program may have the device, and a VF token is only asked for on opening.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pyvfio import causes
from pyvfio.backend import Backend
from pyvfio.devices import PciFunction
from pyvfio.process.credentials import may_open
from pyvfio.refusal import permission_of

if TYPE_CHECKING:
    from pyvfio.sysfs_device import SysfsDevice

__all__ = ["CONTAINER_NODE", "IOMMU_NODE", "NO_IOMMU_SWITCH", "Obstacle", "Way", "ways"]

CONTAINER_NODE = "/dev/vfio/vfio"
IOMMU_NODE = "/dev/iommu"
NO_IOMMU_SWITCH = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
_TCE_MODULE = "/sys/module/vfio_iommu_spapr_tce"
_ENABLE = "boot with an IOMMU; or, with access to all memory for the program, enable_unsafe_noiommu_mode=1 of vfio"


class Obstacle(StrEnum):
    """Why a way is not taken."""

    NO_DRIVER = "no-vfio-driver"
    """No VFIO driver has the device."""
    NO_DEVICE_NODES = "no-device-nodes"
    """This kernel makes no nodes of devices (CONFIG_VFIO_DEVICE_CDEV), or not of this one."""
    NO_NODE = "no-node"
    """The kernel has it, but the node is not below ``/dev``: another container's, or udev's fault."""
    NO_IOMMUFD = "no-iommufd"
    """There is no ``/dev/iommu``."""
    NO_CONTAINER = "no-container"
    """There is no ``/dev/vfio/vfio``."""
    NO_GROUP = "no-group"
    """The device has no IOMMU group."""
    NOT_VIABLE = "not-viable"
    """Drivers of other members of the group use its DMA."""
    NO_PERMISSION = "no-permission"
    """A node belongs to others."""
    BUSY = "busy"
    """Another program has it."""
    HAS_IOMMU = "has-iommu"
    """The device is behind an IOMMU, or mediated: it needs no unsafe way."""
    NOT_ENABLED = "not-enabled"
    """The kernel's switch for devices without an IOMMU is off."""
    NOT_ALLOWED = "not-allowed"
    """The program did not say that it may be taken."""
    NOT_NEEDED = "not-needed"
    """A better way works, or another one was asked for."""
    REFUSED = "refused"
    """The kernel said no when it was tried."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way into a device by its `name`: `obstacle` is None when it is open, else why it is not.

    `reason` says it in words, `node` is what is opened first, `next_step` what would open the way.
    """

    name: str
    node: str = ""
    obstacle: Obstacle | None = None
    reason: str = ""
    next_step: str = ""

    @property
    def open(self) -> bool:
        """Whether nothing is in the way."""
        return self.obstacle is None

    def as_dict(self) -> dict[str, object]:
        """As plain data for ``--json``."""
        return {
            "way": self.name,
            "open": self.open,
            "node": self.node or None,
            "obstacle": None if self.obstacle is None else str(self.obstacle),
            "reason": self.reason,
            "next_step": self.next_step,
        }

    def __str__(self) -> str:
        return f"{self.name}: " + ("yes" if self.open else "no") + (f", {self.reason}" if self.reason else "")


def ways(device: SysfsDevice) -> list[Way]:
    """What each way into `device` is like, the one that is taken first first.  Nothing is opened."""
    return [_iommufd(device), _group(device), _no_iommu(device)]


def _no_driver(name: str, device: SysfsDevice) -> Way:
    return Way(
        name,
        "",
        Obstacle.NO_DRIVER,
        f"no VFIO driver has {device} (driver: {device.driver or 'none'})",
        f"pyvfio bind {device}",
    )


def _iommufd(device: SysfsDevice) -> Way:
    """Decided by what proves it: ``vfio-dev/vfioN/dev`` of the device and the node itself.

    A kernel without CONFIG_VFIO_DEVICE_CDEV makes the directory ``vfio-dev/vfioN``, but no ``dev`` in it; nor does
    one with it for a device without an IOMMU (``vfio_device_add`` in ``drivers/vfio/vfio.h``).
    """
    name, sysfs = device.vfio_name, device.sysfs
    if name is None:
        if device.has_vfio_driver:
            return Way("iommufd", "", Obstacle.NO_DEVICE_NODES, "this kernel is older than the nodes of devices (6.6)")
        return _no_driver("iommufd", device)
    node = f"/dev/vfio/devices/{name}"
    if device.attribute(f"vfio-dev/{name}/dev") is None:
        if device.group is not None and device.group.without_iommu:
            return Way("iommufd", "", Obstacle.NO_DEVICE_NODES, "a device without an IOMMU has no node of its own")
        reason = "this kernel has no VFIO device nodes (CONFIG_VFIO_DEVICE_CDEV)"
        if sysfs.exists(_TCE_MODULE):  # drivers/vfio/Kconfig: not beside SPAPR_TCE_IOMMU
            reason += ", as none of POWER has"
        return Way("iommufd", "", Obstacle.NO_DEVICE_NODES, reason)
    if not sysfs.exists(node):
        reason = f"the kernel has {name}, but {node} does not exist"
        return Way("iommufd", node, Obstacle.NO_NODE, reason, "look at udev, or give the node to this container")
    if not sysfs.exists(IOMMU_NODE):
        modules = [module for module in ("vfio", "iommufd") if sysfs.exists(f"/sys/module/{module}")]
        why = causes.no_vfio(IOMMU_NODE, modules, True)
        return Way("iommufd", node, Obstacle.NO_IOMMUFD, f"{IOMMU_NODE} does not exist: {why.sentence}", why.next_step)
    return _permitted("iommufd", sysfs.backend, node, IOMMU_NODE)


def _group(device: SysfsDevice) -> Way:
    group, sysfs = device.group, device.sysfs
    if group is None and isinstance(device, PciFunction):  # any other gets one with its VFIO driver
        return Way("group", "", Obstacle.NO_GROUP, "it has no IOMMU group: no IOMMU is in front of it", _ENABLE)
    if group is None or not device.has_vfio_driver:
        return _no_driver("group", device)
    node = group.node
    if group.without_iommu:
        return Way("group", node, Obstacle.NO_GROUP, "its group was made for a device without an IOMMU", _ENABLE)
    if not sysfs.exists(node):
        return Way("group", node, Obstacle.NO_NODE, f"{node} does not exist", "look at udev")
    if not sysfs.exists(CONTAINER_NODE):
        return Way("group", node, Obstacle.NO_CONTAINER, f"{CONTAINER_NODE} does not exist", "modprobe vfio")
    why = causes.not_viable(group.number, group.blockers())
    if why.sentence:
        return Way("group", node, Obstacle.NOT_VIABLE, why.sentence, why.next_step)
    return _permitted("group", sysfs.backend, node, CONTAINER_NODE)


def _no_iommu(device: SysfsDevice) -> Way:
    if not device.has_vfio_driver and device.group is None:
        enabled = device.sysfs.attribute(NO_IOMMU_SWITCH) == "Y"
        if not enabled:
            return Way("noiommu", "", Obstacle.NOT_ENABLED, "vfio's enable_unsafe_noiommu_mode is off")
        return _no_driver("noiommu", device)
    group, sysfs = device.group, device.sysfs
    if group is None or not group.without_iommu:
        return Way("noiommu", "", Obstacle.HAS_IOMMU, "it has an IOMMU group")
    node = group.node
    if not sysfs.exists(node):
        return Way("noiommu", node, Obstacle.NO_NODE, f"{node} does not exist", "look at udev")
    if not sysfs.exists(CONTAINER_NODE):
        return Way("noiommu", node, Obstacle.NO_CONTAINER, f"{CONTAINER_NODE} does not exist", "modprobe vfio")
    return _permitted("noiommu", sysfs.backend, node, CONTAINER_NODE)


def _permitted(name: str, backend: Backend, *nodes: str) -> Way:
    for node in nodes:
        if not _may_open(backend, node):
            why = permission_of(backend, node)
            return Way(name, nodes[0], Obstacle.NO_PERMISSION, why.sentence, why.next_step)
    return Way(name, nodes[0], reason=" and ".join(nodes))


def _may_open(backend: Backend, node: str) -> bool:
    try:
        status = backend.stat(node)
    except OSError:
        return False
    return stat.S_ISCHR(status.st_mode) and may_open(status, os.R_OK | os.W_OK)
