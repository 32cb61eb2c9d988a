"""Which processors take an interrupt: ``/proc/irq`` (``kernel/irq/proc.c``), for the numbers of messages.

Floating interrupts have no affinity, and writing is refused (EPERM).  A directed one goes to the first processor of
what is written (``zpci_set_irq_affinity``).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.nodes import Directory, Node, StaticDirectory
from pyvfio_backends.software.linux.numa import list_text, mask_text
from pyvfio_backends.software.linux.procfs import ProcFile

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.interrupts import InterruptCounts, InterruptLine

__all__ = ["IrqDirectory", "read_list", "read_mask"]

_WORD = 32
_RANGE = re.compile(r"(\d+)(?:-(\d+))?\Z")


def _fail(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def read_mask(data: bytes) -> int:
    """What is written to ``smp_affinity``.  Raise OSError EINVAL, EOVERFLOW (a word of more than eight digits)."""
    text = data.decode(errors="replace").strip()
    mask = 0
    for word in text.split(","):
        if not re.fullmatch(r"[0-9a-fA-F]+", word):
            raise _fail(errno.EINVAL)
        if len(word.lstrip("0")) > _WORD // 4:
            raise _fail(errno.EOVERFLOW)
        mask = mask << _WORD | int(word, 16)
    return mask


def read_list(data: bytes, bits: int) -> int:
    """What is written to ``smp_affinity_list``.  Raise OSError EINVAL, ERANGE (a number that there is not)."""
    mask = 0
    for part in data.decode(errors="replace").strip().split(","):
        match = _RANGE.match(part)
        if match is None:
            raise _fail(errno.EINVAL)
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise _fail(errno.EINVAL)
        if last >= bits:
            raise _fail(errno.ERANGE)
        mask |= (1 << last + 1) - (1 << first)
    return mask


class IrqDirectory(Directory):
    """``/proc/irq``: a directory for each number that has, or had, a handler."""

    __slots__ = ("_counts",)

    def __init__(self, counts: InterruptCounts) -> None:
        self._counts = counts

    def lookup(self, name: str) -> Node | None:
        line = self._counts.lines.get(int(name)) if name.isdecimal() else None
        return None if line is None else self._line(line)

    def names(self) -> Iterable[str]:
        return [str(number) for number in self._counts.lines]

    def _line(self, line: InterruptLine) -> Directory:
        bits = self._counts.processors
        mode = 0o444 if line.move is None else 0o644
        files: dict[str, Node] = {
            "smp_affinity": ProcFile(
                lambda: f"{mask_text(line.affinity, bits)}\n", partial(self._store, line, read_mask), mode
            ),
            "smp_affinity_list": ProcFile(
                lambda: f"{list_text(line.affinity)}\n", partial(self._store, line, partial(read_list, bits=bits)), mode
            ),
        }
        return StaticDirectory(files, permissions=0o555)

    def _store(self, line: InterruptLine, read: Callable[[bytes], int], data: bytes) -> None:
        if line.move is None:
            raise _fail(errno.EPERM)
        online = (1 << self._counts.processors) - 1
        mask = read(data)
        if not mask & online:
            raise _fail(errno.EINVAL)
        line.affinity = mask & online
        line.move((line.affinity & -line.affinity).bit_length() - 1)
