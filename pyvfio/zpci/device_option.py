"""A device in the words of QEMU's ``-device``: ``zpci,uid=8,fid=0x2,target=vfio1`` or ``virtio-rng-pci,id=dev1``.

The driver comes first, then properties; a comma in a value is written twice.  The JSON form, which libvirt uses, is
read too: ``{"driver":"zpci","uid":8,"target":"vfio1"}``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from pyvfio.errors import Misuse
from pyvfio.zpci.identifiers import FID_LIMIT, UID_LIMIT, Identifiers, Pair

__all__ = ["DeviceOption"]

_READ: Final = "read device option"
_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*")
_MOST_DIGITS: Final = 100
_SWITCH: Final = dict.fromkeys(("on", "yes", "true", "y"), True) | dict.fromkeys(("off", "no", "false", "n"), False)
_SWITCHES: Final = ("interpret", "forwarding-assist", "relaxed-translation")
_ZPCI_PROPERTIES: Final = ("id", "uid", "fid", "target", *_SWITCHES)


@dataclass(frozen=True, slots=True)
class DeviceOption:
    """A device: its `driver` and its `properties` as they were written; `text` is the whole."""

    driver: str
    properties: dict[str, str] = field(default_factory=dict)
    text: str = ""

    @classmethod
    def parse(cls, text: str) -> DeviceOption:
        """Read one option.  Raise `Misuse` without a driver, for a property without a value or given twice."""
        pairs = cls._of_json(text) if text.lstrip().startswith("{") else cls._of_words(text)
        found: dict[str, str] = {}
        for name, value in pairs:
            if name in found:
                raise Misuse(_READ, text, cause=f"{name} is given twice")
            found[name] = value
        driver = found.pop("driver", "")
        if not driver:
            raise Misuse(_READ, text, cause="it names no device", next_step="as in zpci,uid=8,fid=2,target=dev1")
        return cls(driver, found, text)

    @staticmethod
    def _of_words(text: str) -> list[tuple[str, str]]:
        pairs: list[tuple[str, str]] = []
        for place, word in enumerate(_split(text)):
            name, equals, value = word.partition("=")
            if place == 0 and not equals:
                name, value = "driver", name
            elif not equals or not name:
                raise Misuse(_READ, text, cause=f"{word!r} is no property", next_step="a property is NAME=VALUE")
            pairs.append((name.strip(), value))
        return pairs

    @staticmethod
    def _of_json(text: str) -> list[tuple[str, str]]:
        import json  # a machine file is TOML

        def as_word(name: str, value: Any) -> str:
            if isinstance(value, bool):
                return "on" if value else "off"
            if isinstance(value, (int, str)):
                return str(value)
            raise Misuse(_READ, text, cause=f"{name} is neither a number nor a text nor a truth value")

        try:
            found = json.loads(text, object_pairs_hook=lambda pairs: pairs)
        except ValueError as error:
            raise Misuse(_READ, text, cause=f"it is not JSON: {error}") from error
        except RecursionError:
            raise Misuse(_READ, text, cause="it is nested too deeply") from None
        return [(name, as_word(name, value)) for name, value in found]

    @property
    def id(self) -> str:
        """Its name, empty when it has none."""
        return self.properties.get("id", "")

    def number(self, name: str, limit: int) -> int | None:
        """A property as a number below `limit`: decimal, 0x..., or 0... (octal).  None when it is not given.

        Raise `Misuse` for anything else.
        """
        word = self.properties.get(name)
        if word is None:
            return None
        if _NUMBER.fullmatch(word) is None:
            raise Misuse(_READ, self.text, cause=f"{name}={word} is no number", next_step="decimal or 0x...")
        octal = word.startswith("0") and word.isdecimal()
        # Python reads no decimal number of thousands of digits.
        value = int(word, 8 if octal else 0) if len(word) <= _MOST_DIGITS else limit
        if value >= limit:
            shown = f"{value:#x}" if len(word) <= _MOST_DIGITS else f"a number of {len(word)} digits"
            raise Misuse(_READ, self.text, cause=f"{name} is between 0 and {limit - 1:#x}, not {shown}")
        return value

    def switch(self, name: str, default: bool) -> bool:
        """A property that is on or off.  Raise `Misuse` for anything else."""
        word = self.properties.get(name)
        if word is None:
            return default
        if word not in _SWITCH:
            raise Misuse(_READ, self.text, cause=f"{name} is on or off, not {word!r}")
        return _SWITCH[word]

    def define(self, identifiers: Identifiers) -> Pair:
        """Of a ``zpci`` device: the pair that it makes.

        Raise `Misuse` for a property that it does not have, a wrong value, and as `Identifiers.define`.
        """
        for name in self.properties:
            if name not in _ZPCI_PROPERTIES:
                raise Misuse(
                    _READ,
                    self.text,
                    cause=f"a zpci device has no property {name!r}",
                    next_step=f"its properties: {', '.join(_ZPCI_PROPERTIES)}",
                )
        for name in _SWITCHES:
            self.switch(name, True)
        uid, fid = self.number("uid", UID_LIMIT), self.number("fid", FID_LIMIT)
        return identifiers.define(self.properties.get("target", ""), uid, fid)


def _split(text: str) -> list[str]:
    """The words between single commas; a double one stands for a comma."""
    words, word, at = [], "", 0
    while at < len(text):
        if text.startswith(",,", at):
            word, at = f"{word},", at + 2
        elif text[at] == ",":
            words.append(word)
            word, at = "", at + 1
        else:
            word, at = word + text[at], at + 1
    return [*words, word]
