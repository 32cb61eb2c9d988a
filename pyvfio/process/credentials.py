"""What the kernel keeps for this process and a software machine must ask for."""

from __future__ import annotations

import os

__all__ = ["effective_user", "may_open", "umask"]


def effective_user() -> int:
    """The user whose permissions this process has."""
    return os.geteuid()


def umask() -> int:
    """The permission bits that new files of this process do not get.

    `os.umask` can only tell by setting it, which other threads would notice; ``/proc/self/status`` tells.
    """
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        for line in lines:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0


def may_open(status: os.stat_result, wanted: int = os.R_OK | os.W_OK) -> bool:
    """Whether owner, group and mode let this process open a file so (`os.R_OK`, `os.W_OK`); root may.

    Access control lists are not asked for: a file that has one may be open to more.
    """
    user = os.geteuid()
    if user == 0:
        return True
    mode = status.st_mode
    if status.st_uid == user:
        mode >>= 6
    elif status.st_gid == os.getegid() or status.st_gid in os.getgroups():
        mode >>= 3
    return mode & wanted == wanted
