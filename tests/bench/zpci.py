"""PCI on IBM Z: how many mappings a guest's memory costs, instructions a second, and what a refresh costs.

Beside each rate runs what it cannot be faster than: a call of a Python method for the machine's own functions, the
access of the VFIO region (or the pair of mapping calls) for those of a guest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from measure import Line, best

import pyvfio
from pyvfio.abi.pci_regs import PCI_COMMAND, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY
from pyvfio.abi.vfio import PciIrq, PciRegion
from pyvfio.css.instructions import StorageError
from pyvfio.passthrough import GuestMemory, GuestPci
from pyvfio.pci import bell
from pyvfio.zpci import clp
from pyvfio.zpci.fib import Fib
from pyvfio.zpci.instructions import Answer, FunctionOperation, Request, ZpciInstructions
from pyvfio.zpci.processor import Processor
from pyvfio.zpci.table import FRAME, Designation, Iota, page_entry, region_entry, segment_entry
from pyvfio_backends.software import software_of
from pyvfio_backends.software.description import FunctionSpec, MachineSpec
from pyvfio_backends.software.hardware.zpci.facility import ZpciFacility

BASE = 1 << 32
ROOT, SEGMENTS, PAGES = 0x10000, 0x14000, 0x100000
GIB = 1 << 30
FEW, MANY = 100, 60_000
NAME = "0010:00:00.0"


class Storage:
    """Plain storage for a machine of its own."""

    def __init__(self, size: int) -> None:
        self._data = bytearray(size)

    def read(self, address: int, count: int) -> bytes:
        """Return `count` bytes."""
        if not 0 <= address <= len(self._data) - count:
            raise StorageError(address, count)
        return bytes(self._data[address : address + count])

    def write(self, address: int, data: bytes) -> None:
        """Store `data`."""
        self._data[address : address + len(data)] = data


@dataclass
class Rig:
    """A function that is enabled, and tables for 1 GiB of its DMA addresses."""

    cpu: ZpciInstructions
    storage: Storage | GuestMemory
    fh: int = 0

    def enable(self) -> None:
        """Enable the first function."""
        listed = clp.ListResponse.from_bytes(self.cpu.clp(clp.ListRequest().to_bytes(), FRAME)[1].ljust(32, b"\0"))
        request = clp.SetRequest(handle=listed.entries[0].fh, dma_spaces=1)
        self.fh = int.from_bytes(self.cpu.clp(request.to_bytes(), clp.SetResponse.SIZE)[1][16:20], "big")

    def register(self) -> None:
        """Empty tables."""
        invalid = (0x20).to_bytes(8, "big") * 2048
        for table in (ROOT, SEGMENTS):
            self.storage.write(table, invalid)
        self.put(ROOT + (BASE >> 31) * 8, region_entry(SEGMENTS, Designation.REGION_THIRD))
        for segment in range(1024):
            self.put(SEGMENTS + segment * 8, segment_entry(PAGES + segment * 0x800))
        self.fill(0, [0] * (GIB // FRAME))
        fib = Fib(pba=BASE, pal=BASE + GIB - 1, iota=Iota(ROOT).to_word())
        self.must(self.cpu.mpcifc(self.fh, 0, FunctionOperation.REGISTER_TRANSLATION, fib))

    def put(self, place: int, word: int) -> None:
        """Store an entry."""
        self.storage.write(place, word.to_bytes(8, "big"))

    def fill(self, first: int, frames: list[int]) -> None:
        """Entries for frames (0: invalid), from page `first` on."""
        words = (page_entry(frame, valid=frame != 0).to_bytes(8, "big") for frame in frames)
        self.storage.write(PAGES + first * 8, b"".join(words))

    def refresh(self, first: int, count: int) -> None:
        """Tell of a change."""
        self.must(self.cpu.rpcit(self.fh, BASE + first * FRAME, count * FRAME))

    @staticmethod
    def must(answer: Answer) -> None:
        """See that an instruction was done."""
        if answer.cc:
            raise RuntimeError(f"condition code {answer.cc}, {answer.status}")


def machine() -> Rig:
    """A function of a machine."""
    storage = Storage(4 << 20)
    facility = ZpciFacility([FunctionSpec(uid=1, fid=1, model="virtio-bell")])
    cpu = Processor(
        facility,
        storage,
        on_interruption=lambda isc: None,
        on_error=lambda event: None,
        schedule=lambda delay, work: None,
    )
    rig = Rig(cpu, storage)
    rig.enable()
    return rig


@contextmanager
def guest(size: int, way: str) -> Iterator[tuple[Rig, pyvfio.Device]]:
    """A function that a guest was given, and its device."""
    spec = MachineSpec("a-bell", functions=[FunctionSpec(uid=0x10, fid=0x20, model="virtio-bell")])
    with pyvfio.Host("software", machine=spec) as host, GuestMemory(size) as memory:
        pyvfio.bind(host.device(NAME))
        with GuestPci(memory) as cpu:
            device = pyvfio.open_device(host, NAME, way=way)
            cpu.attach(device, uid=1, fid=1)
            rig = Rig(cpu, memory)
            rig.enable()
            yield rig, device


def calls(rig: Rig) -> int:
    """The map and unmap calls so far."""
    (function,) = rig.cpu.all_functions()  # type: ignore[attr-defined]
    return int(function.space.calls)


def mappings() -> list[Line]:
    """Map calls for 1 GiB of contiguous guest memory; beside it one call a page, timed for 4,096 pages."""
    lines = []
    for way, kind in (("group", "type 1"), ("iommufd", "iommufd")):
        with guest(PAGES + (2 << 20) + GIB, way) as (rig, device):
            rig.register()
            first = (PAGES + (2 << 20)) // FRAME
            pages = GIB // FRAME
            rig.fill(0, [(first + page) * FRAME for page in range(pages)])
            before = calls(rig)
            start = time.perf_counter()
            rig.refresh(0, pages)
            ours = time.perf_counter() - start
            count = calls(rig) - before
            sample = 4096
            rig.fill(0, [0] * pages)
            rig.refresh(0, pages)
            (area,) = rig.storage.areas()  # type: ignore[union-attr]
            start = time.perf_counter()
            for page in range(sample):
                device.space.map(area.address + (first + page) * FRAME, FRAME, BASE + page * FRAME)
            apiece = (time.perf_counter() - start) / sample * pages
            device.space.unmap_all()
        lines += [
            Line(
                f"map calls for 1 GiB of a guest, {kind}",
                f"{count}",
                "262 (a thousandth of its pages)",
                pages / 1000 / count,
            ),
            Line(
                f"refresh of 1 GiB of a guest, {kind}",
                f"{ours * 1000:.0f} ms",
                f"page by page: {apiece:.1f} s",
                apiece / ours,
            ),
        ]
    return lines


class _Bare:
    def call(self, request: object, offset: int) -> object:
        return request


def instructions() -> list[Line]:
    """PCI instructions a second: on the machine, beside a call of Python; in a guest, beside the VFIO region."""
    lines = []
    rig = machine()
    rig.register()
    seconds = _in_turns({**_work(rig), "": lambda: _Bare().call(None, 0)})
    bare = 0.01 / seconds.pop("")
    for name, each in seconds.items():
        against = f"a hundredth of Python's calls: {bare:,.0f}/s"
        lines.append(Line(f"{name}, machine", f"{1 / each:,.0f}/s", against, 1 / each / bare))
    with guest(4 << 20, "group") as (rig, device):
        rig.register()
        peers = _peers(device, rig)
        seconds = _in_turns({**_work(rig), **peers})
        for name, peer, part in (
            ("PCILG of a BAR", "pread", 4),
            ("PCILG of configuration space", "pread of configuration space", 4),
            ("PCISTG of a BAR", "pwrite", 4),
            ("PCISTB of 16 bytes", "pwrite", 8),
            ("RPCIT (map and unmap a page)", "map, unmap", 8),
        ):
            rate, limit = 1 / seconds[name], 1 / seconds[peer]
            figure = f"{rate:,.0f}/s ({rate / limit:.2f} of {peer})"
            lines.append(Line(f"{name}, guest", figure, f"1/{part} of {limit:,.0f}/s", rate / limit * part))
        for name in ("STPCIFC", "MPCIFC (register and deregister)"):
            rate = 1 / seconds[name]
            against = f"a hundredth of Python's calls: {bare:,.0f}/s"
            lines.append(Line(f"{name}, guest", f"{rate:,.0f}/s", against, rate / bare))
    return lines


def _in_turns(work: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of each, the best of rounds in turns: a busy moment of the machine hits all of them."""
    fastest = dict.fromkeys(work, float("inf"))
    for _ in range(30):
        for name, each in work.items():
            fastest[name] = min(fastest[name], best(each, 200, 1))
    return fastest


