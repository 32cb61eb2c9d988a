"""What Linux asks the channel subsystem for with CHSC (``drivers/s390/cio/chsc.c``)."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from pyvfio.address import SubchannelId
from pyvfio.css.chsc import ChscCode, ChscRequest, ChscResponse
from pyvfio.css.chsc_machine import (
    CallCharacteristic,
    Characteristic,
    Characteristics,
    StoreCharacteristics,
    StoreEvents,
    StoreImages,
)
from pyvfio.css.chsc_measurement import MeasurementCharacteristics, SetMeasurement, StoreMeasurement
from pyvfio.css.chsc_paths import PathDescription, StorePaths
from pyvfio.css.chsc_subchannels import InitiateLogging, StoreSubchannels, SubchannelDescription
from pyvfio.css.instructions import OperandException
from pyvfio.css.sei import Sei

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.css import ChannelSubsystemHardware

__all__ = ["ChscCalls", "PathFacts"]

_ENTRY: Final = 32  # bytes of the measurement characteristics of one path
_NOT_MEASURED: Final = MeasurementCharacteristics(0, valid=False)
_UNANSWERED: Final = ChscResponse(0)
_NAMED: Final = 0  # the formats of a channel path's description
_WITH_CHANNEL: Final = 1
_WITH_UTILITY: Final = 3
_INVALID: Final = frozenset({0x0002, 0x0003, 0x0006, 0x0007, 0x0008, 0x000A, 0x0104})
_NOT_PROVIDED: Final = frozenset({0x0004, 0x0106})
_BUSY: Final = frozenset({0x000B, 0x0107})
_NO_MEMORY: Final = frozenset({0x0100, 0x0102})
_NO_USER: Final = 0x0108


def _errno(code: int) -> int:
    """The errno for a response code, 0 for success (``chsc_error_from_response``)."""
    if code == ChscCode.COMPLETED:
        return 0
    for codes, value in (
        (_INVALID, errno.EINVAL),
        (_NOT_PROVIDED, errno.EOPNOTSUPP),
        (_BUSY, errno.EBUSY),
        (_NO_MEMORY, errno.ENOMEM),
    ):
        if code in codes:
            return value
    return errno.EUSERS if code == _NO_USER else errno.EIO


@dataclass(frozen=True, slots=True)
class PathFacts:
    """What is known of a channel path: `type`, and what only some machines tell.

    `chid` is the channel's id and `external` whether that is a physical one; `esc` says how safe its links are.
    """

    type: int
    chid: int | None = None
    external: bool = False
    esc: int = 0
    utility: bytes = bytes(64)
    measurement: MeasurementCharacteristics = _NOT_MEASURED


class ChscCalls:
    """The calls of a kernel to its channel subsystem; an answer that is an errno is 0 for success."""

    def __init__(self, hardware: ChannelSubsystemHardware) -> None:
        self.hardware = hardware

    def _answer(self, request: ChscRequest) -> tuple[int, ChscResponse]:
        """The errno and the response, one without a code if the call was not answered."""
        try:
            cc, block = self.hardware.chsc(request.to_bytes())
        except OperandException:
            return errno.EIO, _UNANSWERED
        if cc:
            return errno.ENODEV if cc == 3 else errno.EBUSY, _UNANSWERED
        response = ChscResponse.from_bytes(block)
        return _errno(response.code), response

    def _call(self, request: ChscRequest) -> tuple[int, bytes]:
        code, response = self._answer(request)
        return code, response.data

    @cached_property
    def characteristics(self) -> Characteristics:
        """The facilities of the machine."""
        code, data = self._call(StoreCharacteristics().request())
        return Characteristics() if code else Characteristics.from_bytes(data)

    @property
    def measures_paths(self) -> bool:
        """Whether the use of channel paths can be measured."""
        return CallCharacteristic.SET_CHANNEL_MEASUREMENT in self.characteristics.calls

    @cached_property
    def image(self) -> int | None:
        """The machine's number for our image, None if it does not tell (``chsc_get_cssid_iid``)."""
        code, data = self._call(StoreImages().request())
        entries = [] if code else StoreImages.entries(data)
        return entries[0][0] if entries else None

    def path(self, chpid: int) -> PathFacts | None:
        """What is known of a channel path, None when the machine has no such (``chp_update_desc``)."""
        plain = self._describe(chpid, _NAMED)
        if plain is None or not plain.valid:
            return None
        general = self.characteristics.general
        more = self._describe(chpid, _WITH_CHANNEL) if Characteristic.FIBRE_CHANNEL in general else None
        text = self._describe(chpid, _WITH_UTILITY) if Characteristic.UTILITY_STRING in general else None
        more = more or plain
        utility = text.utility if text is not None else bytes(64)
        return PathFacts(plain.type, more.chid, more.external, more.esc, utility, self._measurement(chpid))

    def _describe(self, chpid: int, fmt: int) -> PathDescription | None:
        request = StorePaths(chpid, chpid, c=fmt == _WITH_CHANNEL, rfmt=fmt)
        code, data = self._call(request.request())
        found = [] if code else PathDescription.list_from(data, fmt)
        return found[0] if found else None

    def _measurement(self, chpid: int) -> MeasurementCharacteristics:
        calls = self.characteristics.calls
        if not self.measures_paths or CallCharacteristic.STORE_MEASUREMENT_CHARACTERISTICS not in calls:
            return _NOT_MEASURED
        code, data = self._call(StoreMeasurement(chpid, chpid).request())
        return _NOT_MEASURED if code or not data else MeasurementCharacteristics.from_bytes(data[:_ENTRY])

    def measure_paths(self, on: bool, areas: tuple[int, int], extended: tuple[int, int, int, int]) -> int:
        """Start or stop the measurement of all channel paths (``__chsc_do_secm``)."""
        code, response = self._answer(SetMeasurement(on, areas, e=True, extended=extended).request())
        return errno.EINVAL if response.code in (ChscCode.MEASUREMENT_STATE, ChscCode.MEASUREMENT_AREA) else code

    def subchannel(self, schid: SubchannelId) -> SubchannelDescription | None:
        """How a subchannel is connected, None if the machine does not tell (``chsc_get_ssd_info``)."""
        request = StoreSubchannels(schid.ssid, schid.number, schid.number)
        code, data = self._call(request.request())
        if code or not data:
            return None
        found = SubchannelDescription.from_bytes(data)
        return found if found.valid else None

    def log(self, schid: SubchannelId) -> int:
        """Have the machine keep a log about the device of a subchannel (``chsc_siosl``)."""
        return self._call(InitiateLogging(schid).request())[0]

    def event(self) -> Sei | None:
        """The next event that waits, None when there is none."""
        code, response = self._answer(StoreEvents.of(0, 2).request())
        return None if code else Sei.from_bytes(response.parameters.to_bytes(4, "big") + response.data)
