"""``pyvfio aer``: mistakes and refusals first, then what it shows, injects and watches."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pyvfio
from pyvfio.backend import Backend, open_backend
from pyvfio.binding import run as carry_out
from pyvfio.binding import step_from_dict
from pyvfio.binding.error_injection import inject, plan_inject
from pyvfio.binding.steps_aer import InjectErrors
from pyvfio.errors import DeviceInUse, Misuse, NotAvailable
from pyvfio.host import Host
from pyvfio.pci.aer import Severity
from pyvfio.pci.error_poll import HostErrors
from pyvfio.pci.error_state import TreeErrors
from pyvfio.pci.kernel_messages import KernelMessages
from pyvfio.sandbox import VARIABLE, Sandbox
from pyvfio.sysfs import Sysfs
from pyvfio_backends.software import software_of
from pyvfio_tools import options
from pyvfio_tools.cli import run

NET, PORT, PLAIN = "0000:0d:00.0", "0000:00:0f.0", "0000:00:06.0"
PACKET = "40000001 0d00000f fee00000 0"
Command = Callable[..., str]


@pytest.fixture
def backend() -> Iterator[Backend]:
    with open_backend("software", machine="lab-x86") as one:
        yield one


@pytest.fixture
def host(backend: Backend) -> Host:
    return Host(backend)


@pytest.fixture
def machine(backend: Backend) -> Any:
    return software_of(backend).machine


@pytest.fixture
def command(backend: Backend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command on `backend`, and gives what it printed; the exit code is asserted."""
    monkeypatch.setattr(options, "open_host", lambda *words: contextlib.nullcontext(Host(backend)))

    def call(*arguments: str, code: int = 0) -> str:
        assert run(["aer", *arguments, "--machine", "lab-x86"]) == code
        out, err = capsys.readouterr()
        return str(err if code else out)

    return call


# mistakes


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("show", "0099:00:00.0"), 3, "bus pci has no such device"),
        (("show", PLAIN), 6, "it has no advanced error reporting"),
        (("inject", NET), 2, "Missing argument"),
        (("inject", NET, "NO_SUCH"), 2, "neither Linux nor QEMU has an error of this name"),
        (("inject", PLAIN, "COMP_TIME"), 6, "Linux counts no errors of it"),
        (("inject", NET, "COMP_TIME", "--header", "1 2 3"), 2, "four words of 32 bits"),
        (("inject", NET, "COMP_TIME", "--header", "1 2 3 x"), 2, "four words of 32 bits"),
        (("inject", NET, "COMP_TIME", "--header", "1 2 3 1_0"), 2, "four words of 32 bits"),
        (("inject", NET, "COMP_TIME", "--header", "1 2 3 100000000"), 2, "four words of 32 bits"),
        (("inject", NET, "UncorrIntErr"), 10, "the function masks these errors"),
        (("watch", "--seconds", "nan"), 2, "not a number of seconds"),
        (("watch", "--interval", "0"), 2, "0.01<=x<=60"),
        (("watch", PLAIN, "--seconds", "0"), 6, "it has no advanced error reporting"),
        (("watch", NET, PLAIN, "--seconds", "0"), 6, "it has no advanced error reporting"),
        (("watch", "0000:04:00.0", "--seconds", "0"), 6, "it has no advanced error reporting"),
    ],
)
def test_mistakes(command: Command, host: Host, arguments: tuple[str, ...], code: int, words: str) -> None:
    before = host.sysfs.read_text(f"/sys/bus/pci/devices/{PORT}/aer_rootport_total_err_nonfatal")
    assert words in " ".join(command(*arguments, code=code).split())
    assert host.sysfs.read_text(f"/sys/bus/pci/devices/{PORT}/aer_rootport_total_err_nonfatal") == before


def test_a_host_without_the_module() -> None:
    with open_backend("software", machine="contract-x86") as other, pytest.raises(NotAvailable) as caught:
        plan_inject(Host(other).function(NET), ["COMP_TIME"])
    assert "the module aer_inject is not loaded" in str(caught.value)
    assert "modprobe aer_inject" in str(caught.value.next_step)
    assert caught.value.exit_code == 6


def test_a_host_without_root_ports_cannot_be_watched() -> None:
    with pyvfio.Host("software", machine="lab-s390x") as host, pytest.raises(NotAvailable, match="no root port here"):
        HostErrors(host)


def test_what_is_in_use_is_not_disturbed(host: Host) -> None:
    """The function beside it, below the same port, is what somebody uses."""
    first, second = host.function("0000:0c:00.0"), host.function("0000:0c:00.1")
    pyvfio.bind(second)
    with pyvfio.open_device(host, second):
        plan = plan_inject(first, ["COMP_TIME"])
        assert second.name in [finding.device for finding in plan.findings]
        with pytest.raises(DeviceInUse):
            carry_out(plan)
        assert not plan_inject(first, ["BAD_TLP"]).findings  # a correctable error disturbs nobody


