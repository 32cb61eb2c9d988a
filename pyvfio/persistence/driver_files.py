"""driverctl's files: ``/etc/driverctl.d/BUS-ADDRESS``, which hold the name of a driver and a newline.

``none`` is the driver of a device that no driver shall take.  An empty file counts as no definition.  Source:
driverctl(8), and the functions ``save_override`` and ``load-override`` of the script ``driverctl``.
"""

from __future__ import annotations

import re

from pyvfio.address import DeviceNumber, MdevUuid, PciAddress, SubchannelId
from pyvfio.errors import BadAddress, Misuse, PyvfioError
from pyvfio.files import HostFiles
from pyvfio.persistence.definition import PersistentDriver, Unreadable, check_driver, unreadable

__all__ = ["DIRECTORY", "DriverFiles", "driver_text", "parse_name"]

DIRECTORY = "/etc/driverctl.d"

_DASHED = ("fsl-mc",)
"""Buses with driver_override whose names have a dash themselves (``drivers/bus/fsl-mc``)."""

_BUS = re.compile(r"[a-z][a-z0-9_-]*\Z")
_ADDRESSES: dict[str, type[PciAddress] | type[SubchannelId] | type[DeviceNumber] | type[MdevUuid]] = {
    "pci": PciAddress,
    "css": SubchannelId,
    "ccw": DeviceNumber,
    "mdev": MdevUuid,
}


def driver_text(definition: PersistentDriver) -> str:
    """The text of a file, byte for byte as driverctl writes it."""
    return f"{definition.driver}\n"


def parse_name(name: str) -> tuple[str, str] | None:
    """Bus and address of a file's name; None when no device of a bus can have it, as an editor's backup.

    >>> parse_name("pci-0011:00:00.0")
    ('pci', '0011:00:00.0')
    >>> parse_name("fsl-mc-dpni.1")
    ('fsl-mc', 'dpni.1')
    """
    bus = next((bus for bus in _DASHED if name.startswith(f"{bus}-")), name.partition("-")[0])
    address = name[len(bus) + 1 :]
    if _BUS.match(bus) is None or not address or _is_uuid(name):
        return None
    kind = _ADDRESSES.get(bus)
    try:
        # only what sysfs itself prints: driverctl's udev rule looks for the kernel's name of the device
        known = kind is None or str(kind.parse(address)) == address
    except BadAddress:
        return None
    return (bus, address) if known and not address.endswith("~") else None


def _is_uuid(text: str) -> bool:
    try:
        MdevUuid.parse(text)
    except BadAddress:
        return False
    return True


class DriverFiles:
    """The definitions in ``ROOT/etc/driverctl.d``; `root` is the top of a file system (empty: the host's own)."""

    def __init__(self, files: HostFiles, root: str = "") -> None:
        self.files = files
        self.directory = f"{root.rstrip('/')}{DIRECTORY}"

    def path(self, bus: str, address: str) -> str:
        """The file of a definition.  Raise `Misuse` for what no device can be called."""
        if parse_name(f"{bus}-{address}") != (bus, address) or "/" in address:
            raise Misuse("name a definition", f"{bus}/{address}", cause=f"no device of bus {bus} is called so")
        return f"{self.directory}/{bus}-{address}"

    def all(self) -> list[PersistentDriver | Unreadable]:
        """All definitions, by file name; names that no device can have are left out."""
        found: list[PersistentDriver | Unreadable] = []
        for name in self.files.names(self.directory):
            place = parse_name(name)
            if place is not None and (read := self._read(*place)) is not None:
                found.append(read)
        return found

    def get(self, bus: str, address: str) -> PersistentDriver | None:
        """The definition of a device, None without one.  Raise `BadDefinition` when its file is malformed."""
        read = self._read(bus, address)
        if isinstance(read, Unreadable):
            raise read.error()
        return read

    def _read(self, bus: str, address: str) -> PersistentDriver | Unreadable | None:
        path = self.path(bus, address)
        try:
            text = self.files.read(path)
        except PyvfioError as error:
            return unreadable(f"{bus}/{address}", path, error)
        if text is None:
            return None
        driver = text.strip()
        why = check_driver(driver)
        return Unreadable(f"{bus}/{address}", path, why) if why else PersistentDriver(bus, address, driver)
