"""``pyvfio slot``: mistakes and refusals first, then what it shows, does and watches; the library beneath it."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyvfio.backend import Backend, beyond, open_backend
from pyvfio.binding import run as carry_out
from pyvfio.binding import step_from_dict
from pyvfio.binding.slot_power import plan_button, plan_slot_power
from pyvfio.binding.steps_slot import PressButton, SwitchPower
from pyvfio.errors import KernelRefused, Misuse, NoSuchDevice, NotAvailable
from pyvfio.host import Host
from pyvfio.pci.slot import Slot, find_slot, slots
from pyvfio.pci.slot_state import Indicator
from pyvfio.pci.slot_watch import SlotWatch
from pyvfio.uevent import Uevent
from pyvfio_backends.software.description import MachineSpec, PcieBusSpec, PcieFunctionSpec
from pyvfio_backends.software.loader import find_machine, load_machine
from pyvfio_backends.software.usage import DiskSpec, MountSpec
from pyvfio_tools import options
from pyvfio_tools.cli import run

Command = Callable[..., list[str]]
PORT = "pcie-root-port"


def spec() -> MachineSpec:
    """A mounted disk in slot 1, two functions in slot 2, an empty slot 3 with a latch and no indicators."""
    bare = {"attention": False, "indicator": False, "button": False, "latch": True}
    return MachineSpec(
        "m",
        architecture="x86_64",
        memory=0x40000000,
        modules=["vfio", "vfio_iommu_type1", "vfio_pci", "virtio_pci"],
        pcie_buses=[PcieBusSpec()],
        pcie_functions=[
            PcieFunctionSpec("q35-host", "0000:00"),
            PcieFunctionSpec(PORT, "0000:00", at="01.0", id="disk", slot=1),
            PcieFunctionSpec(PORT, "0000:00", at="02.0", id="pair", slot=2),
            PcieFunctionSpec(PORT, "0000:00", at="03.0", id="bare", slot=3, options=bare),
            PcieFunctionSpec("virtio-blk-pci", "disk"),
            PcieFunctionSpec("e1000e", "pair"),
            PcieFunctionSpec("e1000e", "pair", at="00.1"),
        ],
        disks=[DiskSpec("vda", signature="ext4")],
        mounts=[MountSpec("/dev/vda", "/data")],
    )


@pytest.fixture
def backend() -> Iterator[Backend]:
    with open_backend("software", machine=spec()) as one:
        yield one


@pytest.fixture
def machine(backend: Any) -> Any:
    return backend.machine


@pytest.fixture
def host(backend: Backend) -> Host:
    return Host(backend)


class Bare:
    """A backend without what a software machine has beyond a host."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        if name in ("press_button", "let_pass", "slot_events", "behind"):
            raise AttributeError(name)
        return getattr(self._backend, name)


