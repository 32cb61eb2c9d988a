"""The NVMe controller as its driver has it, without any waiting: started, stopped, commands sent and taken back.

Operations are generators, see `pyvfio.drivers.nvme_waiting`.
Source of the sequence: NVM Express 1.4, 7.6.1 (start), 7.6.2 (shutdown), 5.1 (abort).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pyvfio.drivers.claim import Claim
from pyvfio.drivers.nvme_failures import NvmeError, command_words
from pyvfio.drivers.nvme_memory import Slot, Slots
from pyvfio.drivers.nvme_queue import Pending, Queue
from pyvfio.drivers.nvme_waiting import Options, Pause, Room, Until, Work
from pyvfio.drivers.pci_lines import KINDS, Lines
from pyvfio.drivers.pci_registers import GONE, Registers, require_ids, set_bus_master
from pyvfio.errors import Misuse, NotAvailable, PyvfioError, Timeout
from pyvfio.nvme import registers as regs
from pyvfio.nvme.commands import AdminOpcode, Command, Completion
from pyvfio.nvme.registers import Capabilities, Configuration, ControllerStatus, Shutdown, ShutdownStatus
from pyvfio.vfio.device import Device

if TYPE_CHECKING:
    from pyvfio.drivers.recovery import Recovery

__all__ = ["NvmeControl"]

_HALF_SECONDS: Final = 0.5
_LOOK: Final = 0.001
_ABORT_SECONDS: Final = 5.0
_NOT_ABORTED: Final = 1
_SHUTDOWN_SHIFT: Final = 2
_MOST_QUEUES: Final = (1 << 16) - 1


class NvmeControl:
    """One controller.  `queues` are the admin queue and the I/O queues, empty while it is not started."""

    def __init__(self, device: Device, options: Options, recovery: Recovery | None = None) -> None:
        if options.interrupts not in ("auto", *KINDS):
            cause = f"interrupts are auto, {', '.join(KINDS)}, not {options.interrupts!r}"
            raise Misuse("drive NVMe", device.name, cause=cause)
        if options.depth < 1 or options.queues < 1:
            raise Misuse("drive NVMe", device.name, cause="depth and queues are at least 1")
        if options.queues > _MOST_QUEUES:
            raise Misuse("drive NVMe", device.name, cause=f"a controller has {_MOST_QUEUES} I/O queues at most")
        if not options.timeout > 0:  # nor is one that is not a number
            raise Misuse("drive NVMe", device.name, cause=f"a timeout is more than 0 seconds, not {options.timeout}")
        if recovery is not None and not any(one is device for one in recovery.devices):
            raise Misuse("drive NVMe", device.name, cause=f"the recovery is of {recovery.name}, not of this device")
        self.device = device
        self.options = options
        self.capabilities = Capabilities()
        self.queues: list[Queue] = []
        self.slots: Slots | None = None
        self.waiting: list[Callable[[], None]] = []
        """Called, the first of them, when there is room again."""
        self.recovery = recovery
        """What recovers it from freezes of its endpoint, where it outlives them."""
        self.started = False
        self.healing = self.broken = False
        """Whether it is being started again after a freeze; whether it has to be."""
        self.suspended: dict[int, list[Pending]] = {}
        """By the numbers of queues: what is to be sent again."""
        self.spare: Slot | None = None
        self._failed = ""
        self._claim: Claim | None = None
        self._registers: Registers | None = None
        self._lines: Lines | None = None
        self._admin_memory: Slots | None = None

    # -- the controller ------------------------------------------------------------------------------------------

    @property
    def registers(self) -> Registers:
        """BAR 0.  Raise `Misuse` before it is started."""
        if self._registers is None:
            raise self._stopped()
        return self._registers

    @property
    def lines(self) -> Lines:
        """Its interrupts.  Raise `Misuse` before it is started."""
        if self._lines is None:
            raise self._stopped()
        return self._lines

    @property
    def page(self) -> int:
        """The size of a page of memory, in bytes."""
        return 1 << self.capabilities.least_page

    def _stopped(self) -> Misuse:
        cause = self._failed or "the driver is not started, or was closed"
        return Misuse("drive NVMe", self.device.name, cause=cause, next_step="use it in `with`")

    def status(self) -> int:
        """CSTS.  Raise `NotAvailable` when the controller does not answer."""
        value = self.registers.read(regs.CSTS)
        if value == GONE:
            raise NotAvailable(
                "drive NVMe",
                self.device.name,
                cause="the controller does not answer: its registers read as ones",
                next_step="it was taken out, is powered down, or its endpoint froze (POWER: pyvfio eeh status)",
            )
        return value

    def check_alive(self) -> None:
        """Raise `NotAvailable` when the controller has failed (CSTS, fatal) or is gone."""
        if self.status() & ControllerStatus.FATAL:
            raise NotAvailable(
                "drive NVMe",
                self.device.name,
                cause="the controller has failed (CSTS: fatal), it does nothing until it is reset",
                next_step="close the driver and start it again; dmesg may have faults of the IOMMU",
            )

    def enable(self) -> Work[None]:
        """Reset the controller, give it the admin queue and enable it.  Raise `Timeout`, `NotAvailable`, `Misuse`.

        Nothing is touched while a driver has the device.
        """
        require_ids(self.device, "NVMe controller", class_code=regs.CLASS_CODE)
        self._claim = Claim(self.device, "NVMe controller")
        self._registers = Registers(self.device, regs.BAR, self.options.access)
        self._failed = ""
        self.status()
        able = self.capabilities = Capabilities.parse(self.registers.read_pair(regs.CAP))
        if not able.command_sets & 1:
            raise NotAvailable("drive NVMe", self.device.name, cause="the controller has no NVM command set")
        yield from self.disable()
        set_bus_master(self.device, True)
        self._lines = Lines(self.device, self.options.interrupts, 1 + self.options.queues)
        space, size = self.device.space, min(self.options.depth + 1, able.entries)
        self.add_queue(max(min(size, regs.ADMIN_ENTRIES), 2))
        self._admin_memory = Slots(space, 2 if self.recovery is None else 3, self.page, self.page)
        if self.recovery is not None:
            self.spare = self._admin_memory.take()
            self.recovery.save([self.device])
        yield from self.start_controller()

    def start_controller(self) -> Work[None]:
        """Give the controller the admin queue and enable it.  Raise as `enable`."""
        admin, able = self.queues[0], self.capabilities
        self.registers.write(regs.AQA, (admin.size - 1) << 16 | admin.size - 1)
        self.registers.write_pair(regs.ASQ, admin.submission_address)
        self.registers.write_pair(regs.ACQ, admin.completion_address)
        wanted = Configuration(
            enable=True,
            page=able.least_page,
            submission_entry=regs.SUBMISSION_ENTRY,
            completion_entry=regs.COMPLETION_ENTRY,
        )
        self.registers.write(regs.CC, wanted.value)
        yield from self._until(lambda s: bool(s & (ControllerStatus.READY | ControllerStatus.FATAL)), "enable it")
        self.check_alive()

    def disable(self) -> Work[None]:
        """Reset the controller: it forgets its queues, and uses no memory any more."""
        before = Configuration.parse(self.registers.read(regs.CC))
        if before.enable:
            if not self.status() & (ControllerStatus.READY | ControllerStatus.FATAL):
                yield from self._until(lambda s: bool(s & ControllerStatus.READY), "wait for its start")
            self.registers.write(regs.CC, before.value & ~1)
        yield from self._until(lambda s: not s & ControllerStatus.READY, "disable it")

    def _until(self, done: Callable[[int], bool], words: str) -> Work[None]:
        """Wait for CSTS, as long as CAP says that it may take (CAP.TO)."""
        seconds = max(self.capabilities.timeout, 1) * _HALF_SECONDS
        deadline = time.monotonic() + seconds
        while not done(self.status()):
            if time.monotonic() > deadline:
                cause = f"the controller took longer than the {seconds:g} s that it said (CAP.TO)"
                raise Timeout(f"drive NVMe: {words}", self.device.name, cause=cause)
            yield Pause(_LOOK)

    def shut_down(self) -> Work[None]:
        """Have the controller finish what it keeps in caches (CC, normal shutdown), then disable it."""
        value = self.registers.read(regs.CC)
        if value & 1 and not self.status() & ControllerStatus.FATAL:
            self.registers.write(regs.CC, value & ~(3 << 14) | Shutdown.NORMAL << 14)
            complete = ShutdownStatus.COMPLETE
            yield from self._until(lambda s: s >> _SHUTDOWN_SHIFT & 3 == complete, "shut it down")
        yield from self.disable()

    def failed_because(self, why: str) -> None:
        """What its users are told from now on."""
        self._failed = why

    def release(self) -> None:
        """After `shut_down`, or when it failed: no bus, no interrupts, memory free; a second call does nothing."""
        if self._registers is not None:
            with contextlib.suppress(PyvfioError):
                set_bus_master(self.device, False)  # whatever it still does, it reaches no memory
        self._registers = None
        lines, self._lines = self._lines, None
        claim, self._claim = self._claim, None
        queues, self.queues = self.queues, []
        memory = (self.slots, self._admin_memory)
        self.slots = self._admin_memory = None
        with contextlib.ExitStack() as stack:
            if claim is not None:
                stack.callback(claim.close)
            for queue in queues:
                stack.callback(queue.close)
            for slots in memory:
                if slots is not None:
                    stack.callback(slots.close)
            if lines is not None:
                stack.callback(lines.close)
        for queue in queues:
            for pending in queue.under_way.values():
                if pending.notice is not None:
                    pending.notice()
        self._wake()

    # -- commands ------------------------------------------------------------------------------------------------

    def add_queue(self, size: int) -> Queue:
        """Memory for the next pair of queues with `size` entries; the controller is not told."""
        number = len(self.queues)
        queue = Queue(
            self.device.space,
            self.registers,
            number,
            size,
            page=self.page,
            stride=self.capabilities.stride,
            vector=self.lines.vector(number),
        )
        self.queues.append(queue)
        return queue

    def collect(self, vector: int = -1) -> None:
        """Ring for what was put, and take what has ended in the queues of a vector (-1: of all)."""
        for queue in self.queues:
            queue.ring()
            if vector not in (-1, queue.vector):
                continue
            self.take(queue)
        if self._lines is not None:
            self._lines.rearm()

    def take(self, queue: Queue, *, tell: bool = True) -> None:
        """Take what has ended in one queue."""
        ended = queue.take(tell=tell)
        for pending in ended:
            if pending.abandoned:
                self.give_back(pending)
            if pending.notice is not None:
                pending.notice()
        if ended:
            self._wake()

    def _wake(self) -> None:
        waiting, self.waiting = self.waiting, []
        for notice in waiting:
            notice()

    def give_back(self, pending: Pending) -> None:
        """The memory of a command can be used by others."""
        slot, pending.slot = pending.slot, None
        slots = self._admin_memory if pending.queue.number == 0 else self.slots
        if slot is not None and slots is not None:
            slots.give_back(slot)

    def slot(self, queue: Queue) -> Work[Slot]:
        """A slot for data, with room for the command in `queue`."""
        deadline = time.monotonic() + self.options.timeout
        while True:
            while self.healing:
                yield Pause(_LOOK)
            slots = self._admin_memory if queue.number == 0 else self.slots
            if slots is None:
                raise self._stopped()
            if queue.has_room and (slot := slots.take()) is not None:
                return slot
            deadline = yield from self._wait_for_room(queue, deadline)

    def _wait_for_room(self, queue: Queue, deadline: float) -> Work[float]:
        if not (yield Room(queue, deadline)):
            if (yield from self.healed("a queue stayed full")):
                return time.monotonic() + self.options.timeout
            cause = f"queue {queue.number} has been full for {self.options.timeout:g} s"
            raise Timeout("send NVMe command", self.device.name, cause=cause)
        return deadline

    def healed(self, reason: str) -> Work[bool]:
        """Whether the endpoint was frozen, and has been recovered."""
        yield from ()
        return False

    def note_overlaps(self, pending: Pending) -> None:
        """A command is sent."""

    def put(self, queue: Queue, command: Command, slot: Slot | None = None) -> Pending:
        """Send a command (at the next `collect`, or before something is waited for)."""
        if not self.queues:
            raise self._stopped()
        pending = queue.put(command, slot)
        self.note_overlaps(pending)
        return pending

    def finish(self, pending: Pending, timeout: float | None = None) -> Work[Completion]:
        """Wait for a command.  Raise `NvmeError` for an error, `Timeout`: it was aborted, or the controller reset.

        With a recovery: `NvmeInterrupted` when a freeze came, and nobody knows whether it was done; `EndpointFailed`.
        """
        seconds = self.options.timeout if timeout is None else timeout
        words = command_words(pending.command, admin=pending.queue.number == 0)
        while not pending.ended:
            came = yield Until(pending, time.monotonic() + seconds)
            if came or pending.ended:
                break
            if pending.own:
                raise NotAvailable("drive NVMe", self.device.name, cause=f"it did not end: {words}")
            if not (yield from self.healed(f"it did not end: {words}")) and (yield from self._expire(pending, seconds)):
                break
        if pending.lost is not None:
            raise pending.lost
        completion = pending.completion
        if completion is None:
            raise self._stopped()  # closed meanwhile
        if not completion.ok:
            admin = pending.queue.number == 0
            raise NvmeError(self.device.name, pending.command, completion, admin=admin)
        return completion

    def done(self, pending: Pending) -> None:
        """The data of a command is not needed any more, whether it has ended or not."""
        if not pending.ended:
            pending.abandoned = True
        else:
            self.give_back(pending)

    def _expire(self, pending: Pending, seconds: float) -> Work[bool]:
        """Abort a command that takes too long; reset the controller when that does not end it.

        Raise `Timeout`, unless it succeeded at the last moment; False when a freeze came, so that it is to be waited
        for again.
        """
        self.check_alive()
        queue, admin = pending.queue, pending.queue.number == 0
        ended = False
        if not (admin and pending.command.opcode == AdminOpcode.ABORT) and self.queues[0].has_room:
            aborting = Command(AdminOpcode.ABORT, cdw10=queue.number | pending.command.id << 16)
            abort = self.put(self.queues[0], aborting)
            limit = time.monotonic() + min(self.options.timeout, _ABORT_SECONDS)
            came = yield Until(abort, limit)
            if came and abort.completion is not None and not abort.completion.result & _NOT_ABORTED:
                ended = yield Until(pending, limit)
            if (yield from self.healed("an abort did not end")):
                return pending.ended
        words = command_words(pending.command, admin=admin)
        if pending.completion is not None and pending.completion.ok:
            return True  # it came after all, before the abort did
        if ended or pending.completion is not None:
            raise Timeout(words, self.device.name, cause=f"it took longer than {seconds:g} s, and was aborted")
        with contextlib.suppress(PyvfioError):
            yield from self.disable()
        self.release()
        self.failed_because(f"the controller was reset, because it did not end: {words}")
        raise Timeout(
            words,
            self.device.name,
            cause=f"it took longer than {seconds:g} s, aborting it did not help, and the controller was reset",
            next_step="start the driver again; what was being written may be written or not",
        )

    # -- admin commands ------------------------------------------------------------------------------------------

    def admin(self, command: Command, data: int = 0, timeout: float | None = None) -> Work[tuple[Completion, bytes]]:
        """An admin command; `data` bytes that it gives, at most a page.  Raise `Misuse` for more."""
        if not self.queues:
            raise self._stopped()
        if data > self.page:
            cause = f"an admin command gives up to {self.page} bytes here, not {data}"
            raise Misuse("send NVMe command", self.device.name, cause=cause)
        slot = yield from self.slot(self.queues[0])
        command.prp1, command.prp2 = slot.prps(data) if data else (0, 0)
        pending = self.put(self.queues[0], command, slot)
        try:
            completion = yield from self.finish(pending, timeout)
            return completion, bytes(slot.view[:data])
        finally:
            self.done(pending)
