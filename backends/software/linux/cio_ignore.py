"""The devices that Linux leaves alone: ``/proc/cio_ignore`` and the parameter ``cio_ignore=``.

::

    write           add LIST | free LIST | purge
    LIST            ITEM[,ITEM]...
    ITEM            [!]all | [!]ipldev | [!]condev | [!]DEVICE | [!]DEVICE-DEVICE
    DEVICE          0.S.NNNN, or the number alone (set 0)

An item with ``!`` means the opposite of the word.  Items that are right take effect even when another is not.
Source: ``drivers/s390/cio/blacklist.c``.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator

from pyvfio_backends.software.linux.file import File, SeekableFile
from pyvfio_backends.software.linux.nodes import Node, fail

__all__ = ["CioIgnoreFile", "CioSettleFile", "IgnoredDevices"]

_SETS = 4
_NUMBERS = 1 << 16
_MOST = 1 << 16
"""The bytes of a write that count."""
_SPACE = b" \t\n\v\f\r\xa0\0"
_OLD = re.compile(r"(?:0[xX])?([0-9a-fA-F]*)\Z")
_NEW = re.compile(r"(0{1,2})\.([0-3])\.([0-9a-fA-F]{4})\Z")
_RANGE = re.compile(rb"\x01+")
_NOTHING_TO_NAME = ("ipldev", "condev")
"""The device that the kernel was loaded from and the console's, which none of this machine is."""

_Place = tuple[int, int]


class IgnoredDevices:
    """The device numbers of each subchannel set that are ignored."""

    def __init__(self) -> None:
        self._sets: dict[int, bytearray] = {}

    def __contains__(self, place: object) -> bool:
        if not self._sets or not isinstance(place, tuple):
            return False
        ssid, devno = place
        numbers = self._sets.get(ssid)
        return numbers is not None and bool(numbers[devno])

    def __bool__(self) -> bool:
        return any(any(numbers) for numbers in self._sets.values())

    def copy(self) -> IgnoredDevices:
        """The same devices, for keeping."""
        other = IgnoredDevices()
        other._sets = {ssid: bytearray(numbers) for ssid, numbers in self._sets.items()}
        return other

    def parse(self, text: str, *, add: bool) -> bool:
        """Add (or free) the devices of a list; whether every item was right."""
        good = True
        for item in text.split(","):
            wanted = add
            if item.startswith("!"):
                wanted, item = not add, item[1:]
            if item in _NOTHING_TO_NAME:
                continue
            places = ((0, 0), (_SETS - 1, _NUMBERS - 1)) if item == "all" else _places(item)
            if places is None or places[0] > places[1]:
                good = False
            else:
                self._mark(*places, ignored=wanted)
        return good

    def _mark(self, first: _Place, last: _Place, *, ignored: bool) -> None:
        for ssid in range(first[0], last[0] + 1):
            start = first[1] if ssid == first[0] else 0
            end = last[1] + 1 if ssid == last[0] else _NUMBERS
            numbers = self._sets.setdefault(ssid, bytearray(_NUMBERS))
            numbers[start:end] = bytes([ignored]) * (end - start)

    def lines(self) -> Iterator[str]:
        """What the file shows: a device or a range a line, no range over the end of a set."""
        for ssid in sorted(self._sets):
            for match in _RANGE.finditer(self._sets[ssid]):
                first, last = match.start(), match.end() - 1
                name = f"0.{ssid:x}.{first:04x}"
                yield name if first == last else f"{name}-0.{ssid:x}.{last:04x}"


def _places(item: str) -> tuple[_Place, _Place] | None:
    first, dash, last = item.partition("-")
    one = _place(first)
    other = _place(last) if dash else one
    return None if one is None or other is None else (one, other)


def _place(text: str) -> _Place | None:
    """A device's set and number; None for what is no device (``parse_busid``)."""
    if not text:
        return None
    old = _OLD.match(text)
    if old is not None:
        number = int(old[1] or "0", 16)  # "0x" alone is read as zero
        return (0, number) if number < _NUMBERS else None
    new = _NEW.match(text)
    return None if new is None else (int(new[2]), int(new[3], 16))


class _ProcNode(Node):
    """A file of ``/proc``, which root opens as it likes."""

    __slots__ = ()
    size = 0


class CioIgnoreFile(_ProcNode):
    """``/proc/cio_ignore``; `freed` is called after devices were freed, `purge` by that word."""

    __slots__ = ("freed", "ignored", "purge")
    st_mode = stat.S_IFREG | 0o644

    def __init__(self, ignored: IgnoredDevices, freed: Callable[[], None], purge: Callable[[], None]) -> None:
        self.ignored = ignored
        self.freed = freed
        self.purge = purge

    def open(self, path: str, flags: int) -> File:
        """See `Node.open`."""
        return _OpenCioIgnore(self)

    def store(self, data: bytes) -> None:
        """Do what was written.  Raise OSError EINVAL."""
        text = data.split(b"\0")[0].rstrip(_SPACE).decode("latin-1")
        word, blank, rest = text.partition(" ")
        if word == "purge":
            self.purge()
            return
        if word not in ("add", "free"):
            raise fail(errno.EINVAL)
        good = not blank or self.ignored.parse(rest, add=word == "add")
        if word == "free":
            self.freed()
        if not good:
            raise fail(errno.EINVAL)


class _OpenCioIgnore(SeekableFile):
    """A ``seq_file``: the text is made at offset 0; a write does not move the position and has to be at 0."""

    __slots__ = ("_node", "_text")
    pwrite_when_read_only = errno.ESPIPE

    def __init__(self, node: CioIgnoreFile) -> None:
        super().__init__()
        self._node = node
        self._text = b""

    def pread(self, n: int, offset: int) -> bytes:
        if offset == 0 or not self._text:
            self._text = "".join(f"{line}\n" for line in self._node.ignored.lines()).encode()
        return self._text[offset : offset + n]

    def write(self, data: bytes) -> int:
        if self.position:
            raise fail(errno.EINVAL)
        data = data[:_MOST]
        self._node.store(data)
        return len(data)

    def pwrite(self, data: bytes, offset: int) -> int:
        raise fail(errno.ESPIPE)  # seq_open takes FMODE_PWRITE away

    def fsync(self) -> None:
        raise fail(errno.EINVAL)


class CioSettleFile(_ProcNode):
    """``/proc/cio_settle``: a write waits until channel reports and the search for devices are done."""

    __slots__ = ("settle",)
    st_mode = stat.S_IFREG | 0o200

    def __init__(self, settle: Callable[[], None]) -> None:
        self.settle = settle

    def open(self, path: str, flags: int) -> File:
        """See `Node.open`."""
        return _OpenCioSettle(self)


class _OpenCioSettle(File):
    __slots__ = ("_node",)
    pwrite_when_read_only = errno.ESPIPE
    lasting = True

    def __init__(self, node: CioSettleFile) -> None:
        self._node = node

    def read(self, n: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def pread(self, n: int, offset: int) -> bytes:
        raise OSError(errno.ESPIPE, os.strerror(errno.ESPIPE))

    def write(self, data: bytes) -> int:
        if data:
            self._node.settle()
        return len(data)

    def pwrite(self, data: bytes, offset: int) -> int:
        raise fail(errno.ESPIPE)
