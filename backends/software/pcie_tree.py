"""A PCI Express tree from the tables of a machine file: root buses, ports, bridges and endpoints by their models.

::

    [[pcie.bus]]                   [[pcie.function]]          [[pcie.function]]
    number = 0x00                  id = "rpa"                 model = "e1000e"
                                   model = "pcie-root-port"   behind = "rpa"
                                   behind = "0000:00"
                                   at = "09.0"
                                   slot = 3
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi.pci_regs import ExpressType
from pyvfio.errors import Misuse
from pyvfio_backends.software.description import PcieBusSpec, PcieFunctionSpec
from pyvfio_backends.software.hardware.pcie.bridge import Bridge
from pyvfio_backends.software.hardware.pcie.bus import Bus
from pyvfio_backends.software.hardware.pcie.dpc import Dpc
from pyvfio_backends.software.hardware.pcie.endpoints import ENDPOINTS, add_igb_functions
from pyvfio_backends.software.hardware.pcie.express import Slot
from pyvfio_backends.software.hardware.pcie.extended import CollectorAssociation, SerialNumber
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.models import PORTS, event_collector
from pyvfio_backends.software.hardware.pcie.port import DownstreamPort, RootPort
from pyvfio_backends.software.hardware.pcie.root_complex import RootBus, RootComplex
from pyvfio_backends.software.pcie_capabilities import add_capabilities
from pyvfio_backends.software.pcie_peripherals import MAC, Peripherals
from pyvfio_backends.software.pcie_peripherals import MODELS as WITH_DEVICES

__all__ = ["FUNCTIONS", "LAST_SLOT", "PcieTree", "build_card", "build_tree"]

_AT: Final = re.compile(r"([01]?[0-9a-f])\.([0-7])")
FUNCTIONS: Final = tuple(dict.fromkeys((*PORTS, *ENDPOINTS, *WITH_DEVICES)))
"""The models that `PcieFunctionSpec` can name."""
_WITH_SLOT: Final = ("ioh3420", "pcie-root-port", "xio3130-downstream")
_CONTAINMENT: Final = "containment"
_POWER_EVENTS: Final = "power_events"
_BEYOND: Final = (_CONTAINMENT, _POWER_EVENTS)
"""Options of ports for what QEMU's do not have: containment (DPC), and the interrupt for power management events."""
_CARD: Final = "card"
_COLLECTOR: Final = "event-collector"
_DEVICES, _BUSES = 32, 256
_INSIDE: Final = (ExpressType.RC_END, ExpressType.RC_EC)
"""What is part of the root complex, on a root bus."""
LAST_SLOT: Final = (1 << 13) - 1
"""The physical slot number of the slot capabilities has 13 bits."""
_FEATURES: Final = {
    "button": express.PCI_EXP_SLTCAP_ABP,
    "power": express.PCI_EXP_SLTCAP_PCP,
    "latch": express.PCI_EXP_SLTCAP_MRLSP,
    "attention": express.PCI_EXP_SLTCAP_AIP,
    "indicator": express.PCI_EXP_SLTCAP_PIP,
    "surprise": express.PCI_EXP_SLTCAP_HPS,
    "hotplug": express.PCI_EXP_SLTCAP_HPC,
    "interlock": express.PCI_EXP_SLTCAP_EIP,
}
"""What a slot has or not, as options of its port; ``completion`` says whether it tells the end of commands."""


def _slot(spec: PcieFunctionSpec, name: str) -> Slot:
    features = Slot(0).features
    for option, there in spec.options.items():
        if option in _BEYOND:
            continue
        if option not in (*_FEATURES, "completion") or not isinstance(there, bool):
            known = ", ".join((*_FEATURES, "completion"))
            cause = f"a slot has no option {option} = {there!r}; {known} are true or false"
            raise Misuse("build the PCI Express tree", name, cause=cause)
        bit = _FEATURES.get(option, express.PCI_EXP_SLTCAP_NCCS)
        features = features | bit if there == (option in _FEATURES) else features & ~bit
    return Slot(spec.slot, features)


def _port(spec: PcieFunctionSpec, port: Function) -> Function:
    """A port with the options that go beyond QEMU's ports (`_BEYOND`)."""
    wanted = {option: spec.options.get(option, False) for option in _BEYOND}
    for option, there in wanted.items():
        if not isinstance(there, bool):
            cause = f"{option} is true or false, not {there!r}"
            raise Misuse("build the PCI Express tree", spec.id or spec.model, cause=cause)
    if wanted[_POWER_EVENTS]:
        if not isinstance(port, RootPort):
            cause = f"power management events end at root ports, not at a {spec.model}"
            raise Misuse("build the PCI Express tree", spec.id or spec.model, cause=cause)
        port.allow_power_events()
    if wanted[_CONTAINMENT] and isinstance(port, DownstreamPort):
        port.add(Dpc())
        port.finish()
    return port