def _work(rig: Rig) -> dict[str, Callable[[], object]]:
    """Instructions; what is done and undone counts as one."""
    cpu, fh = rig.cpu, rig.fh
    bar, config, block = Request(fh, 0, 8), Request(fh, 15, 4), Request(fh, 0, 16)
    data = bytes(16)
    fib = Fib(isc=3, noi=4, aibv=0x2000, sum=1, aisb=0x3000)

    def modify() -> None:
        cpu.mpcifc(fh, 0, FunctionOperation.REGISTER_INTERRUPTS, fib)
        cpu.mpcifc(fh, 0, FunctionOperation.DEREGISTER_INTERRUPTS, fib)

    return {
        "PCILG of a BAR": lambda: cpu.pcilg(bar, bell.SOURCE),
        "PCILG of configuration space": lambda: cpu.pcilg(config, 0),
        "PCISTG of a BAR": lambda: cpu.pcistg(0, bar, bell.SOURCE),
        "PCISTB of 16 bytes": lambda: cpu.pcistb(data, block, bell.SOURCE),
        "STPCIFC": lambda: cpu.stpcifc(fh, 0),
        "MPCIFC (register and deregister)": modify,
        "RPCIT (map and unmap a page)": lambda: _map_and_unmap(rig, 0),
    }


