"""``pyvfio reset``: refusals first, then each way; and `Device.hot_reset` of the library, which asks the owners."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyvfio.backend import Backend, open_backend
from pyvfio.binding import run as carry_out
from pyvfio.binding import step_from_dict
from pyvfio.binding.resets import methods, plan_pci_reset
from pyvfio.binding.steps_reset import ResetBehind, ResetPci
from pyvfio.binding.verbs import bind
from pyvfio.errors import DeviceInUse, KernelRefused, Misuse, NotAvailable, StepFailed
from pyvfio.host import Host
from pyvfio.vfio import Container, Group, open_device
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import MachineSpec, PcieBusSpec, PcieFunctionSpec
from pyvfio_backends.software.usage import DiskSpec, MountSpec
from pyvfio_tools import options
from pyvfio_tools.cli import run

Command = Callable[..., list[str]]
PORT = "pcie-root-port"
DISK, ONE, TWO, NIC, ALONE = "0000:01:00.0", "0000:02:00.0", "0000:02:00.1", "0000:03:00.0", "0000:00:05.0"


def spec() -> MachineSpec:
    """A mounted disk, two functions in one slot, one with all methods, and one on the root bus."""
    return MachineSpec(
        "m",
        architecture="x86_64",
        memory=0x40000000,
        modules=["vfio", "vfio_iommu_type1", "iommufd", "vfio_pci", "virtio_pci"],
        pcie_buses=[PcieBusSpec()],
        pcie_functions=[
            PcieFunctionSpec("q35-host", "0000:00"),
            PcieFunctionSpec(PORT, "0000:00", at="01.0", id="disk", slot=1),
            PcieFunctionSpec(PORT, "0000:00", at="02.0", id="pair", slot=2),
            PcieFunctionSpec(PORT, "0000:00", at="03.0", id="nic", slot=3),
            PcieFunctionSpec("virtio-blk-pci", "disk"),
            PcieFunctionSpec("e1000e", "pair"),
            PcieFunctionSpec("e1000e", "pair", at="00.1"),
            PcieFunctionSpec("igb", "nic"),
            PcieFunctionSpec("edu", "0000:00", at="05.0"),
        ],
        disks=[DiskSpec("vda", signature="ext4")],
        mounts=[MountSpec("/dev/vda", "/data")],
    )


@pytest.fixture
def backend() -> Iterator[Backend]:
    with open_backend("software", machine=spec()) as one:
        yield one


@pytest.fixture
def host(backend: Backend) -> Host:
    return Host(backend)


@pytest.fixture
def command(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.setattr(options, "Host", lambda *names, **machine: Host(backend))
    monkeypatch.setenv("PYVFIO_JOURNAL", str(tmp_path))

    def call(*words: str, code: int = 0) -> list[str]:
        assert run(list(words)) == code, capsys.readouterr()
        captured = capsys.readouterr()
        return (captured.out if code == 0 else captured.out + captured.err).splitlines()

    return call


def resets(backend: Backend, name: str) -> list[str]:
    """A list that grows with each reset of a function."""
    assert isinstance(backend, SoftwareBackend)
    segment, bus, rest = name.split(":")
    device, number = rest.split(".")
    rid = int(bus, 16) << 8 | int(device, 16) << 3 | int(number)
    function = backend.machine.pcie.function(int(segment, 16), rid)
    assert function is not None
    seen: list[str] = []
    function.on_reset.append(lambda: seen.append(name))
    return seen


# refusals


def test_a_mounted_disk_is_not_reset(command: Command, backend: Backend) -> None:
    seen = resets(backend, DISK)
    assert any("/data" in line for line in command("reset", DISK, code=5))
    assert any("/data" in line for line in command("reset", DISK, "--how", "subordinate", code=5))
    assert seen == []


def test_what_another_program_has_open_is_not_reset_with_it(host: Host, backend: Backend) -> None:
    for name in (ONE, TWO):
        bind(host.function(name))
    seen = resets(backend, ONE)
    with open_device(host, TWO), pytest.raises(DeviceInUse, match=TWO):
        plan_pci_reset(host.function(ONE), "subordinate").refuse()
    plan_pci_reset(host.function(ONE), "subordinate").refuse()
    assert seen == []


def test_on_a_root_bus_there_is_no_way(host: Host) -> None:
    for how in ("function", "flr", "subordinate"):
        with pytest.raises(NotAvailable):
            plan_pci_reset(host.function(ALONE), how)


def test_a_bus_with_another_function_on_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The kernel lists the method from when the function was alone on the bus, and has ENOTTY now."""
    monkeypatch.setenv("PYVFIO_JOURNAL", str(tmp_path))
    for how in ("bus", "function"):
        assert run(["reset", "0000:0a:01.0", "--how", how, "--machine", "lab-x86"]) == 10
        said = capsys.readouterr().err
        assert "ENOTTY" in said
        assert "only while no other one is on that bus" in said
        assert "pyvfio reset 0000:0a:01.0 --how subordinate" in said
    assert run(["reset", "0000:0a:01.0", "--how", "subordinate", "--machine", "lab-x86"]) == 0


def test_a_method_that_the_function_has_not(host: Host) -> None:
    with pytest.raises(StepFailed, match="cannot be reset by af_flr"):
        carry_out(plan_pci_reset(host.function(NIC), "af_flr"))
    assert methods(host.function(NIC)) == ("flr", "pm", "bus")


def test_when_people_have_disabled_all_methods(host: Host) -> None:
    host.function(NIC).write("reset_method", "\n")
    with pytest.raises(NotAvailable, match="disabled"):
        plan_pci_reset(host.function(NIC))