def _collector(spec: PcieFunctionSpec, name: str) -> Function:
    """An event collector: `devices` of its own bus (all unless said) and other root `buses`, first and last."""
    options = {"devices": list(range(_DEVICES)), "buses": [], **spec.options}
    devices, buses = options.pop("devices"), options.pop("buses")
    causes = [f"an {spec.model} has no option {option!r}; it has devices, buses" for option in options]
    if not _numbers(devices, _DEVICES):
        causes.append(f"devices is a list of numbers below {_DEVICES}: {devices!r}")
    if not _numbers(buses, _BUSES) or (buses and (len(buses) != 2 or buses[0] > buses[1])):
        causes.append(f"buses has the first and the last number of other root buses: {buses!r}")
    if causes:
        raise Misuse("build the PCI Express tree", name, cause=causes[0])
    bits = sum(1 << device for device in set(devices))
    return event_collector(CollectorAssociation(bits, (buses[0], buses[1]) if buses else None), name=name)


def _numbers(value: object, end: int) -> bool:
    return isinstance(value, list) and all(type(one) is int and 0 <= one < end for one in value)


def _make(spec: PcieFunctionSpec, peripherals: Peripherals) -> Function:
    name = spec.id or spec.model
    if spec.slot >= 0 and spec.model not in _WITH_SLOT:
        raise Misuse("build the PCI Express tree", name, cause=f"{spec.model} has no slot")
    if not -1 <= spec.slot <= LAST_SLOT:
        cause = f"slots have numbers from 0 to {LAST_SLOT}, and -1 is none; not {spec.slot}"
        raise Misuse("build the PCI Express tree", name, cause=cause)
    if spec.model in WITH_DEVICES:
        return peripherals.make(spec)
    if spec.model == _COLLECTOR:
        return _collector(spec, name)
    if spec.model in _WITH_SLOT and spec.slot >= 0:
        return _port(spec, PORTS[spec.model](_slot(spec, name), name=name))
    if spec.model in _WITH_SLOT and spec.options and set(spec.options) <= set(_BEYOND):
        return _port(spec, PORTS[spec.model](name=name))
    if spec.model == "e1000e" and set(spec.options) == {"mac"}:
        return _e1000e(str(spec.options["mac"]), name)
    if spec.options:
        cause = f"a {spec.model} has no options: {', '.join(spec.options)}"
        raise Misuse("build the PCI Express tree", name, cause=cause)
    if spec.model in PORTS:
        return PORTS[spec.model](name=name)
    if spec.model not in ENDPOINTS:
        cause = f"there is no model {spec.model!r}; there is {', '.join(sorted(FUNCTIONS))}"
        raise Misuse("build the PCI Express tree", name, cause=cause)
    function = ENDPOINTS[spec.model].build(name=name)
    if spec.model == "igb":
        add_igb_functions(function)
    return function


def _e1000e(mac: str, name: str) -> Function:
    """The Ethernet controller with an address of its own, which its serial number has (EUI-64)."""
    if not MAC.fullmatch(mac):
        raise Misuse("build the PCI Express tree", name, cause=f"mac is no address like 52:54:00:12:34:56: {mac!r}")
    vendor, own = mac.replace(":", "")[:6], mac.replace(":", "")[6:]
    model = ENDPOINTS["e1000e"]
    serial = SerialNumber(int(f"{vendor}ffff{own}", 16))
    capabilities = tuple((at, serial if isinstance(one, SerialNumber) else one) for at, one in model.capabilities)
    return replace(model, capabilities=capabilities).build(name=name)


