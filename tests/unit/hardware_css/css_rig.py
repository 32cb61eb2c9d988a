"""A bench for the channel subsystem: sparse storage, a clock that is stepped by hand, one subchannel.

`Bench.start` lays a program out, starts it and steps the clock until nothing is due.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from pyvfio.address import SubchannelId
from pyvfio.css import Irb, Orb, Schib, StorageError
from pyvfio_backends.software.hardware.css import (
    MAINFRAME,
    ChannelSubsystemHardware,
    ControlUnit,
    CssModel,
    SubchannelConfig,
)

SCHID = SubchannelId(0, 0, 5)
PROGRAM = 0x11000
DATA = 0x20000


class Memory:
    """Storage from 0 to `size`, and further pieces by `add`; everything else is not there."""

    def __init__(self, size: int = 0x90000) -> None:
        self._pieces: list[tuple[int, bytearray]] = [(0, bytearray(size))]
        self.reads = 0

    def add(self, address: int, size: int) -> None:
        self._pieces.append((address, bytearray(size)))

    def _piece(self, address: int, count: int, access: str) -> tuple[bytearray, int]:
        for base, content in self._pieces:
            if base <= address and address + count <= base + len(content):
                return content, address - base
        raise StorageError(address, count, access)

    def read(self, address: int, count: int) -> bytes:
        self.reads += 1
        content, offset = self._piece(address, count, "read")
        return bytes(content[offset : offset + count])

    def write(self, address: int, data: bytes) -> None:
        content, offset = self._piece(address, len(data), "write")
        content[offset : offset + len(data)] = data


class Clock:
    """Work by due time, then by order; `settle` does what is due now, `advance` lets time pass."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = 0
        self._work: list[tuple[float, int, Callable[[], None]]] = []

    def schedule(self, delay: float, work: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._work, (self.now + delay, self._order, work))

    def settle(self) -> None:
        while self._work and self._work[0][0] <= self.now:
            heapq.heappop(self._work)[2]()

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.settle()


class Bench:
    """A channel subsystem with one enabled subchannel at `SCHID`."""

    def __init__(
        self,
        device: ControlUnit | None = None,
        model: CssModel = MAINFRAME,
        *,
        memory: Memory | None = None,
        **config: Any,
    ) -> None:
        self.memory = memory or Memory()
        self.clock = Clock()
        self.interrupts: list[SubchannelId] = []
        self.crw_calls = 0
        self.css = ChannelSubsystemHardware(
            self.memory,
            on_io_interrupt=self.interrupts.append,
            on_crw=self._on_crw,
            schedule=self.clock.schedule,
            model=model,
        )
        self.device = device
        settings: dict[str, Any] = {"devno": 0x1001, "device": device, **config}
        self.css.add_subchannel(SubchannelConfig(SCHID, **settings))
        assert self.enable() == 0

    def _on_crw(self) -> None:
        self.crw_calls += 1

    def schib(self) -> Schib:
        cc, schib = self.css.stsch(SCHID)
        assert cc == 0
        assert schib is not None
        return schib

    def enable(self, ena: bool = True, *, csense: bool = True, intparm: int = 0x01265400) -> int:
        raw = bytearray(self.schib().to_bytes())
        raw[0:4] = intparm.to_bytes(4, "big")
        raw[4] = 3 << 3  # interruption subclass 3, as Linux uses
        raw[5] = raw[5] & 0x7F | ena << 7
        raw[27] = raw[27] & 0xFE | csense
        return self.css.msch(SCHID, Schib.from_bytes(raw))

    def put(self, address: int, text: str) -> None:
        self.memory.write(address, bytes.fromhex(text))

    def ssch(self, orb: str | Orb = "0000000000c2ff0000011000") -> int:
        return self.css.ssch(SCHID, orb if isinstance(orb, Orb) else Orb.from_bytes(bytes.fromhex(orb)))

    def start(self, program: str, orb: str | Orb = "0000000000c2ff0000011000") -> Irb:
        """Run the program given as hexadecimal digits (spaces allowed) and return the IRB of its status."""
        self.put(PROGRAM, program)
        assert self.ssch(orb) == 0
        self.clock.settle()
        return self.irb()

    def irb(self) -> Irb:
        cc, irb = self.css.tsch(SCHID)
        assert cc == 0, "no status is pending"
        return irb

    def data(self, count: int, address: int = DATA) -> str:
        return self.memory.read(address, count).hex()
