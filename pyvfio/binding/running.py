"""Running plans: each step is noted, done and read back; one that fails is undone with those before it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

from pyvfio.binding.inspection import in_use
from pyvfio.binding.journal import DIRECTORY, Journal, Record, records
from pyvfio.binding.patience import Patience, Pending
from pyvfio.binding.plan import Plan
from pyvfio.binding.step import Event, Phase, Progress, Step
from pyvfio.devices import device_named
from pyvfio.errors import (
    UNTOUCHED,
    DeviceBusy,
    DeviceInUse,
    Misuse,
    PyvfioError,
    RollbackFailed,
    StepFailed,
    StillWaiting,
    Timeout,
)
from pyvfio.sysfs import Sysfs

__all__ = ["DEADLINE", "run", "undo"]

DEADLINE = 15.0
"""Seconds that one call may take before its holders are named."""

_BEFORE = "it is as it was before"
_FRESH = 1.0
"""Seconds for which what the probes saw is taken for what is."""
_SHORT = 2.0
"""Seconds that an inverse may take while the kernel waits in a step."""


def _quiet(event: Event) -> None:
    """No progress is wanted."""


class _Run:
    """One run of `plan`: the patient backend below it, the journal beside it, and who is told."""

    def __init__(
        self, plan: Plan, tell: Progress, journal: str | None, deadline: float, wait: float | None, sysfs: Sysfs
    ) -> None:
        self.plan = plan
        self.tell = tell
        self.deadline = deadline
        backend = sysfs.backend.backend if isinstance(sysfs.backend, Patience) else sysfs.backend
        self.patience = Patience(backend, deadline, wait=wait, on_wait=self._waiting)
        self.sysfs = Sysfs(self.patience)
        self.journal = None if journal is None else Journal(self.sysfs, journal)
        self.index = 0
        self.begun = 0
        self.holders: list[str] = []
        self.waits = ""

    def event(self, phase: Phase, index: int, error: str = "") -> None:
        self.tell(Event(self.plan.steps[index], phase, index, len(self.plan.steps), error))

    def note(self, **words: object) -> None:
        if self.journal is not None:
            self.journal.note(**words)

    def _waiting(self, pending: Pending) -> None:
        """The kernel is late: say for whom it may wait."""
        if self.index >= len(self.plan.steps):
            return  # in the rollback, which waits for the same
        self.waits = f"the kernel still waits after {self.deadline:g} s in {pending}" + "".join(
            f"; {who}" for who in self.holders
        )
        if self.patience.wait != 0:
            self.event(Phase.WAITING, self.index, self.waits)

    def forward(self) -> None:
        """Do all steps.  Raise what the first one that fails raises; `index` is its number."""
        for index, step in enumerate(self.plan.steps):
            self.index = index
            self._unchanged(step)
            self.begun = index + 1
            # Now, because the kernel takes the nodes away while it waits for their holders.
            self.holders = [f"{node} is open in {holder}" for node in step.nodes for holder in self.sysfs.holders(node)]
            self.note(start=index)
            self.event(Phase.START, index)
            step.do(self.sysfs)
            problem = step.verify(self.sysfs)
            if problem:
                raise StepFailed(
                    step.text,
                    self.plan.obj,
                    path=step.paths[0] if step.paths else "",
                    cause=f"the kernel took the write, but reading back: {problem}",
                    next_step="the kernel log (dmesg) may say why",
                )
            self.note(done=index)
            self.event(Phase.DONE, index)

    def _unchanged(self, step: Step) -> None:
        """Raise `StepFailed` when what the step will change is not what its inverse would restore."""
        changed = step.changed(self.sysfs)
        if changed:
            raise StepFailed(
                step.text,
                self.plan.obj,
                path=step.paths[0] if step.paths else "",
                cause=f"it changed since the plan was made: {changed}",
                next_step="look what else works on it, and make a new plan: run the command again",
            )

    def back(self, steps: Iterable[int]) -> list[tuple[Step, PyvfioError]]:
        """Undo the steps of these numbers, each tried; those that could not be undone with the reason."""
        failed: list[tuple[Step, PyvfioError]] = []
        for index in steps:
            step = self.plan.steps[index]
            self.event(Phase.UNDOING, index)
            try:
                step.undo(self.sysfs)
            except PyvfioError as error:
                failed.append((step, error))
                self.event(Phase.UNDO_FAILED, index, str(error))
            else:
                with contextlib.suppress(PyvfioError):
                    self.note(undone=index)
                self.event(Phase.UNDONE, index)
        return failed

    def outstanding(self) -> list[Pending]:
        """The writes to the host that were given up and may still come to effect."""
        directory = "" if self.journal is None else f"{self.journal.directory}/"
        calls = [call for call in self.patience.pending if call.writes]
        return [call for call in calls if not directory or not call.path.startswith(directory)]

    def close(self) -> None:
        if self.journal is not None:
            self.journal.leave()
        self.patience.close()


def run(
    plan: Plan,
    progress: Progress | None = None,
    *,
    force: Iterable[str] = (),
    journal: str | None = DIRECTORY,
    deadline: float = DEADLINE,
    wait: float | None = 0.0,
) -> Plan:
    """Do the steps in order; each is read back.  The plan is returned.

    `force` names the probes whose findings are overridden.  Before the first write, all that the inverses need goes to
    a file in the directory `journal` (None: none is kept).  A call of the kernel that takes longer than `deadline`
    seconds, and `wait` more (None: for ever), is given up.

    When a step fails, that and the earlier ones are undone in reverse.  Raise `DeviceInUse` (nothing was done),
    `StepFailed` (the host is as before), `StillWaiting` (as before, but the kernel will carry out a write that was
    given up; the journal is kept for `restore`) or `RollbackFailed`, which says what is left.  An interruption (Ctrl-C)
    or an exception of `progress` is followed by the rollback as well.
    """
    plan.refuse(force)
    if plan.empty:
        return plan
    if plan.sysfs is None:
        raise Misuse("run plan", plan.obj, cause="the plan names no host (Plan.sysfs)")
    work = _Run(plan, progress or _quiet, journal, deadline, wait, plan.sysfs)
    try:
        _begin(work)
        _look_again(work, force)
        try:
            work.forward()
            if work.journal is not None:
                work.journal.end("done")
        except PyvfioError as error:
            step = plan.steps[work.index]
            work.tell = _guarded(work.tell)
            work.event(Phase.FAILED, work.index, str(error))
            _roll_back(work, error)
            if isinstance(error, StepFailed):
                error.host = _BEFORE
                raise
            raise _failure(plan, step, error) from error
        except BaseException as error:
            work.tell = _guarded(work.tell)
            work.event(Phase.FAILED, work.index, "interrupted")
            _roll_back(work, None)
            error.add_note(f"host: {_BEFORE}")
            raise
    finally:
        work.close()
    return plan


def _guarded(tell: Progress) -> Progress:
    def guarded(event: Event) -> None:
        with contextlib.suppress(Exception):
            tell(event)

    return guarded


def _begin(work: _Run) -> None:
    """Look for other runs on the same objects, then write the journal.  Raise; nothing was changed."""
    if work.journal is None:
        return
    try:
        _alone(work)
        work.journal.begin(work.plan.title, work.plan.objects, work.plan.steps)
        try:
            _alone(work)  # of two that began at the same moment, each sees the other's journal now
        except BaseException:
            work.journal.withdraw()
            raise
    except PyvfioError as error:
        error.host = UNTOUCHED
        raise


def _alone(work: _Run) -> None:
    """Raise `DeviceBusy` when another run has a journal about one of the objects."""
    journal = work.journal
    for record in () if journal is None else records(work.sysfs, journal.directory):
        shared = sorted(set(record.objects) & set(work.plan.objects))
        if not shared or journal is None or record.path == journal.path:
            continue
        alive = record.alive(work.sysfs)
        # It may have come to its end since the journal was read; only then is the file gone, too.
        if alive or any(one.path == record.path for one in records(work.sysfs, journal.directory)):
            raise _occupied(work, record, shared, alive=alive)


def _look_again(work: _Run, force: Iterable[str]) -> None:
    """Ask the probes again when the plan is not of this moment.  Raise `DeviceInUse`; nothing was changed."""
    if time.monotonic() - work.plan.made < _FRESH:
        return
    try:
        overridden = set(force)
        for one in work.plan.looked:
            device = device_named(work.sysfs, one.device.bus, one.device.name)
            new = [found for found in in_use(device) if found.probe not in one.probes and found.probe not in overridden]
            if new:
                raise DeviceInUse(
                    work.plan.title,
                    device.name,
                    new,
                    cause="since the plan was made: " + "\n         ".join("\n".join(map(str, new)).splitlines()),
                    next_step="end that use, and make a new plan: run the command again",
                )
    except BaseException as error:
        if isinstance(error, PyvfioError):
            error.host = UNTOUCHED
        if work.journal is not None:
            work.journal.withdraw()
        raise


def _occupied(work: _Run, record: Record, shared: list[str], *, alive: bool) -> DeviceBusy:
    if record.damaged:
        return DeviceBusy(
            work.plan.title,
            ", ".join(shared),
            path=record.path,
            cause=f"a journal about it cannot be read: {record.damaged}",
            next_step=f"see that the device is as it should be; then pyvfio restore --forget {record.path}",
        )
    what = f"pyvfio (pid {record.pid}) " + ("is at work on it" if alive else "was killed or gave up at work on it")
    return DeviceBusy(
        work.plan.title,
        ", ".join(shared),
        path=record.path,
        cause=f"{what}: {record.title}, begun at {record.time}",
        next_step="wait for its end" if alive else "pyvfio restore undoes that; then try again",
    )


def undo(plan: Plan, progress: Progress | None = None, *, deadline: float = DEADLINE) -> None:
    """Undo a plan that was done.  Raise `RollbackFailed`."""
    if plan.sysfs is None:
        raise Misuse("undo plan", plan.obj, cause="the plan names no host (Plan.sysfs)")
    work = _Run(plan, progress or _quiet, None, deadline, 0.0, plan.sysfs)
    try:
        work.index, work.begun = len(plan.steps) - 1, len(plan.steps)
        _roll_back(work, None)
    finally:
        work.close()


def _failure(plan: Plan, step: Step, error: PyvfioError) -> StepFailed:
    what = f"{error.operation}: {error.errno_name}" if error.errno is not None else error.operation
    cause = f"{what}; {error.cause}" if error.cause else what
    failure = StepFailed(
        step.text,
        plan.obj,
        path=error.path or (step.paths[0] if step.paths else ""),
        errno=error.errno,
        cause=cause,
        next_step=error.next_step,
    )
    failure.host = _BEFORE
    return failure


def _roll_back(work: _Run, reason: PyvfioError | None) -> None:
    """Undo step `work.index` and those before it.  Raise `RollbackFailed` or `StillWaiting` if that is not all."""
    plan, last = work.plan, work.index
    with contextlib.suppress(PyvfioError):
        work.note(undoing=True)  # a line that said "done" and could not be flushed does not count any more
    work.patience.wait = 0.0  # whoever waited for a program to let go does so in `restore`
    work.index = len(plan.steps)  # nobody is named for the calls of the rollback
    if work.outstanding():
        # The inverses may wait behind that write, for the device's lock: nobody is made to wait long for each.
        work.patience.deadline = min(work.deadline, _SHORT)
    failed = work.back(range(work.begun - 1, -1, -1))
    outstanding = work.outstanding()
    if outstanding and all(isinstance(error, Timeout) for _, error in failed):
        raise _still_waiting(work, plan.steps[last], outstanding, [step for step, _ in failed]) from reason
    if failed:
        raise _left(plan, failed, work) from (reason or failed[0][1])
    if work.journal is not None:
        with contextlib.suppress(PyvfioError):
            work.journal.end("undone")


def _still_waiting(work: _Run, step: Step, outstanding: list[Pending], queued: list[Step]) -> StillWaiting:
    """The error for writes given up; the inverses of the steps `queued` wait in the kernel behind them."""
    with contextlib.suppress(PyvfioError):
        work.note(waits=str(outstanding[0]))
    error = StillWaiting(
        step.text,
        work.plan.obj,
        path=outstanding[0].path,
        cause=work.waits or f"the kernel still waits in {outstanding[0]}",
        next_step="let go of the device there; then run pyvfio restore, which sees to it that all is as before",
    )
    if queued:
        words = "; ".join(step.undo_text for step in queued)
        error.host = f"the kernel will still carry out this write when it can; its inverse ({words}) comes after it"
    else:
        error.host = f"{_BEFORE}, but the kernel will still carry out this write when it can"
    return error


def _left(plan: Plan, failed: list[tuple[Step, PyvfioError]], work: _Run) -> RollbackFailed:
    left = "; ".join(f"{step.undo_text}: {error.operation} {error.errno_name}".rstrip() for step, error in failed)
    error = RollbackFailed(
        f"undo {plan.title}",
        plan.obj,
        path=failed[0][1].path,
        errno=failed[0][1].errno,
        cause=f"not undone: {left}" + (f"; {work.waits}" if work.waits else ""),
        next_step="pyvfio restore tries again; or do by hand what is named there, in this order",
    )
    error.host = "it is between the old state and the new one"
    return error
