"""A guest's driver for a virtio entropy source, with the PCI instructions of IBM Z and nothing else.

It shows, and the contract tests, the whole way of a PCI function of a guest: find it with CLP, enable it, register
where its interruptions go and its translation tables, give it a queue in storage, and take what it wrote by DMA.
The storage from `base` (on a boundary of 16 KiB) is laid out so::

    +0000  region-third table     +4000  segment table       +8000  page table (256 pages)
    +9000  descriptors            +9400  driver ring         +9800  device ring
    +a000  the buffer             +b000  interruption vector +b080  summary bits

Pages 0 and 1 of the function's DMA addresses are the queue and the buffer.
"""

from __future__ import annotations

from typing import Final

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import virtio_pci as abi
from pyvfio.css.instructions import Storage
from pyvfio.errors import MalformedAnswer
from pyvfio.testing import virtio_queue
from pyvfio.zpci import clp
from pyvfio.zpci.fib import Fib
from pyvfio.zpci.instructions import CONFIG_SPACE, Answer, FunctionOperation, Request, ZpciInstructions
from pyvfio.zpci.table import FRAME, Designation, Iota, page_entry, region_entry, segment_entry

__all__ = ["STORAGE_SIZE", "EntropySource"]

STORAGE_SIZE: Final = 0xC000
_SEGMENTS, _PAGES, _QUEUE, _BUFFER, _VECTOR, _SUMMARY = 0x4000, 0x8000, 0x9000, 0xA000, 0xB000, 0xB080
_ENTRIES: Final = 2048
_INVALID: Final = 0x20
_ISC: Final = 3


