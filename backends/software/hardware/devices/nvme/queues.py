"""Submission and completion queues: rings in memory.  Source: NVM Express 1.4, 4.1, 4.6.

One entry stays free: a ring is empty when its head is its tail, and full when the tail is one behind the head.  A
completion has a phase bit, which changes with every round.
"""

from __future__ import annotations

from collections import deque

from pyvfio.nvme.commands import COMMAND_SIZE, COMPLETION_SIZE, Command, Completion
from pyvfio_backends.software.hardware.dma import Initiator

__all__ = ["CompletionQueue", "SubmissionQueue"]

_ADDRESSES = (1 << 64) - 1


class CompletionQueue:
    """`size` completions at `base`; `vector` is signalled if it has `interrupts`.

    `waiting` completions are posted when there is room.
    """

    def __init__(self, number: int, base: int, size: int, vector: int = 0, *, interrupts: bool = True) -> None:
        self.number = number
        self.base = base
        self.size = size
        self.vector = vector
        self.interrupts = interrupts
        self.head = 0
        self.tail = 0
        self.phase = 1
        self.waiting: deque[Completion] = deque()

    @property
    def empty(self) -> bool:
        """Whether the host has taken all."""
        return self.head == self.tail

    @property
    def full(self) -> bool:
        """Whether no completion can be posted now."""
        return (self.tail + 1) % self.size == self.head

    @property
    def has_room(self) -> bool:
        """Whether one more can be posted, after those that wait."""
        return (self.head - self.tail - 1) % self.size > len(self.waiting)

    def post(self, function: Initiator) -> bool:
        """Post what waits, as far as there is room; whether something was posted.  Raise `DmaFault`."""
        posted = False
        while self.waiting and not self.full:
            completion = self.waiting[0]
            completion.phase = self.phase
            function.dma_write(self.base + self.tail * COMPLETION_SIZE & _ADDRESSES, completion.pack())
            self.waiting.popleft()
            self.tail += 1
            if self.tail == self.size:
                self.tail, self.phase = 0, self.phase ^ 1
            posted = True
        return posted


class SubmissionQueue:
    """`size` commands at `base`, whose completions go to `completions`."""

    def __init__(self, number: int, base: int, size: int, completions: CompletionQueue) -> None:
        self.number = number
        self.base = base
        self.size = size
        self.completions = completions
        self.head = 0
        self.tail = 0

    @property
    def empty(self) -> bool:
        """Whether all commands were fetched."""
        return self.head == self.tail

    def fetch(self, function: Initiator) -> Command:
        """Take the next command.  Raise `DmaFault`."""
        data = function.dma_read(self.base + self.head * COMMAND_SIZE & _ADDRESSES, COMMAND_SIZE)
        self.head = (self.head + 1) % self.size
        return Command.parse(data)
