"""The controller: its registers, when it is ready, and doorbells.

Registers are drawn in `pyvfio.nvme.registers`.  The controller fails (CSTS, fatal) on a configuration that it cannot
have, and when a queue cannot be reached by DMA.  Source: NVM Express 1.4, chapters 3 and 7.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from pyvfio.nvme import registers as regs
from pyvfio.nvme.commands import Command
from pyvfio.nvme.features import ErrorEvent, EventType
from pyvfio.nvme.identity import ControllerIdentity, OptionalCommand
from pyvfio.nvme.logs import ErrorEntry, Health, LogPage
from pyvfio.nvme.registers import Capabilities, Configuration, ControllerStatus, ShutdownStatus
from pyvfio.nvme.status import Status
from pyvfio_backends.software.hardware.devices.nvme.engine import Engine
from pyvfio_backends.software.hardware.devices.nvme.events import Event, Events
from pyvfio_backends.software.hardware.devices.nvme.prp import CommandError, locate, read_runs, write_runs
from pyvfio_backends.software.hardware.devices.nvme.queues import CompletionQueue, SubmissionQueue
from pyvfio_backends.software.hardware.devices.nvme.settings import Settings
from pyvfio_backends.software.hardware.devices.nvme.storage import Namespace
from pyvfio_backends.software.hardware.dma import Initiator, PinInitiator
from pyvfio_backends.software.hardware.pci.bar import Unmapped

__all__ = ["NvmeController"]

_DWORD: Final = 0xFFFFFFFF
_PAGES: Final = (1 << 64) - 1 & ~0xFFF
_WIDE: Final = {regs.CAP: 0, regs.ASQ: _PAGES, regs.ACQ: _PAGES}
_WRITABLE: Final = {regs.AQA: 0x0FFF0FFF, regs.CC: 0x00FFFFF1}
_QUEUE_PAIRS: Final = 64
_SHUTDOWN_SHIFT: Final = 2
_OPTIONAL: Final = (
    OptionalCommand.COMPARE | OptionalCommand.DATASET_MANAGEMENT | OptionalCommand.WRITE_ZEROES | OptionalCommand.SELECT
)

Schedule = Callable[[float, Callable[[], None]], None]


def _identity(serial: str, namespaces: int) -> ControllerIdentity:
    return ControllerIdentity(
        0x1B36,
        0x1AF4,
        serial,
        "pyvfio NVMe Ctrl",
        "1.0",
        f"nqn.2026-11.org.pyvfio:{serial}",
        version=regs.VERSION_1_4,
        namespaces=namespaces,
        optional=_OPTIONAL,
    )


class NvmeController:
    """The registers (implements `Registers`), acting through the function of `attach`.

    `namespaces` have the ids 1 and up; None: that id is not active.  `schedule` puts commands off (a delay in seconds,
    here 0, and the work); without it they are done inside the store that rings a doorbell.
    """

    def __init__(
        self,
        namespaces: Sequence[Namespace | None],
        *,
        serial: str = "0000",
        capabilities: Capabilities | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        self.namespaces = {number: one for number, one in enumerate(namespaces, 1) if one is not None}
        self.capabilities = capabilities or Capabilities()
        self.identity = _identity(serial, len(namespaces))
        self.queue_pairs = _QUEUE_PAIRS
        self.vectors = _QUEUE_PAIRS + 1
        self.health = Health()
        self.errors: deque[ErrorEntry] = deque(maxlen=self.identity.errors)
        self.settings = Settings(
            self.queue_pairs, self.vectors, frozenset(self.namespaces), self.identity.warning_temperature
        )
        self.submissions: dict[int, SubmissionQueue] = {}
        self.completions: dict[int, CompletionQueue] = {}
        self._engine = Engine(self)
        self.events = Events(self.identity.events, self._engine.complete_event)
        self._schedule = schedule
        self.function: Initiator | None = None
        self.pin: PinInitiator | None = None
        self._values: dict[int, int] = {}
        self.reset()

    def attach(self, function: Initiator, *, pin: PinInitiator | None = None) -> None:
        """Belong to a function; `pin` is the same one if it has an interrupt pin."""
        self.function, self.pin = function, pin

    # registers

    @property
    def configuration(self) -> Configuration:
        """CC, decoded."""
        return Configuration.parse(self._values[regs.CC])

    @property
    def page(self) -> int:
        """The size of a page in bytes, as CC has it."""
        return 1 << self.configuration.page

    @property
    def messages_on(self) -> bool:
        """Whether interrupts are messages, of any vector."""
        return self.pin is None or self.pin.messages_on

    @property
    def works(self) -> bool:
        """Whether it is ready, and has not failed."""
        return self._values[regs.CSTS] & (ControllerStatus.READY | ControllerStatus.FATAL) == ControllerStatus.READY

    @property
    def masked(self) -> int:
        """The vectors that the mask registers hold back from the pin, as bits."""
        return self._values[regs.INTMS]

    def reset(self) -> None:
        """See `Registers.reset`."""
        self._values = dict.fromkeys((regs.INTMS, regs.CC, regs.CSTS, regs.AQA, regs.ASQ, regs.ACQ), 0)
        self._values[regs.CAP] = self.capabilities.value
        self._values[regs.VS] = regs.VERSION_1_4
        self._stop()

    def takes(self, offset: int, length: int) -> bool:
        """See `Registers.takes`."""
        return length in (4, 8) and offset % length == 0

    def read(self, offset: int, length: int) -> int:
        """See `Registers.read`; what is reserved, and doorbells, are zeros."""
        if not self.takes(offset, length):
            raise Unmapped
        if length == 8:
            return self.read(offset, 4) | self.read(offset + 4, 4) << 32
        if offset - 4 in _WIDE:
            return self._values[offset - 4] >> 32
        return self._values.get(regs.INTMS if offset == regs.INTMC else offset, 0) & _DWORD

    def write(self, offset: int, length: int, value: int) -> None:
        """See `Registers.write`."""
        if not self.takes(offset, length):
            raise Unmapped
        if length == 8:
            self.write(offset, 4, value & _DWORD)
            self.write(offset + 4, 4, value >> 32)
        elif offset >= regs.DOORBELLS:
            self._ring(offset - regs.DOORBELLS, value)
        elif offset == regs.CC:
            self._configure(value & _WRITABLE[regs.CC])
        elif offset in (regs.INTMS, regs.INTMC):
            mask = self._values[regs.INTMS]
            self._values[regs.INTMS] = mask | value if offset == regs.INTMS else mask & ~value
            self._engine.show_pin()
        elif offset in _WRITABLE:
            self._values[offset] = value & _WRITABLE[offset]
        else:
            register, shift = (offset - 4, 32) if offset - 4 in _WIDE else (offset, 0)
            if register in _WIDE:
                mask = _WIDE[register] & _DWORD << shift
                self._values[register] = self._values[register] & ~mask | value << shift & mask

    # being started and stopped

    def _configure(self, value: int) -> None:
        before, after = self.configuration, Configuration.parse(value)
        self._values[regs.CC] = value
        if after.enable and not before.enable:
            self._values[regs.CSTS] |= ControllerStatus.READY if self._start(after) else ControllerStatus.FATAL
        elif before.enable and not after.enable:
            self._values[regs.CSTS] = 0
            self._stop()
        if bool(after.shutdown) != bool(before.shutdown):
            self._shut_down(bool(after.shutdown))

    def _start(self, wanted: Configuration) -> bool:
        """Make the admin queues; whether the registers allow it."""
        able, sizes = self.capabilities, self._values[regs.AQA]
        bases = submissions, completions = self._values[regs.ASQ], self._values[regs.ACQ]
        if not able.least_page <= wanted.page <= able.most_page or wanted.command_set or wanted.arbitration:
            return False
        if not all(bases) or any(base % (1 << wanted.page) for base in bases):
            return False
        submission_size, completion_size = (sizes & 0xFFF) + 1, (sizes >> 16) + 1
        if submission_size < 2 or completion_size < 2:
            return False
        queue = CompletionQueue(0, completions, completion_size)
        self.completions[0] = queue
        self.submissions[0] = SubmissionQueue(0, submissions, submission_size, queue)
        return True

    def _stop(self) -> None:
        """A controller reset: no queues, no requests for events, features as at the start (7.3.1)."""
        self.submissions.clear()
        self.completions.clear()
        self.events.reset()
        self.settings.reset()
        self._engine.show_pin()

    def _shut_down(self, wanted: bool) -> None:
        status = self._values[regs.CSTS] & ~(3 << _SHUTDOWN_SHIFT)
        if wanted:
            with contextlib.suppress(CommandError):  # nobody to tell; the count of media errors has it
                self._engine.nvm.flush_all()
            status |= ShutdownStatus.COMPLETE << _SHUTDOWN_SHIFT
        self._values[regs.CSTS] = status

    def fail(self) -> None:
        """Stop for good, until it is reset: fatal status."""
        self._values[regs.CSTS] |= ControllerStatus.FATAL

    # doorbells

    def _ring(self, place: int, value: int) -> None:
        number, step = divmod(place, 4 << self.capabilities.stride)
        if step or not self.works:
            return
        queues: dict[int, SubmissionQueue] | dict[int, CompletionQueue]
        queues = self.completions if number % 2 else self.submissions
        queue = queues.get(number // 2)
        if queue is None:
            self.events.add(Event(EventType.ERROR, ErrorEvent.NO_SUCH_DOORBELL, LogPage.ERROR))
        elif value >= queue.size:
            self.events.add(Event(EventType.ERROR, ErrorEvent.BAD_DOORBELL_VALUE, LogPage.ERROR))
        elif isinstance(queue, CompletionQueue):
            queue.head = value
            self._engine.show_pin()
        else:
            queue.tail = value
        if self._schedule is not None:
            self._schedule(0.0, self._engine.run)
        else:
            self._engine.run()

    # the data of a command

    def check_length(self, count: int) -> None:
        """Raise `CommandError` for data that is longer than a command may have."""
        limit = self.identity.transfer
        if limit and count > 1 << limit + self.capabilities.least_page:
            raise CommandError(Status.INVALID_FIELD)

    def get(self, command: Command, count: int) -> bytes:
        """The data that a command brings.  Raise `CommandError`, `DmaFault`."""
        function = self._acting
        return read_runs(function, locate(function, self.page, command.prp1, command.prp2, count))

    def put(self, command: Command, data: bytes, count: int) -> None:
        """Put the data that a command asks for.  Raise `CommandError`, `DmaFault`."""
        function = self._acting
        write_runs(function, locate(function, self.page, command.prp1, command.prp2, count), data)

    @property
    def _acting(self) -> Initiator:
        assert self.function is not None  # commands are only done while there is one
        return self.function
