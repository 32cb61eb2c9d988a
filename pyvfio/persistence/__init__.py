"""Persistent settings in the files of driverctl and mdevctl: read, written, compared with what is active, applied."""

from pyvfio.persistence.definition import (
    NO_DRIVER,
    BadDefinition,
    Definition,
    PersistentDriver,
    PersistentMdev,
    Start,
    Unreadable,
)
from pyvfio.persistence.driver_files import DriverFiles
from pyvfio.persistence.mdev_files import MdevFiles

__all__ = [
    "NO_DRIVER",
    "BadDefinition",
    "Definition",
    "DriverFiles",
    "MdevFiles",
    "PersistentDriver",
    "PersistentMdev",
    "Start",
    "Unreadable",
]
