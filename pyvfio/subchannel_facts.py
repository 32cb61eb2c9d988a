"""What lists of subchannels show, read with no more calls than it takes: a host may have 65,536 of them in a set.

Sources: ``Documentation/ABI/testing/sysfs-bus-css`` and ``sysfs-devices-...`` of the ccw bus;
``drivers/s390/cio/css.c``, ``drivers/s390/cio/device.c``.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass

from pyvfio.address import MdevUuid
from pyvfio.errors import BadAddress, from_oserror
from pyvfio.sysfs import Sysfs

__all__ = ["CHSC_TYPE", "EADM_TYPE", "IO_TYPE", "SubchannelFacts", "defunct_devices", "read_subchannels"]

IO_TYPE, CHSC_TYPE, EADM_TYPE = 0, 1, 3
"""Subchannel types; source: z/Architecture Principles of Operation, "Subchannel-Information Block"."""

_DEVICES = "/sys/bus/css/devices"
_NAME = re.compile(r"[0-9a-f]{1,2}\.[0-3]\.[0-9a-f]{4}\Z")
_UNREADABLE = (errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO, errno.EINVAL, errno.EOPNOTSUPP)
_NO_DEVICE = "none"
_OWN_DRIVER = "io_subchannel"


@dataclass(slots=True)
class SubchannelFacts:
    """The texts of sysfs about one subchannel, empty where there are none.

    `device` is the device number (``0.0.013f``, ``none``); `pim`, `pam` and `pom` have two digits each, `chpids` 16.
    `attached` says that its ccw device is registered; only then there are `devtype`, `cutype` and `availability`.
    `driver` is read for those without one, and for all if wanted; `mdevs` are the names of its mediated devices.
    """

    name: str
    type: int = IO_TYPE
    device: str = ""
    attached: bool = False
    devtype: str = ""
    cutype: str = ""
    online: bool = False
    availability: str = ""
    pim: str = ""
    pam: str = ""
    pom: str = ""
    vpm: str = ""
    chpids: str = ""
    driver: str = ""
    mdevs: tuple[str, ...] = ()


def _reader(sysfs: Sysfs) -> Callable[[str], str]:
    """A function that reads an attribute with one ``open``, ``read`` and ``close``: sysfs gives it whole."""
    backend = sysfs.backend
    opened, read, close = backend.open, backend.read, backend.close
    size, flags = backend.sysconf("SC_PAGE_SIZE"), os.O_RDONLY | os.O_CLOEXEC

    def text(path: str) -> str:
        try:
            fd = opened(path, flags)
            try:
                return read(fd, size).decode("ascii", "replace").strip()
            finally:
                close(fd)
        except OSError as error:
            if error.errno in _UNREADABLE:
                return ""
            raise from_oserror(error, "read", path=path) from error

    return text


def read_subchannels(
    sysfs: Sysfs,
    *,
    types: Container[int] = (IO_TYPE,),
    wanted: Callable[[str], bool] | None = None,
    availability: bool = False,
    vpm: bool = False,
    drivers: bool = False,
) -> Iterator[SubchannelFacts]:
    """The subchannels of these `types` in the order of their addresses, those whose name is `wanted`.

    `availability`, `vpm` and `drivers` (of all) cost a call more for each.  Of types other than I/O nothing else is
    read.  A subchannel that goes away meanwhile has empty texts.  Raise the class for the kernel's errno.
    """
    text = _reader(sysfs)
    known = frozenset(sysfs.names("/sys/bus/ccw/devices"))
    link = sysfs.link_name
    for name in sysfs.names(_DEVICES):
        if _NAME.match(name) is None or (wanted is not None and not wanted(name)):
            continue
        path = f"{_DEVICES}/{name}"
        kind = text(path + "/type")
        facts = SubchannelFacts(name, int(kind, 16) if kind else IO_TYPE)
        if facts.type not in types:
            continue
        if facts.type == IO_TYPE:
            facts.device = device = text(path + "/dev_busid") or _NO_DEVICE
            if device in known:
                _read_device(facts, f"{path}/{device}", text, availability)
            masks = text(path + "/pimpampom").split()
            if len(masks) == 3:
                facts.pim, facts.pam, facts.pom = masks
            if vpm:
                facts.vpm = text(path + "/vpm")
            facts.chpids = text(path + "/chpids").replace(" ", "")
        if drivers or (facts.type == IO_TYPE and not facts.attached):
            facts.driver = link(path + "/driver") or ""
            if facts.driver not in ("", _OWN_DRIVER):
                facts.mdevs = tuple(below for below in sysfs.names(path) if _is_uuid(below))
        yield facts


def _read_device(facts: SubchannelFacts, path: str, text: Callable[[str], str], availability: bool) -> None:
    """Read what is known of the ccw device at `path`."""
    facts.devtype = text(path + "/devtype")
    facts.attached = bool(facts.devtype)
    if facts.attached:
        facts.cutype = text(path + "/cutype")
        facts.online = text(path + "/online") == "1"
        if availability:
            facts.availability = text(path + "/availability")


def defunct_devices(sysfs: Sysfs, *, availability: bool = False) -> Iterator[SubchannelFacts]:
    """Devices that are kept although they lost their subchannel; their `SubchannelFacts.name` is empty."""
    text = _reader(sysfs)
    for root in sysfs.names("/sys/devices"):
        if root.startswith("css"):
            for name in sysfs.names(f"/sys/devices/{root}/defunct"):
                if _NAME.match(name) is not None:
                    facts = SubchannelFacts("", device=name)
                    _read_device(facts, f"/sys/devices/{root}/defunct/{name}", text, availability)
                    yield facts


def _is_uuid(name: str) -> bool:
    if len(name) != 36:
        return False
    try:
        MdevUuid.parse(name)
    except BadAddress:
        return False
    return True
