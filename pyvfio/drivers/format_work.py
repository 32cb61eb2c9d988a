"""Formatting: tracks with the records of a layout, a label and a table of contents, partitions; and checking it.

A volume is made as dasdfmt and fdasd make it.  While it is formatted it has no label, so that a volume that was left
half way is not taken for a whole one.  Alternate tracks are the storage control's: a program addresses primary ones.
Source: ``drivers/s390/block/dasd_eckd.c`` (dasd_eckd_build_format); ``arch/s390/include/uapi/asm/vtoc.h``.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from pyvfio.drivers import programs
from pyvfio.drivers.label import EBCDIC, LabelKind, VolumeLabel
from pyvfio.drivers.layout import BLOCK_SIZES, LABEL_BLOCK, DiskLayout, LayoutKind
from pyvfio.drivers.online import OnlineWork
from pyvfio.drivers.sense import DasdFailed
from pyvfio.drivers.track import TrackImage
from pyvfio.drivers.volume_table import VolumeTable
from pyvfio.drivers.volume_work import VolumeWork
from pyvfio.drivers.work import Item, Progress, Request, Stream, Work, untold
from pyvfio.errors import MalformedAnswer, Misuse

__all__ = ["FormatMode", "FormatWork", "Misformatted", "default_serial"]

_MOST_FORMATTED: Final = 20
_MOST_RECORDS: Final = 250
_SAMPLE: Final = 64
#: A program-status word that waits for ever with code f, and two empty channel commands.
_IPL1: Final = bytes.fromhex("000600000000000f03000000000000010000000000000000")
_IPL2: Final = bytes(144)
_OPERATION: Final = "format DASD"


class FormatMode(StrEnum):
    """What is formatted: all tracks; only the first two, when the others are so already; those that are not yet."""

    FULL = "full"
    QUICK = "quick"
    EXPAND = "expand"


@dataclass(frozen=True, slots=True)
class Misformatted:
    """A `track` that has not the records of the layout, and what is there in `words`."""

    track: int
    words: str


def default_serial(number: str) -> str:
    """The volume serial that dasdfmt gives to a device.

    >>> default_serial("0.0.3f3f")
    '0X3F3F'
    """
    return f"0X{number.rpartition('.')[2].upper()}"


class FormatWork(OnlineWork, VolumeWork):
    """Making and checking what the other parts use."""

    def layout_for(self, kind: LayoutKind | str, block_size: int) -> DiskLayout:
        """The layout that formatting makes.  Raise `Misuse` for a size that Linux does not know."""
        if block_size not in BLOCK_SIZES or kind not in tuple(LayoutKind):
            cause = f"blocks have {', '.join(map(str, BLOCK_SIZES))} bytes, layouts are cdl and ldl"
            raise Misuse(_OPERATION, self.name, cause=cause)
        per_track = self.disk.blocks_per_track(block_size)
        return DiskLayout(LayoutKind(kind), block_size, per_track, self.disk.tracks)

    def format_runs(self, layout: DiskLayout, first: int, count: int) -> Iterator[tuple[int, int]]:
        """Cut tracks into what one program formats.  Raise `Misuse`."""
        self._within(_OPERATION, first, count, least=1)
        most, end = max(1, min(_MOST_FORMATTED, _MOST_RECORDS // layout.per_track)), first + count
        return ((at, min(most, end - at)) for at in range(first, end, most))

    def format_tracks(self, layout: DiskLayout, first: int, count: int) -> Work[None]:
        """Format tracks of one run."""
        words = f"format tracks {first} to {first + count - 1}"
        yield Request(programs.format_tracks(self.disk, layout, first, count), words)

    def format(
        self, first: int, count: int | None, kind: LayoutKind | str, block_size: int, progress: Progress = untold
    ) -> Work[None]:
        """Format tracks (default: to the end); their data are gone, and so are label and VTOC there."""
        layout = self.layout_for(kind, block_size)
        total = self.disk.tracks - first if count is None else count
        for at, step in self.format_runs(layout, first, total):
            yield from self.format_tracks(layout, at, step)
            progress(step)
        yield from self.analyse()

    def format_volume(
        self,
        serial: str | None,
        kind: LayoutKind | str,
        block_size: int,
        mode: FormatMode | str = FormatMode.FULL,
        progress: Progress = untold,
        *,
        partition: bool = False,
    ) -> Work[None]:
        """Make a volume: format what `mode` says, then write label (unless `serial` is None) and table of contents.

        With `partition` one partition takes all behind the table.  Raise `Misuse` when a quick mode cannot be.
        """
        layout = self.layout_for(kind, block_size)
        if partition and (serial is None or layout.kind is not LayoutKind.CDL):
            cause = "a partition needs a label and the compatible layout (the Linux layout has one by itself)"
            raise Misuse(_OPERATION, self.name, cause=cause)
        label = None if serial is None else self._label(layout, serial)
        first, count = yield from self._chosen(layout, FormatMode(mode))
        if FormatMode(mode) is not FormatMode.EXPAND:
            yield Request(programs.erase_track(self.disk, 0), "erase track 0")
        for at, step in self.format_runs(layout, max(2, first), count - max(0, 2 - first)) if first + count > 2 else ():
            yield from self.format_tracks(layout, at, step)
            progress(step)
        if FormatMode(mode) is FormatMode.EXPAND:
            yield from self.analyse()
            return
        yield from self.format_tracks(layout, 0, min(2, self.disk.tracks))
        progress(min(2, self.disk.tracks))
        yield from self.analyse()
        if label is not None:
            yield from self._write_label(layout, label)
            whole = [(2, self.disk.tracks - 1)] if partition else []
            if layout.kind is LayoutKind.CDL:
                yield from self.write_partitions(whole)

    def format_size(self, mode: FormatMode | str) -> int | None:
        """How many tracks formatting will do, None when that has to be found out."""
        known = {FormatMode.FULL: self.disk.tracks, FormatMode.QUICK: 2}
        return known.get(FormatMode(mode))

    def _chosen(self, layout: DiskLayout, mode: FormatMode) -> Work[tuple[int, int]]:
        """First track and number of tracks."""
        total = self.disk.tracks
        if mode is FormatMode.FULL:
            return 0, total
        resumed = mode is FormatMode.QUICK and self.layout is None  # the sample shows whether the rest is formatted
        same = self.layout is not None and (self.layout.block_size, self.layout.kind) == (
            layout.block_size,
            layout.kind,
        )
        if not same and not resumed:
            there = "is not formatted" if self.layout is None else f"is {self.layout}"
            cause = f"mode {mode} needs a disk that is formatted in this layout already; this one {there}"
            raise Misuse(_OPERATION, self.name, cause=cause, next_step="format it with mode full")
        if mode is FormatMode.QUICK:
            for track in sorted({2 + (total - 3) * number // _SAMPLE for number in range(_SAMPLE + 1)}):
                if track < total and (yield from self._is_formatted(layout, track)) is not None:
                    raise Misuse(
                        _OPERATION,
                        self.name,
                        cause=f"mode quick: track {track} is not formatted in this layout",
                        next_step="mode expand formats those at the end that are not, mode full all",
                    )
            return 0, min(2, total)
        good, bad = 1, total  # all before `good` are formatted; what comes from `bad` on is not
        while good + 1 < bad:
            middle = (good + bad) // 2
            if (yield from self._is_formatted(layout, middle)) is None:
                good = middle
            else:
                bad = middle
        return bad, total - bad

    def _is_formatted(self, layout: DiskLayout, track: int) -> Work[str | None]:
        """What is wrong with a track, None when nothing is."""
        try:
            image = yield from self.read_track(track)
        except DasdFailed as error:
            return str(error.sense)
        except MalformedAnswer as error:
            return error.cause
        return _difference(layout, track, image)

    def check(self, first: int, count: int | None, layout: DiskLayout | None = None) -> Stream[Misformatted | int]:
        """Compare tracks with a layout (default: that of the disk): what differs, and the tracks done since.

        Raise `Misuse` when it has none.
        """
        wanted = layout if layout is not None else self.formatted()
        total = self.disk.tracks - first if count is None else count
        for at, step in self.track_runs(first, total):
            try:
                images: Sequence[TrackImage | None] = yield from self.read_tracks(at, step)
            except (DasdFailed, MalformedAnswer):
                images = [None] * step  # one of them cannot be read: look which
            for track, image in enumerate(images, at):
                if image is None:
                    words = yield from self._is_formatted(wanted, track)
                else:
                    words = _difference(wanted, track, image)
                if words is not None:
                    yield Item(Misformatted(track, words))
            yield Item(step)

    # -- label and table of contents -----------------------------------------------------------------------------

    def _label(self, layout: DiskLayout, serial: str) -> bytes:
        if layout.kind is LayoutKind.LDL:
            return VolumeLabel(LabelKind.LNX1, serial, blocks=layout.blocks).to_record()
        return "VOL1".encode(EBCDIC) + VolumeLabel(LabelKind.VOL1, serial, (0, 1, 1)).to_record()

    def _write_label(self, layout: DiskLayout, label: bytes) -> Work[None]:
        contents = [b"", b"", label]
        if layout.kind is LayoutKind.CDL:
            contents[:2] = ["IPL1".encode(EBCDIC) + _IPL1, "IPL2".encode(EBCDIC) + _IPL2]
        padded = b"".join(part.ljust(layout.block_size, b"\0") for part in contents)
        if layout.block_size * (LABEL_BLOCK + 1) != len(padded):
            raise Misuse("write label", self.name, cause="it does not fit into a block")
        yield from self.write_blocks(0, padded)
        yield from self.analyse()

    def relabel(self, serial: str) -> Work[None]:
        """Give the volume another serial.  Raise `Misuse` when it has no label, or one that is not made here."""
        label, layout = self.label, self.formatted()
        if label is None or label.kind is LabelKind.CMS1:
            raise Misuse("write label", self.name, cause="the disk has no VOL1 or LNX1 label", next_step="format it")
        block = bytearray((yield from self.read_blocks(LABEL_BLOCK, 1)))
        raw = replace(label, volser=serial).to_record()
        at = 8 if label.kind is LabelKind.VOL1 else 4
        block[at : at + 6] = raw[4:10]
        yield from self.write_blocks(LABEL_BLOCK, bytes(block[: layout.block_size]))
        yield from self.analyse()

    def write_partitions(self, parts: Sequence[tuple[int, int]]) -> Work[None]:
        """Write a table of contents in which the tracks from first to last are partitions, as fdasd does.

        What the table held is gone.  Raise `Misuse` when the disk has no compatible layout with a label, or for
        partitions that overlap, are not behind the table, or are too many.
        """
        layout, label = self.formatted(), self.label
        if layout.kind is not LayoutKind.CDL or label is None or label.kind is not LabelKind.VOL1:
            raise Misuse("write partitions", self.name, cause="it has no compatible layout with a VOL1 label")
        today = datetime.date.today()
        table = VolumeTable(
            label.volser,
            self.disk.device_type,
            self.disk.cylinders,
            self.disk.heads,
            layout.per_track,
            layout.block_size,
            (today.year, today.timetuple().tm_yday),
        ).dscbs(sorted(parts))
        records = [dscb.raw for dscb in table] + [b""] * (layout.per_track - len(table))
        data = b"".join(raw.ljust(layout.block_size, b"\0") for raw in records)
        yield from self.write_blocks(layout.per_track, data)
        if label.vtoc != (0, 1, 1):
            yield from self._write_label(layout, self._label(layout, label.volser))


def _difference(layout: DiskLayout, track: int, image: TrackImage) -> str | None:
    """What a track has that the layout has not, in words; None when it is as it should be."""
    for number, record in enumerate(image.records, 1):
        if number > layout.per_track:
            return f"it has more than {layout.per_track} records"
        if record.number != number or (record.cylinder & 0xFFFF, record.head & 0x0F) != (
            image.cylinder & 0xFFFF,
            image.head,
        ):
            return f"record {record.number} stands where record {number} should"
        shape = len(record.key), len(record.data)
        if shape != layout.shape(track, number):
            return f"record {number} has key length {shape[0]} and data length {shape[1]}"
    found = len(image.records)
    return None if found == layout.per_track else f"it has {found} records, not {layout.per_track}"
