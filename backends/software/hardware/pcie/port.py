"""Ports: root ports, and the upstream and downstream ports of a switch.

::

    root complex --[RootPort]== link ==[UpstreamPort]-- switch bus --[DownstreamPort]== link ==[function]

A root or downstream port has a link to one device; the link is up while a device is there, its slot has power, software
did not disable it, and no error is contained (DPC).  What arrives from below is checked: the size of its packets, and
with access control services its requester id (source validation) and the kind of its address (translation blocking).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.pci.bar import Bar
from pyvfio_backends.software.hardware.pci.config import ConfigSpace
from pyvfio_backends.software.hardware.pcie.bridge import Bridge
from pyvfio_backends.software.hardware.pcie.bus import Bus, Link, SwitchBus
from pyvfio_backends.software.hardware.pcie.containment import Containment
from pyvfio_backends.software.hardware.pcie.event_collector import MessageEnd
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.reporting import ErrorMessage
from pyvfio_backends.software.hardware.pcie.request import AddressType, Completion, Outcome, Request
from pyvfio_backends.software.hardware.pcie.slot import HotplugSlot

__all__ = ["DownstreamPort", "Port", "RootPort", "UpstreamPort"]

F = TypeVar("F", bound=Function)


class Port(Bridge):
    """A port of a switch or of the root complex."""

    def check_forwarded(self, request: Request) -> Completion | None:
        """See `Bridge.check_forwarded`: packets beyond the port's largest payload are malformed."""
        if request.write and request.payload > self.max_payload:
            self.errors.uncorrectable(extended.PCI_ERR_UNC_MALF_TLP, request)
            return Completion(Outcome.MALFORMED)
        return None


class UpstreamPort(Port):
    """The port of a switch that faces the root; its secondary bus is inside the switch."""

    def make_bus(self) -> Bus:
        """See `Bridge.make_bus`."""
        return SwitchBus(self)


