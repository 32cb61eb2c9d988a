"""PCI functions that are plugged in and taken away, in the words of QEMU, and what waits for whom meanwhile.

Sources: ``hw/s390x/s390-pci-bus.c`` of QEMU (identifiers), ``arch/s390/pci/pci_event.c`` and
``drivers/pci/hotplug/s390_pci_hpc.c`` (events and slots), ``drivers/pci/pci-sysfs.c`` (removing and rescanning).
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import EAGAIN, EIO, ENOENT

import pytest

from pyvfio.abi import vfio
from pyvfio.abi.vfio import IrqSetFlags, PciIrq
from pyvfio.backend import Backend
from pyvfio.process import EventFd
from pyvfio.testing import requests
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.caller import Caller
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails, settles
from pyvfio.testing.modes import group_mode, open_device
from pyvfio.testing.plugging import Plugger, PlugRefused, plugger
from pyvfio.testing.plugin import Lab

DEVICES = "/sys/bus/pci/devices"
SLOTS = "/sys/bus/pci/slots"
HOT, SLOT = "0077:00:00.0", "00000088"
PAIR = ("zpci,uid=0x77,fid=0x88,target=hot0,id=zhot0", "virtio-rng-pci,id=hot0")
OTHER, OTHER_SLOT = "0078:00:00.0", "00000089"
OTHER_PAIR = ("zpci,uid=0x78,fid=0x89,target=hot1,id=zhot1", "virtio-rng-pci,id=hot1")


class Slots:
    """What is plugged in one test; all of it is taken away after it."""

    def __init__(self, plugs: Plugger, backend: Backend) -> None:
        self._plugs = plugs
        self.sysfs = Attributes(backend)
        self.backend = backend
        self.before = set(backend.listdir(SLOTS))
        self._names: list[str] = []

    def plug(self, *words: str) -> None:
        for each in words:
            self._plugs.plug(each)
            self._names += [part[3:] for part in each.split(",") if part.startswith("id=")]

    def unplug(self, name: str) -> None:
        self._plugs.unplug(name)

    @property
    def new(self) -> set[str]:
        """The slots that were not there before."""
        return set(self.backend.listdir(SLOTS)) - self.before

    def there(self, address: str) -> bool:
        return self.sysfs.exists(f"{DEVICES}/{address}")

    def comes(self, address: str) -> bool:
        """Whether the function is there and has its driver, in time."""
        return settles(lambda: self.sysfs.link(f"{DEVICES}/{address}/driver") == "virtio-pci")

    def close(self) -> None:
        for name in self._names:
            try:
                self._plugs.unplug(name)
            except PlugRefused:
                continue  # it went with its pair
        assert settles(lambda: not self.new), f"{self.new} did not go"


@pytest.fixture
def slots(backend: Backend, sysfs: Attributes, lab: Lab) -> Iterator[Slots]:
    if not sysfs.exists(f"/sys/bus/pci/devices/{lab.pci}/function_id"):
        pytest.skip("this host has no zPCI functions")
    plugs = plugger(backend)
    if plugs is None:
        pytest.skip("nothing plugs devices into this host")
    found = Slots(plugs, backend)
    yield found
    found.close()


class Used:
    """A plugged function that a program has open by VFIO."""

    def __init__(self, slots: Slots, address: str) -> None:
        assert slots.comes(address)
        bound = BoundFunction(slots.backend, address)
        bound.take("vfio-pci")
        self.backend = slots.backend
        self._files = OpenFiles(slots.backend)
        self.fd = open_device(slots.backend, self._files, bound, group_mode(slots.backend)).fd

    def answers(self) -> bool:
        region = requests.region_info(self.backend, self.fd, vfio.VFIO_PCI_CONFIG_REGION_INDEX)[0]
        return len(self.backend.pread(self.fd, 4, region.offset)) == 4

    def close(self) -> None:
        self._files.close_all()


@pytest.fixture
def used(slots: Slots) -> Iterator[Used]:
    slots.plug(*PAIR)
    found = Used(slots, HOT)
    yield found
    found.close()


REFUSED = {
    "no target": "zpci,uid=0x79",
    "target with a zpci": "zpci,target=hot0",
    "uid in use": "zpci,uid=0x77,target=hot2",
    "fid in use": "zpci,fid=0x88,target=hot2",
    "uid of a function from the start": "zpci,uid={uid},target=hot2",
    "fid of a function from the start": "zpci,fid={fid},target=hot2",
    "id in use": "zpci,target=hot2,id=hot0",
    "no such property": "zpci,target=hot2,vid=1",
    "no such device": "virtio-nothing-pci",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_plugged(slots: Slots, lab: Lab, name: str) -> None:
    uid, fid = (slots.sysfs.read(f"{DEVICES}/{lab.pci}/{file}") for file in ("uid", "function_id"))
    slots.plug(*PAIR)
    assert slots.comes(HOT)
    with pytest.raises(PlugRefused):
        slots.plug(REFUSED[name].format(uid=uid, fid=fid))
    assert slots.new == {SLOT}


def test_what_is_not_there_cannot_be_unplugged(slots: Slots) -> None:
    with pytest.raises(PlugRefused):
        slots.unplug("hot0")


def test_a_pair_is_a_function_with_its_identifiers(slots: Slots) -> None:
    slots.plug(*PAIR)
    assert slots.comes(HOT)
    assert slots.new == {SLOT}
    assert slots.sysfs.read(f"{DEVICES}/{HOT}/uid") == "0x77"
    assert slots.sysfs.read(f"{DEVICES}/{HOT}/function_id") == "0x00000088"
    assert slots.sysfs.read(f"{SLOTS}/{SLOT}/address") == "0077:00:00"


def test_without_identifiers_the_lowest_ones_are_taken(slots: Slots) -> None:
    known = slots.backend.listdir(DEVICES)
    uids = {int(slots.sysfs.read(f"{DEVICES}/{name}/uid"), 16) for name in known}
    fids = {int(name, 16) for name in slots.before}
    free_uids = [uid for uid in range(1, len(uids) + 3) if uid not in uids]
    free_fids = [fid for fid in range(len(fids) + 2) if fid not in fids]
    slots.plug("zpci,target=hot0", "virtio-rng-pci,id=hot0", "virtio-rng-pci,id=hot1")
    for uid in free_uids[:2]:
        assert slots.comes(f"{uid:04x}:00:00.0")
    assert slots.new == {f"{fid:08x}" for fid in free_fids[:2]}


@pytest.mark.parametrize("name", ["hot0", "zhot0"])
def test_both_of_a_pair_go(slots: Slots, name: str) -> None:
    slots.plug(*PAIR)
    assert slots.comes(HOT)
    slots.unplug(name)
    assert settles(lambda: not slots.new)
    assert not slots.there(HOT)
    slots.plug(*PAIR)
    assert slots.comes(HOT)


def test_a_function_in_standby_goes_at_once(slots: Slots) -> None:
    slots.plug(*PAIR)
    assert slots.comes(HOT)
    slots.sysfs.write(f"{SLOTS}/{SLOT}/power", "0")
    assert slots.new == {SLOT}
    slots.unplug("hot0")
    assert settles(lambda: not slots.new)


def test_a_removed_function_goes_too(slots: Slots) -> None:
    slots.plug(*PAIR)
    assert slots.comes(HOT)
    slots.sysfs.write(f"{DEVICES}/{HOT}/remove", "1")
    assert slots.new == {SLOT}
    slots.unplug("hot0")
    assert settles(lambda: not slots.new)


# while a program has the function open


def test_unplugging_asks_the_program_and_waits(slots: Slots, used: Used) -> None:
    with EventFd() as asked:
        flags = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER
        requests.set_irqs(slots.backend, used.fd, PciIrq.REQ, flags, [asked.fileno()])
        slots.unplug("hot0")
        assert asked.wait(10) == 1
    assert used.answers()
    assert slots.there(HOT)
    assert slots.sysfs.read(f"{SLOTS}/{SLOT}/power") == "1"
    with fails(EAGAIN):
        slots.backend.ioctl(used.fd, vfio.VFIO_DEVICE_RESET)
    used.close()
    assert settles(lambda: not slots.new)
    assert not slots.there(HOT)


def test_events_come_one_after_the_other(slots: Slots, used: Used) -> None:
    slots.unplug("hot0")
    slots.plug(*OTHER_PAIR)
    assert not settles(lambda: slots.there(OTHER), 0.3)
    assert slots.new == {SLOT}
    used.close()
    assert slots.comes(OTHER)
    assert slots.new == {OTHER_SLOT}


def test_no_power_waits(slots: Slots, used: Used) -> None:
    power = f"{SLOTS}/{SLOT}/power"
    off = Caller(lambda: slots.sysfs.write(power, "0"))
    assert off.waits()
    assert slots.sysfs.read(power) == "1"
    assert used.answers()
    again = Caller(lambda: slots.sysfs.write(power, "0"))
    assert again.waits()
    used.close()
    off.join()
    again.join()
    assert off.error is None
    assert isinstance(again.error, OSError)
    assert again.error.errno == EIO
    assert slots.sysfs.read(power) == "0"
    assert not slots.there(HOT)


def test_unplugged_while_no_power_waits(slots: Slots, used: Used) -> None:
    off = Caller(lambda: slots.sysfs.write(f"{SLOTS}/{SLOT}/power", "0"))
    assert off.waits()
    slots.unplug("hot0")
    assert off.waits()
    assert slots.new == {SLOT}
    used.close()
    off.join()
    assert off.error is None
    assert settles(lambda: not slots.new)


def test_removing_waits_and_keeps_others_from_it(slots: Slots, used: Used) -> None:
    slots.plug(*OTHER_PAIR)
    assert slots.comes(OTHER)
    remove = Caller(lambda: slots.sysfs.write(f"{DEVICES}/{HOT}/remove", "1"))
    assert remove.waits()
    with fails(ENOENT):  # somebody removes it already
        slots.sysfs.write(f"{DEVICES}/{HOT}/remove", "1")
    rescan = Caller(lambda: slots.sysfs.write("/sys/bus/pci/rescan", "1"))
    other = Caller(lambda: slots.sysfs.write(f"{DEVICES}/{OTHER}/remove", "1"))
    assert rescan.waits()
    assert other.waits()
    assert slots.there(OTHER)
    used.close()
    for caller in (remove, rescan, other):
        caller.join()
        assert caller.error is None
    assert slots.new == {SLOT, OTHER_SLOT}


def test_unplugged_while_removing_waits(slots: Slots, used: Used) -> None:
    remove = Caller(lambda: slots.sysfs.write(f"{DEVICES}/{HOT}/remove", "1"))
    assert remove.waits()
    slots.unplug("hot0")
    assert remove.waits()
    used.close()
    remove.join()
    assert settles(lambda: not slots.new)


def test_recovering_waits(slots: Slots, used: Used) -> None:
    recover = Caller(lambda: slots.sysfs.write(f"{DEVICES}/{HOT}/recover", "1"))
    assert recover.waits()
    with fails(ENOENT):
        slots.sysfs.write(f"{DEVICES}/{HOT}/recover", "1")
    off = Caller(lambda: slots.sysfs.write(f"{SLOTS}/{SLOT}/power", "0"))
    assert off.waits()
    used.close()
    recover.join()
    off.join()
    assert recover.error is None
    assert off.error is None
    assert slots.sysfs.read(f"{SLOTS}/{SLOT}/power") == "0"


def test_unplugged_while_recovering_waits(slots: Slots, used: Used) -> None:
    recover = Caller(lambda: slots.sysfs.write(f"{DEVICES}/{HOT}/recover", "1"))
    assert recover.waits()
    slots.unplug("hot0")
    assert recover.waits()
    used.close()
    recover.join()
    assert settles(lambda: not slots.new)
