"""Persistent settings in the files of driverctl and mdevctl: read, written, compared with what is active, applied."""

from pyvfio.persistence.applying import Applied, Outcome, apply, plan_apply
from pyvfio.persistence.comparison import Agreement, Comparison, compare
from pyvfio.persistence.definition import (
    NO_DRIVER,
    BadDefinition,
    Definition,
    PersistentDriver,
    PersistentMdev,
    Start,
    Unreadable,
)
from pyvfio.persistence.definitions import Definitions, definition_of
from pyvfio.persistence.driver_files import DriverFiles
from pyvfio.persistence.mdev_files import MdevFiles
from pyvfio.persistence.units import plan_install, plan_uninstall, unit_files

__all__ = [
    "NO_DRIVER",
    "Agreement",
    "Applied",
    "BadDefinition",
    "Comparison",
    "Definition",
    "Definitions",
    "DriverFiles",
    "MdevFiles",
    "Outcome",
    "PersistentDriver",
    "PersistentMdev",
    "Start",
    "Unreadable",
    "apply",
    "compare",
    "definition_of",
    "plan_apply",
    "plan_install",
    "plan_uninstall",
    "unit_files",
]
