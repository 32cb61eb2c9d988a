"""What is on a host, for a list: each device as a record of plain values, read with as few calls as possible.

`SysfsDevice` asks the kernel for each fact at the moment it is wanted, which is right for one device.  A list wants a
few facts of thousands: here one read of ``modalias`` gives a function's identity, and the links of ``driver`` and
``iommu_group`` are read and not followed.  (``uevent`` would give as much, but some kernels wait in it for a driver
that does not let go.)  A device that goes away meanwhile is left out.

Sources: ``drivers/pci/pci-sysfs.c`` and ``drivers/s390/cio/device.c`` (``modalias_show``), ``drivers/s390/cio/css.c``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pyvfio.errors import from_oserror
from pyvfio.refusal import MISSING, NO_VALUE
from pyvfio.sysfs import Sysfs
from pyvfio.sysfs_device import is_vfio_name
from pyvfio.usage import Use, uses

__all__ = ["ChannelEntry", "Entry", "FunctionEntry", "MdevEntry", "SubchannelEntry", "inventory"]

_GONE = (*MISSING, *NO_VALUE)
_ENOUGH = 256
_VFIO_CCW = "vfio_ccw"


@dataclass(slots=True)
class Entry:
    """What every device has: its `address` as sysfs prints it, `driver`, IOMMU `group`, and what `uses` it."""

    bus = ""
    address: str
    driver: str | None
    group: int | None
    uses: list[Use]

    @property
    def in_use(self) -> bool:
        """Whether taking the device away would be felt, as far as a list can tell."""
        return any(use.active for use in self.uses)

    @property
    def ids(self) -> tuple[str, ...]:
        """What it can be selected by: ``VENDOR:DEVICE`` or ``TYPE/MODEL``."""
        return ()

    @property
    def has_vfio_driver(self) -> bool:
        """Whether its driver is one of VFIO's, by what stands on it or by its name."""
        return is_vfio_name(self.driver or "") or any(use.kind == "vfio" for use in self.uses)


@dataclass(slots=True)
class FunctionEntry(Entry):
    """A PCI function: `vendor`, `device` (16 bits), class `code` (24 bits), NUMA `node`; on s390 `uid` and `fid`.

    `uid_is_unique` is False where the machine does not check UIDs: then neither UID nor domain is a stable name.
    """

    bus = "pci"
    vendor: int
    device: int
    code: int
    node: int | None
    uid: int | None
    fid: int | None
    uid_is_unique: bool | None

    @property
    def ids(self) -> tuple[str, ...]:
        """See `Entry`."""
        return (f"{self.vendor:04x}:{self.device:04x}",)


