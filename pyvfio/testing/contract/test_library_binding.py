"""Taking and giving back with the library: plans, their steps, their undoing, and a host that is as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import pyvfio
from pyvfio.backend import Backend
from pyvfio.binding import Plan
from pyvfio.binding.channel_state import channel_state
from pyvfio.devices import PciFunction
from pyvfio.errors import DeviceBusy, NoSuchDevice, NotAvailable, PyvfioError, StepFailed, WrongBus
from pyvfio.host import Host
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import MDEV_UUID, BoundFunction, BoundSubchannel
from pyvfio.testing.expect import settles
from pyvfio.testing.plugin import Lab


@pytest.fixture
def guard(backend: Backend, pci_path: str, lab: Lab) -> Iterator[BoundFunction]:
    """The function, restored afterwards whatever the library did."""
    found = BoundFunction(backend, lab.pci)
    yield found
    found.restore()


@pytest.fixture
def function_object(host: Host, guard: BoundFunction) -> PciFunction:
    return host.function(guard.address)


@pytest.fixture
def channel_guard(backend: Backend, sysfs: Attributes, lab: Lab) -> Iterator[BoundSubchannel]:
    """The subchannel, restored afterwards whatever the library did."""
    if not sysfs.exists(f"/sys/bus/ccw/devices/{lab.ccw}"):
        pytest.skip(f"this host has no ccw device {lab.ccw}")
    found = BoundSubchannel(backend, lab.ccw)
    yield found
    found.give_back()


OTHER_UUID = "66826a94-72c4-557f-beca-d135a70628ef"


def listing(sysfs: Attributes, path: str) -> list[str]:
    return sorted(sysfs.backend.listdir(path))


def test_bind_to_a_driver_that_is_none(function_object: PciFunction) -> None:
    with pytest.raises(NotAvailable) as caught:
        pyvfio.bind(function_object, "contract-none")
    assert "contract-none" in str(caught.value)


def test_bind_of_a_channel_device(host: Host, lab: Lab, channel_guard: BoundSubchannel) -> None:
    with pytest.raises(WrongBus):
        pyvfio.bind(host.ccw_device(lab.ccw))


def test_a_driver_that_refuses(function_object: PciFunction, guard: BoundFunction) -> None:
    # a driver of the bus that does not know the device: the old driver is back afterwards
    names = guard.sysfs.backend.listdir("/sys/bus/pci/drivers")
    other = next((name for name in names if name == "pcieport"), None)
    if other is None:
        pytest.skip("this host has no driver that would refuse")
    with pytest.raises(StepFailed) as caught:
        pyvfio.bind(function_object, other)
    assert caught.value.errno is not None
    assert guard.driver == guard.driver_before
    assert function_object.override is None


@pytest.mark.parametrize("verb", [pyvfio.bind, pyvfio.unbind, pyvfio.release], ids=lambda verb: verb.__name__)
def test_while_it_is_open(
    host: Host, function_object: PciFunction, guard: BoundFunction, verb: Callable[[PciFunction], object]
) -> None:
    pyvfio.bind(function_object)
    with pyvfio.open_device(host, function_object):
        if verb is pyvfio.bind:
            assert not pyvfio.bind(function_object).steps
            return
        with pytest.raises(DeviceBusy) as caught:
            verb(function_object)
    assert "open in" in caught.value.cause
    assert guard.driver == "vfio-pci"


def test_a_plan_does_nothing(function_object: PciFunction, guard: BoundFunction) -> None:
    plan = pyvfio.plan_bind(function_object)
    assert isinstance(plan, Plan)
    assert len(plan.steps) == 3
    assert guard.driver == guard.driver_before
    assert guard.sysfs.read(f"{guard.path}/driver_override") == "(null)"
    assert guard.address in str(plan)


def test_bind_and_release(function_object: PciFunction, guard: BoundFunction) -> None:
    before = listing(guard.sysfs, "/dev/vfio")
    pyvfio.bind(function_object)
    assert guard.driver == "vfio-pci"
    assert function_object.override == "vfio-pci"
    pyvfio.release(function_object)
    assert guard.driver == guard.driver_before
    assert guard.sysfs.read(f"{guard.path}/driver_override") == "(null)"
    assert listing(guard.sysfs, "/dev/vfio") == before


def test_bind_twice(function_object: PciFunction) -> None:
    assert pyvfio.bind(function_object).steps
    assert not pyvfio.bind(function_object).steps


def test_release_of_what_was_not_taken(function_object: PciFunction, guard: BoundFunction) -> None:
    assert not pyvfio.release(function_object).steps
    assert guard.driver == guard.driver_before


def test_unbind(function_object: PciFunction, guard: BoundFunction) -> None:
    pyvfio.unbind(function_object)
    assert guard.driver is None
    assert not pyvfio.unbind(function_object).steps


def test_undo(function_object: PciFunction, guard: BoundFunction) -> None:
    from pyvfio.binding import undo

    undo(pyvfio.bind(function_object))
    assert guard.driver == guard.driver_before
    assert function_object.override is None


def test_progress(function_object: PciFunction) -> None:
    seen: list[str] = []
    pyvfio.bind(function_object, progress=lambda event: seen.append(event.phase.value))
    assert seen == ["start", "done"] * 3


@pytest.mark.parametrize("number", ["0.0.fffe", "fffe"])
def test_take_of_what_is_not_there(host: Host, number: str) -> None:
    with pytest.raises(NoSuchDevice):
        pyvfio.ccw_take(host, number)


def test_take_with_a_name_that_is_no_uuid(host: Host, channel_guard: BoundSubchannel) -> None:
    with pytest.raises(PyvfioError):
        pyvfio.ccw_take(host, channel_guard.device_number, uuid="nonsense")
    assert channel_guard.driver == "io_subchannel"


def test_a_take_plan_does_nothing(host: Host, sysfs: Attributes, channel_guard: BoundSubchannel) -> None:
    plan = pyvfio.plan_ccw_take(host, channel_guard.device_number, uuid=MDEV_UUID)
    assert len(plan.steps) == 6
    assert channel_guard.driver == "io_subchannel"
    assert sysfs.read(f"{channel_guard.ccw}/online") == "1"


def test_take_and_give_back(host: Host, sysfs: Attributes, channel_guard: BoundSubchannel) -> None:
    taken = pyvfio.ccw_take(host, channel_guard.device_number, uuid=MDEV_UUID)
    assert taken.was_online
    assert str(taken.mdev) == MDEV_UUID
    assert taken.subchannel.name == channel_guard.address
    assert channel_guard.driver == "vfio_ccw"
    assert not host.ccw_device(channel_guard.device_number).exists
    assert [str(mdev) for mdev in host.mdevs()] == [MDEV_UUID]
    pyvfio.ccw_give_back(host, channel_guard.device_number, online=True)
    assert channel_guard.driver == "io_subchannel"
    assert host.mdevs() == []
    assert settles(lambda: sysfs.read(f"{channel_guard.ccw}/online") == "1")
    assert sysfs.read(f"{channel_guard.path}/driver_override") == "(null)"


def test_take_twice(host: Host, channel_guard: BoundSubchannel) -> None:
    pyvfio.ccw_take(host, channel_guard.device_number, uuid=MDEV_UUID)
    assert not pyvfio.plan_ccw_take(host, channel_guard.device_number, uuid=MDEV_UUID).steps
    assert not pyvfio.plan_ccw_take(host, channel_guard.device_number).steps
    with pytest.raises(DeviceBusy):
        pyvfio.plan_ccw_take(host, channel_guard.device_number, uuid=OTHER_UUID)
    pyvfio.ccw_give_back(host, channel_guard.device_number, online=True)


def test_a_take_that_stopped(host: Host, sysfs: Attributes, channel_guard: BoundSubchannel) -> None:
    number = channel_guard.device_number
    for count in range(6):
        plan = pyvfio.plan_ccw_take(host, number, uuid=MDEV_UUID)
        assert len(plan.steps) == 6
        for step in plan.steps[:count]:
            step.do(host.sysfs)
        pyvfio.ccw_take(host, number, uuid=MDEV_UUID)
        assert channel_state(host, number).stage == "taken"
        for step in pyvfio.plan_ccw_give_back(host, number).steps[:count]:
            step.do(host.sysfs)
        pyvfio.ccw_give_back(host, number)
        assert channel_state(host, number).words == "the host's, online"


def test_mdev_types(host: Host, channel_guard: BoundSubchannel) -> None:
    pyvfio.ccw_take(host, channel_guard.device_number, uuid=MDEV_UUID)
    (parent,) = host.mdev_parents()
    (kind,) = parent.types()
    assert (kind.id, kind.device_api, kind.available_instances) == ("vfio_ccw-io", "vfio-ccw", 0)
    with pytest.raises(DeviceBusy) as caught:
        kind.create()
    assert caught.value.errno_name == "EUSERS"
    with pytest.raises(DeviceBusy) as caught:
        kind.create(MDEV_UUID)
    assert caught.value.errno_name == "EEXIST"
    pyvfio.ccw_give_back(host, channel_guard.device_number, online=True)
