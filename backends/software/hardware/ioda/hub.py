"""A machine's host bridges with endpoints as one (`HostBridges`)."""

from __future__ import annotations

from pyvfio_backends.software.hardware.ioda.phb import Phb
from pyvfio_backends.software.hardware.pcie.host_bridges import HostBridges

__all__ = ["Hub"]


class Hub(HostBridges[Phb]):
    """The bridges `phbs`, by segment."""
