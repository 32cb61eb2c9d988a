"""A host bridge with partitionable endpoints: a root complex in which every access belongs to an endpoint.

::

    processor                                                                             functions
      config (routing id) --> endpoint frozen? -------------------------> root complex --->
      load, store --> window --> segment --> endpoint frozen? ----------> root complex --->
                                                     stopped? endpoint <-- routing id <---- DMA, messages
                                                        `--> TVE, TCEs --> memory           (`Inbound`)
      error, of any kind ---> its endpoint, and those that go with it: frozen and stopped, `on_error`

What is frozen reads as ones, and writes to it are lost; what is stopped moves nothing and raises no interrupt.  The
answer to a load that came while its endpoint froze is lost too.  Configuration space is frozen with it on P7IOC only:
later bridges let those accesses through, so that software can look and set up again what is frozen.  The bridge's own
(the functions on its root bus) is never frozen.

Errors are: a configuration access that nobody answers; a load or store that ends in anything but success; DMA that no
window, or page, permits; a message that is not the endpoint's; requests that are poisoned, or have a bad digest; error
messages, but correctable ones; the link going down unexpectedly; parity.  An error of no endpoint fences the bridge:
nothing gets through any more until it is reset completely.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyvfio.errors import NotModelled
from pyvfio.ioda.pest import Cause, PestEntry, Transfer
from pyvfio.ioda.routing import ROUTING_IDS, RidMatch
from pyvfio.ioda.segments import Segments
from pyvfio_backends.software.hardware.dma import DmaSpace
from pyvfio_backends.software.hardware.ioda.endpoints import Endpoints
from pyvfio_backends.software.hardware.ioda.error_setup import set_up_errors
from pyvfio_backends.software.hardware.ioda.error_units import FENCES, ErrorUnit
from pyvfio_backends.software.hardware.ioda.inbound import Inbound
from pyvfio_backends.software.hardware.ioda.injection import Injected, Injector, config_address
from pyvfio_backends.software.hardware.ioda.model import Injectable, PhbModel
from pyvfio_backends.software.hardware.ioda.windows import Windows
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.host_bridges import HostBridge
from pyvfio_backends.software.hardware.pcie.port import RootPort
from pyvfio_backends.software.hardware.pcie.reporting import ErrorMessage, Severity
from pyvfio_backends.software.hardware.pcie.request import AddressType, Completion, Outcome, Request, Space

__all__ = ["Phb"]

_NO_ANSWER = Completion(Outcome.UNSUPPORTED)
_CAUSES = {
    Outcome.UNSUPPORTED: Cause.UNSUPPORTED_REQUEST,
    Outcome.ABORT: Cause.COMPLETER_ABORT,
    Outcome.TIMEOUT: Cause.TIMEOUT,
    Outcome.RETRY: Cause.TIMEOUT,
    Outcome.POISONED: Cause.PARITY,
    Outcome.ECRC: Cause.PARITY,
    Outcome.MALFORMED: Cause.UNSUPPORTED_REQUEST,
    Outcome.VIOLATION: Cause.UNSUPPORTED_REQUEST,
}
_BUS_SHIFT = 8


class Phb(HostBridge):
    """A host bridge of `model` for segment `segment`, with one root bus and, below it, root `port`.

    `memory` is the machine's, by real addresses; `m32` and `io` are where the windows are.  Addresses of `load` and
    `store` are the processor's.  `on_error` is told that something froze, or is worth a look.  Interrupt messages go to
    `inbound.deliver`, not to `on_message`; interrupt pins to `on_intx` as ever.
    """

    def __init__(
        self,
        model: PhbModel,
        memory: DmaSpace,
        port: RootPort,
        m32: Segments,
        *,
        io: Segments | None = None,
        segment: int = 0,
    ) -> None:
        self.model = model
        self.number = segment
        self.rids = array("H", [model.reserved]) * ROUTING_IDS
        self.endpoints = Endpoints(model.endpoints, self._settle)
        self.inbound = Inbound(model, memory, self.rids.__getitem__, self.strike)
        super().__init__(self.inbound, peer_to_peer=False)
        self.message_range = range(0)  # the inbound half knows messages by itself
        self.windows = Windows(model, m32, io)
        self.injector = Injector()
        self.fenced = False
        self.dead = False
        self.link_expected = False
        """Whether the link may go down without an error."""
        self.held = False
        """Whether configuration space behind the port does not answer, during a reset."""
        self.informative = False
        """Whether there was something that froze nothing."""
        self.on_error: Callable[[], None] | None = None
        self._units: dict[ErrorUnit, int] = {}
        self._guarded = False
        self._probing = False
        self.port = port
        self.root_bus = self.add_root_bus(segment)
        self.root_bus.plug(port)
        port.root_errors.on_message = self._error_message
        port.on_link = self._link_changed

    @property
    def guarded(self) -> bool:
        """Whether something is frozen, stopped, fenced, held or to be injected: accesses have to be looked at."""
        return self._guarded

    # which endpoint

    def map_rids(self, endpoint: int, match: RidMatch) -> None:
        """Have routing ids be an endpoint's."""
        rids = self.rids
        for rid in match:
            rids[rid] = endpoint

    def reset_tables(self) -> None:
        """Bring everything that software set up back to the start, and let everything go."""
        self.rids[:] = array("H", [self.model.reserved]) * ROUTING_IDS
        self.inbound.reset()
        self.windows.reset()
        self.endpoints.reset()

    # errors

    def _settle(self) -> None:
        """Note whether accesses have to be looked at at all."""
        self._guarded = bool(
            self.endpoints.frozen
            or self.endpoints.stopped
            or self.fenced
            or self.dead
            or self.held
            or self.injector.armed is not None
        )

    def strike(self, endpoint: int, entry: PestEntry) -> None:
        """An error of an endpoint."""
        self.endpoints.strike(endpoint, entry)
        self._tell()

    def fence(self) -> None:
        """An error of the bridge itself: stop everything."""
        self.fence_quietly()
        self._tell()

    def fence_quietly(self) -> None:
        """Stop everything, without an error."""
        self.fenced = True
        self._settle()

    def kill(self) -> None:
        """The bridge is broken for good."""
        self.dead = True
        self._settle()
        self._tell()

    def unfence(self) -> None:
        """Let everything go that was fenced, as a complete reset does."""
        self.fenced = False
        self._settle()

    def hold(self, held: bool) -> None:
        """Have configuration space behind the port not answer, or answer again."""
        self.held = held
        self._settle()

    def inject(self, injected: Injected | None) -> None:
        """Have the next access that it names fail; None: no longer."""
        self.injector.armed = injected
        self._settle()

    def unit_register(self, unit: ErrorUnit) -> int:
        """A unit's injection register: what was written last; ones of a bridge that is fenced or dead."""
        return (1 << 64) - 1 if self.fenced or self.dead else self._units.get(unit, 0)

    def inject_into(self, unit: ErrorUnit, errors: int) -> None:
        """Write it: have a unit find these errors.  Raise `NotModelled` for errors that do not fence the bridge."""
        if self.fenced or self.dead:
            return
        fences = FENCES.get(self.model.name, {}).get(unit, 0)
        if errors & ~fences and not errors & fences:
            raise NotModelled("errors of a host bridge's units that do not fence it", f"{self.model.name}: {errors:#x}")
        self._units[unit] = errors
        if errors & fences:
            self.fence()

    def forget_units(self) -> None:
        """Bring the units' registers back to the start."""
        self._units.clear()

    def parity(self, endpoint: int | None = None) -> None:
        """A parity error, in what an endpoint has or in the bridge itself."""
        if endpoint is None:
            self.fence()
        else:
            self.strike(endpoint, PestEntry(Transfer.OTHER, Cause.PARITY))

    def _tell(self) -> None:
        if self.on_error is not None:
            self.on_error()

    def _error_message(self, message: ErrorMessage) -> None:
        if message.severity is Severity.CORRECTABLE:
            self.informative = True
            self._tell()
            return
        fatal = message.severity is Severity.FATAL
        cause = Cause.FATAL_MESSAGE if fatal else Cause.NONFATAL_MESSAGE
        self.strike(self.rids[message.rid], PestEntry(Transfer.OTHER, cause, message.rid))

    def _link_changed(self, up: bool) -> None:
        if not up and not self.link_expected:
            rid = self.port.rid
            self.strike(self.rids[rid], PestEntry(Transfer.OTHER, Cause.FATAL_MESSAGE, rid))

    def _struck(
        self, kind: Injectable, endpoint: int, address: int, length: int, entry: PestEntry, *, write: bool
    ) -> bool:
        """Whether an injected error strikes an access; then it has."""
        injected = self.injector.take(kind, endpoint, address, length, write=write)
        if injected is None:
            return False
        causes = entry.causes & ~Cause.UNSUPPORTED_REQUEST | injected.function.cause
        self.strike(endpoint, PestEntry(entry.transfer, causes, entry.rid, entry.address))
        return True

    # configuration

    def _config_refused(self, rid: int, offset: int, length: int, *, write: bool) -> bool:
        if self.dead:
            return True
        if self._own(rid):
            return self.fenced
        endpoint = self.rids[rid]
        if self.fenced or self.held or self._config_frozen(endpoint):
            return True
        if self.injector.armed is None:
            return False
        entry = self._config_entry(rid, offset, write=write)
        address = config_address(rid, offset)
        return self._struck(Injectable.CONFIG, endpoint, address, 1, entry, write=write)

    def _config_frozen(self, endpoint: int) -> bool:
        return self.model.freezes_config and endpoint in self.endpoints.frozen

    def _own(self, rid: int) -> bool:
        """Whether a routing id is on the root bus."""
        return rid >> _BUS_SHIFT == self.root_bus.number

    def _config_entry(self, rid: int, offset: int, *, write: bool) -> PestEntry:
        how = Cause.CONFIG_WRITE if write else Cause.CONFIG_READ
        transfer = Transfer.STORE if write else Transfer.LOAD
        return PestEntry(transfer, how | Cause.UNSUPPORTED_REQUEST, rid, offset)

    def _config_error(self, rid: int, offset: int, *, write: bool) -> None:
        if not self._own(rid) and not self._probing:
            self.strike(self.rids[rid], self._config_entry(rid, offset, write=write))

    @contextmanager
    def probing(self) -> Iterator[None]:
        """While firmware looks for what is there: that nobody answers freezes nothing then."""
        self._probing = True
        try:
            yield
        finally:
            self._probing = False

    def config_read(self, segment: int, rid: int, offset: int, length: int) -> int:
        """See `RootComplex.config_read`; where nothing is, it is an error of the endpoint."""
        if self._guarded and self._config_refused(rid, offset, length, write=False):
            return (1 << 8 * length) - 1
        function = self.function(segment, rid)
        if function is None:
            self._config_error(rid, offset, write=False)
            return (1 << 8 * length) - 1
        if offset + length > len(function.config.data):
            return 0
        value = function.config.read(offset, length)
        if self._guarded and not self._own(rid) and self._config_frozen(self.rids[rid]):
            return (1 << 8 * length) - 1
        return value

    def config_write(self, segment: int, rid: int, offset: int, length: int, value: int) -> None:
        """See `RootComplex.config_write`."""
        if self._guarded and self._config_refused(rid, offset, length, write=True):
            return
        function = self.function(segment, rid)
        if function is None:
            self._config_error(rid, offset, write=True)
        elif offset + length <= len(function.config.data):
            function.config.write(offset, length, value)

    # from the processor

    def reaches(self, space: Space, address: int) -> bool:
        """See `HostBridge.reaches`."""
        return self.windows.find(space, address) is not None

    def transfer(self, request: Request) -> Completion:
        """See `RootComplex.transfer`; the address is the processor's.  What spans segments goes in pieces."""
        window = self.windows.find(request.space, request.address)
        if window is None:
            return _NO_ANSWER
        if request.length <= window.same_owner(request.address):
            return self._send(request, window.owner(request.address), window.offset)
        data = bytearray()
        address, last = request.address, request.last
        while address <= last:
            inside = self.windows.find(request.space, address)
            if inside is None:
                return _NO_ANSWER
            length = min(inside.same_owner(address), last - address + 1)
            if request.write:
                done = address - request.address
                piece = Request.store(address, request.data[done : done + length], space=request.space)
            else:
                piece = Request.read(address, length, space=request.space)
            completion = self._send(piece, inside.owner(address), inside.offset)
            if not completion.ok:
                return completion
            data += completion.data
            address += length
        return Completion(Outcome.SUCCESS, bytes(data))

    def _send(self, request: Request, endpoint: int, offset: int) -> Completion:
        """Do a request of one endpoint; `offset` is from the processor's addresses to those of the bus."""
        if self._guarded and self._access_refused(request, endpoint):
            return _NO_ANSWER
        address = request.address
        request.address = address + offset
        try:
            completion = super().transfer(request)
        finally:
            request.address = address
        if not completion.ok:
            self.strike(endpoint, self._access_entry(request, _CAUSES[completion.outcome], completion.completer))
        elif self._guarded and endpoint in self.endpoints.frozen:
            return _NO_ANSWER
        return completion

    def _access_entry(self, request: Request, cause: Cause, rid: int = 0) -> PestEntry:
        transfer = Transfer.STORE if request.write else Transfer.LOAD
        return PestEntry(transfer, Cause.MMIO | cause, rid, request.address)

    def _access_refused(self, request: Request, endpoint: int) -> bool:
        if self.fenced or self.dead or endpoint in self.endpoints.frozen:
            return True
        if self.injector.armed is None:
            return False
        kind = Injectable.IO if request.space is Space.IO else Injectable.MEMORY
        entry = self._access_entry(request, Cause.NONE)
        return self._struck(kind, endpoint, request.address, request.length, entry, write=request.write)

    # from functions

    def upstream(self, segment: int, request: Request, port: Function) -> Completion:
        """See `RootComplex.upstream`: refused when the endpoint is stopped; what goes wrong stops it.

        The bridge notes bad requests itself, as the endpoint's: its root port does not, whose errors stop all.
        """
        endpoint = self.rids[request.requester]
        if self._guarded and self._inbound_refused(request, endpoint):
            return _NO_ANSWER
        outcome = Outcome.SUCCESS
        if not request.digest and port.errors.checks_digest:
            outcome = Outcome.ECRC
        elif request.poisoned:
            outcome = Outcome.POISONED
        elif request.space is Space.IO or request.address_type is not AddressType.UNTRANSLATED:
            outcome = Outcome.UNSUPPORTED
        if outcome is Outcome.SUCCESS:
            return super().upstream(segment, request, port)
        self.strike(endpoint, self._inbound_entry(request, _CAUSES[outcome]))
        return Completion(outcome)

    def _inbound_entry(self, request: Request, cause: Cause) -> PestEntry:
        transfer = Transfer.DMA_WRITE if request.write else Transfer.DMA_READ
        return PestEntry(transfer, cause, request.requester, request.address)

    def _inbound_refused(self, request: Request, endpoint: int) -> bool:
        if self.fenced or self.dead or endpoint in self.endpoints.stopped:
            return True
        if self.injector.armed is None:
            return False
        entry = self._inbound_entry(request, Cause.NONE)
        return self._struck(Injectable.DMA, endpoint, request.address, request.length, entry, write=request.write)

    def enable_reports(self) -> None:
        """Have all functions report their errors, and bridges pass the messages on, as firmware does."""
        for _, function in self.functions():
            set_up_errors(function)
