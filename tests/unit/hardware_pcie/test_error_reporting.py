"""Errors: what the function that finds one notes, the message to the root port, containment."""

from __future__ import annotations

import pytest
from pcie_rig import MEMORY, Rig, endpoint, rig

from pyvfio.abi import pci_bridge_regs as bridge
from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_extended_regs import AerControl, DpcControl
from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.pcie.aer import Aer
from pyvfio_backends.software.hardware.pcie.dpc import Dpc
from pyvfio_backends.software.hardware.pcie.event_collector import EventCollector
from pyvfio_backends.software.hardware.pcie.express import DEVICE_ERRORS, REPORTING, Express
from pyvfio_backends.software.hardware.pcie.extended import CollectorAssociation
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.models import ioh3420
from pyvfio_backends.software.hardware.pcie.packet import header
from pyvfio_backends.software.hardware.pcie.port import RootPort
from pyvfio_backends.software.hardware.pcie.reporting import ErrorMessage, Severity
from pyvfio_backends.software.hardware.pcie.request import Outcome, Request, Space

ALL_MESSAGES = (
    extended.PCI_ERR_ROOT_CMD_COR_EN | extended.PCI_ERR_ROOT_CMD_NONFATAL_EN | extended.PCI_ERR_ROOT_CMD_FATAL_EN
)


class Registers:
    """The error registers of a function."""

    def __init__(self, function: Function) -> None:
        aer = function.offset(extended.PCI_EXT_CAP_ID_ERR, extended=True)
        at = function.offset(regs.PCI_CAP_ID_EXP)
        assert aer is not None
        assert at is not None
        self.config, self.aer, self.express = function.config, aer, at

    def get(self, register: int) -> int:
        return self.config.read(self.aer + register, 4)

    def set(self, register: int, value: int) -> None:
        self.config.write(self.aer + register, 4, value)

    @property
    def device_status(self) -> int:
        return self.config.read(self.express + regs.PCI_EXP_DEVSTA, 2)

    def clear(self) -> None:
        self.config.write(self.express + regs.PCI_EXP_DEVSTA, 2, DEVICE_ERRORS)
        self.set(extended.PCI_ERR_UNCOR_STATUS, 0xFFFFFFFF)
        self.set(extended.PCI_ERR_COR_STATUS, 0xFFFFFFFF)


@pytest.fixture
def made() -> Rig:
    """Reporting is on everywhere, as Linux has it; SERR, which would report too, is off in the endpoints."""
    made = rig()
    for function in (*made.rp, *made.dn, made.up, made.a, made.b, made.c, made.d):
        config = function.config
        at = function.offset(regs.PCI_CAP_ID_EXP)
        assert at is not None
        config.write(at + regs.PCI_EXP_DEVCTL, 2, config.read(at + regs.PCI_EXP_DEVCTL, 2) | REPORTING)
        if config.is_bridge:
            config.write(bridge.PCI_BRIDGE_CONTROL, 2, bridge.PCI_BRIDGE_CTL_SERR)
        config.write(regs.PCI_COMMAND, 2, config.command & ~regs.PCI_COMMAND_SERR)
    for port in made.rp:
        Registers(port).set(extended.PCI_ERR_ROOT_COMMAND, ALL_MESSAGES)
        assert port.msi is not None
        port.config.write(port.msi.offset + regs.PCI_MSI_ADDRESS_LO, 4, 0xFEE00000)
        port.config.write(port.msi.offset + regs.PCI_MSI_FLAGS, 2, regs.PCI_MSI_FLAGS_ENABLE | 1 << 4)
    return made


def test_a_completion_timeout_reaches_the_root_port(made: Rig) -> None:
    made.a.errors.uncorrectable(extended.PCI_ERR_UNC_COMP_TIME, None)
    end, root = Registers(made.a), Registers(made.rp[0])
    assert end.get(extended.PCI_ERR_UNCOR_STATUS) == extended.PCI_ERR_UNC_COMP_TIME
    assert end.device_status == regs.PCI_EXP_DEVSTA_NFED
    assert end.get(extended.PCI_ERR_CAP) & 0x1F == 14
    assert root.get(extended.PCI_ERR_ROOT_STATUS) == (
        1 << 27 | extended.PCI_ERR_ROOT_UNCOR_RCV | extended.PCI_ERR_ROOT_NONFATAL_RCV
    )
    assert root.get(extended.PCI_ERR_ROOT_ERR_SRC) == made.a.rid << 16
    assert [(source.rid, data) for source, _, data in made.host.messages] == [(made.rp[0].rid, 1)]
    assert made.dn[0].config.read(bridge.PCI_SEC_STATUS, 2) & regs.PCI_STATUS_SIG_SYSTEM_ERROR


