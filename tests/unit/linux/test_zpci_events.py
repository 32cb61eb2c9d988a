"""Events of PCI functions, one by one: what Linux makes of them in each state, and of late and wrong ones.

The rules are those of ``arch/s390/pci/pci_event.c`` (6.12): ``__zpci_event_availability()``, ``__zpci_event_error()``,
``zpci_event_attempt_error_recovery()``; what the guest of ``make hil`` can show is in the contract (test_pci_plug).
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest
from pci_fixture import BELL, BUS, CONFIG, NET, Pci, errno_of

from pyvfio.errors import Misuse, NoSuchDevice
from pyvfio.process import EventFd
from pyvfio.zpci import sclp
from pyvfio.zpci.event_code import AvailabilityCode, ErrorCode
from pyvfio_backends.software.description import FunctionSpec, MachineSpec, ZpciEventSpec
from pyvfio_backends.software.hardware.zpci import FunctionState
from pyvfio_backends.software.hardware.zpci.facility import ZpciEvent
from pyvfio_backends.software.linux.pci_device import ErrorState, PciDevice
from pyvfio_backends.software.linux.pci_driver import PciDriver, PciId, Recovery
from pyvfio_backends.software.linux.zpci import to_zpci
from pyvfio_backends.software.linux.zpci_host import zpci_host

FID, SLOT, NAME = 0x99, "00000099", "0099:00:00.0"
POWER = f"{BUS}/slots/{SLOT}/power"


class Rig(Pci):
    """A machine with one more function, in the state that is asked for."""

    def __init__(self, state: str) -> None:
        super().__init__(FunctionSpec(0x99, FID, "virtio-rng", state=state))
        self.console = self.machine.zpci.console

    @property
    def known(self) -> bool:
        return SLOT in self.host.listdir(f"{BUS}/slots")

    @property
    def there(self) -> bool:
        return NAME in self.host.listdir(f"{BUS}/devices")

    @property
    def power(self) -> str:
        return self.text(POWER).strip()

    def event(self, code: AvailabilityCode | ErrorCode, fid: int = FID, fh: int | None = None) -> None:
        function = self.machine.zpci.functions.get(fid)
        self.console.inject(ZpciEvent(code, fid, fh if fh is not None else function.fh if function else 0))


@pytest.fixture(params=["configured", "standby", "reserved"])
def rig(request: pytest.FixtureRequest) -> Any:
    rig = Rig(request.param)
    yield rig
    rig.host.close()


def rig_of(state: str) -> Rig:
    return Rig(state)


def device_of(rig: Pci, fid: int) -> PciDevice:
    device = zpci_host(rig.kernel).zdevs[fid].pdev
    assert device is not None
    return device


def finish(done: Any) -> None:
    for _ in range(500):
        if done():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it does not end")


# wrong and late ones


@pytest.mark.parametrize("code", [*AvailabilityCode, *ErrorCode])
def test_events_of_no_function_do_nothing(rig: Rig, code: AvailabilityCode | ErrorCode) -> None:
    before = rig.host.listdir(f"{BUS}/slots"), rig.host.listdir(f"{BUS}/devices")
    rig.event(code, fid=0x4711)
    assert (rig.host.listdir(f"{BUS}/slots"), rig.host.listdir(f"{BUS}/devices")) == before
    assert rig.headers() == []


@pytest.mark.parametrize("code", [AvailabilityCode.CONFIGURED, AvailabilityCode.STANDBY])
def test_a_function_that_has_gone_before_its_event(rig: Rig, code: AvailabilityCode) -> None:
    if rig.known:
        pytest.skip("it is known")
    rig.event(code)  # the machine does not tell of a reserved function
    assert not rig.known
    rig.machine.zpci.functions[FID].state = FunctionState.STANDBY
    rig.event(code, fh=0x1234)  # nor by another handle
    assert not rig.known


def test_late_events_of_a_configured_function() -> None:
    rig = rig_of("configured")
    for code in (AvailabilityCode.CONFIGURED, AvailabilityCode.STANDBY, AvailabilityCode.SEVERAL_CHANGED):
        rig.event(code)
        assert rig.power == "1"
        assert rig.headers() == []


def test_late_events_of_a_function_in_standby() -> None:
    rig = rig_of("standby")
    for code in (AvailabilityCode.DECONFIGURE_REQUESTED, AvailabilityCode.DECONFIGURED, AvailabilityCode.STANDBY):
        rig.event(code)
        assert rig.power == "0"
        assert rig.headers() == []


@pytest.mark.parametrize("verb", ["offer", "assign", "take", "ask", "reserve", "fail"])
def test_verbs_in_the_wrong_state(rig: Rig, verb: str) -> None:
    state = rig.machine.zpci.functions[FID].state
    fits = {
        "offer": ("reserved",), "assign": ("reserved", "standby"), "take": ("enabled", "disabled"),
        "ask": ("enabled", "disabled"), "reserve": ("standby",), "fail": ("enabled",),
    }  # fmt: skip
    with pytest.raises(NoSuchDevice):
        getattr(rig.console, verb)(0x4711)
    if state.value in fits[verb]:
        getattr(rig.console, verb)(FID)
    else:
        with pytest.raises(Misuse, match=f"it is {state.value}, not"):
            getattr(rig.console, verb)(FID)
        assert rig.machine.zpci.functions[FID].state is state


def test_several_that_cannot_change() -> None:
    rig = rig_of("configured")
    for states in ({FID: "standby"}, {}, {0x4711: "standby"}):
        with pytest.raises((Misuse, NoSuchDevice)):
            rig.console.change(states)
    rig.console.take(FID)
    with pytest.raises(Misuse, match="standby or reserved, not configured"):
        rig.console.change({FID: "configured"})


# coming


@pytest.mark.parametrize("state", ["standby", "reserved"])
def test_configured_elsewhere(state: str) -> None:
    rig = rig_of(state)
    rig.console.assign(FID)
    assert rig.there
    assert rig.power == "1"


def test_offered_and_reserved_again() -> None:
    rig = rig_of("reserved")
    rig.console.offer(FID)
    assert rig.known
    assert not rig.there
    assert rig.power == "0"
    rig.console.reserve(FID)
    assert not rig.known


def test_several_at_once() -> None:
    rig = rig_of("reserved")
    rig.machine.zpci.plug(FunctionSpec(0x98, 0x98, "virtio-rng", state="standby"))
    rig.seen()
    rig.console.change({FID: "standby", 0x98: "reserved"})
    assert rig.known
    assert "00000098" not in rig.host.listdir(f"{BUS}/slots")
    assert rig.headers() == [
        "remove@/bus/pci/slots/00000098",
        "remove@/devices/pci0098:00/pci_bus/0098:00",
        "remove@/devices/virtual/iommu/s390-iommu.00000098",
        "add@/devices/virtual/iommu/s390-iommu.00000099",
        "add@/devices/pci0099:00/pci_bus/0099:00",
        "add@/bus/pci/slots/00000099",
    ]


def test_an_event_of_several_finds_a_removed_device() -> None:
    rig = rig_of("configured")
    rig.write(f"{BUS}/devices/{NAME}/remove", "1")
    rig.event(AvailabilityCode.SEVERAL_CHANGED)
    assert rig.there


# going


@pytest.mark.parametrize("reserve", [False, True])
def test_taken_without_asking(reserve: bool) -> None:
    rig = rig_of("configured")
    rig.console.take(FID, reserve=reserve)
    assert not rig.there
    assert rig.known is not reserve
    rig.console.assign(FID)
    assert rig.there
    assert rig.power == "1"


def test_asked_for() -> None:
    rig = rig_of("configured")
    rig.console.ask(FID)
    assert not rig.there
    assert rig.power == "0"
    assert rig.machine.zpci.functions[FID].state is FunctionState.STANDBY
    rig.write(POWER, "1")
    assert rig.there


def test_a_reserved_function_is_known_as_long_as_its_device() -> None:
    rig = rig_of("configured")
    rig.event(AvailabilityCode.RESERVED)
    assert rig.there
    assert rig.power == "0"
    assert errno_of(rig.write, POWER, "0") == "EIO"
    assert errno_of(rig.write, POWER, "1") == "EIO"
    rig.write(f"{BUS}/devices/{NAME}/recover", "1")  # nothing, in this state
    rig.event(AvailabilityCode.RESERVED)
    assert rig.known
    rig.write(f"{BUS}/devices/{NAME}/remove", "1")
    assert not rig.known


@pytest.mark.parametrize("code", [AvailabilityCode.CONFIGURED, AvailabilityCode.STANDBY])
def test_a_reserved_function_reappears(code: AvailabilityCode) -> None:
    rig = rig_of("configured")
    rig.event(AvailabilityCode.RESERVED)
    rig.event(code)
    assert rig.power == ("1" if code is AvailabilityCode.CONFIGURED else "0")
    rig.write(f"{BUS}/devices/{NAME}/remove", "1")
    assert rig.known


def test_taken_while_a_program_has_it_open() -> None:
    rig = Pci()
    device = rig.open(BELL)
    rig.machine.zpci.console.take(0x60)
    assert errno_of(device.read, 4, 4) == "ENODEV"
    assert BELL in rig.host.listdir(f"{BUS}/devices")
    device.close()
    finish(lambda: BELL not in rig.host.listdir(f"{BUS}/devices"))
    assert rig.text(f"{BUS}/slots/00000060/power") == "0\n"


def test_gone_while_no_power_waits() -> None:
    """The slot's write fails with EIO in SCLP; the event behind it sees to the rest."""
    rig = Pci()
    device = rig.open(BELL)
    said: list[str] = []
    off = threading.Thread(target=lambda: said.append(errno_of(rig.write, f"{BUS}/slots/00000060/power", "0")))
    off.start()
    finish(lambda: rig.machine.clock.holds(off))
    rig.machine.zpci.unplug(0x60, surprise=True)
    device.close()
    off.join(5)
    assert said == ["EIO"]
    finish(lambda: "00000060" not in rig.host.listdir(f"{BUS}/slots"))
    assert BELL not in rig.host.listdir(f"{BUS}/devices")


