"""Interfaces without a device of their own: loopback, bonds, bridges and VLANs.

Sources: ``drivers/net/loopback.c``, ``drivers/net/bonding/bond_sysfs.c``, ``net/bridge/br_sysfs_br.c`` and
``br_sysfs_if.c``, ``net/8021q/vlan_dev.c``.
"""

from __future__ import annotations

import os

from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.net import Interface
from pyvfio_backends.software.linux.vfs import Node, StaticDirectory, Symlink, constant
from pyvfio_backends.software.usage import BOND_MODES

__all__ = ["Bond", "Bridge", "Loopback", "Vlan"]

_IFF_LOOPBACK, _IFF_MASTER, _IFF_SLAVE = 0x8, 0x400, 0x800
_ARPHRD_LOOPBACK = 772


def _files(texts: dict[str, str]) -> dict[str, Node]:
    return {name: constant(f"{text}\n") for name, text in texts.items()}


class _Virtual(Interface):
    assigned = ("3", "3")
    changes = ("0", "0", "0")

    def __init__(self, kernel: Kernel, name: str, address: str, *, index: int | None = None) -> None:
        super().__init__(kernel, None, name, address, index=index)

    def receive_queue(self) -> dict[str, Node]:
        return {}

    def add_port(self, port: Interface) -> None:
        """Take a port."""
        port.master = self
        self.ports.append(port)


class Loopback(_Virtual):
    """``lo``."""

    operstate = "unknown"
    flags = _IFF_LOOPBACK
    broadcast = "00:00:00:00:00:00"
    assigned = ("0", "2")
    mtu = 65536
    hardware_type = _ARPHRD_LOOPBACK


class Bond(_Virtual):
    """A bond in a `mode`; the first port is the active one."""

    kind = "bond"
    flags = Interface.flags | _IFF_MASTER
    port_flags = _IFF_SLAVE
    mode = BOND_MODES[0]

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        texts = {
            "active_slave": self.ports[0].name if self.ports else "",
            "mii_status": "up" if self.ports else "down",
            "miimon": "100",
            "mode": f"{self.mode} {BOND_MODES.index(self.mode)}",
            "primary": "",
            "slaves": " ".join(port.name for port in self.ports),
        }
        return {**super().attributes(), "bonding": StaticDirectory(dict(_files(texts)))}

    def entries_of_port(self, port: Interface) -> dict[str, Node]:
        """See `Interface.entries_of_port`."""
        texts = {
            "link_failure_count": "0",
            "mii_status": "up",
            "perm_hwaddr": port.address,
            "queue_id": "0",
            "state": "active" if port is self.ports[0] else "backup",
        }
        return {"bonding_slave": StaticDirectory(dict(_files(texts)))}


class Bridge(_Virtual):
    """A bridge."""

    kind = "bridge"

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        here = f"{self.devpath}/brif"
        identity = f"8000.{self.address.replace(':', '')}"
        texts = {"bridge_id": identity, "priority": "32768", "root_id": identity, "root_port": "0", "stp_state": "0"}
        ports = {port.name: Symlink(os.path.relpath(f"{port.devpath}/brport", here)) for port in self.ports}
        return {
            **super().attributes(),
            "bridge": StaticDirectory(dict(_files(texts))),
            "brif": StaticDirectory(dict(ports)),
        }

    def entries_of_port(self, port: Interface) -> dict[str, Node]:
        """See `Interface.entries_of_port`."""
        number = self.ports.index(port) + 1
        files = _files({"port_id": f"{0x8000 | number:#x}", "port_no": f"{number:#x}", "priority": "32", "state": "3"})
        files["bridge"] = Symlink(os.path.relpath(self.devpath, f"{port.devpath}/brport"))
        return {"brport": StaticDirectory(dict(files))}


class Vlan(_Virtual):
    """A VLAN of the interface `lower`."""

    kind = "vlan"

    def __init__(self, lower: Interface, name: str) -> None:
        super().__init__(lower.kernel, name, lower.address)
        self.lower = lower
