"""The network interfaces of a subject, and those that stand on them: VLANs, bonds, bridges, teams.

They are taken from the interfaces' own directories (``upper_*`` and ``master`` links, ``net/core/dev.c``) and from the
host's network as the backend tells it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyvfio.binding.probes.subject import Subject, below_at, failure
from pyvfio.errors import PyvfioError
from pyvfio.network import Link, Network

__all__ = ["Interface", "Interfaces"]


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface: `name`, its `kind` (``vlan``, ``bond``; empty for the device's own), what it stands `on`.

    `member` says whether that is a member of it (of a bond or bridge), or carries it (a VLAN).
    """

    name: str
    kind: str = ""
    on: Interface | None = None
    member: bool = False

    @property
    def where(self) -> str:
        """The name and the way down to the device's own: ``br0 on bond0 on eth0``."""
        return self.name if self.on is None else f"{self.name} on {self.on.where}"

    @property
    def path(self) -> str:
        """Where sysfs shows it."""
        return f"/sys/class/net/{self.name}"


class Interfaces:
    """All interfaces of `subject`, its own first.  `network` is empty, and that is noted, when it cannot be asked."""

    def __init__(self, subject: Subject) -> None:
        self._sysfs = subject.sysfs
        self.network = Network()
        try:
            self.network = subject.surroundings.network
        except (PyvfioError, OSError) as error:
            subject.blind(f"addresses and routes are not known: {failure(error)}")
        self.all = [Interface(one.name) for one in subject.of("net")]
        for interface in self.all:  # grows while it is read
            for upper in self._uppers(interface):
                if upper.name not in {one.name for one in self.all}:
                    self.all.append(upper)

    def link(self, name: str) -> Link | None:
        """What the network says of an interface."""
        return next((link for link in self.network.links if link.name == name), None)

    def _uppers(self, interface: Interface) -> Iterator[Interface]:
        name = interface.name
        named = {one.removeprefix("upper_") for one in self._sysfs.names(interface.path) if one.startswith("upper_")}
        named |= {link.name for link in self.network.links if link.lower == name}
        mine = self.link(name)
        master = self._sysfs.link_name(f"{interface.path}/master") or (mine.master if mine is not None else "")
        for upper in sorted(named | ({master} - {""})):
            link = self.link(upper)
            kind = link.kind if link is not None else ""
            if not kind:
                kind = below_at(self._sysfs, f"/sys/class/net/{upper}").value("DEVTYPE")
            yield Interface(upper, kind, interface, upper == master)
