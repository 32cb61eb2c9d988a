"""Memory that firmware reserves for devices (RMRR): who may have such a device, and what its DMA sees meanwhile.

Sources, Linux 6.12: ``intel_iommu_get_resv_regions()`` in ``drivers/iommu/intel/iommu.c``,
``iommu_create_device_direct_mappings()`` and ``__iommu_device_set_domain()`` in ``drivers/iommu/iommu.c``.
"""

from __future__ import annotations

import dataclasses
import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pcie_fixture import BEHIND_BRIDGE, EDU, Pcie, lab_spec

import pyvfio
from pyvfio.doctor import examine
from pyvfio.errors import BadMachine, KernelRefused, Misuse
from pyvfio_backends.software.description import PcieFunctionSpec, PcieReservedSpec
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.linux.kernel_log import kernel_log
from pyvfio_backends.software.loader import load_machine
from pyvfio_tools.cli import run

KEPT, SCREEN = "0000:00:10.0", "0000:00:11.0"
FIRST, LAST = 0x100000, 0x102FFF
ROOT = "/sys/kernel/iommu_groups"
WARNING = "Firmware has requested this device have a 1:1 IOMMU mapping"
HEAD = """[machine]
name = "x"
architecture = "x86_64"
[[pcie.bus]]
[[pcie.function]]
id = "kept"
model = "edu"
behind = "0000:00"
at = "02.0"
[[pcie.reserved]]
"""
MESSAGES = "0x00000000fee00000 0x00000000feefffff msi\n"


def machine(*reserved: PcieReservedSpec, **more: Any) -> Pcie:
    extra = [
        PcieFunctionSpec("edu", "0000:00", at="10.0", id="kept"),
        PcieFunctionSpec("VGA", "0000:00", at="11.0", id="screen"),
    ]
    rows = reserved or (PcieReservedSpec(FIRST, LAST, ("kept", "screen")),)
    return Pcie(pcie_functions=[*lab_spec().pcie_functions, *extra], pcie_reserved=list(rows), **more)


@pytest.fixture
def lab() -> Iterator[Pcie]:
    pcie = machine()
    with pcie.host:
        yield pcie


@pytest.fixture
def host(lab: Pcie) -> pyvfio.Host:
    opened = pyvfio.Host(lab.host)
    for name in (KEPT, SCREEN, EDU):
        pyvfio.bind(opened.device(name))
    return opened


def regions(lab: Pcie, name: str) -> str:
    return lab.text(f"{ROOT}/{lab.group_of(name)}/reserved_regions")


def test_sysfs_shows_it(lab: Pcie) -> None:
    assert regions(lab, KEPT) == f"{FIRST:#018x} {LAST:#018x} direct\n{MESSAGES}"
    assert regions(lab, SCREEN) == f"{FIRST:#018x} {LAST:#018x} direct-relaxable\n{MESSAGES}"
    assert regions(lab, EDU) == MESSAGES


@pytest.mark.parametrize("cmdline", ["", "iommu=pt"])
@pytest.mark.parametrize("way", ["type1v2", "iommufd"])
def test_no_program_gets_the_device(way: str, cmdline: str) -> None:
    lab = machine(host=dataclasses.replace(lab_spec().host, cmdline=cmdline))
    with lab.host:
        host = pyvfio.Host(lab.host)
        pyvfio.bind(host.device(KEPT))
        number = lab.group_of(KEPT)
        with pytest.raises(KernelRefused, match=f"device of group {number} \\(0x100000 to 0x102fff\\)") as caught:
            pyvfio.open_device(host, KEPT, way=way)
        assert caught.value.errno == errno.EINVAL
        said = [line for line in kernel_log(lab.kernel).lines if WARNING in line]
        assert said[0].startswith(f"vfio-pci {KEPT}: {WARNING}, rejecting configuring")
        assert lab.text(f"{ROOT}/{number}/type") == ("identity\n" if cmdline else "DMA\n")


def test_iommufd_in_the_container_s_place_refuses_when_the_device_is_opened(lab: Pcie, host: pyvfio.Host) -> None:
    """vfio_df_iommufd_bind(): the group alone claims nothing."""
    with pyvfio.Iommufd(host) as iommufd, pyvfio.Group(host, lab.group_of(KEPT)) as group:
        container = type("Container", (), {"fileno": staticmethod(iommufd.fileno), "has_space": True, "detach": print})
        group.set_container(container)  # type: ignore[arg-type]
        with pytest.raises(KernelRefused, match="firmware has reserved memory") as caught:
            group.open_device(KEPT)
        assert caught.value.errno == errno.EINVAL
        group.container = None


@pytest.mark.parametrize("way", ["type1v2", "iommufd"])
def test_a_display_adapter_is_given_away_and_its_memory_may_be_mapped_over(host: pyvfio.Host, way: str) -> None:
    with pyvfio.open_device(host, SCREEN, way=way) as device, device.space.buffer(1 << 12, iova=FIRST) as buffer:
        assert buffer.iova == FIRST


def test_the_kernel_s_own_domain_has_the_memory_and_nothing_else(lab: Pcie, host: pyvfio.Host) -> None:
    for name in (KEPT, SCREEN):
        lab.device(name).set_master(True)
        hardware = lab.hardware(name)
        hardware.dma_write(LAST - 3, b"kept")
        assert lab.kernel.memory.read(LAST - 3, 4) == b"kept" == hardware.dma_read(LAST - 3, 4)
        for address, count in ((FIRST - 4, 8), (LAST, 2), (LAST + 1, 1), (0, 1)):
            with pytest.raises(DmaFault):
                hardware.dma_read(address, count)
    lab.device(EDU).set_master(True)
    with pytest.raises(DmaFault):
        lab.hardware(EDU).dma_read(FIRST, 4)


