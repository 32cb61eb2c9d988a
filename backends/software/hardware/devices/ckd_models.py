"""The geometries of count-key-data disks: what a model number says, and what a track can hold.

======  ============  ===============  =====  =======  ============  ==============  =======
device  model         device model     heads  sectors  image's code  largest record  ... R0
======  ============  ===============  =====  =======  ============  ==============  =======
3380    A E K         02 0A 1E            15      222  80            47,476          47,988
3390    1 2 3 9 27 54 02 06 0A 0C 0C 0C   15      224  90            56,664          57,326
======  ============  ===============  =====  =======  ============  ==============  =======

A disk has one or three cylinders of alternate tracks behind its primary ones; ``dasdinit -a`` puts them into an image.

A 3390's track has 1729 cells of 34 bytes.  A record without key takes ``10 + 9 + c(DL)`` cells, one with a key
``c(KL) + 9`` more, where ``c(n) = (n + 6 * (n' + 1)) / 34`` and ``n' = (n + 6) / 232``, both rounded up; a 3380's has
1499 cells of 32 bytes, a record ``15 + (DL + 12) / 32`` and with a key ``7 + (KL + 12) / 32`` more.
Source: GA32-0274; ``drivers/s390/block/dasd_eckd.c`` (recs_per_track).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyvfio.errors import Misuse

__all__ = ["DEVICES", "MODELS", "Device", "Model", "model_cylinders", "model_of"]


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
    largest_r0: int
    track_size: int
    cells: int

    @property
    def largest_block(self) -> int:
        """What the block size 0 of an extent stands for: the longest R0 and its count."""
        return self.largest_r0 + 8

    def cells_of(self, key_length: int, data_length: int) -> int:
        """The cells of a track that a record other than R0 takes."""
        if self.type == 0x3380:
            return 15 + _up(data_length + 12, 32) + (7 + _up(key_length + 12, 32) if key_length else 0)

        def area(length: int) -> int:
            return 9 + _up(length + 6 * (_up(length + 6, 232) + 1), 34)

        return 10 + area(data_length) + (area(key_length) if key_length else 0)


DEVICES: Final = {
    0x3380: Device(0x3380, 0x80, 15, 222, 47476, 47988, 47616, 1499),
    0x3390: Device(0x3390, 0x90, 15, 224, 56664, 57326, 56832, 1729),
}


@dataclass(frozen=True, slots=True)
class Model:
    """A model of disk: device type, device model, unit code (of the device characteristics), cylinders, alternates."""

    type: int
    number: int
    unit_code: int
    cylinders: int
    alternates: int


MODELS: Final[dict[str, Model]] = {
    "3380-A": Model(0x3380, 0x02, 0x0E, 885, 1),
    "3380-E": Model(0x3380, 0x0A, 0x0E, 1770, 2),
    "3380-K": Model(0x3380, 0x1E, 0x0E, 2655, 3),
    "3390-1": Model(0x3390, 0x02, 0x26, 1113, 1),
    "3390-2": Model(0x3390, 0x06, 0x27, 2226, 1),
    "3390-3": Model(0x3390, 0x0A, 0x24, 3339, 1),
    "3390-9": Model(0x3390, 0x0C, 0x32, 10017, 3),
    "3390-0c": Model(0x3390, 0x0C, 0x32, 30051, 0),
    "3390-27": Model(0x3390, 0x0C, 0x32, 32760, 3),
    "3390-54": Model(0x3390, 0x0C, 0x32, 65520, 3),
}
"""The models by the name that people use."""


def model_cylinders(model: str) -> int:
    """The cylinders of a model.  Raise `Misuse` when there is none of this name."""
    if model not in MODELS:
        raise Misuse("choose disk model", model, cause=f"the models are {', '.join(MODELS)}")
    return MODELS[model].cylinders


def model_of(cylinders: int, *, with_alternates: bool = False) -> Model:
    """The smallest model of a 3390 which has so many cylinders, alternate ones among them or not."""
    models = [model for model in MODELS.values() if model.type == 0x3390]
    return next(
        (one for one in models if cylinders <= one.cylinders + (one.alternates if with_alternates else 0)), models[-1]
    )
