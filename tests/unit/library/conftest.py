"""A software machine for the tests of the library, and a look at everything that a program may change on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import pyvfio
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import FunctionSpec, MachineSpec
from pyvfio_backends.software.machine import Machine

BELL = "0060:00:00.0"
DISK = "0020:00:00.0"


@pytest.fixture
def boot() -> Iterator[Callable[..., pyvfio.Host]]:
    """A function that boots a machine with one bell and one disk, with what it is given changed."""
    with ExitStack() as stack:

        def start(**changes: Any) -> pyvfio.Host:
            functions = [
                FunctionSpec(0x60, 0x60, "virtio-bell", "vfio-pci"),
                FunctionSpec(0x20, 0x20, "virtio-blk", "virtio-pci"),
            ]
            backend = SoftwareBackend(Machine(MachineSpec("small", functions=functions, **changes)))
            stack.callback(backend.close)
            return stack.enter_context(pyvfio.Host(backend))

        yield start


@pytest.fixture
def host() -> Iterator[pyvfio.Host]:
    """A fresh z15-lpar."""
    with pyvfio.Host("software", machine="z15-lpar") as opened:
        yield opened


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
