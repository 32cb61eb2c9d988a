"""Drivers that run in a program: devices taken from the kernel through VFIO, used without it.

The names below are loaded when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio.lazy_names import lazy_names

if TYPE_CHECKING:
    from pyvfio.drivers.channel import Channel, VfioChannel
    from pyvfio.drivers.characteristics import Characteristics, Configuration
    from pyvfio.drivers.ckd_file import CkdFile
    from pyvfio.drivers.dasd import Dasd
    from pyvfio.drivers.dasd_async import AsyncDasd
    from pyvfio.drivers.edu import AsyncEdu, Edu
    from pyvfio.drivers.failures import VerifyFailed
    from pyvfio.drivers.features import Features
    from pyvfio.drivers.format_work import FormatMode, Misformatted
    from pyvfio.drivers.freeze import Freeze, Stage
    from pyvfio.drivers.guest_channel import GuestChannel
    from pyvfio.drivers.label import LabelKind, VolumeLabel
    from pyvfio.drivers.layout import DiskLayout, LayoutKind
    from pyvfio.drivers.nvme import Nvme
    from pyvfio.drivers.nvme_async import AsyncNvme
    from pyvfio.drivers.nvme_failures import NvmeError, NvmeInterrupted
    from pyvfio.drivers.operations import Located, Partition
    from pyvfio.drivers.recovery import EndpointFailed, Recovery
    from pyvfio.drivers.sense import DasdFailed, Sense
    from pyvfio.drivers.track import Count, TrackImage, TrackRecord

_HOMES = {
    "channel": "Channel VfioChannel",
    "characteristics": "Characteristics Configuration",
    "ckd_file": "CkdFile",
    "dasd": "Dasd",
    "dasd_async": "AsyncDasd",
    "edu": "AsyncEdu Edu",
    "failures": "VerifyFailed",
    "features": "Features",
    "format_work": "FormatMode Misformatted",
    "freeze": "Freeze Stage",
    "guest_channel": "GuestChannel",
    "label": "LabelKind VolumeLabel",
    "layout": "DiskLayout LayoutKind",
    "nvme": "Nvme",
    "nvme_async": "AsyncNvme",
    "nvme_failures": "NvmeError NvmeInterrupted",
    "operations": "Located Partition",
    "recovery": "EndpointFailed Recovery",
    "sense": "DasdFailed Sense",
    "track": "Count TrackImage TrackRecord",
}

__all__ = [
    "AsyncDasd",
    "AsyncEdu",
    "AsyncNvme",
    "Channel",
    "Characteristics",
    "CkdFile",
    "Configuration",
    "Count",
    "Dasd",
    "DasdFailed",
    "DiskLayout",
    "Edu",
    "EndpointFailed",
    "Features",
    "FormatMode",
    "Freeze",
    "GuestChannel",
    "LabelKind",
    "LayoutKind",
    "Located",
    "Misformatted",
    "Nvme",
    "NvmeError",
    "NvmeInterrupted",
    "Partition",
    "Recovery",
    "Sense",
    "Stage",
    "TrackImage",
    "TrackRecord",
    "VerifyFailed",
    "VfioChannel",
    "VolumeLabel",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
