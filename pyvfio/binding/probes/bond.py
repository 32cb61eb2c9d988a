"""An interface of it is a member of a bond, bridge or team, or carries a VLAN, macvlan or the like.

Looks at the interfaces that stand on the device's own, of whatever depth.  Whether the other members of a bond would
carry on without it is not judged.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyvfio.binding.findings import Evidence
from pyvfio.binding.probes.interfaces import Interfaces
from pyvfio.binding.probes.subject import Subject

__all__ = ["SUMMARY", "look"]

SUMMARY = "another network interface stands on it"


def look(subject: Subject) -> Iterator[Evidence]:
    """See `ProbeModule.look`."""
    for interface in Interfaces(subject).all:
        if interface.on is not None:
            upper = f"{interface.name} ({interface.kind})" if interface.kind else interface.name
            what = f"{interface.on.where} is a member of {upper}" if interface.member else ""
            yield Evidence(what or f"{upper} stands on {interface.on.where}", interface.path)
