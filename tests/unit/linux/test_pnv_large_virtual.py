"""Virtual functions with base addresses too large for a segment: a 64-bit window each.

They are igb's, but that their base addresses are larger.  Source: ``platforms/powernv/pci-sriov.c`` of Linux 6.12; no
recording shows these.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from pci_fixture import BUS, errno_of
from pnv_fixture import Pnv, power_spec

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pcie import endpoints
from pyvfio_backends.software.hardware.pcie.block import Memory
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.request import Space
from pyvfio_backends.software.hardware.pcie.sriov import VfBar

PF = "0002:01:00.0"
NUMVFS = f"{BUS}/devices/{PF}/sriov_numvfs"
PREFETCH = regs.PCI_BASE_ADDRESS_MEM_TYPE_64 | regs.PCI_BASE_ADDRESS_MEM_PREFETCH
MIB = 1 << 20
SMALL = 0x4000
ONES = 0xFFFFFFFF


class Backed(endpoints.EndpointModel):
    """A model with memory, of which only the first page is there, behind base address 0."""

    def build(self, *arguments: object, name: str = "", **words: object) -> Function:
        return super().build({0: Memory(0x1000)}, name=name)


def lab_with(monkeypatch: pytest.MonkeyPatch, *sizes: int, model: str = "PHB4 (small)") -> Pnv:
    """A machine whose igb's virtual functions have base addresses of these sizes, 0 and 2."""
    bars = tuple(VfBar(2 * at, size, PREFETCH) for at, size in enumerate(sizes))
    monkeypatch.setattr(endpoints, "IGB_SRIOV", dataclasses.replace(endpoints.IGB_SRIOV, bars=bars))
    old = endpoints.ENDPOINTS["igbvf"]
    fields = {one.name: getattr(old, one.name) for one in dataclasses.fields(old)}
    fields |= {"bars": tuple((bar.index, bar.size, bar.flags) for bar in bars), "capabilities": old.capabilities[1:]}
    monkeypatch.setitem(endpoints.ENDPOINTS, "igbvf", Backed(**fields))
    phbs = [
        dataclasses.replace(one, model=model) if one.segment == 2 else one
        for one in power_spec("power9-phb4").pcie_phbs
    ]
    return Pnv("power9-phb4", pcie_phbs=phbs)


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pnv]:
    lab = lab_with(monkeypatch, 512 * MIB, SMALL)
    with lab.host:
        yield lab


def owners(lab: Pnv) -> dict[int, int | None]:
    """Of each window that is on, but the large one: whose it is alone."""
    return {one.number: one.single for one in lab.phb(2).windows.m64[:-1] if one.enabled}


def test_each_has_a_window_of_its_own(lab: Pnv) -> None:
    """``pnv_pci_vf_assign_m64``: of base address 0; that of 16 KiB has one window in segments, and is shifted."""
    pf = lab.device(PF)
    large, small = pf.resources[7], pf.resources[9]
    assert (large.size, small.size) == (8 * 512 * MIB, 256 * SMALL)
    before = large.start, small.start
    lab.write(NUMVFS, "2")
    sriov = lab.function(PF).sriov
    assert sriov is not None
    numbers = [pe.number for pe in sriov.endpoints]
    assert owners(lab) == {1 + place: number for place, number in enumerate(numbers)} | {len(numbers) + 1: None}
    assert (large.start, small.start) == (before[0], before[1] + numbers[0] * SMALL)
    windows = lab.phb(2).windows
    for place, vf in enumerate(lab.function(PF).virtual.values()):
        for bar in (0, 2):
            found = windows.find(Space.MEMORY, vf.resources[bar].start)
            assert found is not None
            assert found.owner(vf.resources[bar].start) == numbers[place]
        assert vf.resources[0].start == before[0] + place * 512 * MIB


def test_one_freezes_alone(lab: Pnv) -> None:
    lab.write(NUMVFS, "3")
    first, second, third = lab.function(PF).virtual.values()
    for value, vf in enumerate((first, second, third)):
        lab.phb(2).store(vf.resources[0].start + 0x10, 4, value)
    lab.bridge(2).endpoints.freeze(lab.pe(second.name).number)
    assert [vf.load_bar(0, 0x10, 4) for vf in (first, second, third)] == [0, ONES, 2]


def test_they_go_and_come_back(lab: Pnv) -> None:
    pf = lab.device(PF)
    starts = [pf.resources[number].start for number in (7, 9)]
    for count in ("4", "1"):
        lab.write(NUMVFS, count)
        lab.write(NUMVFS, "0")
        assert [pf.resources[number].start for number in (7, 9)] == starts
        assert not lab.bridge(2).taken_m64
        assert owners(lab) == {}


def test_there_are_not_enough_windows(lab: Pnv) -> None:
    """EBUSY, and everything is as before: eight functions take nine windows (``pnv_pci_alloc_m64_bar``)."""
    taken = list(iter(lab.bridge(2).take_m64, None))
    lab.bridge(2).taken_m64 -= set(taken[:8])
    before, endpoints_before = set(lab.bridge(2).taken_m64), [pe.number for pe in lab.bridge(2).endpoints]
    assert errno_of(lab.write, NUMVFS, "2") == "EBUSY"
    assert lab.bridge(2).taken_m64 == before
    assert [pe.number for pe in lab.bridge(2).endpoints] == endpoints_before
    assert owners(lab) == {}
    assert lab.text(NUMVFS) == "0\n"


@pytest.mark.parametrize(("size", "room"), [(256 * MIB, 256), (512 * MIB, 8)])
def test_a_quarter_of_a_segment(monkeypatch: pytest.MonkeyPatch, size: int, room: int) -> None:
    """Up to a quarter of a segment (1 GiB here) there is room for all endpoints."""
    lab = lab_with(monkeypatch, size)
    with lab.host:
        assert lab.bridge(2).m64_segment == 1024 * MIB
        assert lab.device(PF).resources[7].size == size * room


def test_too_large_for_a_segment_and_too_small_for_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of one endpoint have 32 MiB at least; without a place there is no function (``sriov_enable``)."""
    monkeypatch.setattr("pyvfio_backends.software.linux.pnv_sriov._SHARE", 256)
    lab = lab_with(monkeypatch, 16 * MIB)
    with lab.host:
        assert lab.device(PF).resources[7].size == 0
        assert errno_of(lab.write, NUMVFS, "1") == "ENOMEM"