def test_no_power_with_virtual_functions() -> None:
    rig = Pci(FunctionSpec(0x70, 0x70, "virtio-bell", options={"total_vfs": 2}))
    device = device_of(rig, 0x70)
    assert device.sriov is not None
    with rig.machine.lock:
        device.sriov.enable(1)
        rig.machine.clock.settle()
    assert errno_of(rig.write, f"{BUS}/slots/00000070/power", "0") == "EBUSY"
    with rig.machine.lock:
        device.sriov.disable()
    rig.write(f"{BUS}/slots/00000070/power", "0")


def test_power_of_a_function_that_does_not_answer() -> None:
    rig = rig_of("standby")
    rig.machine.zpci.functions[FID].config.data[0:2] = b"\xff\xff"
    assert errno_of(rig.write, POWER, "1") == "ENODEV"
    assert rig.power == "1"
    assert errno_of(rig.write, POWER, "1") == "EIO"


# errors


class Recovering(PciDriver):
    """A driver that says what the test has it say, and notes what it was told."""

    recovers = True
    table = (PciId(vendor=0x1AF4),)

    def __init__(self, rig: Pci, *answers: Recovery | None) -> None:
        super().__init__(zpci_host(rig.kernel).bus, "recovering")
        self.answers = list(answers)
        self.told: list[tuple[str, ErrorState, FunctionState]] = []

    def probe(self, device: Any) -> None:
        device.enable()

    def _note(self, what: str, device: PciDevice) -> Recovery | None:
        self.told.append((what, device.error_state, to_zpci(device).function.state))
        return self.answers.pop(0)

    def error_detected(self, device: PciDevice) -> Recovery:
        return self._note("error_detected", device) or Recovery.DISCONNECT

    def mmio_enabled(self, device: PciDevice) -> Recovery | None:
        return self._note("mmio_enabled", device)

    def slot_reset(self, device: PciDevice) -> Recovery:
        return self._note("slot_reset", device) or Recovery.DISCONNECT

    def resume(self, device: PciDevice) -> None:
        self.told.append(("resume", device.error_state, to_zpci(device).function.state))


