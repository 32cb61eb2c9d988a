"""Checks of a machine file's PCI functions: identities, models, options, and the pairs that give identifiers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pyvfio.errors import Misuse
from pyvfio_backends.software.description import FunctionSpec, MachineSpec
from pyvfio_backends.software.file_report import Report
from pyvfio_backends.software.hardware.zpci.facts import RANGES
from pyvfio_backends.software.hardware.zpci.models import MODELS, FunctionDescription, build_function, virtual
from pyvfio_backends.software.pci_devices import PciDevices, with_devices

__all__ = ["check_functions"]

_FUNCTION: Final = ("zpci", "function")
_PAIR: Final = ("zpci", "pair")
_DEVICE: Final = ("pci", "device")
_WORDS: Final = ("machine", "devices")
_STATES: Final = ("configured", "standby", "reserved")
_LIMITS: Final = {"uid": 0xFFFF, "fid": 0xFFFFFFFF}
_GROUP: Final = ("zpci", "group")
_GROUP_RANGES: Final = {
    "pfgid": (0, 0xFF),
    "noi": (1, 0xFFF),
    "maxstbl": (8, 0x1FFF),
    "mui": (0, 0xFFFF),
    "version": (0, 0xFF),
    "dasm": (0, (1 << 64) - 1),
    "msia": (0, (1 << 64) - 1),
}
_GIVEN: Final = {"uid": 0, "fid": -1}


def check_functions(spec: MachineSpec, error: Report) -> MachineSpec:
    """The machine with the functions of all its devices.  Raise what `error` makes of the first thing that is wrong."""
    checker = _Checker(error, unique_uids=spec.uid_checking)
    for n, group in enumerate(spec.groups):
        checker.ranges(group, _GROUP_RANGES, _GROUP, n)
        if group.pfgid in [other.pfgid for other in spec.groups[:n]]:
            raise error((*_GROUP, "pfgid"), f"{group.pfgid:#x} is there twice", n)
    for n, function in enumerate(spec.functions):
        for key, last in _LIMITS.items():
            checker.range(getattr(function, key), last, (*_FUNCTION, key), n)
        checker.identities(function, n)
        checker.model(function, _FUNCTION, n)
    devices = PciDevices(spec.functions)
    for n, pair in enumerate(spec.pairs):
        for key, last in _LIMITS.items():
            if getattr(pair, key) != _GIVEN[key]:
                checker.range(getattr(pair, key), last, (*_PAIR, key), n)
        try:
            devices.define(pair.target, pair.uid, pair.fid)
        except Misuse as problem:
            raise error(_PAIR, _words(problem), n, problem.next_step) from problem
    for n, device in enumerate(spec.pci_devices):
        try:
            joined = devices.join(device)
        except Misuse as problem:
            raise error((*_DEVICE, "id"), _words(problem), n, problem.next_step) from problem
        checker.waiting(devices)
        checker.model(joined, _DEVICE, n)
    for words in spec.devices:
        try:
            functions = devices.add(words)
            checker.waiting(devices)
            for made in functions:
                checker.model(made, _WORDS, None)
        except Misuse as problem:
            raise error(_WORDS, _words(problem), None, problem.next_step) from problem
    return with_devices(spec)[0]


def _words(problem: Misuse) -> str:
    return f"{problem.obj}: {problem.cause}"


class _Checker:
    def __init__(self, error: Report, *, unique_uids: bool) -> None:
        self.error = error
        self.unique_uids = unique_uids
        self.taken: set[tuple[str, int]] = set()

    def range(self, value: int, last: int, where: tuple[str, ...], index: int) -> None:
        if not 0 <= value <= last:
            raise self.error(where, f"must be between 0x0 and {last:#x}, not {value:#x}", index)

    def ranges(
        self, row: object, ranges: Mapping[str, tuple[int, int]], where: tuple[str, ...], index: int | None
    ) -> None:
        """Check the numbers of a row."""
        for key, (low, high) in ranges.items():
            value = getattr(row, key)
            if not low <= value <= high:
                cause = f"must be between {low:#x} and {high:#x}, not {value:#x}"
                raise self.error((*where, key) if where != _WORDS else where, cause, index)

    def keys(self, function: FunctionDescription) -> list[tuple[str, int]]:
        """The identifiers that no other function may have: UIDs may repeat where nobody checks, and 0 is none."""
        uid = [("uid", function.uid)] if self.unique_uids and function.uid else []
        return [*uid, ("fid", function.fid)]

    def waiting(self, devices: PciDevices) -> None:
        """Note what pairs have whose device has not come."""
        for pair in devices.identifiers.waiting():
            self.taken |= {("uid", pair.uid), ("fid", pair.fid)}

    def identities(self, function: FunctionSpec, index: int) -> None:
        for key, value in self.keys(function):
            if (key, value) in self.taken:
                raise self.error((*_FUNCTION, key), f"{value:#x} is there twice", index)
            self.taken.add((key, value))

    def model(self, function: FunctionSpec, where: tuple[str, ...], index: int | None) -> None:
        """Build it, to find out whether its options make sense; its virtual functions need identifiers, too."""
        rows = where != _WORDS
        if function.model not in MODELS:
            cause = f"no model {function.model!r}; there is {', '.join(sorted(MODELS))}"
            raise self.error((*where, "model"), cause, index)
        if function.state not in _STATES:
            raise self.error((*where, "state") if rows else where, "must be configured, standby or reserved", index)
        drivers = ("vfio-pci", "virtio-pci") if "legacy" in MODELS[function.model].options else ("vfio-pci",)
        if function.driver not in ("", *drivers):
            cause = f"no driver {function.driver!r} takes a {function.model}; there is {', '.join(drivers)}"
            raise self.error((*where, "driver") if rows else where, cause, index)
        self.ranges(function, RANGES, where, index)
        options = (*where, "options") if rows else where
        try:
            build_function(function, 0)
        except Misuse as problem:
            raise self.error(options, problem.cause, index, problem.next_step) from problem
        self.taken.update(self.keys(function))
        for copy in virtual(function):
            for key, value in self.keys(copy):
                if (key, value) in self.taken:
                    cause = f"{key} {value:#x} of a virtual function is there already"
                    raise self.error(options, cause, index, f"choose vf_{key}")
                self.taken.add((key, value))
