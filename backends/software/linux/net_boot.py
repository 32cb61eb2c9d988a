"""Puts the machine's network into the state that its description names."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from pyvfio.errors import Misuse, NotModelled
from pyvfio.network import Route
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.net import Interface, appear
from pyvfio_backends.software.linux.net_stack import stack
from pyvfio_backends.software.linux.net_virtual import Bond, Bridge, Loopback, Vlan
from pyvfio_backends.software.linux.vfs import Attribute
from pyvfio_backends.software.usage import BondSpec, BridgeSpec, NetSpec

__all__ = ["boot_network"]

_NOBODY = "00:00:00:00:00:00"


def boot_network(kernel: Kernel, net: NetSpec, peer: str) -> None:
    """Add ``lo`` and the interfaces without devices, join them, and set addresses and routes; no events."""
    stack_ = stack(kernel)
    appear(Loopback(kernel, "lo", _NOBODY, index=1), quiet=True)
    for bond_row in net.bond:
        bond = Bond(kernel, bond_row.name, _address(kernel, bond_row.ports))
        bond.mode = bond_row.mode
        appear(bond, quiet=True)
    for bridge_row in net.bridge:
        appear(Bridge(kernel, bridge_row.name, _address(kernel, bridge_row.ports)), quiet=True)
    for vlan_row in net.vlan:
        appear(Vlan(_interface(kernel, vlan_row.lower), vlan_row.name), quiet=True)
    used = {"lo", *net.up, *(vlan.lower for vlan in net.vlan), *(vlan.name for vlan in net.vlan)}
    masters: list[BondSpec | BridgeSpec] = [*net.bond, *net.bridge]
    for row in masters:
        used |= {row.name, *row.ports}
        master = _interface(kernel, row.name)
        if isinstance(master, Bond | Bridge):
            for port in row.ports:
                master.add_port(_interface(kernel, port))
    if net.bond:
        names = "".join(f"{row.name} " for row in net.bond)
        kernel.class_("net").files["bonding_masters"] = Attribute(lambda: f"{names.rstrip()}\n", _store_masters)
    stack_.addresses["lo"] = ["127.0.0.1/8", "::1/128"]
    for address in net.address:
        used.add(address.interface)
        stack_.addresses.setdefault(address.interface, []).append(str(ipaddress.ip_interface(address.address)))
    for route in net.route:
        used.add(route.interface)
        stack_.routes.append(Route(route.destination, route.interface, route.gateway))
    for name in used:
        _interface(kernel, name).up = True
    stack_.peer = peer
    stack_.changed()


def _interface(kernel: Kernel, name: str) -> Interface:
    found = kernel.class_("net").devices.get(name)
    if not isinstance(found, Interface):
        raise Misuse("boot machine", name, cause="there is no such interface")
    return found


def _address(kernel: Kernel, ports: Iterable[str]) -> str:
    """A master has the address of its first port."""
    found = (kernel.class_("net").devices.get(port) for port in ports)
    return next((one.address for one in found if isinstance(one, Interface)), _NOBODY)


def _store_masters(data: bytes) -> None:
    raise NotModelled("making bonds by bonding_masters")
