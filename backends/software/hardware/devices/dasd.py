"""A 3390 disk on a 3990 control unit (extended count-key-data).

What it does is in `eckd_orient`, `eckd_read`, `eckd_write` and `eckd_subsystem`; here are the choice of the volume, the
dispatch and the sense bytes:

======  =====  =====================================================================================
byte    value  meaning
======  =====  =====================================================================================
0       80     command reject; byte 7 is the message: 1 invalid command, 2 invalid sequence,
               3 count too small, 4 invalid parameter
0       81     command reject, incomplete domain: the chain ends before LOCATE RECORD's count
0       40     intervention required: the medium is not there any more
0       10     equipment check: the medium fails
1       40     invalid track format: the track cannot be read, or the record does not fit
1       20     end of cylinder: a multitrack command ran past the last head
1       08     no record found
1       04     file protected: outside the extent, or against the file mask
0, 1    80 02  write inhibited: the volume is read-only
5, 6           low byte of the cylinder; its next four bits and the head
27      80     (fixed)
29-31          cylinder (2 bytes) and head
======  =====  =====================================================================================

Source: "3990/9390 Storage Control Reference" GA32-0274; the answers of the golden file dasd-3390.jsonl.
"""

from __future__ import annotations

import errno
from typing import Final

from pyvfio.css.scsw import Dstat
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.css.controlunit import Channel, ControlUnit, Ending, unit_check
from pyvfio_backends.software.hardware.devices.ckd_models import device_model, model_cylinders
from pyvfio_backends.software.hardware.devices.ckd_track import BadTrack
from pyvfio_backends.software.hardware.devices.eckd_chain import Chain, Prior
from pyvfio_backends.software.hardware.devices.eckd_domain import Fault, invalid_command
from pyvfio_backends.software.hardware.devices.eckd_identity import characteristics, configuration_data, identity
from pyvfio_backends.software.hardware.devices.eckd_orient import Orient
from pyvfio_backends.software.hardware.devices.eckd_read import Read
from pyvfio_backends.software.hardware.devices.eckd_subsystem import Subsystem
from pyvfio_backends.software.hardware.devices.eckd_volume import EmptyVolume, ImageVolume, Volume
from pyvfio_backends.software.hardware.devices.eckd_write import Write, invalid_track_format

__all__ = ["CONTROL_UNITS", "Dasd3390", "make_dasd"]

_BUSY: Final = Ending(Dstat.BUSY)
_INTERVENTION_REQUIRED, _EQUIPMENT_CHECK = 0x40, 0x10
CONTROL_UNITS: Final = {"3990-2": 0xC2, "3990-3": 0xEC, "3990-6": 0xE9}
"""The models of control unit that can be had, with the number that SENSE ID says; only the 3990-6 knows PREFIX."""
_DEFAULT_CYLINDERS: Final = 30051
_DEFAULT_VOLSER: Final = "0X3F3F"


class Dasd3390(ControlUnit):
    """A 3390 with `volume` (default: an empty, read-only one of 30051 cylinders).  Raise `Misuse`.

    `serial` is the serial number of the storage control, 12 characters (or 17 with manufacturer and plant before
    them), `unit_address` the device's number on it.
    """

    def __init__(
        self, volume: Volume | None = None, *, control_unit: str = "3990-6", serial: str = "1", unit_address: int = 0
    ) -> None:
        if control_unit not in CONTROL_UNITS:
            cause = f"no control unit {control_unit!r}; there is {', '.join(CONTROL_UNITS)}"
            raise Misuse("build control unit", "dasd-3390", cause=cause)
        self.volume: Volume = volume if volume is not None else EmptyVolume(_DEFAULT_VOLSER, _DEFAULT_CYLINDERS)
        cu_model = CONTROL_UNITS[control_unit]
        super().__init__(identity(cu_model, device_model(self.volume.cylinders)))
        self.chain = Chain(self.volume)
        prefix = control_unit == "3990-6"
        self.subsystem = Subsystem(
            self.chain,
            characteristics(self.sense_id, self.volume.cylinders, self.volume.heads),
            configuration_data(self.sense_id, serial, unit_address),
            lambda: self.full_sense(b""),
            unit_address=unit_address,
            prefix=prefix,
        )
        self._handlers = (
            Read(self.chain).handlers
            | Write(self.chain).handlers
            | Orient(self.chain, prefix=prefix).handlers
            | self.subsystem.handlers
        )

    def reserve_elsewhere(self) -> None:
        """Let another system reserve the device."""
        self.subsystem.reserved, self.subsystem.reserved_elsewhere = False, True

    def program_starts(self) -> None:
        """Forget the extent, the domain and the file mask: they hold for one chain."""
        self.chain.begin()

    def command(self, code: int, channel: Channel) -> Ending:
        """Do a command."""
        chain = self.chain
        handler = self._handlers.get(code)
        if self.subsystem.is_busy(code):
            return _BUSY
        chain.after = Prior.NOTHING
        try:
            if handler is None:
                raise invalid_command()
            ending = handler(code, channel)
        except Fault as fault:
            return unit_check(*fault.sense)
        except BadTrack:
            return unit_check(*invalid_track_format().sense)
        except OSError as error:
            gone = error.errno in (errno.ENOENT, errno.ENXIO)
            return unit_check(_INTERVENTION_REQUIRED if gone else _EQUIPMENT_CHECK)
        chain.prior = chain.after
        return ending

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
    control_unit: str = "3990-6",
    serial: str = "1",
    unit_address: int = 0,
) -> Dasd3390:
    """The disk that a machine file describes: the volume in the file `image`, or one in memory.

    An image has its own size and label: `model`, `cylinders` and `volser` are then checked against it.  A volume in
    memory is read-only unless `readonly` is false, one in a file is writable unless it is true.
    Raise `Misuse` or `BadImage`.
    """
    if model.startswith("3380"):
        raise Misuse("build control unit", "dasd-3390", cause=f"model {model} is not a 3390")
    wanted = cylinders or (model_cylinders(model) if model else 0)
    volume: Volume
    if image:
        volume = ImageVolume(image, readonly=bool(readonly))
        if wanted and wanted != volume.cylinders:
            raise Misuse("open disk image", image, cause=f"it has {volume.cylinders} cylinders, not {wanted}")
        if volser and volser != volume.volser:
            raise Misuse("open disk image", image, cause=f"its volume serial is {volume.volser!r}, not {volser!r}")
    else:
        volume = EmptyVolume(
            volser or _DEFAULT_VOLSER, wanted or _DEFAULT_CYLINDERS, owner, readonly=readonly is not False, vtoc=True
        )
    return Dasd3390(volume, control_unit=control_unit, serial=serial, unit_address=unit_address)
