"""The table of the active mediated devices."""

from __future__ import annotations

from dataclasses import dataclass

from pyvfio.backend import Holder
from pyvfio.binding.facts import facts
from pyvfio.devices import MediatedDevice
from pyvfio.errors import NoSuchDevice
from pyvfio.host import Host
from pyvfio.persistence.definition import PersistentMdev
from pyvfio.persistence.definitions import Definitions
from pyvfio_tools.output import print_json, print_table

__all__ = ["print_active"]


@dataclass(frozen=True, slots=True)
class _Row:
    """One device as it is now; `start` is that of its definition (None: it has none)."""

    uuid: str
    parent: str
    type: str
    driver: str | None
    group: int | None
    node: str | None
    start: str | None
    users: tuple[Holder, ...]

    def as_dict(self) -> dict[str, object]:
        return {
            "uuid": self.uuid,
            "parent": self.parent,
            "type": self.type,
            "driver": self.driver,
            "group": self.group,
            "node": self.node,
            "defined": self.start,
            "users": [{"pid": user.pid, "name": user.name, "fd": user.fd} for user in self.users],
        }

    def cells(self) -> tuple[str, ...]:
        group = "-" if self.group is None else str(self.group)
        users = dict.fromkeys(f"{user.name} (pid {user.pid})" for user in self.users)
        return (
            self.uuid,
            self.parent,
            self.type,
            self.driver or "-",
            group,
            self.start or "-",
            ", ".join(users) or "-",
        )


def print_active(host: Host, as_json: bool) -> None:
    """Print the mediated devices that are active, with who uses them and whether they are persistent."""
    known = Definitions(host).mdevs.all()
    starts = {(one.uuid, one.parent): one.start for one in known if isinstance(one, PersistentMdev)}
    rows = []
    for device in host.mdevs():
        try:
            rows.append(_row(device, starts.get((device.address, device.parent.name))))
        except NoSuchDevice:
            continue  # removed meanwhile
    if as_json:
        print_json([row.as_dict() for row in rows])
        return
    headings = ("UUID", "PARENT", "TYPE", "DRIVER", "GROUP", "DEFINED", "USERS")
    print_table(headings, [row.cells() for row in rows], empty="no mediated devices")


def _row(device: MediatedDevice, start: str | None) -> _Row:
    now = facts(device)
    group = None if now.group is None else now.group.number
    users = tuple(dict.fromkeys(now.holders))
    return _Row(device.name, device.parent.name, device.type.id, now.driver, group, now.vfio_node, start, users)