class PcieTree:
    """A root complex (`complex`) that is being built; a port must be added before what is behind it.

    `peripherals` makes the endpoints that do something, and is the caller's to close.
    """

    def __init__(self, peripherals: Peripherals | None = None) -> None:
        self.complex = RootComplex()
        self._peripherals = peripherals or Peripherals()
        self._places: dict[str, Bus] = {}
        self._ports: dict[str, DownstreamPort] = {}
        self._switches: set[str] = set()

    def add_bus(self, spec: PcieBusSpec) -> None:
        """Add a root bus.  Raise `Misuse` when its numbers are another's."""
        self._places[f"{spec.segment:04x}:{spec.number:02x}"] = self.complex.add_root_bus(spec.segment, spec.number)

    def add_place(self, name: str, bus: Bus) -> None:
        """Add a bus that is there already.  Raise `Misuse`: its name is another's."""
        if name in self._places:
            raise Misuse("build the PCI Express tree", name, cause="this id is there already")
        self._places[name] = bus

    def add_port(self, name: str, port: DownstreamPort) -> None:
        """Add a port that is there already.  Raise `Misuse`: its name is another's."""
        self.add_place(name, port.secondary)
        self._ports[name] = port

    def add_card(self) -> Bus:
        """Add a place called ``card`` that belongs to no machine."""
        bus = self._places[_CARD] = Bus()
        return bus

    def add(self, spec: PcieFunctionSpec) -> Function:
        """Plug a function.  Raise `Misuse` for a model, bus or place that is not there, or taken."""
        name = spec.id or spec.model
        match = _AT.fullmatch(spec.at)
        if match is None:
            raise Misuse("build the PCI Express tree", name, cause=f"{spec.at!r} is no device.function (00.0 to 1f.7)")
        if spec.behind not in self._places:
            raise Misuse("build the PCI Express tree", name, cause=f"there is no bus or port {spec.behind!r} before it")
        if spec.id and spec.id in self._places:
            raise Misuse("build the PCI Express tree", name, cause="this id is there already")
        function = _make(spec, self._peripherals)
        add_capabilities(function, spec)
        device, number = int(match[1], 16), int(match[2])
        if function.express_type in _INSIDE and not isinstance(self._places[spec.behind], RootBus):
            cause = f"it is part of the root complex, and behind {spec.behind!r} is no root bus"
            raise Misuse("build the PCI Express tree", name, cause=cause)
        self._require_link(spec, name, function)
        if device and (spec.behind in self._ports or spec.behind == _CARD):
            self._require_ari(spec, name, function)
        if spec.behind in self._ports:
            self._ports[spec.behind].plug(function, number, device=device)
        else:
            self._places[spec.behind].plug(function, device, number)
        if spec.id and isinstance(function, Bridge):
            self._places[spec.id] = function.secondary
            if isinstance(function, DownstreamPort):
                self._ports[spec.id] = function
            elif function.express_type == ExpressType.UPSTREAM:
                self._switches.add(spec.id)
        return function

    def _require_link(self, spec: PcieFunctionSpec, name: str, function: Function) -> None:
        """Root ports are on root buses, an upstream port ends a link, and behind it are downstream ports alone.

        PCI Express Base Specification, 1.3 (fabric topology).  Raise `Misuse` for a port anywhere else.
        """
        kind, inside = function.express_type, spec.behind in self._switches
        if kind == ExpressType.ROOT_PORT and not isinstance(self._places[spec.behind], RootBus):
            cause, step = (
                "a root port is on a root bus",
                "put it on a root bus; a switch makes more places behind a port",
            )
        elif kind == ExpressType.UPSTREAM and spec.behind not in self._ports and spec.behind != _CARD:
            cause, step = "an upstream port ends a link", "put it behind a root port, or behind a downstream port"
        elif kind == ExpressType.DOWNSTREAM and not inside:
            cause, step = (
                "a downstream port is behind an upstream port",
                "put an x3130-upstream before it, or name that one",
            )
        elif inside and kind != ExpressType.DOWNSTREAM:
            cause, step = "behind an upstream port there are downstream ports alone", "put it behind one of these"
        else:
            return
        raise Misuse(
            "build the PCI Express tree", name, cause=f"{cause}: {spec.model} behind {spec.behind!r}", next_step=step
        )

    def _require_ari(self, spec: PcieFunctionSpec, name: str, function: Function) -> None:
        """A link has one device; what looks like another one is a function beyond the eighth of it (ARI).

        Raise `Misuse` where it is none.
        """
        first = self._places[spec.behind].functions.get(0)
        if all(one is not None and one.offset(extended.PCI_EXT_CAP_ID_ARI, extended=True) for one in (first, function)):
            return
        cause = f"{spec.at} is no place behind {spec.behind!r}: at the other end of a link is device 00 alone"
        step = "put it at 00.0 to 00.7, or behind a port of its own"
        raise Misuse("build the PCI Express tree", name, cause=cause, next_step=step)


def build_tree(
    buses: Sequence[PcieBusSpec], functions: Sequence[PcieFunctionSpec], peripherals: Peripherals | None = None
) -> RootComplex:
    """The root complex with everything plugged, before firmware.  Raise `Misuse` as `PcieTree` does."""
    tree = PcieTree(peripherals)
    for bus in buses:
        tree.add_bus(bus)
    for function in functions:
        tree.add(function)
    return tree.complex


def build_card(functions: Sequence[PcieFunctionSpec], peripherals: Peripherals | None = None) -> dict[int, Function]:
    """A card that is in no slot yet: its functions by number (device 0), which are `behind` ``card`` in their specs.

    What is behind a bridge on the card is named as in a machine file.  Raise `Misuse` as `PcieTree` does.
    """
    tree = PcieTree(peripherals)
    bus = tree.add_card()
    for spec in functions:
        tree.add(spec)
    card = dict(bus.functions)
    for function in card.values():
        bus.unplug(function)
    return card