def test_a_program_takes_the_relaxable_memory_away_and_gives_it_back(lab: Pcie, host: pyvfio.Host) -> None:
    hardware = lab.hardware(SCREEN)
    with pyvfio.open_device(host, SCREEN, way="iommufd"):
        lab.device(SCREEN).set_master(True)
        with pytest.raises(DmaFault):
            hardware.dma_read(FIRST, 4)
    lab.device(SCREEN).set_master(True)
    assert hardware.dma_read(FIRST, 4) == lab.kernel.memory.read(FIRST, 4)


def test_of_a_bridge_it_is_for_everything_behind() -> None:
    lab = machine(PcieReservedSpec(FIRST, LAST, ("ppb0",)))
    with lab.host:
        assert regions(lab, BEHIND_BRIDGE).startswith(f"{FIRST:#018x} {LAST:#018x} direct\n")
        assert regions(lab, KEPT) == MESSAGES
        host = pyvfio.Host(lab.host)
        assert [(one.start, one.last) for one in host.group(lab.group_of(BEHIND_BRIDGE)).firmware_memory] == [
            (FIRST, LAST)
        ]


def test_a_device_that_comes_back_has_it_again(lab: Pcie) -> None:
    before = regions(lab, KEPT)
    lab.write(f"/sys/bus/pci/devices/{KEPT}/remove", b"1")
    lab.write("/sys/bus/pci/rescan", b"1")
    assert regions(lab, KEPT) == before
    lab.device(KEPT).set_master(True)
    lab.hardware(KEPT).dma_write(FIRST, b"here")


def test_the_doctor_says_so(lab: Pcie, host: pyvfio.Host) -> None:
    number = lab.group_of(KEPT)
    (remark,) = (one for one in examine(host) if one.check == f"group {number}")
    assert (remark.status, "0x100000 to 0x102fff" in remark.detail) == ("problem", True)
    (good,) = (one for one in examine(host) if one.check == "VFIO groups")
    assert good.detail == "2 can be used"


def test_pyvfio_group_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "kept.toml"
    file.write_text(HEAD + 'first = 0x1000\nlast = 0x1fff\ndevices = ["kept"]\n')
    assert run(["group", "00:02.0", "--machine", str(file)]) == 0
    said = capsys.readouterr().out
    assert "0x1000 to 0x1fff direct\n" in said
    assert "viable       yes; but the kernel gives it to no program: firmware has reserved memory for a dev" in said
    assert run(["group", "00:02.0", "--json", "--machine", str(file)]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert document["firmware_memory"] == [{"start": 0x1000, "last": 0x1FFF}]


def test_machine_files(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(HEAD + 'first = 0x1000\nlast = 0x1fff\ndevices = ["kept"]\n')
    assert load_machine(file).pcie_reserved == [PcieReservedSpec(0x1000, 0x1FFF, ("kept",))]
    for row, cause in (
        ('first = 0x1001\nlast = 0x1fff\ndevices = ["kept"]\n', "are no pages of 4096 bytes"),
        ('first = 0x2000\nlast = 0xfff\ndevices = ["kept"]\n', "are no pages"),
        ('first = 0\nlast = 0x7ffffffffffff\ndevices = ["kept"]\n', "within the machine's memory"),
        ("first = 0x1000\nlast = 0x1fff\ndevices = []\n", "it is for no device"),
        ('first = 0x1000\nlast = 0x1fff\ndevices = ["other"]\n', "has the id 'other'"),
        ('first = 0x1000\nlast = 0x1fff\ndevices = [""]\n', "has the id ''"),
        ('last = 0x1fff\ndevices = ["kept"]\n', "first"),
        ('first = "a"\nlast = 0x1fff\ndevices = ["kept"]\n', "number"),
    ):
        file.write_text(HEAD + row)
        with pytest.raises(BadMachine, match=cause) as caught:
            load_machine(file)
        assert caught.value.line is not None


def test_storage_that_is_too_much(tmp_path: Path) -> None:
    """It is really there, so a word in a file must not take all memory of the host."""
    file, head = tmp_path / "x.toml", HEAD.replace("[[pcie.bus]]", f"memory = {1 << 60}\n[[pcie.bus]]")
    for row, cause in (
        ('first = 0x1000\nlast = 0x40001fff\ndevices = ["kept"]\n', "more than 0x40000000 bytes"),
        ('first = 0x10000000000000\nlast = 0x10000000000fff\ndevices = ["kept"]\n', "beyond 0xfffffffffffff"),
    ):
        file.write_text(head + row)
        with pytest.raises(BadMachine, match=cause):
            load_machine(file)
    half = 1 << 29
    rows = [PcieReservedSpec(n << 32, (n << 32) + half - 1, ("kept",)) for n in range(1, 4)]
    with pytest.raises(Misuse, match="0x40000000 bytes together"):
        machine(*rows, memory=1 << 40)


def test_regions_that_share_bytes_and_others_that_touch() -> None:
    rows = [
        PcieReservedSpec(FIRST, LAST, ("kept",)),
        PcieReservedSpec(FIRST + 0x1000, LAST + 0x1000, ("screen",)),
        PcieReservedSpec(LAST + 0x1001, LAST + 0x2000, ("kept",)),
    ]
    lab = machine(*rows)
    with lab.host:
        assert regions(lab, KEPT).count("direct") == 2
        lab.device(KEPT).set_master(True)
        lab.hardware(KEPT).dma_write(LAST + 0x1001, b"second")
        lab.device(SCREEN).set_master(True)
        lab.hardware(SCREEN).dma_write(LAST - 1, b"across")
        assert lab.kernel.memory.read(LAST - 1, 6) == b"across"
