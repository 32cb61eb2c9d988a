"""What lies on a volume: in an image file, or made when it is read and kept when it was written.

A volume without a file is formatted and empty: cylinder 0, head 0 holds the two IPL records, the volume label (R3) and
blocks; head 1 the table of contents, if it has one; every other track holds R0 and twelve blocks of 4 KiB of zeros.
Text is EBCDIC.  Source: GA32-0274; ``arch/s390/include/uapi/asm/vtoc.h`` (volume label).
"""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path
from typing import Final, Protocol

from pyvfio.drivers.volume_table import VolumeTable
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.devices.ckd_image import BadImage, CkdImage
from pyvfio_backends.software.hardware.devices.ckd_models import DEVICES, Device, model_of
from pyvfio_backends.software.hardware.devices.ckd_track import EMPTY_R0, BadTrack, Record, Track

__all__ = [
    "BLOCKS",
    "BLOCK_SIZE",
    "EmptyVolume",
    "ImageVolume",
    "Volume",
    "label_track",
    "partitioned_track",
    "vtoc_track",
]

BLOCK_SIZE: Final = 4 * 1024
BLOCKS: Final = 12
_ENCODING: Final = "cp037"
#: A program-status word that waits for ever with code f, and two empty channel commands.
_IPL1: Final = bytes.fromhex("000600000000000f03000000000000010000000000000000")
_IPL2: Final = bytes(144)
_ZEROS: Final = bytes(BLOCK_SIZE)
_MOST_CYLINDERS: Final = 65520
_DSCB_KEY, _DSCB_DATA = 44, 96
_FIRST_FREE: Final = 2  # the first track behind label and table of contents
_TRACK_CAPACITY: Final = 58786
_DEVICE_FLAGS: Final = 0x30


class Volume(Protocol):
    """The tracks of one disk.

    `cylinders` are the primary ones, behind which are so many `alternates`.  `version` changes with each write, so that
    who keeps a track knows when it is old.  Reading raises `BadTrack`
    for a damaged track; both raise OSError when the medium fails.
    """

    device: Device
    cylinders: int
    alternates: int
    heads: int
    volser: str
    readonly: bool
    version: int

    def read(self, cylinder: int, head: int) -> Track:
        """A track that the volume has."""
        ...

    def write(self, track: Track, only: int | None = None) -> None:
        """Replace a track; `only` names the one record that differs from what is there, and not in length."""
        ...


def _volume_label(volser: str, owner: str) -> bytes:
    """The 80 bytes of a standard volume label: the VTOC begins at cylinder 0, head 1, record 1."""
    try:
        serial, name = volser.encode(_ENCODING), owner.encode(_ENCODING)
    except UnicodeEncodeError:
        raise Misuse("build volume", volser, cause="the volume serial and the owner are EBCDIC text") from None
    if not 1 <= len(serial) <= 6 or len(name) > 14:
        raise Misuse("build volume", volser, cause="a volume serial has 1 to 6 characters, an owner at most 14")
    blank = " ".encode(_ENCODING)
    vtoc = struct.pack(">HHB", 0, 1, 1)
    label = "VOL1".encode(_ENCODING) + serial.ljust(6, blank) + blank + vtoc
    return (label.ljust(41, blank) + name).ljust(80, blank)


def label_track(volser: str, owner: str = "", *, blocks: int = 0) -> Track:
    """The first track of a volume: IPL records, label, and so many `blocks` behind.  Raise `Misuse`."""
    first = (("IPL1", _IPL1), ("IPL2", _IPL2), ("VOL1", _volume_label(volser, owner)))
    records = [Record(0, 0, 0, b"", EMPTY_R0)]
    records += [Record(0, 0, number, key.encode(_ENCODING), data) for number, (key, data) in enumerate(first, 1)]
    records += [Record(0, 0, number, b"", _ZEROS) for number in range(4, 4 + blocks)]
    return Track(0, 0, tuple(records))


def vtoc_track(cylinders: int, device: Device = DEVICES[0x3390]) -> Track:
    """The track at cylinder 0, head 1 of a volume without data sets: its table of contents, twelve records.

    Format 4 describes the table and the disk, format 5 the free space from the third track on, the rest is free.
    """
    whole, rest = divmod(cylinders * device.heads - _FIRST_FREE, device.heads)
    format4 = struct.pack(
        ">s5xH7xBxxHHH3xBxxB30xBBHHHH25x",
        "4".encode(_ENCODING),
        BLOCKS - 2,  # free records
        1,  # extents of the table
        cylinders,
        device.heads,
        _TRACK_CAPACITY,
        _DEVICE_FLAGS,
        BLOCKS,
        1,
        0,
        0,
        1,
        0,
        1,
    )
    free = b"\x05" * 4 + struct.pack(">HHB", _FIRST_FREE, whole, rest)
    format5 = "5".encode(_ENCODING)
    contents = [(b"\x04" * _DSCB_KEY, format4), (free, format5), *[(b"", b"")] * (BLOCKS - 2)]
    records = [Record(0, 1, 0, b"", EMPTY_R0)]
    records += [
        Record(0, 1, number, key.ljust(_DSCB_KEY, b"\0"), data.ljust(_DSCB_DATA, b"\0"))
        for number, (key, data) in enumerate(contents, 1)
    ]
    return Track(0, 1, tuple(records))


