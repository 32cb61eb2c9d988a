"""How a plan and its progress look."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import click

from pyvfio.binding import Event, Phase, Plan

__all__ = ["plan_as_dict", "show_plan", "watcher"]

_MARKS = {
    Phase.DONE: ("ok", "green"),
    Phase.FAILED: ("FAILED", "red"),
    Phase.UNDONE: ("undone", "yellow"),
    Phase.UNDO_FAILED: ("NOT UNDONE", "red"),
}


def show_plan(plan: Plan) -> None:
    """Print the title and, where there is nothing to do, say so."""
    click.echo(click.style(plan.title, bold=True) + ("" if plan.steps else ": nothing to do"))
    for number, step in enumerate(plan.steps, 1):
        click.echo(f"  {number}. {step.text}" + click.style(f"   (undo: {step.undo_text})", dim=True))
    for note in plan.notes:
        click.echo(f"  note: {note}")


def watcher(quiet: bool) -> Callable[[Event], None]:
    """A progress function: one line for each step that ended."""

    def tell(event: Event) -> None:
        mark = _MARKS.get(event.phase)
        if mark is None or quiet:
            return
        text, colour = mark
        # Nobody reads any more (`pyvfio bind ... | head -1`): the change is still carried through, not left half done.
        with contextlib.suppress(OSError):
            click.echo(f"  [{event.index + 1}/{event.total}] {click.style(text, fg=colour)}: {event.step.text}")

    return tell


def plan_as_dict(plan: Plan) -> dict[str, object]:
    """The plan as plain data."""
    return {
        "title": plan.title,
        "notes": list(plan.notes),
        "steps": [{"text": step.text, "undo": step.undo_text, "paths": list(step.paths)} for step in plan.steps],
    }
