"""Where PCI functions appear, and what Linux takes of the addresses that they tell.

Sources: ``arch/s390/pci/pci.c`` (`zpci_alloc_domain`, `zpci_cmp_rid`, `zpci_setup_bus_resources`), ``pci_bus.c``
(`zpci_bus_device_register`, `zpci_bus_add_device`), ``pci_sysfs.c``, ``drivers/pci/probe.c`` (`pci_scan_slot`) and
``drivers/iommu/s390-iommu.c`` (`zpci_init_iommu`, `s390_iommu_probe_device`), all 6.12.  The lab's emulated machine has
neither routing identifiers nor memory I/O instructions, and always checks UIDs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pci_fixture import BUS, Pci, errno_of

from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_zdev
from pyvfio.zpci.clp import FunctionResponse
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import FunctionSpec, GroupSpec, MachineSpec
from pyvfio_backends.software.linux.zpci_iommu import dma_range
from pyvfio_backends.software.machine import Machine
from pyvfio_backends.software.usage import HostSpec

BELL = "virtio-bell"


@contextmanager
def machine(*functions: FunctionSpec, **keys: Any) -> Iterator[SoftwareBackend]:
    with SoftwareBackend(Machine(MachineSpec("domains", functions=list(functions), **keys))) as host:
        yield host


def bell(uid: int, fid: int, **keys: Any) -> FunctionSpec:
    return FunctionSpec(uid, fid, BELL, **keys)


def names(host: SoftwareBackend) -> list[str]:
    return sorted(host.listdir(f"{BUS}/devices"))


def attribute(host: SoftwareBackend, name: str, file: str) -> str:
    fd = host.open(f"{BUS}/devices/{name}/{file}", 0)
    try:
        return host.read(fd, 4096).decode().strip()
    finally:
        host.close(fd)


# domains


def test_a_domain_that_is_taken_is_no_place_for_another_function() -> None:
    """Linux says "Domain is already assigned" and does not know the second function at all."""
    with machine(bell(0x10, 1), bell(0x10, 2)) as host:
        assert names(host) == ["0010:00:00.0"]
        assert host.listdir(f"{BUS}/slots") == ["00000001"]
        assert sorted(host.listdir("/sys/class/iommu")) == ["s390-iommu.00000001"]


def test_without_checking_domains_are_counted_and_uids_may_be_the_same() -> None:
    with machine(bell(0x10, 1), bell(0x10, 2), bell(0, 3), uid_checking=False) as host:
        assert names(host) == ["0000:00:00.0", "0001:00:00.0", "0002:00:00.0"]
        assert [attribute(host, name, "uid") for name in names(host)] == ["0x10", "0x10", "0x0"]
        assert {attribute(host, name, "uid_is_unique") for name in names(host)} == {"0"}
        assert not any("index" in host.listdir(f"{BUS}/devices/{name}") for name in names(host))


def test_with_checking_the_uid_is_the_domain_and_the_index() -> None:
    with machine(bell(0x10, 1), bell(0x2000, 2)) as host:
        assert names(host) == ["0010:00:00.0", "2000:00:00.0"]
        assert [attribute(host, name, "index") for name in names(host)] == ["16", "8192"]
        assert {attribute(host, name, "uid_is_unique") for name in names(host)} == {"1"}


def test_a_function_without_uid_ends_the_use_of_uids() -> None:
    with machine(bell(0x10, 1), bell(0, 2), bell(0x20, 3)) as host:
        assert names(host) == ["0000:00:00.0", "0001:00:00.0", "0010:00:00.0"]
        assert {attribute(host, name, "uid_is_unique") for name in names(host)} == {"0"}


def test_the_lowest_free_domain_is_taken_again() -> None:
    with machine(bell(1, 1), bell(2, 2), bell(3, 3), uid_checking=False) as host:
        host.machine.zpci.unplug(2, surprise=True)
        host.machine.clock.settle()
        assert names(host) == ["0000:00:00.0", "0002:00:00.0"]
        host.machine.zpci.plug(bell(9, 9))
        assert names(host) == ["0000:00:00.0", "0001:00:00.0", "0002:00:00.0"]


# several functions on a bus


def test_functions_of_one_device_are_on_one_bus() -> None:
    """The function of the lowest routing identifier decides on the domain, wherever it is in the list."""
    two = bell(0x21, 2, pchid=0x100, rid=1)
    one = bell(0x20, 1, pchid=0x100, rid=0, options={"multifunction": True})
    with machine(two, one, bell(0x30, 3, pchid=0x104, rid=0)) as host:
        assert names(host) == ["0020:00:00.0", "0020:00:00.1", "0030:00:00.0"]
        assert attribute(host, "0020:00:00.1", "uid") == "0x21"


def test_a_device_that_says_it_has_one_function_is_not_searched_for_more() -> None:
    with machine(bell(0x20, 1, pchid=0x100, rid=0), bell(0x21, 2, pchid=0x100, rid=1)) as host:
        assert names(host) == ["0020:00:00.0"]
        assert len(host.listdir(f"{BUS}/slots")) == 2


def test_function_0_need_not_be_there() -> None:
    with machine(bell(0x23, 3, pchid=0x100, rid=3), bell(0x25, 5, pchid=0x100, rid=5)) as host:
        assert names(host) == ["0023:00:00.3", "0023:00:00.5"]
        host.machine.zpci.plug(bell(0x20, 1, pchid=0x100, rid=0))
        assert names(host) == ["0023:00:00.0", "0023:00:00.3", "0023:00:00.5"]


def test_the_topology_comes_before_the_channel() -> None:
    same = [bell(0x20 + n, n + 1, pchid=0x100 + n, rid=n, tid=7, options={"multifunction": True}) for n in range(2)]
    with machine(*same, bell(0x30, 9, pchid=0x100, rid=2)) as host:
        assert names(host) == ["0020:00:00.0", "0020:00:00.1", "0030:00:00.2"]


def test_what_has_no_place_on_a_bus_is_not_known() -> None:
    first = bell(0x20, 1, pchid=0x100, rid=0)
    with machine(first, uid_checking=True) as host:
        host.machine.zpci.plug(bell(0x21, 2, pchid=0x100))  # no routing identifier
        host.machine.zpci.plug(bell(0x22, 3, pchid=0x100, rid=0))  # that of another
        assert names(host) == ["0020:00:00.0"]
        assert host.listdir(f"{BUS}/slots") == ["00000001"]


def test_without_routing_identifiers_every_function_has_its_bus() -> None:
    row = [bell(0x20, 1, pchid=0x100, rid=0), bell(0x21, 2, pchid=0x100, rid=1)]
    with machine(*row, host=HostSpec(cmdline="quiet pci=nomio,norid")) as host:
        assert names(host) == ["0020:00:00.0", "0021:00:00.0"]


def test_an_isolated_virtual_function_has_a_bus_of_its_own() -> None:
    """Its physical function is of another system, or not there yet: at boot every function is added before any scan."""
    physical = bell(0x80, 8, pchid=0x304, rid=0, options={"total_vfs": 2, "vf_fid": 0x90, "vf_uid": 0x90})
    with machine(bell(0x55, 5, pchid=0x304, vfn=1, rid=1), physical) as host:
        assert names(host) == ["0055:00:00.0", "0080:00:00.0"]
        assert "physfn" not in host.listdir(f"{BUS}/devices/0055:00:00.0")


def test_two_physical_functions_share_a_bus_with_their_virtual_ones() -> None:
    row = [
        FunctionSpec(
            0x70 + n,
            0x70 + n,
            "virtio-net",
            "virtio-pci",
            pchid=0x300,
            rid=n,
            options={
                "total_vfs": 4,
                "vf_fid": 0x100 * (n + 1),
                "vf_uid": 0x100 * (n + 1),
                "vf_offset": offset,
                "multifunction": True,
            },
        )
        for n, offset in enumerate((8, 11))
    ]
    with machine(*row) as host:
        for n in range(2):
            fd = host.open(f"{BUS}/devices/0070:00:00.{n}/sriov_numvfs", 1)
            host.write(fd, b"2")
            host.close(fd)
        assert names(host) == ["0070:00:00.0", "0070:00:00.1", "0070:00:01.0", "0070:00:01.1",
                               "0070:00:01.4", "0070:00:01.5"]  # fmt: skip
        links = {name: host.readlink(f"{BUS}/devices/{name}/physfn")[-12:] for name in names(host) if ":01." in name}
        assert links == {
            "0070:00:01.0": "0070:00:00.0",
            "0070:00:01.1": "0070:00:00.0",
            "0070:00:01.4": "0070:00:00.1",
            "0070:00:01.5": "0070:00:00.1",
        }
        assert host.readlink(f"{BUS}/devices/0070:00:00.1/virtfn1").endswith("0070:00:01.5")
        assert [attribute(host, f"0070:00:01.{n}", "vfn") for n in (4, 5)] == ["0x0001", "0x0002"]


def test_virtual_functions_must_have_room_on_the_bus() -> None:
    with pytest.raises(Exception, match="leave no room"):
        Machine(MachineSpec("m", functions=[bell(1, 1, rid=250, options={"total_vfs": 8})]))


# memory I/O


def starts(host: SoftwareBackend, name: str) -> list[int]:
    return [int(line.split()[0], 16) for line in attribute(host, name, "resource").splitlines()[:6]]


def test_with_memory_io_resources_are_the_addresses_of_the_machine() -> None:
    with machine(bell(1, 1), FunctionSpec(2, 2, "virtio-rng"), features=("zarch", "pcimio")) as host:
        assert attribute(host, "0001:00:00.0", "mio_enabled") == "1"
        function = host.machine.zpci.function(1)
        told = FunctionResponse.from_bytes(function.query().to_bytes())
        assert (told.mio_available, told.mio_valid) == (1, 0b110000)
        pairs = struct.unpack(">12Q", told.mio)
        assert starts(host, "0001:00:00.0")[:2] == [pairs[1], pairs[3]]
        every = {*starts(host, "0001:00:00.0"), *starts(host, "0002:00:00.0")} - {0}
        assert len(every) == 4
        assert all(start >> 48 == 0xFFFF for start in every)
        assert pairs[0] != pairs[1]  # write-back and write-through


@pytest.mark.parametrize(
    ("features", "cmdline"),
    [(("zarch",), ""), ((), ""), (("zarch", "pcimio"), "ro pci=nomio"), (("pcimio",), "pci=norid,nomio")],
)
def test_without_it_they_are_entries_of_a_table_of_linux(features: tuple[str, ...], cmdline: str) -> None:
    with machine(bell(1, 1), features=features, host=HostSpec(cmdline=cmdline)) as host:
        assert attribute(host, "0001:00:00.0", "mio_enabled") == "0"
        assert starts(host, "0001:00:00.0")[:2] == [0x4000000000000000, 0x4001000000000000]
        assert "pcimio" not in host.machine.kernel.features


# DMA addresses


@pytest.mark.parametrize(
    ("first", "last", "memory", "cmdline", "wanted"),
    [
        (1 << 32, (1 << 57) - 1, 512 << 20, "", (0x1_0000_0000, 0x1_1FFF_FFFF)),  # as the lab's guest
        (1 << 32, (1 << 57) - 1, 1 << 30, "s390_iommu_aperture=2", (1 << 32, (1 << 32) + (2 << 30) - 1)),
        (1 << 32, (1 << 57) - 1, 1 << 30, "s390_iommu_aperture=0", (1 << 32, (1 << 42) - 1)),
        (1 << 32, (1 << 57) - 1, 1 << 30, "s390_iommu_aperture=x", (1 << 32, (1 << 32) + (1 << 30) - 1)),
        (1 << 32, (1 << 57) - 1, 1 << 50, "", (1 << 32, (1 << 42) - 1)),  # the tables end there
        (0x1000, 0x4FFF, 1 << 30, "", (0x1000, 0x4FFF)),
        (0x1001, 0x7FFF, 1 << 30, "", (0x2000, 0x7FFF)),
    ],
)
def test_what_linux_takes(first: int, last: int, memory: int, cmdline: str, wanted: tuple[int, int]) -> None:
    assert dma_range(first, last, memory=memory, page_size=0x1000, cmdline=cmdline) == wanted


def test_hardware_tells_its_own_and_vfio_what_linux_took() -> None:
    lab = Pci()
    with lab.host:
        device = lab.open("0060:00:00.0")
        base = next(c for c in device.info()[1] if c.id == abi.VFIO_DEVICE_INFO_CAP_ZPCI_BASE)
        facts = base.read(vfio_zdev.DeviceInfoCapZpciBase)
        assert (facts.start_dma, facts.end_dma) == (1 << 32, (1 << 32) + (512 << 20) - 1)
        assert lab.machine.zpci.function(0x60).query().edma == (1 << 57) - 1


def test_addresses_beyond_the_tables_leave_a_function_without_iommu() -> None:
    """Linux has the device, but no group; so vfio-pci cannot have it."""
    with machine(bell(1, 1, options={"start_dma": 1 << 43, "end_dma": 1 << 44})) as host:
        assert "iommu_group" not in host.listdir(f"{BUS}/devices/0001:00:00.0")
        path = f"{BUS}/devices/0001:00:00.0/driver_override"
        fd = host.open(path, 1)
        host.write(fd, b"vfio-pci")
        host.close(fd)
        fd = host.open(f"{BUS}/drivers/vfio-pci/bind", 1)
        assert errno_of(host.write, fd, b"0001:00:00.0") == "EINVAL"
        host.close(fd)


# groups


def test_a_group_is_what_its_table_says() -> None:
    group = GroupSpec(0x10, noi=32, maxstbl=1024, mui=0, refresh=False, version=1)
    with machine(bell(1, 1, pfgid=0x10), bell(2, 2), groups=[group]) as host:
        told = host.machine.zpci.function(1).query_group()
        assert (told.noi, told.maxstbl, told.mui, told.refresh, told.version) == (32, 1024, 0, 0, 1)
        assert host.machine.zpci.function(2).query_group().noi == 128
        assert attribute(host, "0001:00:00.0", "pfgid") == "0x10"
