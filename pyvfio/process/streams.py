"""The standard streams of a program."""

from __future__ import annotations

import os

__all__ = ["open_standard_streams"]


def open_standard_streams() -> None:
    """Let each of the descriptors 0, 1 and 2 that is closed be ``/dev/null``.

    Else the next file that is opened, an attribute of sysfs or a journal, has its number and gets what is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
