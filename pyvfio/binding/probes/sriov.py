"""Its SR-IOV virtual functions are enabled: they end when the physical function's driver lets go of it.

Looks at ``sriov_numvfs`` and the ``virtfnN`` links, and at each virtual function's driver and VFIO user.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyvfio.binding.findings import Evidence
from pyvfio.binding.probes.subject import Subject
from pyvfio.binding.probes.users import users
from pyvfio.binding.probes.vfio import vfio_nodes

__all__ = ["SUMMARY", "look"]

SUMMARY = "its virtual functions are enabled"


def look(subject: Subject) -> Iterator[Evidence]:
    """See `ProbeModule.look`."""
    sysfs = subject.sysfs
    count = int(sysfs.attribute(f"{subject.path}/sriov_numvfs") or "0")
    if not count:
        return
    yield Evidence(f"{count} virtual function{'s are' if count > 1 else ' is'} enabled", f"{subject.path}/sriov_numvfs")
    for number in range(count):
        path = sysfs.link(f"{subject.path}/virtfn{number}")
        if path is None:
            continue
        driver = sysfs.link_name(f"{path}/driver")
        holders = dict.fromkeys(str(one) for node in vfio_nodes(subject, path) for one in users(subject, node))
        state = f", open in {', '.join(holders)}" if holders else ""
        if driver is not None:
            yield Evidence(f"virtual function {path.rpartition('/')[2]} has driver {driver}{state}", path)