class Failing:
    """The bell with such a driver."""

    def __init__(self, *answers: Recovery | None) -> None:
        self.pci = Pci()
        self.driver = Recovering(self.pci, *answers)
        with self.pci.machine.lock:
            zpci_host(self.pci.kernel).bus.register(self.driver)
        self.pci.write(f"{BUS}/devices/{BELL}/driver_override", "recovering")
        self.pci.write(f"{BUS}/drivers_probe", BELL)
        assert self.pci.driver(BELL) == "recovering"
        self.pci.seen()
        self.device = device_of(self.pci, 0x60)

    def fail(self, code: ErrorCode = ErrorCode.SERVICE_ACTION) -> list[str]:
        self.pci.machine.zpci.console.fail(0x60, code)
        with self.pci.machine.lock:
            self.pci.machine.clock.settle()
        return [what for what, _, _ in self.driver.told]

    @property
    def events(self) -> list[tuple[str, str]]:
        found = []
        for event in self.pci.seen():
            fields = dict(line.split("=", 1) for line in event.lines()[1:])
            if "ERROR_EVENT" in fields:
                found.append((fields["ERROR_EVENT"], fields["DEVICE_ONLINE"]))
        return found


CAN, RESET, LOST, DONE = Recovery.CAN_RECOVER, Recovery.NEED_RESET, Recovery.DISCONNECT, Recovery.RECOVERED
BEGIN, GOOD, BAD = ("BEGIN_RECOVERY", "0"), ("SUCCESSFUL_RECOVERY", "1"), ("FAILED_RECOVERY", "0")
DETECTED, LOOKED, WAS_RESET, RESUMED = "error_detected", "mmio_enabled", "slot_reset", "resume"
COURSES = {
    "the driver gives up": ([LOST, LOST], [DETECTED, DETECTED], [BAD], False),
    "it gives up when it has looked": ([CAN, LOST, LOST], [DETECTED, LOOKED, DETECTED], [BEGIN], False),
    "it does not look": ([CAN, None, LOST], [DETECTED, LOOKED, DETECTED], [BEGIN], False),
    "it looks, and all is well": ([CAN, DONE], [DETECTED, LOOKED, RESUMED], [BEGIN, GOOD], True),
    "it looks, and wants a reset": ([CAN, RESET, DONE], [DETECTED, LOOKED, WAS_RESET, RESUMED], [BEGIN, GOOD], True),
    "it wants a reset": ([RESET, DONE], [DETECTED, WAS_RESET, RESUMED], [BEGIN, GOOD], True),
    "the reset does not help": ([RESET, LOST, LOST], [DETECTED, WAS_RESET, DETECTED], [BEGIN], False),
    "it cannot tell": ([CAN, CAN, LOST], [DETECTED, LOOKED, DETECTED], [BEGIN, BAD], False),
}


