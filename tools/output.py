"""Tables and JSON on standard output."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import click

__all__ = ["print_json", "print_pairs", "print_table"]


def print_json(value: object) -> None:
    """One JSON document."""
    click.echo(json.dumps(value, indent=2, default=str))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str = "") -> None:
    """Columns as wide as their widest cell, two blanks between; the headings are bold on a terminal."""
    lines = [list(row) for row in rows]
    if not lines:
        if empty:
            click.echo(empty)
        return
    widths = [max(len(line[n]) for line in (list(headings), *lines)) for n in range(len(headings))]
    head = "  ".join(text.ljust(width) for text, width in zip(headings, widths, strict=True)).rstrip()
    click.echo(click.style(head, bold=True))
    for line in lines:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def print_pairs(pairs: Iterable[tuple[str, object]]) -> None:
    """``name  value`` lines; a pair without a value is left out."""
    shown = [(name, str(value)) for name, value in pairs if value is not None and value != ""]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        first, *more = value.splitlines() or [""]
        click.echo(f"{name.ljust(width)}  {first}")
        for line in more:
            click.echo(f"{' ' * width}  {line}")
