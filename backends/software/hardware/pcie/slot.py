"""The slot below a port: a card and who handles it, the registers that software has for it, and its interrupt.

::

    insert, pull ------> presence ---------+--> slot status --> [enabled by slot control] --> message, or the pin
    press, latch, fault, interlock --------+          ^
                                                      | command completed
    slot control  <-- software: power, indicators, interlock --> link, card, subscribers

A card has power while the power controller gives it (slot control, bit 10, is 0), no fault has cut it off and its latch
(MRL) is closed; a fault lasts until software turns the power off.  `link_delay` and `command_delay` are in seconds of
the machine's time.  A command is every write to slot control; a slot without "command completed" says nothing of it.
Each change is told to subscribers as a `SlotEvent`, so that blinking is an event and not a wave form.

`ejects` has somebody stand by who takes the card out once it is off: power controller and power indicator.  QEMU's
ports do that.  Sources: PCI Express Base Specification, 6.0, 6.7.1, 6.7.3 and 7.5.3.9 to 11.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_regs as regs
from pyvfio.errors import Misuse
from pyvfio.pci.slot_state import SlotEvent, SlotState, changes

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.pcie.function import Function
    from pyvfio_backends.software.hardware.pcie.port import DownstreamPort

__all__ = ["HotplugSlot"]

_EVENTS = (
    (express.PCI_EXP_SLTCTL_ABPE, express.PCI_EXP_SLTSTA_ABP),
    (express.PCI_EXP_SLTCTL_PFDE, express.PCI_EXP_SLTSTA_PFD),
    (express.PCI_EXP_SLTCTL_MRLSCE, express.PCI_EXP_SLTSTA_MRLSC),
    (express.PCI_EXP_SLTCTL_PDCE, express.PCI_EXP_SLTSTA_PDC),
    (express.PCI_EXP_SLTCTL_CCIE, express.PCI_EXP_SLTSTA_CC),
    (express.PCI_EXP_SLTCTL_DLLSCE, express.PCI_EXP_SLTSTA_DLLSC),
)
_MESSAGE_SHIFT = 9
_PIN = "slot"


class HotplugSlot:
    """The slot of `port`, whose PCI Express capability is at `at`."""

    def __init__(self, port: DownstreamPort, at: int) -> None:
        self.port = port
        self.at = at
        self.link_delay = 0.0
        self.command_delay = 0.0
        self.ejects = False
        self.latch_open = False
        self.interlock = False
        self.cut_off = False
        """Whether a power fault has cut the card off."""
        self._shorted = False
        self._notified = False
        self._subscribers: list[Callable[[SlotEvent], None]] = []
        self._before = self.state
        config = port.config
        config.watch(at + express.PCI_EXP_SLTCTL, 2, self._control_written)
        config.watch(at + express.PCI_EXP_SLTSTA, 2, lambda before, ones: self.notify())

    # what it is and has

    def _has(self, feature: int) -> bool:
        return bool(self.port.config.read(self.at + express.PCI_EXP_SLTCAP, 4) & feature)

    @property
    def number(self) -> int:
        """Its physical number."""
        return self.port.config.read(self.at + express.PCI_EXP_SLTCAP, 4) >> 19

    @property
    def state(self) -> SlotState:
        """What the registers say of it now."""
        end = self.at + express.PCI_EXP_SLTSTA + 2
        found = SlotState.of_capability(bytes(self.port.config.data[self.at : end]))
        if found is None:
            raise Misuse("look at a slot", self.port.name, cause="the port has none")
        return found

    @property
    def _control(self) -> int:
        return self.port.config.read(self.at + express.PCI_EXP_SLTCTL, 2)

    @property
    def powered(self) -> bool:
        """Whether it gives power to a card."""
        if self.latch_open or self.cut_off:
            return False
        return not (self._has(express.PCI_EXP_SLTCAP_PCP) and self._control & express.PCI_EXP_SLTCTL_PCC)

    # what people do

    def _refuse(self, what: str, cause: str) -> Misuse:
        return Misuse(what, f"slot {self.number}", cause=cause)

    def _check_access(self, what: str) -> None:
        if self.interlock:
            raise self._refuse(what, "the electromechanical interlock holds it")
        if self._has(express.PCI_EXP_SLTCAP_MRLSP) and not self.latch_open:
            raise self._refuse(what, "its latch is closed")

    def insert(self, card: Mapping[int, Function]) -> None:
        """Put a card in: its functions by number, function 0 among them; all of them are there in one step.

        Raise `Misuse`, with nothing done: the slot is taken, locked or latched, or a function is elsewhere.
        """
        what = "plug a card into"
        if 0 not in card:
            raise self._refuse(what, "the card has no function 0")
        if self.port.secondary.functions:
            raise self._refuse(what, "a card is in it")
        self._check_access(what)
        self.port.plug_all({number: card[number] for number in sorted(card)})

    def pull(self) -> dict[int, Function]:
        """Take the card out, whether or not software is done with it; its functions by number.

        Raise `Misuse`: there is none, or it is locked or latched.
        """
        what = "take the card out of"
        if not self.port.secondary.functions:
            raise self._refuse(what, "it is empty")
        self._check_access(what)
        numbers = {id(function): number for number, function in self.port.secondary.functions.items()}
        return {numbers[id(function)]: function for function in self.port.unplug()}

    def press(self) -> None:
        """Press the attention button.  Raise `Misuse`: there is none."""
        if not self._has(express.PCI_EXP_SLTCAP_ABP):
            raise self._refuse("press the button of", "it has no attention button")
        self._tell(SlotEvent("button", "released", "pressed"))
        self._happened(express.PCI_EXP_SLTSTA_ABP)

    def set_latch(self, opened: bool) -> None:
        """Open or close the latch (MRL); open, it keeps power from the card.

        Raise `Misuse`: there is no sensor, or the interlock holds it.
        """
        what = "open the latch of" if opened else "close the latch of"
        if not self._has(express.PCI_EXP_SLTCAP_MRLSP):
            raise self._refuse(what, "it has no latch with a sensor")
        if self.interlock:
            raise self._refuse(what, "the electromechanical interlock holds it")
        if opened != self.latch_open:
            self.latch_open = opened
            self.port.settle()
            self._happened(express.PCI_EXP_SLTSTA_MRLSC)

    def set_interlock(self, engaged: bool) -> None:
        """Engage or release the electromechanical interlock, as a write to slot control does.

        Raise `Misuse`: there is none.
        """
        if not self._has(express.PCI_EXP_SLTCAP_EIP):
            raise self._refuse("lock", "it has no electromechanical interlock")
        self.interlock = engaged
        self.show()

    def fault(self, *, lasting: bool = False) -> None:
        """Have the power controller find a fault; a `lasting` one comes again as often as this card gets power.

        Raise `Misuse`: there is no power controller.
        """
        if not self._has(express.PCI_EXP_SLTCAP_PCP):
            raise self._refuse("report a power fault of", "it has no power controller")
        self._shorted = lasting
        self._cut_off()

    def subscribe(self, told: Callable[[SlotEvent], None]) -> Callable[[], None]:
        """Have `told` called with each event from now on; what is given back ends that."""
        self._subscribers.append(told)
        return lambda: self._subscribers.remove(told)

    # what software does

    def _control_written(self, before: int, ones: int) -> None:
        control = self._control
        power = express.PCI_EXP_SLTCTL_PCC
        if control & power:
            self.cut_off = False
        if ones & express.PCI_EXP_SLTCTL_EIC and self._has(express.PCI_EXP_SLTCAP_EIP):
            self.interlock = not self.interlock
        if before & power and not control & power and self._shorted:
            self._cut_off()
        self.port.settle()
        if self.ejects and self._off(control) and not self._off(before) and self.port.present:
            self.port.unplug()
        if not self._has(express.PCI_EXP_SLTCAP_NCCS):
            self.port.later(self.command_delay, lambda: self._happened(express.PCI_EXP_SLTSTA_CC))
        self.notify()

    @staticmethod
    def _off(control: int) -> bool:
        indicator = control & express.PCI_EXP_SLTCTL_PIC
        return bool(control & express.PCI_EXP_SLTCTL_PCC) and indicator == express.PCI_EXP_SLTCTL_PWR_IND_OFF

    def _cut_off(self) -> None:
        if self._control & express.PCI_EXP_SLTCTL_PCC:
            return  # there is no power that could fail
        self.cut_off = True
        self._happened(express.PCI_EXP_SLTSTA_PFD)  # before the link notices
        self.port.settle()

    # what the registers say

    def power_up(self) -> None:
        """The registers when the machine is switched on, or after a reset: power and its indicator are on where a card
        is, and that one is there is no change.
        """
        control = self._control & ~(express.PCI_EXP_SLTCTL_PCC | express.PCI_EXP_SLTCTL_PIC)
        card = self.port.present
        if self._has(express.PCI_EXP_SLTCAP_PCP):
            control |= 0 if card else express.PCI_EXP_SLTCTL_PCC
        if self._has(express.PCI_EXP_SLTCAP_PIP):
            control |= express.PCI_EXP_SLTCTL_PWR_IND_ON if card else express.PCI_EXP_SLTCTL_PWR_IND_OFF
        self.port.config.put(self.at + express.PCI_EXP_SLTCTL, 2, control)
        self.port.config.put(self.at + express.PCI_EXP_SLTSTA, 2, self._shown())

    def card_left(self) -> None:
        """The card was taken out, and with it what was wrong with it."""
        self._shorted = False

    def show(self) -> None:
        """Bring slot status in line with what is there, tell subscribers and interrupt."""
        config, status = self.port.config, self.at + express.PCI_EXP_SLTSTA
        before = config.read(status, 2)
        after = self._shown()
        if (before ^ after) & express.PCI_EXP_SLTSTA_PDS:
            after |= express.PCI_EXP_SLTSTA_PDC
        config.put(status, 2, after)
        self.notify()

    def _shown(self) -> int:
        """Slot status with what is there now."""
        bits = (
            (express.PCI_EXP_SLTSTA_PDS, self.port.present),
            (express.PCI_EXP_SLTSTA_MRLSS, self.latch_open),
            (express.PCI_EXP_SLTSTA_EIS, self.interlock),
        )
        status = self.port.config.read(self.at + express.PCI_EXP_SLTSTA, 2)
        for bit, value in bits:
            status = status | bit if value else status & ~bit
        return status

    def link_changed(self) -> None:
        """The link went up or down: say so, where the port reports that."""
        reports = self.port.config.read(self.at + regs.PCI_EXP_LNKCAP, 4) & express.PCI_EXP_LNKCAP_DLLLARC
        if reports:
            self._happened(express.PCI_EXP_SLTSTA_DLLSC)

    def _happened(self, event: int) -> None:
        status = self.at + express.PCI_EXP_SLTSTA
        self.port.config.put(status, 2, self.port.config.read(status, 2) | event)
        self.notify()

    def notify(self) -> None:
        """Tell subscribers what is different, and software by interrupt of events that it enabled.

        A message is sent when the first of them comes while messages are on; the pin is asserted for as long as there
        is one.
        """
        now = self.state
        before, self._before = self._before, now
        for event in changes(before, now):
            self._tell(event)
        port, control = self.port, self._control
        status = port.config.read(self.at + express.PCI_EXP_SLTSTA, 2)
        pending = any(control & enable and status & event for enable, event in _EVENTS)
        pending = pending and bool(control & express.PCI_EXP_SLTCTL_HPIE)
        was, self._notified = self._notified, pending and port.messages_on
        port.pin.drive(_PIN, pending and not port.messages_on)
        if self._notified and not was:
            port.signal(port.config.read(self.at + regs.PCI_EXP_FLAGS, 2) >> _MESSAGE_SHIFT & 0x1F)

    def _tell(self, event: SlotEvent) -> None:
        for told in tuple(self._subscribers):
            told(event)
