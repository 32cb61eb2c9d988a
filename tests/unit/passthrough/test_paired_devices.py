"""A guest's devices in the words of QEMU: the example of the talk on zPCI, mistakes, and pairs that go together."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pyvfio import Host
from pyvfio.binding import bind
from pyvfio.errors import Misuse, NoSuchDevice, PyvfioError
from pyvfio.passthrough import GuestMemory, GuestPci, PairedDevices
from pyvfio.passthrough.zpci_function import GuestFunction
from pyvfio.zpci.device_option import DeviceOption
from pyvfio.zpci.event import AvailabilityCode, AvailabilityEvent
from pyvfio.zpci.function import InstructedFunction
from pyvfio.zpci.identifiers import Pair
from pyvfio_backends.software.description import FunctionSpec, MachineSpec
from pyvfio_backends.software.hardware.zpci.models import build_function


class Rig:
    def __init__(self) -> None:
        functions = [FunctionSpec(uid=1 + n, fid=0x20 + n, model="virtio-bell") for n in range(2)]
        self.host = Host("software", machine=MachineSpec("two-bells", functions=functions))
        for function in self.host.functions():
            bind(function)
        self.memory = GuestMemory(0x10000)
        self.events: list[AvailabilityEvent] = []
        self.guest = GuestPci(self.memory, on_availability=self.events.append)
        self.devices = PairedDevices(self.guest, self.host, emulate=self.emulate)

    def emulate(self, option: DeviceOption, pair: Pair, index: int) -> InstructedFunction:
        if option.driver != "virtio-blk-pci":
            raise Misuse("emulate", option.text, cause="no such model")
        return build_function(FunctionSpec(uid=pair.uid, fid=pair.fid, model="virtio-blk"), index)

    @property
    def there(self) -> list[tuple[int, int]]:
        return [(function.query().uid, function.fid) for function in self.guest.all_functions()]

    @property
    def codes(self) -> list[int]:
        return [event.pec for event in self.events]


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.guest.close()
    rig.memory.close()
    rig.host.close()


MISTAKES = {
    "no device of the host": ("vfio-pci,id=a", "one of them"),
    "two devices": ("vfio-pci,host=0001:00:00.0,sysfsdev=/sys/bus/pci/devices/0001:00:00.0", "one of them"),
    "no address": ("vfio-pci,host=card", "'card'"),
    "not there": ("vfio-pci,host=0009:00:00.0,id=a", "0009:00:00.0"),
    "property": ("vfio-pci,host=0001:00:00.0,speed=1", "no property 'speed'"),
    "model": ("virtio-gpu-pci", "no such model"),
    "no target": ("zpci,uid=8", "target must be defined"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_leave_nothing_behind(rig: Rig, name: str) -> None:
    words, cause = MISTAKES[name]
    with pytest.raises(PyvfioError, match=cause):
        rig.devices.plug("zpci,target=ok,id=z", "vfio-pci,host=0002:00:00.0,id=ok", "zpci,target=late", words)
    assert rig.there == []
    assert list(rig.guest.identifiers) == []
    for gone in ("ok", "z", "late"):
        with pytest.raises(NoSuchDevice):
            rig.devices.unplug(gone)
    rig.devices.plug("vfio-pci,host=0002:00:00.0,id=ok")  # it is closed, so it can be opened


def test_a_mistake_leaves_what_an_earlier_call_plugged(rig: Rig) -> None:
    rig.devices.plug("zpci,uid=8,fid=9,target=card,id=z")
    with pytest.raises(Misuse):
        rig.devices.plug("vfio-pci,host=0002:00:00.0,id=card", "virtio-gpu-pci")
    assert rig.guest.identifiers.waiting() == [Pair(8, 9, "card")]
    rig.devices.plug("virtio-blk-pci,id=card")
    assert rig.there == [(8, 9)]
    rig.devices.unplug("z")


def test_whatever_goes_wrong_leaves_nothing(rig: Rig) -> None:
    def broken(option: DeviceOption, pair: Pair, index: int) -> InstructedFunction:
        raise ZeroDivisionError

    devices = PairedDevices(rig.guest, rig.host, emulate=broken)
    with pytest.raises(ZeroDivisionError):
        devices.plug("zpci,target=ok", "vfio-pci,host=0002:00:00.0,id=ok", "virtio-blk-pci,id=b")
    assert rig.there == []
    assert list(rig.guest.identifiers) == []


def test_an_id_can_be_given_once(rig: Rig) -> None:
    rig.devices.plug("zpci,target=a,id=z")
    for words in ("virtio-blk-pci,id=z", "zpci,target=b,id=z"):
        with pytest.raises(Misuse, match="the id z"):
            rig.devices.plug(words)


def test_what_there_is_is_said(rig: Rig) -> None:
    (function,) = rig.devices.plug("zpci,fid=0x77,target=card", "vfio-pci,host=0002:00:00.0,id=card")
    assert isinstance(function, GuestFunction)
    with pytest.raises(Misuse, match="the guest has it already, with fid 0x77"):
        rig.guest.attach(function.device)
    with pytest.raises(NoSuchDevice, match=r"\(FIDs: 77\)"):
        rig.guest.detach(0x78)
    with pytest.raises(NoSuchDevice, match=r"\(ids: card\)"):
        rig.devices.unplug("cart")
    assert rig.there == [(1, 0x77)]


def test_without_emulation_there_is_vfio_only(rig: Rig) -> None:
    with pytest.raises(Misuse, match="nothing here emulates"):
        PairedDevices(rig.guest, rig.host).plug("virtio-blk-pci,id=virtio1")


def test_the_example_of_the_source_document(rig: Rig) -> None:
    functions = rig.devices.plug(
        "zpci,uid=8,fid=2,target=vfio1",
        "vfio-pci,host=0001:00:00.0,id=vfio1",
        "zpci,target=vfio2",
        "vfio-pci,host=0002:00:00.0,id=vfio2",
        "virtio-blk-pci,id=virtio1",
        "virtio-blk-pci",
    )
    assert rig.there == [(8, 2), (1, 0), (2, 1), (3, 3)]
    assert [function.fh >> 16 & 3 for function in functions] == [1, 1, 2, 2]  # passed through, emulated
    assert rig.codes == [AvailabilityCode.CONFIGURED] * 4
    assert rig.devices.function("virtio1") is functions[2]


def test_both_go_when_the_guest_lets_go(rig: Rig) -> None:
    rig.devices.plug("zpci,uid=8,fid=2,target=vfio1,id=zpci1", "vfio-pci,host=0001:00:00.0,id=vfio1")
    rig.devices.unplug("zpci1")
    assert rig.codes == [AvailabilityCode.CONFIGURED, AvailabilityCode.DECONFIGURE_REQUESTED]
    rig.guest.deconfigure(2)
    assert rig.codes[2:] == [AvailabilityCode.RESERVED]
    assert list(rig.guest.identifiers) == []
    with pytest.raises(NoSuchDevice):
        rig.devices.function("vfio1")
    rig.devices.plug("zpci,uid=8,fid=2,target=vfio1,id=zpci1", "vfio-pci,host=0001:00:00.0,id=vfio1")
    rig.devices.unplug("vfio1", surprise=True)
    assert rig.codes[-1] == AvailabilityCode.DECONFIGURED
    assert rig.there == []


def test_switches_of_a_zpci_are_those_of_its_device(rig: Rig) -> None:
    (function,) = rig.devices.plug("zpci,target=vfio1,interpret=off", "vfio-pci,host=0001:00:00.0,id=vfio1")
    assert isinstance(function, GuestFunction)
    assert function.why == "it was not asked for"


def test_a_zpci_whose_device_has_not_come(rig: Rig) -> None:
    rig.devices.plug("zpci,uid=1,target=late,id=z")
    assert rig.devices.function("z") is None
    assert rig.devices.plug("virtio-blk-pci")[0].query().uid == 2
    rig.devices.unplug("z")
    assert rig.devices.plug("virtio-blk-pci,id=late")[0].query().uid == 1
