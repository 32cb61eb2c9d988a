"""The bell: a PCI function that does what its doorbell says, really, by DMA and MSI-X.

Its registers are documented in `pyvfio.pci.bell`, the format that the device and its driver share.  A command is done
inside the store that rings the bell, or `delay` seconds later where work can be scheduled.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable

from pyvfio.abi import pci_regs as regs
from pyvfio.pci.bell import (
    BAR,
    COMMAND,
    COUNT,
    COUNT_LIMIT,
    DEVICE_ID,
    FAULT,
    MAGIC,
    MAGIC_VALUE,
    NO_VECTOR,
    PATTERN,
    SERIAL,
    SOURCE,
    STATUS,
    TARGET,
    VECTOR,
    VECTORS,
    VENDOR_ID,
    BellCommand,
    BellStatus,
)
from pyvfio_backends.software.hardware.devices.register_places import RegisterPlaces
from pyvfio_backends.software.hardware.dma import DmaFault, Initiator
from pyvfio_backends.software.hardware.pci.bar import Bar
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.pci.msix import MsixTable

__all__ = ["Bell"]

_SIZE = 0x1000
_TABLE_BAR = 1
_MSIX_CAPABILITY = 0x40
_PENDING_OFFSET = 0x800
_WIDE = (SOURCE, TARGET, FAULT)
_REGISTERS = (SOURCE, TARGET, COUNT, COMMAND, STATUS, VECTOR, PATTERN, SERIAL, FAULT, MAGIC)
_COMMANDS = {int(one): one for one in BellCommand}
_PLACES = RegisterPlaces(_REGISTERS, _WIDE)
_READ_ONLY = (SERIAL, FAULT, MAGIC)
_DWORD = 0xFFFFFFFF


class Bell:
    """The device: the registers of BAR 0, its configuration space, BARs and MSI-X table.

    `schedule` puts the work of a command off (a delay in seconds, and the work); without it a command is done inside
    the store that rings the bell.  `attach` tells it the function whose DMA and interrupts it uses.
    """

    def __init__(
        self, *, delay: float = 0.0, schedule: Callable[[float, Callable[[], None]], None] | None = None
    ) -> None:
        self.config = ConfigSpace(Identity(VENDOR_ID, DEVICE_ID, VENDOR_ID, 0x0001, 0xFF0000, 1), interrupt_pin=0)
        self.msix = MsixTable(self.config, _MSIX_CAPABILITY, _TABLE_BAR, VECTORS, _PENDING_OFFSET)
        memory32 = regs.PCI_BASE_ADDRESS_SPACE_MEMORY
        self.bars = [Bar(BAR, _SIZE, memory32, self), Bar(_TABLE_BAR, _SIZE, memory32, self.msix)]
        for bar in self.bars:
            self.config.set_bar(bar.index, bar.size, bar.flags)
        # An LPAR's firmware has placed the BARs, so memory is enabled from the start.
        self.config.data[regs.PCI_COMMAND] |= regs.PCI_COMMAND_MEMORY
        self._delay = delay
        self._schedule = schedule
        self._function: Initiator | None = None
        self._values: dict[int, int] = {}
        self._epoch = 0
        self.reset()

    def attach(self, function: Initiator) -> None:
        """Belong to a function."""
        self._function = function

    # registers

    def reset(self) -> None:
        """See `Registers.reset`: all zero, no vector; a command under way is lost."""
        self._values = dict.fromkeys(_REGISTERS, 0)
        self._values[VECTOR] = NO_VECTOR
        self._values[MAGIC] = MAGIC_VALUE
        self._epoch += 1

    def read(self, offset: int, length: int) -> int:
        """See `Registers.read`."""
        return _PLACES.read(self._values, offset, length)

    def takes(self, offset: int, length: int) -> bool:
        """See `Registers.takes`."""
        return _PLACES.takes(offset, length)

    def write(self, offset: int, length: int, value: int) -> None:
        """See `Registers.write`."""
        register, shift = _PLACES.locate(offset, length)
        if register in _READ_ONLY:
            return
        if register == STATUS:
            self._values[STATUS] &= ~value
            return
        mask = (1 << 8 * length) - 1
        self._values[register] = self._values[register] & ~(mask << shift) | (value & mask) << shift
        if register == COMMAND:
            self._ring()

    # work

    def _ring(self) -> None:
        if self._schedule is None:
            self._work()
            return
        epoch = self._epoch
        self._schedule(self._delay, lambda: self._work() if epoch == self._epoch else None)

    def _work(self) -> None:
        values, function = self._values, self._function
        if function is None:
            return
        status = BellStatus.DONE
        try:
            self._execute(function, values[COMMAND])
        except DmaFault as fault:
            values[FAULT] = fault.iova
            status |= BellStatus.ERROR
            if not function.config.bus_master:
                status |= BellStatus.MASTER_OFF
        except ValueError:
            status |= BellStatus.ERROR | BellStatus.BAD_COMMAND
        values[SERIAL] = values[SERIAL] + 1 & _DWORD
        vector = values[VECTOR]
        if vector != NO_VECTOR and vector >= VECTORS:
            status |= BellStatus.ERROR | BellStatus.BAD_VECTOR
        values[STATUS] = int(status)
        if vector < VECTORS:
            function.signal(vector)

    def _execute(self, function: Initiator, number: int) -> None:
        command, values = _COMMANDS.get(number), self._values
        count = values[COUNT]
        if command is None or count > COUNT_LIMIT:
            raise ValueError(number, count)
        if command is BellCommand.COPY:
            function.dma_copy(values[TARGET], values[SOURCE], count)
        elif command is BellCommand.FILL:
            function.dma_write(values[TARGET], bytes([values[PATTERN] & 0xFF]) * count)
        elif command is BellCommand.CHECK:
            values[PATTERN] = binascii.crc32(function.dma_read(values[SOURCE], count))
