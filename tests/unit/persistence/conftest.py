"""A machine with a function, a disk in use and a DASD, and its definitions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import pyvfio
from pyvfio.persistence import Definitions
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import ChannelPathSpec, FunctionSpec, MachineSpec, SubchannelSpec
from pyvfio_backends.software.machine import Machine


@pytest.fixture
def host() -> Iterator[pyvfio.Host]:
    """PCI functions 0011 and 0022, and the subchannels 0.0.0005 (offline DASD) and 0.0.0006 (taken by vfio_ccw)."""
    spec = MachineSpec(
        "small",
        paths=[ChannelPathSpec(0)],
        subchannels=[
            SubchannelSpec("0.0.0005", "0.0.013f", "dasd-3390", driver="dasd-eckd"),
            SubchannelSpec("0.0.0006", "0.0.0140", "dasd-3390", driver="dasd-eckd"),
        ],
        functions=[
            FunctionSpec(0x11, 0x10, "virtio-rng", driver="virtio-pci"),
            FunctionSpec(0x22, 0x22, "virtio-bell"),
        ],
    )
    backend = SoftwareBackend(Machine(spec))
    with pyvfio.Host(backend) as opened:
        yield opened
    backend.close()


@pytest.fixture
def definitions(host: pyvfio.Host) -> Definitions:
    return Definitions(host)


@pytest.fixture
def parent(host: pyvfio.Host) -> str:
    """A subchannel that offers vfio_ccw-io."""
    pyvfio.bind(host.subchannel("0.0.0006"), force=("signature",))
    return "0.0.0006"
