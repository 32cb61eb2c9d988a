"""Virtual functions by plan: made, changed, removed, put back with their drivers, and refused while they are used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

import pyvfio
from pyvfio.binding import undo
from pyvfio.binding.virtual import plan_virtual_functions, set_virtual_functions, wait_for_virtual_functions
from pyvfio.errors import DeviceInUse, KernelRefused, Misuse, NotAvailable, PermissionDenied, StepFailed, Timeout
from pyvfio.host import Host
from pyvfio.pci.sriov import physical_function, sriov, virtual_functions
from pyvfio.vfio import Device
from pyvfio_backends.software import software_of
from pyvfio_tools.cli import run

PF, BELL = "0070:00:00.0", "0080:00:00.0"
FIRST, SECOND = "0070:00:00.1", "0070:00:00.2"
TOKEN = "bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3"
OTHER = "00000000-0000-4000-8000-000000000000"
PARAMETER = "/sys/module/vfio_pci/parameters/enable_sriov"
PROBES = ("open", "vfio", "network", "signature")


@pytest.fixture
def host() -> Iterator[Host]:
    with pyvfio.Host("software", machine="z16-sriov") as opened:
        yield opened


def state(host: Host) -> dict[str, tuple[str | None, str | None]]:
    return {one.name: (one.driver, one.override) for one in host.functions()}


def numbers(plan: pyvfio.Plan) -> list[tuple[int, int]]:
    return [(step.before, step.number) for step in plan.steps]  # type: ignore[attr-defined]


def test_an_undo_that_was_killed_goes_on(host: Host) -> None:
    function = host.function(PF)
    set_virtual_functions(function, 2)
    pyvfio.bind(wait_for_virtual_functions(function)[0], force=PROBES)
    before = state(host)
    plan = plan_virtual_functions(function, 0)
    pyvfio.run(plan, force=PROBES)
    function.write("sriov_numvfs", "2")  # as far as the undo had come: the drivers are not the old ones
    assert state(host) != before
    undo(plan)
    assert state(host) == before


def test_what_sysfs_shows(host: Host) -> None:
    found = sriov(host.function(PF))
    assert found is not None
    assert (found.total, found.number, found.offset, found.stride) == (7, 0, 1, 1)
    assert found.vf_device == 0x1041
    assert found.autoprobe is True
    assert virtual_functions(host.function(PF)) == {}


def test_make_and_remove(host: Host) -> None:
    function, before = host.function(PF), state(host)
    plan = set_virtual_functions(function, 2)
    assert numbers(plan) == [(0, 2)]
    found = wait_for_virtual_functions(function)
    assert [one.name for one in found.values()] == [FIRST, SECOND]
    assert physical_function(found[0]) == function
    assert sriov(found[0]) is None
    undo(plan)
    assert state(host) == before


def test_nothing_to_do(host: Host) -> None:
    assert plan_virtual_functions(host.function(PF), 0).empty


def test_another_number_goes_by_none_and_the_old_one_comes_back_as_it_was(host: Host) -> None:
    function = host.function(PF)
    set_virtual_functions(function, 2)
    pyvfio.bind(host.function(SECOND), force=PROBES)
    before = state(host)
    plan = plan_virtual_functions(function, 4)
    assert numbers(plan) == [(2, 0), (0, 4)]
    assert any("only by 0" in note for note in plan.notes)
    pyvfio.run(plan, force=PROBES)
    assert len(virtual_functions(function)) == 4
    undo(plan)
    assert state(host) == before
    assert state(host)[SECOND] == ("vfio-pci", "vfio-pci")


def test_a_failure_on_the_way_puts_the_old_number_back(host: Host) -> None:
    function = host.function(PF)
    set_virtual_functions(function, 2)
    before = state(host)
    plan = plan_virtual_functions(function, 4)
    faults = software_of(host.backend).faults
    faults.fail("write", 5, path="*/sriov_numvfs", nth=2)
    with pytest.raises(StepFailed):
        pyvfio.run(plan, force=PROBES)
    assert state(host) == before


def test_drivers_are_not_sought(host: Host) -> None:
    function = host.function(PF)
    plan = set_virtual_functions(function, 1, autoprobe=False)
    assert [step.kind for step in plan.steps] == ["sriov-autoprobe", "sriov-number"]
    assert virtual_functions(function)[0].driver is None
    undo(plan)
    found = sriov(function)
    assert found is not None
    assert found.autoprobe


@pytest.mark.parametrize("number", [-1, 8])
def test_a_number_that_cannot_be(host: Host, number: int) -> None:
    with pytest.raises(Misuse) as caught:
        plan_virtual_functions(host.function(PF), number)
    assert "0 to 7" in caught.value.cause


def test_a_function_without(host: Host) -> None:
    set_virtual_functions(host.function(PF), 1)
    with pytest.raises(NotAvailable) as caught:
        plan_virtual_functions(host.function(FIRST), 1)
    assert PF in caught.value.cause
    with pyvfio.Host("software", machine="z15-lpar") as other, pytest.raises(NotAvailable) as caught:
        plan_virtual_functions(other.function("0011:00:00.0"), 1)
    assert "no SR-IOV" in caught.value.cause


def test_without_a_driver(host: Host) -> None:
    with pytest.raises(NotAvailable) as caught:
        plan_virtual_functions(host.function(BELL), 1)
    assert "no driver" in caught.value.cause


def test_vfio_pci_without_its_parameter(host: Host) -> None:
    pyvfio.bind(host.function(BELL))
    with pytest.raises(NotAvailable) as caught:
        plan_virtual_functions(host.function(BELL), 1)
    assert "enable_sriov" in caught.value.next_step


def test_a_driver_that_makes_none(host: Host) -> None:
    plan = plan_virtual_functions(host.function(PF), 1)
    software_of(host.backend).faults.fail("write", 2, path="*/sriov_numvfs")
    with pytest.raises(StepFailed) as caught:
        pyvfio.run(plan)
    assert "does not make virtual functions" in caught.value.cause


def open_virtual(host: Host) -> Device:
    set_virtual_functions(host.function(PF), 1)
    pyvfio.bind(host.function(FIRST), force=PROBES)
    return pyvfio.open_device(host, FIRST)


def test_one_that_is_used_keeps_all(host: Host) -> None:
    with open_virtual(host), pytest.raises(DeviceInUse) as caught:
        set_virtual_functions(host.function(PF), 0)
    assert any(finding.device == FIRST for finding in caught.value.findings)
    assert virtual_functions(host.function(PF))


def test_one_that_is_used_is_asked_and_lets_go(host: Host) -> None:
    set_virtual_functions(host.function(PF), 1)
    pyvfio.bind(host.function(FIRST), force=PROBES)
    device = pyvfio.open_device(host, FIRST, let_go=True)
    set_virtual_functions(host.function(PF), 0, force=("vfio", "open"))
    assert not virtual_functions(host.function(PF))
    device.close()


def guarded(host: Host) -> tuple[pyvfio.PciFunction, pyvfio.PciFunction]:
    """The bell under vfio-pci, and its virtual function, under vfio-pci as well."""
    function = host.function(BELL)
    pyvfio.bind(function)
    host.sysfs.write_text(PARAMETER, "Y")
    plan = set_virtual_functions(function, 1)
    assert any("VF token" in note for note in plan.notes)
    virtual = wait_for_virtual_functions(function)[0]
    pyvfio.bind(virtual)
    return function, virtual


def test_tokens(host: Host) -> None:
    function, virtual = guarded(host)
    with pytest.raises(PermissionDenied) as caught:
        pyvfio.open_device(host, virtual, way="group")
    assert "needs a VF token" in caught.value.cause
    with pyvfio.open_device(host, function, vf_token=TOKEN) as physical:
        assert physical.way == "group"
        with pytest.raises(PermissionDenied) as caught:
            pyvfio.open_device(host, virtual, vf_token=OTHER)
        assert "wrong" in caught.value.cause
        with pyvfio.open_device(host, virtual, vf_token=TOKEN) as opened:
            assert "token" in opened.why
            assert opened.config.vendor_id
        physical.set_vf_token(OTHER)
        pyvfio.open_device(host, virtual, vf_token=OTHER).close()


def test_a_token_by_the_devices_own_node(host: Host) -> None:
    _, virtual = guarded(host)
    with pytest.raises(KernelRefused) as caught:
        pyvfio.open_device(host, virtual, way="iommufd", vf_token=TOKEN)
    assert "by the group" in caught.value.next_step


def test_a_token_that_is_none(host: Host) -> None:
    with pytest.raises(pyvfio.errors.BadAddress):
        pyvfio.open_device(host, PF, vf_token="secret")


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    machine = ["--machine", "z16-sriov"]

    def document(*words: str) -> Any:
        assert run(["sriov", *words, "--json", *machine]) == 0
        return json.loads(capsys.readouterr().out)

    shown = document(PF)
    assert (shown["totalvfs"], shown["numvfs"], shown["vfs"]) == (7, 0, [])
    assert document(PF, "3")["done"] is True
    assert run(["sriov", PF, "2", *machine]) == 0
    text = capsys.readouterr().out
    assert FIRST in text
    assert "undo: remove them" in text
    assert run(["sriov", PF, *machine]) == 0
    assert "0 of at most 7" in capsys.readouterr().out
    assert run(["sriov", PF, "--no-autoprobe", *machine]) == 2
    assert run(["sriov", PF, "8", *machine]) == 2
    assert run(["sriov", BELL, "1", *machine]) == 6
    assert run(["plan", "sriov", PF, "1", *machine]) == 0
    capsys.readouterr()


def test_a_wait_for_one_that_never_comes(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    function = host.function(PF)
    set_virtual_functions(function, 1)
    plan = plan_virtual_functions(function, 0)
    pyvfio.run(plan, force=PROBES)
    monkeypatch.setattr("pyvfio.binding.steps_sriov._PATIENCE", 0.05)
    step = plan.steps[0]
    gone = type(step)(PF, 0, 1, ("0070:00:00.7 - -",))  # type: ignore[call-arg]
    with pytest.raises(Timeout):
        gone.undo(host.sysfs)
