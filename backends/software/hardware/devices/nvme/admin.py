"""Commands of the admin queue.  Source: NVM Express 1.4, chapter 5."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio.nvme.commands import AdminOpcode, Command, QueueFlags
from pyvfio.nvme.identity import IDENTIFY_SIZE
from pyvfio.nvme.registers import COMPLETION_ENTRY, SUBMISSION_ENTRY
from pyvfio.nvme.status import Status
from pyvfio_backends.software.hardware.devices.nvme.prp import CommandError
from pyvfio_backends.software.hardware.devices.nvme.queues import CompletionQueue, SubmissionQueue
from pyvfio_backends.software.hardware.devices.nvme.reports import get_log_page, identify

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.devices.nvme.controller import NvmeController

__all__ = ["AdminCommands"]

_NOT_ABORTED = 1


class AdminCommands:
    """Does the admin commands of a controller."""

    def __init__(self, controller: NvmeController) -> None:
        self._controller = controller
        self._does = {
            AdminOpcode.DELETE_SQ: self._delete_submissions,
            AdminOpcode.CREATE_SQ: self._create_submissions,
            AdminOpcode.GET_LOG_PAGE: self._get_log_page,
            AdminOpcode.DELETE_CQ: self._delete_completions,
            AdminOpcode.CREATE_CQ: self._create_completions,
            AdminOpcode.IDENTIFY: self._identify,
            AdminOpcode.ABORT: self._abort,
            AdminOpcode.SET_FEATURES: self._set_features,
            AdminOpcode.GET_FEATURES: self._get_features,
            AdminOpcode.ASYNC_EVENT: self._async_event,
        }

    def execute(self, command: Command) -> int | None:
        """Do a command; the result, or None when it ends later.  Raise `CommandError`, `DmaFault`."""
        try:
            does = self._does[AdminOpcode(command.opcode)]
        except ValueError:
            raise CommandError(Status.INVALID_OPCODE) from None
        return does(command)

    # queues

    def _check_queue(self, command: Command, existing: set[int]) -> tuple[int, int]:
        """The number and the size of a queue to create."""
        controller = self._controller
        number, size = command.cdw10 & 0xFFFF, (command.cdw10 >> 16) + 1
        if not 0 < number <= controller.queue_pairs or number in existing:
            raise CommandError(Status.INVALID_QUEUE_ID)
        if not 1 < size <= controller.capabilities.entries:
            raise CommandError(Status.INVALID_QUEUE_SIZE)
        if command.prp1 % controller.page:
            raise CommandError(Status.PRP_OFFSET_INVALID)
        if not command.cdw11 & QueueFlags.CONTIGUOUS:
            raise CommandError(Status.INVALID_FIELD)
        return number, size

    def _create_completions(self, command: Command) -> int:
        controller = self._controller
        number, size = self._check_queue(command, set(controller.completions))
        if controller.configuration.completion_entry != COMPLETION_ENTRY:
            raise CommandError(Status.INVALID_FIELD)
        vector = command.cdw11 >> 16
        if vector >= controller.vectors or (vector and not controller.messages_on):
            raise CommandError(Status.INVALID_VECTOR)
        interrupts = bool(command.cdw11 & QueueFlags.INTERRUPTS)
        controller.completions[number] = CompletionQueue(number, command.prp1, size, vector, interrupts=interrupts)
        return 0

    def _create_submissions(self, command: Command) -> int:
        controller = self._controller
        number, size = self._check_queue(command, set(controller.submissions))
        if controller.configuration.submission_entry != SUBMISSION_ENTRY:
            raise CommandError(Status.INVALID_FIELD)
        chosen = command.cdw11 >> 16
        if not 0 < chosen <= controller.queue_pairs:
            raise CommandError(Status.INVALID_QUEUE_ID)
        completions = controller.completions.get(chosen)
        if completions is None:
            raise CommandError(Status.COMPLETION_QUEUE_INVALID)
        controller.submissions[number] = SubmissionQueue(number, command.prp1, size, completions)
        return 0

    def _delete_submissions(self, command: Command) -> int:
        number = command.cdw10 & 0xFFFF
        if not number or self._controller.submissions.pop(number, None) is None:
            raise CommandError(Status.INVALID_QUEUE_ID)
        return 0

    def _delete_completions(self, command: Command) -> int:
        controller = self._controller
        number = command.cdw10 & 0xFFFF
        if not number or number not in controller.completions:
            raise CommandError(Status.INVALID_QUEUE_ID)
        if any(queue.completions.number == number for queue in controller.submissions.values()):
            raise CommandError(Status.INVALID_QUEUE_DELETION)
        del controller.completions[number]
        return 0

    # the rest

    def _identify(self, command: Command) -> int:
        self._controller.put(command, identify(self._controller, command), IDENTIFY_SIZE)
        return 0

    def _get_log_page(self, command: Command) -> int:
        data = get_log_page(self._controller, command)
        self._controller.put(command, data, len(data))
        return 0

    def _set_features(self, command: Command) -> int:
        return self._controller.settings.set(command, queues_exist=len(self._controller.completions) > 1)

    def _get_features(self, command: Command) -> int:
        return self._controller.settings.get(command)

    def _abort(self, command: Command) -> int:
        """Commands are done when they are fetched, so only requests for events are there to be aborted."""
        queue, number = command.cdw10 & 0xFFFF, command.cdw10 >> 16
        aborted = queue == 0 and self._controller.events.abort(number)
        return 0 if aborted else _NOT_ABORTED

    def _async_event(self, command: Command) -> None:
        self._controller.events.request(command.id)
