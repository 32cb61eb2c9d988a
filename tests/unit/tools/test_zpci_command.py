"""``pyvfio zpci``: mistakes and refusals first, then what it shows, does and watches."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyvfio.backend import Backend, open_backend
from pyvfio.binding import Plan, step_from_dict
from pyvfio.binding import run as carry_out
from pyvfio.binding.steps_zpci import Recover, Report, ResetFunction, SwitchSlot
from pyvfio.binding.zpci_settings import plan_power, plan_reset
from pyvfio.errors import DeviceBusy, KernelRefused, NotAvailable, StepFailed
from pyvfio.host import Host
from pyvfio.zpci.function_watch import FunctionEvent, FunctionWatch
from pyvfio.zpci.known import known_functions, type_name
from pyvfio_backends.software import software_of
from pyvfio_backends.software.description import FunctionSpec, MachineSpec
from pyvfio_backends.software.linux.pci import PCI
from pyvfio_backends.software.usage import DiskSpec, MountSpec
from pyvfio_tools import options
from pyvfio_tools.cli import run

Command = Callable[..., list[str]]
UTILITY = "NET-A".encode("cp037").hex()


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A mounted disk, a network function, one in standby, one whose FID is the UID of another, a physical function."""
    spec = MachineSpec(
        "m",
        functions=[
            FunctionSpec(0x10, 0x100, "virtio-blk", driver="virtio-pci"),
            FunctionSpec(0x11, 0x101, "virtio-net", driver="virtio-pci", pft=0x0A, options={"util_str": UTILITY}),
            FunctionSpec(0x12, 0x102, "virtio-bell", state="standby"),
            FunctionSpec(0x100, 0x103, "virtio-bell"),
            FunctionSpec(0x14, 0x110, "virtio-rng", driver="virtio-pci", options={"total_vfs": 2}),
        ],
        disks=[DiskSpec("vda", signature="ext4")],
        mounts=[MountSpec("/dev/vda", "/data")],
    )
    with open_backend("software", machine=spec) as one:
        yield one


@pytest.fixture
def host(backend: Backend) -> Host:
    return Host(backend)


