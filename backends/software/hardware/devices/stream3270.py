"""The 3270 data stream: what a program writes to a screen, and what the screen sends.

====  ===========================  ==============================================================================
byte  order                        followed by
====  ===========================  ==============================================================================
05    program tab
08    graphic escape               a character
11    set buffer address           2 bytes of address
12    erase unprotected to         2 bytes of address
13    insert cursor
1D    start field                  an attribute
28    set attribute                type, value (accepted, not shown)
29    start field extended         a count, and so many times type, value; type C0 is the attribute
2C    modify field                 the same
3C    repeat to address            2 bytes of address, a character
====  ===========================  ==============================================================================

An address is 12 bits, six in each byte (bits 0-1 of the first are not 00), or 14 bits (they are).  A write begins with
the control character: bit 4 alarm, 6 restore the keyboard, 7 reset the modified bits.

WRITE STRUCTURED FIELD knows 01 read partition (02 query, 03 query list), 03 erase/reset, 09 set reply mode (field
only), 40 outbound 3270 data stream.  Query replies: 80 summary, 81 usable area, 88 reply modes, A6 implicit partitions,
FF none of those asked for.
Sources: "3270 Information Display System: Data Stream Programmer's Reference" GA23-0059;
``drivers/s390/char/raw3270.c`` (struct raw3270_ua), ``arch/s390/include/uapi/asm/raw3270.h``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from pyvfio_backends.software.hardware.devices.screen3270 import AIDS, Screen

__all__ = ["BadStream", "DataStream", "decode_address", "encode_address"]

_PT, _GE, _SBA, _EUA, _IC, _SF, _SA, _SFE, _MF, _RA = 0x05, 0x08, 0x11, 0x12, 0x13, 0x1D, 0x28, 0x29, 0x2C, 0x3C
_ATTRIBUTE_TYPE: Final = 0xC0
_ALARM, _RESTORE, _RESET_MODIFIED = 0x04, 0x02, 0x01
_WRITES: Final = {0xF1: None, 0xF5: False, 0x7E: True}
_ERASE_UNPROTECTED: Final = 0x6F
_READ_PARTITION, _ERASE_RESET, _SET_REPLY_MODE, _OUTBOUND = 0x01, 0x03, 0x09, 0x40
_QUERY, _QUERY_LIST = 0x02, 0x03
_WHOLE_SCREEN, _QUERY_PARTITION = 0x00, 0xFF
_ALTERNATE: Final = 0x80
_REPLY, _STRUCTURED_FIELD = 0x81, 0x88
_ALL_REPLIES: Final = 0xC0
_NULL_REPLY: Final = 0xFF
_SUMMARY, _USABLE_AREA, _REPLY_MODES, _PARTITIONS = 0x80, 0x81, 0x88, 0xA6
_SHORT_READS: Final = frozenset((AIDS["CLEAR"], AIDS["PA1"], AIDS["PA2"], AIDS["PA3"]))
#: The six bits of an address as the graphic character that stands for them.
_CODES: Final = bytes.fromhex(
    "40c1c2c3c4c5c6c7c8c94a4b4c4d4e4f50d1d2d3d4d5d6d7d8d95a5b5c5d5e5f"
    "6061e2e3e4e5e6e7e8e96a6b6c6d6e6ff0f1f2f3f4f5f6f7f8f97a7b7c7d7e7f"
)
_TWELVE_BITS: Final = 1 << 12


class BadStream(Exception):
    """The stream is none that the screen can follow: operation check.  It never leaves the control unit."""


def encode_address(position: int) -> bytes:
    """The two bytes of a buffer address."""
    if position >= _TWELVE_BITS:
        return position.to_bytes(2, "big")
    return bytes([_CODES[position >> 6], _CODES[position & 0x3F]])


def decode_address(raw: bytes) -> int:
    """The buffer address in two bytes."""
    if raw[0] & 0xC0:
        return (raw[0] & 0x3F) << 6 | raw[1] & 0x3F
    return int.from_bytes(raw, "big")


class DataStream:
    """Writes to `screen` and makes what it sends; `default` and `alternate` are its sizes (rows, columns).

    With `answers` off it leaves queries without an answer, as a plain terminal emulation does.  `alarms` counts the
    alarms, `reply` is the answer to a query that waits to be read.
    """

    def __init__(
        self, screen: Screen, default: tuple[int, int], alternate: tuple[int, int], *, answers: bool = True
    ) -> None:
        self.screen = screen
        self._answers = answers
        self.alarms = 0
        self.reply = b""
        self._sizes = (default, alternate)

    # -- inbound: from the screen --------------------------------------------------------------------------------

    def _head(self) -> bytes:
        return bytes([self.screen.aid]) + encode_address(self.screen.cursor)

    def read_buffer(self) -> bytes:
        """The whole buffer: attributes as orders, characters with nulls."""
        screen = self.screen
        body = bytearray()
        for position in range(screen.size):
            attribute = screen.attributes.get(position)
            body += bytes([screen.characters[position]] if attribute is None else [_SF, _CODES[attribute & 0x3F]])
        return self._head() + bytes(body)

    def read_modified(self, *, everything: bool = False) -> bytes:
        """The modified fields; only which key it was for a PA key and CLEAR, unless `everything`."""
        if self.reply:
            reply, self.reply = self.reply, b""
            return reply
        screen = self.screen
        if screen.aid in _SHORT_READS and not everything:
            return bytes([screen.aid])
        if not screen.attributes:
            return self._head() + screen.all_characters()
        fields = (bytes([_SBA]) + encode_address(at) + data for at, data in screen.modified_fields())
        return self._head() + b"".join(fields)

    # -- outbound: to the screen ---------------------------------------------------------------------------------

    def write(self, data: bytes, *, erase: bool | None = None) -> None:
        """WRITE; ERASE/WRITE when `erase` is not None (True: to the alternate size).  Raise `BadStream`."""
        screen = self.screen
        if erase is not None:
            screen.resize(*self._sizes[erase])
        if not data:
            return
        control = data[0]
        if control & _RESET_MODIFIED:
            screen.reset_modified()
        _Writer(screen, data[1:]).run()
        if control & _RESTORE:
            screen.restore()
        self.alarms += bool(control & _ALARM)

    def erase_unprotected(self) -> None:
        """ERASE ALL UNPROTECTED."""
        self.screen.erase_unprotected()
        self.screen.restore()

    def write_structured(self, data: bytes) -> bool:
        """WRITE STRUCTURED FIELD; say whether an answer now waits.  Raise `BadStream`."""
        while len(data) >= 3:
            length = int.from_bytes(data[:2], "big") or len(data)
            if length < 3 or length > len(data):
                raise BadStream
            self._field(data[2], data[3:length])
            data = data[length:]
        if any(data):
            raise BadStream
        return bool(self.reply)

    def _field(self, kind: int, body: bytes) -> None:
        if kind == _READ_PARTITION and len(body) >= 2 and body[0] == _QUERY_PARTITION:
            self._query(body[1], body[2:])
        elif kind == _ERASE_RESET and len(body) == 1:
            self.screen.resize(*self._sizes[bool(body[0] & _ALTERNATE)])
        elif kind == _SET_REPLY_MODE and body[:2] == b"\0\0":
            return
        elif kind == _OUTBOUND and len(body) >= 2 and body[0] == _WHOLE_SCREEN:
            if body[1] in _WRITES:
                self.write(body[2:], erase=_WRITES[body[1]])
            elif body[1] == _ERASE_UNPROTECTED:
                self.erase_unprotected()
            else:
                raise BadStream
        else:
            raise BadStream

    def _query(self, kind: int, rest: bytes) -> None:
        replies = self._replies()
        if kind == _QUERY:
            wanted = list(replies)
        elif kind == _QUERY_LIST and rest:
            wanted = [code for code in replies if rest[0] & _ALL_REPLIES or code in rest[1:]]
        else:
            raise BadStream
        fields = [struct.pack(">HBB", len(replies[code]) + 4, _REPLY, code) + replies[code] for code in wanted]
        if not self._answers:
            return
        self.reply = bytes([_STRUCTURED_FIELD]) + b"".join(fields or [struct.pack(">HBB", 4, _REPLY, _NULL_REPLY)])

    def _replies(self) -> dict[int, bytes]:
        (rows, columns), alternate = self._sizes
        largest_rows, largest_columns = max(self._sizes)
        area = struct.pack(
            ">BBHHBIIBBH",
            0x01,  # 12- and 14-bit addresses
            0x00,
            largest_columns,
            largest_rows,
            0x00,  # inches
            0x00000001,
            0x00000001,
            9,
            12,
            largest_rows * largest_columns,
        )
        sizes = struct.pack(">BBBBBHHHH", 0, 0, 11, 1, 0, columns, rows, alternate[1], alternate[0])
        return {
            _SUMMARY: bytes([_SUMMARY, _USABLE_AREA, _REPLY_MODES, _PARTITIONS]),
            _USABLE_AREA: area,
            _REPLY_MODES: b"\0",
            _PARTITIONS: sizes,
        }

    def __str__(self) -> str:
        return f"data stream of a {self.screen}"


class _Writer:
    """One write: the orders and characters of `data`, from the cursor on."""

    def __init__(self, screen: Screen, data: bytes) -> None:
        self._screen = screen
        self._data = data
        self._at = 0
        self._position = screen.cursor
        self._after_text = False
        self._orders: dict[int, Callable[[], None]] = {
            _PT: self._program_tab,
            _GE: self._graphic_escape,
            _SBA: self._set_address,
            _EUA: self._erase_unprotected_to,
            _IC: self._insert_cursor,
            _SF: self._start_field,
            _SA: self._set_attribute,
            _SFE: self._start_field_extended,
            _MF: self._modify_field,
            _RA: self._repeat,
        }

    def run(self) -> None:
        while self._at < len(self._data):
            byte = self._take(1)[0]
            order = self._orders.get(byte)
            if order is not None:
                order()
            else:
                self._put(byte)
            self._after_text = order is None

    def _take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise BadStream
        self._at += count
        return taken

    def _address(self) -> int:
        position = decode_address(self._take(2))
        if position >= self._screen.size:
            raise BadStream
        return position

    def _put(self, character: int) -> None:
        self._screen.put(self._position, character)
        self._position = (self._position + 1) % self._screen.size

    def _until(self, end: int) -> list[int]:
        """The positions from here to before `end`, all of them when it is here; the position is then there."""
        size, start = self._screen.size, self._position
        count = (end - start) % size or size
        self._position = end
        return [(start + step) % size for step in range(count)]

    def _program_tab(self) -> None:
        screen = self._screen
        if self._after_text and screen.attributes:
            while self._position not in screen.attributes and not screen.protected(self._position):
                self._put(0)
                if not self._position:
                    return  # it does not go on over the end
        following = screen.next_unprotected(self._position)
        self._position = following if following is not None and following > self._position else 0

    def _graphic_escape(self) -> None:
        self._put(self._take(1)[0])

    def _set_address(self) -> None:
        self._position = self._address()

    def _erase_unprotected_to(self) -> None:
        for position in self._until(self._address()):
            if not self._screen.protected(position):
                self._screen.characters[position] = 0

    def _insert_cursor(self) -> None:
        self._screen.cursor = self._position

    def _begin_field(self, attribute: int) -> None:
        self._screen.begin_field(self._position, attribute & 0x3F)
        self._position = (self._position + 1) % self._screen.size

    def _start_field(self) -> None:
        self._begin_field(self._take(1)[0])

    def _pairs(self) -> dict[int, int]:
        raw = self._take(2 * self._take(1)[0])
        return dict(zip(raw[::2], raw[1::2], strict=True))

    def _start_field_extended(self) -> None:
        self._begin_field(self._pairs().get(_ATTRIBUTE_TYPE, 0))

    def _modify_field(self) -> None:
        pairs = self._pairs()
        if self._position not in self._screen.attributes:
            raise BadStream
        self._begin_field(pairs.get(_ATTRIBUTE_TYPE, self._screen.attributes[self._position]))

    def _set_attribute(self) -> None:
        self._take(2)

    def _repeat(self) -> None:
        end = self._address()
        character = self._take(1)[0]
        if character == _GE:
            character = self._take(1)[0]
        for position in self._until(end):
            self._screen.put(position, character)
