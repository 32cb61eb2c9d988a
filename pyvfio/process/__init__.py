"""What a VFIO program needs from its own process, not from the host: memory and eventfds.

These are real on every backend.  Only this package and ``backends/kernel`` make system calls.
"""

from pyvfio.process.credentials import effective_user, umask
from pyvfio.process.descriptor import Reservation, reservations
from pyvfio.process.eventfd import EventFd, EventFdReference, wait_for_any
from pyvfio.process.file_memory import FileMemory, MemoryFile
from pyvfio.process.memory import AnonymousMemory, ProcessMemory, populate
from pyvfio.process.pin import Pin
from pyvfio.process.shared_log import SharedLog
from pyvfio.process.shared_memory import SharedMapping, SharedMemory, shows_shared_memory

__all__ = [
    "AnonymousMemory",
    "EventFd",
    "EventFdReference",
    "FileMemory",
    "MemoryFile",
    "Pin",
    "ProcessMemory",
    "Reservation",
    "SharedLog",
    "SharedMapping",
    "SharedMemory",
    "effective_user",
    "populate",
    "reservations",
    "shows_shared_memory",
    "umask",
    "wait_for_any",
]
