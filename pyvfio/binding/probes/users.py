"""The programs that have a node of a subject open."""

from __future__ import annotations

import errno

from pyvfio.backend import Holder
from pyvfio.binding.probes.subject import Subject, error_name

__all__ = ["users"]


def users(subject: Subject, node: str) -> list[Holder]:
    """The programs that have `node` open; that not all could be looked at is noted as unseen."""
    around = subject.surroundings
    if around.unseen_programs:
        subject.blind(around.unseen_programs)
    try:
        return around.users(node)
    except OSError as error:
        why = "is not there" if error.errno == errno.ENOENT else f"could not be looked at ({error_name(error)})"
        subject.blind(f"{node} {why}, so who has it open is not known")
        return []
