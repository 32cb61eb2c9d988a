"""The network of a host as values: what must be known before an interface's device is taken away.

The kernel backend reads them with pyroute2 (``rtnetlink(7)``), a software machine gives those of its description.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

__all__ = ["Link", "Network", "Route"]


@dataclass(frozen=True, slots=True)
class Link:
    """An interface: `index`, `name` and `kind` (``bond``, ``bridge``, ``vlan``, ``macvlan``, ...; empty for a device).

    `master` is the name of the bond, bridge or team that it belongs to, `lower` the interface that it stands on (a
    VLAN's), both empty without one.  `addresses` are ``ADDRESS/PREFIX`` texts.
    """

    index: int
    name: str
    kind: str = ""
    master: str = ""
    lower: str = ""
    up: bool = False
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """A route to `destination` (``default`` or ``NETWORK/PREFIX``) through `interface`, by `gateway` if there is one.

    The routes that the kernel makes by itself for local and broadcast addresses are not listed.
    """

    destination: str
    interface: str
    gateway: str = ""

    def covers(self, address: str) -> int:
        """The length of the prefix if `address` is within the destination, else -1."""
        try:
            where = ipaddress.ip_address(address)
            if self.destination == "default":
                return 0 if not self.gateway or ipaddress.ip_address(self.gateway).version == where.version else -1
            network = ipaddress.ip_network(self.destination, strict=False)
        except ValueError:
            return -1
        return network.prefixlen if where.version == network.version and where in network else -1


@dataclass(frozen=True, slots=True)
class Network:
    """All `links` and `routes`; `peer` is the address that the caller's own remote session comes from (empty: none).

    `peer_interface` is the interface by which the kernel reaches it, as the kernel itself says.
    """

    links: tuple[Link, ...] = ()
    routes: tuple[Route, ...] = ()
    peer: str = ""
    peer_interface: str = ""
