"""Vital product data of a PCI function (VPD), read: who made it, which part and which serial number it is.

::

    82 length (16) | name                              a string
    90 length (16) | key (2 letters) length (8) value  read-only fields; RV is a checksum of all up to it
    91 length (16) | ...                               fields that can be written; RW is what is left
    78                                                 the end

Lengths are little-endian.  Source: PCI Local Bus Specification, 3.0, appendix I.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pyvfio.errors import MalformedAnswer

__all__ = ["ProductData"]

_NAME, _READ_ONLY, _WRITABLE, _END = 0x82, 0x90, 0x91, 0x78
_LARGE, _LARGE_HEADER, _SMALL_LENGTH, _FIELD_HEADER = 0x80, 3, 0x07, 3
_CHECKSUM: Final = "RV"
_WHAT: Final = "read vital product data"


@dataclass(frozen=True, slots=True)
class ProductData:
    """The `name`, and the fields by their keys (``PN`` part number, ``EC`` engineering change, ``SN`` serial number).

    `writable` are those of the part that can be written, if there is one.  `sound`: the checksum is right; None: there
    is none.
    """

    name: str = ""
    fields: dict[str, bytes] = field(default_factory=dict)
    writable: dict[str, bytes] = field(default_factory=dict)
    sound: bool | None = None

    @classmethod
    def parse(cls, data: bytes, device: str = "") -> ProductData:
        """Read the bytes of the sysfs file ``vpd``.  Raise `MalformedAnswer` for what is none."""
        name, sound = "", None
        found: dict[int, dict[str, bytes]] = {_READ_ONLY: {}, _WRITABLE: {}}
        at = 0
        while at < len(data) and data[at] != _END:
            if data[at] & _LARGE:
                start = at + _LARGE_HEADER
                end = start + int.from_bytes(data[at + 1 : start], "little")
            else:
                start = at + 1
                end = start + (data[at] & _SMALL_LENGTH)
            if end > len(data):
                raise MalformedAnswer(_WHAT, device, f"the item at {at:#x} goes beyond the {len(data)} bytes that came")
            if data[at] == _NAME:
                name = data[start:end].rstrip(b"\0 ").decode("ascii", "replace")
            elif data[at] in found:
                for key, value, place in _fields(data, start, end, device):
                    if key == _CHECKSUM:
                        sound = not sum(data[: place + 1]) & 0xFF
                    else:
                        found[data[at]][key] = value
            elif not at:
                raise MalformedAnswer(_WHAT, device, f"it begins with {data[0]:#04x}, which is no name and no fields")
            at = end
        return cls(name, found[_READ_ONLY], found[_WRITABLE], sound)

    def __str__(self) -> str:
        texts = [f"{key} {value.decode('ascii', 'replace').rstrip()}" for key, value in self.fields.items()]
        wrong = ["checksum wrong"] if self.sound is False else []
        return ", ".join([*([self.name] if self.name else []), *texts, *wrong])


def _fields(data: bytes, start: int, end: int, device: str) -> Iterator[tuple[str, bytes, int]]:
    """Key, value and where the value begins."""
    while start + _FIELD_HEADER <= end:
        value = start + _FIELD_HEADER
        length = data[start + 2]
        if value + length > end:
            raise MalformedAnswer(_WHAT, device, f"the field at {start:#x} goes beyond its part")
        yield data[start : start + 2].decode("ascii", "replace"), data[value : value + length], value
        start = value + length