@dataclass(slots=True)
class ChannelEntry(Entry):
    """A channel device: its `subchannel`, types of device and control unit, whether it is `online`, its paths."""

    bus = "ccw"
    subchannel: str
    devtype: str
    cutype: str
    online: bool
    chpids: tuple[int, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """See `Entry`."""
        return self.devtype, self.cutype


@dataclass(slots=True)
class SubchannelEntry(Entry):
    """A subchannel: `type` (0 I/O, 1 chsc, 2 message, 3 adm), the number of its `device` (or None), and its paths."""

    bus = "css"
    type: int
    device: str | None
    chpids: tuple[int, ...]


@dataclass(slots=True)
class MdevEntry(Entry):
    """A mediated device: the name of its `parent`, and its `type`."""

    bus = "mdev"
    parent: str
    type: str


def inventory(sysfs: Sysfs, wanted: Mapping[str, list[str] | None]) -> Iterator[Entry]:
    """The devices on each bus of `wanted` (``pci``, ``css``, ``ccw``, ``mdev``), in its order.

    Its values are names of devices, or None for all of a bus, by address.  Raise the class for an errno that does not
    mean that something is not there.
    """
    reader = _Reader(sysfs)
    marks = uses(sysfs)
    for bus, names in wanted.items():
        listed = sorted(sysfs.names(f"/sys/bus/{bus}/devices"), key=_order) if names is None else names
        yield from _READERS[bus](reader, listed, marks)


def _order(name: str) -> tuple[int, str]:
    return len(name), name  # hexadecimal of fixed widths, but for a PCI domain of more than four digits


class _Reader:
    """Attributes and links with the fewest calls, None for what is not there."""

    def __init__(self, sysfs: Sysfs) -> None:
        self.sysfs = sysfs
        backend = sysfs.backend
        self._open, self._read, self._close, self._readlink = (
            backend.open,
            backend.read,
            backend.close,
            backend.readlink,
        )

    def text(self, path: str) -> str | None:
        """The first bytes of an attribute, stripped."""
        try:
            fd = self._open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return self._read(fd, _ENOUGH).decode("utf-8", "replace").strip()
            finally:
                self._close(fd)
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise from_oserror(error, "read", path=path) from error

    def number(self, path: str) -> int | None:
        """An attribute that is a number."""
        text = self.text(path)
        try:
            return None if text is None else int(text, 0)
        except ValueError:
            return None

    def last(self, path: str) -> str | None:
        """The last part of what a link points at."""
        try:
            target = self._readlink(path)
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise from_oserror(error, "read link", path=path) from error
        return target[target.rfind("/") + 1 :]

    def group(self, base: str) -> int | None:
        """The number of the IOMMU group of the device at `base`."""
        name = self.last(f"{base}/iommu_group")
        return int(name) if name is not None and name.isdecimal() else None

    def paths(self, base: str) -> tuple[int, ...]:
        """The channel paths that are installed at the subchannel at `base`."""
        chpids = (self.text(f"{base}/chpids") or "").split()
        pim = int((self.text(f"{base}/pimpampom") or "0").split()[0], 16)
        return tuple(int(one, 16) for place, one in enumerate(chpids) if pim & 0x80 >> place)


def _functions(reader: _Reader, names: list[str], marks: dict[str, list[Use]]) -> Iterator[Entry]:
    if not names:
        return
    several_nodes = sum(name.startswith("node") for name in reader.sysfs.names("/sys/devices/system/node")) > 1
    zpci = reader.text(f"/sys/bus/pci/devices/{names[0]}/function_id") is not None
    text, number, last, group = reader.text, reader.number, reader.last, reader.group
    for name in names:
        base = f"/sys/bus/pci/devices/{name}"
        alias = text(f"{base}/modalias")
        if alias is None or len(alias) < 53:
            continue  # it went away
        yield FunctionEntry(
            name,
            last(f"{base}/driver"),
            group(base),
            marks.get(name, []),
            int(alias[9:13], 16),  # pci:v00001AF4d00001041sv...sd...bc02sc00i00
            int(alias[18:22], 16),
            int(alias[44:46] + alias[48:50] + alias[51:53], 16),
            number(f"{base}/numa_node") if several_nodes else None,
            number(f"{base}/uid") if zpci else None,
            number(f"{base}/function_id") if zpci else None,
            bool(number(f"{base}/uid_is_unique")) if zpci else None,
        )


def _channel_devices(reader: _Reader, names: list[str], marks: dict[str, list[Use]]) -> Iterator[Entry]:
    for name in names:
        base = f"/sys/bus/ccw/devices/{name}"
        path = reader.sysfs.link(base)
        alias = reader.text(f"{base}/modalias")
        if path is None or alias is None:
            continue
        subchannel = path.split("/")[-2]
        online = reader.text(f"{base}/online") == "1"
        yield ChannelEntry(
            name,
            reader.last(f"{base}/driver"),
            None,
            [*([Use("ccw", "online", "", True)] if online else []), *marks.get(name, [])],
            subchannel,
            *_ccw_types(alias),
            online,
            reader.paths(f"/sys/bus/css/devices/{subchannel}"),
        )


def _ccw_types(alias: str) -> tuple[str, str]:
    """Device type and control-unit type, each ``TYPE/MODEL``, of ``ccw:t3990mE9dt3390dm0C``; "" without a device's."""
    control, device = alias[5:9] + "/" + alias[10:12], alias[14:18] + "/" + alias[20:22]
    return (device if len(alias) >= 22 else "").lower(), control.lower()


def _subchannels(reader: _Reader, names: list[str], marks: dict[str, list[Use]]) -> Iterator[Entry]:
    for name in names:
        base = f"/sys/bus/css/devices/{name}"
        kind = reader.number(f"{base}/type")
        if kind is None:
            continue
        device = reader.text(f"{base}/dev_busid")
        children = reader.sysfs.names(base) if reader.last(f"{base}/driver") == _VFIO_CCW else []
        made = [Use("mdev", child, "", True) for child in children if len(child) == 36 and child.count("-") == 4]
        yield SubchannelEntry(
            name,
            reader.last(f"{base}/driver"),
            None,
            made,
            kind,
            None if device in (None, "", "none") else device,
            reader.paths(base),
        )


def _mdevs(reader: _Reader, names: list[str], marks: dict[str, list[Use]]) -> Iterator[Entry]:
    for name in names:
        base = f"/sys/bus/mdev/devices/{name}"
        path = reader.sysfs.link(base)
        if path is None:
            continue
        yield MdevEntry(
            name,
            reader.last(f"{base}/driver"),
            reader.group(base),
            marks.get(name, []),
            path.split("/")[-2],
            reader.last(f"{base}/mdev_type") or "",
        )


_READERS = {"pci": _functions, "css": _subchannels, "ccw": _channel_devices, "mdev": _mdevs}