@pytest.mark.parametrize("name", COURSES)
def test_recovery_with_a_driver(name: str) -> None:
    answers, told, events, well = COURSES[name]
    on = Failing(*answers)
    assert on.fail() == told
    assert on.events == events
    assert on.device.error_state is (ErrorState.NORMAL if well else ErrorState.LOST)
    # Who reads as a program sees what the function answers, also of a device that the kernel has given up.
    blocked = to_zpci(on.device).function.state is FunctionState.ERROR
    assert on.pci.config(BELL, 0, 4) == ("ffffffff" if blocked else "f41af010")
    if well:
        assert to_zpci(on.device).function.state is FunctionState.ENABLED
    else:
        on.driver.answers = [LOST]
        on.pci.write(f"{BUS}/devices/{BELL}/recover", "1")
        assert on.pci.config(BELL, 0, 4) == "f41af010"


def test_what_the_driver_finds_at_each_step() -> None:
    on = Failing(CAN, RESET, DONE)
    on.fail()
    assert on.driver.told == [
        (DETECTED, ErrorState.FROZEN, FunctionState.ERROR),
        (LOOKED, ErrorState.FROZEN, FunctionState.BLOCKED),
        (WAS_RESET, ErrorState.NORMAL, FunctionState.ENABLED),
        (RESUMED, ErrorState.NORMAL, FunctionState.ENABLED),
    ]


