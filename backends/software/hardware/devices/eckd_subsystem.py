"""The ECKD commands that ask the storage control and the device what they are, and who may use them.

====  ===========================  ======  ====================================================
code  command                      length  note
====  ===========================  ======  ====================================================
14    UNCONDITIONAL RESERVE        32      brings sense bytes, as 94 and B4
27    PERFORM SUBSYSTEM FUNCTION   2-12    18: prepare for READ SUBSYSTEM DATA; see below
34    SENSE PATH GROUP ID          12
3E    READ SUBSYSTEM DATA          any     what 27 has prepared in this chain
44    RESET ALLEGIANCE             32
54    SENSE SUBSYSTEM STATUS       40
64    READ DEVICE CHARACTERISTICS  64
94    RELEASE                      32
AF    SET PATH GROUP ID            12      function: 00 and 80 establish, 20 disband, 40 resign
B4    RESERVE                      32
FA    READ CONFIGURATION DATA      256
====  ===========================  ======  ====================================================

READ SUBSYSTEM DATA can bring the performance statistics (suborder 01, 96 bytes), the feature codes (41, 256 bytes) and,
from a 3990-6, the unit address configuration (0E, 512 bytes: two for each address).  No other one is modelled: it is
an invalid parameter, as on a storage control that does not have it.

A device that another system has reserved answers busy to everything but 14 and what tells its identity.
Sources: "3990/9390 Storage Control Reference" GA32-0274; ``drivers/s390/block/dasd_eckd.c``, ``dasd_alias.c``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pyvfio_backends.software.hardware.css.controlunit import DONE, Channel, Ending
from pyvfio_backends.software.hardware.devices.eckd_chain import Chain, parameters, take
from pyvfio_backends.software.hardware.devices.eckd_domain import (
    invalid_parameter,
    invalid_sequence,
    too_few_parameters,
)

__all__ = ["Subsystem"]

READ_CONFIGURATION_DATA: Final = 0xFA
_UNCONDITIONAL_RESERVE, _RELEASE, _RESERVE = 0x14, 0x94, 0xB4
#: Commands that a device answers which another system has reserved.
_IN_ANY_CASE: Final = frozenset((_UNCONDITIONAL_RESERVE, 0x34, 0x44, 0x64, 0xAF, READ_CONFIGURATION_DATA))
_PATH_GROUP_SIZE: Final = 12
_LEAVE_GROUP: Final = (0x20, 0x40)
_PREPARE_SIZE: Final = 12
_PREPARE: Final = 0x18
_ACCEPTED_ORDERS: Final = frozenset((0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x1D))
_STATISTICS, _UNIT_ADDRESSES, _FEATURES = 0x01, 0x0E, 0x41
_PREFIX_FEATURE: Final = 8, 0x01
_BASE_DEVICE: Final = 0x01
_STATUS_SIZE: Final = 40


class Subsystem:
    """The handlers of these commands for one control unit.

    `sense` brings the 32 sense bytes of a device in order; `prefix` says that it is a 3990-6.
    """

    def __init__(
        self,
        chain: Chain,
        characteristics: bytes,
        configuration: bytes,
        sense: Callable[[], bytes],
        *,
        unit_address: int,
        prefix: bool,
    ) -> None:
        self._chain = chain
        self._sense = sense
        self._unit_address = unit_address
        self._prefix = prefix
        self._path_group = bytes(_PATH_GROUP_SIZE)
        self.reserved = False
        self.reserved_elsewhere = False
        self.handlers: dict[int, Callable[[int, Channel], Ending]] = {
            _UNCONDITIONAL_RESERVE: self._reserve,
            0x27: self._perform_function,
            0x34: self._sense_path_group,
            0x3E: self._read_subsystem_data,
            0x44: self._reset_allegiance,
            0x54: self._sense_status,
            0x64: lambda code, channel: _bring(channel, characteristics),
            _RELEASE: self._reserve,
            0xAF: self._set_path_group,
            _RESERVE: self._reserve,
            READ_CONFIGURATION_DATA: lambda code, channel: _bring(channel, configuration),
        }

    def is_busy(self, code: int) -> bool:
        """Whether another system's reservation keeps this command out."""
        return self.reserved_elsewhere and code not in _IN_ANY_CASE

    def _reserve(self, code: int, channel: Channel) -> Ending:
        self._chain.outside_domain()
        if code == _UNCONDITIONAL_RESERVE:
            self.reserved_elsewhere = False
        self.reserved = code != _RELEASE
        return _bring(channel, self._sense())

    def _reset_allegiance(self, code: int, channel: Channel) -> Ending:
        return _bring(channel, self._sense())

    def _sense_path_group(self, code: int, channel: Channel) -> Ending:
        return _bring(channel, self._path_group)

    def _set_path_group(self, code: int, channel: Channel) -> Ending:
        raw = parameters(channel, _PATH_GROUP_SIZE)
        self._path_group = bytes(_PATH_GROUP_SIZE) if raw[0] & 0x60 in _LEAVE_GROUP else raw
        return DONE

    def _sense_status(self, code: int, channel: Channel) -> Ending:
        self._chain.outside_domain()
        return _bring(channel, bytes([0, self._unit_address]).ljust(_STATUS_SIZE, b"\0"))

    def _perform_function(self, code: int, channel: Channel) -> Ending:
        self._chain.outside_domain()
        order = take(channel, _PREPARE_SIZE)
        if len(order) < 2:
            raise too_few_parameters()
        if order[0] in _ACCEPTED_ORDERS:
            return DONE
        if order[0] != _PREPARE:
            raise invalid_parameter()
        if len(order) < _PREPARE_SIZE:
            raise too_few_parameters()
        self._chain.prepared = self._subsystem_data(order[6])
        return DONE

    def _subsystem_data(self, suborder: int) -> bytes:
        if suborder == _STATISTICS:
            return bytes(96)
        if suborder == _FEATURES:
            features = bytearray(256)
            if self._prefix:
                at, bit = _PREFIX_FEATURE
                features[at] = bit
            return bytes(features)
        if suborder == _UNIT_ADDRESSES and self._prefix:
            table = bytearray(512)
            table[2 * self._unit_address : 2 * self._unit_address + 2] = bytes([_BASE_DEVICE, self._unit_address])
            return bytes(table)
        raise invalid_parameter()

    def _read_subsystem_data(self, code: int, channel: Channel) -> Ending:
        if self._chain.prepared is None:
            raise invalid_sequence()
        return _bring(channel, self._chain.prepared)


def _bring(channel: Channel, data: bytes) -> Ending:
    channel.write_to_memory(data)
    return DONE
