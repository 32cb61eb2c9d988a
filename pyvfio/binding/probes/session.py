"""Your own session goes through it: take it away, and nobody is left to give it back.

Looks at the interface by which the kernel reaches the peer of the caller's SSH connection, with all that it stands on,
and at the terminal that the caller's standard streams are.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyvfio.binding.findings import Evidence
from pyvfio.binding.probes.interfaces import Interfaces
from pyvfio.binding.probes.subject import Subject
from pyvfio.binding.probes.terminals import terminals

__all__ = ["SUMMARY", "look"]

SUMMARY = "YOUR OWN SESSION GOES THROUGH IT: you would be cut off, and could not undo it"


def look(subject: Subject) -> Iterator[Evidence]:
    """See `ProbeModule.look`."""
    if subject.of("net"):
        found = Interfaces(subject)
        for interface in found.all:
            if found.network.peer and interface.name == found.network.peer_interface:
                what = f"your session comes from {found.network.peer} through {interface.where}"
                yield Evidence(what, interface.path)
    mine = subject.surroundings.terminals
    for terminal in terminals(subject) if mine else ():
        for node, number in mine.items():
            if node == f"/dev/{terminal.name}" or (number and number == terminal.number):
                yield Evidence(f"you are typing on {node} of {terminal.device}", node)