def test_bad_calls_of_the_library(host: Host) -> None:
    function = host.function(NET)
    for errors, header in (((), ()), (("COMP_TIME",), (1, 2)), (("COMP_TIME",), (0, 0, 0, 1 << 32))):
        with pytest.raises(Misuse):
            plan_inject(function, errors, header)


# what it shows


def test_the_list_names_who_reports(command: Command) -> None:
    lines = command("list").splitlines()
    assert lines[0].split() == ["DEVICE", "COR", "NONFATAL", "FATAL", "MESSAGES", "NOTED", "DRIVER"]
    found = {line.split()[0] for line in lines[1:]}
    assert {NET, PORT} <= found
    assert PLAIN not in found
    listed = json.loads(command("list", "--json"))
    assert {one["device"] for one in listed} == found
    assert next(one for one in listed if one["device"] == PORT)["counters"]["messages"] == {
        "correctable": 0,
        "nonfatal": 0,
        "fatal": 0,
    }


def test_registers_are_shown_decoded(command: Command, machine: Any) -> None:
    machine.errors.inject(NET, "COMP_TIME", header=[int(word, 16) for word in PACKET.split()])
    text = command("show", NET)
    for words in (
        "CmpltTO (completion timeout): nonfatal, first",
        "memory write of 4 bytes at 0xfee00000 by 0d:00.0, tag 0",
        "1 (CmpltTO 1)",
        "uncorrectable 0d:00.0, correctable 00:00.0",
        "0 correctable, 1 nonfatal, 0 fatal",
    ):
        assert words in text
    shown = json.loads(command("show", NET, "--json"))
    assert shown["registers"]["uncorrectable"]["errors"] == ["CmpltTO"]
    assert shown["registers"]["header"]["address"] == 0xFEE00000
    assert shown["ports"][0]["registers"]["root"]["uncorrectable_source"] == "0d:00.0"


# what it injects


def test_a_dry_run_changes_nothing(command: Command) -> None:
    text = command("inject", NET, "COMP_TIME", "--dry-run")
    assert "have 0000:0d:00.0 report CmpltTO" in text
    assert "nothing takes a report back" in text
    assert json.loads(command("list", "--json"))[0]["counters"]["nonfatal"]["total"] == 0


def test_an_error_is_injected_and_told(command: Command, host: Host) -> None:
    text = command("inject", NET, "COMP_TIME", "UNSUP", "--header", PACKET)
    assert "recovery fails without a driver for 0000:0d:00.0" in text
    assert text.splitlines()[-1].startswith(f"{NET}: nonfatal error (CmpltTO, UnsupReq), memory write of 4 bytes")
    answer = json.loads(command("inject", NET, "RxErr", "--json"))
    assert (answer["done"], answer["steps"][0]["errors"]) == (True, ["RxErr"])
    assert host.sysfs.read_text(f"/sys/bus/pci/devices/{PORT}/aer_rootport_total_err_cor") == "1"


