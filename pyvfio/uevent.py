"""A kernel uevent as a value, and the stream that delivers them.

The kernel sends ``ACTION@DEVPATH`` and then ``KEY=VALUE`` strings, each ended by a zero byte
(``lib/kobject_uevent.c``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, Self

__all__ = ["Uevent", "UeventStream"]


@dataclass(frozen=True, slots=True)
class Uevent:
    """One event: `action` (add, remove, change, bind, ...), `devpath` below ``/sys`` and all `properties` in order."""

    action: str
    devpath: str
    properties: Mapping[str, str]

    @property
    def subsystem(self) -> str:
        """The bus or class (``pci``, ``css``, ``mdev``, ``vfio``)."""
        return self.properties.get("SUBSYSTEM", "")

    @property
    def seqnum(self) -> int:
        """The kernel's serial number of the event."""
        return int(self.properties.get("SEQNUM", "0"))

    @property
    def name(self) -> str:
        """The last part of the device path."""
        return self.devpath.rsplit("/", 1)[-1]

    def lines(self) -> list[str]:
        """The strings as the kernel sends them: the header, then ``KEY=VALUE`` in order."""
        return [f"{self.action}@{self.devpath}", *(f"{key}={value}" for key, value in self.properties.items())]

    def to_bytes(self) -> bytes:
        """The netlink payload: the lines, each ended by a zero byte."""
        return b"".join(line.encode() + b"\0" for line in self.lines())

    @classmethod
    def from_bytes(cls, payload: bytes) -> Self:
        """Parse a netlink payload.  Raise `ValueError` when it is not one."""
        header, *pairs = payload.rstrip(b"\0").split(b"\0")
        action, at, devpath = header.decode(errors="replace").partition("@")
        if not at:
            raise ValueError(f"not a kernel uevent: {payload[:40]!r}")
        properties: dict[str, str] = {}
        for pair in pairs:
            key, equals, value = pair.decode(errors="replace").partition("=")
            if equals:
                properties[key] = value
        return cls(action, devpath, properties)

    def __str__(self) -> str:
        driver = self.properties.get("DRIVER")
        return f"{self.action:<7} {self.subsystem:<9} {self.devpath}" + (f" driver={driver}" if driver else "")


class UeventStream(Protocol):
    """Events since the stream was opened, in order.  A context manager; `fileno` is readable when one waits."""

    def read(self, timeout: float | None = 0.0) -> Uevent | None:
        """Take the next event; wait up to `timeout` seconds (None: for ever).  None when none came."""

    def fileno(self) -> int:
        """A descriptor for `select` and friends; -1 after `close`."""

    def close(self) -> None:
        """Stop listening and free the descriptor."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def __iter__(self) -> Iterator[Uevent]:
        """The events that wait now, without blocking."""
