"""The screen of a 3270: character buffer, fields, cursor, keyboard.

A position holds a character (EBCDIC, 0 is null) or a field attribute, which is shown as a blank:

    bit    0  1    2          3        4 5        6  7
         +------+-----------+--------+----------+---+----------+
         | any  | protected | numeric| display  | 0 | modified |     display 11: not shown
         +------+-----------+--------+----------+---+----------+

A field is what lies between two attributes, over the end of the buffer to its beginning.  A screen without attributes
is unformatted: all of it can be keyed in.
Source: "3270 Information Display System: Data Stream Programmer's Reference" GA23-0059.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pyvfio.errors import Misuse

__all__ = ["AIDS", "NO_AID", "Screen"]

_ENCODING: Final = "cp037"
_PROTECTED, _NUMERIC, _HIDDEN, _MODIFIED = 0x20, 0x10, 0x0C, 0x01
_NULL: Final = 0x00
_FIRST_GRAPHIC: Final = 0x40
_FIELD_MARK, _DUPLICATE = 0x1E, 0x1C
_DIGITS: Final = frozenset("0123456789.-")
NO_AID: Final = 0x60
_CLEAR, _ENTER, _SYSTEM_REQUEST = 0x6D, 0x7D, 0xF0
AIDS: Final[dict[str, int]] = {
    "ENTER": _ENTER,
    "CLEAR": _CLEAR,
    "SYSREQ": _SYSTEM_REQUEST,
    "PA1": 0x6C,
    "PA2": 0x6E,
    "PA3": 0x6B,
    **{f"PF{number}": 0xF0 + number for number in range(1, 10)},
    "PF10": 0x7A,
    "PF11": 0x7B,
    "PF12": 0x7C,
    **{f"PF{number}": 0xC0 + number - 12 for number in range(13, 22)},
    "PF22": 0x4A,
    "PF23": 0x4B,
    "PF24": 0x4C,
}
"""The keys that attract attention, with the byte that says which it was."""


class Screen:
    """A screen of `rows` lines and `columns`, empty, with the keyboard unlocked."""

    def __init__(self, rows: int, columns: int) -> None:
        self.locked = False
        self.aid = NO_AID
        self.resize(rows, columns)

    def resize(self, rows: int, columns: int) -> None:
        """Make it empty and so large."""
        self.rows, self.columns = rows, columns
        self.size = rows * columns
        self.characters = bytearray(self.size)
        self.attributes: dict[int, int] = {}
        self.cursor = 0

    def clear(self) -> None:
        """Make it empty."""
        self.resize(self.rows, self.columns)

    # -- what is on it -------------------------------------------------------------------------------------------

    def put(self, position: int, character: int) -> None:
        """Put a character, also in place of an attribute."""
        self.attributes.pop(position, None)
        self.characters[position] = character

    def begin_field(self, position: int, attribute: int) -> None:
        """Put a field attribute."""
        self.attributes[position] = attribute
        self.characters[position] = _NULL

    def field_at(self, position: int) -> int | None:
        """The position of the attribute that `position` belongs to, None on an unformatted screen."""
        if not self.attributes:
            return None
        before = [at for at in self.attributes if at <= position]
        return max(before or self.attributes)

    def attribute_at(self, position: int) -> int:
        """The attribute that holds at `position`; 0 on an unformatted screen."""
        field = self.field_at(position)
        return 0 if field is None else self.attributes[field]

    def protected(self, position: int) -> bool:
        """Whether nothing can be keyed in here."""
        return position in self.attributes or bool(self.attribute_at(position) & _PROTECTED)

    def field_positions(self, field: int) -> Iterator[int]:
        """The positions behind the attribute at `field`, to the next one."""
        position = (field + 1) % self.size
        while position not in self.attributes:
            yield position
            position = (position + 1) % self.size

    def modified_fields(self) -> list[tuple[int, bytes]]:
        """Position and characters without nulls of each field that was modified."""
        return [
            ((field + 1) % self.size, self._without_nulls(self.field_positions(field)))
            for field, attribute in sorted(self.attributes.items())
            if attribute & _MODIFIED
        ]

    def all_characters(self) -> bytes:
        """All characters without nulls, as an unformatted screen sends them."""
        return self._without_nulls(iter(range(self.size)))

    def _without_nulls(self, positions: Iterator[int]) -> bytes:
        return bytes(self.characters[at] for at in positions if self.characters[at])

    def next_unprotected(self, position: int) -> int | None:
        """The first position of the next field from `position` on that can be keyed into; None when there is none."""
        for step in range(self.size):
            at = (position + step) % self.size
            first = (at + 1) % self.size
            if at in self.attributes and not self.attributes[at] & _PROTECTED and first not in self.attributes:
                return first
        return None

    def reset_modified(self) -> None:
        """Forget which fields were modified."""
        for field in self.attributes:
            self.attributes[field] &= ~_MODIFIED

    def erase_unprotected(self) -> None:
        """Make all fields that can be keyed into empty, and put the cursor into the first."""
        for position in range(self.size):
            if not self.protected(position):
                self.characters[position] = _NULL
        for field, attribute in self.attributes.items():
            if not attribute & _PROTECTED:
                self.attributes[field] = attribute & ~_MODIFIED
        first = self.next_unprotected(0) if self.attributes else 0
        self.cursor = 0 if first is None else first

    @property
    def lines(self) -> tuple[str, ...]:
        """What a person sees, line by line, without blanks at the end of lines."""
        shown = bytearray(" ".encode(_ENCODING) * self.size)
        hidden = False
        first = min(self.attributes, default=0)
        for step in range(self.size):
            at = (first + step) % self.size
            if at in self.attributes:
                hidden = self.attributes[at] & _HIDDEN == _HIDDEN
            elif not hidden and self.characters[at] >= _FIRST_GRAPHIC:
                shown[at] = self.characters[at]
            elif not hidden and self.characters[at] in (_FIELD_MARK, _DUPLICATE):
                shown[at] = (";" if self.characters[at] == _FIELD_MARK else "*").encode(_ENCODING)[0]
        text = shown.decode(_ENCODING)
        return tuple(text[at : at + self.columns].rstrip() for at in range(0, self.size, self.columns))

    @property
    def text(self) -> str:
        """The lines as one text, without empty ones at its end."""
        return "\n".join(self.lines).rstrip("\n")

    # -- the keyboard --------------------------------------------------------------------------------------------

    def _refuse(self, what: str, cause: str) -> Misuse:
        return Misuse(what, f"3270 at row {self.cursor // self.columns + 1}", cause=cause)

    def move(self, row: int, column: int) -> None:
        """Put the cursor to a row and column, both from 1.  Raise `Misuse`."""
        if not (1 <= row <= self.rows and 1 <= column <= self.columns):
            raise self._refuse("move cursor", f"there is no row {row} column {column}")
        self.cursor = (row - 1) * self.columns + column - 1

    def tab(self) -> None:
        """Put the cursor to the beginning of the next field that can be keyed into, or to the first position."""
        self.cursor = self.next_unprotected(self.cursor) or 0

    def type(self, text: str) -> None:
        """Key in `text` at the cursor.  Raise `Misuse` when the keyboard is locked or the field is protected."""
        for letter in text:
            if self.locked:
                raise self._refuse("type", "the keyboard is locked")
            attribute, at = self.attribute_at(self.cursor), self.cursor
            if self.protected(at):
                raise self._refuse("type", f"the field at column {at % self.columns + 1} is protected")
            if attribute & _NUMERIC and letter not in _DIGITS:
                raise self._refuse("type", f"{letter!r} is not numeric, the field is")
            try:
                self.characters[at] = letter.encode(_ENCODING)[0]
            except UnicodeEncodeError:
                raise self._refuse("type", f"{letter!r} is not on the keyboard") from None
            field = self.field_at(at)
            if field is not None:
                self.attributes[field] |= _MODIFIED
            self._advance()

    def _advance(self) -> None:
        self.cursor = (self.cursor + 1) % self.size
        attribute = self.attributes.get(self.cursor)
        if attribute is None:
            return
        if attribute & (_PROTECTED | _NUMERIC) == _PROTECTED | _NUMERIC:
            self.tab()
        else:
            self.cursor = (self.cursor + 1) % self.size

    def erase_input(self) -> None:
        """The key ERASE INPUT."""
        self.erase_unprotected()

    def press(self, key: str) -> None:
        """Press a key that attracts attention: ``ENTER``, ``CLEAR``, ``PF1`` to ``PF24``, ``PA1`` to ``PA3``.

        The keyboard is then locked until the program restores it.  Raise `Misuse`.
        """
        if key not in AIDS:
            raise self._refuse("press key", f"there is no key {key!r}; there is {', '.join(AIDS)}")
        if self.locked:
            raise self._refuse("press key", "the keyboard is locked")
        if key == "CLEAR":
            self.clear()
        self.aid = AIDS[key]
        self.locked = True

    def restore(self) -> None:
        """Unlock the keyboard and forget which key was pressed."""
        self.locked = False
        self.aid = NO_AID

    def __str__(self) -> str:
        return f"screen of {self.rows} lines and {self.columns} columns"