@pytest.fixture
def pyvfio(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Run ``pyvfio zpci`` on the machine, expect an exit status and give the lines of both outputs."""
    monkeypatch.setattr(options, "Host", lambda *names, **machine: Host(backend))
    monkeypatch.setenv("PYVFIO_JOURNAL", "/run/journal")

    def command(*arguments: str, status: int = 0) -> list[str]:
        assert run(["zpci", *arguments]) == status, capsys.readouterr().err
        out = capsys.readouterr()
        return (out.out + out.err).splitlines()

    return command


# mistakes and refusals


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["enable"], 2),
        (["reset", "101", "--how", "magic"], 2),
        (["statistics", "101", "--on", "--restart"], 2),
        (["events", "--seconds", "nan"], 2),
        (["show", "fid=zz"], 2),
        (["show", "9999"], 3),
        (["disable", "9999", "101"], 3),
        (["reset", "102"], 3),
        (["statistics", "102"], 3),
        (["statistics", "103"], 6),
    ],
)
def test_mistakes(pyvfio: Command, host: Host, words: list[str], status: int) -> None:
    before = known_functions(host)
    pyvfio(*words, status=status)
    assert known_functions(host) == before


def test_a_number_of_two_functions(pyvfio: Command) -> None:
    """100 is the FID of one and the UID of another: nobody guesses which one shall go."""
    assert any("it stands for the functions" in line for line in pyvfio("disable", "100", status=2))
    assert "00000100" in pyvfio("show", "fid=100")[0]
    assert "00000103" in pyvfio("show", "uid=100")[0]


def test_the_address_of_a_function_in_standby(pyvfio: Command) -> None:
    """It has none, but people know it from before: they are told how to name the function."""
    pyvfio("disable", "0011:00:00.0")
    lines = "\n".join(pyvfio("enable", "0011:00:00.0", status=3))
    assert "function 00000101 with UID 11 is not enabled" in lines
    assert "pyvfio zpci enable fid=101" in lines
    assert "pyvfio zpci enable" not in "\n".join(pyvfio("enable", "0099:00:00.0", status=3))


@pytest.mark.parametrize("name", ["fid=zz", "xid=1", "", "-1", "10:20"])
def test_names_that_cannot_be_read(pyvfio: Command, name: str) -> None:
    assert "pyvfio zpci show lists all functions" in "\n".join(pyvfio("show", "--", name, status=2))


@pytest.mark.parametrize("words", [["disable", "101", "fid=100"], ["reset", "fid=100"]])
def test_a_mounted_disk_is_refused(pyvfio: Command, host: Host, words: list[str]) -> None:
    lines = "\n".join(pyvfio(*words, status=5))
    assert "/data" in lines
    assert "--force=" in lines
    assert all(one.device for one in known_functions(host).functions if one.fid in (0x100, 0x101))


def test_virtual_functions_go_first(host: Host) -> None:
    host.sysfs.write_text("/sys/bus/pci/devices/0014:00:00.0/sriov_numvfs", "2")
    with pytest.raises(DeviceBusy) as caught:
        plan_power(host, [0x110], False)
    assert "pyvfio sriov" in caught.value.next_step


def test_no_slot(host: Host, backend: Backend) -> None:
    del software_of(backend).machine.kernel.subsystems[PCI].slots["00000103"]
    with pytest.raises(NotAvailable) as caught:
        plan_power(host, [0x103], False)
    assert "slot" in str(caught.value.cause)


def test_the_machine_does_not_configure_it(host: Host, backend: Backend) -> None:
    plan = plan_power(host, [0x102], True)
    software_of(backend).machine.zpci.unplug(0x102)
    with pytest.raises((StepFailed, KernelRefused)):
        carry_out(plan)


def test_one_that_fails_brings_the_others_back(host: Host, backend: Backend) -> None:
    plan = plan_power(host, [0x101, 0x103], False)
    software_of(backend).faults.fail("write", 5, path="/sys/bus/pci/slots/00000103/power")
    with pytest.raises(StepFailed) as caught:
        carry_out(plan)
    assert "as it was before" in str(caught.value)
    functions = {one.fid: one for one in known_functions(host).functions}
    assert functions[0x101].driver == "virtio-pci"
    assert functions[0x103].state == "configured"


# shown


def test_the_table(pyvfio: Command) -> None:
    lines = pyvfio("show")
    assert lines[0].split()[:4] == ["FID", "UID", "DEVICE", "STATE"]
    rows = {line.split()[0]: line for line in lines[1:]}
    assert sorted(rows) == ["00000100", "00000101", "00000102", "00000103", "00000110"]
    assert "standby" in rows["00000102"]
    assert "RoCE Express2" in rows["00000101"]


def test_details(pyvfio: Command) -> None:
    lines = {line.split("  ")[0]: line for line in pyvfio("show", "0011:00:00.0")}
    assert "NET-A" in lines["utility string"]
    assert "0a (RoCE Express2)" in lines["type"]
    assert "(enabled" in lines["handle"]
    assert lines["slot power"].endswith("on")
    assert "every 4000 ms" in lines["measured"]


def test_json(pyvfio: Command) -> None:
    found = json.loads("\n".join(pyvfio("show", "--json")))
    assert found["missing"] == {}
    by_fid = {one["fid"]: one for one in found["functions"]}
    assert by_fid[0x102]["state"] == "standby"
    assert by_fid[0x102]["device"] == ""
    assert by_fid[0x101]["util"] == "NET-A"
    assert by_fid[0x101]["statistics"]["interval"] == 4000


def test_an_error_is_seen(pyvfio: Command, backend: Backend) -> None:
    software_of(backend).machine.zpci.fail(0x101)
    assert "error" in pyvfio("show")[2].split()
    assert any("reads as ones" in line for line in pyvfio("show", "101"))


def test_what_is_missing_is_said(pyvfio: Command, backend: Backend) -> None:
    kernel = software_of(backend).machine.kernel
    kernel.remove_node("clp")
    kernel.debug.clear()
    lines = pyvfio("show")
    assert "00000102" in "\n".join(lines)  # the slot knows it
    assert any("/dev/clp" in line for line in lines)
    assert any("/sys/kernel/debug/pci" in line for line in lines)


def test_nothing_is_missing_of_a_function_that_nobody_has_opened(pyvfio: Command, host: Host) -> None:
    """VFIO's driver enables it only for a program: until then Linux measures nothing, and that is no fault."""
    host.sysfs.write_text("/sys/bus/pci/devices/0100:00:00.0/driver_override", "vfio-pci")
    host.sysfs.write_text("/sys/bus/pci/drivers/vfio-pci/bind", "0100:00:00.0")
    lines = pyvfio("show")
    assert any("vfio-pci" in line for line in lines)
    assert not any("not known here" in line for line in lines)


def test_a_host_without_functions(pyvfio: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_backend("software", machine=MachineSpec("none")) as empty:
        monkeypatch.setattr(options, "Host", lambda *names, **machine: Host(empty))
        assert pyvfio("show")[0] == "no PCI functions of IBM Z"


def test_types() -> None:
    assert type_name(0x05) == "ISM"
    assert type_name(0xEE) == "unknown"


# done


def test_disable_and_enable(pyvfio: Command, host: Host) -> None:
    assert "standby" in pyvfio("disable", "101", "fid=103")[-1]
    assert not host.sysfs.exists("/sys/bus/pci/devices/0011:00:00.0")
    lines = pyvfio("enable", "uid=11", "fid=103", "102")
    assert "virtio-pci" in "\n".join(lines[-3:])
    assert all(one.state == "configured" for one in known_functions(host).functions)
    assert any("already" in line for line in pyvfio("enable", "101"))


def test_a_dry_run_changes_nothing(pyvfio: Command, host: Host) -> None:
    before = known_functions(host)
    for words in (["disable", "101"], ["enable", "102"], ["reset", "101"], ["reset", "101", "--how", "function"]):
        pyvfio(*words, "--dry-run")
    assert json.loads("\n".join(pyvfio("disable", "101", "--dry-run", "--json")))["done"] is False
    assert known_functions(host) == before


@pytest.mark.parametrize("how", ["recover", "function"])
def test_reset(pyvfio: Command, host: Host, how: str) -> None:
    lines = pyvfio("reset", "101", "--how", how)
    assert any(line.startswith("done") for line in lines)
    assert lines[-1].split()[3] == "enabled"


def test_the_firmware_does_not(pyvfio: Command) -> None:
    lines = pyvfio("reset", "101", "--how", "firmware", status=10)
    assert any("takes no reports" in line for line in lines)


def test_a_driver_that_cannot_recover(host: Host, backend: Backend) -> None:
    """The machine resets the function and reports an error; virtio-pci has no handlers, so the device is found anew."""
    (step,) = plan_reset(host, 0x101, "firmware").steps
    software_of(backend).machine.zpci.takes_reports = True

    short = dataclasses.replace(step, seconds=0)
    with pytest.raises(StepFailed) as caught:
        carry_out(Plan("reset", ("0011:00:00.0",), (short,), sysfs=host.sysfs))
    assert "does not answer" in str(caught.value)
    (one,) = known_functions(host, [0x101]).functions
    assert (one.answers, one.driver, one.enabled) == (True, "virtio-pci", True)


def test_statistics(pyvfio: Command, backend: Backend) -> None:
    software_of(backend).machine.clock.advance(5)
    found = json.loads("\n".join(pyvfio("statistics", "101", "--json")))
    assert found["samples"] == 1
    assert found["counters"]["load operations"] > 0
    assert "not yet" in "\n".join(pyvfio("statistics", "101", "--restart"))
    assert pyvfio("statistics", "101", "--off")[1].split() == ["measured", "no"]
    assert "every" in pyvfio("statistics", "101", "--on")[1]


@pytest.mark.parametrize(
    "step",
    [
        SwitchSlot(0x101, True),
        SwitchSlot(0x101, False, "0011:00:00.0 - virtio-pci", ("/dev/vfio/1",)),
        Recover("0011:00:00.0 - virtio-pci", ("/dev/vfio/1",)),
        ResetFunction("0011:00:00.0 - -"),
        Report("0011:00:00.0 - -", 2, True),
    ],
)
def test_steps_through_the_journal(step: SwitchSlot | Recover | ResetFunction | Report) -> None:
    assert step_from_dict(json.loads(json.dumps(step.as_dict()))) == step


def test_a_reset_that_does_not_help(host: Host, backend: Backend) -> None:
    (step,) = plan_reset(host, 0x101, "function").steps
    software_of(backend).machine.zpci.fail(0x101)
    assert "does not answer" in step.verify(host.sysfs)


# watched


@pytest.fixture
def when_watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[], object]], None]]:
    """A function that has something done once the command watches."""
    watched = threading.Event()
    read = FunctionWatch.read

    def noticed(watch: FunctionWatch, timeout: float | None = 0.0) -> FunctionEvent | None:
        watched.set()
        return read(watch, timeout)

    monkeypatch.setattr(FunctionWatch, "read", noticed)
    threads: list[threading.Thread] = []

    def start(action: Callable[[], object]) -> None:
        threads.append(threading.Thread(target=lambda: watched.wait(30) and action()))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join()


