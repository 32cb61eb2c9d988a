"""CRC-32C (Castagnoli), which `zlib` does not have; `polynomial` is reflected, as in RFC 3720 appendix B.4."""

from __future__ import annotations

__all__ = ["crc32c"]

_POLYNOMIAL = 0x82F63B78
_ONES = 0xFFFFFFFF


def _entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE = tuple(_entry(value) for value in range(256))


def crc32c(data: bytes) -> int:
    """The sum of `data`.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    value = _ONES
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ _ONES
