"""What a check says, and what it may look at."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pyvfio.errors import PyvfioError
from pyvfio.files import HostFiles
from pyvfio.host import Host

__all__ = ["OK", "PROBLEM", "WARNING", "Patient", "Remark", "amount"]

OK, WARNING, PROBLEM = "OK", "warning", "problem"
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024


@dataclass(frozen=True, slots=True)
class Remark:
    """One line of the report: what was looked at (`check`), its `status`, in words (`detail`), and the `next_step`.

    ``problem`` means that VFIO will fail, or that a device is in a state in which nobody can use it; ``warning`` that
    something will fail for some, or is less safe than it could be.  `next_step` is empty where nothing is to be done.
    """

    check: str
    status: str
    detail: str
    next_step: str = ""


def amount(size: int) -> str:
    """A number of bytes in the largest unit that divides it or keeps it readable (``8 MiB``)."""
    value, unit = size, 0
    while value >= _STEP and unit + 1 < len(_UNITS) and (value % _STEP == 0 or value >= 10 * _STEP):
        value //= _STEP
        unit += 1
    return f"{value} {_UNITS[unit]}"


class Patient:
    """The host that is examined, with `need` and `journal` of `examine`; files that cannot be read are None."""

    def __init__(self, host: Host, need: int | None = None, journal: str | None = None) -> None:
        self.host = host
        self.need = need
        self.journal = journal
        self._files = HostFiles(host.backend)

    def ask(self, check: Callable[[Patient], Iterator[Remark]]) -> list[Remark]:
        """What a check says; a warning that it could not look, instead of an error."""
        found: list[Remark] = []
        try:
            found.extend(check(self))
        except PyvfioError as error:
            name = f"{check.__module__.rpartition('.')[2]}.{check.__name__}"
            found.append(Remark(name, WARNING, f"cannot be looked at: {error}".replace("\n", " "), error.next_step))
        return found

    def read(self, path: str) -> str | None:
        """A file's text without white space at its ends; None when it is not there or cannot be read."""
        try:
            text = self._files.read(path)
        except PyvfioError:
            return None
        return None if text is None else text.strip()

    def number(self, path: str) -> int:
        """A number in a file, 0 when there is none."""
        text = self.read(path)
        return int(text) if text is not None and text.isdecimal() else 0

    def names(self, path: str) -> list[str]:
        """The names in a directory; empty when it cannot be read."""
        try:
            return self._files.names(path)
        except PyvfioError:
            return []

    def exists(self, path: str) -> bool:
        """Whether something is there."""
        return self.status(path) is not None

    def status(self, path: str) -> os.stat_result | None:
        """Owner, mode and device number of a file."""
        try:
            return self.host.backend.stat(path)
        except OSError:
            return None

    def opens(self, path: str) -> int:
        """0 when a node opens for reading and writing, else the errno."""
        try:
            self.host.backend.close(self.host.backend.open(path, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            return error.errno or -1
        return 0

    @property
    def is_power(self) -> bool:
        """Whether it is a POWER machine."""
        return self.exists("/proc/powerpc") or self.exists("/sys/module/vfio_iommu_spapr_tce")

    @property
    def is_s390(self) -> bool:
        """Whether it is an IBM Z machine."""
        return self.exists("/sys/bus/css") or any(
            self.exists(f"/sys/bus/pci/devices/{name}/function_id") for name in self.names("/sys/bus/pci/devices")[:1]
        )
