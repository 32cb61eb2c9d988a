"""Firmware: what has been done to a machine's PCI before an operating system looks at it.

Bus numbers (`enumeration`), addresses (`allocation`), then each function is switched on for what it got, bridges are
made bus masters, and the interrupt line register names the interrupt that the pin is wired to.  All of it goes through
configuration requests, so the tree must be routable as it is built, as on a machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pcie.allocation import Layout, Pool, lay_out
from pyvfio_backends.software.hardware.pcie.bridge import Bridge
from pyvfio_backends.software.hardware.pcie.config_mechanism import ConfigAccess
from pyvfio_backends.software.hardware.pcie.enumeration import Found, FoundBus, Reserve, number_behind, number_buses
from pyvfio_backends.software.hardware.pcie.root_complex import RootBus, RootComplex

__all__ = ["Apertures", "Arrange", "Firmware", "Setup"]

Arrange = Callable[[ConfigAccess, list[FoundBus], dict[Pool, range], Reserve], Layout]
"""How addresses are given: to what is on root buses, out of apertures by pool, with a reservation for slots."""
_LINES = (10, 10, 11, 11)
_LAST_TURNED = 24


@dataclass(frozen=True, slots=True)
class Apertures:
    """The addresses that the root complex sends to devices (the last of each is one beyond)."""

    io: range = range(0x1000, 0x10000)
    memory: range = range(0xC0000000, 0xFEC00000)
    prefetchable: range = range(0x800000000, 0x1000000000)

    @property
    def pools(self) -> dict[Pool, range]:
        """By pool."""
        return {Pool.IO: self.io, Pool.MEMORY: self.memory, Pool.PREFETCHABLE: self.prefetchable}


@dataclass(slots=True)
class Setup:
    """What the firmware found and did."""

    buses: list[FoundBus]
    layout: Layout

    def functions(self) -> list[Found]:
        """All functions, bridges before what is behind them."""
        return [function for bus in self.buses for function in bus.walk()]

    def describe(self) -> str:
        """A line for each function, and one for each address that it got."""
        lines: list[str] = []
        got: dict[int, list[str]] = {}
        for one in self.layout.placed:
            what = "window" if one.bar is None else "ROM" if one.bar.rom else f"register {one.bar.register:#x}"
            text = f"    {one.pool.value} {one.address:#x}-{one.address + one.size - 1:#x} {what}"
            got.setdefault(id(one.function), []).append(text)
        for function in self.functions():
            behind = function.behind
            buses = f" buses {behind.number:02x}-{behind.last:02x}" if behind is not None else ""
            lines += [f"{function.name} {function.vendor:04x}:{function.device:04x}{buses}"]
            lines += got.get(id(function), [])
        return "\n".join(lines)


@dataclass(frozen=True)
class Firmware:
    """How it sets a machine up.

    `lines` are the interrupts that the four pins of device 0 on a root bus are wired to; the pins of the devices after
    it are turned, each by one more, up to device 24.  `arrange` gives addresses: `lay_out`, or `lay_out_downwards` for
    those of QEMU's machines.
    """

    apertures: Apertures = field(default_factory=Apertures)
    reserve: Reserve = field(default_factory=Reserve)
    lines: Sequence[int] = _LINES
    arrange: Arrange = lay_out

    def set_up(self, complex_: RootComplex) -> Setup:
        """Set up everything that a root complex has."""
        buses = [
            number_buses(complex_, bus.segment.number, bus.number, bus.last, self.reserve)
            for bus in complex_.root_buses
        ]
        return self._finish(complex_, buses, self.arrange(complex_, buses, self.apertures.pools, self.reserve))

    def set_up_behind(self, complex_: RootComplex, bridge: Bridge) -> Setup:
        """Set up what came behind a bridge after `set_up`, within the bus numbers and windows that the bridge has.

        What is behind it already is set up anew.  Nothing is done behind a bridge without bus numbers.
        """
        found = _describe(complex_, bridge)
        if not bridge.buses:
            return Setup([], Layout())
        bus = number_behind(complex_, found, bridge.buses, self.reserve)
        windows = {
            Pool.IO: bridge.io_window(),
            Pool.MEMORY: bridge.memory_window(),
            Pool.PREFETCHABLE: bridge.prefetchable_window(),
        }
        pools = {pool: range(first, max(first, last + 1)) for pool, (first, last) in windows.items()}
        return self._finish(complex_, [bus], lay_out(complex_, [bus], pools, self.reserve))

    def _finish(self, complex_: RootComplex, buses: list[FoundBus], layout: Layout) -> Setup:
        setup = Setup(buses, layout)
        without: dict[int, set[Pool]] = {}
        for function, _, pool in layout.unplaced:
            without.setdefault(id(function), set()).add(pool)
        for function in setup.functions():
            self._switch_on(complex_, function, without.get(id(function), set()))
        return setup

    def _switch_on(self, complex_: RootComplex, function: Found, without: set[Pool]) -> None:
        command = regs.PCI_COMMAND_SERR
        command |= 0 if Pool.IO in without else regs.PCI_COMMAND_IO
        command |= 0 if without - {Pool.IO} else regs.PCI_COMMAND_MEMORY
        command |= regs.PCI_COMMAND_MASTER if function.bridge else 0
        complex_.config_write(function.segment, function.rid, regs.PCI_COMMAND, 2, command)
        if function.pin:
            line = self.line(function)
            complex_.config_write(function.segment, function.rid, regs.PCI_INTERRUPT_LINE, 1, line)

    def line(self, function: Found) -> int:
        """The interrupt that a function's pin is wired to, through the bridges above it."""
        turned = function.pin - 1
        at = function
        while at.parent is not None:
            turned += at.rid >> 3 & 0x1F
            at = at.parent
        device = at.rid >> 3 & 0x1F
        turned += device if device <= _LAST_TURNED else 0
        return self.lines[turned % len(self.lines)]


def _describe(complex_: RootComplex, bridge: Bridge) -> Found:
    """A bridge that was found before, with those above it."""
    above = bridge.bus.bridge if bridge.bus is not None else None
    parent = _describe(complex_, above) if above is not None else None
    bus = bridge.bus
    segment = parent.segment if parent is not None else bus.segment.number if isinstance(bus, RootBus) else 0
    ids = bridge.config.read(regs.PCI_VENDOR_ID, 4)
    pin = bridge.config.data[regs.PCI_INTERRUPT_PIN]
    return Found(segment, bridge.rid, ids & 0xFFFF, ids >> 16, True, pin, bridge.express_type, parent=parent)