def test_severity_decides_between_fatal_and_nonfatal(made: Rig) -> None:
    made.a.errors.uncorrectable(extended.PCI_ERR_UNC_MALF_TLP, Request.store(0, b"x"))
    root = Registers(made.rp[0])
    fatal = extended.PCI_ERR_ROOT_UNCOR_RCV | extended.PCI_ERR_ROOT_FIRST_FATAL | extended.PCI_ERR_ROOT_FATAL_RCV
    assert root.get(extended.PCI_ERR_ROOT_STATUS) & 0x7F == fatal
    assert Registers(made.a).device_status == regs.PCI_EXP_DEVSTA_FED
    root.set(extended.PCI_ERR_ROOT_STATUS, 0x7F)
    Registers(made.a).clear()
    Registers(made.a).set(extended.PCI_ERR_UNCOR_SEVER, 0)
    made.a.errors.uncorrectable(extended.PCI_ERR_UNC_MALF_TLP, None)
    nonfatal = extended.PCI_ERR_ROOT_UNCOR_RCV | extended.PCI_ERR_ROOT_NONFATAL_RCV
    assert root.get(extended.PCI_ERR_ROOT_STATUS) & 0x7F == nonfatal


def test_several_messages_leave_the_first_source(made: Rig) -> None:
    made.a.errors.correctable(extended.PCI_ERR_COR_BAD_TLP)
    made.b.errors.correctable(extended.PCI_ERR_COR_RCVR)
    made.b.errors.uncorrectable(extended.PCI_ERR_UNC_COMP_TIME, None)
    made.a.errors.uncorrectable(extended.PCI_ERR_UNC_DLP, None)
    root = Registers(made.rp[0])
    assert root.get(extended.PCI_ERR_ROOT_ERR_SRC) == made.b.rid << 16 | made.a.rid
    every = 0x7F & ~extended.PCI_ERR_ROOT_FIRST_FATAL
    assert root.get(extended.PCI_ERR_ROOT_STATUS) & 0x7F == every
    root.set(extended.PCI_ERR_ROOT_STATUS, 0x7F)
    assert root.get(extended.PCI_ERR_ROOT_STATUS) & 0x7F == 0
    assert len(made.host.messages) == 1, "none was cleared in between"


def test_the_interrupt_goes_out_when_there_is_something_new_or_newly_enabled(made: Rig) -> None:
    """6.2.4.1.2: a message at each change from "nothing enabled has come" to "something has"."""
    root = Registers(made.rp[0])
    made.a.errors.correctable(extended.PCI_ERR_COR_BAD_TLP)
    root.set(extended.PCI_ERR_ROOT_STATUS, 0x7F)
    made.a.errors.correctable(extended.PCI_ERR_COR_BAD_TLP)
    assert len(made.host.messages) == 2
    root.set(extended.PCI_ERR_ROOT_COMMAND, 0)
    assert len(made.host.messages) == 2
    root.set(extended.PCI_ERR_ROOT_COMMAND, ALL_MESSAGES)
    assert len(made.host.messages) == 3


def test_without_messages_the_pin_is_asserted_as_long_as_an_error_stands(made: Rig) -> None:
    root, port = Registers(made.rp[0]), made.rp[0]
    levels: list[bool] = []
    made.complex.on_intx = lambda bus, devfn, pin, level, source: levels.append(level)
    assert port.msi is not None
    port.config.write(port.msi.offset + regs.PCI_MSI_FLAGS, 2, 0)
    made.a.errors.correctable(extended.PCI_ERR_COR_BAD_TLP)
    assert levels[-1]
    root.set(extended.PCI_ERR_ROOT_STATUS, 0x7F)
    assert not levels[-1]
    assert not made.host.messages


