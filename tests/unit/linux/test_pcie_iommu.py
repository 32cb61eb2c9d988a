"""The IOMMU of an x86 machine: DMA of PCI Express functions reaches what VFIO mapped for them, and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from pcie_fixture import BEHIND_BRIDGE, EDU, NVME, Pcie

from pyvfio.abi import iommufd as abi
from pyvfio.abi import pci_regs
from pyvfio.abi import vfio as vfio_abi
from pyvfio.process import AnonymousMemory
from pyvfio.testing import requests
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.hardware.pcie.remapping import FaultReason, RemappingUnit, RemappingUnits
from pyvfio_backends.software.linux.kernel_log import kernel_log
from pyvfio_fixtures import golden

SIZE = 0x2000
RECORDED: dict[str, Any] = json.loads(golden("x86/lab/iommu_groups.json").read_text(encoding="utf-8"))
GROUPS = {number: group for number, group in RECORDED.items() if number.isdecimal()}
DMAR0: list[str] = RECORDED["iommu_class"]["dmar0"]


@pytest.fixture
def lab() -> Iterator[Pcie]:
    pcie = Pcie()
    with pcie.host:
        yield pcie


def unit(lab: Pcie) -> RemappingUnit:
    assert isinstance(lab.complex.iommu, RemappingUnits)
    return lab.complex.iommu.units[0]


def master(lab: Pcie, name: str) -> None:
    """Let a function be bus master, and the ports above it forward for it."""
    lab.device(name).set_master(True)


@pytest.mark.parametrize("name", [EDU, NVME])
@pytest.mark.parametrize("iommu", [vfio_abi.VFIO_TYPE1_IOMMU, vfio_abi.VFIO_TYPE1v2_IOMMU])
def test_dma_reaches_what_type1_maps(lab: Pcie, name: str, iommu: int) -> None:
    device = lab.open(name, iommu=iommu)
    master(lab, name)
    memory = AnonymousMemory(SIZE)
    device.map(0x10000, memory.address, SIZE)
    hardware = lab.hardware(name)
    hardware.dma_write(0x10FFE, b"over")
    assert memory.view[0xFFE : 0xFFE + 4] == b"over" == hardware.dma_read(0x10FFE, 4)
    with pytest.raises(DmaFault):
        hardware.dma_read(0x10000 + SIZE, 4)
    fault = unit(lab).faults[-1]
    assert (fault.source.rid, fault.address, fault.write) == (hardware.rid, 0x10000 + SIZE, False)
    assert fault.reason is FaultReason.NO_READ


def test_dma_is_refused_until_a_program_maps(lab: Pcie) -> None:
    """In the kernel's own domain nothing is mapped; a device that a program owns has no domain at all."""
    lab.take(EDU)
    master(lab, EDU)
    with pytest.raises(DmaFault):
        lab.hardware(EDU).dma_read(0x10000, 4)
    container = lab.host.open("/dev/vfio/vfio", os.O_RDWR)
    group = lab.host.open(f"/dev/vfio/{lab.group_of(EDU)}", os.O_RDWR)
    requests.set_container(lab.host, group, container)
    with pytest.raises(DmaFault):
        lab.hardware(EDU).dma_read(0x10000, 4)
    assert [fault.reason for fault in unit(lab).faults] == [FaultReason.NO_READ, FaultReason.NO_CONTEXT]


def test_when_the_container_is_closed_dma_is_refused_again(lab: Pcie) -> None:
    device = lab.open(EDU)
    memory = AnonymousMemory(SIZE)
    device.map(0, memory.address, SIZE)
    device.close()
    master(lab, EDU)
    with pytest.raises(DmaFault):
        lab.hardware(EDU).dma_read(0, 4)


def test_dma_reaches_what_iommufd_maps(lab: Pcie) -> None:
    lab.take(NVME)
    (vfio,) = lab.host.listdir(f"/sys/bus/pci/devices/{NVME}/vfio-dev")
    device = lab.host.open(f"/dev/vfio/devices/{vfio}", 2)
    iommu = lab.host.open("/dev/iommu", 2)
    requests.bind_iommufd(lab.host, device, iommu)
    ioas = requests.ioas_alloc(lab.host, iommu)
    requests.attach_iommufd(lab.host, device, ioas)
    memory = AnonymousMemory(SIZE)
    flags = abi.IOMMU_IOAS_MAP_FIXED_IOVA | abi.IOMMU_IOAS_MAP_READABLE | abi.IOMMU_IOAS_MAP_WRITEABLE
    argument = abi.IoasMap.sized(flags=flags, ioas_id=ioas, user_va=memory.address, length=SIZE, iova=0x7F0000000000)
    lab.host.ioctl(iommu, abi.IOMMU_IOAS_MAP, argument)
    master(lab, NVME)
    lab.hardware(NVME).dma_write(0x7F0000001000, b"nvme")
    assert memory.view[0x1000 : 0x1000 + 4] == b"nvme"


