"""The header of a transaction layer packet, as the header log of AER keeps it: four words, the first byte first::

          0              1              2              3
    +0   | fmt (3) type (5) | TC, attributes | TD EP attr AT, length (10, of words)
    +4   | requester id                | tag          | last, first byte enables
    +8   | address, upper 32 bits when fmt says that there are four words
    +c   | address, lower 32 bits                                    |

With 32-bit addresses the address is at +8 and the last word is 0.  Source: PCI Express Base Specification, 6.0, 2.2.
"""

from __future__ import annotations

from pyvfio_backends.software.hardware.pcie.request import Request, Space

__all__ = ["header"]

_WRITE, _FOUR_WORDS, _IO = 0x40, 0x20, 0x02
_DIGEST, _POISONED = 1 << 15, 1 << 14
_AT_SHIFT, _LENGTH_MASK = 10, 0x3FF


def header(request: Request) -> int:
    """The header of a request, as the 16 bytes of the log: a little-endian number."""
    length = request.packet or request.length
    wide = request.address >> 32 != 0
    kind = (_WRITE if request.write else 0) | (_FOUR_WORDS if wide else 0)
    kind |= _IO if request.space is Space.IO else 0
    lead = request.address % 4
    words = -(-(lead + length) // 4)
    first = 0xF << lead & 0xF
    last = 0xF >> -(lead + length) % 4
    if words == 1:
        first, last = first & last, 0
    flags = (_POISONED if request.poisoned else 0) | (0 if request.digest else _DIGEST)
    flags |= request.address_type << _AT_SHIFT if request.space is Space.MEMORY else 0
    address = request.address & ~3
    log = [
        kind << 24 | flags | words & _LENGTH_MASK,
        request.requester << 16 | last << 4 | first,
        *([address >> 32, address & 0xFFFFFFFF] if wide else [address, 0]),
    ]
    return sum(word << 32 * index for index, word in enumerate(log))
