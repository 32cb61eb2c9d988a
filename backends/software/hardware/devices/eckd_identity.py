"""How a 3390 on a 3990 describes itself: SENSE ID, READ DEVICE CHARACTERISTICS, READ CONFIGURATION DATA.

======  ======  ========  ==========  ===============================  ==================================
unit    model   director  facilities  commands in SENSE ID             what it knows beyond a 3990-2
======  ======  ========  ==========  ===============================  ==================================
3990-2  c2      10        d0000000    RCD
3990-3  ec      06        d0001010    RCD, set interface, read node    LOCATE RECORD EXTENDED, cache
3990-6  e9      15        50001010    RCD, set interface, read node    also PREFIX, track data, a full track
======  ======  ========  ==========  ===============================  ==================================

Source: "3990/9390 Storage Control Reference" GA32-0274; ``drivers/s390/block/dasd_eckd.h`` (struct
dasd_eckd_characteristics, struct dasd_ned); the values of the golden file dasd-3390.jsonl; answers of Hercules.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from pyvfio.css.senseid import Ciw, CiwType, SenseId
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.devices.ckd_models import Model

__all__ = [
    "CONTROL_UNITS",
    "PERFORM_SUBSYSTEM_FUNCTION",
    "READ_CONFIGURATION_DATA",
    "READ_SUBSYSTEM_DATA",
    "SUBSYSTEM",
    "StorageControl",
    "characteristics",
    "configuration_data",
    "identity",
    "node_descriptors",
]

READ_CONFIGURATION_DATA: Final = 0xFA
PERFORM_SUBSYSTEM_FUNCTION: Final = 0x27
READ_SUBSYSTEM_DATA: Final = 0x3E
SUBSYSTEM: Final = 0x0A
_CU: Final = 0x3990
_CONFIGURATION_SIZE: Final = 256
_NED_SIZE: Final = 32
_SERIAL_SIZE: Final = 12
_MAKER_SIZE: Final = 5
_GENERAL_QUALIFIER: Final = 224


@dataclass(frozen=True, slots=True)
class StorageControl:
    """A model of storage control; `node` is the size of what READ SUBSYSTEM DATA brings about its nodes, 0 if nothing.

    `buffers`, `functions` and `real` are bytes 51-53, 54 and 56 of the device characteristics.
    """

    model: int
    director: int
    facilities: int
    node: int = 0
    buffers: bytes = bytes(3)
    functions: int = 0
    real: int = 0
    prefix: bool = False

    @property
    def cached(self) -> bool:
        """Whether it has a cache, and with it LOCATE RECORD EXTENDED and the commands about the cache."""
        return bool(self.node)


CONTROL_UNITS: Final = {
    "3990-2": StorageControl(0xC2, 0x10, 0xD0000000),
    "3990-3": StorageControl(0xEC, 0x06, 0xD0001010, 64, b"\x0f\x00\x3f"),
    "3990-6": StorageControl(0xE9, 0x15, 0x50001010, 96, b"\x0f\x00\x7f", 0x48, 0x15, prefix=True),
}
"""The control units that can be had, by name."""

#: Two numbers of cu and device, facilities, class, unit, cylinders, heads, sectors, bytes per track, of R0/HA,
#: formula with five factors, alternate/diagnostic/support tracks, MDR and OBR ids, director, further parameter bytes of
#: a track set, largest R0, 0, track set, factor 6, RPS factor, buffers, functions, 0, real control unit, rest.
_CHARACTERISTICS = struct.Struct(">HBHBIBBHHB3sHB5sHHHHHHBBBBHBBBH3sBxBB6s")


def identity(control: StorageControl, device_type: int, model: int) -> SenseId:
    """SENSE ID data, with the command-information words of the control unit."""
    ciws = [Ciw(CiwType.READ_CONFIGURATION_DATA, READ_CONFIGURATION_DATA, _CONFIGURATION_SIZE)]
    if control.node:
        ciws.append(Ciw(CiwType.SET_INTERFACE_IDENTIFIER, PERFORM_SUBSYSTEM_FUNCTION, 4))
        ciws.append(Ciw(CiwType.READ_NODE_IDENTIFIER, READ_SUBSYSTEM_DATA, control.node))
    return SenseId(_CU, control.model, device_type, model, tuple(ciws))


def characteristics(
    control: StorageControl, sense_id: SenseId, model: Model, cylinders: int, alternates: int, heads: int
) -> bytes:
    """The 64 bytes of READ DEVICE CHARACTERISTICS for a 3390 (224 sectors, 58,786 bytes a track)."""
    bytes_per_track = 58786
    return _CHARACTERISTICS.pack(
        sense_id.cu_type,
        sense_id.cu_model,
        sense_id.dev_type,
        sense_id.dev_model,
        control.facilities,
        0x20,  # class: DASD
        model.unit_code,
        cylinders,
        heads,
        224,
        bytes_per_track.to_bytes(3, "big"),
        1428,  # home address and R0
        2,  # capacity formula
        bytes.fromhex("2213090674"),
        cylinders if alternates else 0,  # alternate tracks begin after the last primary cylinder
        alternates * heads,
        0,
        0,
        0,
        0,
        model.unit_code,
        model.unit_code,
        control.director,
        0x02,  # further parameter bytes of READ TRACK SET
        57326,  # largest R0
        0,
        0x01,
        0x06,
        0x7708,
        control.buffers,
        control.functions,
        control.real,
        0xFF,
        bytes(6),
    )


def _full_serial(serial: str) -> str:
    """A serial number with manufacturer and plant.  Raise `Misuse`."""
    if (len(serial) > _SERIAL_SIZE and len(serial) != _MAKER_SIZE + _SERIAL_SIZE) or not serial.isascii():
        cause = f"serial number {serial!r} has neither at most 12 characters nor 17"
        raise Misuse("build control unit", "dasd-3390", cause=cause)
    maker = serial[:-_SERIAL_SIZE] or "IBM75"
    return maker + serial[-_SERIAL_SIZE:].rjust(_SERIAL_SIZE, "0")


def configuration_data(sense_id: SenseId, serial: str, unit_address: int) -> bytes:
    """The 256 bytes of READ CONFIGURATION DATA: node-element descriptors and a general qualifier.

    `serial` has at most 12 characters, or 17 with manufacturer (3) and plant (2) before them; `unit_address` (8 bits)
    is the device's number on its control unit.  Raise `Misuse` when it is longer or not EBCDIC.
    """
    serial = _full_serial(serial)
    device = f"  {sense_id.dev_type:04x}", f"{sense_id.dev_model:03X}"
    unit = f"  {sense_id.cu_type:04x}", f"{sense_id.cu_model:03X}"
    descriptors = (
        _descriptor("c4010100", *device, serial, SUBSYSTEM << 8 | unit_address),
        _descriptor("c4000000", *device, serial, 0),
        _descriptor("d4020000", *unit, serial, SUBSYSTEM),
        _descriptor("f0000001", unit[0], "", serial, 0),
    )
    data = b"".join(descriptors).ljust(_GENERAL_QUALIFIER, b"\0")
    address = bytes([unit_address]) * 3
    qualifier = struct.pack(
        ">IHBBBBB3s3xBBB", 0x80000000, 0, 0x1E, 0, SUBSYSTEM, 0, 0x80, address, 0x80, 0x80, unit_address
    )
    return (data + qualifier).ljust(_CONFIGURATION_SIZE, b"\0")


def node_descriptors(sense_id: SenseId, serial: str) -> bytes:
    """The 96 bytes that SET INTERFACE IDENTIFIER prepares: the subsystem's descriptor, its interfaces, nothing."""
    head = _descriptor("00000100", f"00{sense_id.cu_type:04X}", "", _full_serial(serial), 0)
    interfaces = struct.pack(">8xIIII8x", 0x41010000, 0x41010001, 0x41010010, 0x41010011)
    return head + interfaces + bytes(_NED_SIZE)


def _descriptor(head: str, kind: str, model: str, serial: str, tag: int) -> bytes:
    text = f"{kind}{model:3}{serial}"
    return (bytes.fromhex(head) + text.encode("cp037") + tag.to_bytes(2, "big")).ljust(_NED_SIZE, b"\0")