def test_several_errors_are_recorded_where_software_lets_them(made: Rig) -> None:
    port = made.dn[0]
    registers = Registers(port)
    registers.set(extended.PCI_ERR_CAP, AerControl.MULTIPLE_ENABLE)
    first, second = Request.read(0x1000, 4), Request.read(0x2000, 4)
    port.errors.uncorrectable(extended.PCI_ERR_UNC_ACSV, first)
    port.errors.uncorrectable(extended.PCI_ERR_UNC_POISON_TLP, second)
    log = registers.aer + extended.PCI_ERR_HEADER_LOG + 8
    assert (registers.get(extended.PCI_ERR_CAP) & 0x1F, port.config.read(log, 4)) == (21, 0x1000)
    registers.set(extended.PCI_ERR_UNCOR_STATUS, extended.PCI_ERR_UNC_ACSV)
    assert (registers.get(extended.PCI_ERR_CAP) & 0x1F, port.config.read(log, 4)) == (12, 0x2000)
    assert registers.get(extended.PCI_ERR_UNCOR_STATUS) == extended.PCI_ERR_UNC_POISON_TLP
    for _ in range(10):
        port.errors.uncorrectable(extended.PCI_ERR_UNC_ECRC, first)
    assert registers.get(extended.PCI_ERR_COR_STATUS) == extended.PCI_ERR_COR_LOG_OVER


def test_a_masked_advisory_error_leaves_the_uncorrectable_status_alone(made: Rig) -> None:
    """Figure 6-3 of the Base Specification: the way ends at the mask of advisory non-fatal errors."""
    end = Registers(made.a)
    made.a.errors.uncorrectable(extended.PCI_ERR_UNC_UNSUP, None, advisory=True)
    assert end.get(extended.PCI_ERR_COR_STATUS) == extended.PCI_ERR_COR_ADV_NFAT
    assert end.get(extended.PCI_ERR_UNCOR_STATUS) == 0


def test_an_unsupported_request_is_reported_if_that_is_enabled_or_serr(made: Rig) -> None:
    end = Registers(made.a)
    made.a.config.write(end.express + regs.PCI_EXP_DEVCTL, 2, REPORTING & ~regs.PCI_EXP_DEVCTL_URRE)
    made.a.errors.uncorrectable(extended.PCI_ERR_UNC_UNSUP, None)
    assert not made.rp[0].root_errors.received
    made.a.config.write(regs.PCI_COMMAND, 2, made.a.config.command | regs.PCI_COMMAND_SERR)
    made.a.errors.uncorrectable(extended.PCI_ERR_UNC_UNSUP, None)
    assert len(made.rp[0].root_errors.received) == 1


def test_a_masked_error_is_noted_and_not_sent(made: Rig) -> None:
    end = Registers(made.a)
    end.set(extended.PCI_ERR_UNCOR_MASK, extended.PCI_ERR_UNC_COMP_TIME)
    end.set(extended.PCI_ERR_COR_MASK, extended.PCI_ERR_COR_RCVR)
    made.a.errors.uncorrectable(extended.PCI_ERR_UNC_COMP_TIME, None)
    made.a.errors.correctable(extended.PCI_ERR_COR_RCVR)
    assert end.get(extended.PCI_ERR_UNCOR_STATUS) == extended.PCI_ERR_UNC_COMP_TIME
    assert end.get(extended.PCI_ERR_COR_STATUS) == extended.PCI_ERR_COR_RCVR
    assert end.get(extended.PCI_ERR_CAP) & 0x1F == 0
    assert not made.rp[0].root_errors.received


@pytest.mark.parametrize("serr", [False, True])
def test_without_reporting_only_serr_sends(made: Rig, serr: bool) -> None:
    end = Registers(made.a)
    made.a.config.write(end.express + regs.PCI_EXP_DEVCTL, 2, 0)
    if serr:
        made.a.config.write(regs.PCI_COMMAND, 2, made.a.config.command | regs.PCI_COMMAND_SERR)
    made.a.errors.uncorrectable(extended.PCI_ERR_UNC_COMP_TIME, None)
    made.a.errors.correctable(extended.PCI_ERR_COR_RCVR)
    assert len(made.rp[0].root_errors.received) == serr
    assert bool(made.a.config.read(regs.PCI_STATUS, 2) & regs.PCI_STATUS_SIG_SYSTEM_ERROR) == serr


