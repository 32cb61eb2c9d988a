"""PCI functions of IBM Z through the library: what is known, configuring, resets, and the events of it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from pyvfio.backend import Backend
from pyvfio.binding import run
from pyvfio.binding.zpci_settings import plan_power, plan_reset
from pyvfio.devices import PciFunction
from pyvfio.errors import DeviceInUse, Misuse, NoSuchDevice, NotAvailable, PyvfioError, StepFailed, Timeout, WrongBus
from pyvfio.host import Host
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import settles
from pyvfio.testing.plugin import Lab
from pyvfio.zpci.function_watch import FunctionEvent, FunctionWatch
from pyvfio.zpci.handle import FH_ENABLED
from pyvfio.zpci.known import KnownFunction, device_with, find_functions, known_functions
from pyvfio.zpci.node import ClpNode
from pyvfio.zpci.notes import NOTES, Note
from pyvfio.zpci.statistics import DEBUGFS

VARIABLES = ("PYVFIO_BACKEND", "PYVFIO_MACHINE", "PYVFIO_JOURNAL", "PYVFIO_SANDBOX", "COLUMNS")
Name = Callable[[KnownFunction], str]


@pytest.fixture
def function(host: Host, sysfs: Attributes, lab: Lab) -> Iterator[PciFunction]:
    """A function with its driver, configured afterwards as it was."""
    if not sysfs.exists(f"/sys/bus/pci/devices/{lab.pci2}/function_id"):
        pytest.skip(f"this host has no PCI function {lab.pci2} of IBM Z")
    found = host.function(lab.pci2)
    driver, fid = found.driver, found.fid
    yield found
    power = f"/sys/bus/pci/slots/{fid:08x}/power"
    if sysfs.read(power) == "0":
        sysfs.write(power, "1")
    assert settles(lambda: found.driver == driver)


@pytest.fixture
def fid(function: PciFunction) -> int:
    assert function.fid is not None
    return function.fid


def one(host: Host, fid: int) -> KnownFunction:
    (found,) = known_functions(host, [fid]).functions
    return found


# names


@pytest.mark.parametrize("name", ["fid=fffffffe", "uid=fffe", "fh=7fffffff", "0xfffffffe", "fffffffe", "9e9e:00:00.0"])
def test_a_name_of_nothing(host: Host, function: PciFunction, name: str) -> None:
    with pytest.raises(NoSuchDevice):
        find_functions(host, [name])


@pytest.mark.parametrize("name", ["fid=", "fid=x", "pchid=1", ""])
def test_what_is_no_name(host: Host, function: PciFunction, name: str) -> None:
    with pytest.raises(PyvfioError):
        find_functions(host, [name])


def test_a_device_of_another_bus(host: Host, function: PciFunction) -> None:
    others = host.ccw_devices()
    if not others:
        pytest.skip("this host has no channel devices")
    with pytest.raises(WrongBus):
        find_functions(host, [others[0].name])


@pytest.mark.parametrize(
    "spell",
    [
        lambda one: one.device,
        lambda one: f"pci/{one.device}",
        lambda one: f"/sys/bus/pci/devices/{one.device}",
        lambda one: f"fid={one.fid:x}",
        lambda one: f"FID={one.fid:#x}",
        lambda one: f"{one.fid:08x}",
        lambda one: f"uid={one.uid:x}",
        lambda one: f"fh={one.fh:x}",
        lambda one: f"{one.fh:08x}",
    ],
    ids=["device", "bus", "path", "fid", "FID 0x", "slot", "uid", "fh", "handle"],
)
def test_names(host: Host, fid: int, spell: Name) -> None:
    name = spell(one(host, fid))
    assert find_functions(host, [name, name]) == [fid]


def test_a_number_of_two_functions(host: Host, function: PciFunction) -> None:
    every = known_functions(host).functions
    by_fid = {known.fid: known for known in every}
    for known in every:
        if known.uid in by_fid and known.uid != known.fid:
            with pytest.raises(Misuse):
                find_functions(host, [f"{known.uid:x}"])
            return
    pytest.skip("no function's UID is another one's FID")


# what is known


def test_facts_of_sysfs(host: Host, function: PciFunction, fid: int) -> None:
    found = one(host, fid)
    assert (found.fid, found.device, found.state, found.power) == (fid, function.name, "configured", True)
    for name in ("uid", "uid_is_unique", "fh", "pchid", "pfgid", "pft", "vfn", "port", "driver"):
        assert getattr(found, name) == getattr(function, name), name
    assert (found.vendor, found.device_id) == (function.vendor_id, function.device_id)
    assert found.enabled
    assert found.answers
    assert found.reports
    assert found.mio is (function.attribute("mio_enabled") == "1")
    assert found.pfip == tuple(int(function.attribute(f"pfip/segment{n}") or "", 16) for n in range(4))
    # Linux measures what a driver has enabled
    assert (found.statistics is not None) == (function.driver is not None and host.sysfs.exists(f"{DEBUGFS}/pci"))


def test_facts_of_the_logical_processor(host: Host, fid: int) -> None:
    found = one(host, fid)
    with ClpNode(host.backend) as node:
        answer = node.function(found.fh or 0)
    assert (found.first_dma, found.last_dma) == (answer.sdma, answer.edma)
    assert found.util == answer.utility_text
    assert found.bars == {number: 1 << order for number, order in enumerate(answer.bar_sizes) if order}
    assert found.handle is not None
    assert found.handle.to_word() == found.fh


def test_all_of_them(host: Host, backend: Backend, function: PciFunction) -> None:
    known = known_functions(host)
    assert {f"{found.fid:08x}" for found in known.functions} == set(backend.listdir("/sys/bus/pci/slots"))
    assert {found.device for found in known.functions if found.device} == {found.name for found in host.functions()}
    assert not known.missing


# configuring


def test_it_is_so_already(host: Host, fid: int) -> None:
    plan = plan_power(host, [fid], True)
    assert plan.empty
    assert "already" in plan.notes[0]


def test_deconfigure_and_configure(host: Host, function: PciFunction, fid: int) -> None:
    before, driver = one(host, fid), function.driver
    run(plan_power(host, [fid], False), force=["open"])
    now = one(host, fid)
    assert (now.state, now.power, now.device, now.driver) == ("standby", False, "", None)
    assert now.fh is not None
    assert not now.fh & FH_ENABLED
    assert (now.uid, now.pchid, now.pft) == (before.uid, before.pchid, before.pft)
    assert not function.exists
    assert device_with(host.sysfs, fid) is None
    assert plan_power(host, [fid], False).empty
    with pytest.raises(NoSuchDevice) as caught:
        plan_reset(host, fid)
    assert "enable" in caught.value.next_step
    assert find_functions(host, [f"fid={fid:x}", f"uid={before.uid:x}"]) == [fid]
    run(plan_power(host, [fid], True))
    assert one(host, fid).state == "configured"
    assert one(host, fid).enabled
    assert settles(lambda: function.driver == driver)


def test_the_inverse_restores_driver_and_override(
    host: Host, backend: Backend, function: PciFunction, fid: int
) -> None:
    with BoundFunction(backend, function.name):
        (step,) = plan_power(host, [fid], False).steps
        step.do(host.sysfs)
        assert not step.verify(host.sysfs)
        assert not function.exists
        step.undo(host.sysfs)
        assert function.driver == "vfio-pci"
        assert function.override == "vfio-pci"
        step.undo(host.sysfs)
        assert function.driver == "vfio-pci"


def test_a_function_that_a_program_has(host: Host, backend: Backend, function: PciFunction, fid: int) -> None:
    with BoundFunction(backend, function.name) as bound:
        fd = backend.open(bound.group, os.O_RDWR)
        try:
            for plan in (plan_power(host, [fid], False), plan_reset(host, fid)):
                with pytest.raises(DeviceInUse):
                    run(plan)
        finally:
            backend.close(fd)
        assert function.driver == "vfio-pci"


# resets


@pytest.fixture
def old(host: Host, sysfs: Attributes, lab: Lab) -> PciFunction:
    """A function that is there since boot: Linux resets no other."""
    if not sysfs.exists(f"/sys/bus/pci/devices/{lab.pci}"):
        pytest.skip(f"this host has no PCI function {lab.pci}")
    found = host.function(lab.pci)
    if found.fid is None or not sysfs.exists(f"{found.path}/reset"):
        pytest.skip(f"{found} is no function of IBM Z that is there since boot")
    return found


def test_recover(host: Host, function: PciFunction, fid: int) -> None:
    driver = function.driver
    plan = plan_reset(host, fid)
    run(plan)
    assert function.driver == driver
    assert one(host, fid).answers
    assert one(host, fid).enabled
    assert not plan.steps[-1].verify(host.sysfs)


def test_reset_below_the_driver(host: Host, old: PciFunction) -> None:
    driver = old.driver
    plan = plan_reset(host, old.fid or 0, "function")
    run(plan)
    assert old.driver == driver
    assert one(host, old.fid or 0).answers


def test_what_came_by_hotplug_has_no_reset(host: Host, function: PciFunction, fid: int) -> None:
    run(plan_reset(host, fid))
    with pytest.raises(NotAvailable) as caught:
        plan_reset(host, fid, "function")
    assert "hotplug" in str(caught.value.cause)


def test_recovery_keeps_driver_and_override(host: Host, backend: Backend, function: PciFunction, fid: int) -> None:
    with BoundFunction(backend, function.name):
        run(plan_reset(host, fid))
        assert (function.driver, function.override) == ("vfio-pci", "vfio-pci")


def test_this_machine_resets_nothing_itself(host: Host, function: PciFunction, fid: int) -> None:
    """The emulated machine takes no reports, so it does not reset either; nothing was changed then."""
    driver = function.driver
    with pytest.raises((StepFailed, NotAvailable)) as caught:
        run(plan_reset(host, fid, "firmware"))
    assert "takes no reports" in str(caught.value)
    assert function.driver == driver
    assert one(host, fid).answers


# events


def collect(watch: FunctionWatch) -> list[FunctionEvent]:
    found = []
    while (event := watch.read(0.6)) is not None:
        found.append(event)
    return found


def test_events_of_configuring(host: Host, function: PciFunction, fid: int) -> None:
    driver = function.driver
    with FunctionWatch(host, [fid]) as watch:
        run(plan_power(host, [fid], False))
        run(plan_power(host, [fid], True))
        found = collect(watch)
    assert {event.fid for event in found} == {fid}
    drivers = [event.text for event in found if event.kind == "driver"]
    bound = [f"{function} driver {driver} -> none", f"{function} driver none -> {driver}"]
    assert drivers == (bound if driver is not None else [])
    assert [event.text.split()[-1] for event in found if event.kind == "device"] == ["gone", "appeared"]
    if not watch.missing:
        states = [event.text for event in found if event.kind == "state"]
        assert states == ["disabled", "deconfigured", "configured", "enabled"]
        handles = [event.fh for event in found if event.text == "enabled"]
        assert handles == [function.fh]


def test_events_of_a_reset(host: Host, old: PciFunction) -> None:
    with FunctionWatch(host, [old.fid or 0]) as watch:
        run(plan_reset(host, old.fid or 0, "function"))
        found = collect(watch)
    if watch.missing:
        pytest.skip(watch.missing[0])
    assert [event.text for event in found] == ["to be reset", "disabled", "enabled"]


def test_events_of_others_are_left_out(host: Host, function: PciFunction, fid: int) -> None:
    others = [known.fid for known in known_functions(host).functions if known.fid != fid]
    with FunctionWatch(host, others) as watch:
        run(plan_reset(host, fid))
        assert collect(watch) == []


def test_the_notes_are_readable(sysfs: Attributes, function: PciFunction) -> None:
    if not sysfs.exists(NOTES):
        pytest.skip("this kernel has no s390dbf/pci_msg")
    notes = [Note.parse(line) for line in sysfs.read(NOTES).splitlines()]
    assert notes
    assert all(note is not None for note in notes)
    assert any(note is not None and note.kind == "state" and note.fid is not None for note in notes)


# the command


@pytest.fixture
def command(lab: Lab, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., str]]:
    """A function that runs ``pyvfio zpci`` as installed and gives its output, or its errors when it ends badly."""
    (script,) = entry_points(group="console_scripts", name="pyvfio")
    before = {name: os.environ.pop(name, None) for name in VARIABLES}
    os.environ.update(lab.environment(tmp_path), COLUMNS="160")

    def told(*words: str, status: int = 0) -> str:
        capfd.readouterr()
        ended = 0
        try:
            script.load()(["zpci", *words])
        except SystemExit as end:
            ended = int(end.code or 0)
        output = capfd.readouterr()
        assert ended == status, output.err
        return output.err if status else output.out

    yield told
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def test_the_command(function: PciFunction, fid: int, command: Callable[..., str]) -> None:
    known = json.loads(command("show", "--json", function.name))["functions"][0]
    assert (known["fid"], known["device"], known["driver"]) == (fid, function.name, function.driver)
    assert known["handle"]["enabled"] == 1
    assert f"{fid:08x}" in command("show")
    assert "(enabled" in command("show", f"fid={fid:x}")
    assert "nothing" not in command("disable", f"fid={fid:x}", "--dry-run")
    assert "already" in command("enable", f"fid={fid:x}")
    assert "standby" in command("disable", f"fid={fid:x}")
    assert "enabled" in command("enable", f"fid={fid:x}")
    assert "done" in command("reset", function.name)
    if function.driver is not None:
        assert json.loads(command("statistics", function.name, "--restart", "--json"))["samples"] == 0
    assert command("events", "--seconds", "0.3", "--json") == ""
    assert "no function has this" in command("show", "fid=fffffffe", status=3)


def test_nothing_waits(host: Host, fid: int) -> None:
    with contextlib.suppress(Timeout), FunctionWatch(host, [fid]) as watch:
        assert watch.read(0.0) is None
        assert watch.rest() == []
