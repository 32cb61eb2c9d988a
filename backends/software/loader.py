"""Reads machine files: TOML to `MachineSpec`, with errors that name the file, the key and the line."""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pyvfio import plugins
from pyvfio.errors import BadMachine
from pyvfio_backends.software.css_check import check_css
from pyvfio_backends.software.css_events import check_css_events
from pyvfio_backends.software.description import (
    POWER,
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
from pyvfio_backends.software.file_report import listing
from pyvfio_backends.software.function_check import check_functions
from pyvfio_backends.software.image_files import ImageFiles
from pyvfio_backends.software.machine_check import check_machine
from pyvfio_backends.software.pcie_check import check_pcie
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
                raise self.error((key,), f"unknown table; a machine has {listing(known)}")
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
                    raise self.error((table, key), f"unknown key; it has {listing(parts)}")
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
        images = ImageFiles(os.path.dirname(self.path), self.error)
        check_machine(spec, self.error)
        check_css(spec, images, self.error)
        for table in _TABLES:
            rows = document.get(table)
            if rows and table not in _TABLES_OF[spec.architecture]:
                raise self.error(
                    (table, next(iter(rows))), f"a machine of architecture {spec.architecture} has none", 0
                )
        check_pcie(spec, images, self.error)
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
                raise self.error((*where, key), f"unknown key; it has {listing(names)}", index)
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
        written = (
            n for n, line in enumerate(self.lines, 1) if re.match(rf"[\s\[]*{re.escape(where[0])}\s*[=.\]]", line)
        )
        return next(written, None)


def _kind(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "a number" if isinstance(value, int) else "a fraction"
    return {dict: "a table", list: "a list", str: "a string", bool: "true or false"}.get(type(value), "a date or time")
