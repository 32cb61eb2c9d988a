"""Reads machine files: TOML to `MachineSpec`, with errors that name the file, the key and the line."""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
import typing
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pyvfio import plugins
from pyvfio.address import DeviceNumber, SubchannelId
from pyvfio.css import IMAGES, VIRTUAL_IMAGES
from pyvfio.errors import BadAddress, BadMachine, Misuse
from pyvfio_backends.software.css_events import check_css_events
from pyvfio_backends.software.description import (
    ARCHITECTURES,
    MODULES,
    OTHER_TYPES,
    PLATFORMS,
    POWER,
    PSERIES,
    ChannelPathSpec,
    CssEventSpec,
    FunctionSpec,
    GroupSpec,
    MachineSpec,
    OtherSubchannelSpec,
    PairSpec,
    PciDeviceSpec,
    PcieBusSpec,
    PcieFunctionSpec,
    PcieIommuSpec,
    PciePhbSpec,
    PcieReservedSpec,
    SubchannelSpec,
    ZpciEventSpec,
)
from pyvfio_backends.software.function_check import check_functions
from pyvfio_backends.software.hardware.devices.ckd_image import BadImage
from pyvfio_backends.software.power_check import check_power
from pyvfio_backends.software.units import UNITS
from pyvfio_backends.software.usage import (
    DiskSpec,
    HolderSpec,
    HostSpec,
    HugePagesSpec,
    MountSpec,
    NetSpec,
    ProcessSpec,
    SessionSpec,
    SwapSpec,
)
from pyvfio_backends.software.usage_check import check_usage
from pyvfio_backends.software.zpci_events import check_zpci_events

if typing.TYPE_CHECKING:
    from pyvfio_backends.software.pcie_tree import PcieTree

__all__ = ["find_machine", "load_machine", "machine_files"]

_TABLES: dict[str, dict[str, tuple[str, type]]] = {
    "css": {
        "path": ("paths", ChannelPathSpec),
        "subchannel": ("subchannels", SubchannelSpec),
        "other": ("others", OtherSubchannelSpec),
        "event": ("css_events", CssEventSpec),
    },
    "pci": {"device": ("pci_devices", PciDeviceSpec)},
    "pcie": {
        "bus": ("pcie_buses", PcieBusSpec),
        "function": ("pcie_functions", PcieFunctionSpec),
        "iommu": ("pcie_iommus", PcieIommuSpec),
        "reserved": ("pcie_reserved", PcieReservedSpec),
        "phb": ("pcie_phbs", PciePhbSpec),
    },
    "zpci": {
        "function": ("functions", FunctionSpec),
        "group": ("groups", GroupSpec),
        "pair": ("pairs", PairSpec),
        "event": ("zpci_events", ZpciEventSpec),
    },
}
_ROWS: dict[str, tuple[str, type]] = {
    "disk": ("disks", DiskSpec),
    "holder": ("holders", HolderSpec),
    "huge_pages": ("huge_pages", HugePagesSpec),
    "mount": ("mounts", MountSpec),
    "process": ("processes", ProcessSpec),
    "swap": ("swaps", SwapSpec),
}
_NOT_WRITTEN: dict[type, set[str]] = {PciDeviceSpec: {"uid", "fid"}}
"""What a table does not have, although its description does."""
_TABLES_OF: dict[str, tuple[str, ...]] = {
    "s390x": ("css", "pci", "zpci"),
    "x86_64": ("pcie",),
    **dict.fromkeys(POWER, ("pcie",)),
}
"""The tables of hardware that the machines of an architecture have."""
_MOST_PROCESSORS = 64
_MOST_BUSES, _MOST_SEGMENTS = 0x100, 0x10000
_IMAGES = (*range(IMAGES), *VIRTUAL_IMAGES)
_SINGLE: dict[str, type] = {"host": HostSpec, "net": NetSpec, "session": SessionSpec}


def machine_files() -> dict[str, Path]:
    """The machines that installed packages offer (entry points of group ``pyvfio.machines``): name -> file."""
    files: dict[str, Path] = {}
    providers: list[Callable[[], Mapping[str, Path]]] = plugins.load_all("pyvfio.machines")
    for provide in providers:
        files.update(provide())
    return dict(sorted(files.items()))


