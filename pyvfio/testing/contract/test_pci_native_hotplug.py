"""Native hotplug of PCI Express: what the button of a slot brings and takes, also while a program has the device open;
what sysfs takes and refuses; what the library sees of it.

Somebody stands before the slot (`pyvfio.testing.slot_hand`): a card that is put in comes at once, as its button is
pressed, too; one that is asked for pciehp gives up after five seconds, and it is taken out when its slot is off.  That
QEMU takes a card out for good also after ``power`` 0 is QEMU's; that an empty slot refuses ``power`` 1 is the kernel's.
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import EINVAL, ENODEV

import pytest

from pyvfio.abi import vfio
from pyvfio.abi.vfio import IrqSetFlags, PciIrq
from pyvfio.backend import Backend
from pyvfio.binding.slot_power import plan_slot_power
from pyvfio.errors import NotAvailable
from pyvfio.host import Host
from pyvfio.pci.slot import Slot, find_slot
from pyvfio.pci.slot_state import Indicator
from pyvfio.pci.slot_watch import SlotWatch
from pyvfio.process import EventFd
from pyvfio.testing import requests
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails, let_pass
from pyvfio.testing.modes import MODES, open_device
from pyvfio.testing.slot_hand import SlotHand, empty_slot, settles_in_time, slot_hand

DEVICES = "/sys/bus/pci/devices"


class Place:
    """An empty slot, the hand before it, and the address that a function in it will have."""

    def __init__(self, backend: Backend, slot: Slot, hand: SlotHand) -> None:
        self.backend, self.slot, self.hand = backend, slot, hand
        self.sysfs = Attributes(backend)
        self.address = f"{slot.address}.0"
        self.path = f"{DEVICES}/{self.address}"
        self.empty = True

    def there(self) -> bool:
        return self.sysfs.exists(self.path)

    def state(self) -> tuple[bool | None, bool | None]:
        """Power and presence."""
        return self.slot.power, self.slot.adapter

    def indicator(self) -> Indicator | None:
        state = self.slot.state()
        return None if state is None else state.indicator

    def plug(self) -> None:
        self.hand.plug()
        self.empty = False
        assert self.settles(lambda: self.there() and self.indicator() is Indicator.ON), "no function came"

    def gone(self) -> bool:
        """Whether the slot is empty, for the kernel and for who stands before it."""
        self.empty = not self.there() and self.state() == (False, False) and self.hand.holds()
        return self.empty

    def settles(self, question: object, seconds: float = 20.0) -> bool:
        assert callable(question)
        return settles_in_time(self.backend, question, seconds)

    def write(self, name: str, text: str) -> None:
        self.sysfs.write(f"{self.slot.path}/{name}", text)


@pytest.fixture
def place(express_host: Host) -> Iterator[Place]:
    slot = empty_slot(express_host.backend)
    port = slot.port if slot is not None else None
    hand = slot_hand(express_host.backend, port.name) if port is not None else None
    if slot is None or hand is None:
        pytest.skip("this host has no empty slot of native hotplug, or nobody to plug something in")
    found = Place(express_host.backend, slot, hand)
    yield found
    if not found.empty and found.there():
        hand.press()
        assert found.settles(found.gone), "the function does not go"
    hand.close()


# ---- cards -----------------------------------------------------------------------------------------------------------


def test_a_function_comes_and_goes(place: Place) -> None:
    assert place.state() == (False, False)
    place.plug()
    assert place.state() == (True, True)
    place.hand.press()
    assert place.there()
    assert place.settles(place.gone)


def test_it_comes_again(place: Place) -> None:
    for _ in range(2):
        place.plug()
        place.hand.press()
        assert place.settles(place.gone)


@pytest.mark.parametrize("mode", [MODES[1], MODES[-1]])
def test_a_function_that_is_open(place: Place, mode: str) -> None:
    backend = place.backend
    place.plug()
    bound = BoundFunction(backend, place.address)
    bound.take("vfio-pci")
    flags = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER
    with OpenFiles(backend) as files, EventFd() as asked, EventFd() as failed:
        opened = open_device(backend, files, bound, mode)
        requests.set_irqs(backend, opened.fd, PciIrq.REQ, flags, [asked.fileno()])
        requests.set_irqs(backend, opened.fd, PciIrq.ERR, flags, [failed.fileno()])
        place.hand.press()
        let_pass(backend, 3.0)
        assert asked.read() == 0, "asked before the five seconds were over"
        assert place.settles(lambda: asked.read() == 1)
        assert failed.read() == 0
        # it stays as long as the program has it, and nobody else gets it
        assert place.there()
        assert place.state() == (True, True)
        assert place.indicator() is Indicator.BLINK
        assert place.sysfs.link(f"{place.path}/driver") is None
        config = requests.region_info(backend, opened.fd, vfio.VFIO_PCI_CONFIG_REGION_INDEX)[0].offset
        assert backend.pread(opened.fd, 2, config) == b"\xf4\x1a"
        if opened.group >= 0:
            with fails(ENODEV):
                requests.device_fd(backend, opened.group, place.address)
        files.close(opened.fd)
        assert place.settles(lambda: not place.there())
    assert place.settles(place.gone)


# ---- sysfs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"), [("1", ENODEV), ("0", ENODEV), ("x", ENODEV), ("2", EINVAL), ("256", ENODEV), ("-1", ENODEV)]
)
def test_what_an_empty_slot_is_not_switched_to(place: Place, text: str, number: int) -> None:
    """Digits at the start of what is written count, as one byte; none are 0."""
    with fails(number):
        place.write("power", text)
    assert place.state() == (False, False)


@pytest.mark.parametrize("text", ["1", "2", "2x"])
def test_a_slot_that_is_on_is_not_switched_on(place: Place, text: str) -> None:
    place.plug()
    with fails(ENODEV if text == "1" else EINVAL):
        place.write("power", text)
    assert place.state() == (True, True)


def test_no_power_takes_the_function_away(place: Place) -> None:
    place.plug()
    place.write("power", "0")
    assert not place.there()
    assert place.slot.power is False
    assert place.settles(place.gone)
    with fails(ENODEV):
        place.write("power", "1")


@pytest.mark.parametrize(
    ("text", "shown"), [("1", Indicator.ON), ("2", Indicator.BLINK), ("0", Indicator.OFF), ("3", Indicator.OFF)]
)
def test_the_attention_indicator(place: Place, text: str, shown: Indicator) -> None:
    place.write("attention", "1" if text == "0" else "0")
    place.write("attention", text)
    state = place.slot.state()
    assert (place.slot.attention, state and state.attention) == (shown, shown)
    place.write("attention", "0")


def test_an_indicator_value_without_meaning_changes_nothing(place: Place) -> None:
    place.write("attention", "1")
    place.write("attention", "4")
    assert place.slot.attention is Indicator.ON
    place.write("attention", "0")


def test_what_a_slot_shows(place: Place) -> None:
    names = {"address", "adapter", "attention", "cur_bus_speed", "max_bus_speed", "power"}
    assert names <= set(place.backend.listdir(place.slot.path))
    assert not place.sysfs.exists(f"{place.slot.path}/latch")
    assert place.slot.most_speed == "16.0 GT/s PCIe"


# ---- the library -----------------------------------------------------------------------------------------------------


def test_the_registers_say_what_sysfs_says(place: Place, express_host: Host) -> None:
    for present in (False, True):
        if present:
            place.plug()
        state = place.slot.state()
        assert state is not None
        assert (state.power, state.present, state.attention) == (present, present, Indicator.OFF)
        assert (state.hotplug, state.button, state.latch_open, state.fault) == (True, True, None, False)
        assert state.indicator is (Indicator.ON if present else Indicator.OFF)
    port = place.slot.port
    assert port is not None
    for name in (place.address, port.name, place.slot.name):
        assert find_slot(express_host.sysfs, name).name == place.slot.name
    assert [one.name for one in place.slot.functions()] == [place.address]


def test_watching_a_card_come_and_go(place: Place, express_host: Host) -> None:
    with SlotWatch(express_host, [place.slot]) as watch:

        def happens(*wanted: str) -> set[str]:
            """What of this does not, within 20 s of nothing else."""
            missing = set(wanted)
            while missing and (change := watch.read(20.0)) is not None:
                missing.discard(str(change))
            return missing

        place.hand.plug()
        place.empty = False
        assert happens("presence empty -> present", f"function {place.address} added", "power off -> on") == set()
        assert place.settles(lambda: place.indicator() is Indicator.ON)
        place.hand.press()
        removed = f"function {place.address} removed"
        assert happens("indicator on -> blink", removed, "power on -> off", "presence present -> empty") == set()
    assert place.settles(place.gone)


def test_a_plan_switches_it_off(place: Place, express_host: Host) -> None:
    with pytest.raises(NotAvailable, match="no card is in it"):
        plan_slot_power(express_host, place.slot, True)
    place.plug()
    assert "is on already" in str(plan_slot_power(express_host, place.slot, True).notes)
    plan = plan_slot_power(express_host, place.slot, False)
    (step,) = plan.steps
    step.do(express_host.sysfs)
    assert step.verify(express_host.sysfs) == ""
    assert place.settles(place.gone)
