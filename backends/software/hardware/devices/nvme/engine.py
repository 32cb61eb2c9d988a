"""The way of a command: fetched, done, its completion posted, the host interrupted.

::

    run -- take turns --> submission queue -- fetch --> admin or nvm --> completion, waiting --> completion queue
        <---------------------------- what the host does meanwhile <---- interrupts <-----------------+

A command is done while its doorbell is written, or where work can be scheduled, soon after; the queues take turns, one
command each.  Interrupts follow when no command is left to do.  Source: NVM Express 1.4, 4.13, 7.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvfio.nvme.commands import Command, Completion
from pyvfio.nvme.logs import ErrorEntry
from pyvfio.nvme.status import DO_NOT_RETRY, MORE, Status
from pyvfio_backends.software.hardware.devices.nvme.admin import AdminCommands
from pyvfio_backends.software.hardware.devices.nvme.nvm import NvmCommands
from pyvfio_backends.software.hardware.devices.nvme.prp import CommandError
from pyvfio_backends.software.hardware.devices.nvme.queues import CompletionQueue, SubmissionQueue
from pyvfio_backends.software.hardware.dma import DmaFault, Initiator

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.devices.nvme.controller import NvmeController

__all__ = ["Engine"]

_AT_ONCE: Final = 1 << 16


class Engine:
    """Does the commands of a controller."""

    def __init__(self, controller: NvmeController) -> None:
        self._controller = controller
        self._admin = AdminCommands(controller)
        self.nvm = NvmCommands(controller)
        self._running = False

    def run(self) -> None:
        """Do the commands that are there.  What an interrupt makes the host do meanwhile is done in the same call.

        At most 65536 commands; a host that keeps the controller busy from its own interrupts rings again for more.
        """
        function = self._controller.function
        if self._running or function is None:
            return
        self._running = True
        try:
            left = _AT_ONCE
            while self._controller.works:
                left = self._take_turns(function, left)
                posted = self._post(function)
                if not posted:
                    break
                for queue in posted:
                    self._interrupt(function, queue)
        finally:
            self._running = False

    def _take_turns(self, function: Initiator, left: int) -> int:
        """Do commands until no queue has one, or its completion has no room; how many more may be done."""
        progress = True
        while progress and left:
            progress = False
            for queue in list(self._controller.submissions.values()):
                there = self._controller.submissions.get(queue.number) is queue
                if left and there and self._controller.works and not queue.empty and queue.completions.has_room:
                    self._do(function, queue)
                    left -= 1
                    progress = True
        return left

    def _do(self, function: Initiator, queue: SubmissionQueue) -> None:
        try:
            command = queue.fetch(function)
        except DmaFault:
            self._controller.fail()
            return
        try:
            if command.fused or command.sgl:
                raise CommandError(Status.INVALID_FIELD)
            result = self.nvm.execute(command) if queue.number else self._admin.execute(command)
        except CommandError as error:
            self._complete(queue, command.id, error.status, error.result, command)
        except DmaFault:
            self._complete(queue, command.id, Status.DATA_TRANSFER_ERROR, 0, command)
        else:
            if result is not None:
                self._complete(queue, command.id, Status.SUCCESS, result)

    def _complete(
        self, queue: SubmissionQueue, number: int, status: Status, result: int, failed: Command | None = None
    ) -> None:
        word = int(status)
        if failed is not None:
            health = self._controller.health
            word |= MORE | (0 if status.transient else DO_NOT_RETRY)
            health.errors += 1
            lba = failed.lba if queue.number else 0
            entry = ErrorEntry(health.errors, queue.number, number, word, lba=lba, nsid=failed.nsid)
            self._controller.errors.appendleft(entry)
        queue.completions.waiting.append(Completion(number, word, result, queue.number, queue.head))

    def complete_event(self, number: int, status: Status, result: int) -> None:
        """End a request for an event; `run` posts it."""
        self._complete(self._controller.submissions[0], number, status, result)

    def _post(self, function: Initiator) -> list[CompletionQueue]:
        """Post what waits; the queues that got something."""
        try:
            return [queue for queue in list(self._controller.completions.values()) if queue.post(function)]
        except DmaFault:
            self._controller.fail()
            return []

    def _interrupt(self, function: Initiator, queue: CompletionQueue) -> None:
        if queue.interrupts and self._controller.messages_on:
            function.signal(queue.vector)
        self.show_pin()

    def show_pin(self) -> None:
        """The pin is asserted while a queue that interrupts has something for the host."""
        pin = self._controller.pin
        if pin is None:
            return
        vectors = {
            queue.vector for queue in self._controller.completions.values() if queue.interrupts and not queue.empty
        }
        masked = self._controller.masked
        pin.set_intx(not pin.messages_on and any(not masked >> vector & 1 for vector in vectors))
