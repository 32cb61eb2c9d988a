"""CHSC for a guest: what its channel subsystem says of itself, answered here from what is known of the host's.

=======================  =============================================================================================
command                  the answer
=======================  =============================================================================================
store characteristics    several images and sets, measurement blocks of the extended kind; no transport mode, no QDIO
store channel paths      the paths of the guest's subchannels, with the types that the host's sysfs tells
store subchannels        the guest's subchannels: device numbers, path masks, CHPIDs
set domain attributes    images and subchannel sets can be enabled (`GuestCalls.enabled`), until the next reset
store event information  there is none: what happens at the host comes as channel reports
all others               not provided
=======================  =============================================================================================

The machine's own CHSC is its kernel's, so nothing is passed on.  QEMU answers the same commands, but store subchannels
(``hw/s390x/css.c``, ``target/s390x/ioinst.c``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvfio.address import SubchannelId
from pyvfio.css.chsc import ChscCommand
from pyvfio.css.chsc_machine import Characteristic, Characteristics, Facility
from pyvfio.css.chsc_paths import PathDescription
from pyvfio.css.chsc_service import Calls
from pyvfio.css.chsc_subchannels import SubchannelDescription

if TYPE_CHECKING:
    from pyvfio.passthrough.inventory import GuestInventory

__all__ = ["GuestCalls"]

_COMMANDS: Final = (
    ChscCommand.STORE_CHANNEL_PATHS,
    ChscCommand.STORE_SUBCHANNELS,
    ChscCommand.STORE_EVENT_INFORMATION,
    ChscCommand.STORE_CHARACTERISTICS,
    ChscCommand.SET_DOMAIN_ATTRIBUTES,
)
_CHARACTERISTICS: Final = Characteristics.of(
    [
        Characteristic.MULTIPLE_IMAGES,
        Characteristic.EXTENDED_MEASUREMENT_BLOCK,
        Characteristic.ALTERNATE_STORE_SUBCHANNEL,
    ]
)


class GuestCalls(Calls):
    """The calls of a guest whose devices are in `inventory`; `enabled` are the facilities that it has enabled."""

    def __init__(self, inventory: GuestInventory) -> None:
        super().__init__(_COMMANDS, _CHARACTERISTICS)
        self._inventory = inventory
        self.enabled: set[Facility] = set()

    def reset(self) -> None:
        """Be as after a subsystem reset."""
        self.enabled.clear()

    def has_image(self, cssid: int) -> bool:
        """See `Calls`: image 0, and those in which the guest has a subchannel."""
        return not cssid or any(schid.cssid == cssid for schid in self._inventory.schids())

    def enable_facility(self, facility: Facility) -> bool:
        """See `Calls`."""
        self.enabled.add(facility)
        return True

    def describe_path(self, cssid: int, chpid: int) -> PathDescription | None:
        """See `Calls`."""
        kind = self._inventory.path_type(cssid, chpid)
        return PathDescription(chpid, kind) if kind is not None else None

    def describe_subchannel(self, schid: SubchannelId) -> SubchannelDescription:
        """See `Calls`."""
        schib = self._inventory.stored(schid)
        if schib is None:
            return super().describe_subchannel(schid)
        pmcw = schib.pmcw
        return SubchannelDescription(
            schid.sch_no,
            device_valid=pmcw.dnv,
            st=pmcw.st,
            devno=pmcw.devno,
            path_mask=pmcw.pim,
            chpids=bytes(pmcw.chpid),
        )
