"""What a DASD driver does, as sequences of channel programs without any waiting.

An operation is a generator (`Work`) that yields a `Request` and is sent the `ProgramResult`; so the same code serves
the blocking `pyvfio.drivers.dasd.Dasd` and `pyvfio.drivers.dasd_async.AsyncDasd`.  Blocks and tracks are numbers from
0.  Source of the sequence at the start: ``drivers/s390/block/dasd_eckd.c`` (dasd_eckd_check_characteristics,
dasd_eckd_end_analysis).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from pyvfio.channel_program import ChannelCommand, ProgramResult, Read
from pyvfio.css.ccw import CcwFlag
from pyvfio.css.commands import Command
from pyvfio.css.senseid import SenseId
from pyvfio.drivers import programs
from pyvfio.drivers.characteristics import Characteristics, Configuration
from pyvfio.drivers.label import LabelKind, VolumeLabel
from pyvfio.drivers.layout import BLOCK_SIZES, FILLER, DiskLayout, LayoutKind
from pyvfio.drivers.track import COUNT_SIZE, Count, TrackImage
from pyvfio.drivers.vtoc import DSCB_SIZE, KEY_SIZE, DataSet, Dscb, VolumeSpace, parse_dscb
from pyvfio.errors import MalformedAnswer, Misuse, NotAvailable

__all__ = ["CONTROL_UNITS", "DiskWork", "Located", "Partition", "Piece", "Request", "Work"]

CONTROL_UNITS: Final = (0x3990, 0x2105, 0x2107, 0x1750)
_DISKS: Final = (0x3390, 0x3380)
_MOST_FORMATTED: Final = 20
_SENSE_ID_SIZE: Final = 256
_READ_TRACK_COUNT: Final = 2

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """A program to run: what for (`words`), whether an error ends the operation (`check`), on which paths (`lpm`)."""

    commands: Sequence[ChannelCommand]
    words: str
    check: bool = True
    lpm: int = 0xFF


Work = Generator[Request, ProgramResult, T]
"""An operation with a result."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Blocks that one program moves: `count` from `first` on; with `tracks` they are all blocks of whole tracks."""

    first: int
    count: int
    tracks: bool = False


@dataclass(frozen=True, slots=True)
class Located:
    """A DSCB and where it lies: cylinder, head, record."""

    cylinder: int
    head: int
    record: int
    dscb: Dscb


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition as Linux finds it: a data set's first extent (or all behind the label), in blocks."""

    number: int
    name: str
    first: int
    count: int


