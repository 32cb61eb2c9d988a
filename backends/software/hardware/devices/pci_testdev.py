"""`pci-testdev`: counts writes.  Its registers are documented in `pyvfio.pci.testdev`.

Accesses of several bytes are done byte by byte, as in QEMU; only a write of one byte is an event.  `events` counts what
is an eventfd there.
"""

from __future__ import annotations

from pyvfio.pci.testdev import COUNT, IO_BAR_SIZE, MATCH, MEMORY_BAR_SIZE, NAME, NO_MATCH, TEST, TestKind
from pyvfio_backends.software.hardware.pci.bar import Unmapped

__all__ = ["PciTestDevice", "PciTestRegisters"]

_KINDS = len(TestKind)
_WIDTH = 1


class _Test:
    """One test of one BAR."""

    def __init__(self, kind: TestKind, *, io: bool) -> None:
        number = kind + (_KINDS if io else 0)
        self.kind = kind
        self.offset = (IO_BAR_SIZE if io else MEMORY_BAR_SIZE) // 2 + number * _WIDTH
        self.matches = kind is not TestKind.ANY_EVENT
        self.data = MATCH if self.matches else NO_MATCH
        self.name = f"{'portio' if io else 'mmio'}-{kind.label}"
        self.header = bytearray(bytes((number, _WIDTH, 0, 0)) + self.offset.to_bytes(4, "little"))
        self.header += self.data.to_bytes(4, "little") + bytes(NAME - COUNT) + self.name.encode("ascii") + b"\0"

    @property
    def count(self) -> int:
        return int.from_bytes(self.header[COUNT : COUNT + 4], "little")

    @count.setter
    def count(self, value: int) -> None:
        self.header[COUNT : COUNT + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")


class PciTestDevice:
    """The device: what both BARs share.  `memory` and `io` are their registers, `events` counts by test name."""

    def __init__(self) -> None:
        self.memory = PciTestRegisters(self, io=False)
        self.io = PciTestRegisters(self, io=True)
        self.events: dict[str, int] = {}
        self._current: _Test | None = None

    def start(self, test: _Test | None) -> None:
        """Start a test, in place of the one that runs; None: none."""
        self._current = test
        if test is not None:
            test.count = 0

    def show(self, offset: int) -> int:
        """A byte of the header."""
        header = self._current.header if self._current is not None else b""
        return header[offset] if offset < len(header) else 0

    def store(self, offset: int, value: int, *, alone: bool) -> None:
        """Note a byte that is written; `alone` if the access has no other one."""
        test = self._current
        if test is None or offset != test.offset or (test.matches and value != test.data):
            return
        if alone and test.kind is not TestKind.NO_EVENT:
            self.events[test.name] = self.events.get(test.name, 0) + 1
        else:
            test.count += 1


class PciTestRegisters:
    """The registers of one BAR (implements `Registers`)."""

    def __init__(self, device: PciTestDevice, *, io: bool) -> None:
        self._device = device
        self._tests = [_Test(kind, io=io) for kind in TestKind]

    def reset(self) -> None:
        """See `Registers.reset`: no test runs."""
        self._device.start(None)

    def takes(self, offset: int, length: int) -> bool:
        """See `Registers.takes`."""
        return offset % length == 0

    def read(self, offset: int, length: int) -> int:
        """See `Registers.read`."""
        if not self.takes(offset, length):
            raise Unmapped
        return int.from_bytes(bytes(self._device.show(offset + index) for index in range(length)), "little")

    def write(self, offset: int, length: int, value: int) -> None:
        """See `Registers.write`."""
        if not self.takes(offset, length):
            raise Unmapped
        for index, byte in enumerate(value.to_bytes(length, "little")):
            if offset + index == TEST:
                self._device.start(self._tests[byte] if byte < len(self._tests) else None)
            else:
                self._device.store(offset + index, byte, alone=length == 1)
