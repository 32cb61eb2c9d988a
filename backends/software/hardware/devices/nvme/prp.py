"""Where the data of a command is: physical region pages.  Source: NVM Express 1.4, 4.3.

::

    PRP1  where it begins, at any dword             | page: offset |
    PRP2  nothing, if it all is in that page
          where it goes on, at the start of a page
          or, if it goes on for more than a page, a list of pages; the last of a page of the list is the next one's
"""

from __future__ import annotations

import struct

from pyvfio.nvme.status import Status
from pyvfio_backends.software.hardware.dma import Initiator

__all__ = ["CommandError", "Run", "locate", "read_runs", "write_runs"]

Run = tuple[int, int]
"""An address and a number of bytes that follow one another there."""

_ENTRY = 8


class CommandError(Exception):
    """A command ends with `status`, which is not success, and `result` in dword 0."""

    def __init__(self, status: Status, result: int = 0) -> None:
        super().__init__(status.name)
        self.status = status
        self.result = result


def locate(function: Initiator, page: int, prp1: int, prp2: int, count: int) -> list[Run]:
    """Where `count` bytes are, with pages of `page` bytes.

    Raise `CommandError` for an offset where none may be, `DmaFault` for a list that cannot be read.
    """
    if prp1 % 4:
        raise CommandError(Status.PRP_OFFSET_INVALID)
    first = min(count, page - prp1 % page)
    runs = [(prp1, first)] if first else []
    left = count - first
    if left > page:
        pages = _list(function, page, prp2, -(-left // page))
    else:
        pages = [prp2] if left else []
    for address in pages:
        if address % page:
            raise CommandError(Status.PRP_OFFSET_INVALID)
        length = min(left, page)
        left -= length
        start, before = runs[-1]
        if start + before == address:
            runs[-1] = (start, before + length)
        else:
            runs.append((address, length))
    return runs


def _list(function: Initiator, page: int, at: int, wanted: int) -> list[int]:
    """The `wanted` entries of a list; it goes on at the start of a page only, so each page of it brings entries."""
    if at % _ENTRY:
        raise CommandError(Status.PRP_OFFSET_INVALID)
    found: list[int] = []
    while True:
        here = (page - at % page) // _ENTRY
        count = min(here, wanted - len(found))
        entries = struct.unpack(f"<{count}Q", function.dma_read(at, count * _ENTRY))
        if len(found) + count == wanted:
            return [*found, *entries]
        at = entries[-1]
        found += entries[:-1]
        if at % page:
            raise CommandError(Status.PRP_OFFSET_INVALID)


def read_runs(function: Initiator, runs: list[Run]) -> bytes:
    """What is there.  Raise `DmaFault`."""
    return b"".join(function.dma_read(address, count) for address, count in runs)


def write_runs(function: Initiator, runs: list[Run], data: bytes) -> None:
    """Put data there, as much as there is.  Raise `DmaFault`."""
    at = 0
    for address, count in runs:
        piece = data[at : at + count]
        if piece:
            function.dma_write(address, piece)
        at += count
