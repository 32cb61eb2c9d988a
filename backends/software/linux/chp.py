"""Channel paths: ``/sys/devices/css0/chp0.XX`` (``drivers/s390/cio/chp.c``).

A path that is varied off (`status`) is one that this system does not use; one that is configured off (`configure`) is
taken away from the system by its machine, if that has a service call for it.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING, Final

from pyvfio_backends.software.linux.css_chsc import PathFacts
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.vfs import Attribute, BinaryAttribute, Node, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.css_paths import KnownPaths

__all__ = ["ChannelPathDevice"]

_UTIL_STRING_SIZE = 64
_WORD_SIZE = 5
_NUMBER = re.compile(rb"\s*(-?[0-9]+)\s*(\S?)")
_WORDS_MEASURED: Final = 5
_CHARACTERISTICS_SIZE: Final = 4 * _WORDS_MEASURED
_ENTRY: Final = 32
_EXTENDED_ENTRY: Final = 64
_ADMIN: Final = 0o400
_SUFFIXES = ("", "K", "M", "G", "T")
_THOUSAND = 1000
_SCLP_GOOD: Final = frozenset({0x0020, 0x0120, 0x0440, 0x0450})
_STANDBY, _CONFIGURED, _RESERVED, _NOT_RECOGNIZED = range(4)


class ChannelPathDevice(Device):
    """``chp0.XX``: `chpid`, what the machine tells of it, and whether it is logically `online`."""

    def __init__(self, css: KnownPaths, chpid: int, facts: PathFacts) -> None:
        super().__init__(css.kernel, f"chp0.{chpid:02x}", css.root)
        self.css = css
        self.chpid = chpid
        self.facts = facts
        self.online = True

    def update(self) -> None:
        """Ask the machine again (``chp_update_desc``)."""
        self.facts = self.css.calls.path(self.chpid) or self.facts

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        facts, measured = self.facts, self.facts.measurement
        chid = facts.chid
        return {
            "chid": Attribute(lambda: "" if chid is None else f"{chid:04x}\n"),
            "chid_external": Attribute(lambda: "" if chid is None else f"{int(facts.external)}\n"),
            "cmg": Attribute(lambda: f"{measured.cmg}\n" if measured.valid else "unknown\n"),
            "configure": Attribute(self._show_configure, self._store_configure),
            "esc": Attribute(lambda: f"{facts.esc:x}\n"),
            "shared": Attribute(lambda: f"{int(measured.shared)}\n" if measured.valid else "unknown\n"),
            "speed_bps": Attribute(lambda: _with_suffix(measured.speed if measured.valid else 0)),
            "status": Attribute(lambda: "online\n" if self.online else "offline\n", self._store_status),
            "type": Attribute(lambda: f"{facts.type:x}\n"),
            "util_string": BinaryAttribute(_UTIL_STRING_SIZE, lambda at, count: facts.utility[at : at + count]),
            **(self._measurement() if self.css.measuring else {}),
        }

    # measurement

    def _measurement(self) -> dict[str, Node]:
        return {
            "measurement_chars": BinaryAttribute(_CHARACTERISTICS_SIZE, self._characteristics, mode=_ADMIN),
            "measurement": BinaryAttribute(_ENTRY, self._entry, mode=_ADMIN),
            "ext_measurement": BinaryAttribute(_EXTENDED_ENTRY, self._extended_entry, mode=_ADMIN),
        }

    def _characteristics(self, at: int, count: int) -> bytes:
        measured = self.facts.measurement
        if not measured.valid:
            return b""
        words = [word if measured.cmcv & 0x10 >> place else 0 for place, word in enumerate(measured.words)]
        return b"".join(word.to_bytes(4, "big") for word in words)[at : at + count]

    def _entry(self, at: int, count: int) -> bytes:
        return b"" if at or count < _ENTRY else self.css.read_utilization(self.chpid, extended=False)

    def _extended_entry(self, at: int, count: int) -> bytes:
        if at or count < _EXTENDED_ENTRY or not self.facts.measurement.extended:
            return b""
        return self.css.read_utilization(self.chpid, extended=True)

    # configuring

    def _show_configure(self) -> str:
        known = self.css.hardware.sclp_read_paths()
        if known is None:
            raise fail(errno.EOPNOTSUPP)
        state = _RESERVED
        if self.chpid not in known.recognized:
            state = _NOT_RECOGNIZED
        elif self.chpid in known.configured:
            state = _CONFIGURED
        elif self.chpid in known.standby:
            state = _STANDBY
        return f"{state}\n"

    def _store_configure(self, data: bytes) -> None:
        # sscanf "%d %c": exactly the number, nothing after it; a number too large loses its upper bits.
        match = _NUMBER.match(data.split(b"\0")[0])
        if match is None or match[2] or _int(match[1]) not in (0, 1):
            raise fail(errno.EINVAL)
        self.configure(bool(_int(match[1])))

    def configure(self, on: bool) -> None:
        """Ask the machine for the path, or give it back; what it does not want does not happen (``cfg_func``)."""
        hardware = self.css.hardware
        ask = hardware.sclp_configure_path if on else hardware.sclp_deconfigure_path
        if ask(0, self.chpid) in _SCLP_GOOD:
            if on:
                self.css.path_came(self.chpid)
            else:
                self.css.path_went(self.chpid)

    # varying

    def _store_status(self, data: bytes) -> None:
        if data.startswith(b"\0"):
            return  # nothing was scanned
        words = data.split(b"\0")[0].split()
        word = words[0][:_WORD_SIZE] if words else b""
        if word[:2].lower() == b"on" or word == b"1":
            self._vary(True)
        elif word[:3].lower() == b"off" or word == b"0":
            self._vary(False)
        else:
            raise fail(errno.EINVAL)

    def _vary(self, on: bool) -> None:
        if not on and not self.online:
            return
        self.online = on
        if on:
            self.update()
        self.css.vary_path(self.chpid, on)


def _int(digits: bytes) -> int:
    value = int(digits) & 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def _with_suffix(speed: int) -> str:
    """A number of bit/s in the largest unit in which it is whole (``apply_max_suffix``)."""
    place = 0
    while place < len(_SUFFIXES) - 1 and speed >= _THOUSAND and not speed % _THOUSAND:
        speed //= _THOUSAND
        place += 1
    return f"{speed}{_SUFFIXES[place]}\n"