class DiskWork:
    """The operations of one disk, and what is known of it.  `name` is what errors call it.

    `layout` is None for a disk that is not formatted as Linux does it, `label` when it has none.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.sense_id = SenseId(0)
        self.configuration: Configuration | None = None
        self.paths = 0
        self.layout: DiskLayout | None = None
        self.label: VolumeLabel | None = None
        self._disk: Characteristics | None = None

    @property
    def disk(self) -> Characteristics:
        """The geometry.  Raise `Misuse` before `online`."""
        if self._disk is None:
            raise Misuse("use DASD", self.name, cause="it is not online", next_step="call online(), or use it in with")
        return self._disk

    def formatted(self) -> DiskLayout:
        """The layout.  Raise `Misuse` when the disk has none."""
        if self.layout is None:
            raise Misuse(
                "use blocks of DASD",
                self.name,
                cause="it is not formatted in blocks (neither the compatible nor the Linux disk layout)",
                next_step="format it, or use tracks",
            )
        return self.layout

    # -- the start -----------------------------------------------------------------------------------------------

    def online(self, paths: int) -> Work[None]:
        """Find out what it is, by way of each of `paths` (a mask, 80 is the first).  Raise `NotAvailable`, `Misuse`."""
        self._disk = None
        came = yield Request([Read(Command.SENSE_ID, _SENSE_ID_SIZE, CcwFlag.SLI)], "ask what it is")
        self.sense_id = SenseId.from_bytes(came.data)
        if self.sense_id.cu_type not in CONTROL_UNITS or self.sense_id.dev_type not in _DISKS:
            raise Misuse("drive a DASD", self.name, cause=f"it is a {self.sense_id}, not an ECKD DASD")
        yield from self._verify_paths(paths)
        came = yield Request(programs.characteristics(), "read its characteristics")
        self._disk = Characteristics.from_bytes(came.data)
        yield from self.analyse()

    def _verify_paths(self, paths: int) -> Work[None]:
        """Read the configuration data on each path: those that lead to another disk, or fail, are not used."""
        self.paths, self.configuration = 0, None
        for path in (0x80 >> number for number in range(8)):
            if not paths & path:
                continue
            came = yield Request(programs.configuration(), f"read configuration data on path {path:02x}", False, path)
            if not came.scsw.ok:
                continue
            found = Configuration.from_bytes(came.data)
            if self.configuration is None:
                self.configuration = found
            if found == self.configuration:
                self.paths |= path
        if not self.paths:
            raise NotAvailable("set DASD online", self.name, cause=f"none of its paths ({paths:02x}) works")

    def analyse(self) -> Work[None]:
        """Look at the first records anew: which layout, which label.  No record found means: not formatted."""
        came = yield Request(programs.analysis(self.disk), "look for a disk layout", check=False)
        self.layout = None
        if came.scsw.ok:
            counts = [Count.from_bytes(part) for part in came.parts if len(part) == COUNT_SIZE]
            capacity = {size: self.disk.blocks_per_track(size) for size in BLOCK_SIZES}
            self.layout = DiskLayout.from_counts(counts, capacity, self.disk.tracks)
        came = yield Request(programs.read_label(self.disk), "read its label", check=False)
        self.label = VolumeLabel.from_block(came.data) if came.scsw.ok else None

    # -- blocks --------------------------------------------------------------------------------------------------

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
            elif by_tracks and not at % per_track and whole >= _READ_TRACK_COUNT:
                step, tracks = min(whole, programs.MOST_TRACKS) * per_track, True
            else:
                step, tracks = min(end - at, programs.MOST), False
                if by_tracks and step > per_track - at % per_track:
                    step = per_track - at % per_track  # up to the next track
            yield Piece(at, step, tracks)
            at += step

    def read_piece(self, piece: Piece) -> Work[bytes]:
        """The bytes of a piece; what a block of the first tracks has less is filled up with E5."""
        layout = self.formatted()
        if piece.tracks:
            first, count = piece.first // layout.per_track, piece.count // layout.per_track
            words = f"read tracks {first} to {first + count - 1}"
            length = layout.per_track * (COUNT_SIZE + layout.block_size)
            came = yield Request(programs.read_tracks(self.disk, first, count, length), words)
            found = [self._plain(layout, first + number, part) for number, part in enumerate(came.parts)]
            if None not in found:
                return b"".join(part for part in found if part is not None)
        data: list[bytes] = []
        for at in range(piece.first, piece.first + piece.count, programs.MOST):
            numbers = range(at, min(at + programs.MOST, piece.first + piece.count))
            blocks = [layout.locate(number) for number in numbers]
            words = f"read blocks {numbers[0]} to {numbers[-1]}"
            came = yield Request(programs.read_blocks(self.disk, blocks), words)
            data += [part.ljust(layout.block_size, FILLER) for part in came.parts]
        return b"".join(data)

    def _plain(self, layout: DiskLayout, track: int, raw: bytes) -> bytes | None:
        """The blocks in a track's bytes; None when its records are not those of the layout, in order."""
        cylinder, head = self.disk.place(track)
        size, step = layout.block_size, COUNT_SIZE + layout.block_size
        head |= cylinder >> 16 << 4
        found: list[bytes] = []
        for number in range(layout.per_track):
            at = number * step
            if raw[at : at + COUNT_SIZE] != Count(cylinder & 0xFFFF, head, number + 1, 0, size).to_bytes():
                return None
            found.append(raw[at + COUNT_SIZE : at + step])
        return b"".join(found)

    def write_piece(self, piece: Piece, data: bytes | memoryview) -> Work[None]:
        """Write a piece; of a block of the first tracks as much as its record has."""
        layout = self.formatted()
        size, blocks = layout.block_size, [layout.locate(piece.first + number) for number in range(piece.count)]
        contents = [bytes(data[at * size : at * size + block.length]) for at, block in enumerate(blocks)]
        words = f"write blocks {piece.first} to {piece.first + piece.count - 1}"
        yield Request(programs.write_blocks(self.disk, blocks, contents), words)

    # -- tracks --------------------------------------------------------------------------------------------------

    def track_runs(self, first: int, count: int) -> Iterator[tuple[int, int]]:
        """Cut tracks into what one program reads.  Raise `Misuse` when they are not all on the disk."""
        if first < 0 or count < 0 or first + count > self.disk.tracks:
            cause = f"tracks {first} to {first + count - 1} are not all on it; it has 0 to {self.disk.tracks - 1}"
            raise Misuse("use tracks of DASD", self.name, cause=cause)
        if not self.disk.reads_tracks:
            raise NotAvailable("use tracks of DASD", self.name, cause="its control unit has no READ TRACK")
        most, end = programs.MOST_TRACKS, first + count
        return ((at, min(most, end - at)) for at in range(first, end, most))

    def read_tracks(self, first: int, count: int) -> Work[list[TrackImage]]:
        """Tracks of one run."""
        words = f"read tracks {first} to {first + count - 1}"
        came = yield Request(programs.read_tracks(self.disk, first, count), words)
        return [TrackImage.from_bytes(part, *self.disk.place(first + number)) for number, part in enumerate(came.parts)]

    def write_track(self, image: TrackImage) -> Work[None]:
        """Write all records of a track; those that were there are gone."""
        track = image.cylinder * self.disk.heads + image.head
        self.disk.place(track)
        if image.records:
            yield Request(programs.write_tracks(self.disk, track, [image]), f"write track {track}")
        else:
            yield Request(programs.erase_track(self.disk, track), f"erase track {track}")

    def format_runs(self, layout: DiskLayout, first: int, count: int) -> Iterator[tuple[int, int]]:
        """Cut tracks into what one program formats.  Raise `Misuse`."""
        if first < 0 or count < 1 or first + count > self.disk.tracks:
            cause = f"tracks {first} to {first + count - 1} are not all on it; it has 0 to {self.disk.tracks - 1}"
            raise Misuse("format DASD", self.name, cause=cause)
        most, end = max(1, min(_MOST_FORMATTED, 250 // layout.per_track)), first + count
        return ((at, min(most, end - at)) for at in range(first, end, most))

    def format_tracks(self, layout: DiskLayout, first: int, count: int) -> Work[None]:
        """Format tracks of one run."""
        words = f"format tracks {first} to {first + count - 1}"
        yield Request(programs.format_tracks(self.disk, layout, first, count), words)

    def layout_for(self, kind: LayoutKind | str, block_size: int) -> DiskLayout:
        """The layout that formatting makes.  Raise `Misuse` for a size that Linux does not know."""
        if block_size not in BLOCK_SIZES or kind not in tuple(LayoutKind):
            cause = f"blocks have {', '.join(map(str, BLOCK_SIZES))} bytes, layouts are cdl and ldl"
            raise Misuse("format DASD", self.name, cause=cause)
        per_track = self.disk.blocks_per_track(block_size)
        return DiskLayout(LayoutKind(kind), block_size, per_track, self.disk.tracks)

    # -- the table of contents -----------------------------------------------------------------------------------

    def vtoc(self) -> Work[list[Located]]:
        """All DSCBs in use, in their order on the disk; none when the label names no VTOC.

        Raise `MalformedAnswer` when what the label points to is no VTOC.
        """
        label = self.label
        if label is None or label.kind is not LabelKind.VOL1 or label.vtoc is None:
            return []
        cylinder, head, record = label.vtoc
        first = cylinder * self.disk.heads + head
        where = f"cylinder {cylinder} head {head} record {record}"
        if first >= self.disk.tracks:
            raise MalformedAnswer("read VTOC", self.name, f"the label says that it begins at {where}")
        image = (yield from self.read_tracks(first, 1))[0]
        start = next((one for one in image.records if one.number == record), None)
        if start is None or len(start.key) + len(start.data) != DSCB_SIZE or len(start.key) != KEY_SIZE:
            return []  # a volume that was formatted and not yet given a VTOC
        volume = parse_dscb(start.key + start.data)
        if not isinstance(volume, VolumeSpace):
            raise MalformedAnswer("read VTOC", self.name, f"there is no format-4 DSCB at {where}")
        tracks = volume.extents[0].tracks(self.disk.heads) if volume.extents else range(first, first + 1)
        if not tracks or tracks[0] != first or tracks[-1] >= self.disk.tracks:
            raise MalformedAnswer("read VTOC", self.name, f"its own extent is {volume.extents[0]}")
        found: list[Located] = []
        for at, count in self.track_runs(tracks[0], len(tracks)):
            for image in (yield from self.read_tracks(at, count)):
                for one in image.records:
                    raw = one.key + one.data
                    dscb = parse_dscb(raw) if len(raw) == DSCB_SIZE else None
                    if dscb is not None:
                        found.append(Located(image.cylinder, image.head, one.number, dscb))
        return found

    def partitions(self, dscbs: Sequence[Located]) -> list[Partition]:
        """The partitions that Linux makes of a VTOC, or of the label of another kind."""
        layout, label = self.layout, self.label
        if layout is None or label is None:
            return []
        if label.kind is not LabelKind.VOL1:
            end = label.blocks or layout.blocks
            return [Partition(1, label.volser, 3, max(0, end - 3))]
        found: list[Partition] = []
        for located in dscbs:
            dscb = located.dscb
            if isinstance(dscb, DataSet) and dscb.extents:
                tracks = dscb.extents[0].tracks(self.disk.heads)
                place = tracks.start * layout.per_track, len(tracks) * layout.per_track
                found.append(Partition(len(found) + 1, dscb.name, *place))
        return found

    def messages(self, device: str, disk: str, partitions: Sequence[Partition]) -> list[str]:
        """What a Linux prints when it sets the disk online as `device` and calls it `disk`."""
        told = [f"{device}: {self.disk}"]
        if self.layout is None:
            return [*told, f"{device}: The DASD is not formatted"]
        told.append(f"{device}: {self.layout}")
        if self.label is not None:
            parts = "".join(f" {disk}{one.number}" for one in partitions)
            told.append(f" {disk}:{self.label}{parts}")
        return told
