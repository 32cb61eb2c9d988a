"""Channel devices as lists show them, and set online and offline: the same on every host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import pyvfio
from pyvfio.backend import Backend
from pyvfio.binding.ccw_settings import Settings, channel_device, plan_ccw_settings
from pyvfio.binding.channel_state import channel_state, channels_on_the_way
from pyvfio.dasd import dasds
from pyvfio.devices import ChannelDevice
from pyvfio.errors import NoSuchDevice, NotAvailable, StepFailed
from pyvfio.host import Host
from pyvfio.subchannel_facts import SubchannelFacts, read_subchannels
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import MDEV_UUID, BoundSubchannel
from pyvfio.testing.expect import settles
from pyvfio.testing.plugin import Lab

OFFLINE, ONLINE = Settings(False), Settings(True)


@pytest.fixture
def guard(backend: Backend, sysfs: Attributes, lab: Lab) -> Iterator[BoundSubchannel]:
    """The subchannel, restored afterwards whatever the library did."""
    if not sysfs.exists(f"/sys/bus/ccw/devices/{lab.ccw}"):
        pytest.skip(f"this host has no ccw device {lab.ccw}")
    found = BoundSubchannel(backend, lab.ccw)
    yield found
    found.give_back()


@pytest.fixture
def device(host: Host, guard: BoundSubchannel, sysfs: Attributes) -> Iterator[ChannelDevice]:
    """The channel device of the lab, which is online; it is online again afterwards."""
    found = host.ccw_device(guard.device_number)
    yield found
    if found.exists and not found.online:
        found.set_online(True)
    assert settles(lambda: sysfs.read(f"{guard.ccw}/online") == "1")


def facts_of(host: Host, name: str) -> SubchannelFacts:
    (found,) = read_subchannels(
        host.sysfs, wanted=lambda other: other == name, availability=True, vpm=True, drivers=True
    )
    return found


def test_an_attribute_that_it_has_not(device: ChannelDevice) -> None:
    with pytest.raises(NotAvailable) as caught:
        plan_ccw_settings(device, Settings(attributes=(("contract-none", "1"),)))
    assert "no attribute contract-none" in caught.value.cause
    with pytest.raises(NotAvailable):
        plan_ccw_settings(device, Settings(False, safe=True))


def test_a_value_that_it_refuses(device: ChannelDevice) -> None:
    with pytest.raises(StepFailed) as caught:
        pyvfio.run(plan_ccw_settings(device, Settings(attributes=(("cmb_enable", "7"),))))
    assert caught.value.errno_name == "EINVAL"
    assert device.attribute("cmb_enable") == "0"


def test_a_device_that_vfio_ccw_has(host: Host, guard: BoundSubchannel, device: ChannelDevice) -> None:
    pyvfio.ccw_take(host, guard.device_number, uuid=MDEV_UUID)
    with pytest.raises(NoSuchDevice) as caught:
        channel_device(host, device.address)
    assert "vfio_ccw" in caught.value.cause
    pyvfio.ccw_give_back(host, guard.device_number)
    assert channel_device(host, device.address) == device


def test_offline_and_online(host: Host, device: ChannelDevice) -> None:
    assert plan_ccw_settings(device, ONLINE).empty
    plan = plan_ccw_settings(device, OFFLINE)
    pyvfio.run(plan, force=[finding.probe for finding in plan.findings])
    assert not device.online
    assert plan_ccw_settings(device, OFFLINE).notes == (f"Device {device} is already offline",)
    assert channel_state(host, device.address).words == "the host's, offline"
    pyvfio.run(plan_ccw_settings(device, ONLINE))
    assert device.online


def test_the_facts_of_a_list(host: Host, guard: BoundSubchannel, device: ChannelDevice) -> None:
    facts = facts_of(host, guard.address)
    subchannel = device.subchannel
    assert (facts.type, facts.device, facts.attached) == (subchannel.type, device.name, True)
    assert (facts.devtype, facts.cutype, facts.online) == (device.devtype, device.cutype, True)
    assert (facts.availability, facts.driver, facts.mdevs) == ("good", "io_subchannel", ())
    assert [int(mask, 16) for mask in (facts.pim, facts.pam, facts.pom)] == list(subchannel.masks)
    assert bytes.fromhex(facts.chpids) == bytes(subchannel.chpids)
    assert int(facts.vpm, 16) & subchannel.pam


def test_the_facts_of_a_taken_one(host: Host, guard: BoundSubchannel) -> None:
    pyvfio.ccw_take(host, guard.device_number, uuid=MDEV_UUID)
    facts = facts_of(host, guard.address)
    assert (facts.device, facts.attached, facts.vpm) == (guard.device_number, False, "")
    assert (facts.driver, facts.mdevs) == ("vfio_ccw", (MDEV_UUID,))
    assert [state.device for state in channels_on_the_way(host)] == [guard.device_number]
    pyvfio.ccw_give_back(host, guard.device_number)
    assert list(channels_on_the_way(host)) == []


def test_dasds(host: Host, guard: BoundSubchannel) -> None:
    for dasd in dasds(host.sysfs):
        assert dasd.name != guard.device_number
        assert dasd.disk or not dasd.online or dasd.alias