@pytest.fixture
def pyvfio(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Run ``pyvfio slot`` on the machine, expect an exit status and give the lines of both outputs."""
    monkeypatch.setattr(options, "Host", lambda *names, **machine: Host(backend))
    monkeypatch.setenv("PYVFIO_JOURNAL", str(tmp_path / "journal"))

    def command(*words: str, status: int = 0) -> list[str]:
        capsys.readouterr()
        assert run(["slot", *words]) == status
        shown = capsys.readouterr()
        return (shown.out + shown.err).splitlines()

    return command


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_what_is_no_slot(host: Host, pyvfio: Command) -> None:
    for name in ("4", "0000:00:05.0", "x", "0000:01:00.9"):
        with pytest.raises(NoSuchDevice, match=r"there is 1, 2, 3"):
            find_slot(host.sysfs, name)
    assert any("there is 1, 2, 3" in line for line in pyvfio("power", "4", "on", status=3))


def test_a_disk_in_use_keeps_its_power(pyvfio: Command, machine: Any) -> None:
    for words in (("power", "1", "off"), ("press", "1")):
        text = "\n".join(pyvfio(*words, status=5))
        assert "vda is mounted on /data" in text
        machine.clock.advance(10)
        assert machine.slots.find("disk").state.power
        assert machine.slots.find("disk").state.indicator is Indicator.ON


def test_an_empty_slot_and_an_open_latch(pyvfio: Command, machine: Any) -> None:
    assert any("no card is in it" in line for line in pyvfio("power", "3", "on", status=6))
    machine.slots.open_latch("bare")
    machine.slots.plug("bare", "e1000e")
    assert any("its latch is open" in line for line in pyvfio("power", "3", "on", status=6))


def test_no_button_to_press(host: Host, backend: Backend) -> None:
    with pytest.raises(NotAvailable, match="no attention button"):
        plan_button(host, find_slot(host.sysfs, "3"))
    real = Host(Bare(backend))
    assert beyond(real.backend, "press_button") is None
    with pytest.raises(NotAvailable, match="somebody has to stand before it"):
        plan_button(real, find_slot(real.sysfs, "2"))
    with pytest.raises(NotAvailable, match="no call that does"):
        PressButton("2", "0000:00:02.0").do(real.sysfs)


def test_attention(host: Host, machine: Any) -> None:
    with pytest.raises(NotAvailable, match="the slot has none"):
        find_slot(host.sysfs, "3").set_attention(Indicator.ON)
    one = find_slot(host.sysfs, "2")
    with pytest.raises(Misuse, match="on, off or blink"):
        one.set_attention(Indicator.RESERVED)
    for indicator in (Indicator.BLINK, Indicator.ON, Indicator.OFF):
        one.set_attention(indicator)
        assert one.attention is indicator
        assert machine.slots.find("pair").state.attention is indicator


def test_what_the_kernel_refuses_is_said(host: Host, machine: Any) -> None:
    step = SwitchPower("2", True)
    with pytest.raises(KernelRefused, match="not in the state for that"):
        step.do(host.sysfs)
    find_slot(host.sysfs, "2").set_power(False)
    machine.slots.find("pair").hardware._shorted = True
    with pytest.raises(KernelRefused, match="did not come up"):
        step.do(host.sysfs)


# ---- what it shows ---------------------------------------------------------------------------------------------------


def test_the_table(pyvfio: Command) -> None:
    head, first, second, third = pyvfio("list")
    assert head.split() == [
        "SLOT",
        "PORT",
        "CARD",
        "POWER",
        "INDICATOR",
        "ATTENTION",
        "LATCH",
        "LOCK",
        "LINK",
        "FUNCTIONS",
    ]
    assert first.split() == [
        "1",
        "0000:00:01.0",
        "present",
        "on",
        "on",
        "off",
        "-",
        "released",
        "up",
        "0000:01:00.0",
        "(virtio-pci)",
    ]
    assert second.split()[:9] == ["2", "0000:00:02.0", "present", "on", "on", "off", "-", "released", "up"]
    assert "0000:02:00.0 (no driver), 0000:02:00.1 (no driver)" in second
    assert third.split() == ["3", "0000:00:03.0", "empty", "off", "-", "-", "closed", "released", "down", "-"]


def test_json_has_it_all(pyvfio: Command) -> None:
    (one,) = json.loads("\n".join(pyvfio("list", "0000:02:00.0", "--json")))
    assert (one["slot"], one["port"], one["button"], one["link"], one["fault"]) == (
        "2",
        "0000:00:02.0",
        True,
        True,
        False,
    )
    assert [each["device"] for each in one["functions"]] == ["0000:02:00.0", "0000:02:00.1"]
    assert find_slot is not None


def test_an_ordinary_user_is_told_what_sysfs_tells(
    host: Host, monkeypatch: pytest.MonkeyPatch, pyvfio: Command
) -> None:
    from pyvfio.pci.config import ConfigSpace

    def short(self: ConfigSpace, number: int) -> None:
        raise NotAvailable("read configuration space", "x", cause="only 64 bytes")

    monkeypatch.setattr(ConfigSpace, "capability", short)
    lines = pyvfio("list")
    assert lines[1].split()[:9] == ["1", "0000:00:01.0", "present", "on", "-", "off", "-", "-", "-"]
    assert lines[-1] == "the registers of 1, 2, 3 cannot be read: indicators are known to root"


def test_slots_of_ibm_z_are_in_the_same_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["slot", "list", "--machine", "z15-lpar", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    one = next(each for each in found if each["slot"] == "00000060")
    assert (one["fid"], one["port"], one["power"], one["indicator"]) == (0x60, None, True, None)
    assert [each["device"] for each in one["functions"]] == ["0060:00:00.0"]
    assert run(["slot", "power", "00000060", "off", "--machine", "z15-lpar"]) == 0
    assert "deconfigure" in capsys.readouterr().out
    assert run(["slot", "press", "00000060", "--machine", "z15-lpar"]) == 6


def test_a_machine_without_slots(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["slot", "list", "--machine", "lab-s390x"]) in (0, 3)


# ---- what it does ----------------------------------------------------------------------------------------------------


def test_off_and_its_inverse(host: Host, pyvfio: Command) -> None:
    one = find_slot(host.sysfs, "2")
    function = host.function("0000:02:00.1")
    function.write("driver_override", "vfio-pci")
    host.sysfs.write_text("/sys/bus/pci/drivers_probe", "0000:02:00.1")
    plan = plan_slot_power(host, one, False)
    (step,) = plan.steps
    assert isinstance(step, SwitchPower)
    assert step.states == ("0000:02:00.0 - -", "0000:02:00.1 vfio-pci vfio-pci")
    assert step_from_dict(step.as_dict()) == step
    carry_out(plan)
    assert (one.power, one.functions()) == (False, [])
    step.undo(host.sysfs)
    assert one.power
    assert host.function("0000:02:00.1").driver == "vfio-pci"
    assert "off already" not in "\n".join(pyvfio("power", "2", "off"))
    assert any("is off already" in line for line in pyvfio("power", "2", "off"))
    assert pyvfio("power", "2", "on")[-1].split()[:5] == ["2", "0000:00:02.0", "present", "on", "on"]


def test_a_press_and_what_comes_of_it(pyvfio: Command) -> None:
    lines = [" ".join(line.split()) for line in pyvfio("press", "2")]
    assert [line for line in lines if (" slot 2 " in f" {line} " and "->" in line) or "removed" in line] == [
        "0.00 slot 2 button released -> pressed",
        "0.00 slot 2 indicator on -> blink",
        "5.00 slot 2 power on -> off",
        "5.00 slot 2 link up -> down",
        "5.00 slot 2 function 0000:02:00.1 removed",
        "5.00 slot 2 function 0000:02:00.0 removed",
        "6.00 slot 2 indicator blink -> off",
    ]
    found = json.loads("\n".join(pyvfio("press", "2", "--json")))
    assert [each["what"] for each in found["events"]][:3] == ["button", "indicator", "power"]
    assert found["events"][-1]["after"] == "0000:02:00.1"


def test_a_dry_run_presses_nothing(pyvfio: Command, machine: Any) -> None:
    pyvfio("press", "2", "--dry-run")
    pyvfio("power", "2", "off", "--dry-run")
    machine.clock.advance(10)
    assert machine.slots.find("pair").state.power


def test_a_press_is_taken_back_by_a_second_one(pyvfio: Command, machine: Any) -> None:
    pyvfio("press", "2", "--no-wait")
    assert machine.slots.find("pair").state.indicator is Indicator.BLINK
    pyvfio("press", "2")
    assert machine.slots.find("pair").state.indicator is Indicator.ON


def test_programs_of_a_sandbox_press_the_same_button(tmp_path: Path) -> None:
    log = str(tmp_path / "calls")
    with Host("software", machine="lab-x86", log=log) as one, Host("software", machine="lab-x86", log=log) as two:
        press = beyond(one.backend, "press_button")
        wait = beyond(one.backend, "let_pass")
        assert press is not None
        assert wait is not None
        press("0000:00:0d.0")
        wait(10.0)
        assert find_slot(two.sysfs, "10").power is False


# ---- watching --------------------------------------------------------------------------------------------------------


def test_watching_the_hardware(host: Host, machine: Any) -> None:
    with SlotWatch(host, [find_slot(host.sysfs, "2")], drives=True) as watch:
        machine.slots.press("1")  # not watched
        machine.slots.press("2")
        found = []
        while (change := watch.read(7.0)) is not None:
            found.append(f"{change.seconds:.2f} {change}")
    assert found[0] == "0.00 button released -> pressed"
    assert found[-1] == "6.00 indicator blink -> off"
    assert "5.00 function 0000:02:00.0 removed" in found


def test_watching_a_host_by_its_registers(backend: Backend, machine: Any) -> None:
    host = Host(Bare(backend))
    with SlotWatch(host, interval=0.01) as watch:
        assert watch.read(0.05) is None
        machine.slots.press("2")
        assert str(watch.read(1.0)) == "indicator on -> blink"
        machine.clock.advance(7)
        found = {str(change) for _ in range(6) if (change := watch.read(0.3)) is not None}
    assert {"indicator blink -> off", "power on -> off", "link up -> down", "function 0000:02:00.0 removed"} <= found


def test_events_of_other_functions_do_not_shorten_the_wait(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(Bare(backend))
    other = Uevent("change", "/devices/pci0000:00/0000:00:1f.0", {"SUBSYSTEM": "pci"})
    with SlotWatch(host) as watch:
        monkeypatch.setattr(watch._uevents, "read", lambda timeout=0.0: other if timeout else None)
        began = time.monotonic()
        assert watch.read(0.6) is None
        assert time.monotonic() - began >= 0.5


def test_a_watch_that_cannot_begin_leaves_nothing(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(Bare(backend))
    streams, listen = [], host.uevents
    monkeypatch.setattr(host, "uevents", lambda names: streams.append(listen(names)) or streams[-1])

    def fail(slot: Slot) -> None:
        raise NotAvailable("read", slot.name, cause="it went away")

    monkeypatch.setattr(Slot, "state", fail)
    with pytest.raises(NotAvailable, match="went away"):
        SlotWatch(host)
    assert [stream.fileno() for stream in streams] == [-1]


def test_the_command_watches(pyvfio: Command, machine: Any) -> None:
    timer = threading.Timer(0.3, lambda: machine.slots.press("2"))
    timer.start()
    lines = pyvfio("watch", "2", "--count", "2", "--json")
    timer.join()
    assert [json.loads(line)["what"] for line in lines] == ["button", "indicator"]
    assert pyvfio("watch", "--seconds", "0")[0].startswith("waiting")


def test_names_are_completed(host: Host) -> None:
    assert [one.name for one in slots(host.sysfs)] == ["1", "2", "3"]


def test_slots_of_conventional_pci_have_no_registers_of_express() -> None:
    lab = load_machine(find_machine("lab-x86"))
    with open_backend("software", machine=dataclasses.replace(lab, modules=[*lab.modules, "shpchp"])) as opened:
        sysfs = Host(opened).sysfs
        names = [one.name for one in slots(sysfs)]
        assert names[:3] == ["1", "1-1", "2"]
        one = find_slot(sysfs, "0000:0a:02.0")
        assert (one.name, one.conventional, one.state(), one.latch_open) == ("2-1", True, None, False)
        assert one.port is not None
        assert one.port.name == "0000:09:00.0"
        assert [function.name for function in one.functions()] == ["0000:0a:02.0"]
        assert not find_slot(sysfs, "1").conventional
