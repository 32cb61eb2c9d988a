"""Where firmware puts things below a host bridge: windows of bridges begin and end with segments.

So what is behind one bridge has segments of its own, and can be an endpoint.
"""

from __future__ import annotations

from pyvfio_backends.software.hardware.ioda.phb import Phb
from pyvfio_backends.software.hardware.pcie.allocation import Layout, Pool, lay_out
from pyvfio_backends.software.hardware.pcie.config_mechanism import ConfigAccess
from pyvfio_backends.software.hardware.pcie.enumeration import FoundBus, Reserve
from pyvfio_backends.software.hardware.pcie.firmware import Apertures, Arrange

__all__ = ["apertures", "arrange"]

_MESSAGES = 0x10000


def apertures(phb: Phb) -> Apertures:
    """The addresses on the bus that the windows of a bridge reach; the last 64 KiB below 4 GiB are for messages.

    Of 64-bit windows it is the one with the highest number that is on, in which all endpoints have segments.
    """
    m32, io = phb.windows.m32.segments, phb.windows.io
    memory = range(0) if m32 is None else range(m32.bus_base, m32.bus_base + m32.size - _MESSAGES)
    wide = next((one for one in reversed(phb.windows.m64) if one.enabled and one.single is None), None)
    ports = io.segments if io is not None else None
    return Apertures(
        range(0x10000, 0x10000) if ports is None else range(ports.bus_base + ports.segment_size, ports.size),
        memory,
        range(1 << 32, 1 << 32) if wide is None else range(wide.first, wide.end),
    )


def arrange(phb: Phb) -> Arrange:
    """How addresses are given below a bridge."""
    granules: dict[Pool, int] = {Pool.MEMORY: phb.windows.m32.size}
    if phb.windows.io is not None:
        granules[Pool.IO] = phb.windows.io.size
    wide = next((one for one in reversed(phb.windows.m64) if one.enabled and one.single is None), None)
    if wide is not None:
        granules[Pool.PREFETCHABLE] = wide.size

    def place(access: ConfigAccess, buses: list[FoundBus], pools: dict[Pool, range], reserve: Reserve) -> Layout:
        return lay_out(access, buses, pools, reserve, granules)

    return place
