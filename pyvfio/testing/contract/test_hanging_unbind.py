"""An unbind that the kernel does not return from is given up, the holder named, and all is as before in the end."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

import pyvfio
from pyvfio.backend import Backend
from pyvfio.binding import Event, Phase, records, restore
from pyvfio.binding.channel_state import channel_state
from pyvfio.binding.mediated import plan_mdev_remove
from pyvfio.errors import DeviceBusy, StillWaiting
from pyvfio.host import Host
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.devices import BoundFunction, BoundSubchannel
from pyvfio.testing.expect import settles
from pyvfio.testing.modes import EVERY_MODE, group_mode, open_device
from pyvfio.testing.plugin import Lab

DEADLINE = 0.5
DIRECTORY = "/tmp/pyvfio-contract-journal"


@pytest.fixture
def device(backend: Backend, pci_path: str, lab: Lab) -> Iterator[BoundFunction]:
    """The function bound to vfio-pci, for one test."""
    with BoundFunction(backend, lab.pci) as bound:
        yield bound


def forced(plan: pyvfio.Plan) -> list[str]:
    return [finding.probe for finding in plan.findings]


@pytest.mark.parametrize("mode", EVERY_MODE)
def test_it_is_given_up_and_restored(host: Host, device: BoundFunction, mode: str) -> None:
    with OpenFiles(host.backend) as files:
        opened = open_device(host.backend, files, device, mode)
        plan = pyvfio.plan_unbind(host.function(device.address))
        with pytest.raises(StillWaiting) as caught:
            pyvfio.run(plan, force=forced(plan), journal=DIRECTORY, deadline=DEADLINE)
        assert f"pid {os.getpid()}" in caught.value.cause
        assert "pyvfio restore" in caught.value.next_step
        assert "will still carry out this write" in caught.value.host
        files.close(opened.fd)
    # The kernel finishes the unbind, and the inverse that waits behind it, each in its time.
    assert settles(lambda: not _waits(), 20)
    (record,) = records(host.sysfs, DIRECTORY)
    restore(host.sysfs, record)
    assert device.driver == "vfio-pci"
    assert records(host.sysfs, DIRECTORY) == []


def _waits() -> bool:
    return any(thread.name == "pyvfio-call" for thread in threading.enumerate())


def test_it_is_waited_for(host: Host, device: BoundFunction) -> None:
    with OpenFiles(host.backend) as files:
        opened = open_device(host.backend, files, device, group_mode(host.backend))
        plan = pyvfio.plan_unbind(host.function(device.address))
        told: list[str] = []

        def progress(event: Event) -> None:
            if event.phase is Phase.WAITING:
                told.append(event.error)
                files.close(opened.fd)

        pyvfio.run(plan, progress, force=forced(plan), journal=DIRECTORY, deadline=DEADLINE, wait=None)
        assert device.driver is None
        assert len(told) == 1
        assert f"pid {os.getpid()}" in told[0]
        assert records(host.sysfs, DIRECTORY) == []


def test_it_is_refused_unless_forced(host: Host, device: BoundFunction) -> None:
    with OpenFiles(host.backend) as files:
        open_device(host.backend, files, device, group_mode(host.backend))
        with pytest.raises(DeviceBusy) as caught:
            pyvfio.unbind(host.function(device.address))
        assert f"pid {os.getpid()}" in str(caught.value)
        assert device.driver == "vfio-pci"


def test_the_removal_of_a_mediated_device_is_given_up_and_restored(host: Host, subchannel: BoundSubchannel) -> None:
    with subchannel.create() as mdev:
        opened = pyvfio.open_device(host, host.mdev(mdev.uuid))
        plan = plan_mdev_remove(host.mdev(mdev.uuid))
        with pytest.raises(StillWaiting) as caught:
            pyvfio.run(plan, force=forced(plan), journal=DIRECTORY, deadline=DEADLINE)
        assert f"pid {os.getpid()}" in caught.value.cause
        assert "will still carry out this write" in caught.value.host
        state = channel_state(host, subchannel.device_number, journal=DIRECTORY)
        assert (state.stage, state.mdevs, state.interrupted) == ("half taken", (), "")
        opened.close()
        assert settles(lambda: not _waits(), 20)
        (record,) = records(host.sysfs, DIRECTORY)
        restore(host.sysfs, record)
        assert host.mdev(mdev.uuid).exists
        assert records(host.sysfs, DIRECTORY) == []
