"""A machine with two bells and its instructions, over plain storage."""

from __future__ import annotations

from collections.abc import Callable

from pyvfio.css.instructions import StorageError
from pyvfio.pci import bell
from pyvfio.zpci import clp
from pyvfio.zpci.event import ErrorEvent
from pyvfio.zpci.fib import Fib
from pyvfio.zpci.instructions import CONFIG_SPACE, FunctionOperation, Request
from pyvfio.zpci.processor import Processor
from pyvfio.zpci.table import Designation, Iota, page_entry, region_entry, segment_entry
from pyvfio_backends.software.description import FunctionSpec
from pyvfio_backends.software.hardware.zpci.facility import ZpciFacility

BASE = 0x1_0000_0000
TABLES = 0x100000
VECTOR, SUMMARY, FMB = 0x2000, 0x2100, 0x3000
SIZE = 0x200000


class Memory:
    """Two MiB of absolute storage; what lies beyond is not there."""

    def __init__(self) -> None:
        self.data = bytearray(SIZE)

    def read(self, address: int, count: int) -> bytes:
        if not 0 <= address <= SIZE - count:
            raise StorageError(address, count, "read")
        return bytes(self.data[address : address + count])

    def write(self, address: int, data: bytes) -> None:
        self.read(address, len(data))
        self.data[address : address + len(data)] = data


class Rig:
    def __init__(self, functions: int = 2) -> None:
        self.memory = Memory()
        self.interrupts: list[int] = []
        self.errors: list[ErrorEvent] = []
        self.work: list[tuple[float, Callable[[], None]]] = []
        self.time = 0
        self.facility = ZpciFacility(
            FunctionSpec(uid=0x60 + n, fid=0x100 + n, model="virtio-bell") for n in range(functions)
        )
        self.cpu = Processor(
            self.facility,
            self.memory,
            on_interruption=self.interrupts.append,
            on_error=self.errors.append,
            schedule=lambda delay, work: self.work.append((delay, work)),
            now=lambda: self.time,
        )
        self.fh = 0

    def tick(self) -> None:
        work, self.work = self.work, []
        for _delay, each in work:
            self.time += 1
            each()

    # the call logical processor

    def list(self, token: int = 0, room: int = 4096) -> clp.ListResponse:
        request = clp.ListRequest(resume_token=token).to_bytes()
        return clp.ListResponse.from_bytes(self.cpu.clp(request, room)[1].ljust(32, b"\0"))

    def set(self, fh: int, operation: int, spaces: int = 1) -> tuple[int, int]:
        raw = self.cpu.clp(clp.SetRequest(handle=fh, operation=operation, dma_spaces=spaces).to_bytes(), 160)[1]
        return int.from_bytes(raw[2:4], "big"), int.from_bytes(raw[16:20], "big")

    def enable(self, place: int = 0) -> int:
        entry = self.list().entries[place]
        code, self.fh = self.set(entry.fh, clp.SetOperation.ENABLE)
        assert code == clp.ClpCode.OK
        return self.fh

    # loads and stores, as numbers

    def load(self, space: int, offset: int, length: int) -> int:
        answer = self.cpu.pcilg(Request(self.fh, space, length), offset)
        assert answer.cc == 0
        return int.from_bytes(answer.data.to_bytes(length, "big"), "little")

    def store(self, space: int, offset: int, length: int, value: int) -> None:
        data = int.from_bytes(value.to_bytes(length, "little"), "big")
        assert self.cpu.pcistg(data, Request(self.fh, space, length), offset).cc == 0

    # what a driver sets up

    def interrupts_on(self, vectors: int = 4, **changes: int) -> None:
        fib = Fib(**{"isc": 3, "noi": 4, "aibv": VECTOR, "aibvo": 8, "sum": 1, "aisb": SUMMARY, "aisbo": 5, **changes})
        assert self.cpu.mpcifc(self.fh, 0, FunctionOperation.REGISTER_INTERRUPTS, fib).cc == 0
        self.store(CONFIG_SPACE, 4, 2, 6)
        self.store(CONFIG_SPACE, 0x42, 2, 0x8000)
        for vector in range(vectors):
            self.store(1, 16 * vector + 8, 4, vector)
            self.store(1, 16 * vector + 12, 4, 0)

    def tables(self) -> None:
        """Empty tables: a region-third table, with a segment table for the 2 GiB from BASE on."""
        for place in range(2048):
            self.memory.write(TABLES + place * 8, (0x20).to_bytes(8, "big"))
            self.memory.write(TABLES + 0x4000 + place * 8, (0x20).to_bytes(8, "big"))
        self.memory.write(
            TABLES + (BASE >> 31) * 8, region_entry(TABLES + 0x4000, Designation.REGION_THIRD).to_bytes(8, "big")
        )
        for place in range(256):
            self.memory.write(TABLES + 0x8000 + place * 8, page_entry(0, valid=False).to_bytes(8, "big"))
        self.memory.write(TABLES + 0x4000, segment_entry(TABLES + 0x8000).to_bytes(8, "big"))

    def map(self, page: int, frame: int, *, protected: bool = False, valid: bool = True) -> None:
        entry = page_entry(frame, protected=protected, valid=valid)
        self.memory.write(TABLES + 0x8000 + page * 8, entry.to_bytes(8, "big"))

    def dma_on(self, anchor: Iota | None = None, pba: int = BASE, pal: int = BASE + 0xFFFFF) -> None:
        self.tables()
        fib = Fib(pba=pba, pal=pal, iota=(anchor or Iota(TABLES)).to_word())
        assert self.cpu.mpcifc(self.fh, 0, FunctionOperation.REGISTER_TRANSLATION, fib).cc == 0
        self.store(CONFIG_SPACE, 4, 2, 6)

    def ring(self, source: int, target: int, count: int, vector: int = bell.NO_VECTOR) -> bell.BellStatus:
        """Have the bell copy memory."""
        self.store(0, bell.STATUS, 4, 0xFFFFFFFF)
        self.store(0, bell.SOURCE, 8, source)
        self.store(0, bell.TARGET, 8, target)
        self.store(0, bell.COUNT, 4, count)
        self.store(0, bell.VECTOR, 4, vector)
        self.store(0, bell.COMMAND, 4, bell.BellCommand.COPY)
        if self.facility.functions[0x100].usable:
            return bell.BellStatus(self.load(0, bell.STATUS, 4))
        return bell.BellStatus(0)
