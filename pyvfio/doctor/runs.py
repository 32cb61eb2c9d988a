"""Runs of pyvfio that did not come to their end."""

from __future__ import annotations

from collections.abc import Iterator

from pyvfio.binding.journal import DIRECTORY, records
from pyvfio.doctor.remark import PROBLEM, WARNING, Patient, Remark

__all__ = ["unfinished"]


def unfinished(patient: Patient) -> Iterator[Remark]:
    """Journals that are left: a run is at work, or was killed on the way."""
    sysfs = patient.host.sysfs
    for record in records(sysfs, patient.journal or DIRECTORY):
        check = f"run on {', '.join(record.objects) or '?'}"
        if record.damaged:
            detail = f"its journal {record.path} cannot be read: {record.damaged}"
            yield Remark(check, PROBLEM, detail, "look at it, undo by hand what it says, and remove it")
        elif record.alive(sysfs):
            yield Remark(check, WARNING, f"pyvfio (pid {record.pid}) is at work: {record.title}", "wait for its end")
        else:
            detail = f"killed or given up on the way: {record.title}, begun at {record.time}"
            yield Remark(check, PROBLEM, detail, "pyvfio restore")