def test_events(pyvfio: Command, host: Host, backend: Backend, when_watched: Callable[..., None]) -> None:
    def change() -> None:
        host.sysfs.write_text("/sys/bus/pci/slots/00000103/power", "0")
        software_of(backend).machine.zpci.fail(0x101)

    when_watched(change)
    (line,) = pyvfio("events", "101", "--json", "--count", "1", "--seconds", "30")
    found = json.loads(line)
    assert (found["kind"], found["fid"], found["pec"]) == ("error", 0x101, 0x3A)


def test_events_until_so_many(pyvfio: Command, host: Host, when_watched: Callable[..., None]) -> None:
    when_watched(lambda: host.sysfs.write_text("/sys/bus/pci/slots/00000102/power", "1"))
    lines = pyvfio("events", "--count", "2", "--timeout", "30")
    shown = [line for line in lines if line.startswith("fid")]
    assert len(shown) == 2
    assert all(line.startswith("fid 00000102") for line in shown)


def test_events_end_with_what_was_kept_back(pyvfio: Command, host: Host, when_watched: Callable[..., None]) -> None:
    """An unbind waits a moment for the bind that may follow it."""
    when_watched(lambda: host.sysfs.write_text("/sys/bus/pci/drivers/virtio-pci/unbind", "0011:00:00.0"))
    lines = pyvfio("events", "101", "--seconds", "2")
    assert any("driver virtio-pci -> none" in line for line in lines)


def test_ctrl_c_ends_the_watch(pyvfio: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(watch: FunctionWatch, timeout: float | None = 0.0) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FunctionWatch, "read", interrupted)
    pyvfio("events", status=130)


def test_without_notes_uevents_are_left(pyvfio: Command, backend: Backend) -> None:
    del software_of(backend).machine.kernel.debug["s390dbf"]
    assert any("event codes" in line for line in pyvfio("events", "--seconds", "0"))
