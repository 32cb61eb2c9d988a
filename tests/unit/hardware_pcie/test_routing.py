"""Requests on their way: down by windows, up by routing id, between peers, and where they end."""

from __future__ import annotations

import pytest
from pcie_rig import MASTER, MEMORY, Rig, rig, switch_acs

from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import AcsBits
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.hardware.pcie.access import RequestFailed
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.request import (
    AddressType,
    Completion,
    Outcome,
    Refusal,
    Request,
    Space,
)
from pyvfio_backends.software.hardware.pcie.upstream import Source

PAGE = 0x1000
DEFAULT_ACS = AcsBits.SV | AcsBits.RR | AcsBits.CR | AcsBits.UF


@pytest.fixture
def made() -> Rig:
    return rig()


def command(function: Function, *, off: int = 0, on: int = 0) -> None:
    function.config.write(regs.PCI_COMMAND, 2, function.config.command & ~off | on)


def seen(made: Rig) -> list[tuple[str, int, int]]:
    return [(what, source.rid, address) for what, source, address, _ in made.host.seen]


# ---- down ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "e"])
@pytest.mark.parametrize("where", ["itself", "the bridge above", "the root port"])
def test_memory_enable_is_honoured_all_the_way(made: Rig, name: str, where: str) -> None:
    target: Function = getattr(made, name)
    address = made.at(target)
    assert made.complex.load(address, 4) == 0
    bus = target.bus
    assert bus is not None
    above = bus.bridge
    root = made.rp[0] if name == "a" else made.rp[2]
    switch = {"itself": target, "the bridge above": above, "the root port": root}[where]
    assert switch is not None
    command(switch, off=MEMORY)
    assert made.complex.load(address, 4) == 0xFFFFFFFF
    command(switch, on=MEMORY)
    assert made.complex.load(address, 4) == 0


def test_io_goes_by_its_own_windows_and_enable(made: Rig) -> None:
    port = made.at(made.e, 1)
    made.complex.port_out(port + 4, 2, 0xBEEF)
    assert made.complex.port_in(port + 4, 2) == 0xBEEF
    assert made.complex.load(port, 4) == 0xFFFFFFFF
    command(made.rp[2], off=regs.PCI_COMMAND_IO)
    assert made.complex.port_in(port + 4, 2) == 0xFFFF


def test_isa_enable_hides_the_upper_three_quarters_of_each_kilobyte(made: Rig) -> None:
    port = made.at(made.e, 1)
    bridge = made.e.bus.bridge  # type: ignore[union-attr]
    assert bridge is not None
    made.e.config.write(regs.PCI_BASE_ADDRESS_1, 4, port | 0x100)
    assert made.complex.port_in(port | 0x100, 1) == 0
    bridge.config.write(0x3E, 2, 4)
    assert made.complex.port_in(port | 0x100, 1) == 0xFF


def test_a_function_in_d3_answers_configuration_requests_only() -> None:
    from pyvfio_backends.software.hardware.pcie.capabilities import PowerManagement

    made = rig()
    at = made.a.add(PowerManagement())
    made.a.config.seal()
    address = made.at(made.a)
    made.complex.config_write(0, made.a.rid, at + regs.PCI_PM_CTRL, 2, 3)
    assert made.complex.load(address, 4) == 0xFFFFFFFF
    assert made.complex.config_read(0, made.a.rid, 0, 4) == 0x56781234
    with pytest.raises(RequestFailed):
        made.a.dma_read(0, 4)
    made.complex.config_write(0, made.a.rid, at + regs.PCI_PM_CTRL, 2, 0)
    assert made.complex.load(address, 4) == 0


def test_addresses_that_nobody_has_are_unsupported(made: Rig) -> None:
    for address in (0x1000, made.at(made.a) + PAGE, 0xBFFFFFFF, 0x8000000000000000):
        assert made.complex.transfer(Request.read(address, 4)).outcome is Outcome.UNSUPPORTED
        made.complex.store(address, 4, 1)


def test_a_request_that_crosses_the_end_of_a_range_is_nobodys(made: Rig) -> None:
    end = made.at(made.a) + PAGE
    assert made.complex.transfer(Request.read(end - 4, 4)).ok
    assert made.complex.transfer(Request.read(end - 4, 8)).outcome is Outcome.UNSUPPORTED


