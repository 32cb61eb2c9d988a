"""The hypervisor's half of passthrough: a guest's instructions on top of VFIO."""

from __future__ import annotations

from pyvfio.passthrough.calls import GuestCalls
from pyvfio.passthrough.ccw import GuestChannelSubsystem, PassthroughWarning
from pyvfio.passthrough.combined import CombinedChannelSubsystem
from pyvfio.passthrough.events import EventThread
from pyvfio.passthrough.memory import GuestMemory, GuestStorage, MemoryArea
from pyvfio.passthrough.zpci import GuestPci
from pyvfio.passthrough.zpci_pairs import PairedDevices

__all__ = [
    "CombinedChannelSubsystem",
    "EventThread",
    "GuestCalls",
    "GuestChannelSubsystem",
    "GuestMemory",
    "GuestPci",
    "GuestStorage",
    "MemoryArea",
    "PairedDevices",
    "PassthroughWarning",
]