def find_machine(name: str) -> Path:
    """The file of a machine, by its name or as a path.  Raise `BadMachine`."""
    if "/" in name or name.endswith(".toml"):
        return Path(name)
    files = machine_files()
    if name not in files:
        raise BadMachine(
            name, "", None, "no machine of this name", f"one of: {', '.join(files)}; or a path to a .toml file"
        )
    return files[name]


def load_machine(path: Path) -> MachineSpec:
    """Read and check a machine file.  Raise `BadMachine`."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadMachine(str(path), "", None, f"the file cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadMachine(str(path), "", None, f"the file is not UTF-8 text: {error.reason}") from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        raise BadMachine(str(path), "", int(found[1]) if found else None, f"not TOML: {error}") from error
    return _Reader(str(path), text).machine(document)


class _Reader:
    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.lines = text.splitlines()
        self.headers = {line.split("#")[0].strip("[] \t") for line in self.lines if line.lstrip().startswith("[")}
        self.nested: dict[str, int] = {}

    def machine(self, document: dict[str, Any]) -> MachineSpec:
        known = {"machine", *_TABLES, *_ROWS, *_SINGLE}
        for key in document:
            if key not in known:
                raise self.error((key,), f"unknown table; a machine has {_listing(known)}")
        head = document.get("machine")
        if not isinstance(head, dict):
            raise self.error(("machine",), "the table [machine] is missing")
        parts_of = {field for parts in _TABLES.values() for field, _ in parts.values()}
        parts_of |= {field for field, _ in _ROWS.values()} | set(_SINGLE)
        scalars = {f.name for f in dataclasses.fields(MachineSpec)} - parts_of
        spec: MachineSpec = self.fill(MachineSpec, head, ("machine",), scalars)
        for table, parts in _TABLES.items():
            content = document.get(table, {})
            if not isinstance(content, dict):
                raise self.error((table,), "must be a table")
            for key, rows in content.items():
                if key not in parts:
                    raise self.error((table, key), f"unknown key; it has {_listing(parts)}")
                field, kind = parts[key]
                if not isinstance(rows, list):
                    raise self.error((table, key), f"must be written [[{table}.{key}]]")
                names = {f.name for f in dataclasses.fields(kind)} - _NOT_WRITTEN.get(kind, set())
                setattr(spec, field, [self.fill(kind, row, (table, key), names, n) for n, row in enumerate(rows)])
        for table, (field, kind) in _ROWS.items():
            setattr(spec, field, self.rows(kind, document.get(table, []), (table,)))
        for table, kind in _SINGLE.items():
            names = {f.name for f in dataclasses.fields(kind)}
            setattr(spec, table, self.fill(kind, document.get(table, {}), (table,), names))
        self.check(spec)
        for table in _TABLES:
            rows = document.get(table)
            if rows and table not in _TABLES_OF[spec.architecture]:
                raise self.error(
                    (table, next(iter(rows))), f"a machine of architecture {spec.architecture} has none", 0
                )
        self.check_pcie(spec)
        check_css_events(spec, self.error)
        whole = check_functions(spec, self.error)
        check_zpci_events(whole, self.error)
        check_usage(whole, self.error)
        return spec

    def rows(self, kind: type, rows: Any, where: tuple[str, ...]) -> list[Any]:
        """The rows of an array of tables; those of an array within rows are counted through the file."""
        key = ".".join(where)
        if not isinstance(rows, list):
            raise self.error(where, f"must be written [[{key}]]")
        names = {f.name for f in dataclasses.fields(kind)}
        made = []
        for row in rows:
            index = self.nested.setdefault(key, 0)
            self.nested[key] += 1
            made.append(self.fill(kind, row, where, names, index))
        return made

    def fill(self, kind: type, row: Any, where: tuple[str, ...], names: set[str], index: int | None = None) -> Any:
        if not isinstance(row, dict):
            raise self.error(where, "must be a table", index)
        types_ = typing.get_type_hints(kind)
        values: dict[str, Any] = {}
        for key, value in row.items():
            if key not in names:
                raise self.error((*where, key), f"unknown key; it has {_listing(names)}", index)
            values[key] = self.convert(value, types_[key], (*where, key), index)
        try:
            return kind(**values)
        except TypeError:
            needed = [f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]
            missing = ", ".join(sorted(set(needed) - set(values)))
            raise self.error(where, f"missing: {missing}", index) from None

    def convert(self, value: Any, hint: Any, where: tuple[str, ...], index: int | None) -> Any:
        origin = typing.get_origin(hint)
        if origin is list:
            return self.rows(typing.get_args(hint)[0], value, where)
        if hint is bool and isinstance(value, bool):
            return value
        if hint is int and isinstance(value, int) and not isinstance(value, bool):
            return value
        if hint is str and isinstance(value, str):
            return value
        if origin is tuple and isinstance(value, list):
            inner = typing.get_args(hint)[0]
            return tuple(self.convert(item, inner, where, index) for item in value)
        if origin is dict and isinstance(value, dict):
            return value
        wanted = {int: "a number", str: "a string", bool: "true or false"}.get(hint) or (
            "a list" if origin is tuple else "a table"
        )
        raise self.error(where, f"must be {wanted}, not {_kind(value)}", index)

    def check(self, spec: MachineSpec) -> None:
        """Rules between values."""
        if spec.architecture not in ARCHITECTURES:
            raise self.error(("machine", "architecture"), f"not modelled; there is {_listing(ARCHITECTURES)}")
        if spec.platform and (spec.architecture not in POWER or spec.platform not in PLATFORMS):
            there = f"there is {_listing(PLATFORMS)}" if spec.architecture in POWER else "only POWER has several"
            raise self.error(("machine", "platform"), f"no platform {spec.platform!r}; {there}")
        for name in spec.modules:
            if name.replace("-", "_") not in MODULES:
                raise self.error(("machine", "modules"), f"no module {name!r}; there is {_listing(MODULES)}")
        if spec.page_size not in (1 << 12, 1 << 14, 1 << 16):
            raise self.error(("machine", "page_size"), "must be 4096, 16384 or 65536")
        if spec.memory < spec.page_size:
            raise self.error(
                ("machine", "memory"), f"must be a page of {spec.page_size} bytes at least, not {spec.memory}"
            )
        if spec.memlock < -1:
            raise self.error(("machine", "memlock"), f"must be a number of bytes, or -1: none; not {spec.memlock}")
        check_power(spec, self.error)
        self.range(spec.slot_buses, 0, 0xFF, ("machine", "slot_buses"), None)
        if not 1 <= spec.processors <= _MOST_PROCESSORS:
            raise self.error(("machine", "processors"), f"must be 1 to {_MOST_PROCESSORS}")
        self.range(spec.nodes, 0, _MOST_PROCESSORS, ("machine", "nodes"), None)
        for n, pool in enumerate(spec.huge_pages if spec.nodes else ()):
            self.range(pool.node, 0, spec.nodes - 1, ("huge_pages", "node"), n)
        chpids = {path.chpid for path in spec.paths}
        for n, path in enumerate(spec.paths):
            self.range(path.chpid, 0, 255, ("css", "path", "chpid"), n)
            self.range(path.cmg, -1, 255, ("css", "path", "cmg"), n)
            self.range(path.chid, -1, 0xFFFF, ("css", "path", "chid"), n)
            if path.speed < 0 or path.speed % 10**8:
                raise self.error(("css", "path", "speed"), "must be a multiple of 100000000 bit/s", n)
        taken: set[object] = set()
        for n, row in enumerate(spec.subchannels):
            where = ("css", "subchannel")
            try:
                identities = SubchannelId.parse(row.schid), DeviceNumber.parse(row.device)
            except BadAddress as error:
                raise self.error(where, f"{error.text!r}: {error.cause}", n) from error
            self.place(*identities, where, n)
            for key, identity in zip(("schid", "device"), identities, strict=True):
                if (key, identity) in taken:
                    raise self.error((*where, key), f"{identity} is there twice", n)
                taken.add((key, identity))
            if row.unit not in UNITS:
                raise self.error((*where, "unit"), f"no control unit {row.unit!r}; there is {_listing(UNITS)}", n)
            if row.driver:
                from pyvfio_backends.software.linux.ccw_drivers import DRIVERS  # the boot needs them, too

                if row.driver not in DRIVERS:
                    cause = f"no driver {row.driver!r} of channel devices; there is {_listing(DRIVERS)}"
                    raise self.error((*where, "driver"), cause, n)
            self.image(row, taken, where, n)
            self.options(partial(UNITS[row.unit].make, row.options), where, n)
            if len(row.chpids) > 8:
                raise self.error((*where, "chpids"), "a subchannel has at most eight channel paths", n)
            for chpid in row.chpids:
                if chpid not in chpids:
                    raise self.error(
                        (*where, "chpids"), f"channel path {chpid:02x} is not described by [[css.path]]", n
                    )
            for key in ("pim", "pam", "pom"):
                self.range(getattr(row, key), 0, 255, (*where, key), n)
            self.range(row.count, 1, 65536, (*where, "count"), n)
        for n, other in enumerate(spec.others):
            where = ("css", "other")
            try:
                first = SubchannelId.parse(other.schid)
            except BadAddress as error:
                raise self.error((*where, "schid"), f"{error.text!r}: {error.cause}", n) from error
            if ("schid", first) in taken:
                raise self.error((*where, "schid"), f"{first} is there twice", n)
            taken.add(("schid", first))
            if other.type not in OTHER_TYPES:
                raise self.error((*where, "type"), f"no type {other.type!r}; there is {_listing(OTHER_TYPES)}", n)
            self.range(other.count, 1, 65536, (*where, "count"), n)

    def check_pcie(self, spec: MachineSpec) -> None:
        """Build the PCI Express tree, to find out whether it can be."""
        if spec.architecture in POWER:
            self.check_phbs(spec)
            return
        if spec.pcie_phbs:
            raise self.error(("pcie", "phb"), f"a machine of architecture {spec.architecture} has none", 0)
        if spec.architecture == "x86_64" and not spec.pcie_buses:
            raise self.error(("machine", "architecture"), "it has no root bus: x86_64 needs a [[pcie.bus]]")
        if not (spec.pcie_buses or spec.pcie_functions or spec.pcie_iommus or spec.pcie_reserved):
            return
        from pyvfio_backends.software.pcie_iommus import check_iommu, reserved_memory  # most machines have none of this

        for n, iommu in enumerate(spec.pcie_iommus):
            try:
                check_iommu(iommu, spec)
            except Misuse as error:
                raise self.error(("pcie", "iommu"), error.cause, n, error.next_step) from error
        from pyvfio_backends.software.pcie_tree import PcieTree

        tree = PcieTree()
        for n, bus in enumerate(spec.pcie_buses):
            self.range(bus.number, 0, _MOST_BUSES - 1, ("pcie", "bus", "number"), n)
            self.range(bus.segment, 0, _MOST_SEGMENTS - 1, ("pcie", "bus", "segment"), n)
            self.range(bus.node, -1, spec.nodes - 1, ("pcie", "bus", "node"), n)
            try:
                tree.add_bus(bus)
            except Misuse as error:
                raise self.error(("pcie", "bus"), error.cause, n, error.next_step) from error
        self.check_functions(spec, tree)
        for n, region in enumerate(spec.pcie_reserved):
            try:
                reserved_memory(region, spec)
            except Misuse as error:
                raise self.error(("pcie", "reserved"), error.cause, n, error.next_step) from error

    def check_functions(self, spec: MachineSpec, tree: PcieTree) -> None:
        """Plug the functions of a tree, to find out whether they can be."""
        taken: set[object] = set()
        for n, function in enumerate(spec.pcie_functions):
            self.image(function, taken, ("pcie", "function"), n)
            try:
                tree.add(function)
            except Misuse as error:
                raise self.error(("pcie", "function"), error.cause, n, error.next_step) from error

    def check_phbs(self, spec: MachineSpec) -> None:
        """Build the host bridges of POWER, to find out whether they can be."""
        for key, rows in (("bus", spec.pcie_buses), ("iommu", spec.pcie_iommus), ("reserved", spec.pcie_reserved)):
            if rows:
                raise self.error(("pcie", key), f"a machine of architecture {spec.architecture} has none", 0)
        from pyvfio_backends.software.hardware.pcie.remapping import NOTHING
        from pyvfio_backends.software.phb_tree import PhbTree
        from pyvfio_backends.software.spapr_tree import SpaprTree

        tree = SpaprTree(NOTHING) if spec.platform == PSERIES else PhbTree(NOTHING)
        for n, phb in enumerate(spec.pcie_phbs):
            try:
                tree.add_phb(phb)
            except Misuse as error:
                raise self.error(("pcie", "phb"), error.cause, n, error.next_step) from error
        self.check_functions(spec, tree)

    def options(self, build: Callable[[], object], where: tuple[str, ...], index: int) -> None:
        """Build what a row describes, to find out whether its options make sense."""
        try:
            build()
        except BadImage as error:
            raise self.error((*where, "options"), f"{error.obj}: {error.cause}", index, error.next_step) from error
        except Misuse as error:
            raise self.error((*where, "options"), error.cause, index, error.next_step) from error

    def place(self, schid: SubchannelId, device: DeviceNumber, where: tuple[str, ...], index: int) -> None:
        """Check the image of a subchannel, and that its device is named in the same image and set."""
        if schid.cssid not in _IMAGES:
            listed = ", ".join(f"{image:x}" for image in _IMAGES)
            raise self.error((*where, "schid"), f"there is no image {schid.cssid:x}; there is {listed}", index)
        if (device.cssid, device.ssid) != (schid.cssid, schid.ssid):
            cause = f"{device} is not in the image and set of its subchannel {schid}"
            raise self.error((*where, "device"), cause, index)

    def image(
        self, row: SubchannelSpec | PcieFunctionSpec, taken: set[object], where: tuple[str, ...], index: int
    ) -> None:
        """Find an image beside the machine file.  It is for one device: two would not see what the other writes."""
        name = row.options.get("image")
        if not isinstance(name, str) or not name:
            return
        if "\0" in name:
            raise self.error((*where, "options"), f"{name!r} is no name of a file", index)
        path = os.path.join(os.path.dirname(self.path), name)
        row.options["image"] = path
        if not row.options.get("readonly"):
            key = ("image", os.path.realpath(path))
            if key in taken or (isinstance(row, SubchannelSpec) and row.count > 1):
                raise self.error((*where, "options"), f"{name} is the image of two devices", index, "make a copy")
            taken.add(key)

    def range(self, value: int, low: int, high: int, where: tuple[str, ...], index: int | None) -> None:
        if not low <= value <= high:
            raise self.error(where, f"must be between {low:#x} and {high:#x}, not {value:#x}", index)

    def error(self, where: tuple[str, ...], cause: str, index: int | None = None, next_step: str = "") -> BadMachine:
        return BadMachine(self.path, ".".join(where), self.line(where, index), cause, next_step)

    def line(self, where: tuple[str, ...], index: int | None) -> int | None:
        """The line of a key: the `index`-th header of its table, then the key below it."""
        top = where[0] == "machine" or (where[0] in {*_ROWS, *_SINGLE} and ".".join(where[:2]) not in self.headers)
        depth = 1 if top or len(where) == 1 else 3 if ".".join(where[:3]) in self.headers else 2
        header = ".".join(where[:depth])
        key = where[depth] if len(where) > depth else None
        seen = -1
        for number, line in enumerate(self.lines, 1):
            text = line.split("#")[0].strip()
            if text.strip("[] ") == header and text.startswith("["):
                seen += 1
                if index is None or seen == index:
                    if key is None:
                        return number
                    for below, other in enumerate(self.lines[number:], number + 1):
                        if other.lstrip().startswith("["):
                            break
                        if re.match(rf"\s*{re.escape(key)}\s*=", other):
                            return below
                    return number
        if len(where) > 1:
            return self.line(where[:-1], index if depth < len(where) else None)
        written = (n for n, line in enumerate(self.lines, 1) if re.match(rf"\s*{re.escape(where[0])}\s*[=.]", line))
        return next(written, None)


def _listing(names: Any) -> str:
    return ", ".join(sorted(names))


def _kind(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "a number" if isinstance(value, int) else "a fraction"
    return {dict: "a table", list: "a list", str: "a string", bool: "true or false"}.get(type(value), "a date or time")
