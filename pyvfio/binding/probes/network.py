"""An interface of it has addresses, or routes lead through it.

Counts every address but those that IPv6 makes by itself for the link (``fe80::/10``), and every route but those to such
addresses and to multicast groups; also those of VLANs, bonds and bridges that stand on the interface.  An interface
that is up, without any of these, is not in use.  Looks at the network namespace of the caller only; an interface that
somebody put into another one, as for a container, counts as used there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from pyvfio.binding.findings import Evidence
from pyvfio.binding.probes.interfaces import Interfaces
from pyvfio.binding.probes.subject import Subject

__all__ = ["SUMMARY", "look"]

SUMMARY = "the network goes through it"


def look(subject: Subject) -> Iterator[Evidence]:
    """See `ProbeModule.look`."""
    for path in subject.apart:
        yield Evidence("an interface of it is in another network namespace, as those of containers are", path)
    found = Interfaces(subject)
    for interface in found.all:
        link = found.link(interface.name)
        if link is None and found.network.links:
            subject.blind(f"{interface.where} is in another network namespace: what it is used for cannot be seen")
        for address in link.addresses if link is not None else ():
            if not _makes_itself(address):
                yield Evidence(f"{interface.where} has the address {address}", interface.path)
        for route in found.network.routes:
            if route.interface == interface.name and not _makes_itself(route.destination):
                what = "the default route" if route.destination == "default" else f"the route to {route.destination}"
                by = f" by {route.gateway}" if route.gateway else ""
                yield Evidence(f"{what}{by} leaves through {interface.where}", interface.path)


def _makes_itself(text: str) -> bool:
    """Whether IPv6 has this address or destination on every interface that is up."""
    try:
        address = ipaddress.ip_interface(text).ip
    except ValueError:
        return False
    return address.version == 6 and (address.is_link_local or address.is_multicast)
