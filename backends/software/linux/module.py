"""Modules: ``/sys/module``, with the parameters that VFIO people read and write."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from pyvfio_backends.software.linux.uevents import UeventSource, synthetic_uevents
from pyvfio_backends.software.linux.vfs import Attribute, Directory, Node, StaticDirectory, Symlink

__all__ = ["Module", "Modules"]


class Module:
    """A loaded module: `refcnt`, its users (`holders`) and its `parameters` (name -> attribute).

    One that is `built_in` shows nothing but its parameters.
    """

    def __init__(
        self,
        name: str,
        *,
        version: str = "",
        parameters: Mapping[str, Attribute] | None = None,
        built_in: bool = False,
    ) -> None:
        self.name = name
        self.built_in = built_in
        self.version = version
        self.refcnt = 0
        self.holders: list[str] = []
        self.parameters = dict(parameters or {})
        self.drivers: dict[str, str] = {}

    def directory(self, uevents: UeventSource) -> Directory:
        """The directory of the module, whose ``uevent`` sends to `uevents`."""
        path = f"/module/{self.name}"
        entries: dict[str, Node] = {
            "initstate": Attribute(lambda: "live\n"),
            "refcnt": Attribute(lambda: f"{self.refcnt}\n"),
            "taint": Attribute(lambda: "\n"),
            "uevent": synthetic_uevents(uevents, path, "module"),
            "holders": StaticDirectory({name: Symlink(f"../../{name}") for name in self.holders}),
        }
        if self.built_in:
            entries = {"uevent": entries["uevent"]}
        if self.version:
            entries["version"] = Attribute(lambda: f"{self.version}\n")
        if self.parameters:
            entries["parameters"] = StaticDirectory(dict(self.parameters))
        if self.drivers:
            entries["drivers"] = StaticDirectory(
                {name: Symlink(os.path.relpath(target, f"{path}/drivers")) for name, target in self.drivers.items()}
            )
        return StaticDirectory(dict(entries))


class Modules(Directory):
    """The table of loaded modules."""

    __slots__ = ("_uevents", "table")

    def __init__(self, uevents: UeventSource) -> None:
        self._uevents = uevents
        self.table: dict[str, Module] = {}

    def load(self, module: Module, *, needs: Iterable[str] = ()) -> Module:
        """Add a module; the modules it `needs` get it as a holder and a reference."""
        self.table[module.name] = module
        for name in needs:
            if name in self.table:
                self.table[name].holders.append(module.name)
                self.table[name].refcnt += 1
        return module

    def lookup(self, name: str) -> Node | None:
        module = self.table.get(name)
        return None if module is None else module.directory(self._uevents)

    def names(self) -> Iterable[str]:
        return list(self.table)
