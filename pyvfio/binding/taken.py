"""What is remembered of a channel device while vfio_ccw has its subchannel: that it was online before.

One file for each device, in a directory that does not survive a boot, as the state of the devices does not.  The take
writes it before it sets the device offline; giving back reads and removes it.
"""

from __future__ import annotations

import json

from pyvfio.binding.step import Step
from pyvfio.binding.steps_files import remove_file, write_file
from pyvfio.files import HostFiles
from pyvfio.sysfs import Sysfs

__all__ = ["DIRECTORY", "forget", "record_path", "remember_online", "was_online"]

DIRECTORY = "/run/pyvfio/taken"

_WHAT = "that it was online"


def record_path(name: str) -> str:
    """The file about the channel device called `name`."""
    return f"{DIRECTORY}/{name}"


def was_online(sysfs: Sysfs, name: str) -> bool:
    """Whether the device is known to have been online when it was taken.  Raise when the file cannot be read."""
    text = HostFiles(sysfs.backend).read(record_path(name))
    try:
        return text is not None and json.loads(text).get("online") is True
    except (ValueError, AttributeError):
        return False  # not written by a take; nothing is known


def remember_online(sysfs: Sysfs, name: str) -> Step | None:
    """The step that notes that the device is online; None when it is noted."""
    return write_file(sysfs, record_path(name), json.dumps({"online": True}) + "\n", what=_WHAT)


def forget(sysfs: Sysfs, name: str) -> Step | None:
    """The step that removes the note; None when there is none."""
    return remove_file(sysfs, record_path(name), what=_WHAT)
