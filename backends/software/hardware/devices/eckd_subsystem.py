"""The ECKD commands that ask the storage control and the device what they are, and who may use them.

====  ============================  ======  ====================================================
code  command                       length  note
====  ============================  ======  ====================================================
14    UNCONDITIONAL RESERVE         32      the first in a chain; brings sense bytes, as 94 and B4
27    PERFORM SUBSYSTEM FUNCTION    2-66    see below
34    SENSE PATH GROUP ID           12      state of the path, reservation, the identifier that was set
3E    READ SUBSYSTEM DATA           any     what 27 has prepared in this chain
44    RESET ALLEGIANCE              32      not on a 3990-2
54    SENSE SUBSYSTEM STATUS        40, 44  the first in a chain, or after 64 or FA
5B    SUSPEND MULTIPATH RECONN.
64    READ DEVICE CHARACTERISTICS   64
87    SET SUBSYSTEM MODE            2       checked; not on a 3990-2
94    RELEASE                       32
A4    READ AND RESET BUFFERED LOG   32      zeros; in the same places as 54
AF    SET PATH GROUP ID             12      function: 00 and 80 establish, 20 disband, 40 resign
B4    RESERVE                       32      as 14, but not of a device that another system has reserved
F3    DIAGNOSTIC CONTROL            4       maintenance query only
FA    READ CONFIGURATION DATA       256
====  ============================  ======  ====================================================

PERFORM SUBSYSTEM FUNCTION knows the orders 18 (prepare for READ SUBSYSTEM DATA), 1B (set special intercept condition),
1D (set subsystem characteristics), B0 (set interface identifier), and, with a cache, 11 to 16, which do nothing.  READ
SUBSYSTEM DATA can then bring the storage path status (suborder 00, 16 bytes), the performance statistics (01, 96 or
192), an attention message (03, always "none"), the feature codes (41, 256) and the unit address configuration (0E,
512: two for each address, bases only).  Others (1C query host access, 52 and 53 of space-efficient volumes, 50 of copy
pairs) are an invalid parameter, as on a storage control that does not have them.

A device that another system has reserved answers busy to everything but 14 and what tells its identity.
Sources: "3990/9390 Storage Control Reference" GA32-0274; ``drivers/s390/block/dasd_eckd.c``, ``dasd_alias.c``,
``drivers/s390/cio/device_pgid.c``; answers of Hercules (which never says that a path is grouped, or a device reserved).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pyvfio_backends.software.hardware.css.controlunit import DONE, Channel, Ending
from pyvfio_backends.software.hardware.devices.eckd_chain import Chain, parameters, take
from pyvfio_backends.software.hardware.devices.eckd_domain import (
    invalid_parameter,
    invalid_sequence,
    not_authorized,
    too_few_parameters,
)
from pyvfio_backends.software.hardware.devices.eckd_identity import (
    PERFORM_SUBSYSTEM_FUNCTION,
    READ_CONFIGURATION_DATA,
    READ_SUBSYSTEM_DATA,
    SUBSYSTEM,
    StorageControl,
)
from pyvfio_backends.software.hardware.devices.path_group import PathGroup
from pyvfio_backends.software.hardware.devices.reservation import Reservation

__all__ = ["Subsystem"]

_UNCONDITIONAL_RESERVE, _RELEASE, _RESERVE = 0x14, 0x94, 0xB4
_CHARACTERISTICS, _SUSPEND_RECONNECTION = 0x64, 0x5B
#: Commands that a device answers which another system has reserved.
_IN_ANY_CASE: Final = frozenset(
    (_UNCONDITIONAL_RESERVE, 0x04, 0x34, 0x44, _CHARACTERISTICS, 0xAF, 0xE4, READ_CONFIGURATION_DATA)
)
_PREPARE, _INTERCEPT, _SET_CHARACTERISTICS, _SET_INTERFACE = 0x18, 0x1B, 0x1D, 0xB0
_ABOUT_CACHE: Final = frozenset((0x11, 0x12, 0x13, 0x14, 0x15, 0x16))
_ORDER_SIZES: Final = {
    0x10: 14,
    0x11: 12,
    0x12: 5,
    0x13: 4,
    0x14: 4,
    0x16: 4,
    _PREPARE: 12,
    _SET_CHARACTERISTICS: 66,
    _SET_INTERFACE: 4,
}
_PATHS, _STATISTICS, _MESSAGE, _UNIT_ADDRESSES, _FEATURES = 0x00, 0x01, 0x03, 0x0E, 0x41
#: Feature codes of a control unit that knows PREFIX: byte and bits.
_PREFIX_FEATURES: Final = {8: 0x01, 9: 0x20, 12: 0x40}
_BASE_DEVICE: Final = 0x01
_STATUS_SIZE, _ENHANCED_STATUS_SIZE = 40, 44
_DEVICES: Final = 32
_LOG_SIZE: Final = 32
_MAINTENANCE_QUERY: Final = 0x10
_AUTHORIZATION: Final = 0x06


class Subsystem:
    """The handlers of these commands for one control unit.

    `sense` brings the 32 sense bytes of a device in order; `nodes` is what SET INTERFACE IDENTIFIER prepares.
    """

    def __init__(
        self,
        chain: Chain,
        control: StorageControl,
        characteristics: bytes,
        configuration: bytes,
        nodes: bytes,
        sense: Callable[[], bytes],
        reservation: Reservation,
        *,
        unit_address: int,
    ) -> None:
        self._chain = chain
        self._control = control
        self._nodes = nodes
        self._sense = sense
        self._unit_address = unit_address
        self._group = PathGroup()
        self._reservation = reservation
        self.handlers: dict[int, Callable[[int, Channel], Ending]] = {
            _UNCONDITIONAL_RESERVE: self._reserve,
            PERFORM_SUBSYSTEM_FUNCTION: self._perform_function,
            0x34: self._sense_path_group,
            READ_SUBSYSTEM_DATA: self._read_subsystem_data,
            0x54: self._sense_status,
            _SUSPEND_RECONNECTION: self._suspend_reconnection,
            _CHARACTERISTICS: lambda code, channel: self._identify(channel, characteristics),
            _RELEASE: self._release,
            0xA4: self._read_log,
            0xAF: self._set_path_group,
            _RESERVE: self._reserve,
            0xF3: self._diagnose,
            READ_CONFIGURATION_DATA: lambda code, channel: self._identify(channel, configuration),
        }
        if control.cached:
            self.handlers[0x44] = self._reset_allegiance
            self.handlers[0x87] = self._set_mode

    @property
    def reserved(self) -> bool:
        """Whether this system has reserved the device."""
        return self._reservation.owner is self

    def is_busy(self, code: int) -> bool:
        """Whether another system's reservation keeps this command out."""
        return self._reservation.owner not in (None, self) and code not in _IN_ANY_CASE

    def _identify(self, channel: Channel, data: bytes) -> Ending:
        self._chain.outside_domain()
        return _bring(channel, data)

    # -- who may use it ------------------------------------------------------------------------------------------

    def _reserve(self, code: int, channel: Channel) -> Ending:
        chain = self._chain
        chain.outside_domain()
        if chain.number > 1 and chain.previous != _SUSPEND_RECONNECTION:
            raise invalid_sequence()
        self._reservation.take(self)
        return _bring(channel, self._sense())

    def _release(self, code: int, channel: Channel) -> Ending:
        chain = self._chain
        chain.outside_domain()
        if chain.extent is not None or chain.file_mask is not None or chain.spaced:
            raise invalid_sequence()
        self._reservation.free(self)
        return _bring(channel, self._sense())

    def _reset_allegiance(self, code: int, channel: Channel) -> Ending:
        self._chain.outside_domain()
        return _bring(channel, self._sense())

    def _set_path_group(self, code: int, channel: Channel) -> Ending:
        raw = parameters(channel, PathGroup.SIZE)
        if not self._group.set(raw, channel.path):
            raise invalid_parameter()
        return DONE

    def _sense_path_group(self, code: int, channel: Channel) -> Ending:
        elsewhere = self._reservation.owner not in (None, self)
        return _bring(channel, self._group.state(channel.path, reserved=self.reserved, elsewhere=elsewhere))

    # -- status --------------------------------------------------------------------------------------------------

    def _ahead_of_all(self) -> None:
        """Raise `Fault` unless this is the first command of the chain, or behind one that is read before it."""
        chain = self._chain
        chain.outside_domain()
        first = chain.number == 1 or (chain.number == 2 and chain.previous == _SUSPEND_RECONNECTION)
        if not first and chain.previous not in (_CHARACTERISTICS, READ_CONFIGURATION_DATA):
            raise invalid_sequence()

    def _sense_status(self, code: int, channel: Channel) -> Ending:
        self._ahead_of_all()
        status = bytearray(_ENHANCED_STATUS_SIZE if self._control.prefix else _STATUS_SIZE)
        status[0:3] = bytes([self._control.prefix, self._unit_address, _DEVICES - 1])
        status[38] = SUBSYSTEM
        return _bring(channel, bytes(status))

    def _read_log(self, code: int, channel: Channel) -> Ending:
        self._ahead_of_all()
        return _bring(channel, bytes(_LOG_SIZE))

    def _suspend_reconnection(self, code: int, channel: Channel) -> Ending:
        self._chain.outside_domain()
        return DONE

    def _set_mode(self, code: int, channel: Channel) -> Ending:
        self._chain.outside_domain()
        cache, fast = parameters(channel, 2)
        if cache & 0x02 or fast & 0x1F or cache & 0xE0 > 0xA0 or cache & 0x1C > 0x14 or fast & 0xE0 > 0xA0:
            raise invalid_parameter()
        return DONE

    def _diagnose(self, code: int, channel: Channel) -> Ending:
        order = parameters(channel, 4)
        self._chain.outside_domain()
        if order[0] != _MAINTENANCE_QUERY or any(order[2:]):
            raise invalid_parameter()
        if not self._chain.mask & _AUTHORIZATION:
            raise not_authorized()
        return DONE

    # -- subsystem functions -------------------------------------------------------------------------------------

    def _perform_function(self, code: int, channel: Channel) -> Ending:
        chain = self._chain
        chain.outside_domain()
        order = _take_order(channel)
        if order[0] == _PREPARE:
            if any(order[1:4]):
                raise invalid_parameter()
            chain.prepared = self._subsystem_data(order[6], order[4:6], order[8:12])
        elif order[0] == _INTERCEPT:
            if (chain.number > 1 and chain.previous != _SUSPEND_RECONNECTION) or channel.chained:
                raise invalid_sequence()
            if order[1]:
                raise invalid_parameter()
        elif order[0] == _SET_INTERFACE and self._control.node:
            if order[1] & 0xFE:
                raise invalid_parameter()
            chain.prepared = self._nodes[: 32 if order[1] else self._control.node]
        elif order[0] == _SET_CHARACTERISTICS:
            if order[1]:
                raise invalid_parameter()
        elif not (order[0] in _ABOUT_CACHE and self._control.cached):
            raise invalid_parameter()
        return DONE

    def _subsystem_data(self, suborder: int, place: bytes, rest: bytes) -> bytes:
        if any(place):
            raise invalid_parameter()
        if suborder == _PATHS:
            return b"\xc0\x80".ljust(24 if self._control.prefix else 16, b"\0")
        if suborder == _STATISTICS:
            return bytes(192 if rest[0] else 96)
        if suborder == _MESSAGE:
            return b"\0\x09\0\0" + rest + b"\0"
        if suborder == _FEATURES:
            features = bytearray(256)
            for at, bits in _PREFIX_FEATURES.items() if self._control.prefix else ():
                features[at] = bits
            return bytes(features)
        if suborder == _UNIT_ADDRESSES:
            table = bytearray(512)
            if self._control.prefix:
                table[2 * self._unit_address : 2 * self._unit_address + 2] = bytes([_BASE_DEVICE, self._unit_address])
            return bytes(table)
        raise invalid_parameter()

    def _read_subsystem_data(self, code: int, channel: Channel) -> Ending:
        chain = self._chain
        chain.outside_domain()
        if chain.prepared is None:
            raise invalid_sequence()
        data, chain.prepared = chain.prepared, None
        return _bring(channel, data)


def _take_order(channel: Channel) -> bytes:
    """An order with its parameters, as many as it has.  Raise `Fault` when the program gives fewer."""
    head = parameters(channel, 2)
    size = _ORDER_SIZES.get(head[0], 2)
    rest = take(channel, size - 2) if size > 2 else b""
    if len(head + rest) < size:
        raise too_few_parameters()
    return head + rest


def _bring(channel: Channel, data: bytes) -> Ending:
    channel.write_to_memory(data)
    return DONE
