"""Events of PCI functions come by channel reports and STORE EVENT INFORMATION (``chsc_process_sei_nt2``)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pyvfio.css.chsc import ChscResponse
from pyvfio.css.chsc_machine import StoreEvents
from pyvfio.css.sei import FunctionContent, Sei
from pyvfio.host import Host
from pyvfio.zpci.event import AvailabilityEvent, ErrorEvent
from pyvfio.zpci.event_code import AvailabilityCode, ErrorCode
from pyvfio.zpci.function import FunctionState
from pyvfio_backends.software import software_of
from pyvfio_backends.software.description import FunctionSpec, MachineSpec
from pyvfio_backends.software.hardware.zpci.facility import ZpciEvent
from pyvfio_backends.software.hardware.zpci.reports import event_information, told_event
from pyvfio_backends.software.machine import Machine

SLOTS, DEVICES = "/sys/bus/pci/slots", "/sys/bus/pci/devices"


@pytest.fixture
def host() -> Iterator[Host]:
    with Host("software", machine=MachineSpec("one", functions=[FunctionSpec(1, 1, "virtio-bell")])) as one:
        yield one


@pytest.fixture
def machine(host: Host) -> Machine:
    found: Machine = software_of(host.backend).machine
    return found


@pytest.mark.parametrize(
    "event",
    [
        ZpciEvent(AvailabilityCode.CONFIGURED, 7, 0x20001),
        ZpciEvent(AvailabilityCode.RESERVED, 0xFFFFFFFF, 0xFFFFFFFF),
        ZpciEvent(ErrorCode.OUT_OF_RANGE, 7, 0x80020001, 1 << 63, 0, True),
        ZpciEvent(ErrorCode.NO_MESSAGE_VECTOR, 7, 0x80020001, 0, 0xFFF),
    ],
)
def test_an_event_survives_its_way(event: ZpciEvent) -> None:
    information = event_information(event)
    assert information.nt == 2
    assert told_event(Sei.from_bytes(information.to_bytes())) == event


@pytest.mark.parametrize(
    "information",
    [
        Sei(FunctionContent.ERROR, nt=2),
        Sei(FunctionContent.AVAILABILITY, nt=2, ccdf=bytes(71)),
        Sei(3, nt=2, ccdf=bytes(72)),
        Sei.of_function(FunctionContent.AVAILABILITY, AvailabilityEvent(1, 1, 0x309).to_bytes()),
        Sei(FunctionContent.ERROR, nt=0, ccdf=bytes(72)),
    ],
)
def test_what_is_no_event(information: Sei) -> None:
    assert told_event(information) is None


def test_an_error_of_an_unknown_code_is_one(host: Host) -> None:
    found = told_event(Sei.of_function(FunctionContent.ERROR, ErrorEvent(1, 2, pec=0x7777).to_bytes()))
    assert found is not None
    assert found.code is ErrorCode.SERVICE_ERROR


def test_the_machine_tells_what_is_new(machine: Machine) -> None:
    """What Linux would ask for: the information of type 2, once."""
    told: list[Sei] = []
    css = machine.kernel.buses["ccw"].css  # type: ignore[attr-defined]
    css.on_function_event, take = told.append, css.on_function_event
    function = machine.zpci.plug(FunctionSpec(2, 2, "virtio-bell"))
    (event,) = told
    assert (event.nt, event.cc, event.more) == (2, FunctionContent.AVAILABILITY, False)
    assert AvailabilityEvent.from_bytes(event.function_event) == AvailabilityEvent(function.fh, 2, 0x301)
    with machine.lock:
        cc, block = machine.css.chsc(StoreEvents.of(0, 2).request().to_bytes())
    assert (cc, ChscResponse.from_bytes(block).code) == (0, 5)
    take(event)


def test_a_function_comes_and_goes_by_events(host: Host, machine: Machine) -> None:
    machine.zpci.plug(FunctionSpec(2, 2, "virtio-bell", state="standby"))
    assert host.backend.listdir(SLOTS) == ["00000001", "00000002"]
    host.sysfs.write_text(f"{SLOTS}/00000002/power", "1")
    assert sorted(host.backend.listdir(DEVICES)) == ["0001:00:00.0", "0002:00:00.0"]
    machine.zpci.unplug(2)
    assert host.backend.listdir(SLOTS) == ["00000001"]


def test_event_information_that_somebody_injects_is_taken(host: Host, machine: Machine) -> None:
    """The bytes alone do it: a request to let the function go."""
    fh = machine.zpci.functions[1].fh
    field = AvailabilityEvent(fh, 1, AvailabilityCode.DECONFIGURE_REQUESTED).to_bytes()
    with machine.lock:
        machine.css.inject_event(Sei.of_function(FunctionContent.AVAILABILITY, field))
        machine.css.inject_event(Sei(9, nt=2))
        machine.clock.settle()
    assert host.sysfs.read_text(f"{SLOTS}/00000001/power") == "0"
    assert host.backend.listdir(DEVICES) == []


def test_an_error_of_a_stale_handle_is_looked_over(host: Host, machine: Machine) -> None:
    fh = machine.zpci.functions[1].fh
    with machine.lock:
        machine.css.inject_event(
            Sei.of_function(FunctionContent.ERROR, ErrorEvent(fh ^ 0x01000000, 1, pec=0x3B).to_bytes())
        )
        machine.clock.settle()
    assert machine.zpci.functions[1].state is FunctionState.ENABLED
    assert host.sysfs.read_text(f"{SLOTS}/00000001/power") == "1"


def test_a_burst_loses_nothing(host: Host, machine: Machine) -> None:
    for number in range(2, 40):
        machine.zpci.plug(FunctionSpec(number, number, "virtio-bell"))
    assert len(host.backend.listdir(DEVICES)) == 39
