"""Two bells and the instructions for them: on the machine itself over plain storage, and in a guest over VFIO.

The same tests run on both rigs.
"""

from __future__ import annotations

from collections.abc import Callable

from pyvfio.binding import bind
from pyvfio.css.instructions import StorageError
from pyvfio.host import Host
from pyvfio.passthrough.memory import GuestMemory
from pyvfio.passthrough.zpci import GuestPci
from pyvfio.pci import bell
from pyvfio.vfio.opening import open_device
from pyvfio.zpci import clp
from pyvfio.zpci.event import ErrorEvent
from pyvfio.zpci.fib import Fib
from pyvfio.zpci.function import FunctionState, InstructedFunction
from pyvfio.zpci.instructions import CONFIG_SPACE, FunctionOperation, Request
from pyvfio.zpci.processor import Processor
from pyvfio.zpci.table import Designation, Iota, page_entry, region_entry, segment_entry
from pyvfio_backends.software import software_of
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import FunctionSpec, MachineSpec
from pyvfio_backends.software.guest import GuestMachine
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
    """What both have in common; the functions have the FIDs 0x100 and 0x101, the UIDs 0x60 and 0x61."""

    level = "?"
    cpu: Processor
    memory: Memory | GuestMemory

    def __init__(self) -> None:
        self.interrupts: list[int] = []
        self.errors: list[ErrorEvent] = []
        self.work: list[tuple[float, Callable[[], None]]] = []
        self.time = 0
        self.fh = 0

    def schedule(self, delay: float, work: Callable[[], None]) -> None:
        self.work.append((delay, work))

    def now(self) -> int:
        return self.time

    def tick(self) -> None:
        work, self.work = self.work, []
        for _delay, each in work:
            self.time += 1
            each()

    def function(self) -> InstructedFunction:
        """The function as the instructions see it."""
        return next(one for one in self.cpu.functions.all_functions() if one.fid == 0x100)

    def signal(self, vector: int) -> None:
        """The device interrupts."""
        raise NotImplementedError

    def unplug(self) -> None:
        """The function goes, without asking."""
        raise NotImplementedError

    def close(self) -> None: ...

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

    def map(self, page: int, frame: int, *, protected: bool = False, refresh: bool = True) -> None:
        """Change a page's entry, and say so: the group wants a refresh also of what was invalid."""
        entry = page_entry(frame, protected=protected)
        self.memory.write(TABLES + 0x8000 + page * 8, entry.to_bytes(8, "big"))
        if refresh:
            assert self.cpu.rpcit(self.fh, BASE + page * 0x1000, 0x1000).cc == 0

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
        if self.function().state is FunctionState.ENABLED:
            return bell.BellStatus(self.load(0, bell.STATUS, 4))
        return bell.BellStatus(0)


class MachineRig(Rig):
    """The machine's own functions."""

    level = "machine"

    def __init__(self, functions: int = 2) -> None:
        super().__init__()
        self.memory = Memory()
        self.facility = ZpciFacility(
            FunctionSpec(uid=0x60 + n, fid=0x100 + n, model="virtio-bell") for n in range(functions)
        )
        self.cpu = Processor(
            self.facility,
            self.memory,
            on_interruption=self.interrupts.append,
            on_error=self.errors.append,
            schedule=self.schedule,
            now=self.now,
        )

    def signal(self, vector: int) -> None:
        self.facility.functions[0x100].signal(vector)

    def unplug(self) -> None:
        self.facility.unplug(0x100, surprise=True)


class _Guest(GuestPci):
    """A guest whose timers are the rig's."""

    def __init__(self, rig: Rig, memory: GuestMemory) -> None:
        self._rig = rig
        super().__init__(memory, on_interruption=rig.interrupts.append, on_error=rig.errors.append)

    def _schedule_work(self, delay: float, work: Callable[[], None]) -> None:
        self._rig.schedule(delay, work)


class GuestRig(Rig):
    """Functions of a software machine, given to a guest by vfio-pci."""

    level = "guest"

    interpret = False
    assist = True

    def __init__(self, functions: int = 2, *, entry_limit: int | None = None, way: str = "auto") -> None:
        super().__init__()
        spec = MachineSpec(
            "two-bells",
            interpretation=self.interpret,
            functions=[FunctionSpec(uid=0x10 + n, fid=0x20 + n, model="virtio-bell") for n in range(functions)],
        )
        self.host = Host("software", machine=spec)
        if entry_limit is not None:
            self.host.sysfs.write_text("/sys/module/vfio_iommu_type1/parameters/dma_entry_limit", str(entry_limit))
        self.memory = GuestMemory(SIZE)
        self.cpu = self.guest = _Guest(self, self.memory)
        for n in range(functions):
            function = self.host.device(f"{0x10 + n:04x}:00:00.0")
            bind(function)
            self.guest.attach(
                open_device(self.host, function, way=way if entry_limit is None else "group"),
                uid=0x60 + n,
                fid=0x100 + n,
                forwarding_assist=self.assist,
            )

    def signal(self, vector: int) -> None:
        software_of(self.host.backend).machine.zpci.functions[0x20].signal(vector)
        self.guest.poll()

    def unplug(self) -> None:
        self.guest.detach(0x100)

    def close(self) -> None:
        self.guest.close()
        self.memory.close()
        self.host.close()


class InterpretedRig(GuestRig):
    """The same, with instructions that the host's machine carries out, and interruptions that it forwards."""

    level = "interpreted"
    interpret = True


class HostForwardingRig(InterpretedRig):
    """The same, where the host's kernel has a part in forwarding."""

    level = "interpreted, forwarded by the host"
    assist = False


class NestedRig(Rig):
    """The functions of a software machine, given to a guest whose Linux gives them to a guest of its own."""

    level = "nested"
    interpret = False

    def __init__(self, functions: int = 2) -> None:
        super().__init__()
        spec = MachineSpec(
            "two-bells",
            interpretation=self.interpret,
            functions=[FunctionSpec(uid=0x10 + n, fid=0x20 + n, model="virtio-bell") for n in range(functions)],
        )
        self.host = Host("software", machine=spec)
        self.machine = GuestMachine()
        self.linux = Host(SoftwareBackend(self.machine))
        self.memory = GuestMemory(SIZE)
        self.cpu = self.guest = _Guest(self, self.memory)
        for n in range(functions):
            below = f"{0x10 + n:04x}:00:00.0"
            bind(self.host.device(below))
            self.machine.attach_pci(open_device(self.host, below), uid=0x30 + n, fid=0x40 + n)
            between = self.linux.device(f"{0x30 + n:04x}:00:00.0")
            bind(between)
            self.guest.attach(open_device(self.linux, between), uid=0x60 + n, fid=0x100 + n)

    def signal(self, vector: int) -> None:
        software_of(self.host.backend).machine.zpci.functions[0x20].signal(vector)
        self.machine.look()
        self.guest.poll()

    def unplug(self) -> None:
        self.guest.detach(0x100)

    def close(self) -> None:
        self.guest.close()
        self.memory.close()
        self.machine.close()
        self.linux.close()
        self.host.close()


class NestedInterpretedRig(NestedRig):
    """The same, where the host's machine carries out the instructions of the guest between."""

    level = "nested, interpreted below"
    interpret = True
