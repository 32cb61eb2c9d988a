"""How a 3390 on a 3990 describes itself: SENSE ID, READ DEVICE CHARACTERISTICS, READ CONFIGURATION DATA.

Source: "3990/9390 Storage Control Reference" GA32-0274; ``drivers/s390/block/dasd_eckd.h`` (struct
dasd_eckd_characteristics, struct dasd_ned); the values of the golden file dasd-3390.jsonl.
"""

from __future__ import annotations

import struct
from typing import Final

from pyvfio.css.senseid import Ciw, CiwType, SenseId
from pyvfio.errors import Misuse

__all__ = ["READ_CONFIGURATION_DATA", "characteristics", "configuration_data", "identity"]

READ_CONFIGURATION_DATA: Final = 0xFA
_CU: Final = 0x3990
_DEVICE: Final = 0x3390
_CONFIGURATION_SIZE: Final = 256
_NED_SIZE: Final = 32
_SERIAL_SIZE: Final = 12
_MAKER_SIZE: Final = 5
_SUBSYSTEM: Final = 0x0A
_GENERAL_QUALIFIER: Final = 224

#: Two numbers of cu and device, facilities, class, unit, cylinders, heads, sectors, bytes per track, of R0/HA,
#: formula with five factors, alternate/diagnostic/support tracks, MDR and OBR ids, rest.
_CHARACTERISTICS = struct.Struct(">HBHBIBBHHB3sHB5sHHHHHHBBBBHBBBBB6sB6s")


def identity(cu_model: int, device_model: int) -> SenseId:
    """SENSE ID data, with the command-information word of READ CONFIGURATION DATA."""
    ciw = Ciw(CiwType.READ_CONFIGURATION_DATA, READ_CONFIGURATION_DATA, _CONFIGURATION_SIZE)
    return SenseId(_CU, cu_model, _DEVICE, device_model, (ciw,))


def characteristics(sense_id: SenseId, cylinders: int, heads: int) -> bytes:
    """The 64 bytes of READ DEVICE CHARACTERISTICS for a 3390 (224 sectors, 58,786 bytes a track)."""
    bytes_per_track = 58786
    return _CHARACTERISTICS.pack(
        sense_id.cu_type,
        sense_id.cu_model,
        sense_id.dev_type,
        sense_id.dev_model,
        0xD0000000,  # multiple burst, read track in LOCATE RECORD domain, read in domain
        0x20,  # class: DASD
        0x26,  # unit type: 3390
        cylinders,
        heads,
        224,
        bytes_per_track.to_bytes(3, "big"),
        1428,  # home address and R0
        2,  # capacity formula
        bytes.fromhex("2213090674"),
        cylinders,  # alternate tracks begin after the last primary cylinder
        heads,
        0,
        0,
        0,
        0,
        0x26,
        0x26,
        0x10,  # director
        0x02,  # largest READ TRACK set
        57326,  # largest R0
        0,
        0x01,
        0x06,
        0x77,
        0x08,
        bytes(6),
        0xFF,
        bytes(6),
    )


def configuration_data(sense_id: SenseId, serial: str, unit_address: int) -> bytes:
    """The 256 bytes of READ CONFIGURATION DATA: node-element descriptors and a general qualifier.

    `serial` has at most 12 characters, or 17 with manufacturer (3) and plant (2) before them; `unit_address` (8 bits)
    is the device's number on its control unit.  Raise `Misuse` when it is longer or not EBCDIC.
    """
    if (len(serial) > _SERIAL_SIZE and len(serial) != _MAKER_SIZE + _SERIAL_SIZE) or not serial.isascii():
        cause = f"serial number {serial!r} has neither at most 12 characters nor 17"
        raise Misuse("build control unit", "dasd-3390", cause=cause)
    maker = serial[:-_SERIAL_SIZE] or "IBM75"
    serial = maker + serial[-_SERIAL_SIZE:].rjust(_SERIAL_SIZE, "0")
    device = f"  {sense_id.dev_type:04x}", f"{sense_id.dev_model:03X}"
    unit = f"  {sense_id.cu_type:04x}", f"{sense_id.cu_model:03X}"
    descriptors = (
        _descriptor("c4010100", *device, serial, _SUBSYSTEM << 8 | unit_address),
        _descriptor("c4000000", *device, serial, 0),
        _descriptor("d4020000", *unit, serial, _SUBSYSTEM),
        _descriptor("f0000001", unit[0], "", serial, 0),
    )
    data = b"".join(descriptors).ljust(_GENERAL_QUALIFIER, b"\0")
    qualifier = struct.pack(">IHBBBBB6xBB", 0x80000000, 0, 0x1E, 0, _SUBSYSTEM, unit_address, 0x80, 0x80, 0x80)
    return (data + qualifier).ljust(_CONFIGURATION_SIZE, b"\0")


def _descriptor(head: str, kind: str, model: str, serial: str, tag: int) -> bytes:
    text = f"{kind}{model:3}{serial}"
    return (bytes.fromhex(head) + text.encode("cp037") + tag.to_bytes(2, "big")).ljust(_NED_SIZE, b"\0")