class DownstreamPort(Port):
    """A port with a link to a device below."""

    def __init__(self, config: ConfigSpace, bars: Sequence[Bar] = (), *, name: str = "") -> None:
        super().__init__(config, bars, name=name)
        self.containment = Containment(self)
        self.link_up = False
        self.slot: HotplugSlot | None = None
        """The slot below it; None where what is at the other end of the link is soldered on."""
        self.on_link: Callable[[bool], None] | None = None
        """Told when the link came up or went down."""
        self._training: object | None = None
        self._trained = False
        """Whether the link has been up since the card came, or got power."""

    def make_bus(self) -> Bus:
        """See `Bridge.make_bus`."""
        return Link(self)

    # the link

    def finish(self) -> None:
        """Watch the registers that have an effect on the link; call it when all capabilities are there."""
        at = self.offset(regs.PCI_CAP_ID_EXP)
        if at is not None:
            self.config.watch(at + express.PCI_EXP_LNKCTL, 2, lambda before, ones: self.settle())
            self.config.watch(at + regs.PCI_EXP_DEVCTL2, 2, lambda before, ones: self.secondary.forget())
            if self.slot is None and self.config.read(at + regs.PCI_EXP_FLAGS, 2) & regs.PCI_EXP_FLAGS_SLOT:
                self.slot = HotplugSlot(self, at)
        self.containment.finish()

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        """Do `work` after so long of the machine's time: at once for 0, or in no machine that has a clock."""
        bus = self.bus
        while bus is not None and bus.bridge is not None:
            bus = bus.bridge.bus
        schedule = bus.schedule if bus is not None and seconds else None
        if schedule is None:
            work()
        else:
            schedule(seconds, work)

    def plug(self, function: F, number: int = 0, *, device: int = 0) -> F:
        """Put a function (0 of the device unless said) at the other end of the link; give it back.

        Nobody sees the device before its function 0 is there.
        """
        self.secondary.plug(function, device, number)
        self.settle()
        return function

    def plug_all(self, functions: Mapping[int, Function]) -> None:
        """Put a device of several functions, by their numbers, at the other end: the link comes up once all are there.

        Raise `Misuse` where a place is taken or a function is on a bus already; then none of them is plugged.
        """
        done: list[Function] = []
        try:
            for number, function in functions.items():
                done.append(self.secondary.plug(function, number >> 3, number & 7))
        except Misuse:
            for function in done:
                self.secondary.unplug(function)
            raise
        self.settle()

    def unplug(self) -> list[Function]:
        """Take the device away, all its functions at once; they are given back as after a loss of power.

        Where nobody was to expect that (no hot-plug surprise) and the port can tell, it is a surprise-down error.
        """
        surprise = self.link_up and self._reports_surprise_down
        gone = [one for one in self.secondary.functions.values() if not one.virtual]
        for function in gone:
            function.reset(cold=True)
            self.secondary.unplug(function)
        if self.slot is not None:
            self.slot.card_left()
        self.settle()
        if surprise:
            self.errors.uncorrectable(extended.PCI_ERR_UNC_SURPDN, None)
        return gone

    @property
    def _reports_surprise_down(self) -> bool:
        at = self.offset(regs.PCI_CAP_ID_EXP)
        if at is None or not self.config.read(at + regs.PCI_EXP_LNKCAP, 4) & express.PCI_EXP_LNKCAP_SDERC:
            return False
        return self.slot is None or not self.slot.state.surprise

    @property
    def present(self) -> bool:
        """Whether a device is there: its function 0."""
        return 0 in self.secondary.functions

    @property
    def powered(self) -> bool:
        """Whether the slot gives power to its device."""
        return self.slot is None or self.slot.powered

    def settle(self, *, at_once: bool = False) -> None:
        """Bring the link and what the registers say of it in line with what is there.

        A device whose link goes down is reset; one whose slot loses power loses sticky bits too.  The link
        of a card that has come, or got power, comes up after the time that the slot says; one that only trains again,
        or is to be there `at_once`, needs none.
        """
        at = self.offset(regs.PCI_CAP_ID_EXP)
        if at is None:
            return
        disabled = self.config.read(at + express.PCI_EXP_LNKCTL, 2) & express.PCI_EXP_LNKCTL_LD
        able = self.present and self.powered and not disabled and not self.containment.active
        if self.slot is not None:
            self.slot.show()
        if not able:
            self._training = None
        if not (self.present and self.powered):
            self._trained = False
        if self.link_up and not able:
            for function in [one for one in self.secondary.functions.values() if not one.virtual]:
                function.reset(cold=not self.powered)
            self._set_link(at, up=False)
        elif able and not self.link_up and self._training is None:
            self._train(at, 0.0 if at_once or self._trained or self.slot is None else self.slot.link_delay)

    def _train(self, at: int, seconds: float) -> None:
        """Bring the link up after so long, unless something comes between."""
        attempt = self._training = object()

        def trained() -> None:
            if self._training is attempt:
                self._training = None
                self._set_link(at, up=True)

        self.later(seconds, trained)

    def _set_link(self, at: int, *, up: bool) -> None:
        self.link_up = up
        self._trained = self._trained or up
        self._show_link(at)
        if self.slot is not None:
            self.slot.link_changed()
        if self.on_link is not None:
            self.on_link(up)

    def _show_link(self, at: int) -> None:
        """Link status: what both ends are able to while the link is up, and else what the port is able to."""
        shown = express.PCI_EXP_LNKSTA_DLLLA | regs.PCI_EXP_LNKSTA_CLS | regs.PCI_EXP_LNKSTA_NLW
        status = self.config.read(at + regs.PCI_EXP_LNKSTA, 2) & ~shown
        speed, width = _able(self)
        if self.link_up:
            status |= express.PCI_EXP_LNKSTA_DLLLA
            other = _able(self.secondary.functions[0]) if self.present else (1, 1)
            speed, width = min(speed, other[0]), min(width, other[1])
        self.config.put(at + regs.PCI_EXP_LNKSTA, 2, status | width << 4 | speed)

    def power_up(self) -> None:
        """What the port shows when the machine is switched on: power and power indicator on where a card is."""
        at = self.offset(regs.PCI_CAP_ID_EXP)
        if at is not None:
            self._show_link(at)
        if self.slot is not None:
            self.slot.power_up()
        self.settle(at_once=True)

    @property
    def passes(self) -> bool:
        """See `Bridge.passes`."""
        return self.link_up and not self.power_state and not self.holds_reset

    @property
    def ari_forwarding(self) -> bool:
        """See `Bridge.ari_forwarding`."""
        at = self.offset(regs.PCI_CAP_ID_EXP)
        return at is not None and bool(self.config.read(at + regs.PCI_EXP_DEVCTL2, 2) & regs.PCI_EXP_DEVCTL2_ARI)

    def reset_self(self, *, cold: bool = False) -> None:
        """See `Function.reset_self`: its registers show the card and the link, which stays up, all the same."""
        super().reset_self(cold=cold)
        self.power_up()

    def reset(self, *, cold: bool = False) -> None:
        """See `Function.reset`."""
        super().reset(cold=cold)
        self.link_up = False
        self._training = None
        self.power_up()

    # what comes from below

    def ascend(self, request: Request, source: Function) -> Completion:
        """See `Bridge.ascend`: checked first; with upstream forwarding, its own addresses go up too."""
        refused = self.check_forwarded(request) or self._check_access(request)
        if refused is not None:
            return refused
        if not request.redirected and self.acs & regs.PCI_ACS_UF and self.claims(request):
            request.redirected = True
        elif request.redirected and not self.acs & regs.PCI_ACS_UF and self.claims(request):
            request.redirected = False  # it would come back to this port: refused below
        return super().ascend(request, source)

    def _check_access(self, request: Request) -> Completion | None:
        services = self.acs
        foreign = services & regs.PCI_ACS_SV and request.requester >> 8 not in self.buses
        translated = services & regs.PCI_ACS_TB and request.address_type is not AddressType.UNTRANSLATED
        if foreign or translated:
            self.errors.uncorrectable(extended.PCI_ERR_UNC_ACSV, request)
            return Completion(Outcome.VIOLATION, completer=self.rid)
        return None

    def egress_blocks(self, other: Function) -> bool:
        """See `Bridge.egress_blocks`: bit n of the vector is for the port with link capabilities' port number n."""
        at = self.offset(regs.PCI_EXT_CAP_ID_ACS, extended=True)
        link = other.offset(regs.PCI_CAP_ID_EXP)
        if at is None or link is None:
            return False
        number = other.config.read(link + regs.PCI_EXP_LNKCAP, 4) >> 24
        if number >= self.config.read(at + regs.PCI_ACS_EGRESS_BITS, 1):
            return False
        return bool(self.config.read(at + regs.PCI_ACS_EGRESS_CTL_V + number // 8, 1) >> number % 8 & 1)

    def forward_error(self, message: ErrorMessage) -> None:
        """See `Bridge.forward_error`: containment may keep it."""
        if not self.containment.takes(message):
            super().forward_error(message)

    def report(self, message: ErrorMessage) -> None:
        """See `Function.report`: an error of its own may be contained; then nothing is sent."""
        if message.rid != self.rid or not self.containment.takes(message):
            self.send_error(message)

    def send_error(self, message: ErrorMessage) -> None:
        """Send an error message up."""
        super().report(message)


def _able(function: Function) -> tuple[int, int]:
    """Speed (1: 2.5 GT/s) and width that a link is able to; 1 and 1 of who does not say."""
    at = function.offset(regs.PCI_CAP_ID_EXP)
    able = 0 if at is None else function.config.read(at + regs.PCI_EXP_LNKCAP, 4)
    return max(1, able & regs.PCI_EXP_LNKCAP_SLS), max(1, (able & regs.PCI_EXP_LNKCAP_MLW) >> 4)


class RootPort(MessageEnd, DownstreamPort):
    """A port of the root complex, where messages of errors and power management events end."""

    def allow_power_events(self) -> None:
        """Let software switch the interrupt for power management events on, at a port that was made without it."""
        at = self.offset(regs.PCI_CAP_ID_EXP)
        if at is not None:
            control = int.from_bytes(self.config.writable[at + express.PCI_EXP_RTCTL :][:2], "little")
            self.config.allow(at + express.PCI_EXP_RTCTL, 2, control | express.PCI_EXP_RTCTL_PMEIE)

    def send_error(self, message: ErrorMessage) -> None:
        """See `DownstreamPort.send_error`: it ends here."""
        self.root_errors.receive(message)

    def forward_power_event(self, rid: int) -> None:
        """See `Bridge.forward_power_event`: it ends here."""
        if self.link_up:
            self.power_events.receive(rid)
