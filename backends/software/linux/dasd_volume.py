"""The blocks that ``dasd-eckd`` makes of a volume, and the partitions that the kernel finds in them.

Block n is record n % per_track + 1 of track n / per_track.  In the compatible disk layout the first records (IPL,
label, VTOC) are shorter: such a block is the record's key and data, filled up with e5.  A block whose record is not
there cannot be read or written.  Source: ``drivers/s390/block/dasd_eckd.c`` (dasd_eckd_end_analysis,
dasd_eckd_format_address, dasd_special_format); ``block/partitions/ibm.c``.
"""

from __future__ import annotations

import errno
from dataclasses import replace

from pyvfio.drivers.characteristics import COMPATIBLE_CYLINDERS, Characteristics
from pyvfio.drivers.layout import BLOCK_SIZES, DiskLayout
from pyvfio.drivers.track import Count
from pyvfio_backends.software.hardware.devices.ckd_track import BadTrack, Track
from pyvfio_backends.software.hardware.devices.dasd import Dasd3390
from pyvfio_backends.software.hardware.devices.eckd_volume import BLOCK_SIZE, Volume
from pyvfio_backends.software.linux.ccw import CcwDevice
from pyvfio_backends.software.linux.vfs import fail
from pyvfio_backends.software.medium.image import Image
from pyvfio_backends.software.medium.tables import Part

__all__ = ["VolumeBlocks", "find_partitions", "volume_of"]

_FILL = b"\xe5"
_LABEL_RECORDS = 4


def volume_of(device: CcwDevice) -> Volume | None:
    """The volume behind a DASD, None when it is not a 3390 of the machine."""
    sch = device.subchannel
    if sch is None:
        return None
    unit = sch.css.hardware.config(sch.schid).device
    return unit.volume if isinstance(unit, Dasd3390) else None


class VolumeBlocks(Image):
    """A volume as a disk of blocks of `block_size` bytes; its size is 0 when it has no `layout`.

    Reading and writing raise OSError EIO where there is no such record, and where the medium fails.
    """

    __slots__ = ("_volume", "block_size", "layout", "readonly")

    def __init__(self, volume: Volume | None) -> None:
        self._volume = volume
        self.layout = _layout(volume) if volume is not None else None
        self.block_size = BLOCK_SIZE if self.layout is None else self.layout.block_size
        self.readonly = volume is None or volume.readonly
        super().__init__(0 if self.layout is None else self.layout.blocks * self.layout.block_size)

    @property
    def geometry(self) -> tuple[int, int]:
        """Cylinders (as 16 bits say) and heads."""
        if self._volume is None:
            return 0, 0
        return min(self._volume.cylinders, COMPATIBLE_CYLINDERS), self._volume.heads

    def _track(self, number: int) -> Track:
        if self._volume is None:
            raise fail(errno.EIO)
        try:
            return self._volume.read(*divmod(number, self._volume.heads))
        except (BadTrack, OSError) as error:
            raise fail(errno.EIO) from error

    @property
    def _per_track(self) -> int:
        return 1 if self.layout is None else self.layout.per_track

    def read(self, offset: int, count: int) -> bytes:
        """See `Image.read`."""
        count = max(0, min(count, self.size - offset))
        block, whole = self.block_size, self._per_track * self.block_size
        parts: list[bytes] = []
        while count > 0:
            number, start = divmod(offset, whole)
            length = min(count, whole - start)
            first, last = start // block, -(-(start + length) // block)
            track = self._track(number)
            blocks = b"".join(self._block(track, index) for index in range(first, last))
            parts.append(blocks[start % block : start % block + length])
            offset += length
            count -= length
        return b"".join(parts)

    def write(self, offset: int, data: bytes) -> int:
        """See `Image.write`."""
        taken = max(0, min(len(data), self.size - offset))
        done = 0
        while done < taken:
            number, start = divmod(offset + done, self.block_size)
            length = min(taken - done, self.block_size - start)
            self._write_part(number, start, data[done : done + length])
            done += length
        return taken

    def _write_part(self, number: int, start: int, data: bytes) -> None:
        place, index = divmod(number, self._per_track)
        track = self._track(place)
        block = bytearray(self._block(track, index))
        block[start : start + len(data)] = data
        records = list(track.records)
        old = records[index + 1]
        middle, end = len(old.key), len(old.key) + len(old.data)
        records[index + 1] = replace(old, key=bytes(block[:middle]), data=bytes(block[middle:end]))
        if self._volume is None:
            raise fail(errno.EIO)
        try:
            self._volume.write(replace(track, records=tuple(records)), index + 1)
        except OSError as error:
            raise fail(errno.EIO) from error

    def _block(self, track: Track, index: int) -> bytes:
        if index + 1 >= len(track.records):
            raise fail(errno.EIO)
        record = track.records[index + 1]
        return (record.key + record.data)[: self.block_size].ljust(self.block_size, _FILL)


def _layout(volume: Volume) -> DiskLayout | None:
    """The layout that the first records show."""
    try:
        first, second = volume.read(0, 0).records, volume.read(0, 1).records
    except (BadTrack, OSError):
        return None
    records = [*first[1 : 1 + _LABEL_RECORDS], *second[1:2]]
    counts = [Count.from_bytes(record.count) for record in records]
    disk = Characteristics(0, 0, volume.device.type, 0, 0, volume.cylinders, volume.heads, 0, 0)
    capacity = {size: disk.blocks_per_track(size) for size in BLOCK_SIZES}
    return DiskLayout.from_counts(counts, capacity, disk.tracks)


def find_partitions(image: Image) -> list[Part]:
    """The partitions of a DASD; none when a block of its table cannot be read, or it is no volume."""
    if not isinstance(image, VolumeBlocks) or image.layout is None:
        return []
    layout = image.layout

    def read(number: int) -> bytes | None:
        try:
            return image.read(number * layout.block_size, layout.block_size)
        except OSError:
            return None

    from pyvfio.drivers.ibm_partitions import scan, scan_blocks  # only when somebody looks for partitions

    found = scan_blocks(scan(layout, *image.geometry), read)
    if found.failed:
        return []
    size = layout.block_size
    return [Part(one.number, one.first * size, one.count * size) for one in found.partitions]
