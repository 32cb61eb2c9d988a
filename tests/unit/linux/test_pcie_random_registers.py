"""Every register of every function of the machines with PCI Express, written with random values in random order.

Configuration space is written as root does, by the functions' files in sysfs, with Linux above that enables, takes
interrupts, finds errors, powers slots, and behind its back; registers behind base addresses are written where they are.
Nothing may break, and at no time may the hardware be in a state that the architecture forbids (`pcie_invariants`); at
the end a cold reset brings everything back.  ``PYVFIO_STEPS=1000000`` makes it a million for each machine, in rounds
that each begin with a new machine: one that was written to for long has most of its slots off.
"""

from __future__ import annotations

import contextlib
import os
import random
from typing import Any

import pytest
from pcie_invariants import Tree, Watched, chain, every_function

from pyvfio.abi import pci_regs as regs
from pyvfio.backend import Backend, open_backend
from pyvfio.errors import NotModelled, PyvfioError
from pyvfio_backends.software import software_of
from pyvfio_backends.software.hardware.ioda.hub import Hub
from pyvfio_backends.software.hardware.ioda.placement import apertures, arrange
from pyvfio_backends.software.hardware.pci.bar import Unmapped
from pyvfio_backends.software.hardware.pcie.allocation import Pool
from pyvfio_backends.software.hardware.pcie.firmware import Firmware, Setup
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.port import DownstreamPort
from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex
from pyvfio_backends.software.hardware.spapr.hypervisor import LogicalBridges
from pyvfio_backends.software.spapr_tree import start_bridges
from pyvfio_fixtures import machines

STEPS = int(os.environ.get("PYVFIO_STEPS", "4000"))
ROUND = 10_000
"""Steps that one machine is put through."""
OFTEN = 500
CLOSE = 40
"""Steps for which one structure of one function is written to more than others."""
ROOM = 0x40
"""Bytes of a header, and of a capability at most."""
CHANGES = 0.01
"""How often a card comes or goes."""
DEVICES = "/sys/bus/pci/devices"
MACHINES = [name for name, path in machines().items() if "[[pcie." in path.read_text()]


def test_there_are_machines() -> None:
    assert {"contract-x86", "lab-x86", "q35-switch", "x86-copiers", "x86-no-iommu"} <= set(MACHINES)


def _value(dice: random.Random, size: int) -> int:
    return dice.choice((0, (1 << 8 * size) - 1, 1 << dice.randrange(8 * size), dice.getrandbits(8 * size)))


def _place(dice: random.Random, size: int, places: list[int]) -> int:
    """Mostly where something can be written."""
    at = dice.choice(places) if dice.random() < 0.7 else dice.randrange(dice.choice((0x40, 0x100, 0x1000)))
    return at // size * size


def _places(function: Function) -> list[list[int]]:
    """The bytes of the header and of each capability that have bits which a write changes."""
    config = function.config
    found = {at for masks in (config.writable, config.clearable) for at, mask in enumerate(masks) if mask}
    starts = sorted([0, *(at for at, _ in chain(function))])
    ends = [*starts[1:], len(config.data)]
    parts = [
        [at for at in range(start, min(end, start + ROOM)) if at in found]
        for start, end in zip(starts, ends, strict=False)
    ]
    return [part for part in parts if part]


def _by_linux(backend: Backend, path: str, dice: random.Random, places: list[int]) -> None:
    size = dice.choice((1, 2, 4))
    at = _place(dice, size, places)
    fd = backend.open(path, os.O_RDWR)
    try:
        if dice.random() < 0.2:
            backend.pread(fd, size, at)
        else:
            backend.pwrite(fd, _value(dice, size).to_bytes(size, "little"), at)
    finally:
        backend.close(fd)


def _behind_its_back(machine: Any, function: Function, dice: random.Random, places: list[int]) -> None:
    """A write that Linux knows nothing of; it reaches functions that no bridge forwards to any more."""
    size = dice.choice((1, 2, 4))
    with machine.lock:
        at = _place(dice, size, places)
        if at + size <= len(function.config.data):
            with contextlib.suppress(NotModelled):  # registers that configuration space leads to
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


def _signal(machine: Any, function: Function, dice: random.Random) -> None:
    """What a device does of its own: a message, or a change of its pin."""
    with machine.lock:
        with contextlib.suppress(NotModelled):  # registers of another function, to which a message may go
            if dice.random() < 0.7:
                function.signal(dice.randrange(8))
            else:
                function.set_intx(dice.random() < 0.5)
        machine.clock.settle()


class _Cards:
    """Somebody who takes cards out by surprise, and puts back what is out, by whomever."""

    def __init__(self, watched: list[Watched]) -> None:
        functions = [one.function for one in watched]
        ports = [one for one in functions if isinstance(one, DownstreamPort) and one.slot is not None]
        self.cards = {port: dict(port.secondary.functions) for port in ports if port.secondary.functions}

    def change(self, machine: Any, dice: random.Random) -> None:
        if not self.cards:
            return
        empty = [port for port in self.cards if not port.secondary.functions]
        port = dice.choice(empty or list(self.cards))
        with machine.lock:
            if port in empty:
                port.plug_all({devfn: one for devfn, one in self.cards[port].items() if not one.virtual})
            else:
                port.unplug()
            machine.clock.settle()


