"""How operations of the NVMe driver wait: they are generators, which say what for.

They yield what they wait for (`Until`, `Room`, `Pause`, or a `Blocking` call to be run) and are sent whether it came in
time, False also when waiting is in vain; so the same code serves a driver that blocks and one for asyncio, in which
many operations are under way at once.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

from pyvfio.drivers.blocking import Blocking
from pyvfio.drivers.nvme_queue import Pending, Queue

__all__ = ["Blocking", "Options", "Pause", "Request", "Room", "Until", "Work"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """How a controller is driven.  `depth` is how many commands a queue has under way at most, `queues` how many pairs
    of I/O queues are wanted, `transfer` the bytes of one command's data at most, `timeout` in seconds of one command.
    """

    interrupts: str = "auto"
    access: str = "auto"
    queues: int = 1
    depth: int = 32
    transfer: int = 128 << 10
    timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class Until:
    """Wait until a command has ended, at the latest at `deadline` (`time.monotonic`)."""

    pending: Pending
    deadline: float


@dataclass(frozen=True, slots=True)
class Room:
    """Wait until a command can be put into `queue`, and there is a slot."""

    queue: Queue
    deadline: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


Request = Until | Room | Pause | Blocking
Work = Generator[Request, bool, T]