def test_a_bridge_without_serr_stops_messages(made: Rig) -> None:
    made.dn[0].config.write(bridge.PCI_BRIDGE_CONTROL, 2, 0)
    made.a.errors.uncorrectable(extended.PCI_ERR_UNC_DLP, None)
    assert not made.rp[0].root_errors.received


def test_an_unsupported_read_is_advisory_and_a_write_is_not(made: Rig) -> None:
    """The requester of a read learns it by the completion, so the completer only corrects (6.2.3.2.4)."""
    end = Registers(made.a)
    made.a.config.write(regs.PCI_COMMAND, 2, made.a.config.command & ~MEMORY)
    end.set(extended.PCI_ERR_COR_MASK, 0)
    address = made.at(made.a)
    made.complex.load(address, 4)
    assert end.get(extended.PCI_ERR_COR_STATUS) == extended.PCI_ERR_COR_ADV_NFAT
    assert end.get(extended.PCI_ERR_UNCOR_STATUS) == extended.PCI_ERR_UNC_UNSUP
    assert end.device_status == regs.PCI_EXP_DEVSTA_CED | regs.PCI_EXP_DEVSTA_URD
    assert [message.severity.value for message in made.rp[0].root_errors.received] == ["ERR_COR"]
    end.clear()
    made.complex.store(address, 4, 0)
    assert end.device_status == regs.PCI_EXP_DEVSTA_NFED | regs.PCI_EXP_DEVSTA_URD
    assert made.rp[0].root_errors.received[-1].severity.value == "ERR_NONFATAL"


def test_the_header_log_keeps_the_first_until_its_bit_is_cleared(made: Rig) -> None:
    end = Registers(made.a)
    first, second = Request.store(0x1122334455667788, bytes(8), requester=0x1234), Request.read(0x10, 2)
    made.a.errors.uncorrectable(extended.PCI_ERR_UNC_POISON_TLP, first)
    made.a.errors.uncorrectable(extended.PCI_ERR_UNC_ECRC, second)
    log = end.aer + extended.PCI_ERR_HEADER_LOG
    words = [end.config.read(log + at, 4) for at in range(0, 16, 4)]
    assert words == [0x60000002, 0x123400FF, 0x11223344, 0x55667788]
    assert end.get(extended.PCI_ERR_CAP) & 0x1F == 12
    end.set(extended.PCI_ERR_UNCOR_STATUS, extended.PCI_ERR_UNC_POISON_TLP)
    made.a.errors.uncorrectable(extended.PCI_ERR_UNC_UNSUP, second)
    assert [end.config.read(log + at, 4) for at in range(0, 16, 4)] == [0x00000001, 0x00000003, 0x10, 0]
    assert end.get(extended.PCI_ERR_CAP) & 0x1F == 20


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request.read(0x1001, 1), [0x00000001, 0x00000002, 0x1000, 0]),
        (Request.read(0x1002, 6, requester=0x0708), [0x00000002, 0x070800FC, 0x1000, 0]),
        (Request.store(0xCF8, bytes(4), space=Space.IO), [0x42000001, 0x0000000F, 0xCF8, 0]),
        (Request.store(0x1001, bytes(5)), [0x40000002, 0x0000003E, 0x1000, 0]),
    ],
)
def test_the_header_of_a_packet(request_: Request, words: list[int]) -> None:
    """Formats, byte enables and lengths of the Base Specification, 2.2.1 and 2.2.5."""
    assert [header(request_) >> 32 * index & 0xFFFFFFFF for index in range(4)] == words


def test_sticky_registers_outlast_a_hot_reset(made: Rig) -> None:
    end = Registers(made.a)
    made.a.errors.uncorrectable(extended.PCI_ERR_UNC_DLP, None)
    made.dn[0].config.write(bridge.PCI_BRIDGE_CONTROL, 2, bridge.PCI_BRIDGE_CTL_BUS_RESET)
    made.dn[0].config.write(bridge.PCI_BRIDGE_CONTROL, 2, 0)
    assert end.get(extended.PCI_ERR_UNCOR_STATUS) == extended.PCI_ERR_UNC_DLP
    assert end.device_status == 0
    assert made.a.config.command == 0