def partitioned_track(volser: str, cylinders: int, device: Device = DEVICES[0x3390]) -> Track:
    """The track at cylinder 0, head 1 of a volume with one partition of all tracks from the third on."""
    table = VolumeTable(volser, device.type, cylinders, device.heads, BLOCKS, BLOCK_SIZE, (2000, 1))
    raws = [dscb.raw for dscb in table.dscbs([(_FIRST_FREE, cylinders * device.heads - 1)])]
    raws += [bytes(_DSCB_KEY + _DSCB_DATA)] * (BLOCKS - len(raws))
    records = [Record(0, 1, number, raw[:_DSCB_KEY], raw[_DSCB_KEY:]) for number, raw in enumerate(raws, 1)]
    return Track(0, 1, (Record(0, 1, 0, b"", EMPTY_R0), *records))


class EmptyVolume:
    """A formatted, empty volume in memory; `volser` has at most six characters.  Raise `Misuse` on bad values.

    With `vtoc` its second track is a table of contents, and like the others without.  It has the alternate cylinders
    of a model of this size, if there is one.
    """

    def __init__(
        self, volser: str, cylinders: int, owner: str = "", *, readonly: bool = True, vtoc: bool = False
    ) -> None:
        if not 1 <= cylinders <= _MOST_CYLINDERS:
            raise Misuse(
                "build volume", volser, cause=f"{cylinders} cylinders: 1 to {_MOST_CYLINDERS} can be addressed"
            )
        self.device = DEVICES[0x3390]
        self.heads = self.device.heads
        self.cylinders = cylinders
        model = model_of(cylinders)
        self.alternates = model.alternates if model.cylinders == cylinders else 0
        self.volser = volser
        self.readonly = readonly
        self.version = 0
        self._label = label_track(volser, owner, blocks=BLOCKS - 3)
        self._written: dict[tuple[int, int], Track] = {(0, 1): vtoc_track(cylinders)} if vtoc else {}

    def read(self, cylinder: int, head: int) -> Track:
        """See `Volume.read`."""
        written = self._written.get((cylinder, head))
        if written is not None:
            return written
        if not cylinder and not head:
            return self._label
        records = [Record(cylinder, head, 0, b"", EMPTY_R0)]
        records += [Record(cylinder, head, number, b"", _ZEROS) for number in range(1, BLOCKS + 1)]
        return Track(cylinder, head, tuple(records))

    def write(self, track: Track, only: int | None = None) -> None:
        """See `Volume.write`."""
        self._written[track.cylinder, track.head] = track
        self.version += 1

    def __str__(self) -> str:
        return f"volume {self.volser} of {self.cylinders} cylinders"


class ImageVolume:
    """The volume in a CKD image file.  Raise `BadImage`, also when the file cannot be written and `readonly` is off."""

    def __init__(self, path: str | Path, *, readonly: bool = False) -> None:
        self.image = CkdImage(path)
        self.device = self.image.device
        if self.device.type != 0x3390:
            raise BadImage("open disk image", str(path), cause=f"it is of a {self.device.type:x}, not of a 3390")
        if not readonly and not os.access(path, os.W_OK):
            raise BadImage(
                "open disk image", str(path), cause="it cannot be written", next_step="say readonly = true, or chmod it"
            )
        primary = model_of(self.image.cylinders, with_alternates=True).cylinders
        self.cylinders, self.heads = min(primary, self.image.cylinders), self.image.heads
        self.alternates = self.image.cylinders - self.cylinders
        self.readonly = readonly
        self.version = 0
        self.volser = self._find_volser()

    def _find_volser(self) -> str:
        try:
            records = self.read(0, 0).records
        except (BadTrack, OSError):
            return ""
        label = next((record.data for record in records if record.number == 3), b"")
        return label[4:10].decode(_ENCODING).rstrip() if label[:4] == "VOL1".encode(_ENCODING) else ""

    def read(self, cylinder: int, head: int) -> Track:
        """See `Volume.read`."""
        return self.image.read(cylinder, head)

    def write(self, track: Track, only: int | None = None) -> None:
        """See `Volume.write`."""
        if track.size > self.image.track_size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.image.write(track, only)
        self.version += 1

    def __str__(self) -> str:
        return f"volume {self.volser or 'without label'} of {self.cylinders} cylinders in {self.image.path}"
