"""The partitions of a DASD, by the rules of Linux' scan.

==========  =========================================================================================================
label       partitions
==========  =========================================================================================================
VOL1        the DSCBs behind the first one of the VTOC, block by block: formats 4, 5, 7 and 9 are passed over, a
            format 1 or 8 is a partition (its first extent), anything else ends the scan
LNX1        one, from behind the label to the end of what is formatted
CMS1        one: a reserved minidisk from its origin on, else all behind the label
none        one, from block 3 on, in the Linux disk layout; none in the compatible one
==========  =========================================================================================================

A block is the record with that number in the disk's layout, key and data.  A block that cannot be read makes the
scan of a VTOC fail: Linux then shows no partitions at all.  Source: ``block/partitions/ibm.c``, ``core.c``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final

from pyvfio.drivers.label import EBCDIC, LabelKind, VolumeLabel
from pyvfio.drivers.layout import LABEL_BLOCK, DiskLayout, LayoutKind
from pyvfio.drivers.vtoc import DSCB_SIZE, DataSet, parse_dscb

__all__ = ["Found", "Partition", "Scan", "scan", "scan_blocks"]

_PASSED_OVER: Final = "4579"
_SECTOR: Final = 512


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition as Linux finds it: a data set's first extent (or all behind the label), in blocks."""

    number: int
    name: str
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Found:
    """What a scan found: `words` are what the kernel prints between the disk's name and its partitions."""

    words: str
    partitions: tuple[Partition, ...] = ()
    failed: bool = False

    def lines(self, disk: str) -> list[str]:
        """The lines that the kernel prints for the disk called `disk`."""
        named = "p" if disk[-1:].isdigit() else disk
        line = f" {disk}:{self.words}" + "".join(f" {named}{one.number}" for one in self.partitions)
        return [line, " unable to read partition table"] if self.failed else [line]


Scan = Generator[int, "bytes | None", Found]
"""Yields the number of a block and is sent its bytes (at least key and data), or None when it cannot be read."""


def scan(layout: DiskLayout, cylinders: int, heads: int) -> Scan:
    """Look for the partitions of a disk with `layout`; `cylinders` is as the 16 bits of its geometry say."""
    block = yield LABEL_BLOCK
    label = VolumeLabel.from_block(block) if block is not None else None
    if label is None:
        if layout.kind is LayoutKind.CDL:
            return Found("")
        first = LABEL_BLOCK + 1
        return Found("(nonl)", (Partition(1, "", first, layout.blocks - first),))
    if label.kind is LabelKind.VOL1:
        return (yield from _data_sets(layout, label, heads))
    return _whole(layout, label, block or b"", cylinders, heads)


def _data_sets(layout: DiskLayout, label: VolumeLabel, heads: int) -> Scan:
    cylinder, head, record = label.vtoc or (0, 0, 0)
    # the record counts from 1, the blocks of a track from 0: this is the block behind the first DSCB
    at = (cylinder * heads + head) * layout.per_track + record
    found: list[Partition] = []
    while True:
        block = (yield at) if at < layout.blocks else None
        if block is None:
            return Found(str(label), tuple(found), failed=True)
        raw = block[:DSCB_SIZE].ljust(DSCB_SIZE, b"\0")
        form = raw[44:45].decode(EBCDIC)
        if form not in _PASSED_OVER:
            dscb = parse_dscb(raw)
            if not isinstance(dscb, DataSet):
                return Found(str(label), tuple(found))
            first, last = dscb.limits
            start = (first[0] * heads + first[1]) * layout.per_track
            count = (last[0] * heads + last[1] + 1) * layout.per_track - start
            found.append(Partition(len(found) + 1, dscb.name, start, count))
        at += 1


def _whole(layout: DiskLayout, label: VolumeLabel, block: bytes, cylinders: int, heads: int) -> Found:
    first = LABEL_BLOCK + 1
    if label.kind is LabelKind.CMS1:
        size, origin = int.from_bytes(block[12:16], "big"), int.from_bytes(block[52:56], "big")
        own, step = size // _SECTOR, layout.block_size // _SECTOR
        words, blocks = str(label), label.blocks or 0
        if origin:
            words, blocks, begin = f"{words.removesuffix(':')}(MDSK):", blocks - 1, origin * own
        else:
            begin = LABEL_BLOCK * step + own
        part = Partition(1, label.volser, begin // step, (blocks * own - begin) // step)
        return Found(words, (part,))
    end = label.blocks
    if end is None:
        end = min(layout.blocks, cylinders * heads * layout.per_track)
    return Found(str(label), (Partition(1, label.volser, first, end - first),))


def scan_blocks(search: Scan, read: Callable[[int], bytes | None]) -> Found:
    """Do a scan with a function that reads a block."""
    try:
        number = next(search)
        while True:
            number = search.send(read(number))
    except StopIteration as stop:
        found: Found = stop.value
        return found
