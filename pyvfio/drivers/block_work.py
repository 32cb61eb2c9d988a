"""Blocks of a disk, as Linux numbers them: reading and writing them in programs of many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct

from pyvfio.drivers import programs
from pyvfio.drivers.disk_state import DiskState
from pyvfio.drivers.failures import VerifyFailed
from pyvfio.drivers.layout import FILLER, DiskLayout
from pyvfio.drivers.track import COUNT_SIZE
from pyvfio.drivers.work import Item, Progress, Request, Stream, Work, untold
from pyvfio.errors import Misuse

__all__ = ["BlockWork", "Piece"]

_R0_SIZE = 16
_RECORD_AT = 4
_LEAST_TRACKS = 2
"""From so many whole tracks on they are read as tracks."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Blocks that one program moves: `count` from `first` on; with `tracks` they are all blocks of whole tracks."""

    first: int
    count: int
    tracks: bool = False


@lru_cache(maxsize=8)
def _shape(per_track: int, block_size: int) -> Struct:
    """Count and data of each record of a track."""
    return Struct(f"{COUNT_SIZE}s{block_size}s" * per_track)


@lru_cache(maxsize=8)
def _ends(per_track: int, block_size: int) -> tuple[bytes, ...]:
    """The last four bytes of each count area: record, key length, data length."""
    return tuple(bytes([number, 0]) + block_size.to_bytes(2, "big") for number in range(1, per_track + 1))


class BlockWork(DiskState):
    """Blocks by number, from 0."""

    def pieces(self, first: int, count: int, *, by_tracks: bool) -> Iterator[Piece]:
        """Cut blocks into what one program moves.  Raise `Misuse` when they are not all on the disk."""
        layout = self.formatted()
        if first < 0 or count < 0 or first + count > layout.blocks:
            cause = f"blocks {first} to {first + count - 1} are not all on it; it has 0 to {layout.blocks - 1}"
            raise Misuse("use blocks of DASD", self.name, cause=cause)
        return self._cut(layout, first, first + count, by_tracks and self.disk.reads_tracks)

    def _cut(self, layout: DiskLayout, at: int, end: int, by_tracks: bool) -> Iterator[Piece]:
        per_track = layout.per_track
        while at < end:
            whole = (end - at) // per_track
            if at < layout.first_plain:  # each of its records needs a LOCATE RECORD of its own
                step, tracks = min(end, layout.first_plain, at + per_track) - at, False
            elif by_tracks and not at % per_track and whole >= _LEAST_TRACKS:
                step, tracks = min(whole, programs.MOST_TRACKS) * per_track, True
            else:
                step, tracks = min(end - at, programs.MOST), False
                if by_tracks and step > per_track - at % per_track:
                    step = per_track - at % per_track  # up to the next track
            yield Piece(at, step, tracks)
            at += step

    def blocks(self, first: int, count: int | None) -> Stream[bytes]:
        """The bytes of blocks (default: to the end), a piece at a time."""
        total = self.formatted().blocks - first if count is None else count
        for piece in self.pieces(first, total, by_tracks=True):
            data = yield from self.read_piece(piece)
            yield Item(data)

    def read_blocks(self, first: int, count: int) -> Work[bytes]:
        """The bytes of blocks, all at once."""
        parts: list[bytes] = []
        for piece in self.pieces(first, count, by_tracks=True):
            parts.append((yield from self.read_piece(piece)))
        return b"".join(parts)

    def read_piece(self, piece: Piece) -> Work[bytes]:
        """The bytes of a piece; what a block of the first tracks has less is filled up with E5."""
        layout = self.formatted()
        if piece.tracks:
            first, count = piece.first // layout.per_track, piece.count // layout.per_track
            words = f"read tracks {first} to {first + count - 1}"
            if self.features.read_track_data:
                whole = layout.per_track * layout.block_size
                came = yield Request(programs.read_track_data(self.disk, first, count, whole), words, check=False)
                if came.scsw.ok:
                    return came.data
            length = _R0_SIZE + layout.per_track * (COUNT_SIZE + layout.block_size)
            came = yield Request(programs.read_tracks(self.disk, first, count, length), words)
            data: list[bytes] = []
            if all(self._plain(layout, first + number, part, data) for number, part in enumerate(came.parts)):
                return b"".join(data)
        data = []
        for at in range(piece.first, piece.first + piece.count, programs.MOST):
            numbers = range(at, min(at + programs.MOST, piece.first + piece.count))
            blocks = [layout.locate(number) for number in numbers]
            words = f"read blocks {numbers[0]} to {numbers[-1]}"
            came = yield Request(programs.read_blocks(self.disk, blocks), words)
            data += [part.ljust(layout.block_size, FILLER) for part in came.parts]
        return b"".join(data)

    def _plain(self, layout: DiskLayout, track: int, raw: bytes, data: list[bytes]) -> bool:
        """Put the blocks in a track's bytes behind `data`; False when its records are not those of the layout."""
        shape = _shape(layout.per_track, layout.block_size)
        begin_at = 0 if raw[_RECORD_AT : _RECORD_AT + 1] != b"\0" else _R0_SIZE  # some tracks come with R0
        if len(raw) < begin_at + shape.size:
            return False
        parts = shape.unpack_from(raw, begin_at)
        cylinder, head = self.disk.place(track)
        begin = (cylinder & 0xFFFF).to_bytes(2, "big") + (cylinder >> 16 << 4 | head).to_bytes(2, "big")
        if parts[::2] != tuple(begin + end for end in _ends(layout.per_track, layout.block_size)):
            return False
        data += parts[1::2]
        return True

    def write_blocks(
        self, first: int, data: bytes | bytearray | memoryview, progress: Progress = untold, *, verify: bool = False
    ) -> Work[None]:
        """Write whole blocks; with `verify` read each piece again.  Raise `VerifyFailed`."""
        size, view = self.formatted().block_size, memoryview(data)
        if len(view) % size:
            raise Misuse("write blocks", self.name, cause=f"{len(view)} bytes are not whole blocks of {size}")
        for piece in self.pieces(first, len(view) // size, by_tracks=self.features.write_track_data):
            at = (piece.first - first) * size
            part = view[at : at + piece.count * size]
            yield from self.write_piece(piece, part)
            if verify:
                yield from self._verify(piece, part)
            progress(piece.count)

    def write_piece(self, piece: Piece, data: bytes | memoryview) -> Work[None]:
        """Write a piece; of a block of the first tracks as much as its record has."""
        layout = self.formatted()
        if piece.tracks:
            first, whole = piece.first // layout.per_track, layout.per_track * layout.block_size
            tracks = [bytes(data[at : at + whole]) for at in range(0, len(data), whole)]
            words = f"write tracks {first} to {first + len(tracks) - 1}"
            yield Request(programs.write_track_data(self.disk, first, tracks, layout.block_size), words)
            return
        size, blocks = layout.block_size, [layout.locate(piece.first + number) for number in range(piece.count)]
        contents = [bytes(data[at * size : at * size + block.length]) for at, block in enumerate(blocks)]
        words = f"write blocks {piece.first} to {piece.first + piece.count - 1}"
        yield Request(programs.write_blocks(self.disk, blocks, contents), words)

    def _verify(self, piece: Piece, data: memoryview) -> Work[None]:
        layout = self.formatted()
        size = layout.block_size
        there = yield from self.read_piece(piece)
        for index in range(piece.count):
            length = layout.locate(piece.first + index).length
            at = index * size
            if there[at : at + length] != data[at : at + length]:
                raise VerifyFailed("verify blocks", self.name, "block", piece.first + index)
