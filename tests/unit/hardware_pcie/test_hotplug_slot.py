"""The slot below a port: cards, button, latch, interlock, power, link, events, and the interrupt of all these."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from pcie_rig import Host, endpoint

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import ExpressType
from pyvfio.errors import Misuse
from pyvfio.pci.slot_state import Indicator, SlotEvent, SlotState, changes
from pyvfio_backends.software.hardware.pcie.aer import Aer
from pyvfio_backends.software.hardware.pcie.express import Express, Slot
from pyvfio_backends.software.hardware.pcie.firmware import Firmware
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.models import root_port, x3130_upstream, xio3130_downstream
from pyvfio_backends.software.hardware.pcie.port import RootPort
from pyvfio_backends.software.hardware.pcie.request import Outcome, Request
from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex
from pyvfio_backends.software.hardware.pcie.slot import HotplugSlot

PLAIN = Slot(0).features
LATCH, INTERLOCK, SILENT = express.PCI_EXP_SLTCAP_MRLSP, express.PCI_EXP_SLTCAP_EIP, express.PCI_EXP_SLTCAP_NCCS
OFF = express.PCI_EXP_SLTCTL_PWR_IND_OFF | express.PCI_EXP_SLTCTL_ATTN_IND_OFF
EVERYTHING = 0x103F
STATUS = {
    "button": express.PCI_EXP_SLTSTA_ABP,
    "fault": express.PCI_EXP_SLTSTA_PFD,
    "latch": express.PCI_EXP_SLTSTA_MRLSC,
    "presence": express.PCI_EXP_SLTSTA_PDC,
    "done": express.PCI_EXP_SLTSTA_CC,
    "link": express.PCI_EXP_SLTSTA_DLLSC,
}


class Later:
    """A clock: work by its moment."""

    def __init__(self) -> None:
        self.now = 0.0
        self.work: list[tuple[float, Callable[[], None]]] = []

    def schedule(self, delay: float, work: Callable[[], None]) -> None:
        self.work.append((self.now + delay, work))

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = [one for one in self.work if one[0] <= self.now]
        self.work = [one for one in self.work if one[0] > self.now]
        for _, work in due:
            work()


class Bench:
    """A root port with a slot of these features, behind it what a test puts there; `events` are what happened."""

    def __init__(self, features: int = PLAIN) -> None:
        self.host = Host()
        self.complex = RootComplex(self.host)
        self.clock = Later()
        self.port = root_port(Slot(7, features), name="rp")
        bus = self.complex.add_root_bus()
        bus.schedule = self.clock.schedule
        bus.plug(self.port, 1)
        self.pins: list[bool] = []
        self.complex.on_intx = lambda bus, devfn, pin, level, source: self.pins.append(level)
        assert self.port.slot is not None
        self.slot: HotplugSlot = self.port.slot
        self.events: list[str] = []
        self.slot.subscribe(lambda event: self.events.append(str(event)))
        Firmware().set_up(self.complex)

    def control(self, value: int) -> None:
        self.port.config.write(self.slot.at + express.PCI_EXP_SLTCTL, 2, value)

    def status(self) -> set[str]:
        value = self.port.config.read(self.slot.at + express.PCI_EXP_SLTSTA, 2)
        return {name for name, bit in STATUS.items() if value & bit}

    def clear(self) -> None:
        self.port.config.write(self.slot.at + express.PCI_EXP_SLTSTA, 2, 0xFFFF)
        self.events.clear()

    def reachable(self) -> bool:
        return self.complex.config_read(0, 0x100, 0, 4) == 0x56781234


# ---- cards -----------------------------------------------------------------------------------------------------------


def test_a_card_comes_and_goes_with_events() -> None:
    bench = Bench()
    card = endpoint()
    bench.slot.insert({0: card})
    assert bench.events == ["presence empty -> present", "link down -> up"]
    assert bench.status() == {"presence", "link"}
    bench.clear()
    assert bench.slot.pull() == {0: card}
    assert bench.events == ["presence present -> empty", "link up -> down"]
    assert card.bus is None


def test_a_card_of_several_functions_is_one_step_and_function_0_makes_it_present() -> None:
    bench = Bench()
    bench.slot.insert({3: endpoint(), 0: endpoint(), 1: endpoint()})
    assert bench.events == ["presence empty -> present", "link down -> up"]
    bench.slot.pull()
    bench.clear()
    bench.port.plug(endpoint(), 2)
    assert bench.events == []
    assert not bench.reachable()
    bench.port.plug(endpoint(), 0)
    assert bench.events == ["presence empty -> present", "link down -> up"]
    assert bench.complex.config_read(0, 0x102, 0, 4) == 0x56781234


def test_a_port_that_is_reset_shows_the_card_and_the_link_that_it_keeps() -> None:
    """A function-level reset, as ports of switches have it, touches neither (PCI Express 6.0, 6.6.2)."""
    root = RootComplex()
    down = xio3130_downstream(Slot(3))
    up = root.add_root_bus().plug(root_port(), 1).plug(x3130_upstream())
    up.secondary.plug(down)
    down.plug(endpoint())
    Firmware().set_up(root)
    at = down.offset(regs.PCI_CAP_ID_EXP)
    assert at is not None
    assert down.link_up
    shown = down.config.read(at + regs.PCI_EXP_LNKSTA, 2)
    assert shown & express.PCI_EXP_LNKSTA_DLLLA
    down.config.write(at + regs.PCI_EXP_DEVCTL, 2, regs.PCI_EXP_DEVCTL_BCR_FLR)
    assert not down.config.command
    assert down.link_up
    assert down.powered
    assert down.slot is not None
    assert down.slot.state.present
    assert down.config.read(at + regs.PCI_EXP_LNKSTA, 2) == shown


def test_what_cannot_be_put_in_or_taken_out() -> None:
    bench = Bench(PLAIN | LATCH)
    slot, card = bench.slot, endpoint()
    with pytest.raises(Misuse, match="latch is closed"):
        slot.insert({0: card})
    slot.set_latch(True)
    with pytest.raises(Misuse, match="no function 0"):
        slot.insert({1: card})
    with pytest.raises(Misuse, match="empty"):
        slot.pull()
    slot.insert({0: card})
    with pytest.raises(Misuse, match="a card is in it"):
        slot.insert({0: endpoint()})
    slot.set_latch(False)
    with pytest.raises(Misuse, match="latch is closed"):
        slot.pull()
    slot.set_interlock(True)
    with pytest.raises(Misuse, match="interlock"):
        slot.set_latch(True)
    bare = Bench(express.PCI_EXP_SLTCAP_HPC).slot
    for call in (bare.press, bare.fault, lambda: bare.set_latch(True), lambda: bare.set_interlock(True)):
        with pytest.raises(Misuse, match="it has no"):
            call()
    assert [str(one) for one in bare.port.secondary.functions] == []


def test_a_switch_is_plugged_with_what_is_behind_it() -> None:
    bench = Bench()
    upstream = x3130_upstream()
    downstream = xio3130_downstream(Slot(8))
    upstream.secondary.plug(downstream)
    downstream.plug(endpoint(name="leaf"))
    bench.slot.insert({0: upstream})
    assert {function.name for _, function in bench.complex.functions()} >= {"leaf"}
    assert downstream.link_up
    bench.control(express.PCI_EXP_SLTCTL_PCC)
    bench.control(0)
    assert downstream.link_up, "it comes up again behind a switch that had no power"


# ---- power, link, latch, interlock, fault ----------------------------------------------------------------------------


def test_the_link_takes_its_time_and_power_off_before_that_keeps_it_down() -> None:
    bench = Bench()
    bench.slot.link_delay = 0.1
    bench.slot.insert({0: endpoint()})
    assert bench.events == ["presence empty -> present"]
    bench.clock.advance(0.05)
    bench.control(OFF)  # an indicator does not start it anew
    bench.clock.advance(0.05)
    assert bench.events[-1] == "link down -> up"
    assert bench.reachable()
    bench.control(OFF | express.PCI_EXP_SLTCTL_PCC)
    bench.control(OFF)
    bench.clock.advance(0.05)
    bench.control(OFF | express.PCI_EXP_SLTCTL_PCC)
    bench.clock.advance(1)
    assert not bench.port.link_up
    bench.control(OFF)
    bench.clock.advance(0.1)
    assert bench.port.link_up


def test_an_open_latch_takes_the_power() -> None:
    bench = Bench(PLAIN | LATCH)
    bench.slot.set_latch(True)
    bench.slot.insert({0: endpoint()})
    assert not bench.port.link_up
    bench.clear()
    bench.slot.set_latch(False)
    assert bench.events == ["latch open -> closed", "link down -> up"]
    assert bench.status() == {"latch", "link"}
    bench.clear()
    bench.slot.set_latch(True)
    assert bench.events == ["latch closed -> open", "link up -> down"]


def test_the_interlock_is_toggled_by_writing_a_one() -> None:
    bench = Bench()
    bench.slot.insert({0: endpoint()})
    bench.clear()
    bench.control(OFF | express.PCI_EXP_SLTCTL_EIC)
    assert bench.events == ["interlock released -> engaged"]
    with pytest.raises(Misuse, match="interlock"):
        bench.slot.pull()
    bench.control(OFF)
    assert bench.slot.interlock
    bench.control(OFF | express.PCI_EXP_SLTCTL_EIC)
    assert not bench.slot.interlock
    bench.slot.pull()


def test_a_fault_cuts_the_card_off_until_software_turns_power_off_and_on() -> None:
    bench = Bench()
    bench.slot.insert({0: endpoint()})
    bench.clear()
    bench.slot.fault()
    assert bench.events == ["fault clear -> fault", "link up -> down"]
    assert bench.slot.state.power, "the register says what software asked for"
    assert not bench.reachable()
    bench.control(OFF | express.PCI_EXP_SLTCTL_PCC)
    bench.clear()
    bench.control(OFF)
    assert bench.reachable()
    bench.slot.fault(lasting=True)
    for _ in range(2):
        bench.control(OFF | express.PCI_EXP_SLTCTL_PCC)
        bench.clear()
        bench.control(OFF)
        assert "fault" in bench.status()
        assert not bench.reachable()
    bench.slot.pull()
    bench.control(OFF | express.PCI_EXP_SLTCTL_PCC)
    bench.clear()
    bench.slot.insert({0: endpoint()})
    bench.control(OFF)
    assert "fault" not in bench.status()
    assert bench.reachable(), "what was wrong was wrong with the other card"


def test_who_stands_by_takes_the_card_when_power_and_indicator_are_off() -> None:
    """QEMU: ``hw/pci/pcie.c``, pcie_cap_slot_write_config."""
    bench = Bench()
    bench.slot.ejects = True
    bench.slot.insert({0: endpoint()})
    bench.control(express.PCI_EXP_SLTCTL_PWR_IND_BLINK | express.PCI_EXP_SLTCTL_PCC)
    assert bench.port.present
    bench.control(express.PCI_EXP_SLTCTL_PWR_IND_OFF | express.PCI_EXP_SLTCTL_PCC)
    assert not bench.port.present


# ---- indicators ------------------------------------------------------------------------------------------------------


def test_indicators_are_events() -> None:
    bench = Bench()
    on, blink = express.PCI_EXP_SLTCTL_PWR_IND_ON, express.PCI_EXP_SLTCTL_PWR_IND_BLINK
    for value in (on | express.PCI_EXP_SLTCTL_ATTN_IND_OFF, blink | express.PCI_EXP_SLTCTL_ATTN_IND_ON, OFF):
        bench.control(value)
        bench.control(value)
    assert bench.events == [
        "indicator off -> on",
        "attention off -> on",
        "indicator on -> blink",
        "attention on -> off",
        "indicator blink -> off",
    ]
    assert bench.slot.state.indicator is Indicator.OFF


def test_who_ended_a_subscription_is_told_nothing() -> None:
    bench = Bench()
    told: list[SlotEvent] = []
    end = bench.slot.subscribe(told.append)
    bench.slot.press()
    end()
    bench.slot.press()
    assert told == [SlotEvent("button", "released", "pressed")]


# ---- command completed, interrupts -----------------------------------------------------------------------------------


def test_command_completed_comes_after_its_time_or_never() -> None:
    bench = Bench()
    bench.control(OFF)
    assert bench.status() == {"done"}
    bench.slot.command_delay = 0.2
    bench.clear()
    bench.control(OFF)
    assert bench.status() == set()
    bench.clock.advance(0.2)
    assert bench.status() == {"done"}
    silent = Bench(PLAIN | SILENT)
    silent.control(OFF | express.PCI_EXP_SLTCTL_CCIE)
    assert silent.status() == set()
    assert not silent.port.config.read(silent.slot.at + express.PCI_EXP_SLTCTL, 2) & express.PCI_EXP_SLTCTL_CCIE


CAUSES: dict[str, tuple[int, Callable[[Bench], object]]] = {
    "button": (express.PCI_EXP_SLTCTL_ABPE, lambda bench: bench.slot.press()),
    "fault": (express.PCI_EXP_SLTCTL_PFDE, lambda bench: bench.slot.fault()),
    "latch": (express.PCI_EXP_SLTCTL_MRLSCE, lambda bench: bench.slot.set_latch(True)),
    "presence": (express.PCI_EXP_SLTCTL_PDCE, lambda bench: bench.port.plug(endpoint())),
    "done": (express.PCI_EXP_SLTCTL_CCIE, lambda bench: bench.control(0x103F | OFF)),
    "link": (express.PCI_EXP_SLTCTL_DLLSCE, lambda bench: bench.port.plug(endpoint())),
}


@pytest.mark.parametrize("name", CAUSES)
@pytest.mark.parametrize("enabled", [True, False])
def test_the_pin_is_asserted_while_an_enabled_event_stands(name: str, enabled: bool) -> None:
    bench = Bench(PLAIN | LATCH)
    enable, cause = CAUSES[name]
    bench.control(OFF | express.PCI_EXP_SLTCTL_HPIE | (enable if enabled and name != "done" else 0))
    bench.clear()
    bench.pins.clear()
    if name == "done" and not enabled:
        bench.control(OFF | express.PCI_EXP_SLTCTL_HPIE)
    else:
        cause(bench)
    assert name in bench.status()
    assert bench.pins == [True] * enabled
    bench.clear()
    assert bench.pins == [True, False] * enabled


def test_messages_are_sent_when_the_first_event_comes() -> None:
    bench = Bench()
    port = bench.port
    port.config.write(regs.PCI_COMMAND, 2, regs.PCI_COMMAND_MASTER | regs.PCI_COMMAND_MEMORY)
    assert port.msix is not None
    table = port.address(port.bars[0])
    for offset, value in ((0, 0xFEE00000), (8, 0x41), (12, 0)):
        bench.complex.store(table + offset, 4, value)
    at = port.offset(regs.PCI_CAP_ID_MSIX)
    assert at is not None
    port.config.write(at + regs.PCI_MSIX_FLAGS, 2, regs.PCI_MSIX_FLAGS_ENABLE)
    bench.control(OFF | express.PCI_EXP_SLTCTL_HPIE | express.PCI_EXP_SLTCTL_ABPE | express.PCI_EXP_SLTCTL_DLLSCE)
    bench.slot.press()
    bench.slot.press()
    bench.port.plug(endpoint())
    assert [data for _, _, data in bench.host.messages] == [0x41]
    bench.clear()
    bench.slot.press()
    assert [data for _, _, data in bench.host.messages] == [0x41, 0x41]
    assert bench.pins == []
    bench.control(OFF)
    bench.clear()
    bench.slot.press()
    assert len(bench.host.messages) == 2


def test_errors_and_the_slot_share_the_pin() -> None:
    bench = Bench()
    bench.control(OFF | express.PCI_EXP_SLTCTL_HPIE | express.PCI_EXP_SLTCTL_ABPE)
    aer = bench.port.offset(extended.PCI_EXT_CAP_ID_ERR, extended=True)
    assert aer is not None
    bench.port.config.write(aer + extended.PCI_ERR_ROOT_COMMAND, 4, 7)
    bench.pins.clear()
    bench.slot.press()
    bench.port.root_errors._interrupt(aer)
    assert bench.pins == [True], "no error does not release what the slot asserts"


# ---- what is under way when a card goes ------------------------------------------------------------------------------


def test_a_request_that_a_card_took_along_ends_in_a_timeout() -> None:
    bench = Bench()
    card = endpoint()
    bench.slot.insert({0: card})
    Firmware().set_up_behind(bench.complex, bench.port)
    bar = card.bars[0]
    at = card.address(bar)
    assert at
    served = bar.registers

    class Leaves:
        def __getattr__(self, name: str) -> object:
            return getattr(served, name)

        def read(self, offset: int, length: int) -> int:
            bench.slot.pull()
            return 0x55

    object.__setattr__(bar, "registers", Leaves())
    completion = bench.complex.transfer(Request.read(at, 4))
    assert completion.outcome is Outcome.TIMEOUT
    assert bench.complex.transfer(Request.read(at, 4)).outcome is Outcome.UNSUPPORTED
    assert bench.complex.load(at, 4) == 0xFFFFFFFF
    assert card.send(Request.read(0, 4)).outcome is Outcome.UNSUPPORTED


@pytest.mark.parametrize("surprise", [True, False])
def test_surprise_down_is_an_error_where_nobody_was_to_expect_it(surprise: bool) -> None:
    from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity

    port = RootPort(ConfigSpace(Identity(0x8086, 1, class_code=0x060400), interrupt_pin=1, bridge=True))
    features = PLAIN if surprise else PLAIN & ~express.PCI_EXP_SLTCAP_HPS
    port.add(
        Express(
            ExpressType.ROOT_PORT,
            link=express.PCI_EXP_LNKCAP_SDERC,
            link_active_reporting=True,
            slot=Slot(1, features),
        )
    )
    aer = port.add(Aer(root=True))
    port.finish()
    RootComplex().add_root_bus().plug(port, 1)
    port.plug(endpoint())
    port.unplug()
    found = port.config.read(aer + extended.PCI_ERR_UNCOR_STATUS, 4)
    assert bool(found & extended.PCI_ERR_UNC_SURPDN) is not surprise


# ---- the registers as the library reads them -------------------------------------------------------------------------


def test_a_port_without_a_slot_has_no_state() -> None:
    port = root_port()
    at = port.offset(regs.PCI_CAP_ID_EXP)
    assert port.slot is None
    assert SlotState.of_capability(bytes(port.config.data[at : at + 0x3C])) is None  # type: ignore[operator]


def test_what_a_slot_does_not_have_is_none_and_never_changes() -> None:
    bare = SlotState.decode(9 << 19, 0xFFFF, 0xFFFF, 0, 0)
    assert (bare.number, bare.present, bare.power, bare.attention, bare.latch_open) == (9, True, None, None, None)
    other = SlotState.decode(9 << 19, 0, 0, 0, 0)
    assert [str(one) for one in changes(bare, other)] == ["presence present -> empty"]


@pytest.mark.parametrize(
    ("reports", "active", "present", "on", "link"),
    [
        (True, False, True, True, False),
        (True, True, True, True, True),
        (False, True, True, True, True),  # QEMU's ioh3420 and xio3130 show it all the same
        (False, False, True, True, None),
        (False, False, False, True, False),
        (False, False, True, False, False),
    ],
)
def test_the_link_of_a_port_that_does_not_report_it(
    reports: bool, active: bool, present: bool, on: bool, link: bool | None
) -> None:
    """PCI Express base specification 7.5.3.8: the bit is 0 then; but without card or power nothing can be up."""
    state = SlotState.decode(
        express.PCI_EXP_SLTCAP_PCP,
        0 if on else express.PCI_EXP_SLTCTL_PCC,
        express.PCI_EXP_SLTSTA_PDS if present else 0,
        express.PCI_EXP_LNKCAP_DLLLARC if reports else 0,
        express.PCI_EXP_LNKSTA_DLLLA if active else 0,
    )
    assert state.link is link


@pytest.mark.parametrize("seed", range(4))
def test_anything_in_any_order(seed: int) -> None:
    """A link is only up where a card is, has power and may have a link; the registers say what is so."""
    chance = random.Random(seed)
    bench = Bench(PLAIN | LATCH | (SILENT if seed % 2 else 0))
    bench.slot.link_delay, bench.slot.command_delay = 0.1, 0.02
    slot, port = bench.slot, bench.port
    at = slot.at
    deeds: list[Callable[[], object]] = [
        lambda: slot.insert({0: endpoint()}),
        slot.pull,
        slot.press,
        slot.fault,
        lambda: slot.fault(lasting=True),
        lambda: slot.set_latch(chance.random() < 0.5),
        lambda: slot.set_interlock(chance.random() < 0.5),
        lambda: bench.control(chance.getrandbits(16)),
        lambda: port.config.write(at + express.PCI_EXP_SLTSTA, 2, chance.getrandbits(16)),
        lambda: port.config.write(at + express.PCI_EXP_LNKCTL, 2, chance.getrandbits(16)),
        lambda: port.config.write(bridge_regs.PCI_BRIDGE_CONTROL, 2, chance.getrandbits(16)),
        lambda: bench.clock.advance(chance.random() / 10),
        lambda: port.reset(cold=chance.random() < 0.5),
    ]
    for _ in range(4000):
        try:
            chance.choice(deeds)()
        except Misuse:
            continue
        state = slot.state
        assert state.present == port.present
        assert state.latch_open == slot.latch_open
        assert state.interlock == slot.interlock
        assert state.link == port.link_up
        if port.link_up:
            assert port.present
            assert state.power
            assert not slot.latch_open
            assert not slot.cut_off
        cards: list[Function] = list(port.secondary.functions.values())
        assert len(cards) <= 1
    bench.clock.advance(1)
    control = port.config.read(at + express.PCI_EXP_LNKCTL, 2)
    assert port.link_up == (port.present and slot.powered and not control & express.PCI_EXP_LNKCTL_LD)
