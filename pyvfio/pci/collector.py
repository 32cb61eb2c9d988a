"""Root complex event collectors: where messages of errors end of functions that are part of the root complex.

Such a function is below no port, so its own path tells nothing of its collector; the collector says whose it is: a bit
for each device of its own bus, and the numbers of other buses (`CollectorReach`).  Source: PCI Express Base
Specification, 6.0, 7.9.10.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_ids import PCI_CLASS_SYSTEM_RCEC
from pyvfio.abi.pci_regs import ExpressType
from pyvfio.address import PciAddress
from pyvfio.errors import BadAddress, PyvfioError
from pyvfio.pci.config import ConfigSpace
from pyvfio.sysfs import Sysfs

__all__ = ["CollectorReach", "collector_of", "express_kind", "integrated_endpoints"]

_DEVICES = "/sys/bus/pci/devices"


@dataclass(frozen=True, slots=True)
class CollectorReach:
    """Whose messages end at `collector`: bit n of `devices` is device n of its own bus, `buses` are other ones."""

    collector: PciAddress
    devices: int
    buses: range

    @classmethod
    def read(cls, collector: PciAddress, config: ConfigSpace) -> CollectorReach | None:
        """Read it from a collector's configuration space; None without the capability."""
        at = config.extended_capability(extended.PCI_EXT_CAP_ID_RCEC)
        if at is None:
            return None
        devices = config.read_u32(at + extended.PCI_RCEC_RCIEP_BITMAP)
        if config.read_u32(at) >> 16 & 0xF < extended.PCI_RCEC_BUSN_REG_VER:
            return cls(collector, devices, range(0))
        buses = config.read_u32(at + extended.PCI_RCEC_BUSN)
        return cls(collector, devices, range(buses >> 8 & 0xFF, (buses >> 16 & 0xFF) + 1))

    def covers(self, function: PciAddress) -> bool:
        """Whether a function of the root complex is meant; the collector's own address is not.

        >>> CollectorReach(PciAddress(0, 0, 0x1E, 0), 1 << 0x1C, range(0)).covers(PciAddress(0, 0, 0x1C, 3))
        True
        """
        if function.domain != self.collector.domain or function == self.collector:
            return False
        if function.bus == self.collector.bus:
            return bool(self.devices >> function.device & 1)
        return function.bus in self.buses


def express_kind(config: ConfigSpace) -> ExpressType | None:
    """What a function is to PCI Express; None for conventional PCI, and where only the first 64 bytes are readable."""
    try:
        found = config.capability(regs.PCI_CAP_ID_EXP)
        if found is None:
            return None
        return ExpressType(regs.pci_exp_type(config.read_u16(found.offset + regs.PCI_EXP_FLAGS)))
    except (PyvfioError, ValueError):  # ValueError: a type that the specification does not know
        return None


def collector_of(sysfs: Sysfs, path: str) -> str | None:
    """The directory of the event collector of a function of the root complex, by its own; None when there is none.

    All functions of the host are looked at.
    """
    try:
        function = PciAddress.parse(posixpath.basename(path))
    except BadAddress:
        return None
    for name in sysfs.names(_DEVICES):
        reach = _reach(sysfs, name) if sysfs.attribute(f"{_DEVICES}/{name}/class") == _CLASS else None
        if reach is not None and reach.covers(function):
            return sysfs.link(f"{_DEVICES}/{name}")
    return None


def integrated_endpoints(sysfs: Sysfs, path: str) -> Iterator[str]:
    """The directories of the functions whose messages end at the event collector with this directory."""
    reach = _reach(sysfs, posixpath.basename(path))
    for name in sysfs.names(_DEVICES) if reach is not None else ():
        found = sysfs.link(f"{_DEVICES}/{name}")
        if found is None or reach is None or not reach.covers(PciAddress.parse(name)):
            continue
        config = _config(sysfs, f"{_DEVICES}/{name}")
        if config is not None and express_kind(config) is ExpressType.RC_END:
            yield found


_CLASS = f"{PCI_CLASS_SYSTEM_RCEC << 8:#08x}"


def _config(sysfs: Sysfs, path: str) -> ConfigSpace | None:
    try:
        data = sysfs.read_bytes(f"{path}/config")
    except PyvfioError:
        return None
    return ConfigSpace(lambda offset, count: data[offset : offset + count], posixpath.basename(path), size=len(data))


def _reach(sysfs: Sysfs, name: str) -> CollectorReach | None:
    config = _config(sysfs, f"{_DEVICES}/{name}")
    try:
        return None if config is None else CollectorReach.read(PciAddress.parse(name), config)
    except PyvfioError:  # an ordinary user sees 64 bytes
        return None
