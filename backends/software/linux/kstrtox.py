"""Numbers and words in what is written to an attribute (``lib/kstrtox.c``)."""

from __future__ import annotations

import errno
import re

from pyvfio_backends.software.linux.vfs import fail

__all__ = ["kstrtobool", "kstrtoul"]

_DIGITS = {
    8: re.compile(rb"\+?([0-7]+)\n?\Z"),
    10: re.compile(rb"\+?([0-9]+)\n?\Z"),
    16: re.compile(rb"\+?(?:0[xX](?=[0-9a-fA-F]))?([0-9a-fA-F]+)\n?\Z"),
}
_LIMIT = 1 << 64


def kstrtoul(data: bytes, base: int) -> int:
    """Read an unsigned long; one newline may follow.  Base 0 takes the prefixes 0x and 0.

    Raise OSError EINVAL for anything else, ERANGE for too large a number.
    """
    text = data.split(b"\0")[0]
    if base == 0:
        digits = text.removeprefix(b"+")
        base = 16 if digits[:2].lower() == b"0x" else 8 if digits[:1] == b"0" else 10
    match = _DIGITS[base].match(text)
    if match is None:
        raise fail(errno.EINVAL)
    value = int(match[1], base)
    if value >= _LIMIT:
        raise fail(errno.ERANGE)
    return value


def kstrtobool(data: bytes) -> bool:
    """Read a switch: y, t, 1 or on; n, f, 0 or off; what follows the first letters does not count.

    Raise OSError EINVAL for anything else.
    """
    word = data.split(b"\0")[0][:2].lower()
    if word[:1] in (b"y", b"t", b"1") or word == b"on":
        return True
    if word[:1] in (b"n", b"f", b"0") or word == b"of":
        return False
    raise fail(errno.EINVAL)
