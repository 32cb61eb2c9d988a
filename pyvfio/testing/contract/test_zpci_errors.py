"""A zPCI function that accesses memory which it was not given: the machine reports an error, and the host loses it.

Sources: ``__zpci_event_error()`` and ``zpci_event_io_failure()`` in ``arch/s390/pci/pci_event.c``: vfio-pci takes no
part in recovery, so the device is lost until it is reset: by vfio-pci when it is closed (``vfio_pci_core_disable()``),
or by who writes to ``recover``.
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import EIO

import pytest

import pyvfio
from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio
from pyvfio.backend import Backend
from pyvfio.host import Host
from pyvfio.testing import requests
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import settles
from pyvfio.testing.plugin import Lab
from pyvfio.testing.virtio_rng import VirtioEntropy

COUNT = 64


@pytest.fixture
def entropy(backend: Backend, sysfs: Attributes, lab: Lab) -> Iterator[BoundFunction]:
    if not sysfs.exists(f"/sys/bus/pci/devices/{lab.entropy}/recover"):
        pytest.skip(f"this host has no zPCI function {lab.entropy}")
    bound = BoundFunction(backend, lab.entropy)
    bound.take("vfio-pci")
    yield bound
    sysfs.write(f"{bound.path}/recover", "1")
    assert settles(lambda: bound.driver == bound.driver_before)


def lost(backend: Backend, path: str) -> bool:
    """Whether nothing comes from the function's configuration space."""
    fd = backend.open(f"{path}/config", 0)
    try:
        return backend.pread(fd, 4, 0) == b"\xff" * 4
    finally:
        backend.close(fd)


def refused(backend: Backend, fd: int, offset: int) -> int | None:
    """The errno of a read, None when it gives something."""
    try:
        backend.pread(fd, 4, offset)
    except OSError as error:
        return error.errno
    return None


@pytest.mark.parametrize("way", ["group", "iommufd"])
def test_a_wrong_address_loses_the_function(
    backend: Backend, sysfs: Attributes, host: Host, entropy: BoundFunction, page: int, way: str
) -> None:
    with pyvfio.open_device(host, entropy.address, way=way) as device:
        running = VirtioEntropy(device, page)
        running.ask(COUNT)
        assert running.irq.wait(10) == 1
        running.ask(COUNT, running.memory.iova + 16 * page)
        assert settles(lambda: lost(backend, entropy.path))
        assert running.answered == 1
        config = requests.region_info(backend, device.fileno(), vfio.VFIO_PCI_CONFIG_REGION_INDEX)[0].offset
        assert backend.pread(device.fileno(), 4, config) == bytes.fromhex("f41a4410")  # vfio-pci's own copy
        assert refused(backend, device.fileno(), config + regs.PCI_STD_HEADER_SIZEOF) == EIO
        running.close()
    assert not lost(backend, entropy.path)  # vfio-pci resets what is closed
    assert entropy.driver == "vfio-pci"


def test_recovering_brings_it_back(
    backend: Backend, sysfs: Attributes, host: Host, entropy: BoundFunction, page: int
) -> None:
    with pyvfio.open_device(host, entropy.address) as device:
        running = VirtioEntropy(device, page)
        running.ask(COUNT, running.memory.iova + 16 * page)
        assert settles(lambda: lost(backend, entropy.path))
        running.close()
    sysfs.write(f"{entropy.path}/recover", "1")
    assert settles(lambda: entropy.driver == entropy.driver_before)
    assert not lost(backend, entropy.path)
    entropy.take("vfio-pci")
    with pyvfio.open_device(host, entropy.address) as device, VirtioEntropy(device, page) as running:
        running.ask(COUNT)
        assert running.irq.wait(10) == 1
