"""What the contract's tests share: devices taken for a module, files and memory of one test."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

import pyvfio
from pyvfio.backend import Backend
from pyvfio.ccw import CcwDevice
from pyvfio.drivers import Dasd
from pyvfio.host import Host
from pyvfio.process import AnonymousMemory
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.channel import Channel
from pyvfio.testing.devices import BoundFunction, BoundMdev, BoundSubchannel
from pyvfio.testing.disk import Disk
from pyvfio.testing.injecting import injector
from pyvfio.testing.modes import MODES, OpenDevice, group_mode, open_device, require_mode, require_way
from pyvfio.testing.plugin import Lab
from pyvfio.vfio import Device


@pytest.fixture(scope="module")
def sysfs(backend: Backend) -> Attributes:
    """Sysfs attributes of the backend under test."""
    return Attributes(backend)


@pytest.fixture(scope="module")
def page(backend: Backend) -> int:
    """The page size."""
    return backend.sysconf("SC_PAGESIZE")


@pytest.fixture
def wild(page: int) -> int:
    """An address at which no process has memory: the second page of its address space."""
    return page


@pytest.fixture
def files(backend: Backend) -> Iterator[OpenFiles]:
    """Descriptors that are closed after the test."""
    with OpenFiles(backend) as opened:
        yield opened


@pytest.fixture
def memory(page: int) -> Iterator[Callable[[int], AnonymousMemory]]:
    """A function that gives so many pages of memory, freed after the test."""
    with ExitStack() as stack:
        yield lambda pages: stack.enter_context(AnonymousMemory(pages * page))


def _require(sysfs: Attributes, bus: str, address: str) -> None:
    if not sysfs.exists(f"/sys/bus/{bus}/devices/{address}"):
        pytest.skip(f"this host has no {bus} device {address}")


@pytest.fixture(scope="module")
def pci_path(sysfs: Attributes, lab: Lab) -> str:
    """The sysfs path of the PCI function that the suite may take, with its own driver."""
    _require(sysfs, "pci", lab.pci)
    path = f"/sys/bus/pci/devices/{lab.pci}"
    if sysfs.link(f"{path}/driver") is None:
        pytest.skip(f"PCI function {lab.pci} has no driver of its own")
    return path


@pytest.fixture(scope="module")
def function(backend: Backend, pci_path: str, lab: Lab) -> Iterator[BoundFunction]:
    """A PCI function bound to vfio-pci."""
    with BoundFunction(backend, lab.pci) as bound:
        yield bound


@pytest.fixture(scope="module")
def function2(backend: Backend, sysfs: Attributes, lab: Lab) -> Iterator[BoundFunction]:
    """A second PCI function bound to vfio-pci, in a group of its own."""
    _require(sysfs, "pci", lab.pci2)
    with BoundFunction(backend, lab.pci2) as bound:
        yield bound


@pytest.fixture(scope="module")
def vtd(sysfs: Attributes, pci_path: str) -> bool:
    """Whether the function is behind Intel's IOMMU (VT-d), which remaps its interrupts too."""
    return (sysfs.link(f"{pci_path}/iommu") or "").startswith("dmar")


@pytest.fixture(scope="module")
def guest_on_power(sysfs: Attributes) -> bool:
    """Whether Linux is a guest of a hypervisor of POWER (pseries), which keeps the tables of TCEs."""
    return sysfs.exists("/proc/cpuinfo") and "pSeries" in sysfs.read("/proc/cpuinfo")


@pytest.fixture(scope="module")
def express(sysfs: Attributes, pci_path: str) -> bool:
    """Whether the function is one of PCI Express to Linux: then it has a link."""
    return sysfs.exists(f"{pci_path}/current_link_speed")


@pytest.fixture(scope="module")
def held_awake(backend: Backend, sysfs: Attributes, pci_path: str) -> bool:
    """Whether firmware keeps the function in D0: that of POWER9 does, right behind a root port (skiboot's PHB4)."""
    bus = f"{pci_path}/devspec"
    if not sysfs.exists(bus):
        return False
    bridge = sysfs.read(bus).split("/")[1]
    tree = f"/sys/firmware/devicetree/base/{bridge}/compatible"
    return bridge.startswith("pciex@") and "power9" in sysfs.read(tree)


