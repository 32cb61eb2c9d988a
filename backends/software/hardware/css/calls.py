"""What the channel subsystem tells and does when it is called (CHSC).

Not modelled: how much a channel path is used.  The areas of SET CHANNEL MEASUREMENT get an entry of zeros for each path
when it is turned on, and stay so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pyvfio.address import SubchannelId
from pyvfio.css.chsc import CHSC_SIZE, ChscCode
from pyvfio.css.chsc_machine import Facility
from pyvfio.css.chsc_measurement import MeasurementCharacteristics, SetMeasurement
from pyvfio.css.chsc_paths import PathDescription
from pyvfio.css.chsc_service import Calls
from pyvfio.css.chsc_subchannels import QdioDescription, SubchannelDescription
from pyvfio.css.instructions import StorageError
from pyvfio.css.schib import SubchannelType
from pyvfio.css.sei import Sei

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.css.subsystem import ChannelSubsystemHardware

__all__ = ["HardwareCalls"]

_UTILIZATION_ENTRY: Final = 32


class HardwareCalls(Calls):
    """The calls of `css`."""

    def __init__(self, css: ChannelSubsystemHardware) -> None:
        super().__init__(css.model.commands, css.model.characteristics)
        self._css = css
        #: Whether the measurement of channel paths is on.
        self.measuring = False
        #: The subchannels about whose devices logs were asked for, in order.
        self.logged: list[SubchannelId] = []

    def has_image(self, cssid: int) -> bool:
        """See `Calls`: one that has subchannels."""
        return not cssid or self._css.has_image(cssid)

    def own_image(self) -> tuple[int, int] | None:
        """See `Calls`."""
        return self._css.default_image, 0

    def enable_facility(self, facility: Facility) -> bool:
        """See `Calls`."""
        self._css.enable(facility)
        return True

    def take_event(self, wanted: Callable[[int], bool]) -> Sei | None:
        """See `Calls`."""
        return self._css.take_event(wanted)

    def describe_path(self, cssid: int, chpid: int) -> PathDescription | None:
        """See `Calls`: also one that is not configured."""
        path = self._css.path(cssid or self._css.default_image, chpid)
        return path.description() if path is not None else None

    def measure_path(self, chpid: int) -> MeasurementCharacteristics | None:
        """See `Calls`."""
        path = self._css.path(self._css.default_image, chpid)
        return path.measurement() if path is not None else None

    def set_measurement(self, wish: SetMeasurement) -> ChscCode:
        """See `Calls`."""
        if wish.on == self.measuring:
            return ChscCode.MEASUREMENT_STATE
        if wish.on:
            if any(area % CHSC_SIZE for area in wish.areas):
                return ChscCode.MEASUREMENT_AREA
            entries_of_an_area = CHSC_SIZE // _UTILIZATION_ENTRY
            try:
                for path in self._css.paths():
                    page, entry = divmod(path.chpid, entries_of_an_area)
                    if path.cssid == self._css.default_image:
                        at = wish.areas[page] + entry * _UTILIZATION_ENTRY
                        self._css.store(at, bytes(_UTILIZATION_ENTRY))
            except StorageError:
                return ChscCode.MEASUREMENT_AREA
        self.measuring = wish.on
        return ChscCode.COMPLETED

    def describe_subchannel(self, schid: SubchannelId) -> SubchannelDescription:
        """See `Calls`."""
        subchannel = self._css.designated_subchannel(schid)
        if subchannel is None:
            return super().describe_subchannel(schid)
        pmcw, config = subchannel.pmcw, subchannel.config
        links = sum(0x80 >> at for at, link in enumerate(config.links) if link)
        return SubchannelDescription(
            schid.sch_no,
            device_valid=pmcw.dnv,
            st=pmcw.st,
            unit_address=config.unit_address,
            devno=pmcw.devno,
            path_mask=pmcw.pim,
            link_mask=links & pmcw.pim,
            chpids=bytes(pmcw.chpid),
            links=config.links,
        )

    def describe_qdio(self, schid: SubchannelId) -> QdioDescription:
        """See `Calls`: QDIO subchannels say so, with one input and four output queues."""
        subchannel = self._css.designated_subchannel(schid)
        if subchannel is None or subchannel.pmcw.st != SubchannelType.IO:
            return super().describe_qdio(schid)
        if not subchannel.pmcw.qf:
            return QdioDescription(schid.sch_no)
        return QdioDescription(schid.sch_no, capable=True, pcnt=5, icnt=1, ocnt=4)

    def initiate_logging(self, schid: SubchannelId) -> bool:
        """See `Calls`."""
        subchannel = self._css.designated_subchannel(schid)
        if subchannel is None or not subchannel.pmcw.dnv:
            return False
        self.logged.append(schid)
        return True