def test_an_older_kernel_has_neither_file(host: Host, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(backend, SoftwareBackend)
    device = backend.machine.kernel.buses["pci"].devices[NIC]
    port = backend.machine.kernel.buses["pci"].devices["0000:00:03.0"]
    monkeypatch.setattr(device, "removed_files", {"reset_method"})
    monkeypatch.setattr(port, "removed_files", {"reset_subordinate"})
    with pytest.raises(NotAvailable, match=r"5\.15"):
        plan_pci_reset(host.function(NIC), "pm")
    with pytest.raises(NotAvailable, match=r"6\.12"):
        plan_pci_reset(host.function(NIC), "subordinate")
    carry_out(plan_pci_reset(host.function(NIC)))


# what it does


def test_by_the_first_method(command: Command, backend: Backend) -> None:
    seen = resets(backend, NIC)
    lines = command("reset", NIC)
    assert lines[0] == f"reset {NIC} (flr)"
    assert lines[-1] == f"done: reset {NIC} (flr)"
    assert seen == [NIC]


def test_by_one_method_whose_order_comes_back(command: Command, backend: Backend, host: Host) -> None:
    seen = resets(backend, NIC)
    host.function(NIC).write("reset_method", "pm flr")
    command("reset", NIC, "--how", "bus")
    assert seen == [NIC]
    assert methods(host.function(NIC)) == ("pm", "flr")


def test_all_behind_a_bridge(command: Command, backend: Backend) -> None:
    one, two = resets(backend, ONE), resets(backend, TWO)
    for device in (TWO, "0000:00:02.0"):
        lines = command("reset", device, "--how", "subordinate")
        assert f"  note: Reset at once: {ONE}, {TWO}" in lines
    assert (len(one), len(two)) == (2, 2)


def test_the_plan_as_json(command: Command, backend: Backend) -> None:
    seen = resets(backend, ONE)
    shown = json.loads("\n".join(command("plan", "reset", ONE, "--how", "subordinate", "--json")))
    assert [step["step"] for step in shown["steps"]] == ["pci-reset-behind"]
    assert seen == []


@pytest.mark.parametrize(
    "step", [ResetPci(NIC), ResetPci(NIC, "pm", "flr pm"), ResetBehind("0000:00:02.0", (ONE, TWO))]
)
def test_the_steps_outlast_the_journal(step: ResetPci | ResetBehind) -> None:
    assert step_from_dict(step.as_dict()) == step


def test_a_killed_run_leaves_no_method_alone_in_use(host: Host) -> None:
    function = host.function(NIC)
    step = ResetPci(NIC, "pm", function.attribute("reset_method") or "")
    function.write("reset_method", "pm")  # what the run did before it was killed
    step.undo(host.sysfs)
    assert function.attribute("reset_method") == step.before == "flr pm bus"
    step.undo(host.sysfs)
    ResetPci(NIC).undo(host.sysfs)
    assert function.attribute("reset_method") == step.before


def test_a_function_that_does_not_answer_any_more(host: Host, backend: Backend) -> None:
    assert isinstance(backend, SoftwareBackend)
    function = backend.machine.pcie.function(0, 0x300)
    assert function is not None
    function.on_reset.append(lambda: setattr(function, "hung", True))
    with pytest.raises(StepFailed, match="does not answer"):
        carry_out(plan_pci_reset(host.function(NIC)))


# the library: hot reset


def test_by_iommufd_both_functions_are_owned_with_their_group(host: Host, backend: Backend) -> None:
    for name in (ONE, TWO):
        bind(host.function(name))
    seen = resets(backend, TWO)
    with open_device(host, ONE, way="iommufd") as device:
        info = device.hot_reset_info()
        assert [(str(one.address), one.owned, one.devid is None) for one in info.affected] == [
            (ONE, True, False),
            (TWO, True, True),
        ]
        assert (info.owned, info.groups) == (True, ())
        before = len(seen)
        device.hot_reset()
        assert len(seen) > before
        with pytest.raises(Misuse, match="takes no groups"):
            device.hot_reset([])
        host.sysfs.write_text("/sys/bus/pci/drivers/vfio-pci/unbind", TWO)
        assert [str(one) for one in device.hot_reset_info().affected][1] == f"{TWO} (not owned)"
        with pytest.raises(KernelRefused, match=f"not owned by the caller: {TWO}"):
            device.hot_reset()


def test_by_its_group_it_needs_all_groups(host: Host, backend: Backend) -> None:
    for name in (ONE, TWO):
        bind(host.function(name))
    with open_device(host, ONE, way="group") as device:
        info = device.hot_reset_info()
        number = host.function(ONE).group
        assert number is not None
        assert (info.owned, info.groups) == (None, (number.number,))
        device.hot_reset()
        with pytest.raises(Misuse, match="none given"):
            device.hot_reset([])
        host.sysfs.write_text("/sys/bus/pci/drivers/vfio-pci/unbind", TWO)
        with pytest.raises(KernelRefused, match="not vfio-pci's"):
            device.hot_reset()


def test_a_group_that_is_not_its_own_is_no_help(host: Host, backend: Backend) -> None:
    for name in (ONE, TWO, NIC):
        bind(host.function(name))
    own, other = (host.function(name).group for name in (ONE, NIC))
    assert own is not None
    assert other is not None
    with Container(host) as container, Group(host, other.number) as wrong:
        container.attach(wrong)
        with (
            open_device(host, ONE, way="group") as device,
            pytest.raises(KernelRefused, match=f"not owned by the caller: {ONE}"),
        ):
            device.hot_reset([wrong])


def test_on_a_root_bus_it_says_why(host: Host, backend: Backend) -> None:
    bind(host.function(ALONE))
    with open_device(host, ALONE) as device, pytest.raises(NotAvailable, match="root bus"):
        device.hot_reset_info()
