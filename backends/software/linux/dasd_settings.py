"""The attributes of a DASD that are numbers and words, as its driver keeps them.

=============================  =============  ==========================================================================
attribute                      default        note
=============================  =============  ==========================================================================
expires                        of the device  seconds, from its configuration data; to 40,000,000
retries                        256            to 32768; 0 changes nothing
timeout                        0              seconds
aq_timeouts                    32768          retries that have to time out; to 32768
path_threshold, path_interval  256, 300       errors of a path, and seconds without one
reservation_policy             ignore         or fail; kept while the machine runs, as the next three
aq_mask, aq_requeue            0
path_autodisable               1
=============================  =============  ==========================================================================

The first four lines are those of a device that is online: they begin anew each time.  Copy relations and thin
provisioning are not modelled: there is none.  Source: ``drivers/s390/block/dasd_devmap.c``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial

from pyvfio.css.ccw import NO_FLAGS, Ccw
from pyvfio.errors import NotModelled
from pyvfio_backends.software.linux.ccw import CcwDevice
from pyvfio_backends.software.linux.io_subchannel import run_program
from pyvfio_backends.software.linux.kstrtox import kstrtobool, kstrtoul
from pyvfio_backends.software.linux.vfs import Attribute, Node, StaticDirectory, fail

__all__ = ["DasdSettings", "offline"]

_EXPIRES, _MOST_EXPIRES = 300, 40_000_000
_MOST_RETRIES = 32768
_WORD = 0xFFFFFFFF
_TRIGGERS = 0xFF
_HERTZ = 100
_NOP = 0x03
#: Name: default, least and greatest value that is taken, what 0 does.
_NUMBERS: dict[str, tuple[int, int, int]] = {
    "retries": (256, 0, _MOST_RETRIES),
    "timeout": (0, 0, _WORD // _HERTZ),
    "aq_timeouts": (_MOST_RETRIES, 1, _MOST_RETRIES),
    "path_threshold": (256, 0, _WORD),
    "path_interval": (300, 1, _WORD),
}


def offline(device: CcwDevice) -> None:
    """Raise OSError ENODEV unless the device is online."""
    if not device.online:
        raise fail(errno.ENODEV)


class DasdSettings:
    """The settings of one device, by its number; `expires` says the seconds that its configuration data give."""

    def __init__(self, expires: Callable[[CcwDevice], int]) -> None:
        self._expires = expires
        self._numbers: dict[str, int] = {}
        self._kept = {"aq_mask": 0, "aq_requeue": 0, "path_autodisable": 1, "fail": 0}

    def forget(self) -> None:
        """Begin anew: the device went offline."""
        self._numbers.clear()

    def files(self, device: CcwDevice) -> dict[str, Node]:
        """The attributes of `device`, which may be another object each time the device is found."""
        self._device = device
        found: dict[str, Node] = {
            name: Attribute(partial(self._number, name), partial(self._store_number, name)) for name in _NUMBERS
        }
        found |= {
            "expires": Attribute(partial(self._number, "expires"), partial(self._store_number, "expires")),
            "aq_mask": Attribute(lambda: f"{self._kept['aq_mask']}\n", self._store_mask),
            "aq_requeue": Attribute(lambda: f"{self._kept['aq_requeue']}\n", self._store_requeue),
            "path_autodisable": Attribute(lambda: f"{self._kept['path_autodisable']}\n", self._store_autodisable),
            "reservation_policy": Attribute(lambda: "fail\n" if self._kept["fail"] else "ignore\n", self._store_policy),
            "last_known_reservation_state": Attribute(lambda: "none\n", self._reset_state),
            "path_reset": Attribute(store=lambda data: offline(self._device)),
            "ping": Attribute(store=self._ping),
            "host_access_count": Attribute(self._no_count),
            "copy_pair": Attribute(self._no_pair, self._store_pair),
            "copy_role": Attribute(lambda: self._while_online("none\n")),
        }
        capacity = ("logical_capacity", "space_allocated", "space_configured")
        pool = ("cap_at_warnlevel", "extent_size", "pool_id", "pool_oos", "warn_threshold")
        for folder, names in (("capacity", capacity), ("extent_pool", pool)):
            zero = Attribute(lambda: self._while_online("0\n"))
            found[folder] = StaticDirectory(dict.fromkeys(names, zero))
        return found

    def _while_online(self, text: str) -> str:
        offline(self._device)
        return text

    def _number(self, name: str) -> str:
        offline(self._device)
        first = self._expires(self._device) or _EXPIRES if name == "expires" else _NUMBERS[name][0]
        return f"{self._numbers.get(name, first)}\n"

    def _store_number(self, name: str, data: bytes) -> None:
        offline(self._device)
        least, most = (1, _MOST_EXPIRES) if name == "expires" else _NUMBERS[name][1:]
        try:
            value = kstrtoul(data, 10)
        except OSError:
            raise fail(errno.EINVAL) from None
        if not least <= value <= most:
            raise fail(errno.EINVAL)
        if value or name != "retries":
            self._numbers[name] = value

    def _store_mask(self, data: bytes) -> None:
        self._kept["aq_mask"] = _small(data, _TRIGGERS)

    def _store_requeue(self, data: bytes) -> None:
        self._kept["aq_requeue"] = int(kstrtobool(data))

    def _store_autodisable(self, data: bytes) -> None:
        self._kept["path_autodisable"] = _small(data, 1)

    def _store_policy(self, data: bytes) -> None:
        word = data.split(b"\0")[0].removesuffix(b"\n")
        if word not in (b"ignore", b"fail"):
            raise fail(errno.EINVAL)
        self._kept["fail"] = int(word == b"fail")

    def _reset_state(self, data: bytes) -> None:
        offline(self._device)
        if data.split(b"\0")[0].removesuffix(b"\n") != b"reset":
            raise fail(errno.EINVAL)

    def _ping(self, data: bytes) -> None:
        offline(self._device)
        sch = self._device.subchannel
        if sch is None or not run_program(sch, Ccw(_NOP, NO_FLAGS, 0, 0)):
            raise fail(errno.EIO)

    def _no_count(self) -> str:
        """No storage control here says which hosts use a device."""
        offline(self._device)
        raise fail(errno.EOPNOTSUPP)

    def _no_pair(self) -> str:
        raise fail(errno.ENODEV)

    def _store_pair(self, data: bytes) -> None:
        words = data.decode("ascii", "replace").strip().split(",")
        if len(words) != 2 or not all(words) or self._device.name not in words:
            raise fail(errno.EINVAL)
        raise NotModelled("copy relations of DASDs", self._device.name)


def _small(data: bytes, most: int) -> int:
    try:
        value = kstrtoul(data, 0)
    except OSError:
        raise fail(errno.EINVAL) from None
    if value > most:
        raise fail(errno.EINVAL)
    return value