def test_end_to_end_crcs_matter_where_they_are_checked(made: Rig) -> None:
    address = made.at(made.a)
    bad = Request.store(address, b"1")
    bad.digest = False
    assert made.complex.transfer(bad).ok
    end = Registers(made.a)
    end.set(extended.PCI_ERR_CAP, extended.PCI_ERR_CAP_ECRC_CHKE)
    assert made.complex.transfer(bad).outcome is Outcome.ECRC
    assert end.get(extended.PCI_ERR_UNCOR_STATUS) == extended.PCI_ERR_UNC_ECRC
    up = Request.read(0, 4)
    up.digest = False
    assert made.a.send(up).ok
    Registers(made.rp[0]).set(extended.PCI_ERR_CAP, extended.PCI_ERR_CAP_ECRC_CHKE)
    assert made.a.send(up).outcome is Outcome.ECRC
    assert end.get(extended.PCI_ERR_UNCOR_STATUS) & extended.PCI_ERR_UNC_COMP_TIME


def test_a_requester_notes_a_poisoned_answer_and_one_that_never_came(made: Rig) -> None:
    end = Registers(made.c)
    made.d.hung = True
    assert made.c.send(Request.read(made.at(made.d), 4)).outcome is Outcome.TIMEOUT
    assert end.get(extended.PCI_ERR_UNCOR_STATUS) == extended.PCI_ERR_UNC_COMP_TIME


def test_an_event_collector_hears_the_integrated_endpoints_of_its_bus(made: Rig) -> None:
    collector = EventCollector(ConfigSpace(Identity(1, 2, class_code=0x080700)))
    collector.add(Express(ExpressType.RC_EC))
    collector.add(Aer(root=True))
    collector.add(CollectorAssociation())
    made.complex.root_buses[0].plug(collector, 4)
    at = made.g.offset(regs.PCI_CAP_ID_EXP)
    assert at is not None
    made.g.config.write(at + regs.PCI_EXP_DEVCTL, 2, REPORTING)
    made.g.errors.uncorrectable(extended.PCI_ERR_UNC_DLP, None)
    assert [message.rid for message in collector.root_errors.received] == [made.g.rid]
    assert Registers(collector).get(extended.PCI_ERR_ROOT_ERR_SRC) == made.g.rid << 16


@pytest.mark.parametrize(
    ("association", "rids"),
    [
        (CollectorAssociation(1 << 3), {0x0018, 0x001B}),
        (CollectorAssociation(0), set()),
        (CollectorAssociation(0, (0x20, 0x21)), {0x2018, 0x2101}),
        (CollectorAssociation(0, (0, 0x1F)), set()),  # its own bus is for the bitmap alone
        (CollectorAssociation(1 << 3, (0x20, 0x21), edition=1), {0x0018, 0x001B}),  # without the register of buses
        (None, set()),
    ],
)
def test_whom_a_collector_hears(made: Rig, association: CollectorAssociation | None, rids: set[int]) -> None:
    collector = EventCollector(ConfigSpace(Identity(1, 2, class_code=0x080700)))
    collector.add(Express(ExpressType.RC_EC))
    if association is not None:
        collector.add(association)
    assert not collector.hears(0x0018)  # on no bus
    made.complex.root_buses[0].plug(collector, 4)
    every = (0x0010, 0x0018, 0x001B, 0x2018, 0x2101, 0x2218)
    assert {rid for rid in every if collector.hears(rid)} == rids
    assert collector.hears(collector.rid)


def test_a_collector_hears_no_port_or_endpoint_that_is_not_integrated(made: Rig) -> None:
    collector = EventCollector(ConfigSpace(Identity(1, 2, class_code=0x080700)))
    for capability in (Express(ExpressType.RC_EC), Aer(root=True), CollectorAssociation()):
        collector.add(capability)
    bus = made.complex.root_buses[0]
    bus.plug(collector, 4)
    stranger = Function(ConfigSpace(Identity(1, 2)))
    stranger.add(Express(ExpressType.ENDPOINT))
    bus.plug(stranger, 5)
    bus.report(ErrorMessage(Severity.FATAL, stranger.rid))
    bus.report(ErrorMessage(Severity.FATAL, 6 << 3))  # nobody is there any more
    assert collector.root_errors.received == []
    bus.report(ErrorMessage(Severity.FATAL, made.g.rid))
    assert len(collector.root_errors.received) == 1


