"""Every register of every function of lab-x86, written with random values in random order.

Configuration space is written as root does, by the functions' files in sysfs, with Linux above that enables, takes
interrupts, finds errors, powers slots, and behind its back; registers behind base addresses are written where they are.
Nothing may break, and at no time may a function be in a state that the architecture forbids (`_Watched.check`).
``PYVFIO_STEPS=1000000`` makes it a million.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.backend import Backend, open_backend
from pyvfio.errors import PyvfioError
from pyvfio_backends.software.hardware.pcie.bridge import Bridge
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.port import RootPort
from pyvfio_backends.software.hardware.pcie.request import Completion, Outcome, Request, Space
from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex
from pyvfio_backends.software.hardware.zpci.bar import Unmapped

STEPS = int(os.environ.get("PYVFIO_STEPS", "20000"))
OFTEN = 2000
DEVICES = "/sys/bus/pci/devices"
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


@pytest.fixture
def backend() -> Iterator[Backend]:
    with open_backend("software", machine="lab-x86") as opened:
        yield opened


def _functions(machine: Any) -> dict[str, Function]:
    """All functions that are plugged, by address at the start."""
    found: dict[str, Function] = {}
    for number in range(0x100):
        for devfn in range(0x100):
            function = machine.pcie.function(0, number << 8 | devfn)
            if function is not None:
                found[f"0000:{number:02x}:{devfn >> 3:02x}.{devfn & 7}"] = function
    return found


def _chain(function: Function) -> list[tuple[int, int]]:
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


class _Watched:
    """A function and what must not change of it."""

    def __init__(self, name: str, function: Function) -> None:
        self.name, self.function = name, function
        data = function.config.data
        self.fixed = {at: data[at] for at in _READ_ONLY}
        self.chain = _chain(function)
        self.types = {
            index: data[self._bar(index)] & _TYPE_BITS for index in function.bars if index < regs.PCI_STD_NUM_BARS
        }

    @staticmethod
    def _bar(index: int) -> int:
        return regs.PCI_BASE_ADDRESS_0 + 4 * index

    def check(self, root: _Root) -> None:
        """All that the architecture forbids."""
        self._check_identity()
        self._check_reserved()
        self._check_requests(root)
        if isinstance(self.function, Bridge):
            self._check_windows(self.function)

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

    def _check_requests(self, root: _Root) -> None:
        """Who is no bus master, or sleeps, sends neither requests nor messages; what does come out `_Root` looks at."""
        function = self.function
        may = function.config.command & regs.PCI_COMMAND_MASTER and not function.power_state
        root.sent, root.sender = Request.read(1 << 20, 4), function
        outcome = function.send(root.sent).outcome
        assert may or outcome is Outcome.UNSUPPORTED, f"{self.name}: it sent a request"
        function.send_message(0xFEE00000, 0)

    def _check_windows(self, bridge: Bridge) -> None:
        """Windows are as coarse as their registers, of the kind that these say, and shut unless decoding is on."""
        command, power = bridge.config.command, bridge.power_state
        vga = bridge.config.read(bridge_regs.PCI_BRIDGE_CONTROL, 2) & bridge_regs.PCI_BRIDGE_CTL_VGA
        for window in bridge.windows():
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

    def _check_identity(self) -> None:
        """Identity, capabilities and kinds of base addresses stay; addresses are aligned to what they decode."""
        function, data = self.function, self.function.config.data
        assert {at: data[at] for at in self.fixed} == self.fixed, f"{self.name}: what can only be read has changed"
        assert _chain(function) == self.chain, f"{self.name}: the chain of capabilities has changed"
        for index, kind in self.types.items():
            value = int.from_bytes(data[self._bar(index) : self._bar(index) + 4], "little")
            low = (min(function.bars[index].size, 1 << 32) - 1) & ~_TYPE_BITS
            assert not value & low, f"{self.name}: BAR {index} is not aligned"
            mask = _PORT_BITS if kind & regs.PCI_BASE_ADDRESS_SPACE_IO else _TYPE_BITS
            assert value & mask == kind & mask, f"{self.name}: BAR {index} is of another kind"
        assert 0 <= function.power_state <= 3
        if function.power_state or not int.from_bytes(data[regs.PCI_COMMAND : regs.PCI_COMMAND + 2], "little") & 3:
            assert function.decoders() == [], f"{self.name}: it answers although it must not"


class _Root:
    """Looks at all that leaves the tree: only bus masters that are awake may be where it comes from."""

    def __init__(self, complex_: RootComplex) -> None:
        self.came = 0
        self.sent: Request | None = None
        """A request of a test's own, and who sends it: all bridges on its way are looked at, too."""
        self.sender: Function | None = None
        self._take = complex_.upstream
        complex_.upstream = self.upstream  # type: ignore[method-assign]

    def upstream(self, segment: int, request: Request, port: Function) -> Completion:
        self.came += 1
        way: Function | None = self.sender if request is self.sent else port
        while way is not None:
            assert way.config.command & regs.PCI_COMMAND_MASTER, f"{way}: it is no bus master"
            assert not way.power_state, f"{way}: it sleeps"
            way = way.bus.bridge if way.bus is not None else None
        return self._take(segment, request, port)


