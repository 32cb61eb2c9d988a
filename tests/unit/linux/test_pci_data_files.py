"""Files of a PCI function that hold data: ``vpd``, ``resourceN`` of ports, and what tells of NUMA nodes.

The rules are those of ``drivers/pci/pci-sysfs.c`` and ``vpd.c`` (6.12); no function of the x86 lab has vital product
data, and its kernel is built without NUMA.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyvfio import Host
from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_regs as regs
from pyvfio.inventory import FunctionEntry, inventory
from pyvfio.pci import testdev
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.linux.kernel_log import kernel_log
from pyvfio_backends.software.loader import load_machine
from pyvfio_backends.software.machine import Machine

DISK, NIC, TESTDEV, PORT = "0000:01:00.0", "0000:80:02.0", "0000:80:03.0", "0000:00:01.0"
BUS = "/sys/bus/pci/devices"
TEXT = """
[machine]
name = "two-nodes"
architecture = "x86_64"
processors = 5
nodes = 2
modules = ["vfio", "vfio_iommu_type1", "iommufd", "vfio_pci"]

[[pcie.bus]]
node = 0

[[pcie.bus]]
number = 0x80
node = 1

[[pcie.function]]
id = "port"
model = "pcie-root-port"
behind = "0000:00"
at = "01.0"

[[pcie.function]]
model = "nvme"
behind = "port"

[[pcie.function.capability]]
kind = "vpd"
options = { name = "A disk", PN = "X-1", SN = "42", readonly = false }

[[pcie.function]]
model = "e1000e"
behind = "0000:80"
at = "02.0"

[[pcie.function]]
model = "pci-testdev"
behind = "0000:80"
at = "03.0"
"""


class Files(SoftwareBackend):
    """The machine, and its files."""

    def get(self, path: str, n: int = 1 << 16, at: int = 0) -> bytes:
        fd = self.open(path, os.O_RDONLY)
        try:
            return self.pread(fd, n, at)
        finally:
            self.close(fd)

    def put(self, path: str, data: bytes, at: int = 0) -> int:
        fd = self.open(path, os.O_RDWR)
        try:
            return self.pwrite(fd, data, at)
        finally:
            self.close(fd)

    def text(self, path: str) -> str:
        return self.get(path).decode().strip()


@pytest.fixture
def spec_path(tmp_path: Path) -> Path:
    path = tmp_path / "two-nodes.toml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def files(spec_path: Path) -> Iterator[Files]:
    made = Files(Machine(load_machine(spec_path)))
    yield made
    made.machine.close()


def refused(number: int, call: Callable[[], object]) -> None:
    with pytest.raises(OSError) as caught:
        call()
    assert caught.value.errno == number


# vital product data


def test_product_data_are_read_up_to_their_end(files: Files) -> None:
    path = f"{BUS}/{DISK}/vpd"
    data = files.get(path)
    assert data[:9] == b"\x82\x06\x00A disk"
    assert data[9:12] == b"\x90\x0f\x00"
    assert data[12:18] + data[18:23] == b"PN\x03X-1" + b"SN\x0242"
    assert data[23:26] == b"RV\x01"
    assert not sum(data[:27]) & 0xFF  # the checksum makes it zero
    assert data[27:] == b"\x78"
    assert [files.get(path, 3, at) for at in (0, 5, 26, 28, 4000)] == [data[:3], data[5:8], data[26:], b"", b""]


def test_product_data_are_written_in_words(files: Files) -> None:
    path = f"{BUS}/{DISK}/vpd"
    assert files.put(path, b"DISK", 4) == 4
    assert files.get(path, 9, 3) == b"ADISKk\x90\x0f\x00"[:1] + b"DISK" + files.get(path, 4, 8)
    for data, at in ((b"DIS", 4), (b"DISK", 5), (b"DISK", 28)):
        refused(errno.EINVAL, lambda data=data, at=at: files.put(path, data, at))  # type: ignore[misc]
    assert files.stat(path).st_mode & 0o777 == 0o600


def test_a_function_without_the_capability_has_no_such_file(files: Files) -> None:
    assert [name for name in files.listdir(BUS) if "vpd" in files.listdir(f"{BUS}/{name}")] == [DISK]


TWINS = """
[machine]
name = "twins"
architecture = "x86_64"
modules = ["vfio", "vfio_iommu_type1", "vfio_pci"]

[[pcie.bus]]
""" + "".join(
    f"""
[[pcie.function]]
model = "{model}"
behind = "0000:00"
at = "{at}"