def test_conventional_functions_have_status_bits_only(made: Rig) -> None:
    made.e.config.write(regs.PCI_COMMAND, 2, made.e.config.command | regs.PCI_COMMAND_SERR)
    made.e.errors.uncorrectable(extended.PCI_ERR_UNC_DLP, None)
    assert not made.rp[2].root_errors.received


# ---- containment -----------------------------------------------------------------------------------------------------


@pytest.fixture
def contained() -> tuple[Rig, Function, int]:
    made = rig()
    port = ioh3420(name="dpc")
    at = port.add(Dpc(irq=1))
    port.finish()
    made.complex.root_buses[0].plug(port, 9)
    function = port.plug(endpoint(name="h"))
    from pyvfio_backends.software.hardware.pcie.firmware import Firmware

    Firmware().set_up(made.complex)
    express_at = function.offset(regs.PCI_CAP_ID_EXP)
    assert express_at is not None
    function.config.write(express_at + regs.PCI_EXP_DEVCTL, 2, REPORTING)
    return made, function, at


def test_a_fatal_error_takes_the_link_down(contained: tuple[Rig, Function, int]) -> None:
    made, function, at = contained
    port = function.bus.bridge  # type: ignore[union-attr]
    assert port is not None
    rid = function.rid
    port.config.write(at + extended.PCI_EXP_DPC_CTL, 2, extended.PCI_EXP_DPC_CTL_EN_FATAL)
    function.errors.uncorrectable(extended.PCI_ERR_UNC_COMP_TIME, None)
    assert port.passes
    function.errors.uncorrectable(extended.PCI_ERR_UNC_DLP, None)
    status = port.config.read(at + extended.PCI_EXP_DPC_STATUS, 2)
    assert status == extended.PCI_EXP_DPC_STATUS_TRIGGER | extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN_FE
    assert port.config.read(at + extended.PCI_EXP_DPC_SOURCE_ID, 2) == rid
    assert not port.passes
    assert made.complex.config_read(0, rid, 0, 4) == 0xFFFFFFFF
    assert function.config.command == 0, "its link went down: it was reset"
    port.config.write(at + extended.PCI_EXP_DPC_STATUS, 2, extended.PCI_EXP_DPC_STATUS_TRIGGER)
    assert port.passes
    assert made.complex.config_read(0, rid, 0, 4) == 0x56781234


def test_an_error_of_the_port_itself_is_contained_and_not_sent(contained: tuple[Rig, Function, int]) -> None:
    _, function, at = contained
    port = function.bus.bridge  # type: ignore[union-attr]
    assert isinstance(port, RootPort)
    express_at = port.offset(regs.PCI_CAP_ID_EXP)
    assert express_at is not None
    port.config.write(express_at + regs.PCI_EXP_DEVCTL, 2, REPORTING)
    port.config.write(at + extended.PCI_EXP_DPC_CTL, 2, extended.PCI_EXP_DPC_CTL_EN_NONFATAL)
    port.errors.uncorrectable(extended.PCI_ERR_UNC_ACSV, None)
    assert port.config.read(at + extended.PCI_EXP_DPC_STATUS, 2) == extended.PCI_EXP_DPC_STATUS_TRIGGER
    assert not port.passes
    assert not port.root_errors.received


def test_software_can_trigger_containment(contained: tuple[Rig, Function, int]) -> None:
    _, function, at = contained
    port = function.bus.bridge  # type: ignore[union-attr]
    assert port is not None
    port.config.write(at + extended.PCI_EXP_DPC_CTL, 2, DpcControl.SOFTWARE_TRIGGER)
    assert port.passes, "containment is not enabled"
    port.config.write(at + extended.PCI_EXP_DPC_CTL, 2, DpcControl.SOFTWARE_TRIGGER | 1)
    assert not port.passes
    status = port.config.read(at + extended.PCI_EXP_DPC_STATUS, 2)
    assert status & 0x67 == 0x27
    assert not port.config.read(at + extended.PCI_EXP_DPC_CTL, 2) & DpcControl.SOFTWARE_TRIGGER
