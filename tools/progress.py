"""How a plan and its progress look."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection

import click

from pyvfio.binding import Event, Phase, Plan

__all__ = ["show_plan", "watcher"]

_MARKS = {
    Phase.WAITING: ("waiting", "yellow"),
    Phase.DONE: ("ok", "green"),
    Phase.FAILED: ("FAILED", "red"),
    Phase.UNDONE: ("undone", "yellow"),
    Phase.UNDO_FAILED: ("NOT UNDONE", "red"),
}


def show_plan(plan: Plan, force: Collection[str] = ()) -> None:
    """Print the plan: facts, findings (those of the probes in `force` are overridden), steps with inverses, notes."""
    click.echo(click.style(plan.title, bold=True) + ("" if plan.steps else ": nothing to do"))
    width = max((len(what) for what, _ in plan.facts), default=0)
    for what, value in plan.facts:
        click.echo(f"  {what.ljust(width)}  {value}")
    for finding in plan.findings:
        overridden = finding.probe in force
        mark = click.style("overridden" if overridden else "in use", fg="yellow" if overridden else "red")
        click.echo(f"  {mark}: {finding.device}: {finding.summary} ({finding.probe})")
        for seen in finding.evidence:
            click.echo(f"      {seen}")
    for number, step in enumerate(plan.steps, 1):
        click.echo(f"  {number}. {step.text}" + click.style(f"   (undo: {step.undo_text})", dim=True))
    for note in plan.notes:
        click.echo(f"  note: {note}")


def watcher(quiet: bool, begun: Callable[[], None] | None = None) -> Callable[[Event], None]:
    """A progress function: one line for each step that ended; `begun` is called when one starts."""

    def tell(event: Event) -> None:
        if event.phase is Phase.START and begun is not None:
            begun()
        mark = _MARKS.get(event.phase)
        if mark is None or quiet:
            return
        text, colour = mark
        words = f"{event.step.text}"
        if event.phase is Phase.WAITING:
            words += f": {event.error}; Ctrl-C gives up and undoes what can be undone"
        # Nobody reads any more (`pyvfio bind ... | head -1`): the change is still carried through, not left half done.
        with contextlib.suppress(OSError):
            click.echo(f"  [{event.index + 1}/{event.total}] {click.style(text, fg=colour)}: {words}")

    return tell
