"""``pyvfio eeh``: refusals first, then what it shows and does, on machine power9-phb4."""

from __future__ import annotations

import contextlib
import errno
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pyvfio
from pyvfio.abi.eeh import EehErrorFunction
from pyvfio.abi.eeh_state import EehDevMode, EehPeFlag, EehPlatformState
from pyvfio.abi.opal import OpalFreezeAction
from pyvfio.abi.vfio_spapr import EehState
from pyvfio.backend import open_backend
from pyvfio.binding import run as carry_out
from pyvfio.binding import step_from_dict
from pyvfio.binding.endpoint import plan_inject_endpoint, plan_recover_endpoint
from pyvfio.binding.steps_eeh import InjectByDebugfs, InjectEndpointError, RecoverEndpoint, UnfreezeEndpoint
from pyvfio.drivers.recovery import Recovery
from pyvfio.errors import DeviceBusy, DeviceInUse, Misuse, NotAvailable, PyvfioError
from pyvfio.host import Host
from pyvfio.ioda.pe import Pe
from pyvfio.ioda.status import EndpointStatus, HostStatus, asked_by_vfio, host_status, read_status
from pyvfio.sysfs import Sysfs
from pyvfio.vfio.container import Container
from pyvfio.vfio.group import Group
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.hardware.ioda.hub import Hub
from pyvfio_backends.software.hardware.ioda.injection import Injected
from pyvfio_backends.software.linux.pnv_boot import OPAL
from pyvfio_tools import options
from pyvfio_tools.cli import run

DISK, EDU, NET, PORT = "0000:01:00.0", "0001:01:00.0", "0002:01:00.0", "0000:00:00.0"
PAIR = ("0003:05:00.0", "0003:05:00.1")
Command = Callable[..., str]


@pytest.fixture
def backend() -> Iterator[SoftwareBackend]:
    with open_backend("software", machine="power9-phb4") as one:
        assert isinstance(one, SoftwareBackend)
        yield one


@pytest.fixture
def host(backend: SoftwareBackend) -> Host:
    return Host(backend)


@pytest.fixture
def disk(host: Host) -> str:
    pyvfio.bind(host.function(DISK))
    return DISK


