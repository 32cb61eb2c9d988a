"""Channel paths as sysfs shows them (``/sys/devices/cssN/chpN.XX``), and ranges of them as s390-tools write them.

Source: ``drivers/s390/cio/chp.c``; the manual pages of ``lschp`` and ``chchp`` (s390-tools).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pyvfio.errors import BadAddress
from pyvfio.sysfs import Sysfs

__all__ = ["ChannelPath", "ChannelPathId", "channel_paths", "parse_channel_paths", "read_channel_path"]

_ROOT = "/sys/devices"
_NAME = re.compile(r"chp([0-9a-f]{1,2})\.([0-9a-f]{2})\Z")
_TEXT = re.compile(r"(?:([0-9a-fA-F]{1,2})\.)?([0-9a-fA-F]{1,2})\Z")


@dataclass(frozen=True, order=True, slots=True)
class ChannelPathId:
    """A channel path of a channel-subsystem image: both numbers have 8 bits.

    >>> str(ChannelPathId.parse("4b")), str(ChannelPathId.parse("0.4B"))
    ('0.4b', '0.4b')
    """

    cssid: int
    chpid: int

    @classmethod
    def parse(cls, text: str) -> ChannelPathId:
        """Read ``c.xx``, or ``xx`` of image 0.  Raise `BadAddress`."""
        match = _TEXT.match(text.strip())
        if match is None:
            raise BadAddress(text, "a channel path is written as 0.4b, or 4b")
        return cls(int(match[1] or "0", 16), int(match[2], 16))

    @property
    def path(self) -> str:
        """Its directory in sysfs."""
        return f"{_ROOT}/css{self.cssid:x}/chp{self.cssid:x}.{self.chpid:02x}"

    def __str__(self) -> str:
        return f"{self.cssid:x}.{self.chpid:02x}"


@dataclass(frozen=True, slots=True)
class ChannelPath:
    """What sysfs shows of a path: `online` unless it is varied off; everything else is None where it is not told.

    `configured` is 0 standby, 1 configured, 2 reserved, 3 not recognised; `type`, measurement group `cmg` and `shared`
    are numbers, `chid` the id of the channel, `external` whether that is a physical one.
    """

    id: ChannelPathId
    online: bool
    configured: int | None
    type: int | None
    cmg: int | None
    shared: bool | None
    chid: int | None
    external: bool | None

    def as_dict(self) -> dict[str, object]:
        """Plain data, for ``--json``: numbers as sysfs writes them."""
        return {
            "chpid": str(self.id),
            "online": self.online,
            "configured": self.configured,
            "type": None if self.type is None else f"{self.type:02x}",
            "cmg": self.cmg,
            "shared": self.shared,
            "pchid": None if self.chid is None else f"{self.chid:04x}",
            "external": self.external,
        }


def _number(text: str | None, base: int) -> int | None:
    try:
        return int(text or "", base)
    except ValueError:
        return None  # "unknown", or nothing


def read_channel_path(sysfs: Sysfs, path: ChannelPathId) -> ChannelPath | None:
    """What sysfs shows of a path, None when it has no such.  Raise the class for the kernel's errno."""
    if not sysfs.exists(path.path):
        return None

    def text(name: str) -> str | None:
        return sysfs.attribute(f"{path.path}/{name}")  # None where the machine does not tell

    shared, external = _number(text("shared"), 16), _number(text("chid_external"), 16)
    return ChannelPath(
        path,
        sysfs.read_text(f"{path.path}/status") == "online",
        _number(text("configure"), 10),
        _number(text("type"), 16),
        _number(text("cmg"), 10),
        None if shared is None else bool(shared),
        _number(text("chid"), 16),
        None if external is None else bool(external),
    )


def channel_paths(sysfs: Sysfs) -> Iterator[ChannelPath]:
    """All channel paths of all images, in order."""
    found = []
    for root in sysfs.names(_ROOT):
        if re.fullmatch(r"css[0-9a-f]{1,2}", root):
            for name in sysfs.names(f"{_ROOT}/{root}"):
                match = _NAME.match(name)
                if match is not None:
                    found.append(ChannelPathId(int(match[1], 16), int(match[2], 16)))
    for one in sorted(found):
        facts = read_channel_path(sysfs, one)
        if facts is not None:
            yield facts


def parse_channel_paths(texts: Iterable[str]) -> list[tuple[ChannelPathId, bool]]:
    """Read paths and ranges of them, ``0.40,0.42-0.44``: each path, and whether it was named by itself.

    Raise `BadAddress`, also for a range that begins behind its end or reaches over images.
    """
    found: dict[ChannelPathId, bool] = {}
    for text in texts:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            low = ChannelPathId.parse(first)
            high = ChannelPathId.parse(last) if dash else low
            if low.cssid != high.cssid or low > high:
                raise BadAddress(part, "a range names two channel paths of one image, the lower one first")
            for chpid in range(low.chpid, high.chpid + 1):
                one = ChannelPathId(low.cssid, chpid)
                found[one] = found.get(one, False) or not dash
    return list(found.items())
