"""Tapes in files: the AWSTAPE format, which Hercules and other emulators use.

::

      0          2          4      5      6
     +----------+----------+------+------+----------------------------+
     |  length  | length   | flags|  00  |  the bytes of this chunk   |   next chunk ...
     |          | before   |      |      |                            |
     +----------+----------+------+------+----------------------------+
     flags: 80 a block begins, 20 a block ends, 40 a tape mark (length 0); lengths are little-endian

A block is a chunk, or several when it is longer than a chunk may be.  An empty file is an empty tape.  What a write
follows is cut off, as on a tape; a write that fails leaves a tape that ends before it.  Flag bits 01 and 02 are of
compressed tapes (HET), which are not modelled.  Source: Hercules' ``hetlib.h`` (HETHDR); files made by ``hetinit -d``.

The file is opened for each access and closed again.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pyvfio_backends.software.hardware.devices.ckd_image import BadImage

__all__ = ["AwsTape"]

_HEADER = struct.Struct("<HHBB")
_BEGINS, _MARK, _ENDS = 0x80, 0x40, 0x20
_COMPRESSED: Final = 0x03
_LARGEST_CHUNK: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class _Block:
    offset: int  # of its first header
    end: int  # of its last byte
    last: int  # the length of its last chunk, which the next header repeats
    mark: bool


class AwsTape:
    """The tape in `path`, positioned before block number `position` (tape marks count).

    Writing is refused when it is `readonly`; `capacity` bytes of file are its logical end (0: none).
    Raise `BadImage` when the file cannot be read or is no tape; the cause names the block.
    """

    def __init__(self, path: str | Path, *, readonly: bool = False, capacity: int = 0) -> None:
        self.path = Path(path)
        self.readonly = readonly
        self.capacity = capacity
        self.position = 0
        self._blocks: list[_Block] = []
        self._scan()

    def _bad(self, cause: str) -> BadImage:
        return BadImage("open tape", str(self.path), cause=cause)

    def _compressed(self) -> BadImage:
        return BadImage(
            "open tape",
            str(self.path),
            cause="not modelled: a compressed tape (HET)",
            next_step="copy it with Hercules' hetupd -d",
        )

    def _scan(self) -> None:
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, 2)
                at = before = 0
                begin = -1
                while at < size:
                    file.seek(at)
                    raw = file.read(_HEADER.size)
                    if len(raw) < _HEADER.size:
                        raise self._bad(f"block {len(self._blocks)} has no whole header, at byte {at}")
                    length, previous, flags, _ = _HEADER.unpack(raw)
                    end = at + _HEADER.size + length
                    problem = self._problem(flags, length, begin)
                    if previous != before:
                        problem = f"says that {previous} bytes are before it, not {before}"
                    elif end > size:
                        problem = f"goes beyond the end of the file, {end - size} bytes"
                    if flags & _COMPRESSED:
                        raise self._compressed()
                    if problem:
                        raise self._bad(f"block {len(self._blocks)}, at byte {at}, {problem}")
                    begin = at if flags & (_BEGINS | _MARK) else begin
                    if flags & (_MARK | _ENDS):
                        self._blocks.append(_Block(begin, end, length, bool(flags & _MARK)))
                        begin = -1
                    at, before = end, length
                if begin >= 0:
                    raise self._bad(f"block {len(self._blocks)} does not end")
        except OSError as error:
            raise self._bad(error.strerror or str(error)) from error

    @staticmethod
    def _problem(flags: int, length: int, begin: int) -> str:
        if flags & _MARK and (length or begin >= 0):
            return "is a tape mark with data or within a block"
        if not flags & _MARK and bool(flags & _BEGINS) != (begin < 0):
            return "begins a block within another" if begin >= 0 else "goes on with a block that has not begun"
        return ""

    def __len__(self) -> int:
        """The blocks and tape marks that it has."""
        return len(self._blocks)

    @property
    def at_end(self) -> bool:
        """Whether nothing more is recorded."""
        return self.position >= len(self._blocks)

    @property
    def past_capacity(self) -> bool:
        """Whether the place to write next is behind the logical end."""
        return bool(self.capacity) and self._end() >= self.capacity

    @property
    def full(self) -> bool:
        """Whether it is at the physical end, which is a sixteenth behind the logical one."""
        return bool(self.capacity) and self._end() >= self.capacity + self.capacity // 16

    def is_mark(self, number: int) -> bool:
        """Whether block `number` is a tape mark."""
        return self._blocks[number].mark

    def read(self) -> bytes | None:
        """The next block, going behind it; None for a tape mark.  Raise IndexError at the end, OSError."""
        block = self._blocks[self.position]
        if block.mark:
            self.position += 1
            return None
        pieces: list[bytes] = []
        size = block.end - block.offset
        with self.path.open("rb", buffering=0) as file:
            file.seek(block.offset)
            raw = file.read(size)
        at = 0
        while at < size:
            length = _HEADER.unpack_from(raw, at)[0] if at + _HEADER.size <= len(raw) else size
            if at + _HEADER.size + length > len(raw):
                raise OSError(errno.EIO, "the tape is not what it was", str(self.path))
            pieces.append(raw[at + _HEADER.size : at + _HEADER.size + length])
            at += _HEADER.size + length
        self.position += 1
        return b"".join(pieces)

    def write(self, data: bytes) -> None:
        """Write a block; what was behind is gone.  Raise OSError."""
        pieces = [data[at : at + _LARGEST_CHUNK] for at in range(0, len(data), _LARGEST_CHUNK)] or [b""]
        before, raw = self._before(), b""
        for number, piece in enumerate(pieces):
            flags = (_BEGINS if not number else 0) | (_ENDS if number == len(pieces) - 1 else 0)
            raw += _HEADER.pack(len(piece), before, flags, 0) + piece
            before = len(piece)
        self._append(raw, before, mark=False)

    def write_mark(self) -> None:
        """Write a tape mark; what was behind is gone.  Raise OSError."""
        self._append(_HEADER.pack(0, self._before(), _MARK, 0), 0, mark=True)

    def cut(self) -> None:
        """Erase what lies behind the position.  Raise OSError."""
        with self.path.open("r+b", buffering=0) as file:
            file.truncate(self._end())
        del self._blocks[self.position :]

    def _before(self) -> int:
        return self._blocks[self.position - 1].last if self.position else 0

    def _end(self) -> int:
        return self._blocks[self.position - 1].end if self.position else 0

    def _append(self, raw: bytes, last: int, *, mark: bool) -> None:
        offset = self._end()
        with self.path.open("r+b", buffering=0) as file:
            file.truncate(offset)
            del self._blocks[self.position :]
            done = 0
            try:
                while done < len(raw):
                    file.seek(offset + done)
                    done += file.write(raw[done:])
            except OSError:
                file.truncate(offset)
                raise
        self._blocks.append(_Block(offset, offset + len(raw), last, mark))
        self.position += 1

    def __str__(self) -> str:
        return f"tape {self.path} at block {self.position} of {len(self._blocks)}"