def test_behind_a_bridge_to_conventional_pci_requests_are_the_bridges(lab: Pcie) -> None:
    device = lab.open(BEHIND_BRIDGE)
    memory = AnonymousMemory(SIZE)
    device.map(0x4000, memory.address, SIZE)
    for name in (BEHIND_BRIDGE, "0000:09:00.0"):
        master(lab, name)
    lab.hardware(BEHIND_BRIDGE).dma_write(0x4000, b"edu")
    assert memory.view[0 : 0 + 3] == b"edu"


def test_a_removed_function_leaves_nothing_in_the_iommu(lab: Pcie) -> None:
    links = "/sys/class/iommu/dmar0/devices"
    assert EDU in lab.host.listdir(links)
    lab.write(f"/sys/bus/pci/devices/{EDU}/remove", "1")
    assert EDU not in lab.host.listdir(links)
    assert str(3) not in lab.host.listdir("/sys/kernel/iommu_groups")
    lab.write("/sys/bus/pci/rescan", "1")
    assert lab.group_of(EDU) == 3
    assert EDU in lab.host.listdir(links)


def test_the_groups_are_those_of_the_lab(lab: Pcie) -> None:
    """``iommu_groups.json``, with its numbers."""
    root = "/sys/kernel/iommu_groups"
    found = {}
    for number in lab.host.listdir(root):
        entries = {"entries": sorted(lab.host.listdir(f"{root}/{number}"))}
        entries["devices"] = sorted(lab.host.listdir(f"{root}/{number}/devices"))
        entries["type"] = lab.text(f"{root}/{number}/type").strip()
        entries["reserved_regions"] = lab.text(f"{root}/{number}/reserved_regions").splitlines()
        found[number] = entries
    assert found == {number: {key: group[key] for key in found["0"]} for number, group in GROUPS.items()}


def test_the_ports_isolate_as_in_the_lab(lab: Pcie) -> None:
    for group in GROUPS.values():
        for name, registers in group["acs"].items():
            at = lab.device(name).find_extended_capability(pci_regs.PCI_EXT_CAP_ID_ACS)
            assert lab.device(name).read_config(at + pci_regs.PCI_ACS_CAP, 2) == int(registers["cap"], 0)
            assert lab.device(name).read_config(at + pci_regs.PCI_ACS_CTRL, 2) == int(registers["ctl"], 0)


def test_dmar0(lab: Pcie) -> None:
    """The registers are those that IOMMU_GET_HW_INFO told in the lab (``iommufd.json``)."""
    path = "/sys/class/iommu/dmar0"
    assert sorted(lab.host.listdir("/sys/class/iommu")) == ["dmar0"]
    assert sorted(lab.host.listdir(f"{path}/devices")) == DMAR0
    shown = {name: lab.text(f"{path}/intel-iommu/{name}").strip() for name in lab.host.listdir(f"{path}/intel-iommu")}
    assert shown == {
        "address": "fed90000",
        "cap": "d2008c222f0686",
        "ecap": "f00f4a",
        "version": "1:0",
        "domains_supported": "65536",
        "domains_used": str(2 + len(GROUPS)),  # as a kernel with 37 groups told 39
    }


def test_how_many_domains_are_used(lab: Pcie) -> None:
    """A program's own takes the place of the kernel's, and one that owns a group without one has none."""
    path = "/sys/class/iommu/dmar0/intel-iommu/domains_used"
    whole = 2 + len(GROUPS)
    for name in (EDU, NVME):
        lab.take(name)
    container = lab.host.open("/dev/vfio/vfio", os.O_RDWR)
    for name, used in ((EDU, whole - 1), (NVME, whole - 2)):
        group = lab.host.open(f"/dev/vfio/{lab.group_of(name)}", os.O_RDWR)
        requests.set_container(lab.host, group, container)
        assert int(lab.text(path)) == used
    lab.host.ioctl(container, vfio_abi.VFIO_SET_IOMMU, vfio_abi.VFIO_TYPE1v2_IOMMU)
    assert int(lab.text(path)) == whole - 1  # both have the container's
    lab.write(f"/sys/kernel/iommu_groups/{lab.group_of(BEHIND_BRIDGE)}/type", "identity")
    assert int(lab.text(path)) == whole - 2


def test_what_the_kernel_says_of_refused_requests(lab: Pcie) -> None:
    """As in ``edu_end_to_end.json``; ten lines in five seconds (``dmar_fault``, ``include/linux/ratelimit.h``)."""
    log = kernel_log(lab.kernel)
    lab.open(EDU)
    master(lab, EDU)
    hardware = lab.hardware(EDU)

    def ask(count: int) -> list[str]:
        before = len(log.lines)
        for _ in range(count):
            with pytest.raises(DmaFault):
                hardware.dma_read(0x12345678, 4)
        return log.lines[before:]

    head = "DMAR: DRHD: handling fault status reg 2"
    fault = (
        "DMAR: [DMA Read NO_PASID] Request device [00:06.0] fault addr 0x12345000 [fault reason 0x06] "
        "PTE Read access is not set"
    )
    assert ask(1) == [head, fault]
    assert ask(10) == [head, fault] * 4
    lab.machine.clock.advance(6)
    assert ask(1) == ["dmar_fault: 12 callbacks suppressed", head, fault]
