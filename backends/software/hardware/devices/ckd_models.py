"""The geometries of count-key-data disks: what a model number says, and what a track can hold.

======  ======  ===============  =====  =======  ============  =======================
device  model   device model     heads  sectors  image's code  largest record
======  ======  ===============  =====  =======  ============  =======================
3380    A E K   02 0A 1E            15      222  80            47,476
3390    1 2 3 9 02 06 0A 0C         15      224  90            56,664
======  ======  ===============  =====  =======  ============  =======================

A 3390's track has 1729 cells of 34 bytes.  A record without key takes ``10 + 9 + c(DL)`` cells, one with a key
``c(KL) + 9`` more, where ``c(n) = (n + 6 * (n' + 1)) / 34`` and ``n' = (n + 6) / 232``, both rounded up; a 3380's has
1499 cells of 32 bytes, a record ``15 + (DL + 12) / 32`` and with a key ``7 + (KL + 12) / 32`` more.
Source: GA32-0274; ``drivers/s390/block/dasd_eckd.c`` (recs_per_track).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyvfio.errors import Misuse

__all__ = ["DEVICES", "MODELS", "Device", "device_model", "model_cylinders"]


def _up(value: int, step: int) -> int:
    return -(-value // step)


@dataclass(frozen=True, slots=True)
class Device:
    """A type of disk; `code` is the byte of the public image format, `track_size` the bytes an image gives a track."""

    type: int
    code: int
    heads: int
    sectors: int
    largest_record: int
    track_size: int
    cells: int

    def cells_of(self, key_length: int, data_length: int) -> int:
        """The cells of a track that a record other than R0 takes."""
        if self.type == 0x3380:
            return 15 + _up(data_length + 12, 32) + (7 + _up(key_length + 12, 32) if key_length else 0)

        def area(length: int) -> int:
            return 9 + _up(length + 6 * (_up(length + 6, 232) + 1), 34)

        return 10 + area(data_length) + (area(key_length) if key_length else 0)


DEVICES: Final = {
    0x3380: Device(0x3380, 0x80, 15, 222, 47476, 47616, 1499),
    0x3390: Device(0x3390, 0x90, 15, 224, 56664, 56832, 1729),
}

MODELS: Final[dict[str, tuple[int, int, int]]] = {
    "3380-A": (0x3380, 0x02, 885),
    "3380-E": (0x3380, 0x0A, 1770),
    "3380-K": (0x3380, 0x1E, 2655),
    "3390-1": (0x3390, 0x02, 1113),
    "3390-2": (0x3390, 0x06, 2226),
    "3390-3": (0x3390, 0x0A, 3339),
    "3390-9": (0x3390, 0x0C, 10017),
    "3390-0c": (0x3390, 0x0C, 30051),
}
"""Device type, device model and cylinders by the name that people use."""


def model_cylinders(model: str) -> int:
    """The cylinders of a model.  Raise `Misuse` when there is none of this name."""
    if model not in MODELS:
        raise Misuse("choose disk model", model, cause=f"the models are {', '.join(MODELS)}")
    return MODELS[model][2]


def device_model(cylinders: int) -> int:
    """The device model of a 3390 with so many cylinders: that of the smallest which has them."""
    for kind, number, most in MODELS.values():
        if kind == 0x3390 and cylinders <= most:
            return number
    return 0x0C
