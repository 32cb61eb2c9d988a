"""A run that is killed (SIGKILL) after each of its steps in turn: another process puts the host back by the journal."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import pyvfio
from pyvfio.backend import Backend
from pyvfio.binding import Event, Phase, Plan, records, restore
from pyvfio.binding.taken import was_online
from pyvfio.host import Host
from pyvfio.process.child import run_in_child
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import MDEV_UUID
from pyvfio.testing.plugin import Lab

DIRECTORY = "/tmp/pyvfio-contract-killed"
Planner = Callable[[Host, Lab], Plan]


def bind(host: Host, lab: Lab) -> Plan:
    return pyvfio.plan_bind(host.function(lab.pci))


def unbind(host: Host, lab: Lab) -> Plan:
    return pyvfio.plan_unbind(host.function(lab.pci))


def take(host: Host, lab: Lab) -> Plan:
    return pyvfio.plan_ccw_take(host, lab.ccw, uuid=MDEV_UUID)


PLANS: dict[Planner, int] = {bind: 3, unbind: 1, take: 6}
"""What is killed, and how many steps it has."""
CASES = [
    pytest.param(planner, index, phase, id=f"{planner.__name__}-{index}-{phase.value}")
    for planner, count in PLANS.items()
    for index in range(count)
    for phase in (Phase.START, Phase.DONE)
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where a software machine keeps its state from one process to the next."""
    return tmp_path / "machine.log"


@pytest.fixture
def present(backend: Backend, lab: Lab, pci_path: str) -> None:
    """The devices of the lab are there."""
    if not Attributes(backend).exists(f"/sys/bus/ccw/devices/{lab.ccw}"):
        pytest.skip(f"this host has no ccw device {lab.ccw}")


def state(host: Host, lab: Lab) -> dict[str, object]:
    """What the plans change."""
    function, channel = host.function(lab.pci), host.ccw_device(lab.ccw)
    subchannel = channel.subchannel
    return {
        "function": (function.driver, function.override),
        "subchannel": (subchannel.driver, subchannel.override),
        "channel device": (channel.driver, channel.online),
        "noted": was_online(host.sysfs, channel.name),
        "mdevs": [str(mdev) for mdev in host.mdevs()],
    }


def kill(lab: Lab, log: Path, planner: Planner, index: int, phase: Phase) -> None:
    """Run a plan in a process that kills itself when step `index` is in `phase`."""

    def progress(event: Event) -> None:
        if (event.index, event.phase) == (index, phase):
            os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        with lab.open(log=str(log)) as backend, Host(backend) as host:
            plan = planner(host, lab)
            probes = [finding.probe for finding in plan.findings]
            pyvfio.run(plan, progress, force=probes, journal=DIRECTORY)

    assert run_in_child(work) == signal.SIGKILL


@pytest.mark.parametrize(("planner", "index", "phase"), CASES)
def test_it_is_undone(present: None, lab: Lab, log: Path, planner: Planner, index: int, phase: Phase) -> None:
    with lab.open(log=str(log)) as backend, Host(backend) as host:
        before = state(host, lab)
        assert len(planner(host, lab).steps) == PLANS[planner]
    kill(lab, log, planner, index, phase)
    with lab.open(log=str(log)) as backend, Host(backend) as host:
        if index > 0 or phase is Phase.DONE:
            assert state(host, lab) != before
        (record,) = records(host.sysfs, DIRECTORY)
        assert not record.alive(host.sysfs)
        restore(host.sysfs, record)
        assert state(host, lab) == before
        assert records(host.sysfs, DIRECTORY) == []