def test_odd_lengths_are_done_in_aligned_pieces(made: Rig) -> None:
    data = bytes(range(100))
    address = made.at(made.c) + 3
    assert made.complex.transfer(Request.store(address, data)) == Completion(Outcome.SUCCESS, b"", made.c.rid)
    assert made.complex.transfer(Request.read(address, 100)).data == data


class Refusing:
    """Registers that refuse everything."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    def read(self, offset: int, length: int) -> int:
        raise Refusal(self.outcome)

    def takes(self, offset: int, length: int) -> bool:
        return True

    def write(self, offset: int, length: int, value: int) -> None:
        raise Refusal(self.outcome)

    def reset(self) -> None:
        pass


@pytest.mark.parametrize("outcome", [Outcome.ABORT, Outcome.TIMEOUT, Outcome.POISONED])
def test_registers_can_end_a_request(made: Rig, outcome: Outcome) -> None:
    made.a.bars[0].registers = Refusing(outcome)
    assert made.complex.transfer(Request.read(made.at(made.a), 4)).outcome is outcome
    status = made.a.config.read(regs.PCI_STATUS, 2)
    assert bool(status & regs.PCI_STATUS_SIG_TARGET_ABORT) == (outcome is Outcome.ABORT)


def test_a_hung_function_answers_nothing(made: Rig) -> None:
    address = made.at(made.a)
    made.a.hung = True
    assert made.complex.transfer(Request.read(address, 4)).outcome is Outcome.TIMEOUT
    assert made.complex.config_read(0, made.a.rid, 0, 4) == 0xFFFFFFFF


# ---- configuration ---------------------------------------------------------------------------------------------------


def test_configuration_requests_stop_where_the_link_is_down(made: Rig) -> None:
    rid, address = made.c.rid, made.at(made.c)
    link = made.rp[1].offset(regs.PCI_CAP_ID_EXP)
    assert link is not None
    made.rp[1].config.write(link + express.PCI_EXP_LNKCTL, 2, express.PCI_EXP_LNKCTL_LD)
    assert made.complex.config_read(0, rid, 0, 2) == 0xFFFF
    assert made.complex.load(address, 4) == 0xFFFFFFFF
    made.rp[1].config.write(link + express.PCI_EXP_LNKCTL, 2, 0)
    assert made.complex.config_read(0, rid, 0, 2) == 0x1234
    assert made.complex.load(address, 4) == 0xFFFFFFFF, "the link went down: the function was reset"


def test_below_a_port_there_is_only_device_0(made: Rig) -> None:
    assert made.complex.function(0, made.c.rid) is made.c
    assert made.complex.function(0, made.c.rid | 8) is None
    assert made.complex.function(0, 0xFF00) is None
    assert made.complex.function(7, 0) is None


def test_bus_numbers_written_anew_lead_elsewhere(made: Rig) -> None:
    old = made.c.rid
    made.rp[1].config.write(0x19, 2, 0x2020)
    assert made.complex.function(0, old) is None
    assert made.complex.function(0, 0x2000) is made.c
    assert made.c.rid == 0x2000


# ---- up --------------------------------------------------------------------------------------------------------------


def test_dma_arrives_with_the_routing_id(made: Rig) -> None:
    made.a.dma_write(0x100, b"hello")
    assert made.g.dma_read(0x100, 5) == b"hello"
    assert seen(made) == [("write", made.a.rid, 0x100), ("read", made.g.rid, 0x100)]


def test_behind_a_bridge_to_conventional_pci_all_have_the_bridges_name(made: Rig) -> None:
    made.e.dma_write(0, b"e")
    made.f.dma_write(0, b"f")
    assert made.e.bus is not None
    assert {rid for _, rid, _ in seen(made)} == {made.e.bus.number << 8}


def test_long_dma_is_cut_at_pages(made: Rig) -> None:
    made.a.dma_write(0xFF0, bytes(0x1020))
    assert seen(made) == [("write", made.a.rid, 0xFF0), ("write", made.a.rid, 0x1000), ("write", made.a.rid, 0x2000)]


@pytest.mark.parametrize("name", ["a", "c", "e", "g"])
def test_no_bus_master_no_requests(made: Rig, name: str) -> None:
    function: Function = getattr(made, name)
    command(function, off=MASTER)
    with pytest.raises(DmaFault):
        function.dma_read(0, 4)
    with pytest.raises(DmaFault):
        function.dma_write(0, b"x")
    function.signal(0)
    assert not made.host.seen
    assert not made.host.messages


@pytest.mark.parametrize("which", [0, 1, 2])
def test_every_bridge_on_the_way_must_be_bus_master(made: Rig, which: int) -> None:
    command([made.dn[0], made.up, made.rp[0]][which], off=MASTER)
    with pytest.raises(DmaFault):
        made.a.dma_read(0, 4)
    made.a.dma_write(0, b"posted, and nobody says a word")
    assert not made.host.seen


def test_what_the_iommu_refuses_is_unsupported(made: Rig) -> None:
    with pytest.raises(RequestFailed) as caught:
        made.a.dma_read(0x200000, 4)
    assert caught.value.outcome is Outcome.UNSUPPORTED
    assert made.a.config.read(regs.PCI_STATUS, 2) & regs.PCI_STATUS_REC_MASTER_ABORT


def test_interrupt_messages_are_told_apart_from_memory(made: Rig) -> None:
    assert made.a.msi is not None
    at = made.a.msi.offset
    made.a.config.write(at + regs.PCI_MSI_ADDRESS_LO, 4, 0xFEE01000)
    made.a.config.write(at + regs.PCI_MSI_DATA_64, 2, 0x40)
    made.a.config.write(at + regs.PCI_MSI_FLAGS, 2, regs.PCI_MSI_FLAGS_ENABLE | 2 << 4)
    for vector in (0, 3, 6):
        made.a.signal(vector)
    made.a.config.write(at + regs.PCI_MSI_MASK_64, 4, 2)
    made.a.signal(1)
    assert made.a.config.read(at + regs.PCI_MSI_PENDING_64, 4) == 2
    made.a.config.write(at + regs.PCI_MSI_MASK_64, 4, 0)
    assert made.a.config.read(at + regs.PCI_MSI_PENDING_64, 4) == 0
    source = Source(0, made.a.rid)
    assert made.host.messages == [(source, 0xFEE01000, data) for data in (0x40, 0x43, 0x42, 0x41)]
    assert not made.host.seen


def test_a_write_of_another_size_there_is_a_write(made: Rig) -> None:
    made.a.dma_write(0xFEE00000, b"12345678")
    assert not made.host.messages
    assert len(made.host.seen) == 1


# ---- peers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target"), [("a", "b"), ("c", "d"), ("e", "f"), ("a", "c"), ("g", "a"), ("f", "g"), ("c", "g")]
)
def test_without_access_control_peers_reach_each_other(made: Rig, source: str, target: str) -> None:
    one, two = getattr(made, source), getattr(made, target)
    one.dma_write(made.at(two) + 8, b"peer")
    assert one.dma_read(made.at(two) + 8, 4) == b"peer"
    assert not made.host.seen
    assert made.complex.load(made.at(two) + 8, 4) == int.from_bytes(b"peer", "little")


@pytest.mark.parametrize(("source", "target"), [("a", "c"), ("g", "a"), ("f", "g")])
def test_a_root_complex_may_send_everything_to_the_iommu(source: str, target: str) -> None:
    made = rig(peer_to_peer=False)
    one, two = getattr(made, source), getattr(made, target)
    one.dma_write(made.at(two), b"peer")
    assert [address for _, _, address in seen(made)] == [made.at(two)]


def test_a_function_does_not_reach_itself_through_its_port(made: Rig) -> None:
    made.a.dma_write(made.at(made.a), b"me")
    assert made.complex.load(made.at(made.a), 2) == 0


def test_request_redirect_takes_peers_up_to_the_iommu() -> None:
    made = rig(acs=True, endpoint_acs=True)
    for port in (*made.rp, *made.dn, made.c):
        switch_acs(port, DEFAULT_ACS if port is not made.c else AcsBits.RR)
    for source, target in (("a", "b"), ("c", "d"), ("a", "c")):
        made.host.seen.clear()
        one, two = getattr(made, source), getattr(made, target)
        one.dma_write(made.at(two), b"peer")
        assert seen(made) == [("write", one.rid, made.at(two))], (source, target)
        assert made.complex.load(made.at(two), 4) == 0


def test_redirected_without_upstream_forwarding_ends_at_the_root_port() -> None:
    made = rig(acs=True)
    switch_acs(made.dn[0], AcsBits.RR)
    made.a.dma_write(made.at(made.b), b"peer")
    assert not made.host.seen
    assert made.complex.load(made.at(made.b), 4) == 0
    assert made.rp[0].config.read(made.rp[0].offset(regs.PCI_CAP_ID_EXP) + regs.PCI_EXP_DEVSTA, 2) & 8  # type: ignore[operator]


def test_a_translated_request_goes_direct_where_that_is_allowed() -> None:
    made = rig(acs=True)
    for port in (*made.rp, *made.dn):
        switch_acs(port, DEFAULT_ACS)
    request = Request.store(made.at(made.b), b"peer")
    request.address_type = AddressType.TRANSLATED
    made.a.send(request)
    assert len(made.host.seen) == 1
    switch_acs(made.dn[0], DEFAULT_ACS | AcsBits.DT)
    request = Request.store(made.at(made.b), b"peer")
    request.address_type = AddressType.TRANSLATED
    assert made.a.send(request).ok
    assert len(made.host.seen) == 1
    assert made.complex.load(made.at(made.b), 1) == ord("p")


def test_source_validation_stops_a_false_requester() -> None:
    made = rig(acs=True)
    forged = Request.read(0, 4, requester=made.b.rid)
    assert made.dn[0].ascend(forged, made.a).ok
    switch_acs(made.dn[0], AcsBits.SV)
    forged = Request.read(0, 4, requester=made.b.rid)
    assert made.dn[0].ascend(forged, made.a).outcome is Outcome.VIOLATION
    assert made.a.dma_read(0, 4) == bytes(4)


def test_translation_blocking_stops_translated_addresses() -> None:
    made = rig(acs=True)
    switch_acs(made.rp[1], AcsBits.TB)
    for kind in (AddressType.TRANSLATION, AddressType.TRANSLATED):
        request = Request.read(0, 4)
        request.address_type = kind
        assert made.c.send(request).outcome is Outcome.VIOLATION
    assert made.c.config.read(regs.PCI_STATUS, 2) & regs.PCI_STATUS_REC_TARGET_ABORT
    assert not made.host.seen


# ---- errors of requests ----------------------------------------------------------------------------------------------


def test_a_packet_beyond_the_largest_payload_is_malformed(made: Rig) -> None:
    assert made.a.max_payload == 128
    assert made.a.send(Request.store(0, bytes(129))).outcome is Outcome.MALFORMED
    assert made.a.send(Request.store(0, bytes(128))).ok
    assert made.complex.transfer(Request.store(made.at(made.c), bytes(129))).outcome is Outcome.MALFORMED
    assert len(made.host.seen) == 1


def test_a_sender_with_larger_packets_than_its_port_takes(made: Rig) -> None:
    at = made.a.offset(regs.PCI_CAP_ID_EXP)
    assert at is not None
    made.a.config.write(at + regs.PCI_EXP_DEVCTL, 2, express.PCI_EXP_DEVCTL_PAYLOAD_512B)
    made.a.dma_write(0, bytes(64))
    made.a.dma_write(0, bytes(512))
    assert [count for _, _, _, count in made.host.seen] == [64]


def test_poisoned_data_is_not_used(made: Rig) -> None:
    request = Request.store(made.at(made.a), b"bad")
    request.poisoned = True
    assert made.complex.transfer(request).outcome is Outcome.POISONED
    assert made.complex.load(made.at(made.a), 4) == 0
    assert made.a.config.read(regs.PCI_STATUS, 2) & regs.PCI_STATUS_DETECTED_PARITY
    upstream = Request.store(0, b"bad")
    upstream.poisoned = True
    assert made.a.send(upstream).outcome is Outcome.POISONED
    assert not made.host.seen


def test_io_and_requests_for_translations_do_not_go_up(made: Rig) -> None:
    translation = Request.read(0, 8)
    translation.address_type = AddressType.TRANSLATION
    assert made.a.send(translation).outcome is Outcome.UNSUPPORTED
    assert made.a.send(Request.read(0x60, 1, space=Space.IO)).outcome is Outcome.UNSUPPORTED
