"""Disks in files: tracks read from and written to the public uncompressed CKD image format.

::

    0            8         12        16     17      18      20            512
    +------------+---------+---------+------+-------+-------+-------------+------------------------------
    | "CKD_P370" |  heads  | track   | type | file  | high  |  zeros      | track 0, track 1, ...
    |            |         |  size   |      |       |  cyl. |             | home address, R0, records, FF
    +------------+---------+---------+------+-------+-------+-------------+------------------------------

Numbers of the header are little-endian, those of a track big-endian; type is 80 for a 3380, 90 for a 3390.  The home
address is flag, cylinder and head (5 bytes).  Source: Hercules, "Compressed Dasd Emulation" (CKD_DEVHDR).
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from pyvfio.drivers.track import COUNT_SIZE, END_OF_TRACK, Count, TrackImage
from pyvfio.errors import Misuse, from_oserror

__all__ = ["CkdFile"]

_MAGIC: Final = b"CKD_P370"
_HEADER = struct.Struct("<8sIIBBH492x")
_HOME = struct.Struct(">BHH")
_TYPES: Final = {0x3380: (0x80, 47616), 0x3390: (0x90, 56832)}
_OPEN, _WRITE = "open disk image", "write disk image"
_HEADS: Final = 15


@contextlib.contextmanager
def _gone_unless_whole(path: Path) -> Iterator[None]:
    """Remove a file that was not finished."""
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


class CkdFile:
    """The image in `path`, which lies in one file.  A context manager.

    `device_type` is 3390 or 3380 (hexadecimal), `cylinders` and `heads` its geometry.  Raise `Misuse` when it is no
    such image, else the class for the errno.
    """

    def __init__(self, path: str | Path, *, writable: bool = False) -> None:
        self.path = Path(path)
        try:
            self._file = self.path.open("r+b" if writable else "rb")
        except OSError as error:
            raise from_oserror(error, _OPEN, str(path)) from error
        try:
            self._look()
        except BaseException:
            self._file.close()
            raise

    def _look(self) -> None:
        raw = self._file.read(_HEADER.size)
        if len(raw) < _HEADER.size or raw[:8] != _MAGIC:
            compressed = raw[:8] in (b"CKD_C370", b"CKD_S370")
            step = "unpack it with Hercules' cckd2ckd -lfs" if compressed else ""
            cause = "it is a compressed image" if compressed else "it has no header of a CKD image (CKD_P370)"
            raise Misuse(_OPEN, str(self.path), cause=cause, next_step=step)
        code: int
        sequence: int
        high: int
        self.heads: int
        self.track_size: int
        _, self.heads, self.track_size, code, sequence, high = _HEADER.unpack(raw)
        kinds = [kind for kind, (number, _) in _TYPES.items() if number == code]
        if not kinds or self.track_size != _TYPES[kinds[0]][1] or self.heads != _HEADS:
            raise Misuse(_OPEN, str(self.path), cause=f"it is of no 3390 or 3380 (type {code:02x})")
        if high or sequence > 1:
            raise Misuse(_OPEN, str(self.path), cause="it is one of several files", next_step="join them with ckd2cckd")
        self.device_type = kinds[0]
        self.cylinders, rest = divmod(self._file.seek(0, 2) - _HEADER.size, self.heads * self.track_size)
        if rest or not self.cylinders:
            raise Misuse(_OPEN, str(self.path), cause="it ends within a cylinder")

    @classmethod
    def create(cls, path: str | Path, device_type: int, cylinders: int) -> Self:
        """Make an image whose tracks are empty, and open it for writing; a file in the way is not touched.

        What ends this early leaves no file, so that the name can be used again.
        Raise `Misuse` for another type of disk, else the class for the errno.
        """
        if device_type not in _TYPES:
            raise Misuse("create disk image", str(path), cause=f"a {device_type:04x} is no 3390 or 3380")
        code, size = _TYPES[device_type]
        try:
            with Path(path).open("xb") as file, _gone_unless_whole(Path(path)):
                file.write(_HEADER.pack(_MAGIC, _HEADS, size, code, 0, 0))
                for number in range(cylinders * _HEADS):
                    file.seek(_HEADER.size + number * size)
                    file.write(_raw(TrackImage(*divmod(number, _HEADS), ())))
                file.truncate(_HEADER.size + cylinders * _HEADS * size)
        except OSError as error:
            raise from_oserror(error, "create disk image", str(path)) from error
        return cls(path, writable=True)

    @property
    def tracks(self) -> int:
        """All tracks."""
        return self.cylinders * self.heads

    def read(self, track: int) -> TrackImage:
        """A track by its number.  Raise `Misuse` when there is no such track, `MalformedAnswer` for a damaged one."""
        cylinder, head = self._seek(track)
        return TrackImage.from_bytes(self._file.read(self.track_size)[_HOME.size :], cylinder, head)

    def write(self, image: TrackImage) -> None:
        """Replace a track; what its R0 held becomes zeros.  Raise `Misuse` when it does not fit."""
        raw = _raw(image)
        if len(raw) > self.track_size:
            raise Misuse(_WRITE, str(self.path), cause=f"{len(raw)} bytes do not fit into a track")
        try:
            self._seek(image.cylinder * self.heads + image.head)
            self._file.write(raw)
        except OSError as error:
            raise from_oserror(error, _WRITE, str(self.path)) from error

    def flush(self) -> None:
        """Write what is buffered.  Raise the class for the errno."""
        try:
            self._file.flush()
        except OSError as error:
            raise from_oserror(error, _WRITE, str(self.path)) from error

    def _seek(self, track: int) -> tuple[int, int]:
        if not 0 <= track < self.tracks:
            raise Misuse("find track", f"{self.path} {track}", cause=f"it has tracks 0 to {self.tracks - 1}")
        self._file.seek(_HEADER.size + track * self.track_size)
        return divmod(track, self.heads)

    def close(self) -> None:
        """Write what is buffered and close the file.  Raise the class for the errno."""
        try:
            self._file.close()
        except OSError as error:
            raise from_oserror(error, _WRITE, str(self.path)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _raw(image: TrackImage) -> bytes:
    """A track as an image has it."""
    zero = Count(image.cylinder & 0xFFFF, image.head, 0, 0, COUNT_SIZE).to_bytes() + bytes(COUNT_SIZE)
    records = b"".join(record.to_bytes() for record in image.records)
    return _HOME.pack(0, image.cylinder & 0xFFFF, image.head) + zero + records + END_OF_TRACK
