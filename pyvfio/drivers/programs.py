"""The channel programs of a DASD driver as lists of commands.

DEFINE EXTENT and LOCATE RECORD come first; then a transfer for each record or track.  Blocks and tracks are numbers
from 0.  At most `MOST` transfers go into one program: vfio-ccw translates 256 CCWs, LOCATE RECORD counts to 255.
Source: ``drivers/s390/block/dasd_eckd.c`` (dasd_eckd_build_cp_cmd_single, dasd_eckd_build_format,
dasd_eckd_analysis_ccw).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pyvfio.channel_program import ChannelCommand, Control, Read, Write
from pyvfio.css.ccw import NO_FLAGS, CcwFlag
from pyvfio.drivers.characteristics import CHARACTERISTICS_SIZE, CONFIGURATION_SIZE, Characteristics
from pyvfio.drivers.eckd import (
    EckdCommand,
    ExtendedOperation,
    LocateOperation,
    Mask,
    define_extent,
    locate_extended,
    locate_record,
)
from pyvfio.drivers.features import FEATURES_SIZE
from pyvfio.drivers.layout import Block, DiskLayout
from pyvfio.drivers.path_group import GROUP_SIZE
from pyvfio.drivers.sense import SENSE_SIZE
from pyvfio.drivers.track import COUNT_SIZE, Count, TrackImage, TrackRecord
from pyvfio.errors import Misuse

__all__ = [
    "LARGEST_TRACK",
    "MOST",
    "MOST_TRACKS",
    "analysis",
    "characteristics",
    "configuration",
    "erase_track",
    "features",
    "format_tracks",
    "read_blocks",
    "read_label",
    "read_track_data",
    "read_tracks",
    "release",
    "reserve",
    "sense_path_group",
    "set_path_group",
    "steal",
    "write_blocks",
    "write_track_data",
    "write_tracks",
]

MOST: Final = 128
"""Blocks in one program."""
MOST_TRACKS: Final = 32
"""Tracks in one program."""
LARGEST_TRACK: Final = 0xF000
"""Room for all records of a track with their counts; a 3390 has 58,786 bytes."""
_PREPARE_FOR_READ, _FEATURE_CODES = 0x18, 0x41
_LABEL: Final = (0, 3)
_LABEL_SIZE: Final = 512


def characteristics() -> list[ChannelCommand]:
    """READ DEVICE CHARACTERISTICS."""
    return [Read(EckdCommand.READ_DEVICE_CHARACTERISTICS, CHARACTERISTICS_SIZE)]


def configuration() -> list[ChannelCommand]:
    """READ CONFIGURATION DATA."""
    return [Read(EckdCommand.READ_CONFIGURATION_DATA, CONFIGURATION_SIZE, CcwFlag.SLI)]


def features() -> list[ChannelCommand]:
    """PERFORM SUBSYSTEM FUNCTION (prepare for read: feature codes), then READ SUBSYSTEM DATA."""
    order = bytes([_PREPARE_FOR_READ]).ljust(6, b"\0") + bytes([_FEATURE_CODES]).ljust(6, b"\0")
    prepare = Control(EckdCommand.PERFORM_SUBSYSTEM_FUNCTION, order)
    return [prepare, Read(EckdCommand.READ_SUBSYSTEM_DATA, FEATURES_SIZE, CcwFlag.SLI)]


def sense_path_group() -> list[ChannelCommand]:
    """SENSE PATH GROUP ID."""
    return [Read(EckdCommand.SENSE_PATH_GROUP_ID, GROUP_SIZE, CcwFlag.SLI)]


def set_path_group(function: int, group: bytes) -> list[ChannelCommand]:
    """SET PATH GROUP ID: `function` (8 bits) with an id of 11 bytes."""
    return [Control(EckdCommand.SET_PATH_GROUP_ID, bytes([function]) + group)]


def reserve() -> list[ChannelCommand]:
    """RESERVE; it brings sense bytes, as the two others do."""
    return [Read(EckdCommand.RESERVE, SENSE_SIZE, CcwFlag.SLI)]


def release() -> list[ChannelCommand]:
    """RELEASE."""
    return [Read(EckdCommand.RELEASE, SENSE_SIZE, CcwFlag.SLI)]


def steal() -> list[ChannelCommand]:
    """UNCONDITIONAL RESERVE."""
    return [Read(EckdCommand.UNCONDITIONAL_RESERVE, SENSE_SIZE, CcwFlag.SLI)]


def _extent(disk: Characteristics, mask: Mask, first: int, last: int) -> Control:
    return Control(EckdCommand.DEFINE_EXTENT, define_extent(mask, disk.place(first), disk.place(last)))


def _locate(
    disk: Characteristics, operation: LocateOperation, track: int, record: int, count: int, length: int = 0
) -> Control:
    where = locate_record(operation, disk.place(track), record, count, length)
    return Control(EckdCommand.LOCATE_RECORD, where)


def analysis(disk: Characteristics) -> list[ChannelCommand]:
    """The count areas of records 1 to 4 of track 0 and of record 1 of track 1."""
    read = Read(EckdCommand.READ_COUNT, COUNT_SIZE)
    first = _locate(disk, LocateOperation.READ_DATA, 0, 0, 4)
    second = _locate(disk, LocateOperation.READ_DATA, 1, 0, 1)
    return [_extent(disk, Mask.READ, 0, 1), first, *[read] * 4, second, read]


def read_label(disk: Characteristics) -> list[ChannelCommand]:
    """Key and data of record 3 of track 0, as much as a label has."""
    track, record = _LABEL
    where = _locate(disk, LocateOperation.READ_DATA, track, record, 1)
    read = Read(EckdCommand.READ_KEY_AND_DATA_MT, _LABEL_SIZE, CcwFlag.SLI)
    return [_extent(disk, Mask.READ, track, track), where, read]


def _runs(blocks: Sequence[Block]) -> list[list[Block]]:
    """Blocks that one LOCATE RECORD serves: those with keys one each, the others together."""
    runs: list[list[Block]] = []
    for block in blocks:
        if block.key_length or not runs or runs[-1][-1].key_length:
            runs.append([block])
        else:
            runs[-1].append(block)
    return runs


def read_blocks(disk: Characteristics, blocks: Sequence[Block]) -> list[ChannelCommand]:
    """READ DATA, or READ KEY AND DATA, for each of consecutive blocks."""
    program: list[ChannelCommand] = [_extent(disk, Mask.READ, blocks[0].track, blocks[-1].track)]
    for run in _runs(blocks):
        first = run[0]
        program.append(_locate(disk, LocateOperation.READ_DATA, first.track, first.record, len(run)))
        code = EckdCommand.READ_KEY_AND_DATA_MT if first.key_length else EckdCommand.READ_DATA_MT
        program += [Read(code, block.length) for block in run]
    return program


def write_blocks(disk: Characteristics, blocks: Sequence[Block], contents: Sequence[bytes]) -> list[ChannelCommand]:
    """WRITE DATA, or WRITE KEY AND DATA, for each of consecutive blocks; the records must be there."""
    program: list[ChannelCommand] = [_extent(disk, Mask.UPDATE, blocks[0].track, blocks[-1].track)]
    data = iter(contents)
    for run in _runs(blocks):
        first = run[0]
        where = _locate(disk, LocateOperation.WRITE_DATA, first.track, first.record, len(run), first.length)
        program.append(where)
        code = EckdCommand.WRITE_KEY_AND_DATA_MT if first.key_length else EckdCommand.WRITE_DATA_MT
        program += [Write(code, next(data)) for _ in run]
    return program


def read_tracks(disk: Characteristics, first: int, count: int, length: int = LARGEST_TRACK) -> list[ChannelCommand]:
    """READ TRACK for each of `count` tracks, at most `length` bytes of each."""
    where = _locate(disk, LocateOperation.READ_TRACKS, first, 0, count)
    read = Read(EckdCommand.READ_TRACK, length, CcwFlag.SLI)
    return [_extent(disk, Mask.READ, first, first + count - 1), where, *[read] * count]


def read_track_data(disk: Characteristics, first: int, count: int, length: int) -> list[ChannelCommand]:
    """READ TRACK DATA for each of `count` tracks, which hold `length` bytes of data each."""
    where = locate_extended(LocateOperation.READ_TRACKS, ExtendedOperation.NONE, disk.place(first), count, length)
    locate = Control(EckdCommand.LOCATE_RECORD_EXTENDED, where)
    read = Read(EckdCommand.READ_TRACK_DATA, length)
    return [_extent(disk, Mask.READ, first, first + count - 1), locate, *[read] * count]


def write_track_data(
    disk: Characteristics, first: int, contents: Sequence[bytes], block_size: int
) -> list[ChannelCommand]:
    """WRITE TRACK DATA for consecutive tracks: each of `contents` is all data of one, in records of `block_size`."""
    place, count = disk.place(first), len(contents)
    where = locate_extended(LocateOperation.EXTENDED, ExtendedOperation.WRITE_TRACK_DATA, place, count, block_size)
    locate = Control(EckdCommand.LOCATE_RECORD_EXTENDED, where)
    writes = [Write(EckdCommand.WRITE_TRACK_DATA, data) for data in contents]
    return [_extent(disk, Mask.UPDATE, first, first + count - 1), locate, *writes]


def write_tracks(disk: Characteristics, track: int, images: Sequence[TrackImage]) -> list[ChannelCommand]:
    """Format consecutive tracks from `track` on and write their records; each has at least one."""
    if any(not image.records for image in images):
        raise Misuse("write tracks", str(track), cause="a track without records is erased, not written")
    records = [(record, not number) for image in images for number, record in enumerate(image.records)]
    return _format(disk, track, len(images), [(record.to_bytes(), first) for record, first in records])


def format_tracks(disk: Characteristics, layout: DiskLayout, first: int, count: int) -> list[ChannelCommand]:
    """The count areas of the blocks of `count` tracks; their keys and data become zeros."""
    parts: list[tuple[bytes, bool]] = []
    for track in range(first, first + count):
        cylinder, head = disk.place(track)
        head |= cylinder >> 16 << 4
        for number in range(1, layout.per_track + 1):
            area = Count(cylinder & 0xFFFF, head, number, *layout.shape(track, number))
            parts.append((area.to_bytes(), number == 1))
    return _format(disk, first, count, parts, CcwFlag.SLI, layout.block_size)


def _format(
    disk: Characteristics,
    track: int,
    tracks: int,
    parts: Sequence[tuple[bytes, bool]],
    flags: CcwFlag = NO_FLAGS,
    length: int = 0,
) -> list[ChannelCommand]:
    """WRITE COUNT, KEY, DATA for each part; one that is the first of its track goes on to that track."""
    most = length or max(len(part) for part, _ in parts)
    where = _locate(disk, LocateOperation.FORMAT_WRITE, track, 0, len(parts), most)
    program: list[ChannelCommand] = [_extent(disk, Mask.FORMAT, track, track + tracks - 1), where]
    for number, (part, first) in enumerate(parts):
        on = EckdCommand.WRITE_COUNT_KEY_DATA_MT if first and number else EckdCommand.WRITE_COUNT_KEY_DATA
        program.append(Write(on, part, flags))
    return program


def erase_track(disk: Characteristics, track: int) -> list[ChannelCommand]:
    """ERASE behind R0: no record is left."""
    where = _locate(disk, LocateOperation.WRITE_TRACK, track, 0, 1, COUNT_SIZE)
    count = TrackRecord(*disk.place(track), 1, b"", b"").to_bytes()
    return [_extent(disk, Mask.FORMAT, track, track), where, Write(EckdCommand.ERASE, count, CcwFlag.SLI)]
