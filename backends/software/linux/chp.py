"""Channel paths: ``/sys/devices/css0/chp0.XX`` (``drivers/s390/cio/chp.c``).

The machine has no service-call facility for channel paths, so ``configure`` cannot be read, and what is written to it
is accepted without effect, as on a machine whose firmware refuses.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.driver_core import Device
from pyvfio_backends.software.linux.vfs import Attribute, BinaryAttribute, Node, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.css import Css

__all__ = ["ChannelPathDevice", "new_channel_path"]

_UTIL_STRING_SIZE = 64
_WORD_SIZE = 5
_NUMBER = re.compile(rb"\s*(-?[0-9]+)\s*(\S?)")


class ChannelPathDevice(Device):
    """``chp0.XX``: `chpid`, its `type` (one byte) and whether it is logically `online`."""

    def __init__(self, css: Css, chpid: int, type_: int) -> None:
        super().__init__(css.kernel, f"chp0.{chpid:02x}", css.root)
        self.css = css
        self.chpid = chpid
        self.type = type_
        self.online = True

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        return {
            "chid": Attribute(lambda: ""),
            "chid_external": Attribute(lambda: ""),
            "cmg": Attribute(lambda: "unknown\n"),
            "configure": Attribute(self._show_configure, self._store_configure),
            "esc": Attribute(lambda: "0\n"),
            "shared": Attribute(lambda: "unknown\n"),
            "speed_bps": Attribute(lambda: "0\n"),
            "status": Attribute(lambda: "online\n" if self.online else "offline\n", self._store_status),
            "type": Attribute(lambda: f"{self.type:x}\n"),
            "util_string": BinaryAttribute(_UTIL_STRING_SIZE, lambda offset, count: bytes(count)),
        }

    def _show_configure(self) -> str:
        raise fail(errno.EOPNOTSUPP)

    def _store_configure(self, data: bytes) -> None:
        # sscanf "%d %c": exactly the number, nothing after it.
        match = _NUMBER.match(data.split(b"\0")[0])
        if match is None or match[2] or int(match[1]) not in (0, 1):
            raise fail(errno.EINVAL)

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
        self.css.vary_path(self.chpid, on)


def new_channel_path(css: Css, chpid: int) -> ChannelPathDevice | None:
    """The device of a channel path that the machine has, or None (``chp_new``)."""
    for path in css.hardware.paths():
        if (path.cssid, path.chpid) == (0, chpid):
            return ChannelPathDevice(css, chpid, path.type)
    return None
