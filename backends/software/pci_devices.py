"""PCI devices of a machine that have names, each paired with a ``zpci`` device for its identifiers, as in QEMU.

They come from ``[[pci.device]]`` and ``[[zpci.pair]]`` of a machine file, from the words of QEMU's ``-device``
(`DeviceOption`), and from programs that plug them while the machine runs (`PciDevices.plug`).
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from pyvfio.errors import Misuse, NoSuchDevice
from pyvfio.zpci.identifiers import ZPCI, Identifiers, Pair
from pyvfio_backends.software.description import FunctionSpec, MachineSpec, PciDeviceSpec
from pyvfio_backends.software.hardware.zpci.models import MODELS, build_function, virtual

if TYPE_CHECKING:
    from pyvfio.zpci.device_option import DeviceOption
    from pyvfio_backends.software.hardware.zpci.facility import ZpciFacility

__all__ = ["PciDevices", "with_devices"]

_ADD: Final = "add PCI device"
_PCI: Final = "-pci"
_LEGACY: Final = {"": True, "-transitional": True, "-non-transitional": False}
_NO_TOPOLOGY: Final = ("addr", "bus")
"""Properties without an effect: a guest sees no topology."""
_PASSED: Final = "vfio-pci"
_FIELDS: Final = typing.get_type_hints(FunctionSpec)
_OWN: Final = ("uid", "fid", "model", "driver", "options")
_NUMBER_LIMIT: Final = 1 << 64


def with_devices(spec: MachineSpec) -> tuple[MachineSpec, PciDevices]:
    """A machine whose functions are all in `MachineSpec.functions`, and its devices by name.  Raise `Misuse`."""
    devices = PciDevices(spec.functions)
    functions = list(spec.functions)
    for pair in spec.pairs:
        devices.define(pair.target, pair.uid, pair.fid)
    functions += [devices.join(device) for device in spec.pci_devices]
    for words in spec.devices:
        functions += devices.add(words)
    return dataclasses.replace(spec, functions=functions, pairs=[], pci_devices=[], devices=()), devices


class PciDevices:
    """The devices by name (`id`), with their identifiers; those of `functions` have theirs already."""

    def __init__(self, functions: Iterable[FunctionSpec] = ()) -> None:
        self.identifiers = Identifiers()
        self._names: dict[str, str] = {}
        self._unnamed = 0
        self.facility: ZpciFacility | None = None
        """Where `plug` and `unplug` act."""
        for function in functions:
            self._hold(function.uid, function.fid)
            self._hold_virtual(function)

    def _hold(self, uid: int, fid: int) -> None:
        self.identifiers.hold(f"the function with fid {fid:#x}", uid, fid)

    def _hold_virtual(self, function: FunctionSpec) -> None:
        if "total_vfs" in function.options:
            build_function(function, 0)  # or says what is wrong with the options
        for copy in virtual(function):
            self._hold(copy.uid, copy.fid)

    def define(self, target: str, uid: int = 0, fid: int = -1) -> Pair:
        """A ``zpci`` device; a UID of 0 and a FID of -1 are not given.  Raise `Misuse`."""
        return self.identifiers.define(target, uid, None if fid == -1 else fid)

    def join(self, device: PciDeviceSpec) -> PciDeviceSpec:
        """A PCI device with the identifiers of its pair, and the driver that Linux has for it.  Raise `Misuse`."""
        name = device.id or f"auto_00:{self._unnamed:02x}.0"
        self._unnamed += 1
        self._name(name, name)
        pair = self.identifiers.join(name)
        driver = device.driver
        if driver == "auto":
            model = MODELS.get(device.model)
            driver = "virtio-pci" if model is not None and "legacy" in model.options else ""
        joined = dataclasses.replace(device, uid=pair.uid, fid=pair.fid, id=name, driver=driver)
        self._hold_virtual(joined)
        return joined

    def add(self, words: str) -> list[PciDeviceSpec]:
        """A device in QEMU's words: the function it makes, none for a ``zpci`` device.  Raise `Misuse`."""
        from pyvfio.zpci.device_option import DeviceOption  # most machines have no device in words

        option = DeviceOption.parse(words)
        if option.driver != ZPCI:
            return [self.join(_described(option))]
        if option.id in self._names:
            raise Misuse(_ADD, words, cause=f"there is a device with the id {option.id}")
        pair = option.define(self.identifiers)
        if option.id:
            self._name(option.id, pair.target)
        return []

    def _name(self, name: str, target: str) -> None:
        if name in self._names:
            raise Misuse(_ADD, name, cause=f"there is a device with the id {name}")
        self._names[name] = target

    def offer(self, begun: str) -> list[tuple[str, str]]:
        """What the words of a device may go on with, for completion, each with what it is.

        A PCI device is offered by the name that a pair waits for.
        """
        written, comma, _ = begun.rpartition(",")
        if not comma:
            name = next((pair.target for pair in self.identifiers.waiting()), "")
            drivers = {model: f"{model}{_PCI}" if "legacy" in MODELS[model].options else model for model in MODELS}
            offered = [(f"{driver},id={name}", "a PCI device") for driver in drivers.values()]
            return [(f"{ZPCI},target=", "identifiers for the PCI device after it"), *offered]
        driver, *given = written.split(",")
        model = MODELS.get(driver) or MODELS.get(driver.partition(_PCI)[0])
        properties = ("uid", "fid", "target") if driver == ZPCI else ("id", *sorted(model.options)) if model else ()
        there = {word.partition("=")[0] for word in given}
        return [(f"{written},{name}=", "") for name in properties if name not in there]

    # while the machine runs

    def plug(self, *words: str) -> None:
        """Plug devices in, in QEMU's words, as ``device_add`` does.  Raise `Misuse`, and nothing is plugged then."""
        self._forget_gone()
        before = {pair.target for pair in self.identifiers}
        waiting = self.identifiers.waiting()
        try:
            functions = [function for each in words for function in self.add(each)]
            for function in functions:
                build_function(function, 0)
        except Misuse:
            for pair in tuple(self.identifiers):
                if pair.target not in before:
                    self._forget(pair.target)
            for pair in waiting:
                self.identifiers.leave(pair.target)
                self._names.pop(pair.target, None)
            raise
        for function in functions:
            self._facility().plug(function)

    def unplug(self, name: str, *, surprise: bool = False) -> None:
        """Take a device away by its name or that of its ``zpci``: both go (``device_del``).

        The host is asked first unless `surprise`; see `ZpciFacility.unplug`.  Raise `NoSuchDevice`.
        """
        self._forget_gone()
        target = self._names.get(name)
        if target is None:
            raise NoSuchDevice("unplug device", name)
        pair = next(pair for pair in self.identifiers if pair.target == target)
        if pair in self.identifiers.waiting():
            self._forget(target)
        else:
            self._facility().unplug(pair.fid, surprise=surprise)

    def _facility(self) -> ZpciFacility:
        if self.facility is None:
            raise Misuse("plug device", cause="the machine does not run")
        return self.facility

    def _forget_gone(self) -> None:
        """Free the identifiers of those that have left the machine, and note those that came otherwise."""
        there = self._facility().functions
        waiting = self.identifiers.waiting()
        for pair in tuple(self.identifiers):
            if pair.fid not in there and pair not in waiting:
                self._forget(pair.target)
        known = {pair.fid for pair in self.identifiers}
        for fid, function in there.items():
            if fid not in known:
                self._hold(function.uid, fid)

    def _forget(self, target: str) -> None:
        self.identifiers.release(target)
        self._names = {name: other for name, other in self._names.items() if other != target}