@pytest.fixture(scope="module")
def port(backend: Backend, sysfs: Attributes, pci_path: str, express: bool) -> str:
    """The sysfs path of the root port above the PCI function."""
    if not express:
        pytest.skip("this is no function of PCI Express")
    return os.path.dirname(os.path.normpath(f"{os.path.dirname(pci_path)}/{backend.readlink(pci_path)}"))


@pytest.fixture(scope="module")
def detect(backend: Backend, function: BoundFunction, port: str) -> Callable[[str], None]:
    """A function that makes the PCI function detect an error, by QEMU's name for it."""
    found = injector(backend)
    if found is None:
        pytest.skip("this host has no monitor that sends errors")
    return lambda error: found.inject(function.address, error)


@pytest.fixture(scope="module")
def inject(sysfs: Attributes, port: str, detect: Callable[[str], None]) -> Callable[[str], None]:
    """As `detect`, where Linux is told of it: it has a driver for root ports, unless the platform switched that off."""
    if sysfs.link(f"{port}/driver") is None:
        pytest.skip("the root ports of this host have no driver, which errors are told to")
    return detect


@pytest.fixture(scope="module")
def subchannel(backend: Backend, sysfs: Attributes, lab: Lab) -> Iterator[BoundSubchannel]:
    """A subchannel bound to vfio_ccw."""
    _require(sysfs, "ccw", lab.ccw)
    with BoundSubchannel(backend, lab.ccw) as bound:
        yield bound


@pytest.fixture(scope="module")
def mdev(subchannel: BoundSubchannel) -> Iterator[BoundMdev]:
    """The mediated device of `subchannel`."""
    with subchannel.create() as made:
        yield made


@pytest.fixture
def opened(backend: Backend, files: OpenFiles, function: BoundFunction) -> OpenDevice:
    """The PCI function, open by its group: with the type 1 IOMMU, version 2, or with POWER's."""
    return open_device(backend, files, function, group_mode(backend))


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Each of the five ways of `pyvfio.testing.modes`."""
    name: str = request.param
    return name


@pytest.fixture
def space(backend: Backend, files: OpenFiles, function: BoundFunction, mode: str) -> OpenDevice:
    """The PCI function, open in each mode."""
    return open_device(backend, files, function, mode)


@pytest.fixture
def channel(backend: Backend, mdev: BoundMdev) -> Iterator[Channel]:
    """The channel device, open by its group with the type 1 IOMMU, version 2; idle."""
    with Channel(backend, mdev) as opened_channel:
        yield opened_channel


@pytest.fixture(params=[name for name in MODES if name != "type1"])
def pinning_mode(request: pytest.FixtureRequest) -> str:
    """The modes whose address space pins pages for a mediated device, which version 1 of type 1 does not."""
    name: str = request.param
    return name


@pytest.fixture
def channel_in_mode(backend: Backend, mdev: BoundMdev, pinning_mode: str) -> Iterator[Channel]:
    """The channel device, open in each mode that can run programs."""
    with Channel(backend, mdev, pinning_mode) as opened_channel:
        yield opened_channel


@pytest.fixture(scope="module")
def host(backend: Backend) -> Host:
    """The library on the backend under test."""
    return Host(backend)


@pytest.fixture(params=["group", "iommufd"])
def way(request: pytest.FixtureRequest, lab: Lab) -> str:
    """Each way in which the library opens a device, if the host has it."""
    name: str = request.param
    if lab.named:
        require_way(request.getfixturevalue("backend"), name)
    return name


@pytest.fixture
def iommufd(backend: Backend) -> None:
    """For tests of what a kernel without iommufd has not: its node, and the nodes of devices."""
    require_way(backend, "iommufd")


@pytest.fixture
def type1(backend: Backend) -> None:
    """For tests of the type 1 IOMMU, which kernels of POWER have not."""
    require_mode(backend, "type1v2")


@pytest.fixture
def device(host: Host, function: BoundFunction, way: str) -> Iterator[Device]:
    """The PCI function, opened by the library in each way."""
    with pyvfio.open_device(host, function.address, way=way) as opened_device:
        yield opened_device


@pytest.fixture
def ccw_client(host: Host, mdev: BoundMdev, way: str) -> Iterator[CcwDevice]:
    """The channel device, opened by the library in each way."""
    with pyvfio.open_device(host, host.mdev(mdev.uuid), way=way) as opened_device, CcwDevice(opened_device) as client:
        yield client


@pytest.fixture(scope="module")
def disk_backend(lab: Lab) -> Iterator[Backend]:
    """The backend under test with a DASD that may be written to."""
    with lab.open(disk=True) as opened_backend:
        if not Attributes(opened_backend).exists(f"/sys/bus/ccw/devices/{lab.dasd}"):
            pytest.skip(f"this host has no DASD {lab.dasd}")
        yield opened_backend


@pytest.fixture(scope="module")
def disk_subchannel(disk_backend: Backend, lab: Lab) -> Iterator[BoundSubchannel]:
    """The DASD's subchannel, bound to vfio_ccw."""
    with BoundSubchannel(disk_backend, lab.dasd) as bound:
        yield bound


