"""Disks in files: the public uncompressed CKD image format, as Hercules' ``dasdinit`` makes it.

::

      0            8         12        16     17      18      20            512
     +------------+---------+---------+------+-------+-------+-------------+-----------------------
     | "CKD_P370" |  heads  | track   | type | file  | high  |  zeros      | track 0, track 1, ...
     |            |         |  size   |      |       |  cyl. |             | (track size bytes each)
     +------------+---------+---------+------+-------+-------+-------------+-----------------------
     (8, 4, 4, 1, 1, 2 and 492 bytes; numbers are little-endian; type is 80 for 3380, 90 for 3390)

An image in several files (``dasdinit`` splits at 2 GiB unless told ``-lfs``) is named ``NAME_1.EXT``, ``NAME_2.EXT``,
..., ``NAME_9.EXT``, ``NAME_A.EXT``, ...; each has the header with its number in `file`, and all but the last the
highest cylinder they hold.
Source: Hercules, "Compressed Dasd Emulation" (CKD_DEVHDR); files made by Debian's package ``hercules``.

Files are opened for each access and closed again: an image that is not used costs no memory and no descriptor.  A
write that fails half way (no room, an I/O error) puts back what was there.
"""

from __future__ import annotations

import contextlib
import errno
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.devices.ckd_models import DEVICES, MODELS, Device
from pyvfio_backends.software.hardware.devices.ckd_track import BadTrack, Track, empty_track

__all__ = ["BadImage", "CkdImage", "create_image"]

_MAGIC: Final = b"CKD_P370"
_OTHER_FORMATS: Final = {
    b"CKD_C370": "it is a compressed image (CCKD)",
    b"CKD_S370": "it is a shadow file of a compressed image",
    b"FBA_C370": "it is a compressed image of a fixed-block disk",
}
_HEADER = struct.Struct("<8sIIBBH492x")
_HEADER_SIZE: Final = _HEADER.size
_MOST_CYLINDERS: Final = 65520
_SUFFIXES: Final = "123456789ABCDEFGHIJKLMNOPQR"
_CONVERT: Final = "unpack it with Hercules' cckd2ckd -lfs"


class BadImage(Misuse):
    """A file is not a disk or tape image that can be used; the cause says why and, for a damaged track, which."""


@dataclass(frozen=True, slots=True)
class _Piece:
    path: Path
    first: int
    cylinders: int


