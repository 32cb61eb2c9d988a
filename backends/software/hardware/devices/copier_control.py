"""The copier's registers for its owner: pause, state and the log of its writes.  See `pyvfio.pci.copier_control`."""

from __future__ import annotations

from typing import Final, Protocol

from pyvfio.pci.copier_control import (
    FROZEN,
    IMAGE,
    IMAGE_SIZE,
    LENGTH,
    LOAD,
    LOADED,
    LOADED_BAD,
    LOADED_GOOD,
    LOG,
    LOG_AT,
    LOG_BITS,
    LOG_FIRST,
    LOG_LAST,
    LOG_ON,
    LOG_SHIFT,
    NO_WORK,
    PAGES_AT_ONCE,
    PAUSE,
    SHIFTS,
    CopierImage,
)
from pyvfio_backends.software.hardware.pci.bar import Unmapped

__all__ = ["CopierControl", "PausedDevice"]

_WIDE: Final = (LOG_FIRST, LOG_LAST, LOG_AT, LOG_BITS)
_NARROW: Final = (PAUSE, LENGTH, LOADED, LOAD, LOG_SHIFT, LOG)
_ALL_PAUSED: Final = NO_WORK | FROZEN
_RANGE: Final = (LOG_FIRST, LOG_LAST, LOG_SHIFT)


class PausedDevice(Protocol):
    """What the control needs of the copier."""

    def image(self) -> CopierImage:
        """Its state now."""

    def load(self, image: CopierImage) -> None:
        """Take a state that can be."""

    def go_on(self) -> None:
        """The pause is over: work that is left is begun."""


class CopierControl:
    """The upper half of BAR 0 of `copier` (offsets as in the whole BAR)."""

    def __init__(self, copier: PausedDevice) -> None:
        self._copier = copier
        self._values = dict.fromkeys((*_WIDE, *_NARROW), 0)
        self._given: bytearray | None = None
        self._dirty: set[int] = set()
        self.reset()

    @property
    def pause(self) -> int:
        """The bits of PAUSE."""
        return self._values[PAUSE]

    def reset(self) -> None:
        """The device was reset: it is not paused."""
        self._values[PAUSE] = self._values[LOADED] = 0
        self._given = None

    def wrote(self, address: int, count: int) -> None:
        """The device writes memory: log it."""
        values = self._values
        if not values[LOG] or not count:
            return
        first, last = max(address, values[LOG_FIRST]), min(address + count - 1, values[LOG_LAST])
        shift = values[LOG_SHIFT]
        self._dirty.update(range(first >> shift, (last >> shift) + 1))

    def _locate(self, offset: int, length: int) -> tuple[int, int]:
        for register in _WIDE:
            if (offset, length) in ((register, 8), (register, 4), (register + 4, 4)):
                return register, 8 * (offset - register)
        if length == 4 and offset in _NARROW:
            return offset, 0
        raise Unmapped

    def takes(self, offset: int, length: int) -> bool:
        """See `Registers.takes`."""
        try:
            self._in_image(offset, length) or self._locate(offset, length)
        except Unmapped:
            return False
        return True

    def _in_image(self, offset: int, length: int) -> bool:
        return offset >= IMAGE and offset + length <= IMAGE + IMAGE_SIZE and not offset % length and length >= 4

    def read(self, offset: int, length: int) -> int:
        """See `Registers.read`."""
        if self._in_image(offset, length):
            image = self._given or self._copier.image().pack()
            return int.from_bytes(image[offset - IMAGE : offset - IMAGE + length], "little")
        register, shift = self._locate(offset, length)
        if register == LENGTH:
            return IMAGE_SIZE
        value = self._take_bits() if register == LOG_BITS else self._values[register]
        return value >> shift & (1 << 8 * length) - 1

    def write(self, offset: int, length: int, value: int) -> None:
        """See `Registers.write`."""
        values = self._values
        if self._in_image(offset, length):
            if values[PAUSE] == _ALL_PAUSED:
                given = self._given = self._given or bytearray(self._copier.image().pack())
                given[offset - IMAGE : offset - IMAGE + length] = value.to_bytes(length, "little")
            return
        register, shift = self._locate(offset, length)
        if register == PAUSE:
            self._set_pause(value & _ALL_PAUSED)
        elif register == LOAD:
            self._load()
        elif register == LOG:
            self._set_log(value & LOG_ON)
        elif register == LOG_AT or (register in _RANGE and not values[LOG]):
            mask = (1 << 8 * length) - 1 << shift
            values[register] = values[register] & ~mask | value << shift & mask

    def _set_pause(self, value: int) -> None:
        before, self._values[PAUSE] = self._values[PAUSE], value
        if value != _ALL_PAUSED:
            self._given = None
        elif before != value:
            self._values[LOADED] = 0
        if before & NO_WORK and not value & NO_WORK:
            self._copier.go_on()

    def _load(self) -> None:
        if self._values[PAUSE] != _ALL_PAUSED or self._given is None:
            return
        image, self._given = CopierImage.parse(bytes(self._given)), None
        self._values[LOADED] = LOADED_GOOD if image.possible else LOADED_BAD
        if image.possible:
            self._copier.load(image)

    def _set_log(self, value: int) -> None:
        values = self._values
        if value and not values[LOG]:
            shift, size = values[LOG_SHIFT], values[LOG_LAST] + 1 - values[LOG_FIRST]
            if shift not in SHIFTS or size <= 0 or values[LOG_FIRST] % (1 << shift) or size % (1 << shift):
                return
            self._dirty.clear()
        values[LOG] = value

    def _take_bits(self) -> int:
        at = self._values[LOG_AT] >> self._values[LOG_SHIFT]
        pages = self._dirty.intersection(range(at, at + PAGES_AT_ONCE))
        self._dirty -= pages
        return sum(1 << page - at for page in pages)
