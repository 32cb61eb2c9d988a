"""The header of a transaction layer packet, as the header log of AER has it: four words of 32 bits.

::

          31      24 23     16 15            0
    0     fmt  type | TC  attr| TD EP .. length      fmt 0, 1: read; 2, 3: with data; 1, 3: four words; 4: a prefix
    1     requester id        | tag   | last, first byte enables
    2     address, or its upper half; of a configuration request: target, register
    3     address, lower half, where there are four words

Of a completion word 1 has the completer, a status and a byte count, and word 2 the requester, the tag and the lower
part of the address.  Source: PCI Express Base Specification, 6.0, 2.2.

>>> header = decode_header((0x40000001, 0x0D00000F, 0xFEE00000, 0))
>>> print(header)
memory write of 4 bytes at 0xfee00000 by 0d:00.0, tag 0
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TlpHeader", "decode_header", "rid_text"]

_WORDS = 4
_FORMAT_SHIFT, _TYPE_SHIFT = 29, 24
_TYPE, _FOUR, _DATA, _PREFIX = 0x1F, 1, 2, 4
_POISONED = 1 << 14
_LENGTH = 0x3FF
_MOST = 0x400
_MEMORY, _LOCKED, _IO, _CONFIG0, _CONFIG1 = 0x00, 0x01, 0x02, 0x04, 0x05
_COMPLETION, _COMPLETION_LOCKED = 0x0A, 0x0B
_ATOMICS = {0x0C: "fetch and add", 0x0D: "unconditional swap", 0x0E: "compare and swap"}
_MESSAGE = 0x10
_STATUS = {0: "success", 1: "unsupported request", 2: "request retry", 4: "completer abort"}


def rid_text(rid: int) -> str:
    """A routing id as people write it, without a domain.

    >>> rid_text(0x0801)
    '08:00.1'
    """
    return f"{rid >> 8 & 0xFF:02x}:{rid >> 3 & 0x1F:02x}.{rid & 7}"


@dataclass(frozen=True, slots=True)
class TlpHeader:
    """A packet: `kind` in words, its `words`, and what that kind has of the rest, else None.

    `length` is the length field, in bytes; `requester`, `completer` and `target` are routing ids.
    """

    words: tuple[int, int, int, int]
    kind: str
    length: int | None = None
    requester: int | None = None
    tag: int | None = None
    address: int | None = None
    target: int | None = None
    register: int | None = None
    completer: int | None = None
    status: str | None = None
    poisoned: bool = False

    def as_dict(self) -> dict[str, object]:
        """As plain data; ids as text, and nothing that the kind does not have."""
        found: dict[str, object] = {"words": [f"{word:08x}" for word in self.words], "kind": self.kind}
        for name in ("length", "tag", "address", "register", "status"):
            if getattr(self, name) is not None:
                found[name] = getattr(self, name)
        for name in ("requester", "completer", "target"):
            if getattr(self, name) is not None:
                found[name] = rid_text(getattr(self, name))
        return {**found, "poisoned": self.poisoned}

    def __str__(self) -> str:
        text = self.kind
        if self.length is not None:
            text += f" of {self.length} bytes"
        if self.address is not None:
            text += f" at {self.address:#x}"
        if self.target is not None:
            text += f" of {rid_text(self.target)}, register {self.register:#x}"
        if self.status is not None:
            text += f" ({self.status})"
        if self.completer is not None:
            text += f" by {rid_text(self.completer)}"
        if self.requester is not None:
            text += f" {'for' if self.completer is not None else 'by'} {rid_text(self.requester)}"
        if self.tag is not None:
            text += f", tag {self.tag}"
        return text + (", poisoned" if self.poisoned else "")


def decode_header(words: tuple[int, int, int, int]) -> TlpHeader | None:
    """Decode four words as they are in the log; None when all are 0: then nothing was logged."""
    if not any(words):
        return None
    first, second, third, fourth = words
    form, kind = first >> _FORMAT_SHIFT, first >> _TYPE_SHIFT & _TYPE
    if form & _PREFIX:
        return TlpHeader(words, "prefix" if form == _PREFIX else "unknown packet")
    length = 4 * ((first & _LENGTH) or _MOST)
    poisoned = bool(first & _POISONED)
    data = bool(form & _DATA)
    requester, tag = second >> 16, second >> 8 & 0xFF
    if kind in (_COMPLETION, _COMPLETION_LOCKED):
        name = "completion" if not data else "completion with data"
        return TlpHeader(
            words,
            name if kind == _COMPLETION else f"locked {name}",
            length=length if data else None,
            requester=third >> 16,
            tag=third >> 8 & 0xFF,
            completer=second >> 16,
            status=_STATUS.get(second >> 13 & 7, "reserved status"),
            poisoned=poisoned,
        )
    if kind in (_CONFIG0, _CONFIG1):
        name = f"configuration {'write' if data else 'read'} (type {kind - _CONFIG0})"
        return TlpHeader(
            words, name, None, requester, tag, target=third >> 16, register=third & 0xFFC, poisoned=poisoned
        )
    if kind >= _MESSAGE:
        return TlpHeader(words, f"message {second & 0xFF:#04x}", None, requester, tag, poisoned=poisoned)
    names = {
        _MEMORY: "memory write" if data else "memory read",
        _LOCKED: "locked memory read",
        _IO: "I/O write" if data else "I/O read",
        **_ATOMICS,
    }
    if kind not in names:
        return TlpHeader(words, f"unknown packet (type {first >> _TYPE_SHIFT:#04x})", requester=requester, tag=tag)
    address = (third << 32 | fourth) if form & _FOUR else third
    return TlpHeader(words, names[kind], length, requester, tag, address & ~3, poisoned=poisoned)