@pytest.mark.parametrize("code", [ErrorCode.PERMANENT_ERROR, ErrorCode.RECOVERY_FAILED])
def test_nothing_is_tried_when_it_is_hopeless(code: ErrorCode) -> None:
    on = Failing(DONE)
    assert on.fail(code) == [DETECTED]
    assert on.driver.told[0][1:] == (ErrorState.LOST, FunctionState.PERMANENT_ERROR)
    assert on.events == []


@pytest.mark.parametrize(
    "code", [ErrorCode.MEASUREMENT_ADDRESS, ErrorCode.MEASUREMENT_UPDATE, ErrorCode.MEASUREMENT_PROTECTED]
)
def test_errors_of_measurement_are_nobodys(code: ErrorCode) -> None:
    on = Failing()
    assert on.fail(code) == []
    assert to_zpci(on.device).function.state is FunctionState.ENABLED


def test_an_error_with_a_handle_of_the_past() -> None:
    on = Failing()
    on.pci.machine.zpci.console.inject(ZpciEvent(ErrorCode.SERVICE_ACTION, 0x60, 0x80021234))
    assert on.driver.told == []
    assert on.device.error_state is ErrorState.NORMAL


@pytest.mark.parametrize("code", [code for code in ErrorCode if code not in range(0x2A, 0x2D)])
def test_vfio_tells_its_program_of_an_error(code: ErrorCode) -> None:
    """vfio-pci has ``error_detected`` alone, so nothing is recovered."""
    rig = Pci()
    device = rig.open(BELL)
    rig.machine.zpci.console.fail(0x60, code)
    assert errno_of(device.read, 4, 4, CONFIG) == "EIO"
    device.close()


def test_a_driver_without_handlers_is_told_nothing() -> None:
    rig = Pci()
    rig.machine.zpci.console.fail(0x10)
    assert rig.driver(NET) == "virtio-pci"
    assert rig.config(NET, 0, 4) == "ffffffff"
    assert rig.text(f"{BUS}/slots/00000010/power") == "1\n"


# SCLP


def test_reports_of_errors_reach_a_machine_that_takes_them() -> None:
    rig = Pci()
    path = f"{BUS}/devices/{BELL}/report_error"
    head = sclp.ErrorReport(1, sclp.ReportAction.REPAIR, 5)
    data = bytes([head.version, head.action]) + head.length.to_bytes(2, "little") + b"hello"
    if sys.byteorder == "big":
        data = head.to_bytes() + b"hello"
    assert errno_of(rig.write, path, data) == "ENOTSUP"
    rig.machine.zpci.takes_reports = True
    rig.write(path, data)
    ((taken, text),) = rig.machine.zpci.reports
    assert (taken.action, taken.fid, taken.fh) == (1, 0x60, rig.machine.zpci.functions[0x60].fh)
    assert text == b"hello"


def test_what_happens_by_itself(software_machine: Any) -> None:
    spec = MachineSpec(
        "m",
        functions=[FunctionSpec(0x99, FID, "virtio-rng", state="reserved"), FunctionSpec(0x98, 0x98, "virtio-bell")],
        zpci_events=[
            ZpciEventSpec("assign", FID, after=1000),
            ZpciEventSpec("fail", 0x98, after=2000, code=0x3B),
            ZpciEventSpec("ask", FID, after=3000),
            ZpciEventSpec("offer", FID, after=3500),  # it is in standby, so nothing happens
            ZpciEventSpec("reserve", FID, after=4000),
        ],
    )
    host = software_machine(spec)
    seen = []
    for _ in range(5):
        seen.append((NAME in host.listdir(f"{BUS}/devices"), SLOT in host.listdir(f"{BUS}/slots")))
        host.machine.clock.advance(1.0)
    assert seen == [(False, False), (True, True), (True, True), (False, True), (False, False)]
    assert host.machine.zpci.functions[0x98].state is FunctionState.PERMANENT_ERROR


def test_an_eventfd_hears_of_the_request_after_an_error() -> None:
    rig = Pci()
    device = rig.open(BELL)
    with EventFd() as wanted:
        device.eventfds(4, 0, wanted.fileno())
        rig.machine.zpci.console.fail(0x60)
        rig.machine.zpci.console.ask(0x60)
        assert wanted.read() == 1
    device.close()
    finish(lambda: rig.text(f"{BUS}/slots/00000060/power") == "0\n")
