"""Checks of a machine file's channel paths and subchannels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from pyvfio.address import DeviceNumber, SubchannelId
from pyvfio.css import IMAGES, VIRTUAL_IMAGES
from pyvfio.errors import BadAddress, Misuse
from pyvfio_backends.software.description import OTHER_TYPES, MachineSpec
from pyvfio_backends.software.file_report import Report, check_range, listing
from pyvfio_backends.software.hardware.devices.ckd_image import BadImage
from pyvfio_backends.software.image_files import ImageFiles
from pyvfio_backends.software.units import UNITS

__all__ = ["check_css"]

_IMAGES: Final = (*range(IMAGES), *VIRTUAL_IMAGES)


def check_css(spec: MachineSpec, images: ImageFiles, error: Report) -> None:
    """Check the tables ``[[css.path]]``, ``[[css.subchannel]]`` and ``[[css.other]]``.  Raise what `error` makes."""
    _check_paths(spec, error)
    taken = _check_subchannels(spec, images, error)
    _check_others(spec, taken, error)


def _check_paths(spec: MachineSpec, error: Report) -> None:
    for n, path in enumerate(spec.paths):
        check_range(error, path.chpid, (0, 255), ("css", "path", "chpid"), n)
        check_range(error, path.cmg, (-1, 255), ("css", "path", "cmg"), n)
        check_range(error, path.chid, (-1, 0xFFFF), ("css", "path", "chid"), n)
        if path.speed < 0 or path.speed % 10**8:
            raise error(("css", "path", "speed"), "must be a multiple of 100000000 bit/s", n)


def _check_subchannels(spec: MachineSpec, images: ImageFiles, error: Report) -> set[object]:
    """What is taken then, by its kind."""
    chpids = {path.chpid for path in spec.paths}
    taken: set[object] = set()
    for n, row in enumerate(spec.subchannels):
        where = ("css", "subchannel")
        try:
            identities = SubchannelId.parse(row.schid), DeviceNumber.parse(row.device)
        except BadAddress as found:
            raise error(where, f"{found.text!r}: {found.cause}", n) from found
        _check_place(error, *identities, where, n)
        for key, identity in zip(("schid", "device"), identities, strict=True):
            if (key, identity) in taken:
                raise error((*where, key), f"{identity} is there twice", n)
            taken.add((key, identity))
        if row.unit not in UNITS:
            raise error((*where, "unit"), f"no control unit {row.unit!r}; there is {listing(UNITS)}", n)
        if row.driver:
            from pyvfio_backends.software.linux.ccw_drivers import DRIVERS  # the boot needs them, too

            if row.driver not in DRIVERS:
                cause = f"no driver {row.driver!r} of channel devices; there is {listing(DRIVERS)}"
                raise error((*where, "driver"), cause, n)
        images.find(row, where, n)
        _check_options(error, partial(UNITS[row.unit].make, row.options), where, n)
        if len(row.chpids) > 8:
            raise error((*where, "chpids"), "a subchannel has at most eight channel paths", n)
        for chpid in row.chpids:
            if chpid not in chpids:
                raise error((*where, "chpids"), f"channel path {chpid:02x} is not described by [[css.path]]", n)
        for key in ("pim", "pam", "pom"):
            check_range(error, getattr(row, key), (0, 255), (*where, key), n)
        check_range(error, row.count, (1, 65536), (*where, "count"), n)
    return taken


def _check_others(spec: MachineSpec, taken: set[object], error: Report) -> None:
    for n, other in enumerate(spec.others):
        where = ("css", "other")
        try:
            first = SubchannelId.parse(other.schid)
        except BadAddress as found:
            raise error((*where, "schid"), f"{found.text!r}: {found.cause}", n) from found
        if ("schid", first) in taken:
            raise error((*where, "schid"), f"{first} is there twice", n)
        taken.add(("schid", first))
        if other.type not in OTHER_TYPES:
            raise error((*where, "type"), f"no type {other.type!r}; there is {listing(OTHER_TYPES)}", n)
        check_range(error, other.count, (1, 65536), (*where, "count"), n)


def _check_options(error: Report, build: Callable[[], object], where: tuple[str, ...], index: int) -> None:
    """Build what a row describes, to find out whether its options make sense."""
    try:
        build()
    except BadImage as found:
        raise error((*where, "options"), f"{found.obj}: {found.cause}", index, found.next_step) from found
    except Misuse as found:
        raise error((*where, "options"), found.cause, index, found.next_step) from found


def _check_place(error: Report, schid: SubchannelId, device: DeviceNumber, where: tuple[str, ...], index: int) -> None:
    """Check the image of a subchannel, and that its device is named in the same image and set."""
    if schid.cssid not in _IMAGES:
        listed = ", ".join(f"{image:x}" for image in _IMAGES)
        raise error((*where, "schid"), f"there is no image {schid.cssid:x}; there is {listed}", index)
    if (device.cssid, device.ssid) != (schid.cssid, schid.ssid):
        cause = f"{device} is not in the image and set of its subchannel {schid}"
        raise error((*where, "device"), cause, index)
