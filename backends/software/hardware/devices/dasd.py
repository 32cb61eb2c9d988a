"""A read-only 3390 disk on a 3990 control unit (extended count-key-data).

====  =======================  ======  ====================================================
code  command                  length  note
====  =======================  ======  ====================================================
02    READ IPL                 any     data of R1 of the first track
06    READ DATA                any     06, 0E, 12, 1E, 31, 29: bit 0 on means multitrack
07    SEEK                     6       0B SEEK CYLINDER and 1B SEEK HEAD are the same here
0E    READ KEY AND DATA        any
12    READ COUNT               8
13    RECALIBRATE              0       to the first track
16    READ R0                  any     count, key and data
1A    READ HOME ADDRESS        5
1E    READ COUNT, KEY, DATA    any
1F    SET FILE MASK            1
29    SEARCH KEY EQUAL         key     status modifier when equal
31    SEARCH ID EQUAL          5       status modifier when equal
34    SENSE PATH GROUP ID      12
47    LOCATE RECORD            16      needs DEFINE EXTENT in the same chain
63    DEFINE EXTENT            16
64    READ DEVICE CHARACT.     64
94    RELEASE                  32      brings sense bytes; B4 RESERVE and 14 the same
AF    SET PATH GROUP ID        12
DE    READ TRACK               any     the rest of the track
FA    READ CONFIGURATION DATA  256
====  =======================  ======  ====================================================

Writes are a command reject with write inhibited (sense 80 02); anything else is a command reject with message 1.
Byte 7 of the sense is the message: 1 invalid command, 2 invalid sequence, 4 invalid parameter.
Source: "3990/9390 Storage Control Reference" GA32-0274; the answers of the golden file dasd-3390.jsonl.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pyvfio.css.scsw import Dstat
from pyvfio_backends.software.hardware.css.controlunit import DONE, SENSE_SIZE, Channel, ControlUnit, Ending, unit_check
from pyvfio_backends.software.hardware.devices.eckd_domain import (
    Extent,
    Fault,
    Location,
    invalid_command,
    invalid_parameter,
    invalid_sequence,
)
from pyvfio_backends.software.hardware.devices.eckd_identity import (
    READ_CONFIGURATION_DATA,
    characteristics,
    configuration_data,
    identity,
)
from pyvfio_backends.software.hardware.devices.eckd_position import EndOfCylinder, NoRecordFound, Position
from pyvfio_backends.software.hardware.devices.eckd_volume import Record, Volume

__all__ = ["Dasd3390"]

_MULTITRACK: Final = 0x80
_SEEKS_INHIBITED: Final = 0x18
_WRITES: Final = frozenset((0x01, 0x05, 0x0D, 0x11, 0x15, 0x19, 0x1D, 0x85, 0x8D, 0x95, 0x9D))
_PATH_GROUP_SIZE: Final = 12
_NO_RECORD_FOUND: Final = (0x00, 0x08)
_END_OF_CYLINDER: Final = (0x00, 0x20)
_FILE_PROTECTED: Final = (0x00, 0x04)
_WRITE_INHIBITED: Final = (0x80, 0x02)
_INCOMPLETE_DOMAIN: Final = (0x81,)
_MATCH: Final = Ending(Dstat.CHANNEL_END | Dstat.DEVICE_END | Dstat.STATUS_MODIFIER)

_Part = Callable[[Record], bytes]


class Dasd3390(ControlUnit):
    """A 3390 with volume serial `volser`.  Raise `Misuse` when the volume cannot be so.

    `serial` is the 12-character serial number of the storage control, `unit_address` the device's number on it.
    """

    idle_sense = bytes(27) + b"\x80" + bytes(SENSE_SIZE - 28)

    def __init__(
        self,
        volser: str = "0X3F3F",
        *,
        cylinders: int = 30051,
        cu_model: int = 0xE9,
        device_model: int = 0x0C,
        owner: str = "",
        serial: str = "1",
        unit_address: int = 0,
    ) -> None:
        super().__init__(identity(cu_model, device_model))
        self.volume = Volume(volser, cylinders, owner)
        self.position = Position(self.volume)
        self._characteristics = characteristics(self.sense_id, cylinders, self.volume.heads)
        self._configuration = configuration_data(self.sense_id, serial, unit_address)
        self._path_group = bytes(_PATH_GROUP_SIZE)
        self._extent: Extent | None = None
        self._location: Location | None = None
        self._file_mask = 0
        self._handlers: dict[int, Callable[[Channel], Ending]] = {
            0x02: self._read_ipl,
            0x07: self._seek,
            0x0B: self._seek,
            0x13: self._recalibrate,
            0x14: self._reserve,
            0x16: self._read_r0,
            0x1A: self._read_home_address,
            0x1B: self._seek,
            0x1F: self._set_file_mask,
            0x34: self._sense_path_group,
            0x47: self._locate_record,
            0x63: self._define_extent,
            0x64: self._read_characteristics,
            0x94: self._reserve,
            0xAF: self._set_path_group,
            0xB4: self._reserve,
            0xDE: self._read_track,
            READ_CONFIGURATION_DATA: self._read_configuration,
        }
        self._reads: dict[int, _Part] = {
            0x06: lambda record: record.data,
            0x0E: lambda record: record.key + record.data,
            0x1E: lambda record: record.count + record.key + record.data,
        }

    def program_starts(self) -> None:
        """Forget the extent, the domain and the file mask: they hold for one chain."""
        self._extent = None
        self._location = None
        self._file_mask = 0

    def command(self, code: int, channel: Channel) -> Ending:
        """Do a command of the table above."""
        try:
            handler = self._handlers.get(code)
            if handler is not None:
                return handler(channel)
            base, multitrack = code & ~_MULTITRACK, bool(code & _MULTITRACK)
            if base in self._reads:
                return self._read_record(channel, base, multitrack)
            if base == 0x12:
                return self._read_count(channel, multitrack)
            if base in (0x31, 0x29):
                return self._search(channel, base, multitrack)
            if code in _WRITES:
                return unit_check(*_WRITE_INHIBITED)
            raise invalid_command()
        except Fault as fault:
            return unit_check(*fault.sense)
        except NoRecordFound:
            return unit_check(*_NO_RECORD_FOUND)
        except EndOfCylinder:
            return unit_check(*_END_OF_CYLINDER)

    # -- identification ------------------------------------------------------------------------------------------

    def _read_characteristics(self, channel: Channel) -> Ending:
        channel.write_to_memory(self._characteristics)
        return DONE

    def _read_configuration(self, channel: Channel) -> Ending:
        channel.write_to_memory(self._configuration)
        return DONE

    def _sense_path_group(self, channel: Channel) -> Ending:
        channel.write_to_memory(self._path_group)
        return DONE

    def _set_path_group(self, channel: Channel) -> Ending:
        self._path_group = self._parameters(channel, _PATH_GROUP_SIZE)
        return DONE

    def _reserve(self, channel: Channel) -> Ending:
        channel.write_to_memory(self.full_sense(b""))
        return DONE

    # -- orientation ---------------------------------------------------------------------------------------------

    @staticmethod
    def _parameters(channel: Channel, size: int) -> bytes:
        """The parameters of a control command.  Raise `Fault` when the program gives fewer."""
        raw = channel.read_from_memory(size)
        if len(raw) < size:
            raise invalid_parameter()
        return raw

    def _seek(self, channel: Channel) -> Ending:
        if self._file_mask & _SEEKS_INHIBITED == _SEEKS_INHIBITED:
            return unit_check(*_FILE_PROTECTED)
        raw = self._parameters(channel, 6)
        cylinder, head = int.from_bytes(raw[2:4], "big"), int.from_bytes(raw[4:6], "big")
        if raw[:2] != b"\0\0" or not self.volume.has(cylinder, head):
            raise invalid_parameter()
        if self._extent is not None and not self._extent.holds(cylinder, head):
            return unit_check(*_FILE_PROTECTED)
        self.position.seek(cylinder, head)
        return DONE

    def _recalibrate(self, channel: Channel) -> Ending:
        self.position.seek(0, 0)
        return DONE

    def _set_file_mask(self, channel: Channel) -> Ending:
        self._file_mask = self._parameters(channel, 1)[0]
        return DONE

    def _define_extent(self, channel: Channel) -> Ending:
        extent = Extent.from_bytes(self._parameters(channel, 16))
        if self._extent is not None or self._location is not None:
            raise invalid_sequence()
        if not self.volume.has(*extent.begin) or not self.volume.has(*extent.end):
            raise invalid_parameter()
        self._extent = extent
        return DONE

    def _locate_record(self, channel: Channel) -> Ending:
        raw = self._parameters(channel, 16)
        if self._extent is None:
            raise invalid_sequence()
        location = Location.from_bytes(raw)
        if location.writes:
            if self._extent.writes_inhibited:
                raise invalid_parameter()
            return unit_check(*_WRITE_INHIBITED)
        if not self._extent.holds(*location.seek):
            return unit_check(*_FILE_PROTECTED)
        self.position.seek(*location.seek)
        if location.by_count and not self.position.find(location.search):
            return unit_check(*_NO_RECORD_FOUND)
        self._location = location
        return DONE

    # -- search and read -----------------------------------------------------------------------------------------

    def _search(self, channel: Channel, base: int, multitrack: bool) -> Ending:
        if self._location is not None:
            raise invalid_sequence()
        by_id = base == 0x31
        record = self.position.next_count(multitrack, with_r0=by_id)
        wanted = record.id if by_id else record.key
        equal = channel.read_from_memory(len(wanted) or channel.left) == wanted and bool(wanted)
        if not equal:
            return DONE
        self.position.oriented()
        return _MATCH

    def _domain_read(self) -> None:
        """Count a read inside the domain of LOCATE RECORD.  Raise `Fault` when the domain is used up."""
        if self._location is not None:
            if not self._location.left:
                raise invalid_sequence()
            self._location.left -= 1

    def _domain_ends(self, channel: Channel) -> Ending:
        """The ending of a read, which must be the domain's last one when no command follows."""
        self.position.oriented()
        if self._location is not None and self._location.left and not channel.chained:
            return unit_check(*_INCOMPLETE_DOMAIN)
        return DONE

    def _read_record(self, channel: Channel, base: int, multitrack: bool) -> Ending:
        self._domain_read()
        if base == 0x1E:
            record = self.position.next_count(multitrack)
            self.position.leave_record()
        else:
            record = self.position.data_record(multitrack)
        channel.write_to_memory(self._reads[base](record))
        return self._domain_ends(channel)

    def _read_count(self, channel: Channel, multitrack: bool) -> Ending:
        self._domain_read()
        channel.write_to_memory(self.position.next_count(multitrack).count)
        return self._domain_ends(channel)

    def _read_track(self, channel: Channel) -> Ending:
        if self._location is None:
            raise invalid_sequence()
        self._domain_read()
        parts = [record.count + record.key + record.data for record in self.position.rest_of_track()]
        channel.write_to_memory(b"".join(parts) + b"\xff" * 8)
        return self._domain_ends(channel)

    def _read_r0(self, channel: Channel) -> Ending:
        self._outside_domain()
        self.position.seek(self.position.cylinder, self.position.head)
        record = self.position.next_count(False, with_r0=True)
        self.position.leave_record()
        channel.write_to_memory(record.count + record.key + record.data)
        return DONE

    def _read_home_address(self, channel: Channel) -> Ending:
        self._outside_domain()
        self.position.seek(self.position.cylinder, self.position.head)
        here = self.position.cylinder.to_bytes(2, "big") + self.position.head.to_bytes(2, "big")
        channel.write_to_memory(b"\0" + here)
        return DONE

    def _outside_domain(self) -> None:
        if self._location is not None:
            raise invalid_sequence()

    def _read_ipl(self, channel: Channel) -> Ending:
        self._outside_domain()
        self.position.seek(0, 0)
        channel.write_to_memory(self.position.data_record(False).data)
        return DONE

    def __str__(self) -> str:
        return f"DASD {self.sense_id}, {self.volume}, read-only"
