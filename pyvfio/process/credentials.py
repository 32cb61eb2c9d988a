"""What the kernel keeps for this process and a software machine must ask for."""

from __future__ import annotations

import os

__all__ = ["effective_user", "umask"]


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
