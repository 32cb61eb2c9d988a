"""Bridges: a function with a bus behind it, the windows that lead there, and what it forwards upwards.

Memory and I/O requests go down by the windows in the header (drawn in `pyvfio.abi.pci_bridge_regs`) while the command
register lets the bridge answer, and requests of what is behind it go up while it is bus master; a request from below
for an address in its own window does not go up: nobody answers it.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pci.bar import Bar
from pyvfio_backends.software.hardware.pci.config import ConfigSpace
from pyvfio_backends.software.hardware.pcie.bus import Bus, ConventionalBus
from pyvfio_backends.software.hardware.pcie.function import Decoder, Function
from pyvfio_backends.software.hardware.pcie.reporting import ErrorMessage, Severity
from pyvfio_backends.software.hardware.pcie.request import Completion, Outcome, Request, Space

__all__ = ["Bridge", "PciBridge"]

_IO_PAGE_BITS, _MEGABYTE_BITS = 12, 20
_TYPE_BITS = 0xF
_VGA = (
    (range(0xA0000, 0xC0000), Space.MEMORY, regs.PCI_COMMAND_MEMORY),
    (range(0x3B0, 0x3BC), Space.IO, regs.PCI_COMMAND_IO),
    (range(0x3C0, 0x3E0), Space.IO, regs.PCI_COMMAND_IO),
)
"""What it forwards besides, with a display adapter behind it: the address, and what permits it."""
_ISA_END, _ISA_HOLE = 0x10000, 0x300


class Bridge(Function):
    """A bridge with header type 1; `secondary` is the bus behind it."""

    def __init__(self, config: ConfigSpace, bars: Sequence[Bar] = (), *, name: str = "") -> None:
        super().__init__(config, bars, name=name)
        self.secondary: Bus = self.make_bus()
        self._windows: list[Decoder] | None = None
        self.holds_reset = False
        config.watch(bridge_regs.PCI_BRIDGE_CONTROL, 2, self._control_written)

    def make_bus(self) -> Bus:
        """The bus behind it."""
        return Bus(self)

    @property
    def buses(self) -> range:
        """The bus numbers behind it; empty before they were given."""
        data = self.config.data
        secondary = data[bridge_regs.PCI_SECONDARY_BUS]
        return range(secondary, data[bridge_regs.PCI_SUBORDINATE_BUS] + 1) if secondary else range(0)

    @property
    def ari_forwarding(self) -> bool:
        """Whether it passes on requests to functions beyond the first eight; only a port can."""
        return False

    @property
    def passes(self) -> bool:
        """Whether anything gets through to the bus behind it: not while it is held in reset."""
        return not self.power_state and not self.holds_reset

    def egress_blocks(self, other: Function) -> bool:
        """Whether its egress control vector forbids requests to another port of the switch."""
        return False

    # down

    def decoders(self) -> list[Decoder]:
        """See `Function.decoders`: and the windows."""
        return super().decoders() + self.windows()

    def windows(self) -> list[Decoder]:
        """The windows that are open now."""
        if self._windows is None:
            command = self.config.command if not self.power_state else 0
            self._windows = []
            if command & regs.PCI_COMMAND_MEMORY:
                self._windows += [
                    Decoder(first, last, Space.MEMORY, self, None) for first, last in self.memory_windows()
                ]
            first, last = self.io_window()
            if command & regs.PCI_COMMAND_IO and first <= last:
                self._windows.append(Decoder(first, last, Space.IO, self, None))
            if self._bridge_control & bridge_regs.PCI_BRIDGE_CTL_VGA:
                self._windows += [
                    Decoder(place.start, place.stop - 1, space, self, None)
                    for place, space, bit in _VGA
                    if command & bit
                ]
        return self._windows

    def moved(self) -> None:
        """See `Function.moved`."""
        self._windows = None
        super().moved()

    def memory_windows(self) -> list[tuple[int, int]]:
        """The memory and the prefetchable window, first and last address, as far as they are open."""
        windows = (self.memory_window(), self.prefetchable_window())
        return [(first, last) for first, last in windows if first <= last and last >= 1 << _MEGABYTE_BITS]

    def memory_window(self) -> tuple[int, int]:
        """The window for memory below 4 GiB; empty when the first comes after the last."""
        read = self.config.read
        return _window(read(bridge_regs.PCI_MEMORY_BASE, 2), read(bridge_regs.PCI_MEMORY_LIMIT, 2))

    def prefetchable_window(self) -> tuple[int, int]:
        """The window for prefetchable memory, of 64 bits where the bridge has that; or empty."""
        read = self.config.read
        low, high = (read(at, 2) for at in (bridge_regs.PCI_PREF_MEMORY_BASE, bridge_regs.PCI_PREF_MEMORY_LIMIT))
        upper = (0, 0)
        if low & _TYPE_BITS == bridge_regs.PCI_PREF_RANGE_TYPE_64:
            upper = (read(bridge_regs.PCI_PREF_BASE_UPPER32, 4), read(bridge_regs.PCI_PREF_LIMIT_UPPER32, 4))
        return _window(low, high, *upper)

    def io_window(self) -> tuple[int, int]:
        """The I/O window, first and last port; empty when the first comes after the last."""
        data = self.config.data
        base, limit = data[bridge_regs.PCI_IO_BASE], data[bridge_regs.PCI_IO_LIMIT]
        first, last = ((value & ~_TYPE_BITS) << _IO_PAGE_BITS - 4 for value in (base, limit))
        if base & _TYPE_BITS == bridge_regs.PCI_IO_RANGE_TYPE_32:
            first |= self.config.read(bridge_regs.PCI_IO_BASE_UPPER16, 2) << 16
            last |= self.config.read(bridge_regs.PCI_IO_LIMIT_UPPER16, 2) << 16
        return first, last | (1 << _IO_PAGE_BITS) - 1

    def receive(self, request: Request, decoder: Decoder) -> Completion:
        """See `Function.receive`: what a window claims is forwarded."""
        return super().receive(request, decoder) if decoder.bar is not None else self.forward(request)

    def forward(self, request: Request) -> Completion:
        """Forward a request down to the bus behind it."""
        refused = self.check_forwarded(request)
        if refused is not None:
            return refused
        isa = request.space is Space.IO and self._bridge_control & bridge_regs.PCI_BRIDGE_CTL_ISA
        if not self.passes or (isa and request.address < _ISA_END and request.address & _ISA_HOLE):
            self.errors.refused(Outcome.UNSUPPORTED, request)
            return Completion(Outcome.UNSUPPORTED, completer=self.rid)
        completion = self.secondary.deliver(request)
        if completion.outcome is Outcome.TIMEOUT:
            return completion
        if not completion.ok:
            self._note_completion(completion)
        return completion

    def check_forwarded(self, request: Request) -> Completion | None:
        """What ends a request on its way through.  Poison and end-to-end CRC are left to the end of the way."""
        return None

    def _note_completion(self, completion: Completion) -> None:
        bits = {
            Outcome.UNSUPPORTED: regs.PCI_STATUS_REC_MASTER_ABORT,
            Outcome.ABORT: regs.PCI_STATUS_REC_TARGET_ABORT,
        }.get(completion.outcome, 0)
        self._secondary_status(bits)

    # up

    def ascend(self, request: Request, source: Function) -> Completion:
        """Take a request from below: forward it to the bus that the bridge is on, if it may."""
        if not self.control.master or not self.passes or self.bus is None:
            self.errors.refused(Outcome.UNSUPPORTED, request)
            return Completion(Outcome.UNSUPPORTED, completer=self.rid)
        if not request.redirected and self.claims(request):
            self.errors.refused(Outcome.UNSUPPORTED, request)
            return Completion(Outcome.UNSUPPORTED, completer=self.rid)
        return self.bus.ascend(request, self)

    def claims(self, request: Request) -> bool:
        """Whether an address is in one of its windows."""
        first, last = request.address, request.last
        space = request.space
        return any(one.space is space and one.first <= last and first <= one.last for one in self.windows())

    def forward_error(self, message: ErrorMessage) -> None:
        """Take an error message from below, and pass it on if bridge control lets it."""
        if message.severity is not Severity.CORRECTABLE:
            self._secondary_status(regs.PCI_STATUS_SIG_SYSTEM_ERROR)
        if self._bridge_control & bridge_regs.PCI_BRIDGE_CTL_SERR and self.bus is not None:
            self.report(message)

    def forward_power_event(self, rid: int) -> None:
        """Take a power management event from below, and pass it on."""
        if self.bus is not None:
            self.bus.power_event(rid)

    # control

    @property
    def _bridge_control(self) -> int:
        return self.config.read(bridge_regs.PCI_BRIDGE_CONTROL, 2)

    def _secondary_status(self, bits: int) -> None:
        if bits:
            status = self.config.read(bridge_regs.PCI_SEC_STATUS, 2)
            self.config.put(bridge_regs.PCI_SEC_STATUS, 2, status | bits)

    def _control_written(self, before: int, ones: int) -> None:
        self.moved()
        held = self.holds_reset
        self.holds_reset = bool(self._bridge_control & bridge_regs.PCI_BRIDGE_CTL_BUS_RESET)
        if self.holds_reset and not held:
            self.reset_secondary()

    def reset_secondary(self) -> None:
        """Reset everything behind it (hot reset)."""
        for function in [one for one in self.secondary.functions.values() if not one.virtual]:
            function.reset()

    def reset(self, *, cold: bool = False) -> None:
        """See `Function.reset`: what is behind is reset too."""
        for function in [one for one in self.secondary.functions.values() if not one.virtual]:
            function.reset(cold=cold)
        super().reset(cold=cold)

    def reset_self(self, *, cold: bool = False) -> None:
        """See `Function.reset_self`."""
        self.holds_reset = False
        super().reset_self(cold=cold)


def _window(base: int, limit: int, base_upper: int = 0, limit_upper: int = 0) -> tuple[int, int]:
    first = base_upper << 32 | (base & ~_TYPE_BITS) << 16
    return first, limit_upper << 32 | (limit & ~_TYPE_BITS) << 16 | (1 << _MEGABYTE_BITS) - 1


class PciBridge(Bridge):
    """A bridge to a conventional PCI bus: requests of all that is behind it carry its own name."""

    def make_bus(self) -> Bus:
        """See `Bridge.make_bus`."""
        return ConventionalBus(self)
