"""Ranges of channel addresses, as s390-tools write them: ``0.0.1234-0.0.1237,4711``.

Source: the manual pages of ``lscss`` and ``chccwdev`` (s390-tools).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pyvfio.address import DeviceNumber
from pyvfio.errors import BadAddress

__all__ = ["ChannelRanges"]

_Key = tuple[int, int, int]


def _key(text: str) -> _Key:
    address = DeviceNumber.parse(text)
    return address.cssid, address.ssid, address.number


@dataclass(frozen=True, slots=True)
class ChannelRanges:
    """Addresses and ranges of them, both ends included, in the order they were named.

    A range may reach over subchannel sets: they are ordered by css image, set and number.
    """

    spans: tuple[tuple[_Key, _Key], ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> ChannelRanges:
        """Read ranges that are separated by commas or stand in texts of their own.  Raise `BadAddress`.

        >>> "0.0.1235" in ChannelRanges.parse(["1234-0.0.1236,4711"])
        True
        """
        spans = []
        for text in texts:
            for part in text.split(","):
                first, dash, last = part.partition("-")
                low = _key(first)
                high = _key(last) if dash else low
                if low > high:
                    raise BadAddress(part, f"it begins behind its end; is {last}-{first} meant?")
                spans.append((low, high))
        return cls(tuple(spans))

    def __bool__(self) -> bool:
        return bool(self.spans)

    def __contains__(self, name: object) -> bool:
        """Whether the address called `name` (``0.0.1234``) is in one of them."""
        if not isinstance(name, str):
            return False
        cssid, ssid, number = (int(part, 16) for part in name.split("."))
        return any(low <= (cssid, ssid, number) <= high for low, high in self.spans)

    def __str__(self) -> str:
        return ",".join(_text(low) if low == high else f"{_text(low)}-{_text(high)}" for low, high in self.spans)


def _text(key: _Key) -> str:
    return str(DeviceNumber(*key))
