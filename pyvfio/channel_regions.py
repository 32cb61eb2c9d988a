"""The regions of a vfio-ccw device as functions: one request or one look each, none of which waits.

======  ==========  ===========  =====================================================================
region  since       what for     here
======  ==========  ===========  =====================================================================
I/O     Linux 4.12  start, IRB   `ChannelRegions.start`, `ChannelRegions.irb`
async   Linux 5.2   halt, clear  `ChannelRegions.command`, `ChannelRegions.has_async`
SCHIB   Linux 5.8   path masks   `ChannelRegions.schib`, `ChannelRegions.has_schib`
CRW     Linux 5.8   path events  `ChannelRegions.crw`, `ChannelRegions.has_crw`
======  ==========  ===========  =====================================================================

Source: ``Documentation/arch/s390/vfio-ccw.rst``, ``include/uapi/linux/vfio_ccw.h``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvfio.abi import vfio_ccw as abi
from pyvfio.css.crw import CRW_SIZE, Crw
from pyvfio.css.irb import Irb
from pyvfio.css.schib import Schib
from pyvfio.css.scsw import Fctl, Scsw
from pyvfio.errors import Misuse, NotAvailable

if TYPE_CHECKING:
    from pyvfio.vfio import Device, Irq, Region

__all__ = ["ChannelRegions"]

_IRB_AT: Final = abi.ORB_AREA_SIZE + abi.SCSW_AREA_SIZE
_RETURN_CODE_SIZE: Final = 4
_BEHIND_ORB: Final = Scsw(fctl=Fctl.START).to_bytes() + bytes(abi.IRB_AREA_SIZE + _RETURN_CODE_SIZE)
_COMMANDS: Final = {
    number: bytes(abi.CcwCmdRegion(command=number))
    for number in (abi.VFIO_CCW_ASYNC_CMD_HSCH, abi.VFIO_CCW_ASYNC_CMD_CSCH)
}


class ChannelRegions:
    """The regions of `device`; `operation` is what an error calls the wish to have them.

    Raise `Misuse` when it is no channel device.
    """

    def __init__(self, device: Device, operation: str) -> None:
        if device.kind != "ccw":
            raise Misuse(operation, device.name, cause=f"it is a {device.kind} device")
        self.device = device
        self.io = device.region(abi.VFIO_CCW_CONFIG_REGION_INDEX)
        self._found: dict[int, Region] = {}

    def find(self, subtype: int) -> Region | None:
        """A region beyond the first (``VFIO_REGION_SUBTYPE_CCW_*``), None when this kernel has it not."""
        found = self._found.get(subtype) or self.device.find_region(abi.VFIO_REGION_TYPE_CCW, subtype)
        if found is not None:
            self._found[subtype] = found
        return found

    def _need(self, subtype: int, what: str, since: str) -> Region:
        region = self.find(subtype)
        if region is None:
            raise NotAvailable(
                what,
                self.device.name,
                cause="this kernel's vfio-ccw has no such region",
                next_step=f"it needs {since} or a later kernel",
            )
        return region

    @property
    def has_async(self) -> bool:
        """Whether this kernel can halt and clear."""
        return self.find(abi.VFIO_REGION_SUBTYPE_CCW_ASYNC_CMD) is not None

    @property
    def has_schib(self) -> bool:
        """Whether this kernel tells the SCHIB."""
        return self.find(abi.VFIO_REGION_SUBTYPE_CCW_SCHIB) is not None

    @property
    def has_crw(self) -> bool:
        """Whether this kernel reports channel reports."""
        return self.find(abi.VFIO_REGION_SUBTYPE_CCW_CRW) is not None

    def crw_irq(self) -> Irq | None:
        """The interrupt of channel reports, None when this kernel has none."""
        has = self.has_crw and self.device.info.num_irqs > abi.VFIO_CCW_CRW_IRQ_INDEX
        return self.device.irq(abi.VFIO_CCW_CRW_IRQ_INDEX) if has else None

    @property
    def io_irq(self) -> Irq:
        """The interrupt of I/O."""
        return self.device.irq(abi.VFIO_CCW_IO_IRQ_INDEX)

    # requests: each raises the class for the errno

    def start(self, orb: bytes) -> None:
        """START SUBCHANNEL with the 12 bytes of an ORB."""
        self.io.write(0, orb + _BEHIND_ORB)

    def command(self, number: int, what: str) -> None:
        """HALT or CLEAR SUBCHANNEL (``VFIO_CCW_ASYNC_CMD_*``).  Raise `NotAvailable` (before Linux 5.2)."""
        self._need(abi.VFIO_REGION_SUBTYPE_CCW_ASYNC_CMD, what, "Linux 5.2").write(0, _COMMANDS[number])

    def irb(self) -> Irb:
        """The interruption response that came last, with the addresses of whoever started the program."""
        return Irb.from_bytes(self.io.read(_IRB_AT, abi.IRB_AREA_SIZE))

    def schib(self) -> Schib:
        """The SCHIB of now (ENODEV: the subchannel or its device is gone).  Raise `NotAvailable` (before Linux 5.8)."""
        region = self._need(abi.VFIO_REGION_SUBTYPE_CCW_SCHIB, "store subchannel", "Linux 5.8")
        return Schib.from_bytes(region.read(0, abi.SCHIB_AREA_SIZE))

    def crw(self) -> Crw | None:
        """Take the next channel report, None when there is no more.  Raise `NotAvailable` (before Linux 5.8)."""
        region = self._need(abi.VFIO_REGION_SUBTYPE_CCW_CRW, "store channel report word", "Linux 5.8")
        word = region.read(0, region.size)[:CRW_SIZE]
        return Crw.from_bytes(word) if any(word) else None
