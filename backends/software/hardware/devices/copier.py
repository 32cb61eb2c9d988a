"""The copier: works a ring of descriptors off, really, by DMA.  Its registers are documented in `pyvfio.pci.copier`,
those of its owner in `pyvfio.pci.copier_control`.

Descriptors are done inside the store that rings the doorbell, or where work can be scheduled, soon after.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from typing import Final

from pyvfio.pci.copier import (
    CONTROL,
    COUNT_LIMIT,
    COUNTER,
    DESCRIPTOR_SIZE,
    DONE,
    ENTRIES,
    ENTRY_LIMIT,
    HEAD,
    INTERRUPT,
    LIMIT,
    MAGIC,
    MAGIC_VALUE,
    RECORD_SIZE,
    RING,
    RUN,
    STATUS,
    TAIL,
    VECTORS,
    CopierStatus,
    Descriptor,
    Operation,
    Outcome,
    Record,
)
from pyvfio.pci.copier_control import FROZEN, NO_WORK, OWNERS_HALF, CopierImage
from pyvfio_backends.software.hardware.devices.copier_control import CopierControl
from pyvfio_backends.software.hardware.devices.register_places import RegisterPlaces
from pyvfio_backends.software.hardware.dma import DmaFault, Initiator

__all__ = ["Copier"]

_DWORD: Final = 0xFFFFFFFF
_ADDRESSES: Final = (1 << 64) - 1
_WIDE: Final = (RING, COUNTER)
_SETUP: Final = (RING, COUNTER, ENTRIES)
_REGISTERS: Final = (MAGIC, LIMIT, RING, COUNTER, STATUS, ENTRIES, HEAD, TAIL, CONTROL, DONE)
_PLACES: Final = RegisterPlaces(_REGISTERS, _WIDE)
_STATE: Final = (RING, COUNTER, STATUS, ENTRIES, HEAD, TAIL, CONTROL, DONE)  # in the order of `CopierImage`
_AT_ONCE: Final = 1 << 16

Schedule = Callable[[float, Callable[[], None]], None]


class Copier:
    """The registers of BAR 0 (implements `Registers`), acting through the function of `attach`.

    `schedule` puts work off (a delay in seconds, here 0, and the work).
    """

    def __init__(self, *, schedule: Schedule | None = None) -> None:
        self._schedule = schedule
        self._function: Initiator | None = None
        self._values: dict[int, int] = {}
        self._running = False
        self._control_of_owner = CopierControl(self)
        self.reset()

    def attach(self, function: Initiator) -> None:
        """Belong to a function."""
        self._function = function

    # registers

    def reset(self) -> None:
        """See `Registers.reset`: halted, all zero."""
        self._control_of_owner.reset()
        self._values = dict.fromkeys(_REGISTERS, 0)
        self._values[MAGIC], self._values[LIMIT] = MAGIC_VALUE, COUNT_LIMIT

    def takes(self, offset: int, length: int) -> bool:
        """See `Registers.takes`."""
        if offset >= OWNERS_HALF:
            return self._control_of_owner.takes(offset, length)
        return _PLACES.takes(offset, length)

    def read(self, offset: int, length: int) -> int:
        """See `Registers.read`."""
        if offset >= OWNERS_HALF:
            return self._control_of_owner.read(offset, length)
        return _PLACES.read(self._values, offset, length)

    def write(self, offset: int, length: int, value: int) -> None:
        """See `Registers.write`."""
        if offset >= OWNERS_HALF:
            self._control_of_owner.write(offset, length, value)
            return
        register, shift = _PLACES.locate(offset, length)
        if self._control_of_owner.pause & FROZEN:
            return
        values = self._values
        if register == CONTROL:
            self._control(value & RUN)
        elif register in _SETUP and not values[CONTROL]:
            mask = (1 << 8 * length) - 1 << shift
            values[register] = values[register] & ~mask | value << shift & mask
        elif register == TAIL and values[STATUS] == CopierStatus.RUNNING:
            values[TAIL] = value
            if value >= values[ENTRIES]:
                values[STATUS] = CopierStatus.FAILED
            else:
                self.go_on()

    def _control(self, value: int) -> None:
        values = self._values
        if value and not values[CONTROL]:
            values[HEAD] = values[TAIL] = values[DONE] = 0
            good = not values[RING] % DESCRIPTOR_SIZE and not values[COUNTER] % 8
            good = good and 2 <= values[ENTRIES] <= ENTRY_LIMIT
            values[STATUS] = CopierStatus.RUNNING if good else CopierStatus.FAILED
        elif not value:
            values[STATUS] = CopierStatus.HALTED
        values[CONTROL] = value

    # for its owner

    def image(self) -> CopierImage:
        """See `PausedDevice.image`."""
        return CopierImage(*(self._values[register] for register in _STATE))

    def load(self, image: CopierImage) -> None:
        """See `PausedDevice.load`."""
        self._values.update(zip(_STATE, image, strict=True))

    def go_on(self) -> None:
        """See `PausedDevice.go_on`: descriptors between head and tail are done, now or soon."""
        if self._schedule is not None:
            self._schedule(0.0, self._work)
        else:
            self._work()

    # work

    def _work(self) -> None:
        function = self._function
        if self._running or function is None:
            return
        self._running = True
        try:
            for _ in range(_AT_ONCE):  # an end, also where interrupts make the host ring again and again
                values = self._values
                if values[STATUS] != CopierStatus.RUNNING or values[HEAD] == values[TAIL]:
                    break
                if self._control_of_owner.pause & NO_WORK:
                    break
                self._next(function)
        finally:
            self._running = False

    def _next(self, function: Initiator) -> None:
        values, entries = self._values, self._values[ENTRIES]
        try:
            at = values[RING] + values[HEAD] * DESCRIPTOR_SIZE & _ADDRESSES
            descriptor = Descriptor.parse(function.dma_read(at, DESCRIPTOR_SIZE))
            record = self._do(function, descriptor)
            if descriptor.record and not descriptor.record % RECORD_SIZE:
                self._write(function, descriptor.record, record.pack())
            values[HEAD] = (values[HEAD] + 1) % entries
            values[DONE] = values[DONE] + 1 & _DWORD
            if values[COUNTER]:
                self._write(function, values[COUNTER], values[DONE].to_bytes(8, "little"))
        except DmaFault:
            values[STATUS] = CopierStatus.FAILED
            return
        if descriptor.flags & INTERRUPT and descriptor.vector < VECTORS:
            function.signal(descriptor.vector)

    def _write(self, function: Initiator, address: int, data: bytes) -> None:
        function.dma_write(address, data)
        self._control_of_owner.wrote(address, len(data))

    def _do(self, function: Initiator, descriptor: Descriptor) -> Record:
        """Do a descriptor; what its record says."""
        wrong = descriptor.flags & ~INTERRUPT or descriptor.vector >= VECTORS or descriptor.count > COUNT_LIMIT
        if wrong or descriptor.record % RECORD_SIZE or any(descriptor.reserved):
            return Record(Outcome.BAD_DESCRIPTOR)
        try:
            return self._operate(function, Operation(descriptor.operation), descriptor)
        except ValueError:
            return Record(Outcome.BAD_DESCRIPTOR)
        except DmaFault as fault:
            return Record(Outcome.FAULT, result=fault.iova & _ADDRESSES)

    def _operate(self, function: Initiator, operation: Operation, descriptor: Descriptor) -> Record:
        count = descriptor.count
        result = 0
        if operation is Operation.COPY:
            function.dma_copy(descriptor.target, descriptor.source, count)
            self._control_of_owner.wrote(descriptor.target, count)
        elif operation is Operation.FILL:
            pattern = descriptor.pattern.to_bytes(8, "little")
            self._write(function, descriptor.target, (pattern * (count // 8 + 1))[:count])
        elif operation is Operation.CHECK:
            result = binascii.crc32(function.dma_read(descriptor.source, count))
        elif operation is Operation.COMPARE:
            given, other = function.dma_read(descriptor.source, count), function.dma_read(descriptor.target, count)
            if given != other:
                first = next(index for index in range(count) if given[index] != other[index])
                return Record(Outcome.DIFFERENT, first)
        return Record(Outcome.DONE, count if operation is not Operation.NOTHING else 0, result)
