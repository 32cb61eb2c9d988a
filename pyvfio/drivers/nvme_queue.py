"""A submission queue and its completion queue in memory, and the commands that are under way in them.

Both rings lie in one mapping, the completions behind the commands, each from the start of a page.  Commands are put
into the ring by `put`, and the controller is told of them by `ring`; `take` gives the completions that it has posted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pyvfio.drivers.nvme_memory import Slot
from pyvfio.drivers.pci_registers import Registers
from pyvfio.errors import PyvfioError
from pyvfio.iommu.address_space import AddressSpace
from pyvfio.nvme.commands import COMMAND_SIZE, COMPLETION_SIZE, Command, Completion
from pyvfio.nvme.registers import doorbell

__all__ = ["Pending", "Queue"]

_PHASE_AT: Final = 14


class Pending:
    """A command under way.  `completion` is None until it has ended; `notice` is called then, if somebody waits.

    Memory of an `abandoned` command is given back when it ends.  Of freezes (`pyvfio.drivers.nvme_healing`): `own` is
    one that starts the controller again, `contested` a write beside another one of the same blocks, and `lost` why it
    was not sent again.
    """

    __slots__ = ("abandoned", "command", "completion", "contested", "lost", "notice", "own", "queue", "slot")

    def __init__(self, queue: Queue, command: Command, slot: Slot | None) -> None:
        self.queue = queue
        self.command = command
        self.slot = slot
        self.completion: Completion | None = None
        self.notice: Callable[[], None] | None = None
        self.abandoned = self.own = self.contested = False
        self.lost: PyvfioError | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.completion is not None or self.lost is not None


class Queue:
    """Queue pair `number` with `size` entries each (one of them stays free).  `vector` tells of completions."""

    def __init__(
        self, space: AddressSpace, registers: Registers, number: int, size: int, *, page: int, stride: int, vector: int
    ) -> None:
        self.number = number
        self.size = size
        self.vector = vector
        self._registers = registers
        self._tail_bell = doorbell(number, completion=False, stride=stride)
        self._head_bell = doorbell(number, completion=True, stride=stride)
        completions_at = -(-size * COMMAND_SIZE // page) * page
        self._memory = space.buffer(completions_at + size * COMPLETION_SIZE, alignment=page)
        self.submission_address = self._memory.iova
        self.completion_address = self._memory.iova + completions_at
        self._commands = self._memory.view[: size * COMMAND_SIZE]
        self._completions = self._memory.view[completions_at : completions_at + size * COMPLETION_SIZE]
        self._tail = self._told = self._head = 0
        self._phase = 1
        self.under_way: dict[int, Pending] = {}
        self._ids: list[int] = []
        self.restart()

    def restart(self) -> None:
        """Begin anew with empty rings, after the controller was disabled; nothing is under way any more."""
        self._commands[:] = bytes(len(self._commands))
        self._completions[:] = bytes(len(self._completions))
        self._tail = self._told = self._head = 0
        self._phase = 1
        self.under_way.clear()
        self._ids = list(range(self.size - 2, -1, -1))

    @property
    def has_room(self) -> bool:
        """Whether one more command can be put."""
        return bool(self._ids)

    def put(self, command: Command, slot: Slot | None = None) -> Pending:
        """Put a command into the ring, with an id of its own.  There must be room."""
        return self.put_again(Pending(self, command, slot))

    def put_again(self, pending: Pending) -> Pending:
        """Put a command into the ring that was in it before `restart`, with another id."""
        command = pending.command
        command.id = self._ids.pop()
        at = self._tail * COMMAND_SIZE
        self._commands[at : at + COMMAND_SIZE] = command.pack()
        self._tail = (self._tail + 1) % self.size
        self.under_way[command.id] = pending
        return pending

    def ring(self) -> None:
        """Tell the controller of the commands that it has not been told of."""
        if self._told != self._tail:
            self._told = self._tail
            self._registers.write(self._tail_bell, self._tail)

    def take(self, *, tell: bool = True) -> list[Pending]:
        """The commands that have ended since the last look; completions of no command under way are left out.

        The controller is told how far they were read, unless `tell` says not to.
        """
        ended: list[Pending] = []
        seen = False
        while True:
            at = self._head * COMPLETION_SIZE
            if self._completions[at + _PHASE_AT] & 1 != self._phase:
                break
            completion = Completion.parse(bytes(self._completions[at : at + COMPLETION_SIZE]))
            seen = True
            self._head += 1
            if self._head == self.size:
                self._head, self._phase = 0, self._phase ^ 1
            pending = self.under_way.pop(completion.id, None)
            if pending is not None:
                self._ids.append(completion.id)
                pending.completion = completion
                ended.append(pending)
        if seen and tell:
            self._registers.write(self._head_bell, self._head)
        return ended

    def close(self) -> None:
        """Unmap and free; a second call does nothing.  The device must not use the memory any more."""
        self._commands.release()
        self._completions.release()
        self._memory.close()
