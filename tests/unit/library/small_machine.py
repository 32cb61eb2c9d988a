"""A small software machine for the tests of the library, and what a program may change on a machine."""

from __future__ import annotations

from typing import Any

import pyvfio
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import FunctionSpec, MachineSpec
from pyvfio_backends.software.machine import Machine

BELL = "0060:00:00.0"
DISK = "0020:00:00.0"


def small_machine(**changes: Any) -> SoftwareBackend:
    """A machine with one bell, which vfio-pci has, and one disk; `changes` are those of its description."""
    functions = [
        FunctionSpec(0x60, 0x60, "virtio-bell", "vfio-pci"),
        FunctionSpec(0x20, 0x20, "virtio-blk", "virtio-pci"),
    ]
    return SoftwareBackend(Machine(MachineSpec("small", functions=functions, **changes)))


def machine_of(host: pyvfio.Host) -> Machine:
    """The software machine below a host."""
    backend = host.backend
    assert isinstance(backend, SoftwareBackend)
    return backend.machine


def state(host: pyvfio.Host) -> dict[str, object]:
    """What binding may change: drivers, overrides, online states, mediated devices, nodes of VFIO."""
    found: dict[str, object] = {"nodes": host.sysfs.names("/dev/vfio"), "mdevs": [str(mdev) for mdev in host.mdevs()]}
    for device in (*host.functions(), *host.subchannels()):
        found[f"{device.bus} {device}"] = device.driver, device.override
    for channel in host.ccw_devices():
        found[f"ccw {channel}"] = channel.driver, channel.online
    return found
