"""Tables in the format that the commands of s390-tools print: fixed widths, a rule of dashes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import click

__all__ = ["Record", "print_lines"]

_AT_ONCE = 512


class Record:
    """Columns, each a title and a width: left-aligned, one blank between, padded to the end; what is wider shifts."""

    def __init__(self, columns: Sequence[tuple[str, int]]) -> None:
        self._format = " ".join(f"%-{width}s" for _, width in columns)
        self.heading = self._format % tuple(title for title, _ in columns)
        self.rule = "-" * (sum(width for _, width in columns) + len(columns) - 1)

    def line(self, *values: str) -> str:
        """One line."""
        return self._format % values


def print_lines(lines: Iterable[str]) -> None:
    """Print many lines, many at a time."""
    left: Iterator[str] = iter(lines)
    while several := list(islice(left, _AT_ONCE)):
        click.echo("\n".join(several))
