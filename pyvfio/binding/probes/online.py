"""The channel device is online, or belongs to a group of devices that are used together (qeth, ctcm, lcs).

Looks at ``online`` of the device, which somebody set, and at the ``group_device`` link.  The driver ``virtio_ccw`` sets
its devices online itself whenever it finds one, so for those it says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyvfio.binding.findings import Evidence
from pyvfio.binding.probes.subject import Subject

__all__ = ["SUMMARY", "look"]

SUMMARY = "the channel device is online, or in a group of devices"

_ONLINE_BY_ITSELF = "virtio_ccw"


def look(subject: Subject) -> Iterator[Evidence]:
    """See `ProbeModule.look`."""
    sysfs = subject.sysfs
    for one in subject.of("ccw"):
        driver = sysfs.link_name(f"{one.path}/driver")
        if driver != _ONLINE_BY_ITSELF and sysfs.attribute(f"{one.path}/online") == "1":
            kind = sysfs.attribute(f"{one.path}/devtype") or "n/a"
            words = ", ".join(filter(None, (kind if kind != "n/a" else "", f"driver {driver}")))
            yield Evidence(f"{one.name} is online ({words})", f"{one.path}/online")
        group = sysfs.link(f"{one.path}/group_device")
        if group is not None:
            bus = sysfs.link_name(f"{group}/driver") or "ccwgroup"
            state = "online" if sysfs.attribute(f"{group}/online") == "1" else "offline"
            name = sysfs.attribute(f"{group}/if_name")
            interface = f", interface {name}" if name else ""
            yield Evidence(
                f"{one.name} belongs to the {bus} group {group.rpartition('/')[2]} ({state}{interface})", group
            )
