"""Machines in use: the server of the fixtures, and small ones from text."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyvfio.uevent import Uevent
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import MachineSpec
from pyvfio_backends.software.loader import find_machine, load_machine
from pyvfio_backends.software.machine import Machine

VIRTIO = "/sys/bus/pci/drivers/virtio-pci"


def errno_of(call: Callable[..., Any], *arguments: Any) -> str:
    """The name of the errno of a failing call; what a good one returned otherwise, as text."""
    try:
        return repr(call(*arguments))
    except OSError as error:
        return errno.errorcode[error.errno or 0]


class Used:
    """A machine that is in use, and its files as Python calls."""

    def __init__(self, spec: MachineSpec) -> None:
        self.machine = Machine(spec)
        self.host = SoftwareBackend(self.machine)
        self.events = self.host.uevents()

    def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        return self.host.open(path, flags)

    def read(self, path: str) -> str:
        fd = self.open(path)
        try:
            return self.host.read(fd, 1 << 16).decode().removesuffix("\n")
        finally:
            self.host.close(fd)

    def write(self, path: str, text: str) -> None:
        fd = self.open(path, os.O_WRONLY)
        try:
            self.host.write(fd, text.encode())
        finally:
            self.host.close(fd)

    def exists(self, path: str) -> bool:
        try:
            self.host.stat(path)
        except FileNotFoundError:
            return False
        return True

    def names(self, path: str) -> list[str]:
        return sorted(self.host.listdir(path))

    def texts(self, path: str) -> dict[str, str]:
        """The attributes in a directory that can be read."""
        found = {}
        for name in self.names(path):
            mode = self.host.lstat(f"{path}/{name}").st_mode
            if mode & 0o170000 == 0o100000 and mode & 0o444:
                found[name] = self.read(f"{path}/{name}")
        return found

    def new_events(self) -> list[Uevent]:
        return list(self.events)

    def close(self) -> None:
        self.host.close()


def server() -> Used:
    return Used(load_machine(find_machine("s390x-server")))


def from_text(folder: Path, text: str) -> Used:
    path = folder / "machine.toml"
    path.write_text(text)
    return Used(load_machine(path))
