"""The blocks that ``dasd-eckd`` makes of a volume: 4 KiB each, twelve on a track.

Block n is record n % 12 + 1 of track n / 12.  In the compatible disk layout the first records (IPL, label, VTOC) are
shorter: such a block is the record's key and data, filled up with e5.  A block whose record is not there cannot be
read or written.  Source: ``drivers/s390/block/dasd_eckd.c`` (dasd_eckd_format_address, dasd_special_format).
"""

from __future__ import annotations

import errno
from dataclasses import replace

from pyvfio_backends.software.hardware.devices.ckd_track import BadTrack, Track
from pyvfio_backends.software.hardware.devices.dasd import Dasd3390
from pyvfio_backends.software.hardware.devices.eckd_volume import BLOCK_SIZE, BLOCKS, Volume
from pyvfio_backends.software.linux.ccw import CcwDevice
from pyvfio_backends.software.linux.vfs import fail
from pyvfio_backends.software.medium.image import Image

__all__ = ["VolumeBlocks", "real_volume"]

_FILL = b"\xe5"


def real_volume(device: CcwDevice) -> Volume | None:
    """The volume behind a DASD when the machine's description gives it a file, or lets it be written; else None."""
    sch = device.subchannel
    if sch is None or not (device.options.get("image") or device.options.get("readonly") is False):
        return None
    unit = sch.css.hardware.config(sch.schid).device
    return unit.volume if isinstance(unit, Dasd3390) else None


class VolumeBlocks(Image):
    """A volume as a disk; its size is 0 when it is not formatted in blocks of 4 KiB.

    Reading and writing raise OSError EIO where there is no such record, and where the medium fails.
    """

    __slots__ = ("_volume",)

    def __init__(self, volume: Volume) -> None:
        super().__init__(volume.cylinders * volume.heads * BLOCKS * BLOCK_SIZE if _formatted(volume) else 0)
        self._volume = volume

    def _track(self, number: int) -> Track:
        try:
            return self._volume.read(*divmod(number, self._volume.heads))
        except (BadTrack, OSError) as error:
            raise fail(errno.EIO) from error

    def read(self, offset: int, count: int) -> bytes:
        """See `Image.read`."""
        count = max(0, min(count, self.size - offset))
        parts: list[bytes] = []
        while count > 0:
            number, start = divmod(offset, BLOCKS * BLOCK_SIZE)
            length = min(count, BLOCKS * BLOCK_SIZE - start)
            first, last = start // BLOCK_SIZE, -(-(start + length) // BLOCK_SIZE)
            track = self._track(number)
            blocks = b"".join(_block(track, index) for index in range(first, last))
            parts.append(blocks[start % BLOCK_SIZE : start % BLOCK_SIZE + length])
            offset += length
            count -= length
        return b"".join(parts)

    def write(self, offset: int, data: bytes) -> int:
        """See `Image.write`."""
        taken = max(0, min(len(data), self.size - offset))
        done = 0
        while done < taken:
            number, start = divmod(offset + done, BLOCK_SIZE)
            length = min(taken - done, BLOCK_SIZE - start)
            self._write_block(number, start, data[done : done + length])
            done += length
        return taken

    def _write_block(self, number: int, start: int, data: bytes) -> None:
        place, index = divmod(number, BLOCKS)
        track = self._track(place)
        block = bytearray(_block(track, index))
        block[start : start + len(data)] = data
        records = list(track.records)
        old = records[index + 1]
        middle, end = len(old.key), len(old.key) + len(old.data)
        records[index + 1] = replace(old, key=bytes(block[:middle]), data=bytes(block[middle:end]))
        try:
            self._volume.write(replace(track, records=tuple(records)), index + 1)
        except OSError as error:
            raise fail(errno.EIO) from error


def _block(track: Track, index: int) -> bytes:
    if index + 1 >= len(track.records):
        raise fail(errno.EIO)
    record = track.records[index + 1]
    return (record.key + record.data)[:BLOCK_SIZE].ljust(BLOCK_SIZE, _FILL)


def _formatted(volume: Volume) -> bool:
    """Whether a track behind the label has twelve records of 4 KiB, as ``dasdfmt`` makes them."""
    try:
        records = volume.read(0, 2).records
    except (BadTrack, OSError):
        return False
    return [len(record.data) for record in records[1:]] == [BLOCK_SIZE] * BLOCKS
