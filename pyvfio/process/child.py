"""A child of this process, which may be killed in the middle of its work."""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["run_in_child"]


def run_in_child(work: Callable[[], None]) -> int:
    """Call `work` in a forked child and return the signal that ended it; 0 when it came to its end.

    What the child changes in memory is not seen here.  Its descriptors are copies of this process's.
    """
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
