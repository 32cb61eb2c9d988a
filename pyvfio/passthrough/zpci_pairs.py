"""A guest's PCI devices in the words of QEMU's ``-device``: those of the host by VFIO, and emulated ones beside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from pyvfio.address import PciAddress
from pyvfio.errors import BadAddress, Misuse, NoSuchDevice, NotModelled
from pyvfio.host import Host
from pyvfio.passthrough.zpci import GuestPci
from pyvfio.vfio import open_device
from pyvfio.vfio.device import Device
from pyvfio.zpci.device_option import DeviceOption
from pyvfio.zpci.function import InstructedFunction
from pyvfio.zpci.identifiers import ZPCI, Pair

__all__ = ["Emulated", "PairedDevices"]

_PLUG: Final = "plug a guest's PCI device"
_PASSED: Final = "vfio-pci"
_PASSED_PROPERTIES: Final = ("host", "sysfsdev", "id", "addr", "bus")

Emulated = Callable[[DeviceOption, Pair, int], InstructedFunction]
"""Makes an emulated function: from its words, with the identifiers of the pair, and with the index in its handle."""


class _Plugged(NamedTuple):
    function: InstructedFunction | None
    fid: int


class PairedDevices:
    """Plugs devices of `host` into `guest`, as ``zpci`` and PCI device in pairs, and takes both away together.

    >>> devices = PairedDevices(guest, host)  # doctest: +SKIP
    >>> devices.plug("zpci,uid=8,fid=2,target=vfio1", "vfio-pci,host=0001:00:00.0,id=vfio1")  # doctest: +SKIP

    ``interpret`` and ``forwarding-assist`` of a ``zpci`` are as `GuestPci.attach` has them.  A PCI device without a
    ``zpci`` before it gets the lowest identifiers that are free.  `emulate` makes every device
    other than ``vfio-pci``; without it there is none.  `open_with` opens a device of the host (default:
    `pyvfio.open_device`), which a VFIO driver has.
    """

    def __init__(
        self,
        guest: GuestPci,
        host: Host,
        *,
        emulate: Emulated | None = None,
        open_with: Callable[[Host, str], Device] = open_device,
    ) -> None:
        self.guest = guest
        self.host = host
        self._emulate = emulate
        self._open = open_with
        self._names: dict[str, str] = {}
        self._switches: dict[str, tuple[bool, bool]] = {}
        self._unnamed = 0

    def plug(self, *words: str) -> list[InstructedFunction]:
        """Plug devices in, in the order of the words; their functions.

        Raise `Misuse` for words that make no sense and for identifiers that are taken, `NotModelled` for
        ``relaxed-translation=on``, and what opening a device raises; then nothing of this call stays plugged.
        """
        options = [DeviceOption.parse(each) for each in words]
        found: list[InstructedFunction] = []
        names: list[str] = []
        targets: list[str] = []
        with self.guest.lock:
            self._forget_gone()
            waiting = self.guest.identifiers.waiting()
            try:
                for option in options:
                    self._check_name(option)
                    if option.driver == ZPCI:
                        if option.switch("relaxed-translation", False):
                            raise NotModelled("relaxed translation of a guest's PCI function", option.text)
                        pair = option.define(self.guest.identifiers)
                        targets.append(pair.target)
                        switches = option.switch("interpret", True), option.switch("forwarding-assist", True)
                        self._switches[pair.target] = switches
                        if option.id:
                            self._names[option.id] = pair.target
                            names.append(option.id)
                    else:
                        name = option.id or f"auto_00:{self._unnamed:02x}.0"
                        found.append(self._function(option, name))
                        self._unnamed += 1
                        self._names[name] = name
                        names.append(name)
            except BaseException:
                for function in found:
                    self.guest.detach(function.fid)
                for pair in waiting:  # those of earlier calls wait on
                    self.guest.identifiers.release(pair.target)
                    self.guest.identifiers.define(pair.target, pair.uid, pair.fid)
                for target in targets:
                    self.guest.identifiers.release(target)
                for name in names:
                    self._names.pop(name, None)
                raise
        return found

    def unplug(self, name: str, *, surprise: bool = False) -> None:
        """Take a device away by its name or that of its ``zpci``: both go.

        The guest is asked for it, and it goes when the guest has deconfigured it; with `surprise` it goes at once.
        Raise `NoSuchDevice`.
        """
        with self.guest.lock:
            self._forget_gone()
            function = self.function(name)
            if function is None:
                target = self._names.pop(name)
                self.guest.identifiers.release(target)
            elif surprise:
                self.guest.detach(function.fid)
            else:
                self.guest.request(function.fid)

    def function(self, name: str) -> InstructedFunction | None:
        """The function of a device, None for a ``zpci`` whose device has not come.  Raise `NoSuchDevice`."""
        target = self._names.get(name)
        for pair in self.guest.identifiers:
            if target is not None and pair.target == target:
                waits = pair in self.guest.identifiers.waiting()
                return None if waits else self.guest.function(pair.fid)
        known = ", ".join(self._names) or "none"
        raise NoSuchDevice("find a guest's PCI device", name, cause=f"no device has this id (ids: {known})")

    def _check_name(self, option: DeviceOption) -> None:
        if option.id in self._names:
            raise Misuse(_PLUG, option.text, cause=f"there is a device with the id {option.id}")

    def _function(self, option: DeviceOption, name: str) -> InstructedFunction:
        guest = self.guest
        if option.driver == _PASSED:
            device = self._open(self.host, _address(option))
            try:
                interpret, assist = self._switches.get(name, (True, True))
                return guest.attach(device, name=name, interpret=interpret, forwarding_assist=assist)
            except BaseException:
                device.close()
                raise
        if self._emulate is None:
            cause = f"nothing here emulates {option.driver}"
            raise Misuse(
                _PLUG, option.text, cause=cause, next_step="PairedDevices(..., emulate=...) makes such devices"
            )
        waited = any(pair.target == name for pair in guest.identifiers.waiting())
        pair = guest.identifiers.join(name)
        try:
            function = self._emulate(option, pair, guest.next_index())
            guest.add(function, name=name)
        except BaseException:
            (guest.identifiers.leave if waited else guest.identifiers.release)(name)
            raise
        return function

    def _forget_gone(self) -> None:
        there = {pair.target for pair in self.guest.identifiers}
        self._names = {name: target for name, target in self._names.items() if target in there}
        self._switches = {target: switches for target, switches in self._switches.items() if target in there}


def _address(option: DeviceOption) -> str:
    """The PCI function of the host that the words name.  Raise `Misuse`."""
    for name in option.properties:
        if name not in _PASSED_PROPERTIES:
            known = ", ".join(_PASSED_PROPERTIES)
            raise Misuse(_PLUG, option.text, cause=f"vfio-pci has no property {name!r}", next_step=f"it has {known}")
    host, path = option.properties.get("host", ""), option.properties.get("sysfsdev", "")
    if bool(host) == bool(path):
        raise Misuse(_PLUG, option.text, cause="host=ADDRESS or sysfsdev=PATH names the device, one of them")
    try:
        return str(PciAddress.parse(host or path.rstrip("/").rpartition("/")[2]))
    except BadAddress as error:
        raise Misuse(_PLUG, option.text, cause=f"{error.text!r}: {error.cause}") from error
