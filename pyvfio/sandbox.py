"""A sandbox: a directory that keeps one software machine, with which all programs that name it work.

It holds the machine file as it was at the beginning, further PCI devices if it was given some, and the log of the
calls that changed the machine.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from pyvfio import plugins
from pyvfio.errors import Misuse
from pyvfio.host import Host

__all__ = ["VARIABLE", "Sandbox"]

VARIABLE = "PYVFIO_SANDBOX"
"""The environment variable that names the directory; commands without --backend and --machine follow it."""

_MACHINE, _LOG, _DEVICES = "machine.toml", "calls.jsonl", "devices.txt"


class Sandbox:
    """The sandbox in `directory`.  Raise `Misuse` when there is none.

    >>> with Sandbox.create("/tmp/practice", "z15-lpar").host() as host:  # doctest: +SKIP
    ...     pyvfio.bind(host.function("0011:00:00.0"))
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory).absolute()
        if not self.is_one(directory):
            raise Misuse(
                "use sandbox",
                str(directory),
                cause=f"the directory has no {_MACHINE} with its {_LOG}; a sandbox goes with its shell",
                next_step=f"unset {VARIABLE}, or leave this shell and begin a sandbox with pyvfio sandbox",
            )

    @staticmethod
    def is_one(directory: str | os.PathLike[str]) -> bool:
        """Whether a directory has a sandbox."""
        return all((Path(directory) / name).is_file() for name in (_MACHINE, _LOG))

    @classmethod
    def create(cls, directory: str | os.PathLike[str], machine: str, *, devices: Sequence[str] = ()) -> Self:
        """Make a sandbox of `machine`, a name or the path of a machine file, in a directory that is empty or missing.

        `devices` are further PCI devices of it, in QEMU's words.  Raise `Misuse` for a directory with something in it
        and for devices that the machine cannot have, `BadMachine` for a machine that cannot be read, OSError where the
        directory cannot be written.
        """
        place = Path(directory)
        place.mkdir(parents=True, exist_ok=True)
        if any(place.iterdir()):
            raise Misuse("make sandbox", str(directory), cause="the directory is not empty and has no sandbox")
        source = Path(machine) if "/" in machine or machine.endswith(".toml") else _installed(machine)
        with Host("software", machine=str(source) if source else machine, devices=devices):
            pass  # it can be booted, or says why not
        if devices:
            (place / _DEVICES).write_text("".join(f"{words}\n" for words in devices))
        if source is not None:
            shutil.copyfile(source, place / _MACHINE)
            _link_images(source, place)
        with Host("software", machine=str(place / _MACHINE), log=str(place / _LOG), devices=devices):
            return cls(directory)

    def host(self) -> Host:
        """The host, with all changes that were made so far."""
        machine, log = str(self.directory / _MACHINE), str(self.directory / _LOG)
        return Host("software", machine=machine, log=log, devices=self.devices)

    @property
    def devices(self) -> tuple[str, ...]:
        """The PCI devices that it has beyond its machine file, in QEMU's words."""
        file = self.directory / _DEVICES
        return tuple(file.read_text().splitlines()) if file.is_file() else ()

    @property
    def machine(self) -> str:
        """The name of its machine."""
        import tomllib  # only for the prompt

        with (self.directory / _MACHINE).open("rb") as file:
            name: str = tomllib.load(file)["machine"]["name"]
        return name


def _link_images(source: Path, place: Path) -> None:
    """Have the images of disks that lie beside a machine file found beside its copy, too.

    Raise `Misuse` for one that is named by way of another directory (``..``).
    """
    import tomllib  # only for the making of a sandbox

    for name in _images(tomllib.loads(source.read_text(encoding="utf-8"))):
        if os.path.isabs(name):
            continue
        if ".." in Path(name).parts:
            cause = f"the image {name} is named by way of another directory"
            raise Misuse("make sandbox", str(place), cause=cause, next_step="write its absolute path")
        link = place / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to((source.parent / name).absolute())


def _images(value: object) -> Iterator[str]:
    """The values of all keys ``image`` in what a machine file says."""
    if isinstance(value, dict):
        for key, below in value.items():
            if key == "image" and isinstance(below, str):
                yield below
            yield from _images(below)
    elif isinstance(value, list):
        for below in value:
            yield from _images(below)


def _installed(name: str) -> Path | None:
    """The file of an installed machine."""
    files: dict[str, Path] = {}
    for provide in plugins.load_all("pyvfio.machines"):
        files.update(provide())
    return files.get(name)