def test_an_error_that_the_kernel_counts_later(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its handler is a thread: the write comes back before."""
    look = TreeErrors.look
    looks: list[TreeErrors] = []

    def late(sysfs: Sysfs, path: str) -> TreeErrors:
        looks.append(look(sysfs, path))
        return looks[0] if len(looks) < 4 else looks[-1]

    monkeypatch.setattr(TreeErrors, "look", staticmethod(late))
    assert command("inject", NET, "COMP_TIME").splitlines()[-1].startswith(f"{NET}: nonfatal error (CmpltTO)")


def test_a_fatal_error_says_what_becomes_of_the_link(host: Host) -> None:
    plan = plan_inject(host.function("0000:0c:00.0"), ["DLP"])
    assert plan.objects == ("0000:0c:00.0", "0000:0c:00.1")
    assert any("recovery runs on 0000:0c:00.1, too" in note for note in plan.notes)
    assert any("the link is reset" in note for note in plan.notes)


def test_the_step_goes_through_the_journal(host: Host) -> None:
    plan = inject(host.function(NET), "COMP_TIME", header=(1, 2, 3, 4))
    (step,) = plan.steps
    assert step_from_dict(json.loads(json.dumps(step.as_dict()))) == step
    assert step == InjectErrors(NET, ("CmpltTO",), ("00000001", "00000002", "00000003", "00000004"))
    step.undo(host.sysfs)
    assert step.verify(host.sysfs) == ""


def test_an_error_stays_in_a_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command is a program of its own; the log of calls carries what was written to the node."""
    monkeypatch.setenv(VARIABLE, str(Sandbox.create(tmp_path / "box", "lab-x86").directory))
    assert run(["aer", "inject", NET, "BAD_TLP"]) == 0
    capsys.readouterr()
    assert run(["aer", "show", NET, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counters"]["correctable"]["errors"] == {"BadTLP": 1}


# what it watches


def test_errors_are_watched(command: Command, machine: Any) -> None:
    seen = threading.Event()

    def again() -> None:  # the watch takes its time to begin
        while not seen.wait(0.2):
            machine.errors.inject(NET, "RCVR")

    thread = threading.Thread(target=again)
    thread.start()
    try:
        told = json.loads(command("watch", "--count", "1", "--seconds", "20", "--interval", "0.05", "--json"))
    finally:
        seen.set()
        thread.join()
    assert (told["device"], told["source"], told["severity"]) == (NET, NET, "correctable")
    assert [one["name"] for one in told["errors"]] == ["RxErr"]
    assert command("watch", "--seconds", "0") == ""


def test_only_some_are_watched(host: Host, machine: Any) -> None:
    with HostErrors(host, ["0000:08:00.0"], interval=0.01) as errors:
        machine.errors.inject(NET, "RCVR")
        assert errors.read(0.05) is None
        machine.errors.inject("0000:08:00.0", "COMP_TIME")
        found = errors.read(5)
    assert found is not None
    assert (found.device, found.severity, found.outcome) == ("0000:08:00.0", Severity.NONFATAL, "failed")
    assert "nonfatal error (CmpltTO)" in str(found)
    assert any("found" in line or "received from 0000:08:00.0" in line for line in found.log)


def test_messages_of_the_kernel(backend: Backend, machine: Any) -> None:
    machine.errors.inject(NET, "RCVR")
    with KernelMessages(backend) as messages:
        assert messages.readable
        assert messages.new() == []
        machine.errors.inject(NET, "BAD_TLP")
        assert messages.new()[0] == f"pcieport {PORT}: AER: Correctable error message received from {NET}"
    with open_backend("software", machine="lab-s390x") as other, KernelMessages(other) as none:
        assert (none.readable, none.new()) == (False, [])


# functions of the root complex

INSIDE, COLLECTOR = "0000:00:1c.0", "0000:00:1e.0"


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[Backend, Command]]:
    """The machine `q35-switch`, and the command on it."""
    with open_backend("software", machine="q35-switch") as backend:
        monkeypatch.setattr(options, "open_host", lambda *words: contextlib.nullcontext(Host(backend)))

        def call(*arguments: str) -> str:
            assert run(["aer", *arguments, "--machine", "q35-switch"]) == 0
            return str(capsys.readouterr().out)

        yield backend, call


def test_a_function_of_the_root_complex_has_a_collector(switch: tuple[Backend, Command]) -> None:
    backend, call = switch
    lines = {line.split()[0]: line.split()[1:] for line in call("list").splitlines()}
    assert lines[INSIDE] == ["0", "0", "0", "-", "-", "-"]
    assert lines[COLLECTOR] == ["0", "0", "0", "0/0/0", "-", "pcieport"]
    software_of(backend).machine.errors.inject(INSIDE, "RxErr")
    shown = call("show", INSIDE)
    assert "collector           0000:00:1e.0" in shown.splitlines()
    assert "last sources        uncorrectable 00:00.0, correctable 00:1c.0" in shown.splitlines()
    (port,) = json.loads(call("show", INSIDE, "--json"))["ports"]
    assert (port["device"], port["counters"]["messages"]["correctable"]) == (COLLECTOR, 1)


def test_an_error_is_injected_into_a_function_of_the_root_complex(switch: tuple[Backend, Command]) -> None:
    backend, call = switch
    assert call("inject", INSIDE, "RxErr").splitlines()[-1] == f"{INSIDE}: correctable error (RxErr)"
    dry = call("inject", INSIDE, "DLP", "--dry-run")
    assert "note: the function is reset, as it has no link" in dry
    assert "the link is reset" not in dry
    assert "below the same port" not in dry
    pyvfio.bind(Host(backend).function(INSIDE))
    told = call("inject", INSIDE, "DLP").splitlines()[-1]  # it slept: what was noted was cleared as it woke
    assert told == f"{INSIDE}: fatal error (not known which); was reset"


def test_errors_of_the_root_complex_are_watched(switch: tuple[Backend, Command]) -> None:
    backend, call = switch
    seen = threading.Event()

    def again() -> None:
        while not seen.wait(0.2):
            software_of(backend).machine.errors.inject(INSIDE, "RCVR")

    thread = threading.Thread(target=again)
    thread.start()
    try:
        told = json.loads(call("watch", INSIDE, "--count", "1", "--seconds", "20", "--interval", "0.05", "--json"))
    finally:
        seen.set()
        thread.join()
    assert (told["device"], told["source"], told["severity"]) == (INSIDE, INSIDE, "correctable")
