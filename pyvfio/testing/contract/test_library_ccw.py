"""A channel device through the library's client: the same answers as through the regions, errors with causes."""

from __future__ import annotations

import asyncio

import pytest

import pyvfio
from pyvfio.ccw import CcwDevice
from pyvfio.channel_program import Control, Read
from pyvfio.css import CcwFlag, Command, Fctl
from pyvfio.css.trace import Step
from pyvfio.errors import ChannelProgramFailed, KernelRefused, Misuse, NotAvailable
from pyvfio.host import Host
from pyvfio.testing.channel import Channel, sense_id
from pyvfio.testing.devices import BoundFunction, BoundMdev, BoundSubchannel

SLI = CcwFlag.SLI


def test_a_pci_function(host: Host, function: BoundFunction) -> None:
    with pyvfio.open_device(host, function.address) as device, pytest.raises(Misuse):
        CcwDevice(device)


def test_a_channel_device_that_was_not_taken(host: Host) -> None:
    for other in host.ccw_devices():
        with pytest.raises(NotAvailable) as caught:
            pyvfio.open_device(host, other)
        assert "take" in caught.value.next_step
        return
    pytest.skip("this host has no other channel device")


def test_an_address_that_is_not_mapped(ccw_client: CcwDevice) -> None:
    with pytest.raises(KernelRefused) as caught:
        ccw_client.start(pyvfio.Orb(cpa=0x7000_0000, pfch=True))
    assert caught.value.errno_name in ("EINVAL", "ENOENT")
    assert "not mapped" in caught.value.cause


def test_too_many_commands(ccw_client: CcwDevice) -> None:
    with pytest.raises(Misuse):
        ccw_client.run([Control(Command.NOP)] * 257)
    with pytest.raises(Misuse):
        ccw_client.run([])


def test_a_command_that_is_rejected(ccw_client: CcwDevice) -> None:
    with pytest.raises(ChannelProgramFailed) as caught:
        ccw_client.run([Control(0x6F, flags=SLI)])
    assert "unit check" in caught.value.cause
    result = ccw_client.run([Control(0x6F, flags=SLI)], check=False)
    assert not result.scsw.ok
    assert ccw_client.sense_id().cu_type


def test_sense_id(ccw_client: CcwDevice, subchannel: BoundSubchannel) -> None:
    assert ccw_client.sense_id().cu == subchannel.cutype_before


def test_the_same_as_through_the_regions(host: Host, channel: Channel, subchannel: BoundSubchannel) -> None:
    channel.run(sense_id(channel.data))
    raw = channel.get(channel.data, 7)
    channel.files.close_all()
    with pyvfio.open_device(host, subchannel.device_number) as device, CcwDevice(device) as client:
        assert client.sense_id().to_bytes()[:7] == raw


def test_a_chained_program(ccw_client: CcwDevice) -> None:
    result = ccw_client.run([Control(Command.NOP, flags=SLI), Read(Command.SENSE_ID, 64, SLI)])
    assert result.scsw.ok
    assert result.data[0] == 0xFF
    assert len(result.parts) == 1


def test_in_asyncio(ccw_client: CcwDevice) -> None:
    result = asyncio.run(ccw_client.run_async([Read(Command.SENSE_ID, 64, SLI)]))
    assert result.data[0] == 0xFF


def test_halt_and_clear(ccw_client: CcwDevice) -> None:
    assert ccw_client.halt().scsw.fctl == Fctl.HALT
    assert ccw_client.clear().scsw.fctl == Fctl.CLEAR
    assert ccw_client.sense_id().cu_type


def test_schib(ccw_client: CcwDevice, subchannel: BoundSubchannel) -> None:
    pmcw = ccw_client.schib().pmcw
    assert f"{pmcw.devno:04x}" == subchannel.device_number.rsplit(".", 1)[-1]
    assert ccw_client.crw() is None


def test_reset(ccw_client: CcwDevice) -> None:
    ccw_client.device.reset()
    assert ccw_client.sense_id().cu_type


def test_the_steps_are_told(host: Host, mdev: BoundMdev) -> None:
    steps: list[Step] = []
    with pyvfio.open_device(host, host.mdev(mdev.uuid)) as device, CcwDevice(device, trace=steps.append) as client:
        client.sense_id()
    assert [step.name for step in steps] == ["Q1", "Q2", "Q3", "Q4", "Q5", "Q6", "Q7"]


def test_no_buffer_is_left(ccw_client: CcwDevice) -> None:
    ccw_client.sense_id()
    ccw_client.run([Read(Command.SENSE_ID, 64, SLI)] * 200)  # more than the scratch memory holds
    assert len(ccw_client.device.space.mappings()) == 1
    ccw_client.close()
    assert ccw_client.device.space.mappings() == []


def test_it_has_no_function_of_pci(ccw_client: CcwDevice) -> None:
    for call in (lambda: ccw_client.device.bar(0), lambda: ccw_client.device.config):
        with pytest.raises(Misuse):
            call()
