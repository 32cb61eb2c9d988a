"""Drivers that run in a program: devices taken from the kernel through VFIO, used without it."""

from pyvfio.drivers.characteristics import Characteristics, Configuration
from pyvfio.drivers.dasd import Dasd
from pyvfio.drivers.dasd_async import AsyncDasd
from pyvfio.drivers.label import LabelKind, VolumeLabel
from pyvfio.drivers.layout import DiskLayout, LayoutKind
from pyvfio.drivers.operations import Located, Partition
from pyvfio.drivers.sense import DasdFailed, Sense
from pyvfio.drivers.track import Count, TrackImage, TrackRecord

__all__ = [
    "AsyncDasd",
    "Characteristics",
    "Configuration",
    "Count",
    "Dasd",
    "DasdFailed",
    "DiskLayout",
    "LabelKind",
    "LayoutKind",
    "Located",
    "Partition",
    "Sense",
    "TrackImage",
    "TrackRecord",
    "VolumeLabel",
]
