"""POWER's virtual functions have an endpoint each; below a switch each bus has one (``platforms/powernv``, Linux 6.12).

No recording shows these: QEMU's igb has no virtual functions on POWER's lab, and the lab no switch.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pci_fixture import errno_of
from pnv_fixture import Pnv

import pyvfio
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.opal import OpalFreezeAction
from pyvfio.drivers import Edu, Nvme
from pyvfio_backends.software.linux.pnv_pe import PeFlag

PF, FIRST_VF = "0002:01:00.0", "0002:01:10.0"
SWITCH = {"0003:03:00.0": 0x1FB, "0003:04:00.0": 0x1FA, "0003:05:00.0": 0x1F9, "0003:05:00.1": 0x1F9}
NUMVFS = f"/sys/bus/pci/devices/{PF}/sriov_numvfs"


@pytest.fixture
def lab() -> Iterator[Pnv]:
    lab = Pnv("power9-phb4")
    with lab.host:
        yield lab


def test_each_bus_below_a_switch_is_an_endpoint(lab: Pnv) -> None:
    """``pnv_pci_configure_bus``: from the top down, and the ports of the switch share theirs."""
    for name, number in SWITCH.items():
        pe = lab.pe(name)
        assert (pe.number, pe.flags) == (number, PeFlag.BUS)
        group = lab.device(name).iommu_group
        assert group is not None
        assert group.name == f"domain3-pe{number:x}"
    ports = ["0003:02:00.0", "0003:02:01.0", "0003:02:02.0"]
    assert {lab.pe(port).number for port in ports} == {0x1FC}
    assert all(lab.device(port).iommu_group is None for port in ports)


def test_windows_of_ports_are_segments(lab: Pnv) -> None:
    """``pnv_pci_window_alignment``: 4 MiB of the 32-bit window, whose segments are the buses' endpoints'."""
    owners = lab.phb(3).windows.m32.owners
    assert owners[:3] == [0x1FB, 0x1FA, 0x1F9]


def test_pins_turn_at_each_bridge(lab: Pnv) -> None:
    """``of_irq_parse_pci``: behind port n of the switch, pin A is the host bridge's line n."""
    pins = lab.bridge(3).pins
    lines = {number: line for line, number in pins._numbers.items()}
    functions = [lab.function(name) for name in ("0003:03:00.0", "0003:04:00.0")]
    assert [one.config.data[regs.PCI_INTERRUPT_PIN] for one in functions] == [1, 1]
    assert [lines[one.irq] for one in functions] == [0, 1]
    assert lab.function("0003:05:00.0").irq == 0  # it has no pin


def test_an_error_of_a_port_stops_what_is_below(lab: Pnv) -> None:
    """``pnv_ioda_set_peltv``."""
    taken = lab.phb(3).endpoints.taken_along
    assert taken(0x1FC) == {0x1FC, 0x1FB, 0x1FA, 0x1F9}
    assert taken(0x1FB) == {0x1FB}


def test_frozen_neighbours_do_not_matter(lab: Pnv) -> None:
    """An edu and an NVMe below one switch: one is frozen, the other goes on."""
    lab.bridge(3).endpoints.freeze(0x1F9)
    with pyvfio.Host(lab.host) as host:
        for name in ("0003:03:00.0", "0003:04:00.0"):
            pyvfio.bind(host.device(name))
        with pyvfio.open_device(host, "0003:04:00.0") as device, Edu(device) as edu:
            edu.put(b"below a switch")
            assert edu.get(14) == b"below a switch"
        with pyvfio.open_device(host, "0003:03:00.0") as device, Nvme(device) as nvme:
            nvme.write(0, b"4" * 4096)
            assert nvme.read(0, 1) == b"4" * 4096
    assert [one.number for one in lab.phb(3).endpoints.troubled()] == [0x1F9]


