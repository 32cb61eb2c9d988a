"""A keyboard of the console is attached to it, which is what most USB controllers are wanted for.

Looks at ``/proc/bus/input/devices`` for devices below that have a whole keyboard's keys and that the console's handler
``kbd`` listens to.  Mice, buttons and headsets with a volume key are not keyboards; a program that has such a device
open is found by the probe ``open``.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyvfio.binding.findings import Evidence
from pyvfio.binding.probes.subject import Subject

__all__ = ["SUMMARY", "look"]

SUMMARY = "a keyboard of the console is attached to it"


def look(subject: Subject) -> Iterator[Evidence]:
    """See `ProbeModule.look`."""
    paths = {one.path for one in subject.of("input")}
    for device in subject.surroundings.inputs:
        if device.path in paths and device.is_keyboard and "kbd" in device.handlers:
            yield Evidence(f'the keyboard "{device.name}" types on the console', device.path)
