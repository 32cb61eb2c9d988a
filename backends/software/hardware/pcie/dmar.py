"""What firmware tells of the IOMMU in its table ``DMAR`` besides where the units are: memory that it reserves.

A device may use such memory for the firmware's sake, at the addresses that it really has (RMRR).  Source: Intel
Virtualization Technology for Directed I/O, Architecture Specification, 8.3.1 and 8.4.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DeviceScope", "ReservedMemory"]


@dataclass(frozen=True, slots=True)
class DeviceScope:
    """A device: the root bus `bus` of a `segment`, and device and function numbers (5 and 3 bits) from there on."""

    segment: int
    bus: int
    path: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReservedMemory:
    """Memory from `first` to `last` that the devices in `scopes` use, or what is behind those that are bridges."""

    first: int
    last: int
    scopes: tuple[DeviceScope, ...]