def _names(backend: Backend, machine: Any) -> dict[str, Function]:
    """The functions that Linux found, by their names in sysfs."""
    found: dict[str, Function] = {}
    for name in backend.listdir(DEVICES):
        segment, bus, place = name.split(":")
        device, number = place.split(".")
        rid = int(bus, 16) << 8 | int(device, 16) << 3 | int(number, 16)
        found[name] = machine.pcie.function(int(segment, 16), rid)
    return found


def _round(backend: Backend, dice: random.Random, steps: int) -> tuple[int, int]:
    """One machine; how many writes were refused, and how many requests came out of the tree."""
    machine = software_of(backend).machine
    watched = [Watched(name, function) for name, function in sorted(_names(backend, machine).items())]
    assert len(watched) == len(every_function(machine.pcie))
    places = [_places(one.function) for one in watched]
    tree, cards, refused = Tree(machine.pcie, dice), _Cards(watched), 0
    for step in range(steps):
        if dice.random() < CHANGES:
            cards.change(machine, dice)
        if step % OFTEN == 0:
            _check(machine, watched, tree)
        if step % CLOSE == 0:  # what belongs together is written in a row, such as a number and its enable bit
            focus = dice.randrange(len(watched))
            near = dice.choice(places[focus])
        number = focus if dice.random() < 0.5 else dice.randrange(len(watched))
        some = near if number == focus and dice.random() < 0.7 else dice.choice(places[number])
        one, way = watched[number], dice.choices(("Linux", "hardware", "BAR", "device"), (40, 28, 25, 7))[0]
        if way != "Linux" and one.function.bus is None:
            continue  # in somebody's hand, without power
        if way == "BAR":
            _write_bar(machine, one.function, dice)
        elif way == "device":
            _signal(machine, one.function, dice)
        elif way == "hardware":
            _behind_its_back(machine, one.function, dice, some)
        else:
            try:
                _by_linux(backend, f"{DEVICES}/{one.name}/config", dice, some)
            except (OSError, PyvfioError):
                refused += 1  # it is unplugged by now, or what it does is not modelled
        if one.function.offset(regs.PCI_EXT_CAP_ID_SRIOV, extended=True) is not None:
            tree.check_beside(one.function)
    _check(machine, watched, tree)
    _recovers(machine)
    return refused, tree.came


def _check(machine: Any, watched: list[Watched], tree: Tree) -> None:
    machine.clock.advance(0.5)
    with machine.lock:
        for each in watched:
            each.check(tree)
        tree.check()


def _recovers(machine: Any) -> None:
    """A cold reset of everything, and firmware finds what is plugged and has room for it."""
    with machine.lock:
        for bus in machine.pcie.root_buses:
            for function in [one for one in bus.functions.values() if not one.virtual]:
                function.reset(cold=True)
        left = every_function(machine.pcie)
        assert not [one for one in left if one.virtual]
        if isinstance(machine.pcie, LogicalBridges):  # its firmware gives addresses to all, and says no more of them
            start_bridges(machine.pcie)
            assert {id(one) for _, one in machine.pcie.functions()} == {id(one) for one in left}
            return
        setups = _set_up(machine.pcie)
        assert {id(one) for _, one in machine.pcie.functions()} == {id(one) for one in left}
        assert sum(len(setup.functions()) for setup in setups) == len(left)
        without = {pool for setup in setups for _, _, pool in setup.layout.unplaced}
        assert without <= ({Pool.IO} if isinstance(machine.pcie, Hub) else set())  # POWER has no I/O addresses


def _set_up(complex_: RootComplex | Hub) -> list[Setup]:
    if not isinstance(complex_, Hub):
        return [Firmware().set_up(complex_)]
    setups = []
    for phb in complex_.phbs.values():
        phb.endpoints.clear_all()
        phb.unfence()
        phb.hold(False)  # Linux may be at a reset of its own
        with phb.probing():
            setups.append(Firmware(apertures(phb), arrange=arrange(phb)).set_up(phb))
    return setups


@pytest.mark.parametrize("name", MACHINES)
def test_random_registers(name: str) -> None:
    refused = came = 0
    for number, start in enumerate(range(0, STEPS, ROUND)):
        dice = random.Random(f"{name} {number}")
        with open_backend("software", machine=name) as backend:
            some, out = _round(backend, dice, min(ROUND, STEPS - start))
        refused, came = refused + some, came + out
    assert refused < STEPS // 3
    assert came
    with open_backend("software", machine=name) as backend:  # and nothing of it is left
        assert None not in _names(backend, software_of(backend).machine).values()
