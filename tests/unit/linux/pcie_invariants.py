"""States of PCI Express hardware that the architecture forbids: looked for in all functions of a machine.

`Watched` is one function and what must never change of it, `Tree` what leaves the tree and what belongs to no function
alone.  Every check names the function and what is wrong.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.errors import NotModelled
from pyvfio_backends.software.hardware.pcie import access
from pyvfio_backends.software.hardware.pcie.bridge import Bridge
from pyvfio_backends.software.hardware.pcie.bus import Bus
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.host_bridges import HostBridges
from pyvfio_backends.software.hardware.pcie.port import DownstreamPort, RootPort
from pyvfio_backends.software.hardware.pcie.request import Completion, Outcome, Request, Space
from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex
from pyvfio_backends.software.hardware.pcie.sriov import VirtualFunction

__all__ = ["Tree", "Watched", "chain", "every_function"]

_READ_ONLY = (
    *range(regs.PCI_VENDOR_ID, regs.PCI_COMMAND),
    *range(regs.PCI_CLASS_REVISION, regs.PCI_CACHE_LINE_SIZE),
    *(regs.PCI_HEADER_TYPE, regs.PCI_CAPABILITY_LIST, regs.PCI_INTERRUPT_PIN),
)
_TYPE_BITS, _PORT_BITS = 0xF, 0x3
_Registers = tuple[tuple[int, int, int], ...]
"""Offset, bytes and the bits that are reserved."""
_RESERVED_HEADER: _Registers = ((regs.PCI_COMMAND, 2, 0xF800), (regs.PCI_STATUS, 2, 0x0006))
_RESERVED_BRIDGE: _Registers = ((bridge_regs.PCI_BRIDGE_CONTROL, 2, 0xF000), (bridge_regs.PCI_SEC_STATUS, 2, 0x001F))
_WINDOW_KINDS = (
    (bridge_regs.PCI_IO_BASE, 1),
    (bridge_regs.PCI_MEMORY_BASE, 2),
    (bridge_regs.PCI_PREF_MEMORY_BASE, 2),
)
"""Where the bases of windows are; their limits follow."""
_RESERVED: dict[int, _Registers] = {
    regs.PCI_CAP_ID_PM: ((regs.PCI_PM_CTRL, 2, 0x00F4),),
    regs.PCI_CAP_ID_MSI: ((regs.PCI_MSI_FLAGS, 2, 0xFE00), (regs.PCI_MSI_ADDRESS_LO, 4, 0x3)),
    regs.PCI_CAP_ID_MSIX: ((regs.PCI_MSIX_FLAGS, 2, 0x3800),),
    regs.PCI_CAP_ID_EXP: (
        (regs.PCI_EXP_FLAGS, 2, 0x8000),
        (regs.PCI_EXP_DEVSTA, 2, 0xFF80),
    ),
}
"""Of the conventional capabilities, by id (PCI Local Bus 3.0; PCI Express 6.0, 7.5)."""
_RESERVED_ROOT: _Registers = (
    (express.PCI_EXP_LNKCTL, 2, 0x3000),
    (express.PCI_EXP_SLTCTL, 2, 0x8000),
    (express.PCI_EXP_RTCTL, 2, 0xFFC0),
    (express.PCI_EXP_RTSTA, 4, 0xFFFC0000),
)
"""Of PCI Express, those that every root port has, and not every other function."""
_RESERVED_EXTENDED: dict[int, _Registers] = {
    extended.PCI_EXT_CAP_ID_ERR: (
        (extended.PCI_ERR_COR_STATUS, 4, 0xFFFE0E3E),
        (extended.PCI_ERR_COR_MASK, 4, 0xFFFE0E3E),
        (extended.PCI_ERR_UNCOR_STATUS, 4, 0x00000FCE),
        (extended.PCI_ERR_UNCOR_MASK, 4, 0x00000FCE),
        (extended.PCI_ERR_UNCOR_SEVER, 4, 0x00000FCE),
    ),
    regs.PCI_EXT_CAP_ID_SRIOV: ((regs.PCI_SRIOV_CTRL, 2, 0xFF80),),
    regs.PCI_EXT_CAP_ID_ACS: ((regs.PCI_ACS_CTRL, 2, 0xE000),),
    extended.PCI_EXT_CAP_ID_DPC: ((extended.PCI_EXP_DPC_STATUS, 2, 0xE000),),
}
"""Of the extended ones (PCI Express 6.0, 7.7 to 7.9, 9.3)."""
_LOG_QUEUE = 8
_END = {Space.MEMORY: 1 << 64, Space.IO: 1 << 32}
_PROBES = 16


def every_function(complex_: RootComplex | HostBridges[Any]) -> list[Function]:
    """All functions that are plugged, whether or not a bridge has a number for their bus; virtual ones too."""
    found: list[Function] = []

    def look(bus: Bus) -> None:
        for function in bus.functions.values():
            found.append(function)
            if isinstance(function, Bridge):
                look(function.secondary)

    for bus in complex_.root_buses:
        look(bus)
    return found


def chain(function: Function) -> list[tuple[int, int]]:
    """Where its capabilities are and what they are, extended ones too."""
    data = function.config.data
    found = []
    at = data[regs.PCI_CAPABILITY_LIST]
    while at:
        found.append((at, data[at]))
        at = data[at + regs.PCI_CAP_LIST_NEXT]
        assert len(found) < len(data), "the chain of capabilities is a ring"
    at = regs.PCI_CFG_SPACE_SIZE if len(data) > regs.PCI_CFG_SPACE_SIZE else 0
    while at:
        head = int.from_bytes(data[at : at + 4], "little")
        found.append((at, head & 0xFFFFF))
        at = head >> 20
        assert len(found) < len(data), "the chain of extended capabilities is a ring"
    return found


class Watched:
    """A function and what must not change of it."""

    def __init__(self, name: str, function: Function) -> None:
        self.name, self.function = name, function
        data = function.config.data
        self.fixed = {at: data[at] for at in _READ_ONLY}
        self.chain = chain(function)
        self.types = {
            index: data[self._bar(index)] & _TYPE_BITS for index in function.bars if index < regs.PCI_STD_NUM_BARS
        }

    @staticmethod
    def _bar(index: int) -> int:
        return regs.PCI_BASE_ADDRESS_0 + 4 * index

    def check(self, tree: Tree) -> None:
        """All that the architecture forbids."""
        self._check_identity()
        self._check_reserved()
        self._check_power()
        self._check_interrupts()
        self._check_requests(tree)
        if isinstance(self.function, Bridge):
            self._check_windows(self.function)
        if isinstance(self.function, DownstreamPort):
            self._check_link(self.function)

    def _where(self, number: int, *, extended: bool = False) -> int | None:
        return self.function.offset(number, extended=extended)

    def _check_identity(self) -> None:
        """Identity, capabilities and kinds of base addresses stay; addresses are aligned to what they decode."""
        function, data = self.function, self.function.config.data
        assert {at: data[at] for at in self.fixed} == self.fixed, f"{self.name}: what can only be read has changed"
        assert chain(function) == self.chain, f"{self.name}: the chain of capabilities has changed"
        for index, kind in self.types.items():
            value = int.from_bytes(data[self._bar(index) : self._bar(index) + 4], "little")
            low = (min(function.bars[index].size, 1 << 32) - 1) & ~_TYPE_BITS
            assert not value & low, f"{self.name}: BAR {index} is not aligned"
            mask = _PORT_BITS if kind & regs.PCI_BASE_ADDRESS_SPACE_IO else _TYPE_BITS
            assert value & mask == kind & mask, f"{self.name}: BAR {index} is of another kind"

    def _check_reserved(self) -> None:
        """Bits that the specifications reserve are zero, whatever was written."""
        config = self.function.config
        header = _RESERVED_BRIDGE if config.is_bridge else ()
        for at, size, mask in (*_RESERVED_HEADER, *header):
            assert not config.read(at, size) & mask, f"{self.name}: reserved bits at {at:#x} are set"
        for at, number in self.chain:
            registers = _RESERVED if at < regs.PCI_CFG_SPACE_SIZE else _RESERVED_EXTENDED
            found = registers.get(number & 0xFFFF, ())
            if number == regs.PCI_CAP_ID_EXP and isinstance(self.function, RootPort):
                found = (*found, *_RESERVED_ROOT)
            for register, size, mask in found:
                value = config.read(at + register, size)
                assert not value & mask, f"{self.name}: {value:#x} at {register:#x} of capability {number & 0xFFFF:#x}"

    def _check_power(self) -> None:
        """It is in a state that it has; it answers nothing while it sleeps or decoding is off."""
        function = self.function
        at = self._where(regs.PCI_CAP_ID_PM)
        able = 0 if at is None else function.config.read(at + regs.PCI_PM_PMC, 2)
        states = {0, 3} if at is not None else {0}
        states |= {1} if able & regs.PCI_PM_CAP_D1 else set()
        states |= {2} if able & regs.PCI_PM_CAP_D2 else set()
        assert function.power_state in states, f"{self.name}: it is in D{function.power_state}, which it has not"
        if function.power_state or not function.config.command & (regs.PCI_COMMAND_IO | regs.PCI_COMMAND_MEMORY):
            assert function.decoders() == [], f"{self.name}: it answers although it must not"

    def _check_interrupts(self) -> None:
        """The pin: shown as it is, let out as the command register says.  Messages: none pending that may go out."""
        function = self.function
        shown = bool(function.config.read(regs.PCI_STATUS, 2) & regs.PCI_STATUS_INTERRUPT)
        assert shown == function.pin.asserted, f"{self.name}: the status register does not show the pin"
        if function.bus is not None:
            forbidden = bool(function.config.command & regs.PCI_COMMAND_INTX_DISABLE)
            assert function.pin.out == (shown and not forbidden), f"{self.name}: the pin is let out, or is not, wrongly"
        if function.msi is not None:
            sender = function.msi
            assert sender.enabled in (0, 1, 2, 4, 8, 16, 32)
            assert sender.enabled <= sender.declared.vectors
            if sender.enabled and sender.declared.maskable:
                mask = sender.offset + sender.declared.mask_offset
                waiting = function.config.read(mask + 4, 4) & ~function.config.read(mask, 4)
                assert not waiting, f"{self.name}: MSI vectors {waiting:#x} are pending and not masked"
        if function.msix is not None:
            table = function.msix
            size = table.size - table.pending_offset
            for at in range(table.pending_offset, table.pending_offset + size, 8):
                first = 8 * (at - table.pending_offset)
                beyond = table.read(at, 8) >> max(0, min(64, table.vectors - first))
                assert not beyond, f"{self.name}: vectors are pending that there are not"
        assert len(function.errors.queue) <= _LOG_QUEUE

    def _check_requests(self, tree: Tree) -> None:
        """Who is no bus master, or sleeps, sends neither requests nor messages; what does come out `Tree` looks at."""
        function = self.function
        may = function.config.command & regs.PCI_COMMAND_MASTER and not function.power_state
        tree.sent, tree.sender = Request.read(1 << 20, 4), function
        try:
            outcome = function.send(tree.sent).outcome
        except NotModelled:  # it reached registers of another device
            outcome = Outcome.SUCCESS
        assert may or outcome is Outcome.UNSUPPORTED, f"{self.name}: it sent a request"
        function.send_message(0xFEE00000, 0)
        assert function.control == access.read_control(function), f"{self.name}: it goes by registers of a while ago"

    def _check_windows(self, bridge: Bridge) -> None:
        """Windows are as coarse as their registers, of the kind that these say, and shut unless decoding is on."""
        command, power = bridge.config.command, bridge.power_state
        vga = bridge.config.read(bridge_regs.PCI_BRIDGE_CONTROL, 2) & bridge_regs.PCI_BRIDGE_CTL_VGA
        before = bridge.windows()
        for window in before:
            bit = regs.PCI_COMMAND_IO if window.space is Space.IO else regs.PCI_COMMAND_MEMORY
            assert command & bit, f"{self.name}: a window is open although decoding is off"
            assert not power, f"{self.name}: a window is open although it sleeps"
            assert window.first <= window.last
            grain = 1 << 12 if window.space is Space.IO else 1 << 20
            if not vga:
                assert not window.first % grain, f"{self.name}: a window begins at {window.first:#x}"
                assert not (window.last + 1) % grain, f"{self.name}: a window ends at {window.last:#x}"
        for at, size in _WINDOW_KINDS:
            kind = bridge.config.read(at, size) & 0xF
            assert kind == bridge.config.read(at + size, size) & 0xF, (
                f"{self.name}: kinds of a window differ at {at:#x}"
            )
            assert kind in (0, 1), f"{self.name}: a window is of a kind that there is not"

    def _check_link(self, port: DownstreamPort) -> None:
        """The link is up only where a card with power is, nobody disabled it and nothing is contained; all is shown."""
        at = self._where(regs.PCI_CAP_ID_EXP)
        assert at is not None
        status = port.config.read(at + regs.PCI_EXP_LNKSTA, 2)
        if port.link_up:
            assert port.present, f"{self.name}: the link is up and nobody is there"
            assert port.powered, f"{self.name}: the link is up without power"
            assert not port.containment.active, f"{self.name}: the link is up although an error is contained"
            disabled = port.config.read(at + express.PCI_EXP_LNKCTL, 2) & express.PCI_EXP_LNKCTL_LD
            assert not disabled, f"{self.name}: the link is up and disabled"
        assert bool(status & express.PCI_EXP_LNKSTA_DLLLA) == port.link_up, f"{self.name}: it shows another link"
        if port.slot is not None:
            shown = port.config.read(at + express.PCI_EXP_SLTSTA, 2)
            assert bool(shown & express.PCI_EXP_SLTSTA_PDS) == port.present, f"{self.name}: it shows another card"
            assert bool(shown & express.PCI_EXP_SLTSTA_MRLSS) == port.slot.latch_open
            assert bool(shown & express.PCI_EXP_SLTSTA_EIS) == port.slot.interlock


class Tree:
    """What belongs to no function alone; and all that leaves the tree is looked at.

    Only bus masters that are awake may be where a request that arrives comes from.
    """

    def __init__(self, complex_: RootComplex | HostBridges[Any], dice: random.Random) -> None:
        self.complex = complex_
        self.came = 0
        self.sent: Request | None = None
        """A request of a test's own, and who sends it: all bridges on its way are looked at, too."""
        self.sender: Function | None = None
        self._dice = dice
        parts = list(complex_.phbs.values()) if isinstance(complex_, HostBridges) else [complex_]
        for part in parts:
            part.upstream = partial(self.upstream, part.upstream)  # type: ignore[method-assign]

    def upstream(
        self, take: Callable[[int, Request, Function], Completion], segment: int, request: Request, port: Function
    ) -> Completion:
        self.came += 1
        way: Function | None = self.sender if request is self.sent else port
        while way is not None:
            assert way.config.command & regs.PCI_COMMAND_MASTER, f"{way}: it is no bus master"
            assert not way.power_state, f"{way}: it sleeps"
            way = way.bus.bridge if way.bus is not None else None
        return take(segment, request, port)

    def check(self) -> None:
        """Functions and buses agree, and nobody routes by what the registers said a while ago."""
        for function in every_function(self.complex):
            assert function.bus is not None
            assert function.bus.functions[function.devfn] is function
            for one in function.decoders():
                port_0 = function.bus.has_port_0 and one.space is Space.IO
                assert one.first or one.bar is None or port_0, f"{function}: it answers by a register that is 0"
                assert 0 <= one.first <= one.last < _END[one.space], f"{function}: it answers {one.first:#x} on"
            if isinstance(function, VirtualFunction):
                self.check_virtual(function)
            if isinstance(function, Bridge):
                self._check_routes(function.secondary)
        for bus in self.complex.root_buses:
            self._check_routes(bus)

    def check_beside(self, function: Function) -> None:
        """The virtual functions of a function, if it has any."""
        for one in function.bus.functions.values() if function.bus is not None else ():
            if isinstance(one, VirtualFunction):
                self.check_virtual(one)

    def check_virtual(self, function: VirtualFunction) -> None:
        """Its parent is beside it and has no more than it says; it answers nothing while their memory is off."""
        physical = function.physical
        assert physical is not None
        assert physical.function.bus is function.bus, f"{function}: its parent is elsewhere"
        assert function in physical.active, f"{function}: its parent knows nothing of it"
        assert len(physical.active) == physical.number <= physical.declared.total, f"{function}: one too many"
        if not physical.memory:
            assert not function.decoders(), f"{function}: it answers although its memory is off"

    def _check_routes(self, bus: Bus) -> None:
        """The tables of a bus, which are kept, are those that the registers give now."""
        numbers = [self._dice.randrange(0x100) for _ in range(_PROBES)]
        decoders = [one for function in bus.functions.values() for one in function.decoders()]
        asked = [
            Request.read(self._dice.choice((one.first, one.last, one.last + 1)), 1, space=one.space)
            for one in self._dice.sample(decoders, min(_PROBES, len(decoders)))
        ]
        before: list[Any] = [*(bus.bridge_to(one) for one in numbers), *(bus.claim(one) for one in asked)]
        for bridge in bus.bridges():
            bridge.moved()
        bus.forget()
        assert before == [*(bus.bridge_to(one) for one in numbers), *(bus.claim(one) for one in asked)], (
            f"bus {bus.number:#x}: it goes by registers of a while ago"
        )
