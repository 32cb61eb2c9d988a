"""Memory of one device for another one: type 1 maps a BAR that a program has mapped, iommufd has no pages to pin.

Sources: ``vaddr_get_pfns()`` in ``drivers/vfio/vfio_iommu_type1.c`` (VM_PFNMAP), ``check_vma_flags()`` in ``mm/gup.c``,
Linux 6.12.
"""

from __future__ import annotations

import ctypes
import dataclasses
import errno
from collections.abc import Iterator

import pytest

import pyvfio
from pyvfio.drivers import Edu
from pyvfio.errors import KernelRefused
from pyvfio.pci.edu import DMA_MASK
from pyvfio.process import AnonymousMemory, shows_shared_memory
from pyvfio.vfio import Device
from pyvfio_backends.software.description import PcieFunctionSpec
from pyvfio_backends.software.loader import find_machine, load_machine

EDU, MEMORY = "0000:00:06.0", "0000:00:10.0"
PAGE = 1 << 12


@pytest.fixture
def host() -> Iterator[pyvfio.Host]:
    lab = load_machine(find_machine("lab-x86"))
    functions = [*lab.pcie_functions, PcieFunctionSpec("ivshmem", "0000:00", at="10.0")]
    with pyvfio.Host("software", machine=dataclasses.replace(lab, pcie_functions=functions)) as opened:
        for name in (EDU, MEMORY):
            pyvfio.bind(opened.device(name))
        yield opened


@pytest.fixture
def peer(host: pyvfio.Host) -> Iterator[Device]:
    with pyvfio.open_device(host, MEMORY) as opened:
        opened.config.command |= 2  # memory
        yield opened


@pytest.fixture
def address(host: pyvfio.Host, peer: Device) -> Iterator[int]:
    """Where the memory of the one is in this process."""
    mapping = host.backend.mmap(peer.fileno(), PAGE, offset=peer.bar(2).offset)
    yield ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    mapping.close()


def test_type_1_maps_it(host: pyvfio.Host, peer: Device, address: int) -> None:
    with pyvfio.open_device(host, EDU, way="type1v2") as device, Edu(device) as edu:
        mapping = device.space.map(address, PAGE, below=DMA_MASK + 1)
        edu.put(b"from a peer")
        edu.transfer(mapping.iova, 11, out=True)
        assert peer.bar(2).read(0, 11) == b"from a peer"


def test_iommufd_does_not(host: pyvfio.Host, address: int) -> None:
    with pyvfio.open_device(host, EDU, way="iommufd") as device, AnonymousMemory(PAGE) as memory:
        for iova in (None, 1 << 20):
            with pytest.raises(KernelRefused, match="it is a device's, which iommufd does not map") as caught:
                device.space.map(address, PAGE, iova=iova)
            assert caught.value.errno == errno.EFAULT
        assert device.space.mappings() == []
        device.space.map(memory.address, PAGE, iova=1 << 20)


def test_iommufd_does_not_when_a_device_comes(host: pyvfio.Host, address: int) -> None:
    """Pages are pinned when there is an IOMMU that has to know them."""
    with pyvfio.Iommufd(host) as iommufd, iommufd.allocate() as space:
        space.map(address, PAGE, iova=1 << 20)
        with pytest.raises(KernelRefused) as caught:
            pyvfio.open_device(host, EDU, space=space)
        assert caught.value.errno == errno.EFAULT


def test_what_shows_shared_memory(address: int) -> None:
    assert shows_shared_memory(address, 1)
    assert shows_shared_memory(address - 1, 2)
    assert not shows_shared_memory(address - 1, 1)
    assert not shows_shared_memory(address + PAGE, 1)
