"""Plans: steps with inverses, done in order, undone in reverse when one fails."""

from __future__ import annotations

from dataclasses import dataclass

from pyvfio.binding.step import Event, Phase, Progress, Step
from pyvfio.errors import PyvfioError, RollbackFailed, StepFailed

__all__ = ["Plan", "run", "undo"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done to `obj`: a `title`, the `steps` in order, and `notes` that people should read first."""

    title: str
    obj: str
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether everything is as wanted already."""
        return not self.steps

    def __str__(self) -> str:
        lines = [self.title + (": nothing to do" if self.empty else "")]
        lines += [f"  {number}. {step.text} (undo: {step.undo_text})" for number, step in enumerate(self.steps, 1)]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def _quiet(event: Event) -> None:
    """No progress is wanted."""


def run(plan: Plan, progress: Progress | None = None) -> Plan:
    """Do the steps in order; each is read back.  The plan is returned.

    When one fails, that and the earlier ones are undone in reverse and `StepFailed` is raised; `RollbackFailed` when
    an inverse fails too, which then says what is left.  An interruption (Ctrl-C) or an exception of `progress` is
    followed by the rollback as well.
    """
    tell = progress or _quiet
    total = len(plan.steps)
    for index, step in enumerate(plan.steps):
        try:
            tell(Event(step, Phase.START, index, total))
            step.do()
            problem = step.verify()
            if not problem:
                tell(Event(step, Phase.DONE, index, total))
        except PyvfioError as error:
            tell(Event(step, Phase.FAILED, index, total, str(error)))
            _roll_back(plan, index, tell, error)
            raise _failure(plan, step, error) from error
        except BaseException:
            tell(Event(step, Phase.FAILED, index, total, "interrupted"))
            _roll_back(plan, index, tell, None)
            raise
        if problem:
            tell(Event(step, Phase.FAILED, index, total, problem))
            _roll_back(plan, index, tell, None)
            raise StepFailed(
                step.text,
                plan.obj,
                path=step.paths[0] if step.paths else "",
                cause=f"the kernel took the write, but reading back: {problem}",
                next_step="the host is as it was before; the kernel log (dmesg) may say why",
            )
    return plan


def undo(plan: Plan, progress: Progress | None = None) -> None:
    """Undo a plan that was done.  Raise `RollbackFailed`."""
    _roll_back(plan, len(plan.steps) - 1, progress or _quiet, None)


def _failure(plan: Plan, step: Step, error: PyvfioError) -> StepFailed:
    what = f"{error.operation}: {error.errno_name}" if error.errno is not None else error.operation
    cause = f"{what}; {error.cause}" if error.cause else what
    return StepFailed(
        step.text,
        plan.obj,
        path=error.path or (step.paths[0] if step.paths else ""),
        errno=error.errno,
        cause=cause,
        next_step="the host is as it was before" + (f"; {error.next_step}" if error.next_step else ""),
    )


def _roll_back(plan: Plan, last: int, tell: Progress, reason: PyvfioError | None) -> None:
    """Undo steps `last` to 0; all are tried, and the first failure is raised at the end."""
    total = len(plan.steps)
    failed: list[tuple[Step, PyvfioError]] = []
    for index in range(last, -1, -1):
        step = plan.steps[index]
        tell(Event(step, Phase.UNDOING, index, total))
        try:
            step.undo()
        except PyvfioError as error:
            failed.append((step, error))
            tell(Event(step, Phase.UNDO_FAILED, index, total, str(error)))
        else:
            tell(Event(step, Phase.UNDONE, index, total))
    if failed:
        left = "; ".join(f"{step.undo_text}: {error.operation} {error.errno_name}".rstrip() for step, error in failed)
        raise RollbackFailed(
            f"undo {plan.title}",
            plan.obj,
            path=failed[0][1].path,
            errno=failed[0][1].errno,
            cause=f"not undone: {left}",
            next_step="do by hand what is named there, in this order",
        ) from (reason or failed[0][1])
