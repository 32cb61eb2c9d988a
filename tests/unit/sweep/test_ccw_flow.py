"""A take that stopped after each of its steps, and a give-back: from there both verbs reach their end, and the status
says where the device stands."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from rig import DEVICE, Rig, differences

from pyvfio import binding
from pyvfio.binding.channel import mdev_of
from pyvfio.binding.channel_state import channel_state, channels_on_the_way
from pyvfio.binding.taken import DIRECTORY, record_path, was_online
from pyvfio.errors import DeviceBusy
from pyvfio.files import HostFiles
from pyvfio.host import Host
from pyvfio_tools.cli import run

UUID = "66826a94-72c4-557f-beca-d135a70628e9"
OTHER = "66826a94-72c4-557f-beca-d135a70628ea"
WORDS = [
    "the host's, online",
    "the host's, online",
    "half taken: set offline, io_subchannel still has the subchannel",
    "half taken: override set, io_subchannel still has the subchannel",
    "half taken: override set, driver none",
    "half taken: vfio_ccw has the subchannel, no mediated device",
    "taken, not open",
]
"""The status after so many steps of a take."""
BACK = [
    "taken, not open",
    "half taken: vfio_ccw has the subchannel, no mediated device",
    "half taken: override set, driver none",
    "half given back: override cleared, driver none",
    "half taken: set offline, io_subchannel still has the subchannel",
    "the host's, online",
    "the host's, online",
]
"""The status after so many steps of a give-back."""


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig(lambda host: HostFiles(host.backend).make_directory(DIRECTORY))
    yield made
    made.close()


def stop_after(host: Host, plan: binding.Plan, count: int) -> None:
    for step in plan.steps[:count]:
        step.do(host.sysfs)
        assert step.verify(host.sysfs) == ""


def check_taken(host: Host) -> None:
    state = channel_state(host, DEVICE)
    assert (state.words, state.css_driver, state.mdevs) == ("taken, not open", "vfio_ccw", (UUID,))
    assert was_online(host.sysfs, DEVICE)


@pytest.mark.parametrize("count", range(7))
def test_take_goes_on_from_each_step(rig: Rig, count: int) -> None:
    stop_after(rig.host, binding.plan_ccw_take(rig.host, DEVICE, uuid=UUID), count)
    assert channel_state(rig.host, DEVICE).words == WORDS[count]
    binding.ccw_take(rig.host, DEVICE, uuid=UUID)
    check_taken(rig.host)
    binding.ccw_give_back(rig.host, DEVICE)
    assert not differences(rig.state(), rig.before)


@pytest.mark.parametrize("count", range(7))
def test_give_back_undoes_from_each_step(rig: Rig, count: int) -> None:
    stop_after(rig.host, binding.plan_ccw_take(rig.host, DEVICE, uuid=UUID), count)
    binding.ccw_give_back(rig.host, DEVICE)
    assert not differences(rig.state(), rig.before)
    assert binding.plan_ccw_give_back(rig.host, DEVICE).empty


@pytest.mark.parametrize("count", range(7))
def test_give_back_goes_on_from_each_step(rig: Rig, count: int) -> None:
    binding.ccw_take(rig.host, DEVICE, uuid=UUID)
    plan = binding.plan_ccw_give_back(rig.host, DEVICE)
    assert len(plan.steps) == 6
    stop_after(rig.host, plan, count)
    state = channel_state(rig.host, DEVICE)
    assert state.words == BACK[count]
    assert ("give-back" in state.next_step) == (state.stage != "host")
    binding.ccw_give_back(rig.host, DEVICE)
    assert not differences(rig.state(), rig.before)


@pytest.mark.parametrize("count", range(7))
def test_take_turns_back_from_each_step_of_a_give_back(rig: Rig, count: int) -> None:
    binding.ccw_take(rig.host, DEVICE, uuid=UUID)
    stop_after(rig.host, binding.plan_ccw_give_back(rig.host, DEVICE), count)
    binding.ccw_take(rig.host, DEVICE, uuid=UUID)
    check_taken(rig.host)


def test_a_taken_device_is_taken_already(rig: Rig) -> None:
    taken = binding.ccw_take(rig.host, DEVICE)
    again = binding.ccw_take(rig.host, DEVICE)
    assert again.plan.empty
    assert again.mdev == taken.mdev == mdev_of(again.plan, taken.subchannel)
    with pytest.raises(DeviceBusy):
        binding.ccw_take(rig.host, DEVICE, uuid=OTHER)


@pytest.mark.parametrize("count", range(5))
def test_a_take_that_goes_on_knows_that_the_device_was_online(rig: Rig, count: int) -> None:
    assert rig.host.ccw_device(DEVICE).online
    stop_after(rig.host, binding.plan_ccw_take(rig.host, DEVICE, uuid=UUID), count)
    assert binding.ccw_take(rig.host, DEVICE, uuid=UUID).was_online


def test_the_state_afterwards(rig: Rig) -> None:
    device = rig.host.ccw_device(DEVICE)
    for online_before, wanted, online_after in [
        (True, None, True),
        (True, False, False),
        (False, None, False),
        (False, True, True),
    ]:
        if device.online is not online_before:
            device.set_online(online_before)
        binding.ccw_take(rig.host, DEVICE)
        binding.ccw_give_back(rig.host, DEVICE, online=wanted)
        assert device.online is online_after
        assert HostFiles(rig.backend).names(DIRECTORY) == []


@pytest.mark.parametrize("text", ["", "[]", "{", '{"online": 1}'])
def test_a_note_that_no_take_wrote(rig: Rig, text: str) -> None:
    HostFiles(rig.backend).write(record_path(DEVICE), text)
    assert not was_online(rig.host.sysfs, DEVICE)
    rig.host.ccw_device(DEVICE).set_online(False)
    binding.ccw_take(rig.host, DEVICE)
    binding.ccw_give_back(rig.host, DEVICE)
    assert not rig.host.ccw_device(DEVICE).online
    assert HostFiles(rig.backend).names(DIRECTORY) == []


def test_others(rig: Rig) -> None:
    subchannel = rig.host.subchannel("0.0.0005")
    subchannel.write("driver_override", "none-such\n")
    assert channel_state(rig.host, DEVICE).words == "another driver's: driver io_subchannel, override none-such"
    assert [state.device for state in channels_on_the_way(rig.host)] == [DEVICE]
    binding.ccw_give_back(rig.host, DEVICE)
    assert list(channels_on_the_way(rig.host)) == []
    assert [state.stage for state in channels_on_the_way(rig.host, everything=True)] == ["host"]


def test_in_use(rig: Rig) -> None:
    import pyvfio

    taken = binding.ccw_take(rig.host, DEVICE, uuid=UUID)
    with pyvfio.open_device(rig.host, taken.mdev):
        state = channel_state(rig.host, DEVICE)
        assert state.stage == "in use"
        assert "open in" in state.words
        assert "end that program" in state.next_step


def test_the_command(rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("pyvfio_tools.options.open_host", lambda *_: Host(rig.backend))
    assert run(["ccw", "status"]) == 0
    assert "no channel device is taken" in capsys.readouterr().out
    assert run(["ccw", "status", "0.0.4711"]) == 3
    capsys.readouterr()
    stop_after(rig.host, binding.plan_ccw_take(rig.host, DEVICE, uuid=UUID), 4)
    assert run(["ccw", "status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [
        *(DEVICE, "0.0.0005", "-", "-", "none", "vfio_ccw", "-"),
        *["half", "taken:", "override", "set,", "driver", "none"],
    ]
    assert lines[2] == f"{DEVICE}: pyvfio ccw take {DEVICE} goes on, pyvfio ccw give-back {DEVICE} undoes"
    assert run(["ccw", "status", "13f", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["stage"], row["registered"], row["was_online"]) == ("half taken", False, True)
    assert run(["ccw", "take", "13f", "--uuid", UUID]) == 0
    assert f"mediated device {UUID}" in capsys.readouterr().out
    assert run(["ccw", "status", "13f"]) == 0
    assert "taken, not open" in capsys.readouterr().out
