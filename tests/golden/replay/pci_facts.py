"""What the recordings read of a PCI function and of the slots."""

from __future__ import annotations

from typing import Any

from .seam import Seam

__all__ = ["DEVICES", "function", "handles", "slots"]

DEVICES = "/sys/bus/pci/devices"
_SLOTS = "/sys/bus/pci/slots"
_ATTRIBUTES = [
    "vendor",
    "device",
    "subsystem_vendor",
    "subsystem_device",
    "class",
    "revision",
    "irq",
    "enable",
    "function_id",
    "function_handle",
    "uid",
    "index",
    "pchid",
    "pfgid",
    "vfn",
    "pft",
    "port",
    "fidparm",
    "pfip/segment0",
    "pfip/segment1",
    "pfip/segment2",
    "pfip/segment3",
    "mio_enabled",
    "uid_is_unique",
    "driver_override",
    "numa_node",
    "reset_method",
    "power_state",
    "msi_bus",
    "d3cold_allowed",
    "broken_parity_status",
    "ari_enabled",
    "current_link_speed",
    "resource",
    "modalias",
]
_SLOT_ATTRIBUTES = ("adapter", "address", "cur_bus_speed", "max_bus_speed", "power")


def function(seam: Seam, bdf: str) -> dict[str, Any]:
    """The attributes of a function (None: there is no such file), its driver, its group and its files."""
    path = f"{DEVICES}/{bdf}"
    found: dict[str, Any] = {}
    for name in _ATTRIBUTES:
        try:
            found[name] = seam.text(f"{path}/{name}")
        except OSError:
            found[name] = None
    found["util_string"] = seam.read(f"{path}/util_string").hex()
    found["driver"] = seam.link(f"{path}/driver")
    found["iommu_group"] = seam.link(f"{path}/iommu_group")
    found["files"] = seam.listing(path)
    return found


def handles(seam: Seam) -> dict[str, str]:
    """Each function's handle."""
    return {bdf: seam.text(f"{DEVICES}/{bdf}/function_handle") for bdf in seam.listing(DEVICES)}


def slots(seam: Seam) -> dict[str, dict[str, str]]:
    """Each slot's attributes."""
    return {
        slot: {name: seam.text(f"{_SLOTS}/{slot}/{name}") for name in _SLOT_ATTRIBUTES} for slot in seam.listing(_SLOTS)
    }
