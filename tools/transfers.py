"""Bytes of a disk on their way: ranges of blocks, files and streams, progress."""

from __future__ import annotations

import contextlib
import re
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from pyvfio.errors import Misuse, from_oserror

__all__ = ["chosen_range", "progress_bar", "sink", "source_of", "whole"]

_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+)?)?")
_HOLE = 1 << 16


def chosen_range(text: str, what: str, most: int) -> tuple[int, int]:
    """First and count of ``FIRST``, ``FIRST-`` or ``FIRST-LAST``.  Raise `Misuse`."""
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        raise Misuse(f"read range of {what}", repr(text), cause="it is written FIRST, FIRST- or FIRST-LAST")
    first = int(match[1])
    last = first if "-" not in text else int(match[2]) if match[2] else most - 1
    if last < first < most:
        raise Misuse(f"read range of {what}", repr(text), cause="it ends before it begins")
    if max(first, last) >= most:
        raise Misuse(f"read range of {what}", repr(text), cause=f"the disk has {what} 0 to {most - 1}")
    return first, last - first + 1


@contextlib.contextmanager
def sink(name: str) -> Iterator[Callable[[bytes], None]]:
    """A function that writes to the file called `name`, ``-``: standard output; runs of zeros become holes of a file.

    What it wrote is flushed however the command ends.  Raise the class for the errno.
    """
    if name == "-":
        stream = _standard(sys.stdout, "write file", "standard output")
        try:
            yield lambda data: _all_of(stream, data)
        finally:
            stream.flush()
        return
    try:
        with open(name, "wb") as file:
            holes = stat.S_ISREG(Path(name).stat().st_mode)
            try:
                yield lambda data: _sparse(file, data) if holes else _all_of(file, data)
            finally:
                if holes:
                    file.truncate()
    except OSError as error:
        raise from_oserror(error, "write file", name) from error


def _standard(stream: TextIO | None, operation: str, name: str) -> BinaryIO:
    """The bytes of a standard stream.  Raise `Misuse` when the program was begun without it."""
    if stream is None:
        raise Misuse(operation, name, cause="it is closed", next_step="name a file")
    return stream.buffer


def _all_of(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def _sparse(file: BinaryIO, data: bytes) -> None:
    zeros = bytes(_HOLE)
    for at in range(0, len(data), _HOLE):
        part = data[at : at + _HOLE]
        if part == zeros:
            file.seek(_HOLE, 1)
        else:
            file.write(part)


@contextlib.contextmanager
def source_of(name: str) -> Iterator[BinaryIO]:
    """The file called `name` to read, or standard input for ``-``.  Raise the class for the errno."""
    if name == "-":
        yield _standard(sys.stdin, "read file", "standard input")
        return
    try:
        with open(name, "rb") as file:
            yield file
    except OSError as error:
        raise from_oserror(error, "read file", name) from error


def whole(file: BinaryIO, size: int) -> bytes:
    """So many bytes, fewer only at the end (a pipe gives what it has)."""
    pieces: list[bytes] = []
    while size and (piece := file.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


@contextlib.contextmanager
def progress_bar(words: str, total: int | None, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar on standard error while it is a terminal; the function is told how many units were done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task(words, total=total)
        yield lambda count: bar.update(task, advance=count)
