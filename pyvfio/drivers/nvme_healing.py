"""An NVMe controller whose endpoint freezes: recovered, started anew, and what was under way sent again.

A frozen endpoint takes no doorbell and writes nothing to memory.  So a command whose completion is in memory has ended,
and of any other nobody knows whether it was done.  After the recovery (which resets the controller) it is sent again,
when that cannot be told from its having been done once:

===================================  ============================================================================
command                              is it sent again
===================================  ============================================================================
read, compare, flush                 yes
write, write zeroes, deallocate      yes, unless another one for some of the same blocks was under way with it:
                                     doing it twice could undo the other one, which may have been acknowledged
identify, get log page or features   yes
anything else                        no
===================================  ============================================================================

One that is not sent again ends with `NvmeInterrupted`.  Features that were set are gone, as after any reset.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from pyvfio.drivers.blocking import Blocking
from pyvfio.drivers.nvme_control import NvmeControl
from pyvfio.drivers.nvme_failures import NvmeInterrupted
from pyvfio.drivers.nvme_queue import Pending, Queue
from pyvfio.drivers.nvme_waiting import Pause, Work
from pyvfio.drivers.pci_registers import set_bus_master
from pyvfio.errors import NotAvailable, PyvfioError
from pyvfio.nvme.commands import AdminOpcode, Command, IoOpcode, QueueFlags
from pyvfio.nvme.features import Feature
from pyvfio.nvme.identity import IDENTIFY_SIZE, ControllerIdentity, Identify

if TYPE_CHECKING:
    from pyvfio.drivers.recovery import Recovery

__all__ = ["NvmeHealing"]

_LOOK: Final = 0.001
_AGAIN_ADMIN: Final = (AdminOpcode.IDENTIFY, AdminOpcode.GET_LOG_PAGE, AdminOpcode.GET_FEATURES)
_WRITES: Final = (IoOpcode.WRITE, IoOpcode.WRITE_ZEROES, IoOpcode.DATASET_MANAGEMENT)
_AGAIN: Final = (IoOpcode.READ, IoOpcode.COMPARE, IoOpcode.FLUSH, *_WRITES)


def _blocks(command: Command) -> tuple[int, int]:
    """The blocks that a command may change: the first, and the one after the last; those of lists are any."""
    if command.opcode == IoOpcode.DATASET_MANAGEMENT:
        return 0, 1 << 64
    return command.lba, command.lba + command.blocks


class NvmeHealing(NvmeControl):
    """The controller, which outlives freezes when it has a `recovery`."""

    identity: ControllerIdentity | None = None
    seen = 0
    """How many freezes the recovery had when the controller was started."""

    def note_recoveries(self) -> None:
        """The controller is being started: what was recovered before is none of its business."""
        self.seen = 0 if self.recovery is None else len(self.recovery.history)

    # -- noticing ------------------------------------------------------------------------------------------------

    def look(self, pending: Pending | None) -> bool:
        """Whether waiting (for `pending`, None: for room) is in vain, as the endpoint is frozen.

        Raise as `check_alive`.
        """
        if self.recovery is None:
            self.check_alive()
            return False
        if self.healing and not (pending is not None and pending.own):
            return False  # somebody is at it
        if self._has_to_heal(self.recovery):
            return True
        self.check_alive()
        return False

    def _has_to_heal(self, recovery: Recovery) -> bool:
        """Whether the endpoint is frozen, or was recovered by somebody else (a driver of another of its functions)."""
        return self.broken or len(recovery.history) != self.seen or recovery.frozen

    def healed(self, reason: str) -> Work[bool]:
        """Recover from a freeze, or wait until somebody has; whether there was one.

        Raise `NotAvailable` for one during the start, which is begun anew by who starts it.
        """
        if self.recovery is None:
            return False
        waited = False
        while self.healing:
            waited = True
            yield Pause(_LOOK)
        if waited:
            return True
        if not self._has_to_heal(self.recovery):
            return False
        if not self.started:
            raise NotAvailable("drive NVMe", self.device.name, cause="its endpoint froze during the start")
        yield from self._heal(reason)
        return True

    def note_overlaps(self, pending: Pending) -> None:
        """A command is sent: note which writes of the same blocks are under way together."""
        if self.recovery is None or pending.queue.number == 0 or pending.command.opcode not in _WRITES:
            return
        first, end = _blocks(pending.command)
        for queue in self.queues[1:]:
            for other in queue.under_way.values():
                if other is pending or other.command.opcode not in _WRITES:
                    continue
                start, stop = _blocks(other.command)
                if other.command.nsid == pending.command.nsid and first < stop and start < end:
                    other.contested = pending.contested = True

    # -- recovering ----------------------------------------------------------------------------------------------

    def recover_endpoint(self, reason: str) -> Work[None]:
        """Have the endpoint recovered, if it is frozen.  Raise `EndpointFailed`."""
        while self.recovery is not None and self.recovery.stage is not None:
            yield Pause(_LOOK)  # somebody else is at it
        if self.recovery is None or not self.recovery.frozen:
            return
        work = self.recovery.work(reason)
        try:
            step = next(work)
            while True:
                yield step if isinstance(step, Blocking) else Pause(step)
                step = work.send(None)
        except StopIteration:
            return
        finally:
            work.close()

    def _heal(self, reason: str) -> Work[None]:
        self.healing = self.broken = True
        try:
            while True:
                try:
                    yield from self.recover_endpoint(reason)
                    self.note_recoveries()
                    yield from self._restart()
                    break
                except PyvfioError:
                    if self.recovery is None or self.recovery.failed is not None or not self.recovery.frozen:
                        raise
                reason = "it froze again while the controller was started"
            self.broken = False
            self._send_again()
        except PyvfioError as error:
            self.fail(f"the controller is lost after a freeze: {error.cause or error.operation}")
            raise
        finally:
            self.healing = False

    def _restart(self) -> Work[None]:
        """Enable the controller with the queues that there are, empty."""
        yield from self.disable()
        for queue in self.queues:  # what it has posted has ended
            self.take(queue, tell=False)
            again = self.suspended.setdefault(queue.number, [])
            again += [one for one in queue.under_way.values() if not one.own]
            queue.restart()
        set_bus_master(self.device, True)
        yield from self.start_controller()
        yield from self._check_identity()
        wanted = len(self.queues) - 2
        asked = Command(AdminOpcode.SET_FEATURES, cdw10=Feature.QUEUES, cdw11=wanted << 16 | wanted)
        yield from self._own(asked)
        for queue in self.queues[1:]:
            for command in self.creation(queue):
                yield from self._own(command)

    def _own(self, command: Command) -> Work[None]:
        pending = self.put(self.queues[0], command)
        pending.own = True
        yield from self.finish(pending)

    def _check_identity(self) -> Work[None]:
        """Raise `NotAvailable` when there is another controller now."""
        slot = self.spare
        if slot is None or self.identity is None:
            return
        command = Command(AdminOpcode.IDENTIFY, cdw10=Identify.CONTROLLER)
        command.prp1, command.prp2 = slot.prps(IDENTIFY_SIZE)
        yield from self._own(command)
        found = ControllerIdentity.parse(bytes(slot.view[:IDENTIFY_SIZE]))
        if found.serial != self.identity.serial:
            cause = f"it is another controller now: serial number {found.serial!r}, it was {self.identity.serial!r}"
            raise NotAvailable("drive NVMe", self.device.name, cause=cause)

    def creation(self, queue: Queue) -> tuple[Command, Command]:
        """The commands that create an I/O queue pair in the controller."""
        flags = QueueFlags.CONTIGUOUS | (QueueFlags.INTERRUPTS if self.lines.kind != "poll" else 0)
        where = queue.number | (queue.size - 1) << 16
        completions = Command(AdminOpcode.CREATE_CQ, cdw10=where, cdw11=flags | queue.vector << 16)
        completions.prp1 = queue.completion_address
        submissions = Command(AdminOpcode.CREATE_SQ, cdw10=where, cdw11=QueueFlags.CONTIGUOUS | queue.number << 16)
        submissions.prp1 = queue.submission_address
        return completions, submissions

    def _send_again(self) -> None:
        suspended, self.suspended = self.suspended, {}
        for queue in self.queues:
            for pending in suspended.get(queue.number, []):
                if pending.abandoned:
                    self.give_back(pending)
                elif self._can_repeat(pending):
                    queue.put_again(pending)
                else:
                    admin = queue.number == 0
                    pending.lost = NvmeInterrupted(self.device.name, pending.command, admin=admin)
                    if pending.notice is not None:
                        pending.notice()
        self.collect()

    def _can_repeat(self, pending: Pending) -> bool:
        if pending.queue.number == 0:
            return pending.command.opcode in _AGAIN_ADMIN
        return pending.command.opcode in _AGAIN and not pending.contested and not pending.command.fused

    def release(self) -> None:
        """See `NvmeControl.release`."""
        suspended, self.suspended = self.suspended, {}
        self.started = self.broken = False
        self.spare = None
        super().release()
        for pendings in suspended.values():
            for pending in pendings:
                if pending.notice is not None:
                    pending.notice()

    def fail(self, why: str) -> None:
        """Give up: what waits is told."""
        with contextlib.suppress(PyvfioError):
            self.release()
        self.failed_because(why)