[[pcie.function.capability]]
kind = "vpd"
options = {{ name = "{at}", PN = "X-1", SN = "42", readonly = false }}
"""
    for model, at in (("e1000e", "02.0"), ("e1000e", "02.1"), ("virtio-net-pci", "03.0"), ("virtio-net-pci", "03.1"))
)


def test_like_ethernet_functions_of_intel_share_product_data(tmp_path: Path) -> None:
    """``quirk_f0_vpd_link`` (``drivers/pci/vpd.c``, 6.12): accesses go to function 0; ENODEV when that is gone."""
    (tmp_path / "twins.toml").write_text(TWINS)
    made = Files(Machine(load_machine(tmp_path / "twins.toml")))
    devices = "/sys/bus/pci/devices/0000:00"
    assert [made.get(f"{devices}:{at}/vpd")[3:7] for at in ("02.0", "02.1", "03.0", "03.1")] == [
        *(b"02.0", b"02.0"),
        *(b"03.0", b"03.1"),
    ]
    assert made.put(f"{devices}:02.1/vpd", b"both", 4) == 4
    assert made.get(f"{devices}:02.0/vpd")[4:8] == b"both"
    fd = made.open(f"{devices}:02.0/remove", os.O_WRONLY)
    made.write(fd, b"1")
    refused(errno.ENODEV, lambda: made.get(f"{devices}:02.1/vpd"))
    made.machine.close()


def test_what_does_not_begin_with_a_tag_is_nothing(files: Files) -> None:
    function = files.machine.pcie.function(0, 0x0100)
    assert function is not None
    at = function.offset(regs.PCI_CAP_ID_VPD)
    assert at is not None
    files.put(f"{BUS}/{DISK}/vpd", bytes(4))  # the first tag is gone, and the kernel looks once
    function.config.write(at + bridge_regs.PCI_VPD_DATA, 4, 0)
    fresh = files.machine.kernel.buses["pci"].devices[DISK]
    fresh._vpd = None  # type: ignore[attr-defined]
    refused(errno.ENODEV, lambda: files.get(f"{BUS}/{DISK}/vpd", 4))


# ports


def test_ports_are_read_and_written_and_not_mapped(files: Files) -> None:
    path = f"{BUS}/{TESTDEV}/resource{testdev.IO_BAR}"
    files.put(f"{BUS}/{TESTDEV}/enable", b"1")
    files.put(path, b"\0", testdev.TEST)
    assert files.get(path, 1, testdev.WIDTH) in (b"\1", b"\2", b"\4")
    assert len(files.get(path, 4, testdev.OFFSET)) == 4
    assert files.get(path, 4, 0x100) == b""
    refused(errno.EINVAL, lambda: files.get(path, 3))
    refused(errno.EINVAL, lambda: files.put(path, b"12345678"))
    fd = files.open(path, os.O_RDWR)
    refused(errno.ENODEV, lambda: files.mmap(fd, 4096))
    files.close(fd)


def test_memory_is_mapped_and_not_read(files: Files) -> None:
    refused(errno.EIO, lambda: files.get(f"{BUS}/{TESTDEV}/resource{testdev.MEMORY_BAR}", 4))


# NUMA


def test_each_function_tells_the_node_of_its_root(files: Files) -> None:
    near = {name: files.text(f"{BUS}/{name}/numa_node") for name in (PORT, DISK, NIC, TESTDEV)}
    assert near == {PORT: "0", DISK: "0", NIC: "1", TESTDEV: "1"}
    for name, cpus, mask in ((DISK, "0-1", "03"), (NIC, "2-4", "1c")):
        assert (files.text(f"{BUS}/{name}/local_cpulist"), files.text(f"{BUS}/{name}/local_cpus")) == (cpus, mask)
    classes = "/sys/class/pci_bus"
    assert [files.text(f"{classes}/{bus}/cpulistaffinity") for bus in ("0000:01", "0000:80")] == ["0-1", "2-4"]
    assert [files.text(f"/sys/devices/system/node/{one}/cpulist") for one in ("node0", "node1")] == ["0-1", "2-4"]
    assert files.text("/sys/devices/system/node/online") == "0-1"


def test_a_node_that_is_said_to_be_wrong_taints_the_kernel(files: Files) -> None:
    path = f"{BUS}/{DISK}/numa_node"
    for wrong in (b"2", b"-2", b"x", b"--1"):
        refused(errno.EINVAL, lambda wrong=wrong: files.put(path, wrong))  # type: ignore[misc]
    assert (files.text(path), files.text("/proc/sys/kernel/tainted")) == ("0", "0")
    files.put(path, b"1\n")
    assert (files.text(path), files.text(f"{BUS}/{DISK}/local_cpulist")) == ("1", "2-4")
    assert files.text("/proc/sys/kernel/tainted") == str(1 << 11)
    assert "Overriding NUMA node to 1" in kernel_log(files.machine.kernel).lines[-1]
    files.put(path, b"-1")
    assert files.text(f"{BUS}/{DISK}/local_cpulist") == "0-4"


def test_a_kernel_without_nodes_has_no_such_file_and_all_processors_are_near(spec_path: Path) -> None:
    spec = load_machine(spec_path)
    buses = [dataclasses.replace(bus, node=-1) for bus in spec.pcie_buses]
    files = Files(Machine(dataclasses.replace(spec, nodes=0, pcie_buses=buses)))
    assert "numa_node" not in files.listdir(f"{BUS}/{DISK}")
    assert files.text(f"{BUS}/{DISK}/local_cpulist") == "0-4"
    files.machine.close()


def test_the_inventory_tells_nodes(spec_path: Path) -> None:
    with Host("software", machine=str(spec_path)) as host:
        found = [one for one in inventory(host.sysfs, {"pci": None}) if isinstance(one, FunctionEntry)]
    assert {one.address: one.node for one in found} == {PORT: 0, DISK: 0, NIC: 1, TESTDEV: 1}