@pytest.fixture
def command(
    backend: SoftwareBackend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Runs the command, and gives what it printed; the exit code is asserted."""
    monkeypatch.setattr(options, "open_host", lambda *words: contextlib.nullcontext(Host(backend)))
    monkeypatch.setenv("PYVFIO_JOURNAL", str(tmp_path))

    def call(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()
        assert run(["eeh", *arguments, "--machine", "power9-phb4"]) == code
        out, err = capsys.readouterr()
        return str(err if code else out)

    return call


def freeze(host: Host, name: str, action: OpalFreezeAction = OpalFreezeAction.ALL) -> None:
    """Freeze the endpoint of a function, without anybody's being told."""
    assert isinstance(host.backend, SoftwareBackend)
    opal = host.backend.machine.kernel.subsystems[OPAL]
    found = read_status(host.function(name))
    assert found is not None
    assert not opal.pci_eeh_freeze_set(int(name[:4], 16), found.endpoint, action)


# mistakes


def test_mistakes(command: Command) -> None:
    for words, code, said in (
        (("inject", DISK, "NOTHING"), 2, "there is no function 'NOTHING'"),
        (("inject", DISK, "LD_CFG_ADDR", "--mask", "-1"), 2, "no number of 64 bits"),
        (("inject", DISK, "DMA_RD_ADDR", "--bits", "32", "--address", "0x100000000"), 2, "more than 32 bits"),
        (("inject", DISK, "LD_CFG_ADDR", "--at", "config:0x44", "--mask", "1"), 2, "--at says it all"),
        (("inject", DISK, "LD_CFG_ADDR", "--at", "bar0:0"), 2, "an error of config, not memory"),
        (("inject", DISK, "LD_MEM_ADDR", "--at", "bar0:0x4000"), 2, "has 0x4000 bytes"),
        (("inject", DISK, "LD_MEM_ADDR", "--at", "bar5:0"), 6, "no memory behind base address 5"),
        (("inject", DISK, "LD_CFG_ADDR", "--by", "vfio"), 6, "VFIO does not have it (driver: none)"),
        (("inject", DISK, "LD_CFG_ADDR", "--by", "sysfs"), 2, "sysfs"),
        (("inject", DISK, "DMA_RD_ADDR", "--by", "debugfs"), 10, "this host bridge cannot make that error"),
        (("inject", "0009:00:00.0", "LD_CFG_ADDR"), 3, "0009:00:00.0"),
        (("recover", DISK, "--healthy"), 6, "Linux recovers by itself what its drivers have"),
        (("recover", DISK, "--how", "warm"), 2, "warm"),
        (("status", "0009:00:00.0"), 3, "0009:00:00.0"),
    ):
        assert said in command(*words, code=code)


def test_other_machines_have_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eeh", "status", "--machine", "lab-x86"]) == 0
    assert "only POWER has" in capsys.readouterr().out
    assert run(["eeh", "status", "0d:00.0", "--machine", "lab-x86"]) == 6
    with pyvfio.Host("software", machine="lab-x86") as host, pytest.raises(NotAvailable, match="only POWER has"):
        plan_recover_endpoint(host.function("0000:0d:00.0"))


def test_plans_with_bad_words(host: Host, disk: str) -> None:
    function, error = host.function(disk), EehErrorFunction.LD_CFG_ADDR
    with pytest.raises(Misuse, match="32 or 64 bits"):
        plan_inject_endpoint(function, error, bits=16)
    with pytest.raises(Misuse, match="64 bits"):
        plan_inject_endpoint(function, error, address=1 << 64)
    with pytest.raises(Misuse, match="how is one of"):
        plan_recover_endpoint(function, "reset")


def test_what_others_use_is_not_touched(host: Host, command: Command) -> None:
    """All functions of an endpoint are looked at: one of two is open in a program."""
    for name in PAIR:
        pyvfio.bind(host.function(name))
    assert PAIR[1] in "".join(plan_recover_endpoint(host.function(PAIR[0]), healthy=True).notes)
    with pyvfio.open_device(host, PAIR[1]):
        with pytest.raises(DeviceInUse):
            carry_out(plan_recover_endpoint(host.function(PAIR[0]), healthy=True))
        with pytest.raises(DeviceInUse):
            carry_out(plan_inject_endpoint(host.function(PAIR[0]), EehErrorFunction.LD_CFG_ADDR))
        command("recover", PAIR[0], "--healthy", code=5)
        with pytest.raises(DeviceBusy):
            asked_by_vfio(host, host.function(PAIR[0]))
        found = json.loads(command("status", PAIR[0], "--json"))
        assert found["vfio"]["state"] is None
        assert found["vfio"]["error"]["exit_code"] == 5


# what it shows


def test_status_of_all(host: Host, command: Command) -> None:
    freeze(host, DISK)
    lines = command("status").splitlines()
    assert lines[0].startswith("EEH is enabled")
    assert next(line for line in lines if line.startswith(DISK)).split()[1:4] == ["0x1fd", "0", "STOPPED"]
    found = json.loads(command("status", "--json"))
    assert found["eeh"]["enabled"] is True
    states = {one["device"]: one["state"] for one in found["functions"]}
    assert (states[DISK], states[EDU]) == ("STOPPED", "NORMAL")
    assert len(states) == len(host.functions())


def test_status_of_one(host: Host, disk: str, command: Command) -> None:
    """Sysfs and VFIO say the same, and asking unfreezes nothing."""
    assert "by VFIO   NORMAL" in command("status", disk)
    for action, state in (
        (OpalFreezeAction.DMA, EehState.STOPPED_DMA),
        (OpalFreezeAction.ALL, EehState.STOPPED),
    ):
        freeze(host, disk, action)
        for _ in range(2):
            out = command("status", disk)
            assert f"state     {state.name}:" in out
            assert f"by VFIO   {state.name}:" in out
            assert asked_by_vfio(host, host.function(disk)) is state
    assert "not asked: no VFIO driver" in command("status", EDU)
    assert "group     none" in command("status", PORT)


class Files:
    """A function whose files say something."""

    def __init__(self, **files: str) -> None:
        self.name, self.driver, self.group = "0002:01:00.0", "nvme", None
        self.files = files

    def attribute(self, name: str) -> str | None:
        if self.files.get(name) == "ENODEV":
            raise PyvfioError("read", errno=19)
        return self.files.get(name)


def decoded(**files: str) -> EndpointStatus | None:
    return read_status(Files(**files))  # type: ignore[arg-type]


def test_what_the_files_say() -> None:
    """The first is what the POWER lab's kernel showed of its NVMe; the others by ``eeh_sysfs.c``."""
    found = decoded(eeh_mode="0x200", eeh_pe_state="0x00000078 0x00000800", eeh_pe_config_addr="0xfd")
    assert found is not None
    assert (found.endpoint, found.mode, found.flags) == (0xFD, EehDevMode.SYSFS, EehPeFlag.PRI_BUS)
    assert (found.state, found.platform) == (EehState.NORMAL, EehPlatformState(0x78))
    found = decoded(eeh_mode="0x200", eeh_pe_state="0x00000004 0x00000809", eeh_pe_config_addr="0xfd")
    assert found is not None
    assert (found.state, found.flags) == (EehState.RESET, EehPeFlag.PRI_BUS | EehPeFlag.RESET | EehPeFlag.ISOLATED)
    found = decoded(eeh_mode="0x200", eeh_pe_state="0x00000002 0x00000000", eeh_pe_config_addr="0xfd")
    assert found is not None
    assert found.state is None
    found = decoded(eeh_mode="0x0", eeh_pe_state="ENODEV", eeh_pe_config_addr="0x0")
    assert found is not None
    assert (found.endpoint, found.state) == (None, None)
    assert decoded() is None


# what it does


def test_injection(host: Host, disk: str, command: Command) -> None:
    before = command("inject", disk, "ld-cfg-addr", "--dry-run")
    assert "have the next LD_CFG_ADDR" in before
    assert "done" not in before
    with pyvfio.open_device(host, disk) as device:
        assert device.config.vendor_id == 0x1B36  # the plan did nothing
    command("inject", disk, "ld-cfg-addr")
    assert host_status(host.sysfs) == HostStatus(True, {**counters(host), "eeh_slot_resets": 0})
    _ = host.sysfs.read_bytes(f"/sys/bus/pci/devices/{disk}/config")  # it strikes; Linux, whose it is, recovers it
    deadline = time.monotonic() + 10
    while not counters(host)["eeh_slot_resets"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert counters(host)["eeh_slot_resets"] == 1


def test_injection_at_a_place(host: Host, disk: str, command: Command) -> None:
    """A register of configuration space: no other is struck."""
    document = json.loads(command("inject", disk, "ld-cfg-data", "--at", "config:0x44", "--json"))
    assert [document["steps"][0][name] for name in ("bits", "address", "mask")] == [0, 0x100044 << 32, 0xFFFFFFC << 32]
    assert (armed(host, 0).address, armed(host, 0).mask) == (0x100044 << 32, 0xFFFFFFC << 32)
    shown = command("inject", EDU, "st-mem-data", "--at", "bar0:0x80", "--by", "vfio", "--dry-run", code=6)
    assert "pyvfio bind" in shown


def test_injection_into_what_linux_has(host: Host, command: Command) -> None:
    """Its driver: by debugfs; the next access strikes, and Linux recovers it."""
    assert host.function(NET).driver == "igb"
    document = json.loads(command("inject", NET, "LD_CFG_ADDR", "--at", "config:0x44", "--json"))
    assert document["steps"][0]["step"] == "eeh-inject-debugfs"
    assert armed(host, 2).address == 0x100044 << 32
    with contextlib.suppress(PyvfioError):  # ENODEV: it is frozen, and Linux resets it
        host.sysfs.read_bytes(f"/sys/bus/pci/devices/{NET}/config")
    deadline = time.monotonic() + 10
    while not counters(host)["eeh_slot_resets"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert counters(host)["eeh_slot_resets"] == 1


def test_injection_into_what_a_program_has(host: Host, disk: str, command: Command) -> None:
    """Refused with the evidence, by VFIO and by debugfs; the latter can be had all the same, to see how it recovers."""
    with pyvfio.open_device(host, disk) as device:
        for by in ("vfio", "debugfs"):
            command("inject", disk, "LD_CFG_ADDR", "--by", by, code=5)
        with Recovery(device) as recovery:
            command("inject", disk, "LD_CFG_ADDR", "--by", "debugfs", "--force", "vfio")
            assert recovery.noticed(device.config.read_u32(0x44))
            assert recovery.run().state is EehState.STOPPED
            assert device.config.vendor_id == 0x1B36


def test_injection_without_debugfs(host: Host, disk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not mounted, or not for this user: said before anything is done."""
    real = Sysfs.exists
    monkeypatch.setattr(Sysfs, "exists", lambda self, path: "/debug/" not in path and real(self, path))
    for name, by in ((NET, None), (NET, "debugfs"), (disk, "debugfs")):
        with pytest.raises(NotAvailable, match="mount -t debugfs"):
            plan_inject_endpoint(host.function(name), EehErrorFunction.LD_CFG_ADDR, by=by)
    assert plan_inject_endpoint(host.function(disk), EehErrorFunction.LD_CFG_ADDR).steps
    with pytest.raises(Misuse, match="vfio or debugfs"):
        plan_inject_endpoint(host.function(disk), EehErrorFunction.LD_CFG_ADDR, by="magic")


def armed(host: Host, bridge: int) -> Injected:
    assert isinstance(host.backend, SoftwareBackend)
    bridges = host.backend.machine.pcie
    assert isinstance(bridges, Hub)
    found = bridges.phbs[bridge].injector.armed
    assert found is not None
    return found


def counters(host: Host) -> dict[str, int]:
    found = host_status(host.sysfs)
    assert found is not None
    assert found.enabled
    return found.counters


def test_an_error_that_the_bridge_cannot_make(command: Command, disk: str) -> None:
    """A PHB4 makes errors of configuration space alone (``hw/phb4.c`` of skiboot)."""
    assert "this host bridge cannot make that error" in command("inject", disk, "DMA_RD_ADDR", code=10)


def test_recovery(host: Host, disk: str, command: Command) -> None:
    for how in ("hot", "fundamental", "unfreeze"):
        assert "nothing to do" in command("recover", disk, "--how", how)
        freeze(host, disk)
        document = json.loads(command("recover", disk, "--how", how, "--json"))
        assert document["done"] is True
        assert document["steps"][0]["how"] == how
        assert asked_by_vfio(host, host.function(disk)) is EehState.NORMAL
        with pyvfio.open_device(host, disk) as device:
            assert device.config.vendor_id == 0x1B36


def test_unfreezing_what_the_kernel_has(host: Host, command: Command) -> None:
    freeze(host, EDU)
    assert "unfreeze the endpoint" in command("recover", EDU, "--how", "unfreeze")
    found = read_status(host.function(EDU))
    assert found is not None
    assert found.state is EehState.NORMAL


def test_steps_are_kept_in_journals() -> None:
    for step in (
        InjectEndpointError(DISK, 4, 1, 1 << 40, 0xF),
        InjectByDebugfs(DISK, 4, 1, 1 << 40, 0xF),
        RecoverEndpoint(DISK, "hot"),
        UnfreezeEndpoint(DISK),
    ):
        assert step_from_dict(step.as_dict()) == step
        assert "nothing" in step.undo_text


def test_a_frozen_one(host: Host, disk: str, command: Command) -> None:
    freeze(host, disk)
    assert "next " not in command("status", EDU)
    said = command("status", disk)
    assert "firmware  nothing is active or enabled" in said
    assert f"next      pyvfio eeh recover {disk}\n" in said
    freeze(host, NET)
    assert f"next      Linux recovers it, or pyvfio eeh recover {NET} --how unfreeze" in command("status", NET)
    with pyvfio.open_device(host, disk) as device:
        freeze(host, disk)
        assert device.name == disk
        assert "next " not in command("status", disk)  # it is the program's


def test_a_state_that_cannot_be_read(backend: SoftwareBackend, command: Command) -> None:
    """ENODEV alone says that a function has no endpoint (``eeh_sysfs.c``)."""
    backend.faults.fail("read", errno.EIO, path="*/eeh_pe_state", times=-1)
    for words in (["status"], ["status", EDU], ["recover", EDU]):
        assert "EIO" in command(*words, code=7)
    backend.faults.clear()
    backend.faults.fail("read", errno.ENODEV, path="*/eeh_pe_state", times=-1)
    assert "endpoint  none" in command("status", EDU)


# a program that was killed in the middle of a reset


@pytest.fixture
def held(host: Host, disk: str) -> str:
    """A function whose endpoint a program has begun to reset; it is gone.  Another has opened and closed it since."""
    with Container(host) as container, Group(host, 0) as group:
        container.attach(group)
        container.set_iommu()
        Pe(container).assert_reset()
    with contextlib.suppress(PyvfioError), pyvfio.open_device(host, disk):
        pass
    found = read_status(host.function(disk))
    assert found is not None
    assert found.state is EehState.NORMAL  # as the kernel says, but
    assert found.held
    return disk


@pytest.mark.parametrize("how", ["hot", "fundamental", "unfreeze"])
def test_a_reset_that_nobody_ended(host: Host, held: str, how: str, command: Command) -> None:
    assert "a reset was begun and not ended" in command("status", held)
    assert "configuration space is blocked" in command("recover", held, "--how", how, "--dry-run")
    assert "done" in command("recover", held, "--how", how)
    assert "not ended" not in command("status", held)
    with pyvfio.open_device(host, held) as device:
        assert device.config.vendor_id == 0x1B36
    assert "nothing to do" in command("recover", held)


def test_what_a_killed_run_left_is_undone(host: Host, held: str) -> None:
    plan = plan_recover_endpoint(host.function(held))
    step = plan.steps[0]
    assert step.undo_text == "end a reset that was begun; nothing else takes it back"
    assert step.verify(host.sysfs) == f"the endpoint of {held} is still held in reset"
    step.undo(host.sysfs)
    assert step.verify(host.sysfs) == ""
    step.undo(host.sysfs)  # nothing is left to undo
    with pyvfio.open_device(host, held) as device:
        assert device.config.vendor_id == 0x1B36


def test_a_blocked_one_that_vfio_does_not_have(host: Host, held: str, command: Command) -> None:
    pyvfio.release(host.function(held))
    said = command("recover", held, "--how", "unfreeze", code=6)
    assert "no driver has it, and a reset is done through VFIO" in said
    assert f"next:  pyvfio bind {held}" in said
    pyvfio.bind(host.function(held))
    assert "done" in command("recover", held)


def test_a_bridge_is_not_to_be_bound(command: Command) -> None:
    said = command("recover", PORT, "--healthy", code=6)
    assert "pyvfio bind" not in said
    assert "--how unfreeze" in said


def test_a_guest_has_no_endpoints(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["status", EDU], ["recover", EDU], ["inject", EDU, "LD_CFG_ADDR"]):
        words[1] = "0001:00:02.0"
        assert run(["eeh", *words, "--machine", "power9-pseries"]) == 6
        assert "the hypervisor gives its guests none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "held"),
    [
        (EehPeFlag.CFG_BLOCKED | EehPeFlag.PRI_BUS, True),
        (EehPeFlag.CFG_BLOCKED | EehPeFlag.ISOLATED, True),
        (EehPeFlag.CFG_BLOCKED | EehPeFlag.CFG_RESTRICTED, True),
        (EehPeFlag.CFG_BLOCKED | EehPeFlag.CFG_RESTRICTED | EehPeFlag.ISOLATED, False),
        (EehPeFlag.CFG_BLOCKED | EehPeFlag.RECOVERING, False),
        (EehPeFlag.CFG_BLOCKED | EehPeFlag.RESET, False),
        (EehPeFlag.ISOLATED, False),
    ],
)
def test_who_holds_a_reset(flags: EehPeFlag, held: bool) -> None:
    """``eeh_pe_mark_isolated``, ``eeh_pe_reset`` and ``eeh_pe_reset_full`` of Linux 6.12 set the flag."""
    assert EndpointStatus("d", None, 0, 1, EehDevMode(0), EehPlatformState(0), flags).held is held
