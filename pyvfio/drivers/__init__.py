"""Drivers that run in a program: devices taken from the kernel through VFIO, used without it."""

from pyvfio.drivers.channel import Channel, VfioChannel
from pyvfio.drivers.characteristics import Characteristics, Configuration
from pyvfio.drivers.ckd_file import CkdFile
from pyvfio.drivers.dasd import Dasd
from pyvfio.drivers.dasd_async import AsyncDasd
from pyvfio.drivers.failures import VerifyFailed
from pyvfio.drivers.features import Features
from pyvfio.drivers.format_work import FormatMode, Misformatted
from pyvfio.drivers.guest_channel import GuestChannel
from pyvfio.drivers.label import LabelKind, VolumeLabel
from pyvfio.drivers.layout import DiskLayout, LayoutKind
from pyvfio.drivers.operations import Located, Partition
from pyvfio.drivers.sense import DasdFailed, Sense
from pyvfio.drivers.track import Count, TrackImage, TrackRecord

__all__ = [
    "AsyncDasd",
    "Channel",
    "Characteristics",
    "CkdFile",
    "Configuration",
    "Count",
    "Dasd",
    "DasdFailed",
    "DiskLayout",
    "Features",
    "FormatMode",
    "GuestChannel",
    "LabelKind",
    "LayoutKind",
    "Located",
    "Misformatted",
    "Partition",
    "Sense",
    "TrackImage",
    "TrackRecord",
    "VerifyFailed",
    "VfioChannel",
    "VolumeLabel",
]
