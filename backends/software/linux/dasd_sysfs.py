"""The attributes that the DASD drivers give a ccw device, online or not (``drivers/s390/block/dasd_devmap.c``).

The features are kept while the machine runs; numbers and words are in `dasd_settings`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial

from pyvfio.css.ccw import Ccw, CcwFlag
from pyvfio_backends.software.linux.block import Disk
from pyvfio_backends.software.linux.ccw import CcwDevice
from pyvfio_backends.software.linux.dasd_settings import DasdSettings
from pyvfio_backends.software.linux.io_subchannel import run_reading
from pyvfio_backends.software.linux.kstrtox import kstrtoul
from pyvfio_backends.software.linux.vfs import Attribute, Node, StaticDirectory, fail

__all__ = ["DasdFeatures"]

_READ_CONFIGURATION_DATA = 0xFA
_RECORDS, _RECORD = 8, 32
_NODE, _QUALIFIER = 3, 2
"""Identifiers (the two top bits) of a node-element descriptor and of a general node-element qualifier."""
_SSID = slice(8, 10)
_TIMEOUT = 6


class DasdFeatures:
    """What users set of the devices of a DASD driver (``dasd_devmap``), and the attributes that show it."""

    def __init__(self) -> None:
        self._set: dict[str, set[str]] = {}
        self._configured: dict[str, bytes] = {}
        self._settings: dict[str, DasdSettings] = {}

    def files(self, device: CcwDevice) -> dict[str, Node]:
        """The attributes of one device."""
        features = self._set.setdefault(device.name, set())
        if device.name not in self._settings:
            self._settings[device.name] = DasdSettings(self._expires)
        free = partial(self._offline_only, device)
        texts: dict[str, Callable[[], str]] = {
            "alias": lambda: "0\n",
            "discipline": lambda: "ECKD\n" if device.online else "none\n",
            "ese": lambda: _online(device, "0\n"),
            "fc_security": lambda: _online(device, "Unsupported\n"),
            "hpf": lambda: _online(device, "0\n"),
            "path_masks": lambda: self._path_masks(device),
            "status": lambda: "online\n" if device.online else "unknown\n",
            "uid": lambda: f"{self._uid(device)}\n",
            "vendor": lambda: f"{self._uid(device).partition('.')[0]}\n",
        }
        return {
            **{name: Attribute(show) for name, show in texts.items()},
            **self._settings[device.name].files(device),
            **({"paths_info": self._paths_info(device)} if device.online else {}),
            "eer_enabled": self._feature(features, "eer_enabled", lambda: _online(device, "")),
            "erplog": self._feature(features, "erplog"),
            "failfast": self._feature(features, "failfast"),
            "raw_track_access": self._feature(features, "raw_track_access", lambda: free("use_diag")),
            "readonly": Attribute(
                lambda: f"{int('readonly' in features or _protected(device))}\n",
                partial(self._store_readonly, device, features),
            ),
            "safe_offline": Attribute(store=lambda data: self._safe_offline(device)),
            "use_diag": self._feature(features, "use_diag", lambda: free("raw_track_access")),
        }

    def forget(self, device: CcwDevice) -> None:
        """The device went offline."""
        self._configured.pop(device.name, None)
        if device.name in self._settings:
            self._settings[device.name].forget()

    @staticmethod
    def _paths_info(device: CcwDevice) -> Node:
        """One directory for each path that leads to the device, called ``CSSID.CHPID``."""
        sch = device.subchannel
        if sch is None:
            return StaticDirectory()
        chpids = [chpid for number, chpid in enumerate(sch.schib.pmcw.chpid) if sch.vpm & 0x80 >> number]
        security = Attribute(lambda: "Unsupported\n")
        return StaticDirectory(
            {f"{sch.schid.cssid:x}.{chpid:02x}": StaticDirectory({"fc_security": security}) for chpid in chpids}
        )

    def _feature(self, features: set[str], name: str, check: Callable[[], object] = lambda: None) -> Attribute:
        def store(data: bytes) -> None:
            value = _truth(data)
            check()
            features.discard(name)
            features.update([name] if value else [])

        return Attribute(lambda: f"{int(name in features)}\n", store)

    def _offline_only(self, device: CcwDevice, other: str) -> None:
        """How the driver talks to the device is chosen while it is offline, and only one way."""
        if device.online or other in self._set[device.name]:
            raise fail(errno.EPERM)

    def _store_readonly(self, device: CcwDevice, features: set[str], data: bytes) -> None:
        value = _truth(data)
        features.discard("readonly")
        features.update(["readonly"] if value else [])
        disk = _disk(device)
        if disk is not None:
            disk.state.readonly = value or _protected(device)

    @staticmethod
    def _safe_offline(device: CcwDevice) -> None:
        if not device.online:
            raise fail(errno.ENODEV)
        device.set_offline()  # nothing is outstanding when a call of this machine returns

    @staticmethod
    def _path_masks(device: CcwDevice) -> str:
        sch = device.subchannel
        return f"{sch.vpm:02x} 00 00 00 00 00\n" if device.online and sch is not None else "0\n"

    def _configuration(self, device: CcwDevice) -> bytes:
        """What READ CONFIGURATION DATA brought when the device went online; empty when it cannot be had."""
        sch = device.subchannel
        if not device.online or sch is None:
            return b""
        if device.name not in self._configured:
            data = run_reading(sch, Ccw(_READ_CONFIGURATION_DATA, CcwFlag.SLI, _RECORDS * _RECORD, 0))
            if data is None:
                return b""
            self._configured[device.name] = data
        return self._configured[device.name]

    def _uid(self, device: CcwDevice) -> str:
        """Manufacturer, serial number, subsystem and unit address."""
        data = self._configuration(device)
        return _uid_of(data) if data else ""

    def _expires(self, device: CcwDevice) -> int:
        """Seconds for a request, by the timeout of the general qualifier: a number of tens to the power of another."""
        data = self._configuration(device)
        timeout = _qualifier(data)[_TIMEOUT] if data else 0
        return int(10 ** (timeout >> 6) * (timeout & 0x3F))


def _records(data: bytes) -> list[bytes]:
    return [data[at : at + _RECORD] for at in range(0, len(data), _RECORD)]


def _qualifier(data: bytes) -> bytes:
    return next((record for record in _records(data) if record[0] >> 6 == _QUALIFIER), bytes(_RECORD))


def _uid_of(data: bytes) -> str:
    node = next((record for record in _records(data) if record[0] >> 6 == _NODE and record[1] & 1), bytes(_RECORD))
    text = node[4:30].decode("cp037")
    return f"{text[9:12]}.{text[12:26]}.{int.from_bytes(_qualifier(data)[_SSID], 'big'):04x}.{node[31]:02x}"


def _truth(data: bytes) -> bool:
    value = kstrtoul(data, 0)
    if value > 1:
        raise fail(errno.EINVAL)
    return bool(value)


def _online(device: CcwDevice, text: str) -> str:
    if not device.online:
        raise fail(errno.ENODEV)
    return text


def _disk(device: CcwDevice) -> Disk | None:
    return next((child for child in device.child_devices() if isinstance(child, Disk)), None)


def _protected(device: CcwDevice) -> bool:
    """Whether the volume itself cannot be written, as far as the driver knows it: while it is online."""
    if _disk(device) is None:
        return False
    from pyvfio_backends.software.linux.dasd_volume import volume_of

    volume = volume_of(device)
    return volume is None or volume.readonly
