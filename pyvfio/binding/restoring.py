"""Undoing what killed runs left: as their journals say, unless somebody uses by now what they had made."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from pyvfio.binding.channel import merely_online
from pyvfio.binding.findings import Finding
from pyvfio.binding.inspection import in_use
from pyvfio.binding.journal import Record, boot_id, records
from pyvfio.binding.plan import Plan
from pyvfio.binding.running import DEADLINE, undo
from pyvfio.binding.step import Progress, Step
from pyvfio.errors import UNTOUCHED, DeviceBusy, DeviceInUse, Misuse
from pyvfio.files import HostFiles
from pyvfio.sysfs import Sysfs

__all__ = ["restore"]

_EXPECTED = frozenset({"signature", "mdev"})
"""What speaks against taking a device away, but not against giving back what a run had made of it."""


def restore(
    sysfs: Sysfs,
    record: Record,
    progress: Progress | None = None,
    *,
    force: Iterable[str] = (),
    deadline: float = DEADLINE,
) -> Plan:
    """Undo what a killed run left, as its journal says, and remove the journal.  The plan of what was undone is
    returned.

    A run that came to its end meanwhile is not undone.  After another boot only what survives one is undone.  A device
    that somebody began to use since is not taken away, unless `force` names the probes that found it.  Raise
    `DeviceInUse` (nothing was done), `DeviceBusy` while the run is at work, `Misuse` for a damaged journal,
    `RollbackFailed` (the journal is kept).
    """
    if record.damaged:
        raise Misuse("restore", record.path, cause=record.damaged, next_step="remove the file when you know its state")
    if record.alive(sysfs):
        raise DeviceBusy(
            "restore",
            record.title,
            path=record.path,
            cause=f"pyvfio (pid {record.pid}) is at work on it" + (f": {record.waits}" if record.waits else ""),
            next_step="wait for its end",
        )
    # Now that the process is gone, its last word counts: it may have come to its end since the journal was read.
    known = {one.path: one for one in records(sysfs, posixpath.dirname(record.path))}
    if record.path not in known:
        return Plan(f"undo {record.title}", record.objects, sysfs=sysfs)
    record = known[record.path]
    rebooted = record.boot != boot_id(sysfs)
    steps = tuple(step for step in reversed(record.left()) if step.survives_boot or not rebooted)
    findings = _users_of(sysfs, steps)
    plan = Plan(f"undo {record.title}", record.objects, steps, findings=findings, sysfs=sysfs)
    try:
        plan.refuse(force)
    except DeviceInUse as error:
        error.host = UNTOUCHED
        raise
    undo(plan, progress, deadline=deadline)
    HostFiles(sysfs.backend).remove(record.path)
    return plan


def _users_of(sysfs: Sysfs, steps: Iterable[Step]) -> tuple[Finding, ...]:
    """What speaks against taking away what the inverses of these steps take away."""
    devices = {(device.bus, device.name): device for step in steps for device in step.takes_back(sysfs)}
    found = [finding for device in devices.values() for finding in in_use(device)]
    return tuple(finding for finding in found if finding.probe not in _EXPECTED and not merely_online(finding))