def _described(option: DeviceOption) -> PciDeviceSpec:
    """What the words say of a PCI device.  Raise `Misuse`."""
    model, legacy = _model(option)
    known = MODELS[model].options
    settings: dict[str, Any] = {}
    options: dict[str, Any] = {} if legacy is None or "legacy" not in known else {"legacy": legacy}
    for name, word in option.properties.items():
        key = {"iommu_platform": "platform"}.get(name, name)
        if name == "id":
            settings["id"] = word
        elif name == "disable-legacy" and "legacy" in known:
            options["legacy"] = word == "auto" or not option.switch(name, False)
        elif key in known:
            options[key] = _converted(option, name, known[key])
        elif name in _FIELDS and name not in _OWN:
            settings[name] = _converted(option, name, _FIELDS[name])
        elif name not in _NO_TOPOLOGY:
            names = sorted({"id", *known, *_FIELDS} - {"uid", "fid", "model", "driver", "options"})
            step = "zpci,uid=...,fid=...,target=ID before it says so" if name in ("uid", "fid") else ""
            step = step or f"its properties: {', '.join(names)}"
            raise Misuse(_ADD, option.text, cause=f"{option.driver} has no property {name!r}", next_step=step)
    return PciDeviceSpec(model=model, options=options, **settings)


def _model(option: DeviceOption) -> tuple[str, bool | None]:
    """The model that a driver of QEMU is here, and whether it has legacy registers by default."""
    name = option.driver
    if name in MODELS:
        return name, None
    if name == _PASSED:
        raise Misuse(
            _ADD,
            option.text,
            cause="a machine here has no host that it could take a device from",
            next_step="pyvfio.passthrough.PairedDevices gives a guest devices of a host in these words",
        )
    base, found, kind = name.partition(_PCI)
    if not found or kind not in _LEGACY or base not in MODELS or "legacy" not in MODELS[base].options:
        listed = ", ".join(sorted(MODELS))
        raise Misuse(_ADD, option.text, cause=f"there is no model {name!r}", next_step=f"there is {ZPCI}, {listed}")
    return base, _LEGACY[kind]


def _converted(option: DeviceOption, name: str, kind: object) -> Any:
    word = option.properties[name]
    if kind is bool:
        return option.switch(name, False)
    if kind is int:
        return option.number(name, _NUMBER_LIMIT)
    if kind is float:
        try:
            return float(word)
        except ValueError:
            raise Misuse(_ADD, option.text, cause=f"{name}={word} is no number") from None
    return word
