"""A 3390 disk on a 3990 control unit (extended count-key-data).

What it does is in `eckd_orient`, `eckd_read`, `eckd_write` and `eckd_subsystem`; here are the choice of the volume, the
dispatch and the sense bytes:

======  =====  =====================================================================================
byte    value  meaning
======  =====  =====================================================================================
0       80     command reject; byte 7 is the message: 1 invalid command, 2 invalid sequence,
               3 count too small, 4 invalid parameter, 5 not authorized
0       81     command reject, incomplete domain: the chain ends before LOCATE RECORD's count
0       40     intervention required: the medium is not there any more
0       10     equipment check: the medium fails, or has no room
1       40     invalid track format: the track cannot be read, or the record does not fit
1       20     end of cylinder: a multitrack command ran past the last head
1       08     no record found
1       04     file protected: outside the extent, or against the file mask
0, 1    80 02  write inhibited: the volume is read-only, or may not be written any more
5, 6           low byte of the cylinder; its next four bits and the head
27      80     (fixed)
29-31          cylinder (2 bytes) and head
======  =====  =====================================================================================

NOP, SENSE and SENSE ID are rejected in the domain of LOCATE RECORD, as all that is no transfer.  Each access to an
image file that fails ends as one of these; Hercules says 10 02 for a write to a read-only volume, Linux expects 80 02.

Not modelled: 3380s, volumes with more than 65,520 cylinders (3390-A), aliases (PAV), track overflow, the replacement
of a defective track by an alternate one (alternate tracks can be read and written where they are), space-efficient
volumes, copy pairs, transport mode.
Source: "3990/9390 Storage Control Reference" GA32-0274; the answers of the golden file dasd-3390.jsonl.
"""

from __future__ import annotations

import errno
from typing import Final

from pyvfio.css.ccw import Command
from pyvfio.css.scsw import Dstat
from pyvfio.errors import Misuse, NotModelled
from pyvfio_backends.software.hardware.css.controlunit import DONE, Channel, ControlUnit, Ending, unit_check
from pyvfio_backends.software.hardware.devices.ckd_models import model_cylinders, model_of
from pyvfio_backends.software.hardware.devices.ckd_track import BadTrack
from pyvfio_backends.software.hardware.devices.eckd_chain import Chain
from pyvfio_backends.software.hardware.devices.eckd_domain import (
    Fault,
    invalid_command,
    invalid_sequence,
    invalid_track_format,
)
from pyvfio_backends.software.hardware.devices.eckd_identity import (
    CONTROL_UNITS,
    READ_SUBSYSTEM_DATA,
    characteristics,
    configuration_data,
    identity,
    node_descriptors,
)
from pyvfio_backends.software.hardware.devices.eckd_locate import Operation
from pyvfio_backends.software.hardware.devices.eckd_orient import WRITE_INHIBITED, Orient
from pyvfio_backends.software.hardware.devices.eckd_read import Read
from pyvfio_backends.software.hardware.devices.eckd_subsystem import Subsystem
from pyvfio_backends.software.hardware.devices.eckd_volume import EmptyVolume, ImageVolume, Volume, partitioned_track
from pyvfio_backends.software.hardware.devices.eckd_write import Write
from pyvfio_backends.software.hardware.devices.reservation import Reservation

__all__ = ["CONTROL_UNITS", "Dasd3390", "make_dasd"]

_BUSY: Final = Ending(Dstat.BUSY)
_INTERVENTION_REQUIRED, _EQUIPMENT_CHECK = 0x40, 0x10
#: What the operating system's refusals look like; any other is an equipment check.
_MEDIUM: Final = {
    errno.ENOENT: (_INTERVENTION_REQUIRED,),
    errno.ENXIO: (_INTERVENTION_REQUIRED,),
    errno.EACCES: WRITE_INHIBITED,
    errno.EPERM: WRITE_INHIBITED,
    errno.EROFS: WRITE_INHIBITED,
}
_INCOMPLETE_DOMAIN: Final = 0x81
_READ_IPL, _READ_TRACK = 0x02, 0xDE
_COMMON: Final = frozenset((Command.NOP, Command.SENSE, Command.SENSE_ID))
_DEFAULT_CYLINDERS: Final = 30051
_DEFAULT_VOLSER: Final = "0X3F3F"
_ELSEWHERE: Final = "another system"


