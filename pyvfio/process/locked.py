"""How much memory a process has locked, and whether a limit binds it: from its ``/proc/PID/status``."""

from __future__ import annotations

from typing import NamedTuple, Self

__all__ = ["Locked"]

_IPC_LOCK = 14
"""The number of CAP_IPC_LOCK (``include/uapi/linux/capability.h``)."""
_KIB = 1024


class Locked(NamedTuple):
    """`size` bytes are locked (VmLck) or pinned (VmPin); `unlimited`: CAP_IPC_LOCK frees the process from the limit."""

    size: int
    unlimited: bool

    @classmethod
    def parse(cls, status: str) -> Self:
        """From the text of the file; what it does not say is nothing, and no capability."""
        fields = {name: value.strip() for name, _, value in (line.partition(":") for line in status.splitlines())}
        size = sum(int(fields[name].split()[0]) * _KIB for name in ("VmLck", "VmPin") if fields.get(name))
        return cls(size, bool(int(fields.get("CapEff", "0"), 16) >> _IPC_LOCK & 1))
