"""The kernel's console is on it.

Looks at ``/proc/consoles`` and at ``/sys/class/tty/console/active`` for the terminals of the device, and for a graphics
card at the frame buffer that shows the virtual terminals: the first one, to which the kernel maps them all
(``Documentation/fb/fbcon.rst``).
"""

from __future__ import annotations

from collections.abc import Iterator

from pyvfio.binding.findings import Evidence
from pyvfio.binding.probes.subject import Subject
from pyvfio.binding.probes.terminals import terminals

__all__ = ["SUMMARY", "look"]

SUMMARY = "the kernel's console is on it"

_ACTIVE = "/sys/class/tty/console/active"
_VIRTUAL = "/sys/class/vtconsole"


def look(subject: Subject) -> Iterator[Evidence]:
    """See `ProbeModule.look`."""
    around = subject.surroundings
    for terminal in terminals(subject):
        console = next((one for one in around.consoles if terminal.name == one.name), None)
        if console is None and terminal.number:
            console = next((one for one in around.consoles if terminal.number == one.number), None)
        if console is not None:
            yield Evidence(f"{terminal.name} is a console ({''.join(console.flags.split())})", "/proc/consoles")
        elif terminal.name in around.active:
            yield Evidence(f"{terminal.name} is behind /dev/console", _ACTIVE)
    yield from _graphics(subject)


def _graphics(subject: Subject) -> Iterator[Evidence]:
    sysfs = subject.sysfs
    buffers = [one.name for one in subject.of("graphics") if one.name.startswith("fb")]
    if not buffers:
        return
    listed = [name for name in sysfs.names("/sys/class/graphics") if name[2:].isdecimal()]
    first = min(listed, key=lambda name: int(name[2:]), default="")
    for name in sysfs.names(_VIRTUAL):
        path = f"{_VIRTUAL}/{name}"
        title = sysfs.attribute(f"{path}/name") or ""
        if first in buffers and "frame buffer" in title and sysfs.attribute(f"{path}/bind") == "1":
            yield Evidence(f"{first} shows the virtual terminals ({name} is bound)", f"{path}/bind")