class Dasd3390(ControlUnit):
    """A 3390 with `volume` (default: an empty, read-only one of 30051 cylinders).  Raise `Misuse`.

    `serial` is the serial number of the storage control, 12 characters (or 17 with manufacturer and plant before
    them), `unit_address` the device's number on it.  Several systems reach one disk as several of these with the same
    volume and `reservation`.
    """

    def __init__(
        self,
        volume: Volume | None = None,
        *,
        control_unit: str = "3990-6",
        serial: str = "1",
        unit_address: int = 0,
        reservation: Reservation | None = None,
    ) -> None:
        if control_unit not in CONTROL_UNITS:
            cause = f"no control unit {control_unit!r}; there is {', '.join(CONTROL_UNITS)}"
            raise Misuse("build control unit", "dasd-3390", cause=cause)
        self.volume: Volume = volume if volume is not None else EmptyVolume(_DEFAULT_VOLSER, _DEFAULT_CYLINDERS)
        volume, control = self.volume, CONTROL_UNITS[control_unit]
        model = model_of(volume.cylinders)
        super().__init__(identity(control, model.type, model.number))
        self.chain = Chain(volume)
        self.reservation = reservation if reservation is not None else Reservation()
        self.subsystem = Subsystem(
            self.chain,
            control,
            characteristics(control, self.sense_id, model, volume.cylinders, volume.alternates, volume.heads),
            configuration_data(self.sense_id, serial, unit_address),
            node_descriptors(self.sense_id, serial),
            lambda: self.full_sense(b""),
            self.reservation,
            unit_address=unit_address,
        )
        orient = Orient(self.chain, extended=control.cached, prefix=control.prefix, unit_address=unit_address)
        self._handlers = (
            Read(self.chain).handlers
            | Write(self.chain, track_data=control.prefix).handlers
            | orient.handlers
            | self.subsystem.handlers
        )

    def reserve_elsewhere(self) -> None:
        """Let another system reserve the device."""
        self.reservation.take(_ELSEWHERE)

    def release_elsewhere(self) -> None:
        """Let that other system release it; the device then presents device end."""
        if self.reservation.free(_ELSEWHERE) and self.present is not None:
            self.present(Dstat.DEVICE_END)

    def program_starts(self) -> None:
        """Forget the extent, the domain and the file mask: they hold for one chain."""
        self.chain.begin()

    def perform(self, code: int, channel: Channel) -> Ending:
        """See `ControlUnit.perform`."""
        chain = self.chain
        if self.subsystem.is_busy(code):
            return _BUSY
        chain.enter(code)
        try:
            self._in_place(code)
            ending = super().perform(code, channel)
        except Fault as fault:
            ending = unit_check(*fault.sense)
        except BadTrack:
            ending = unit_check(*invalid_track_format().sense)
        except OSError as error:
            ending = unit_check(*_MEDIUM.get(error.errno or 0, (_EQUIPMENT_CHECK,)))
        if chain.leave(code, chained=channel.chained):
            return unit_check(_INCOMPLETE_DOMAIN)
        return ending

    def _in_place(self, code: int) -> None:
        """Raise `Fault` where another command would have to come."""
        chain = self.chain
        domain = chain.domain
        wrong = chain.prepared is not None and code != READ_SUBSYSTEM_DATA
        if domain is not None:
            wrong |= domain.operation is Operation.READ_TRACK_SET and code != _READ_TRACK
            wrong |= code in _COMMON and not (code == Command.NOP and chain.previous == _READ_IPL)
        if wrong:
            raise invalid_sequence()

    def read_sense_id(self, channel: Channel) -> Ending:
        """See `ControlUnit.read_sense_id`; the first byte is FF however few bytes the program takes."""
        channel.write_to_memory(self.sense_id_data)
        return DONE

    def command(self, code: int, channel: Channel) -> Ending:
        """Do a command."""
        handler = self._handlers.get(code)
        if handler is None:
            raise invalid_command()
        return handler(code, channel)

    def full_sense(self, sense: bytes) -> bytes:
        """See `ControlUnit.full_sense`; the place of the mechanism is in it."""
        position = self.chain.position
        full = bytearray(super().full_sense(sense))
        full[5] = position.cylinder & 0xFF
        full[6] = position.cylinder >> 4 & 0xF0 | position.head
        full[27] = 0x80
        full[29:32] = position.cylinder.to_bytes(2, "big") + bytes([position.head])
        return bytes(full)

    def __str__(self) -> str:
        return f"DASD {self.sense_id}, {self.volume}{', read-only' if self.volume.readonly else ''}"


def make_dasd(
    *,
    image: str = "",
    volser: str = "",
    model: str = "",
    cylinders: int = 0,
    readonly: bool | None = None,
    owner: str = "",
    partition: bool = False,
    control_unit: str = "3990-6",
    serial: str = "1",
    unit_address: int = 0,
) -> Dasd3390:
    """The disk that a machine file describes: the volume in the file `image`, or one in memory.

    An image has its own size and label: `model`, `cylinders` and `volser` are then checked against it.  A volume in
    memory is read-only unless `readonly` is false, one in a file is writable unless it is true.  With `partition` one
    in memory has a partition of all behind its table of contents.
    Raise `Misuse`, `BadImage` or `NotModelled`.
    """
    if model.startswith("3380"):
        raise NotModelled(f"a control unit for {model}s, only images of them", "dasd-3390")
    if model == "3390-A":
        raise NotModelled("volumes with more than 65520 cylinders (3390-A)", "dasd-3390")
    wanted = cylinders or (model_cylinders(model) if model else 0)
    volume: Volume
    if image:
        volume = ImageVolume(image, readonly=bool(readonly))
        total = volume.cylinders + volume.alternates
        if wanted and wanted not in (volume.cylinders, total):
            raise Misuse("open disk image", image, cause=f"it has {total} cylinders, not {wanted}")
        if volser and volser != volume.volser:
            raise Misuse("open disk image", image, cause=f"its volume serial is {volume.volser!r}, not {volser!r}")
    else:
        volume = EmptyVolume(
            volser or _DEFAULT_VOLSER, wanted or _DEFAULT_CYLINDERS, owner, readonly=readonly is not False, vtoc=True
        )
        if partition:
            volume.write(partitioned_track(volume.volser, volume.cylinders))
    return Dasd3390(volume, control_unit=control_unit, serial=serial, unit_address=unit_address)