class EntropySource:
    """The source with the identifier `fid` among the functions of `cpu`; its storage lies from `base` on.

    Raise `MalformedAnswer` when there is no such function or it does not do what virtio says.
    """

    def __init__(self, cpu: ZpciInstructions, storage: Storage, base: int, fid: int) -> None:
        self.cpu = cpu
        self._storage = storage
        self._base = base
        self._requests = 0
        listed = clp.ListResponse.from_bytes(self._clp(clp.ListRequest().to_bytes(), FRAME))
        handles = [entry.fh for entry in listed.entries if entry.fid == fid]
        if not handles:
            raise MalformedAnswer("find entropy source", f"fid {fid:#x}", "LIST PCI does not tell of it")
        answer = self._clp(clp.SetRequest(handle=handles[0], dma_spaces=1).to_bytes(), clp.SetResponse.SIZE)
        self.fh = int.from_bytes(answer[16:20], "big")
        query = self._clp(clp.QueryRequest(handle=self.fh).to_bytes(), clp.FunctionResponse.SIZE)
        self.facts = clp.FunctionResponse.from_bytes(query)
        self._bars = {
            kind: self._place(kind) for kind in (abi.VIRTIO_PCI_CAP_COMMON_CFG, abi.VIRTIO_PCI_CAP_NOTIFY_CFG)
        }

    def _clp(self, request: bytes, room: int) -> bytes:
        cc, answer = self.cpu.clp(request, room)
        code = int.from_bytes(answer[2:4], "big")
        if cc or code != clp.ClpCode.OK:
            raise MalformedAnswer("call the logical processor", "", f"code {cc}, {clp.response_name(code)}")
        return answer.ljust(room, b"\0")

    # loads and stores, as little-endian numbers

    def load(self, space: int, offset: int, length: int) -> int:
        """PCI LOAD.  Raise `MalformedAnswer` when it is refused."""
        answer = self.cpu.pcilg(Request(self.fh, space, length), offset)
        self._must(answer, f"load {offset:#x} of space {space}")
        return int.from_bytes(answer.data.to_bytes(length, "big"), "little")

    def store(self, space: int, offset: int, length: int, value: int) -> None:
        """PCI STORE.  Raise `MalformedAnswer` when it is refused."""
        data = int.from_bytes(value.to_bytes(length, "little"), "big")
        self._must(
            self.cpu.pcistg(data, Request(self.fh, space, length), offset), f"store {offset:#x} of space {space}"
        )

    @staticmethod
    def _must(answer: Answer, what: str) -> None:
        if answer.cc:
            raise MalformedAnswer(what, "", f"condition code {answer.cc}, status {answer.status}")

    def _capabilities(self, wanted: int) -> list[int]:
        found: list[int] = []
        at = self.load(CONFIG_SPACE, regs.PCI_CAPABILITY_LIST, 1)
        while at and len(found) < _ENTRIES:
            if self.load(CONFIG_SPACE, at, 1) == wanted:
                found.append(at)
            at = self.load(CONFIG_SPACE, at + 1, 1)
        return found

    def _place(self, kind: int) -> tuple[int, int]:
        """The BAR and the offset of a structure of virtio."""
        for at in self._capabilities(regs.PCI_CAP_ID_VNDR):
            if self.load(CONFIG_SPACE, at + abi.VIRTIO_PCI_CAP_CFG_TYPE, 1) == kind:
                bar = self.load(CONFIG_SPACE, at + abi.VIRTIO_PCI_CAP_BAR, 1)
                return bar, self.load(CONFIG_SPACE, at + abi.VIRTIO_PCI_CAP_OFFSET, 4)
        raise MalformedAnswer("find virtio structure", f"type {kind}", "no capability tells of it")

    def _common(self, register: int, length: int, value: int | None = None) -> int:
        bar, offset = self._bars[abi.VIRTIO_PCI_CAP_COMMON_CFG]
        if value is None:
            return self.load(bar, offset + register, length)
        self.store(bar, offset + register, length, value)
        return value

    # setting it up

    def start(self) -> None:
        """Interruptions, tables, virtio's handshake and the queue."""
        self._interrupts()
        self.register_tables()
        self.store(CONFIG_SPACE, regs.PCI_COMMAND, 2, regs.PCI_COMMAND_MEMORY | regs.PCI_COMMAND_MASTER)
        virtio_queue.start(self._common, self.facts.sdma)

    def _interrupts(self) -> None:
        fib = Fib(isc=_ISC, noi=1, aibv=self._base + _VECTOR, aibvo=0, sum=1, aisb=self._base + _SUMMARY, aisbo=0)
        self._must(self.cpu.mpcifc(self.fh, 0, FunctionOperation.REGISTER_INTERRUPTS, fib), "register interruptions")
        (msix,) = self._capabilities(regs.PCI_CAP_ID_MSIX)
        table = self.load(CONFIG_SPACE, msix + regs.PCI_MSIX_TABLE, 4)
        bar, entry = table & regs.PCI_MSIX_TABLE_BIR, table & regs.PCI_MSIX_TABLE_OFFSET
        for offset, value in (
            (regs.PCI_MSIX_ENTRY_LOWER_ADDR, 0),
            (regs.PCI_MSIX_ENTRY_UPPER_ADDR, 0xFE000000),
            (regs.PCI_MSIX_ENTRY_DATA, 0),
            (regs.PCI_MSIX_ENTRY_VECTOR_CTRL, 0),
        ):
            self.store(bar, entry + offset, 4, value)
        self.store(CONFIG_SPACE, msix + regs.PCI_MSIX_FLAGS, 2, regs.PCI_MSIX_FLAGS_ENABLE)

    def _put(self, place: int, word: int) -> None:
        self._storage.write(self._base + place, word.to_bytes(8, "big"))

    def register_tables(self) -> None:
        """Make the tables, with the queue and the buffer in pages 0 and 1, and register them."""
        first = self.facts.sdma
        empty = _INVALID.to_bytes(8, "big") * _ENTRIES
        self._storage.write(self._base, empty)
        self._storage.write(self._base + _SEGMENTS, empty)
        self._put((first >> 31 & _ENTRIES - 1) * 8, region_entry(self._base + _SEGMENTS, Designation.REGION_THIRD))
        self._put(_SEGMENTS + (first >> 20 & _ENTRIES - 1) * 8, segment_entry(self._base + _PAGES))
        self._storage.write(self._base + _PAGES, page_entry(0, valid=False).to_bytes(8, "big") * 256)
        fib = Fib(pba=first, pal=first + 256 * FRAME - 1, iota=Iota(self._base).to_word())
        self._must(self.cpu.mpcifc(self.fh, 0, FunctionOperation.REGISTER_TRANSLATION, fib), "register tables")
        self.map(0, self._base + _QUEUE)
        self.map(1, self._base + _BUFFER)

    def map(self, page: int, frame: int | None, *, refresh: bool = True) -> None:
        """Map a page of the function's DMA addresses (None: make it invalid), and refresh it."""
        self._put(_PAGES + page * 8, page_entry(frame or 0, valid=frame is not None))
        if refresh:
            self._must(self.cpu.rpcit(self.fh, self.facts.sdma + page * FRAME, FRAME), "refresh translations")

    # requests

    def ask(self, count: int, page: int = 1) -> None:
        """Make a buffer of `count` bytes in a page of DMA addresses available, and say so."""
        for at, data in virtio_queue.to_be_written(self._requests, self.facts.sdma + page * FRAME, count):
            self._storage.write(self._base + _QUEUE + at, data)
        self._requests += 1
        bar, offset = self._bars[abi.VIRTIO_PCI_CAP_NOTIFY_CFG]
        self.store(bar, offset, 2, 0)

    @property
    def answered(self) -> int:
        """How many requests came back (modulo 2^16)."""
        return int.from_bytes(self._storage.read(self._base + _QUEUE + virtio_queue.DEVICE_RING + 2, 2), "little")

    def has_answered(self, number: int) -> bool:
        """Whether so many have (`answered`), and no more."""
        return self.answered == number

    def written(self, number: int) -> int:
        """How many bytes answer `number` has."""
        place = self._base + _QUEUE + virtio_queue.answer_at(number)
        return int.from_bytes(self._storage.read(place, 4), "little")

    @property
    def bits(self) -> tuple[int, int]:
        """The first byte of the interruption vector and of the summary bits."""
        vector, summary = (self._storage.read(self._base + place, 1)[0] for place in (_VECTOR, _SUMMARY))
        return vector, summary

    def clear_bits(self) -> None:
        """Clear both."""
        for place in (_VECTOR, _SUMMARY):
            self._storage.write(self._base + place, b"\0")

    def buffer(self, count: int) -> bytes:
        """What lies in the buffer."""
        return self._storage.read(self._base + _BUFFER, count)

    @property
    def status(self) -> int:
        """Virtio's device status."""
        return self._common(abi.VIRTIO_PCI_COMMON_STATUS, 1)