def test_base_addresses_have_pages_for_themselves(lab: Pnv) -> None:
    """``pnv_pci_default_alignment``: two functions with 4 KiB each, on a kernel with pages of 64 KiB."""
    assert lab.kernel.page_size == 0x10000
    starts = [lab.device(name).resources[0].start for name in ("0003:05:00.0", "0003:05:00.1")]
    assert starts == [0x600C180800000, 0x600C180810000]
    assert lab.device("0003:05:00.1").bar_mappable(0)


def test_virtual_functions_have_endpoints_in_a_row(lab: Pnv) -> None:
    """``pnv_pci_sriov_enable``: endpoints for all that there can be, addresses in the segments of those."""
    pf, phb = lab.device(PF), lab.phb(2)
    before = [pf.resources[number].start for number in (7, 10)]
    assert [pf.resources[number].size for number in (7, 10)] == [256 * 0x4000] * 2
    lab.write(NUMVFS, "2")
    sriov = lab.function(PF).sriov
    assert sriov is not None
    numbers = [pe.number for pe in sriov.endpoints]
    assert numbers == list(range(0xFD - 8, 0xFD))[8 - len(numbers) :]
    assert [pf.resources[number].start for number in (7, 10)] == [at + numbers[0] * 0x4000 for at in before]
    for place, vf in enumerate(lab.function(PF).virtual.values()):
        function = lab.function(vf.name)
        assert function.pe is sriov.endpoints[place]
        assert function.pe.flags is PeFlag.VF
        assert vf.iommu_group is not None
        assert vf.iommu_group.name == f"domain2-pe{numbers[place]:x}"
        window = phb.windows.m64[1]
        assert window.owner(vf.resources[0].start) == numbers[place]
        assert phb.rids[function.rid] == numbers[place]
    assert phb.endpoints.taken_along(lab.pe(PF).number) >= set(numbers)


def test_one_virtual_function_freezes_alone(lab: Pnv) -> None:
    """``pnv_ioda_setup_vf_PE``: each has an endpoint of its own."""
    lab.write(NUMVFS, "2")
    first, second = lab.function(PF).virtual.values()
    pe = lab.pe(first.name)
    lab.bridge(2).endpoints.freeze(pe.number)
    assert first.load_bar(0, 0, 4) == 0xFFFFFFFF
    assert lab.phb(2).endpoints.frozen == lab.phb(2).endpoints.stopped == {pe.number}
    assert lab.pe(second.name).number != pe.number
    assert lab.function(PF).config_read(0, 4) == 0x10C98086
    assert lab.bridge(2).endpoints.unfreeze(pe.number, OpalFreezeAction.ALL)
    assert not lab.phb(2).endpoints.troubled()


def test_they_go_and_come_back(lab: Pnv) -> None:
    """``pnv_pci_sriov_disable``: endpoints, windows, groups and addresses are as before."""
    pf, endpoints = lab.device(PF), lab.bridge(2).endpoints
    starts = [pf.resources[number].start for number in (7, 10)]
    taken, groups = [pe.number for pe in endpoints], set(lab.kernel.groups.groups)
    for _ in range(2):
        lab.write(NUMVFS, "2")
        assert len(list(endpoints)) > len(taken)
        assert lab.bridge(2).taken_m64 == {1, 2}
        lab.write(NUMVFS, "0")
        assert [pf.resources[number].start for number in (7, 10)] == starts
        assert [pe.number for pe in endpoints] == taken
        assert set(lab.kernel.groups.groups) == groups
        assert not lab.bridge(2).taken_m64
        assert not any(window.enabled for window in lab.phb(2).windows.m64[:-1])


def test_no_endpoints_are_left(lab: Pnv) -> None:
    """EBUSY, and everything is as before (``pnv_ioda_alloc_pe`` finds no run)."""
    endpoints = lab.bridge(2).endpoints
    while endpoints.allocate(4) is not None:
        pass
    taken = [pe.number for pe in endpoints]
    assert errno_of(lab.write, NUMVFS, "2") == "EBUSY"
    assert [pe.number for pe in endpoints] == taken
    assert lab.text(NUMVFS) == "0\n"