@pytest.fixture(scope="module")
def disk_mdev(disk_subchannel: BoundSubchannel) -> Iterator[BoundMdev]:
    """The DASD's mediated device."""
    with disk_subchannel.create() as made:
        yield made


@pytest.fixture
def disk(disk_backend: Backend, disk_mdev: BoundMdev) -> Iterator[Disk]:
    """The DASD, open by its group with the type 1 IOMMU, version 2; idle."""
    with Channel(disk_backend, disk_mdev) as opened_channel:
        yield Disk(opened_channel)


@pytest.fixture(scope="module")
def disk_host(disk_backend: Backend) -> Host:
    """The library on the backend with a DASD."""
    return Host(disk_backend)


@pytest.fixture
def dasd_device(disk_host: Host, disk_mdev: BoundMdev) -> Iterator[Device]:
    """The DASD, opened by the library."""
    with pyvfio.open_device(disk_host, disk_host.mdev(disk_mdev.uuid)) as opened_device:
        yield opened_device


@pytest.fixture
def dasd_channel(dasd_device: Device) -> Iterator[CcwDevice]:
    """Programs for the DASD by the library."""
    with CcwDevice(dasd_device) as client:
        yield client


@pytest.fixture
def dasd(dasd_channel: CcwDevice, lab: Lab) -> Iterator[Dasd]:
    """The library's driver, online, under the number that the kernel has for the disk."""
    with Dasd(dasd_channel, name=lab.dasd) as driver:
        yield driver


@pytest.fixture(scope="module")
def express_host(lab: Lab) -> Iterator[Host]:
    """The library on the backend under test with PCI Express devices that do something."""
    with lab.open(express=True) as opened_backend:
        yield Host(opened_backend)


def _bound_express(host: Host, address: str, option: str) -> Iterator[BoundFunction]:
    """The function that an option names, bound to vfio-pci; else the test is skipped."""
    if not address:
        pytest.skip(f"none was named ({option})")
    _require(Attributes(host.backend), "pci", address)
    with BoundFunction(host.backend, address) as bound:
        yield bound


@pytest.fixture(scope="module")
def edu_function(express_host: Host, lab: Lab) -> Iterator[BoundFunction]:
    """An edu, bound to vfio-pci."""
    yield from _bound_express(express_host, lab.edu, "--pyvfio-edu")


@pytest.fixture
def edu_device(express_host: Host, edu_function: BoundFunction, way: str) -> Iterator[Device]:
    """The edu, opened by the library in each way."""
    with pyvfio.open_device(express_host, edu_function.address, way=way) as opened_device:
        yield opened_device


@pytest.fixture(scope="module")
def nvme_function(express_host: Host, lab: Lab) -> Iterator[BoundFunction]:
    """An NVMe controller, bound to vfio-pci."""
    yield from _bound_express(express_host, lab.nvme, "--pyvfio-nvme")


@pytest.fixture
def nvme_device(express_host: Host, nvme_function: BoundFunction, way: str) -> Iterator[Device]:
    """The NVMe controller, opened by the library in each way."""
    with pyvfio.open_device(express_host, nvme_function.address, way=way) as opened_device:
        yield opened_device


@pytest.fixture
def folder(backend: Backend) -> Iterator[str]:
    """A directory of one test below ``/tmp``, removed with what is in it."""
    number = itertools.count(1)
    while True:
        path = f"/tmp/pyvfio-contract-{next(number)}"
        try:
            backend.mkdir(path)
            break
        except FileExistsError:
            continue
    yield path
    _remove(backend, path)


def _remove(backend: Backend, path: str) -> None:
    for name in backend.listdir(path):
        below = f"{path}/{name}"
        if stat.S_ISDIR(backend.lstat(below).st_mode):
            _remove(backend, below)
        else:
            backend.unlink(below)
    backend.rmdir(path)
