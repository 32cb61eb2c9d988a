"""INTx through vfio-pci in any order of what the device and the program do, against a model.

The model is written down from ``drivers/vfio/pci/vfio_pci_intrs.c`` (6.12): `masked` and what is told.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pci_fixture import BOOL, EVENTFD, NONE, TRIGGER
from pcie_fixture import EDU, Pcie

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio.pci import edu
from pyvfio.process import EventFd

INTX, MASK, UNMASK = abi.VFIO_PCI_INTX_IRQ_INDEX, abi.VFIO_IRQ_SET_ACTION_MASK, abi.VFIO_IRQ_SET_ACTION_UNMASK
DISABLE = regs.PCI_COMMAND_INTX_DISABLE
ON = regs.PCI_COMMAND_MEMORY
DEEDS = ("raise 1", "raise 2", "ack 1", "ack 2", "mask", "unmask", "resample", "forbid", "permit", "loopback", "swap")


@dataclass
class Model:
    """What the kernel knows, and the bits that the device asserts for."""

    bits: int = 0
    masked: bool = False
    forbidden: bool = False
    told: int = 0

    def tell(self) -> None:
        self.told += not self.forbidden

    def fire(self) -> None:
        if self.bits and not self.masked:
            self.masked = True
            self.tell()

    def unmask(self) -> None:
        if self.masked and not self.forbidden:
            if self.bits:
                self.tell()
            else:
                self.masked = False

    def do(self, deed: str) -> None:
        verb, _, number = deed.partition(" ")
        if verb == "raise":
            self.bits |= int(number)
            self.fire()
        elif verb == "ack":
            self.bits &= ~int(number)
        elif verb == "mask":
            self.masked = True
        elif verb in ("unmask", "resample"):
            self.unmask()
        elif verb == "forbid":
            self.masked = self.forbidden = True
        elif verb == "permit" and self.forbidden:
            self.forbidden = False
            self.unmask()
        elif verb == "loopback":
            self.tell()


class Rig:
    """An open `edu`, whose pin is in use for one sequence at a time."""

    def __init__(self, *, lines: bool) -> None:
        self.lab = Pcie()
        if lines:
            self.lab.write("/sys/module/vfio_pci/parameters/nointxmask", "1")
        self.device = self.lab.open(EDU)
        self.lines = lines
        self.events = [EventFd(), EventFd()]
        self.resample = EventFd()

    def command(self, value: int) -> None:
        self.device.write(value.to_bytes(2, "little"), regs.PCI_COMMAND)

    def begin(self) -> None:
        self.command(ON)
        self.device.write(b"\xff\xff\xff\xff", edu.ACK, 0)
        self.device.eventfds(INTX, 0, self.events[0].fileno())
        number = struct.pack("=i", self.resample.fileno())
        self.device.set_irqs(EVENTFD | UNMASK, INTX, 0, 1, number)

    def end(self) -> None:
        self.device.set_irqs(NONE | TRIGGER, INTX, 0, 0)
        self.told()

    def told(self) -> int:
        return sum(event.read() for event in self.events)

    def do(self, deed: str) -> None:
        verb, _, number = deed.partition(" ")
        if verb in ("raise", "ack"):
            self.device.write(int(number).to_bytes(4, "little"), edu.RAISE if verb == "raise" else edu.ACK, 0)
        elif verb in ("mask", "unmask"):
            self.device.set_irqs(BOOL | (MASK if verb == "mask" else UNMASK), INTX, 0, 1, b"\1")
        elif verb == "resample":
            self.resample.signal()
            self.device.read(4, 0)  # a call looks at eventfds first
        elif verb in ("forbid", "permit"):
            self.command(ON | (DISABLE if verb == "forbid" else 0))
        elif verb == "loopback":
            self.device.set_irqs(NONE | TRIGGER, INTX, 0, 1)
        else:
            self.events.reverse()
            self.device.eventfds(INTX, 0, self.events[0].fileno())

    @property
    def device_bit(self) -> bool:
        return bool(int.from_bytes(bytes.fromhex(self.lab.config(EDU, regs.PCI_COMMAND, 2)), "little") & DISABLE)


@pytest.fixture(scope="module", params=[False, True], ids=["command register", "line"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    made = Rig(lines=request.param)
    with ExitStack() as stack:
        stack.enter_context(made.lab.host)
        yield made


@settings(max_examples=150, deadline=None)
@given(deeds=st.lists(st.sampled_from(DEEDS), max_size=25))
def test_any_order(rig: Rig, deeds: list[str]) -> None:
    model = Model()
    rig.begin()
    try:
        for deed in deeds:
            before = model.told
            model.do(deed)
            rig.do(deed)
            assert rig.told() == model.told - before, deed
            if not rig.lines:
                assert rig.device_bit == model.masked, deed
    finally:
        rig.end()
