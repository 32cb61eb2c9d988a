"""Buses: the functions on one, who of them answers an address, and where a request from one of them goes.

::

    RootBus             in the root complex; root ports, bridges and integrated endpoints are on it
    Link                below a root or downstream port: one device, of up to 8 functions (256 with ARI)
    SwitchBus           inside a switch, below its upstream port; the downstream ports are on it
    ConventionalBus     below a PCIe-to-PCI bridge: up to 32 devices, which all hear each other

A request that comes down is claimed by a base address or a window.  One that comes up from a function may go to
another one on the same bus (peer-to-peer) unless access control services send it up first; else it goes to the bridge.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.pcie.request import (
    AddressType,
    Completion,
    Outcome,
    Request,
    Space,
    devfn_of,
    rid_of,
)

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.pcie.bridge import Bridge
    from pyvfio_backends.software.hardware.pcie.function import Decoder, Function
    from pyvfio_backends.software.hardware.pcie.reporting import ErrorMessage

__all__ = ["Bus", "ConventionalBus", "Link", "SwitchBus", "may_go_direct"]

F = TypeVar("F", bound="Function")

_FUNCTIONS = 8
_DEVFNS = 256
_PINS = 4


class Bus:
    """A bus below `bridge`, whose secondary bus number is its own; None is below no bridge (a root bus)."""

    def __init__(self, bridge: Bridge | None = None) -> None:
        self.bridge = bridge
        self.functions: dict[int, Function] = {}
        """By device and function number (devfn)."""
        self.schedule: Callable[[float, Callable[[], None]], None] | None = None
        """Of a root bus: how work is put off by seconds of the machine's time; None: there is no time."""
        self.has_port_0 = False
        """Whether I/O port 0 is a port like any other, on this bus."""
        self._tables: dict[Space, tuple[list[int], list[Decoder], bool]] | None = None
        self._bridges: dict[int, Bridge | None] = {}

    @property
    def number(self) -> int:
        """The bus number, 0 before anyone gave one."""
        return self.bridge.config.data[bridge_regs.PCI_SECONDARY_BUS] if self.bridge is not None else 0

    # who is on it

    def plug(self, function: F, device: int = 0, number: int = 0) -> F:
        """Put a function on the bus, as function `number` of a device; give it back.

        The device says so in its function 0 when it has more than one.  Raise `Misuse` where the place is taken, or the
        function is on a bus already.
        """
        devfn = devfn_of(device, number)
        if not 0 <= devfn < _DEVFNS or devfn in self.functions or function.bus is not None:
            cause = "it is on a bus already" if function.bus is not None else f"{device:02x}.{number} is taken"
            raise Misuse("plug", function.name or "a function", cause=cause)
        self.functions[devfn] = function
        function.bus, function.devfn = self, devfn
        if function.config.reset_values is None:
            function.config.seal()
        first = devfn - devfn % _FUNCTIONS
        if first in self.functions and sum(first <= one < first + _FUNCTIONS for one in self.functions) > 1:
            self.functions[first].config.mark_multifunction()
        self.forget()
        return function

    def unplug(self, function: Function) -> None:
        """Take a function off the bus; a physical one takes its virtual ones along."""
        function.set_intx(False)
        for told in function.on_unplug:
            told()
        del self.functions[function.devfn]
        function.bus = None
        self.forget()

    def insert(self, function: Function, devfn: int) -> None:
        """Put a virtual function on the bus: by its distance from device 0, beyond 255 on the buses that follow."""
        self.functions[devfn] = function
        function.bus, function.devfn = self, devfn
        if function.config.reset_values is None:
            function.config.seal()
        self.forget()

    def remove(self, function: Function) -> None:
        """Take a virtual function off the bus."""
        del self.functions[function.devfn]
        function.bus = None
        self.forget()

    def find(self, devfn: int) -> Function | None:
        """The function that answers configuration requests for a device and function number."""
        return self.functions.get(devfn)

    def bridge_to(self, number: int) -> Bridge | None:
        """The bridge on this bus below which the bus of this number is."""
        if number not in self._bridges:
            self._bridges[number] = next((one for one in self.bridges() if number in one.buses), None)
        return self._bridges[number]

    def bridges(self) -> list[Bridge]:
        """The bridges and ports on it."""
        from pyvfio_backends.software.hardware.pcie.bridge import Bridge

        return [one for one in self.functions.values() if isinstance(one, Bridge)]

    def forget(self) -> None:
        """Something that routing depends on was written."""
        self._tables = None
        if self._bridges:
            self._bridges = {}

    # coming down

    def claim(self, request: Request) -> Decoder | None:
        """The decoder that a request is for: all of it lies in its range.  Of several the lowest function's."""
        if self._tables is None:
            self._tables = {space: self._table(space) for space in Space}
        starts, decoders, overlapping = self._tables[request.space]
        first, last = request.address, request.last
        if overlapping:
            return next((one for one in decoders if one.first <= first and last <= one.last), None)
        place = bisect_right(starts, first) - 1
        return decoders[place] if place >= 0 and last <= decoders[place].last else None

    def _table(self, space: Space) -> tuple[list[int], list[Decoder], bool]:
        every = [
            one for devfn in sorted(self.functions) for one in self.functions[devfn].decoders() if one.space is space
        ]
        ordered = sorted(every, key=lambda one: one.first)
        overlapping = any(one.last >= two.first for one, two in pairwise(ordered))
        return [one.first for one in ordered], every if overlapping else ordered, overlapping

    def deliver(self, request: Request) -> Completion:
        """Hand a request that comes down to whom it is for."""
        decoder = self.claim(request)
        if decoder is None:
            return self.unclaimed(request)
        return decoder.target.receive(request, decoder)

    def unclaimed(self, request: Request) -> Completion:
        """Nobody claims a request that came down: unsupported, noted by the bridge."""
        if self.bridge is not None:
            self.bridge.errors.refused(Outcome.UNSUPPORTED, request)
        return Completion(Outcome.UNSUPPORTED)

    # going up

    def ascend(self, request: Request, source: Function) -> Completion:
        """Take a request of `source`, a function on this bus or a bridge that forwards it."""
        assert self.bridge is not None  # a root bus overrides this
        return self.bridge.ascend(request, source)

    def report(self, message: ErrorMessage) -> None:
        """Take an error message of a function on this bus."""
        if self.bridge is not None:
            self.bridge.forward_error(message)

    def power_event(self, rid: int) -> None:
        """Take a power management event of a function on this bus, or from below."""
        if self.bridge is not None:
            self.bridge.forward_power_event(rid)

    def intx(self, devfn: int, pin: int, asserted: bool, source: Function) -> None:
        """Take a change of an interrupt pin (1 to 4): a bridge turns the pins of its devices round by their number."""
        if self.bridge is not None and self.bridge.bus is not None:
            turned = (pin - 1 + devfn // _FUNCTIONS) % _PINS + 1
            self.bridge.bus.intx(self.bridge.devfn, turned, asserted, source)


class Link(Bus):
    """The link below a port, with one device on it."""

    def find(self, devfn: int) -> Function | None:
        """See `Bus.find`: without ARI forwarding the port passes on requests to device 0 only."""
        if devfn >= _FUNCTIONS and not (self.bridge is not None and self.bridge.ari_forwarding):
            return None
        return self.functions.get(devfn)

    def unclaimed(self, request: Request) -> Completion:
        """See `Bus.unclaimed`: the device at the other end notes it, if there is one."""
        device = self.functions.get(0)
        if device is None:
            return super().unclaimed(request)
        device.errors.refused(Outcome.UNSUPPORTED, request)
        return Completion(Outcome.UNSUPPORTED, completer=device.rid)

    def ascend(self, request: Request, source: Function) -> Completion:
        """See `Bus.ascend`: functions of one device reach each other inside it, unless ACS of the source redirects."""
        if len(self.functions) > 1 and request.requester == source.rid:
            decoder = self.claim(request)
            if decoder is not None and decoder.target is not source and may_go_direct(request, source):
                return decoder.target.receive(request, decoder)
        return super().ascend(request, source)


class SwitchBus(Bus):
    """The bus inside a switch."""

    def ascend(self, request: Request, source: Function) -> Completion:
        """See `Bus.ascend`: to another downstream port, as access control services of the source port let it."""
        decoder = None if request.redirected else self.claim(request)
        if decoder is None or decoder.target is source:
            return super().ascend(request, source)
        if may_go_direct(request, source):
            if source.acs & regs.PCI_ACS_EC and source.egress_blocks(decoder.target):
                source.errors.uncorrectable(extended.PCI_ERR_UNC_ACSV, request)
                return Completion(Outcome.VIOLATION)
            return decoder.target.receive(request, decoder)
        request.redirected = True
        return super().ascend(request, source)


class ConventionalBus(Bus):
    """A conventional PCI bus below a bridge: a device's request is heard by all, and no service redirects it."""

    def ascend(self, request: Request, source: Function) -> Completion:
        """See `Bus.ascend`: what the bridge passes up is in the bridge's name, device 0 of this bus."""
        decoder = self.claim(request)
        if decoder is not None and decoder.target is not source:
            return decoder.target.receive(request, decoder)
        request.requester = rid_of(self.number, 0)
        return super().ascend(request, source)

    def power_event(self, rid: int) -> None:
        """See `Bus.power_event`: a wire, which tells nobody's name."""
        super().power_event(rid_of(self.number, 0))


def may_go_direct(request: Request, source: Function) -> bool:
    """Whether a request may go straight to a peer: `source` does not redirect it, or it is translated and may."""
    services = source.acs
    if not services & regs.PCI_ACS_RR:
        return True
    return bool(services & regs.PCI_ACS_DT) and request.address_type is AddressType.TRANSLATED
