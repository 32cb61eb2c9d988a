"""The root complex: segments, their root buses, and the ways in and out.

::

    processor                                     devices
      load, store ----> apertures --> root buses    requests --> message range --> Iommu.message
      port_in, port_out                                     \\-> (peer-to-peer)
      config_read, config_write (routing id)                 \\-> Iommu.read, Iommu.write
      ECAM:     base + bus << 20 | device, function << 12 | register (12)
      CF8/CFC:  1 << 31 | bus << 16 | device, function << 8 | register (8)

A segment is a configuration space of its own: 256 buses, shared by its root buses (`number` to `last`).  Memory and I/O
are one space for all.  What nobody answers reads as ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pyvfio.abi.pci_regs import ExpressType
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.hardware.pcie.bridge import Bridge
from pyvfio_backends.software.hardware.pcie.bus import Bus, may_go_direct
from pyvfio_backends.software.hardware.pcie.config_mechanism import AddressPorts, Ecam
from pyvfio_backends.software.hardware.pcie.event_collector import EventCollector
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.reporting import ErrorMessage
from pyvfio_backends.software.hardware.pcie.request import AddressType, Completion, Outcome, Request, Space
from pyvfio_backends.software.hardware.pcie.upstream import Iommu, NoIommu, Source

__all__ = ["RootBus", "RootComplex", "Segment"]

_BUSES = 256
_MESSAGES = range(0xFEE00000, 0xFEF00000)
_MESSAGE_SIZE = 4


class RootBus(Bus):
    """A bus that begins in the root complex; `last` is the highest bus number behind it.

    An `open_ended` one gives numbers to a root bus that is added after it.
    """

    def __init__(
        self, complex_: RootComplex, segment: Segment, number: int, last: int, *, open_ended: bool = False
    ) -> None:
        super().__init__()
        self.complex = complex_
        self.segment = segment
        self.last = last
        self.open_ended = open_ended
        self._number = number

    @property
    def number(self) -> int:
        """See `Bus.number`."""
        return self._number

    def unclaimed(self, request: Request) -> Completion:
        """See `Bus.unclaimed`."""
        return Completion(Outcome.UNSUPPORTED)

    def ascend(self, request: Request, source: Function) -> Completion:
        """See `Bus.ascend`: to a peer on this bus if the root complex does that, else to the IOMMU."""
        if self.complex.peer_to_peer and not request.redirected and may_go_direct(request, source):
            decoder = self.claim(request)
            if decoder is not None and decoder.target is not source:
                return decoder.target.receive(request, decoder)
        return self.complex.upstream(self.segment.number, request, source)

    def report(self, message: ErrorMessage) -> None:
        """See `Bus.report`: of an integrated endpoint; without an event collector nobody hears it."""
        collector = self._collector(message.rid)
        if collector is not None:
            collector.root_errors.receive(message)

    def power_event(self, rid: int) -> None:
        """See `Bus.power_event`: as `report`."""
        collector = self._collector(rid)
        if collector is not None:
            collector.power_events.receive(rid)

    def _collector(self, rid: int) -> EventCollector | None:
        """Where messages of a function on this bus end; it may be on another root bus of the segment."""
        sender = self.functions.get(rid - (self.number << 8))
        if sender is None or sender.express_type not in (ExpressType.RC_END, ExpressType.RC_EC):
            return None
        for bus in self.segment.root_buses:
            for function in bus.functions.values():
                if isinstance(function, EventCollector) and function.hears(rid):
                    return function
        return None

    def intx(self, devfn: int, pin: int, asserted: bool, source: Function) -> None:
        """See `Bus.intx`: out of the fabric."""
        if self.complex.on_intx is not None:
            self.complex.on_intx(self, devfn, pin, asserted, source)


@dataclass
class Segment:
    """A PCI segment (Linux: domain); `ecam` is where its configuration space is in memory, None for nowhere."""

    number: int
    ecam: Ecam | None = None
    root_buses: list[RootBus] = field(default_factory=list)

    def root_bus(self, number: int) -> RootBus | None:
        """The root bus behind which a bus number is."""
        return next((one for one in self.root_buses if one.number <= number <= one.last), None)


class RootComplex:
    """Segments 0 and up with their buses; `iommu` answers what devices ask.

    `peer_to_peer`: whether requests pass between the ports of one root bus without the IOMMU, where access control
    services do not forbid it.  `on_intx` is told of interrupt pins: root bus, device and function there, pin after the
    turns of the bridges, level and whose it is; `on_message` takes the interrupt messages (source, address, data), in
    place of `Iommu.message`.
    """

    def __init__(self, iommu: Iommu | None = None, *, peer_to_peer: bool = True) -> None:
        self.iommu: Iommu = NoIommu() if iommu is None else iommu
        self.peer_to_peer = peer_to_peer
        self.message_range = _MESSAGES
        self.segments: dict[int, Segment] = {}
        self.root_buses: list[RootBus] = []
        """All root buses, by segment and number."""
        self._ecams: list[Ecam] = []
        self.on_intx: Callable[[RootBus, int, int, bool, Function], None] | None = None
        self.on_message: Callable[[Source, int, int], None] | None = None
        self.ports = AddressPorts(self)

    def add_root_bus(self, segment: int = 0, number: int = 0, last: int | None = None) -> RootBus:
        """Add a root bus.  `last` defaults to the last number that no later one has.  Raise `Misuse` on an overlap."""
        home = self.segments.get(segment, Segment(segment))
        above = min((one.number for one in home.root_buses if one.number > number), default=_BUSES)
        end = above - 1 if last is None else last
        below = home.root_bus(number)
        shortens = below is not None and below.open_ended and below.number < number
        if (below is not None and not shortens) or not 0 <= number <= end < above:
            raise Misuse("add root bus", f"{segment:04x}:{number:02x}", cause="these bus numbers are another's")
        if below is not None:
            below.last = number - 1
        bus = RootBus(self, home, number, end, open_ended=last is None)
        self.segments[segment] = home
        home.root_buses.append(bus)
        home.root_buses.sort(key=lambda one: one.number)
        self.root_buses = [one for number in sorted(self.segments) for one in self.segments[number].root_buses]
        return bus

    def place_ecam(self, segment: int, base: int, last_bus: int = _BUSES - 1) -> None:
        """Put the configuration space of a segment at an address, for buses 0 to `last_bus`."""
        self.segments[segment].ecam = Ecam(self, segment, base, last_bus)
        self._ecams = [one.ecam for one in self.segments.values() if one.ecam is not None]

    def functions(self) -> Iterator[tuple[int, Function]]:
        """All functions with the number of their segment, what is behind a bridge right after it."""
        for root in self.root_buses:
            waiting: list[Function] = [root.functions[devfn] for devfn in sorted(root.functions, reverse=True)]
            while waiting:
                function = waiting.pop()
                yield root.segment.number, function
                if isinstance(function, Bridge):
                    behind = function.secondary.functions
                    waiting += [behind[devfn] for devfn in sorted(behind, reverse=True)]

    # configuration

    def function(self, segment: int, rid: int) -> Function | None:
        """The function that a configuration request for a routing id reaches now; None: unsupported request."""
        home = self.segments.get(segment)
        number = rid >> 8
        bus: Bus | None = home.root_bus(number) if home is not None else None
        while bus is not None and bus.number != number:
            bridge = bus.bridge_to(number)
            if bridge is None:  # only a virtual function is there, beyond the bus of its physical one
                return bus.functions.get(rid - (bus.number << 8))
            bus = bridge.secondary if bridge.passes else None
        function = bus.find(rid & 0xFF) if bus is not None else None
        return None if function is None or function.hung else function

    def config_read(self, segment: int, rid: int, offset: int, length: int) -> int:
        """Read 1, 2 or 4 bytes of configuration space.  Ones where nothing is."""
        function = self.function(segment, rid)
        if function is None or offset + length > len(function.config.data):
            return 0 if function is not None else (1 << 8 * length) - 1
        return function.config.read(offset, length)

    def config_write(self, segment: int, rid: int, offset: int, length: int, value: int) -> None:
        """Write 1, 2 or 4 bytes of configuration space; lost where nothing is."""
        function = self.function(segment, rid)
        if function is not None and offset + length <= len(function.config.data):
            function.config.write(offset, length, value)

    # from the processor

    def transfer(self, request: Request) -> Completion:
        """Send a request down to the function that claims it."""
        for ecam in self._ecams:
            if request.space is Space.MEMORY and ecam.contains(request.address):
                return ecam.perform(request)
        for bus in self.root_buses:
            decoder = bus.claim(request)
            if decoder is not None:
                return decoder.target.receive(request, decoder)
        return Completion(Outcome.UNSUPPORTED)

    def load(self, address: int, length: int, *, space: Space = Space.MEMORY) -> int:
        """Load 1, 2, 4 or 8 bytes from a device, little-endian.  Ones where nothing answers."""
        completion = self.transfer(Request.read(address, length, space=space))
        return int.from_bytes(completion.data, "little") if completion.ok else (1 << 8 * length) - 1

    def store(self, address: int, length: int, value: int, *, space: Space = Space.MEMORY) -> None:
        """Store 1, 2, 4 or 8 bytes to a device; lost where nothing answers."""
        self.transfer(Request.store(address, value.to_bytes(length, "little"), space=space))

    def port_in(self, port: int, length: int) -> int:
        """Read an I/O port: those of configuration mechanism 1, or a device's."""
        if self.ports.owns(port, length):
            return self.ports.read(port, length)
        return self.load(port, length, space=Space.IO)

    def port_out(self, port: int, length: int, value: int) -> None:
        """Write an I/O port."""
        if self.ports.owns(port, length):
            self.ports.write(port, length, value)
        else:
            self.store(port, length, value, space=Space.IO)

    # from devices

    def upstream(self, segment: int, request: Request, port: Function) -> Completion:
        """Take a request that came up to the root complex through `port`, and let the IOMMU answer it.

        I/O does not go up, and translations are not given to devices: both are unsupported.
        """
        if not request.digest and port.errors.checks_digest:
            return port.check(request) or Completion(Outcome.ECRC)
        if request.poisoned:
            port.errors.poisoned(request)
            return Completion(Outcome.POISONED)
        if request.space is Space.IO or request.address_type is AddressType.TRANSLATION:
            port.errors.refused(Outcome.UNSUPPORTED, request)
            return Completion(Outcome.UNSUPPORTED)
        translated = request.address_type is AddressType.TRANSLATED
        source = Source(segment, request.requester, request.pasid, translated)
        try:
            if not request.write:
                return Completion(Outcome.SUCCESS, self.iommu.read(source, request.address, request.length))
            if request.address in self.message_range and request.length == _MESSAGE_SIZE:
                (self.on_message or self.iommu.message)(source, request.address, int.from_bytes(request.data, "little"))
            else:
                self.iommu.write(source, request.address, request.data)
        except DmaFault:
            return Completion(Outcome.UNSUPPORTED)
        return Completion(Outcome.SUCCESS)