def _map_and_unmap(rig: Rig, page: int) -> None:
    place = PAGES + page * 8
    rig.put(place, page_entry(FRAME))
    rig.refresh(page, 1)
    rig.put(place, page_entry(0, valid=False))
    rig.refresh(page, 1)


def _peers(device: pyvfio.Device, rig: Rig) -> dict[str, Callable[[], object]]:
    """What instructions of a guest cannot be faster than."""
    backend, fd = device.backend, device.fileno()
    bar, config = (device.region(index).offset for index in (PciRegion.BAR0, PciRegion.CONFIG))
    at, data = bar + bell.SOURCE, bytes(8)
    (area,) = rig.storage.areas()  # type: ignore[union-attr]

    def pair() -> None:
        device.space.map(area.address, FRAME, BASE + FRAME)
        device.space.unmap(BASE + FRAME, FRAME)

    return {
        "pread": lambda: backend.pread(fd, 8, at),
        "pread of configuration space": lambda: backend.pread(fd, 4, config),
        "pwrite": lambda: backend.pwrite(fd, data, at),
        "map, unmap": pair,
    }


def refreshes() -> list[Line]:
    """Refreshing a page, and all that is mapped, with few and with many mappings (measured in turns)."""
    size = PAGES + (4 << 20)
    with guest(size, "group") as (small, _), guest(size, "group") as (large, _):
        for rig, count in ((small, FEW), (large, MANY)):
            rig.register()
            # Neighbours lie apart in storage, so that each is a mapping of its own.
            rig.fill(0, [FRAME * (1 + page % 2 * 2) for page in range(count)])
            rig.refresh(0, count)
            if calls(rig) != count:
                raise RuntimeError(f"{calls(rig)} calls for {count} mappings")
        few = many = whole = float("inf")
        for _ in range(40):
            few = min(few, best(lambda: _map_and_unmap(small, MANY + 10), 50, 1))
            many = min(many, best(lambda: _map_and_unmap(large, MANY + 10), 50, 1))
        for _ in range(3):
            whole = min(whole, best(lambda: large.refresh(0, GIB // FRAME), 1, 1))
    apart = few / 4 * MANY
    return [
        Line(
            f"refresh of a page, {MANY:,} mapped / {FEW} mapped", f"{many / few:.2f}x", "at most 1.5x", 1.5 * few / many
        ),
        Line(
            f"refresh of everything, {MANY:,} mapped",
            f"{whole * 1000:.0f} ms",
            f"each page by itself: {apart * 1000:,.0f} ms",
            apart / whole,
        ),
    ]


def interrupts() -> list[Line]:
    """A message of a function to its eventfd, through bit vectors in storage and the kernel's handlers."""
    lines = []
    for form, directed in (("floating", False), ("directed", True)):
        spec = MachineSpec(
            "interrupts", functions=[FunctionSpec(0x10, 0x20, "virtio-bell")], directed_interrupts=directed
        )
        with pyvfio.Host("software", machine=spec) as host:
            pyvfio.bind(host.device(NAME))
            with pyvfio.open_device(host, NAME) as device, device.irq(PciIrq.MSIX) as irq:
                irq.enable()
                device.config.write_u16(PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER)
                function = software_of(host.backend).machine.zpci.functions[0x20]
                rate = 1 / best(partial(function.signal, 0), 50, 60)
                if not irq.eventfds[0].read():
                    raise RuntimeError("no interrupt came")
        lines.append(Line(f"{form} interrupts to an eventfd", f"{rate:,.0f}/s", "50,000/s", rate / 50_000))
    return lines


def zpci() -> list[Line]:
    """PCI on IBM Z: mappings of a guest's memory, instructions a second, refreshes, interrupts."""
    return [*mappings(), *instructions(), *refreshes(), *interrupts()]