class CkdImage:
    """An image in `path` (of a split one: its first file), whose tracks are read and written in place.

    `device` is the type of disk, `cylinders` and `heads` its geometry.  Raise `BadImage`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._pieces: list[_Piece] = []
        self.track_size = self.heads = 0
        self.device: Device = DEVICES[0x3390]
        self.cylinders = 0
        number, current = 1, self.path
        while self._add(current, number):
            number += 1
            current = self._sibling(current, number)

    def _bad(self, cause: str, path: Path | None = None, next_step: str = "") -> BadImage:
        return BadImage("open disk image", str(path or self.path), cause=cause, next_step=next_step)

    def _sibling(self, path: Path, number: int) -> Path:
        stem, underscore, digit = path.stem.rpartition("_")
        if not underscore or digit != _SUFFIXES[number - 2]:
            raise self._bad("it is the first of several files, but its name does not end in _1", path)
        if number > len(_SUFFIXES):
            raise self._bad(f"more files than {len(_SUFFIXES)} follow", path)
        return path.with_name(f"{stem}_{_SUFFIXES[number - 1]}{path.suffix}")

    def _add(self, path: Path, number: int) -> bool:
        """Check a file's header and size; say whether another file follows."""
        try:
            with path.open("rb") as file:
                raw = file.read(_HEADER_SIZE)
                size = file.seek(0, 2) - _HEADER_SIZE
        except OSError as error:
            raise self._bad(error.strerror or str(error), path) from error
        if raw[:8] in _OTHER_FORMATS:
            raise self._bad(_OTHER_FORMATS[raw[:8]], path, _CONVERT)
        if len(raw) < _HEADER_SIZE or raw[:8] != _MAGIC:
            raise self._bad("it has no header of a CKD image (CKD_P370)", path)
        _, heads, track_size, code, sequence, high = _HEADER.unpack(raw)
        device = next((device for device in DEVICES.values() if device.code == code), None)
        if device is None:
            raise self._bad(f"its disk has type code {code:02x}, not 3390 (90) or 3380 (80)", path)
        if (heads, track_size) != (device.heads, device.track_size):
            wanted = f"{device.heads} and {device.track_size}"
            raise self._bad(f"it has {heads} heads and {track_size} bytes a track, a {device.type:x} {wanted}", path)
        if self._pieces and device is not self.device:
            raise self._bad("it is of another type of disk than the first file", path)
        split = bool(high) or number > 1
        if sequence != (number if split else 0) and (split or sequence > 1):
            raise self._bad(f"it is number {sequence} of several files, wanted was {number}", path)
        cylinders, rest = divmod(size, heads * track_size)
        if rest or not cylinders:
            raise self._bad(f"it ends within a cylinder, after {size} bytes of tracks", path)
        first = self.cylinders
        if high and first + cylinders != high + 1:
            raise self._bad(f"it holds cylinders {first} to {first + cylinders - 1}, its header says to {high}", path)
        self.device, self.heads, self.track_size = device, heads, track_size
        self.cylinders = first + cylinders
        if self.cylinders > _MOST_CYLINDERS:
            raise self._bad(f"it has {self.cylinders} cylinders; {_MOST_CYLINDERS} can be addressed", path)
        self._pieces.append(_Piece(path, first, cylinders))
        return bool(high)

    def _place(self, cylinder: int, head: int) -> tuple[Path, int]:
        if not (0 <= cylinder < self.cylinders and 0 <= head < self.heads):
            raise Misuse("find track", f"{self.path} cylinder {cylinder} head {head}", cause="there is no such track")
        piece = next(piece for piece in reversed(self._pieces) if piece.first <= cylinder)
        return piece.path, _HEADER_SIZE + ((cylinder - piece.first) * self.heads + head) * self.track_size

    def read_raw(self, cylinder: int, head: int) -> bytes:
        """The bytes of a track, `track_size` of them.  Raise OSError, `Misuse` when there is no such track."""
        path, offset = self._place(cylinder, head)
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            return file.read(self.track_size)

    def read(self, cylinder: int, head: int) -> Track:
        """A track.  Raise `BadTrack`, OSError, `Misuse` when there is no such track."""
        return Track.from_bytes(self.read_raw(cylinder, head), cylinder, head)

    def write(self, track: Track, only: int | None = None) -> None:
        """Write a track in place; `only` names the one record that differs from what is there, and not in length.

        Raise OSError, `Misuse` when it does not fit or there is no such track.
        """
        path, offset = self._place(track.cylinder, track.head)
        if track.size > self.track_size:
            raise Misuse("write track", str(path), cause=f"{track.size} bytes do not fit into {self.track_size}")
        raw = track.to_bytes() if only is None else track.records[only].to_bytes()
        offset += 0 if only is None else track.offset(only)
        with path.open("r+b", buffering=0) as file:
            if file.seek(0, 2) < offset + len(raw):
                raise OSError(errno.EIO, "the image has become shorter", str(path))
            _overwrite(file, offset, raw)

    def check(self) -> None:
        """Read all tracks.  Raise `BadImage` for the first that is none."""
        for cylinder in range(self.cylinders):
            for head in range(self.heads):
                try:
                    self.read(cylinder, head)
                except BadTrack as error:
                    raise self._bad(f"the track at cylinder {cylinder} head {head} is damaged: {error}") from error
                except OSError as error:
                    raise self._bad(error.strerror or str(error)) from error

    def __str__(self) -> str:
        return f"image {self.path} of a {self.device.type:x} with {self.cylinders} cylinders"


def _overwrite(file: FileIO, offset: int, raw: bytes) -> None:
    """Write all of `raw`, or raise OSError and put back what was there."""
    file.seek(offset)
    before = file.read(len(raw))
    done = 0
    try:
        while done < len(raw):
            file.seek(offset + done)
            done += file.write(raw[done:])
    except OSError:
        with contextlib.suppress(OSError):
            file.seek(offset)
            file.write(before[:done])
        raise


def create_image(path: str | Path, model: str, cylinders: int = 0, tracks: Iterable[Track] = ()) -> CkdImage:
    """Make the image of a disk of `model` (``3390-3``), or of that type with so many `cylinders`, and open it.

    Tracks have R0 only, but for those given.  It is one sparse file, of any size; a file in the way is not touched.
    Raise `BadImage`, `Misuse`.
    """
    if model not in MODELS:
        raise Misuse("create disk image", str(path), cause=f"no model {model!r}; there is {', '.join(MODELS)}")
    device, count = DEVICES[MODELS[model].type], cylinders or MODELS[model].cylinders
    if not 1 <= count <= _MOST_CYLINDERS:
        raise Misuse(
            "create disk image", str(path), cause=f"{count} cylinders: 1 to {_MOST_CYLINDERS} can be addressed"
        )
    try:
        with Path(path).open("xb") as file:
            file.write(_HEADER.pack(_MAGIC, device.heads, device.track_size, device.code, 0, 0))
            for number in range(count * device.heads):
                file.seek(_HEADER_SIZE + number * device.track_size)
                file.write(empty_track(*divmod(number, device.heads)).to_bytes())
            file.truncate(_HEADER_SIZE + count * device.heads * device.track_size)
    except OSError as error:
        raise BadImage("create disk image", str(path), cause=error.strerror or str(error)) from error
    image = CkdImage(path)
    for track in tracks:
        image.write(track)
    return image
