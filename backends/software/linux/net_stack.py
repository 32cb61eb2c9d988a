"""The addresses and routes of the machine, and the session that its user came by: `pyvfio.network.Network`."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from pyvfio.network import Link, Network, Route
from pyvfio_backends.software.linux.subsystems import Key

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.net import Interface

__all__ = ["NetStack", "stack"]

_STACK: Final[Key[NetStack]] = Key("net")


class NetStack:
    """What the interfaces are used for; ``kernel.network`` is made anew at every change."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.addresses: dict[str, list[str]] = {}
        self.routes: list[Route] = []
        self.peer = ""

    def removed(self, name: str) -> None:
        """An interface is gone: its addresses and routes are, too."""
        self.addresses.pop(name, None)
        self.routes = [route for route in self.routes if route.interface != name]
        self.changed()

    def changed(self) -> None:
        """Make ``kernel.network`` from what is there."""
        from pyvfio_backends.software.linux.net import Interface

        found = self.kernel.class_("net").devices.values()
        interfaces = sorted((one for one in found if isinstance(one, Interface)), key=lambda one: one.index)
        routes = tuple(sorted(self._all_routes(), key=_order))
        self.kernel.network = Network(
            tuple(self._link(one) for one in interfaces), routes, self.peer, self._way(routes) if self.peer else ""
        )

    def _link(self, interface: Interface) -> Link:
        return Link(
            interface.index,
            interface.name,
            interface.kind,
            interface.master.name if interface.master is not None else "",
            interface.lower.name if interface.lower is not None else "",
            interface.up,
            tuple(self.addresses.get(interface.name, ())),
        )

    def _all_routes(self) -> list[Route]:
        """Those that were set, and one to the network of each address, which the kernel makes."""
        own = [
            Route(str(network), name)
            for name, addresses in self.addresses.items()
            for network in (ipaddress.ip_interface(address).network for address in addresses)
            if network.prefixlen < network.max_prefixlen and not network.is_loopback
        ]
        return [*self.routes, *(route for route in own if route not in self.routes)]

    def _way(self, routes: tuple[Route, ...]) -> str:
        """The interface by which the peer is reached: the longest prefix decides."""
        local = {str(ipaddress.ip_interface(text).ip) for texts in self.addresses.values() for text in texts}
        if self.peer in local:
            return "lo"
        best = max(routes, key=lambda route: route.covers(self.peer), default=None)
        return best.interface if best is not None and best.covers(self.peer) >= 0 else ""


def _order(route: Route) -> tuple[int, int, int]:
    """The order of ``ip route``: by network, IPv4 first."""
    if route.destination == "default":
        return (6 if ":" in route.gateway else 4, 0, 0)
    network = ipaddress.ip_network(route.destination, strict=False)
    return (network.version, int(network.network_address), network.prefixlen)


def stack(kernel: Kernel) -> NetStack:
    """The one of this kernel."""
    return kernel.subsystems.get_or_make(_STACK, lambda: NetStack(kernel))
