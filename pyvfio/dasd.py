"""DASDs: what the drivers ``dasd-eckd`` and ``dasd-fba`` show of their devices.

Source: ``drivers/s390/block/dasd_devmap.c``; ``Documentation/ABI/stable/sysfs-block``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyvfio.address import DeviceNumber
from pyvfio.devices import ChannelDevice
from pyvfio.errors import BadAddress
from pyvfio.sysfs import Sysfs

__all__ = ["DRIVERS", "PATH_KINDS", "Dasd", "dasds", "details"]

DRIVERS = ("dasd-eckd", "dasd-fba")

_SECTOR = 512
_PATHS = 8
PATH_KINDS = (
    "paths_in_use",
    "paths_non_preferred",
    "paths_invalid_cabling",
    "paths_cuir_quiesced",
    "paths_invalid_hpf_characteristics",
    "paths_error_threshold_exceeded",
)
"""What the masks of ``path_masks`` say of the paths, in their order."""
_LONG = (
    "use_diag",
    "eer_enabled",
    "erplog",
    "hpf",
    "fc_security",
    "copy_pair",
    "extent_pool/extent_size",
    "capacity/logical_capacity",
    "capacity/space_allocated",
)


@dataclass(frozen=True, slots=True)
class Dasd:
    """A DASD `name`; without a disk (offline, an alias, the secondary of a copy pair) `disk` is empty.

    `number` is the disk's ``MAJOR:MINOR``, `sectors` its size in units of 512 bytes (None: not known yet), `block_size`
    that of its blocks in bytes (None: not known).
    """

    name: str
    online: bool
    alias: bool
    readonly: bool
    discipline: str
    uid: str
    ese: bool
    copy_role: str
    disk: str = ""
    number: str = ""
    sectors: int | None = None
    block_size: int | None = None

    @property
    def status(self) -> str:
        """``offline``, ``alias``, ``secondary``, ``active`` or ``n/f`` (not formatted)."""
        if not self.online:
            return "offline"
        if self.alias:
            return "alias"
        if self.copy_role == "secondary":
            return "secondary"
        return "n/f" if self.sectors == 0 else "active"

    @property
    def blocks(self) -> int | None:
        """How many blocks it has, None when that is not known."""
        if not self.sectors or not self.block_size or self.block_size < _SECTOR:
            return None
        return self.sectors // (self.block_size // _SECTOR)

    @property
    def megabytes(self) -> int | None:
        """Its size in units of 1,048,576 bytes, rounded down."""
        return None if not self.sectors else self.sectors * _SECTOR >> 20


def dasds(sysfs: Sysfs) -> Iterator[Dasd]:
    """All devices of the DASD drivers, in the order of their numbers, but for those that lack the basic attributes."""
    names = {name for driver in DRIVERS for name in sysfs.names(f"/sys/bus/ccw/drivers/{driver}")}
    for address in sorted(_addresses(names)):
        dasd = _dasd(ChannelDevice(sysfs, address))
        if dasd is not None:
            yield dasd


def _addresses(names: set[str]) -> Iterator[DeviceNumber]:
    for name in names:
        try:
            address = DeviceNumber.parse(name)
        except BadAddress:
            continue  # a file of the driver
        if str(address) == name:
            yield address


def _dasd(device: ChannelDevice) -> Dasd | None:
    online, alias, uid, readonly, discipline = (
        device.attribute(name) for name in ("online", "alias", "uid", "readonly", "discipline")
    )
    if None in (online, alias, uid, readonly, discipline):
        return None
    role = device.attribute("copy_role", "none") or "none"
    plain = (device.name, online != "0", alias == "1", readonly != "0", discipline or "", uid or "")
    ese = device.attribute("ese") == "1"
    if online == "0" or alias == "1" or role == "secondary":
        return Dasd(*plain, ese, role)
    disks = [name for name in device.sysfs.names(f"{device.link_path}/block") if name.startswith("dasd")]
    if not disks:
        return Dasd(*plain, ese, role)
    queue = device.read_number(f"block/{disks[0]}/queue/hw_sector_size")
    return Dasd(
        *plain,
        ese,
        role,
        disks[0],
        device.attribute(f"block/{disks[0]}/dev", "") or "",
        device.read_number(f"block/{disks[0]}/size"),
        queue or device.read_number(f"block/{disks[0]}/queue/logical_block_size"),
    )


def details(sysfs: Sysfs, name: str) -> dict[str, str]:
    """Further attributes of the DASD `name`, those it has, and its paths as CHPIDs by what holds for them."""
    device = ChannelDevice(sysfs, DeviceNumber.parse(name))
    found = {key.rpartition("/")[2]: device.attribute(key, "") or "" for key in _LONG}
    subchannel = device.subchannel
    masks = (device.attribute("path_masks", "") or "").split()
    found["paths_installed"] = _paths(subchannel.chpids, subchannel.pim)
    for kind, mask in zip(PATH_KINDS, [int(text, 16) for text in masks] + [0] * len(PATH_KINDS), strict=False):
        found[kind] = _paths(subchannel.chpids, mask)
    return found


def _paths(chpids: tuple[int, ...], mask: int) -> str:
    return " ".join(f"{chpid:02x}" for place, chpid in enumerate(chpids[:_PATHS]) if mask & 0x80 >> place)
