"""Answers channel-subsystem calls: what the machine does at the level of the hardware, and a hypervisor for a guest.

`Calls` knows the commands, checks requests and builds responses; what there is to tell comes from a subclass.  Checks
are in this order: the command is provided (else response 0004), length and bits that must be zero (0003), format
(0007), image (0008), the rest.  A list that does not fit behind its request ends where the page ends.

Source: ``drivers/s390/cio/chsc.c``; QEMU's answers for the commands that it has (0002, 000e, 0010, 0031).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from pyvfio.address import SubchannelId
from pyvfio.css.chsc import CHSC_SIZE, ChscCode, ChscCommand, ChscRequest, ChscResponse
from pyvfio.css.chsc_machine import (
    Characteristics,
    EnableFacility,
    Facility,
    StoreCharacteristics,
    StoreEvents,
    StoreImages,
)
from pyvfio.css.chsc_measurement import MeasurementCharacteristics, SetMeasurement, StoreMeasurement
from pyvfio.css.chsc_paths import PathDescription, StorePaths
from pyvfio.css.chsc_subchannels import (
    InitiateLogging,
    QdioDescription,
    StoreQdio,
    StoreSubchannels,
    SubchannelDescription,
)
from pyvfio.css.sei import Sei
from pyvfio.errors import Misuse

__all__ = ["Calls"]

_Answer: TypeAlias = Callable[[ChscRequest], ChscResponse]
_HEADER: Final = 4
_RESPONSE_HEADER: Final = 8
_INVALID: Final = ChscResponse(ChscCode.INVALID_REQUEST)
_INVALID_FORMAT: Final = ChscResponse(ChscCode.INVALID_FORMAT)
_INVALID_IMAGE: Final = ChscResponse(ChscCode.INVALID_IMAGE)
_COMPLETED: Final = ChscResponse(ChscCode.COMPLETED)


class Calls:
    """The calls that a channel subsystem takes: `commands` are the codes of those that are provided.

    A subclass overrides what it can tell; the rest says that there is nothing.
    """

    def __init__(self, commands: Iterable[int], characteristics: Characteristics) -> None:
        self.commands = frozenset(commands)
        self.characteristics = characteristics
        self._answers: dict[int, _Answer] = {
            ChscCommand.STORE_CHANNEL_PATHS: self._store_paths,
            ChscCommand.STORE_SUBCHANNELS: self._store_subchannels,
            ChscCommand.STORE_EVENT_INFORMATION: self._store_events,
            ChscCommand.STORE_CHARACTERISTICS: self._store_characteristics,
            ChscCommand.SET_CHANNEL_MEASUREMENT: self._set_measurement,
            ChscCommand.STORE_MEASUREMENT_CHARACTERISTICS: self._store_measurement,
            ChscCommand.STORE_SUBCHANNEL_QDIO: self._store_qdio,
            ChscCommand.SET_DOMAIN_ATTRIBUTES: self._enable,
            ChscCommand.STORE_DOMAIN_ATTRIBUTES: self._store_images,
            ChscCommand.INITIATE_LOGGING: self._initiate_logging,
        }

    def answer(self, block: bytes) -> bytes:
        """The response block for a request.  Raise `Misuse` when CHSC would recognise an operand exception."""
        request = ChscRequest.from_bytes(block)
        answer = self._answers.get(request.command) if request.command in self.commands else None
        if answer is None:
            return ChscResponse(ChscCode.NOT_PROVIDED).to_bytes()
        try:
            return answer(request).to_bytes()
        except Misuse:
            return _INVALID.to_bytes()

    # -- what a subclass tells -----------------------------------------------------------------------------------

    def has_image(self, cssid: int) -> bool:
        """Whether there is such an image."""
        return cssid == 0

    def own_image(self) -> tuple[int, int] | None:
        """The program's own css id and image id."""
        return None

    def enable_facility(self, facility: Facility) -> bool:
        """Enable a facility; whether it is provided."""
        return False

    def take_event(self, wanted: Callable[[int], bool]) -> Sei | None:
        """The oldest event of a notification type that is `wanted`, which is gone then."""
        return None

    def describe_path(self, cssid: int, chpid: int) -> PathDescription | None:
        """A channel path, None when there is no such."""
        return None

    def measure_path(self, chpid: int) -> MeasurementCharacteristics | None:
        """What is measured of a channel path of the own image, None when there is no such."""
        return None

    def set_measurement(self, wish: SetMeasurement) -> ChscCode:
        """Turn the measurement of channel paths on or off."""
        return ChscCode.NOT_PROVIDED

    def describe_subchannel(self, schid: SubchannelId) -> SubchannelDescription:
        """A subchannel of the own image."""
        return SubchannelDescription(schid.sch_no, valid=False, device_valid=False)

    def describe_qdio(self, schid: SubchannelId) -> QdioDescription:
        """What a subchannel of the own image is for QDIO."""
        return QdioDescription(schid.sch_no, valid=False)

    def initiate_logging(self, schid: SubchannelId) -> bool:
        """Have a log kept about a device; whether there is such a subchannel."""
        return False

    # -- the commands --------------------------------------------------------------------------------------------

    def _store_paths(self, request: ChscRequest) -> ChscResponse:
        wish = StorePaths.from_request(request)
        fmt = wish.description
        if any(wish.zeros):
            return ChscResponse(ChscCode.INVALID_REQUEST, parameters=fmt)
        if wish.fmt or fmt not in PathDescription.SIZES:
            return ChscResponse(ChscCode.INVALID_FORMAT, parameters=fmt)
        if wish.cssid and not (wish.m and self.has_image(wish.cssid)):
            return ChscResponse(ChscCode.INVALID_IMAGE, parameters=fmt)
        if wish.last < wish.first:
            return ChscResponse(ChscCode.INVALID_REQUEST, parameters=fmt)
        found = (self.describe_path(wish.cssid, chpid) for chpid in range(wish.first, wish.last + 1))
        return _listed(request, (path.to_bytes(fmt) for path in found if path is not None), fmt)

    def _store_subchannels(self, request: ChscRequest) -> ChscResponse:
        wish = StoreSubchannels.from_request(request)
        return self._ranged(request, wish, lambda schid: self.describe_subchannel(schid).to_bytes())

    def _store_qdio(self, request: ChscRequest) -> ChscResponse:
        wish = StoreQdio.from_request(request)
        return self._ranged(request, wish, lambda schid: self.describe_qdio(schid).to_bytes())

    @staticmethod
    def _ranged(
        request: ChscRequest, wish: StoreSubchannels, describe: Callable[[SubchannelId], bytes]
    ) -> ChscResponse:
        if any(wish.zeros) or wish.last < wish.first:
            return _INVALID
        if wish.fmt:
            return _INVALID_FORMAT
        schids = (SubchannelId(0, wish.ssid, number) for number in range(wish.first, wish.last + 1))
        return _listed(request, (describe(schid) for schid in schids))

    def _store_events(self, request: ChscRequest) -> ChscResponse:
        event = self.take_event(StoreEvents.from_request(request).wants)
        if event is None:
            return ChscResponse(ChscCode.NO_INFORMATION)
        raw = event.to_bytes()
        return ChscResponse(ChscCode.COMPLETED, raw[_HEADER:][: _room(request)], int.from_bytes(raw[:_HEADER], "big"))

    def _store_characteristics(self, request: ChscRequest) -> ChscResponse:
        wish = StoreCharacteristics.from_request(request)
        if wish.fmt:
            return _INVALID_FORMAT
        if wish.cssid and not (wish.m and self.has_image(wish.cssid)):
            return _INVALID_IMAGE
        if any(wish.zeros):
            return _INVALID
        return ChscResponse(ChscCode.COMPLETED, self.characteristics.to_bytes())

    def _set_measurement(self, request: ChscRequest) -> ChscResponse:
        return ChscResponse(self.set_measurement(SetMeasurement.from_request(request)))

    def _store_measurement(self, request: ChscRequest) -> ChscResponse:
        wish = StoreMeasurement.from_request(request)
        if any(wish.zeros) or wish.last < wish.first:
            return _INVALID
        found = (self.measure_path(chpid) for chpid in range(wish.first, wish.last + 1))
        return _listed(request, (path.to_bytes() for path in found if path is not None))

    def _enable(self, request: ChscRequest) -> ChscResponse:
        wish = EnableFacility.from_request(request)
        if any(wish.zeros):
            return _INVALID
        if wish.fmt:
            return _INVALID_FORMAT
        if wish.operation not in list(Facility):
            return _INVALID
        enabled = self.enable_facility(Facility(wish.operation))
        return _COMPLETED if enabled else ChscResponse(ChscCode.FACILITY_NOT_PROVIDED)

    def _store_images(self, request: ChscRequest) -> ChscResponse:
        own = self.own_image()
        if StoreImages.from_request(request).attribute != StoreImages.OWN_IMAGE:
            return _INVALID
        return ChscResponse(ChscCode.COMPLETED, StoreImages.answer([own] if own is not None else []))

    def _initiate_logging(self, request: ChscRequest) -> ChscResponse:
        wish = InitiateLogging.from_request(request)
        return _COMPLETED if not wish.zeros and self.initiate_logging(wish.schid) else _INVALID


def _room(request: ChscRequest) -> int:
    """Bytes of data that fit behind a request and the header of its response."""
    return CHSC_SIZE - request.length - _RESPONSE_HEADER


def _listed(request: ChscRequest, blocks: Iterable[bytes], parameters: int = 0) -> ChscResponse:
    data = bytearray()
    room = _room(request)
    for block in blocks:
        if len(data) + len(block) > room:
            break
        data += block
    return ChscResponse(ChscCode.COMPLETED, bytes(data), parameters)