def _value(dice: random.Random, size: int) -> int:
    return dice.choice((0, (1 << 8 * size) - 1, 1 << dice.randrange(8 * size), dice.getrandbits(8 * size)))


def _place(dice: random.Random, size: int) -> int:
    return dice.randrange(0, dice.choice((0x40, 0x100, 0x100, 0x200, 0x1000)), size)


def _by_linux(backend: Backend, path: str, dice: random.Random) -> None:
    size = dice.choice((1, 2, 4))
    at = _place(dice, size)
    fd = backend.open(path, os.O_RDWR)
    try:
        if dice.random() < 0.2:
            backend.pread(fd, size, at)
        else:
            backend.pwrite(fd, _value(dice, size).to_bytes(size, "little"), at)
    finally:
        backend.close(fd)


def _behind_its_back(machine: Any, function: Function, dice: random.Random) -> None:
    """A write that Linux knows nothing of; it reaches functions that no bridge forwards to any more."""
    size = dice.choice((1, 2, 4))
    with machine.lock:
        at = _place(dice, size)
        if at + size <= len(function.config.data):
            function.config.write(at, size, _value(dice, size))
        machine.clock.settle()


def _write_bar(machine: Any, function: Function, dice: random.Random) -> None:
    bars = list(function.bars.values())
    if not bars:
        return
    bar = dice.choice(bars)
    size = dice.choice((1, 2, 4, 4, 8))
    near = min(bar.size, dice.choice((0x40, 0x100, 0x1000, bar.size)))
    if near < size:
        return
    at = dice.randrange(0, near - size + 1, size)
    with machine.lock:
        try:
            if dice.random() < 0.3:
                bar.read(at, size)
            else:
                bar.write(at, size, dice.getrandbits(8 * size))
        except (Unmapped, PyvfioError):
            pass  # nobody there, or not modelled and said so
        machine.clock.settle()


def test_random_registers(backend: Backend) -> None:
    machine = backend.machine  # type: ignore[attr-defined]
    watched = [_Watched(name, function) for name, function in _functions(machine).items()]
    assert len(watched) == 36
    root = _Root(machine.pcie)
    dice = random.Random(6)
    ways = dict.fromkeys(("Linux", "hardware", "BAR", "refused"), 0)
    for step in range(STEPS):
        one, way = dice.choice(watched), dice.choice(("Linux", "Linux", "hardware", "BAR"))
        ways[way] += 1
        if way == "BAR":
            _write_bar(machine, one.function, dice)
        elif way == "hardware":
            _behind_its_back(machine, one.function, dice)
        else:
            try:
                _by_linux(backend, f"{DEVICES}/{one.name}/config", dice)
            except (OSError, PyvfioError):
                ways["refused"] += 1  # it is unplugged by now, or what it does is not modelled
        if step % OFTEN == OFTEN - 1:
            machine.clock.advance(0.5)
            for each in watched:
                each.check(root)
    for each in watched:
        each.check(root)
    assert ways["refused"] < STEPS // 3, ways
    assert root.came
    with open_backend("software", machine="lab-x86") as another:  # and nothing of it is left
        assert len(another.listdir(DEVICES)) == len(watched)
