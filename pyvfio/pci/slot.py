"""Hot-plug slots as sysfs shows them: ``/sys/bus/pci/slots/NAME``, with the port that each is below and its registers.

::

    /sys/bus/pci/slots/9/address    0000:0b:00 (bus and device behind the slot; without the device where that is open)
                         power      0, 1      adapter  0, 1      latch  0 closed, 1 open
                         attention  0 off, 1 on, 2 blinks
    port: the bridge whose secondary bus that is; its slot registers (`SlotState`) tell the rest

A slot of IBM Z is that of a function: it is called by the function's FID, and has power and no port.
Sources: ``drivers/pci/hotplug/pci_hotplug_core.c``, ``Documentation/ABI/testing/sysfs-bus-pci``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_regs as regs
from pyvfio.address import PciAddress
from pyvfio.devices import PciFunction
from pyvfio.errors import BadAddress, Misuse, NoSuchDevice, NotAvailable, PyvfioError
from pyvfio.pci.slot_state import Indicator, SlotState
from pyvfio.sysfs import Sysfs

__all__ = ["SLOTS", "Slot", "find_slot", "slots"]

SLOTS = "/sys/bus/pci/slots"
_DEVICES = "/sys/bus/pci/devices"
_FID = re.compile(r"[0-9a-f]{8}\Z")
_SHOWN = {"0": Indicator.OFF, "1": Indicator.ON, "2": Indicator.BLINK}
_ASKED = {indicator: text for text, indicator in _SHOWN.items()}


class Slot:
    """The slot called `name`.  What it does not have, or does not tell this user, is None."""

    def __init__(self, sysfs: Sysfs, name: str) -> None:
        self.sysfs = sysfs
        self.name = name
        self.path = f"{SLOTS}/{name}"

    def __repr__(self) -> str:
        return f"<Slot {self.name}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Slot) and (self.name, self.sysfs) == (other.name, other.sysfs)

    def __hash__(self) -> int:
        return hash(self.name)

    def _read(self, name: str) -> str | None:
        return self.sysfs.attribute(f"{self.path}/{name}")

    def _switch(self, name: str) -> bool | None:
        text = self._read(name)
        return None if text is None else text != "0"

    @property
    def exists(self) -> bool:
        """Whether it is there."""
        return self.sysfs.exists(self.path)

    @property
    def address(self) -> str:
        """Domain, bus and device behind it; without the device where that is not known."""
        return self._read("address") or ""

    @property
    def power(self) -> bool | None:
        """Whether it is on (on IBM Z: whether the function is configured)."""
        return self._switch("power")

    @property
    def adapter(self) -> bool | None:
        """Whether a card is in it."""
        return self._switch("adapter")

    @property
    def latch_open(self) -> bool | None:
        """Whether its latch is open."""
        return self._switch("latch")

    @property
    def attention(self) -> Indicator | None:
        """What its attention indicator does."""
        return _SHOWN.get(self._read("attention") or "")

    @property
    def current_speed(self) -> str | None:
        """The speed of the bus behind it, in the kernel's words."""
        return self._read("cur_bus_speed")

    @property
    def most_speed(self) -> str | None:
        """The speed that this bus is able to."""
        return self._read("max_bus_speed")

    @property
    def conventional(self) -> bool:
        """Whether it is one of conventional PCI (SHPC): its port has no slot registers of PCI Express."""
        return "MHz" in (self.most_speed or "")

    @property
    def fid(self) -> int | None:
        """On IBM Z: the function identifier that it is called by."""
        if not _FID.match(self.name) or self._read("attention") is not None:
            return None
        return int(self.name, 16) if self.port is None else None

    # who is there

    @property
    def port(self) -> PciFunction | None:
        """The bridge that the slot is below."""
        bus = ":".join(self.address.split(":")[:2])
        for name in self.sysfs.names(_DEVICES) if bus else ():
            if self.sysfs.exists(f"{_DEVICES}/{name}/pci_bus/{bus}"):
                return PciFunction(self.sysfs, PciAddress.parse(name))
        return None

    def functions(self) -> list[PciFunction]:
        """The functions that are in it now, each bridge before what is behind it."""
        fid = self.fid
        found = [
            function
            for name in sorted(self.sysfs.names(_DEVICES))
            if (function := PciFunction(self.sysfs, PciAddress.parse(name))).address.slot == self.address
            and (fid is None or function.fid == fid)
        ]
        return [one for function in found for one in (function, *_behind(function))]

    def state(self) -> SlotState | None:
        """What the registers of the port say; None: there is no port, or this user cannot read them.

        Ordinary users are shown 64 bytes of configuration space.
        """
        port = self.port
        if port is None:
            return None
        try:
            found = port.config.capability(regs.PCI_CAP_ID_EXP)
            data = b"" if found is None else port.config.read(found.offset, express.PCI_EXP_SLTSTA + 2)
        except PyvfioError:
            return None
        return SlotState.of_capability(data) if data else None

    # acting

    def set_power(self, on: bool) -> None:
        """Switch it on or off; the kernel waits for whoever uses a function.  Raise the class for the kernel's errno.

        Nothing is looked at before: `pyvfio.binding.slot_power.plan_slot_power` does that.
        """
        self.sysfs.write_text(f"{self.path}/power", str(int(on)))

    def set_attention(self, indicator: Indicator) -> None:
        """Have the attention indicator on, off or blink, which draws somebody's eyes to it.

        Raise `NotAvailable`: the slot has none; `Misuse` for `Indicator.RESERVED`.
        """
        if indicator not in _ASKED:
            raise Misuse("set attention indicator", self.name, cause="it can be on, off or blink")
        if self._read("attention") is None:
            raise NotAvailable("set attention indicator", self.name, path=self.path, cause="the slot has none")
        self.sysfs.write_text(f"{self.path}/attention", _ASKED[indicator])


def _behind(function: PciFunction) -> Iterator[PciFunction]:
    for name in sorted(function.sysfs.names(function.path)):
        try:
            child = PciFunction(function.sysfs, PciAddress.parse(name))
        except BadAddress:
            continue
        yield child
        yield from _behind(child)


def slots(sysfs: Sysfs) -> list[Slot]:
    """All slots of a host, numbers before words and each in their order; none where nothing can be plugged."""
    names = sysfs.names(SLOTS) if sysfs.exists(SLOTS) else []
    return [Slot(sysfs, name) for name in sorted(names, key=_order)]


def _order(name: str) -> tuple[bool, int, str]:
    digits = re.match(r"\d+", name)
    return digits is None, int(digits[0]) if digits and not _FID.match(name) else 0, name


def find_slot(sysfs: Sysfs, text: str) -> Slot:
    """The slot of this name, the one below the port or with the function of this address.

    Raise `NoSuchDevice`, which names those that there are.
    """
    every = slots(sysfs)
    for one in every:
        if one.name == text:
            return one
    try:
        wanted = PciAddress.parse(text)
    except BadAddress:
        wanted = None
    for one in every:
        port = one.port if wanted is not None else None
        if wanted is not None and (one.address == wanted.slot or (port is not None and port.address == wanted)):
            return one
    names = ", ".join(one.name for one in every)
    cause = f"there is {names}" if names else "this host has no slots: no driver for hot-plug has found one"
    raise NoSuchDevice("find slot", text, path=SLOTS, cause=cause, next_step="pyvfio slot list")
