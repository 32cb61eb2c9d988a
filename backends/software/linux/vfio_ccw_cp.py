"""Channel programs of a guest, translated for the host's channel subsystem.

The guest's program names guest addresses.  The kernel copies it, chain by chain, into storage of its own (`copy`), and
replaces each data address by a list of IDAWs with the addresses of the guest's pages, which are pinned (`translate`)::

    guest                               kernel
    0x11000  NOP       @0x20000         block 1  NOP       IDA -> list of IDAWs (8 bytes each, format 2)
    0x11008  TIC  -> 0x12000            block 1  TIC  -> block 2
    0x12000  SENSE ID  @0x20ffd         block 2  SENSE ID  IDA -> ...

Limits: a chain has at most 256 CCWs, of which 2 KiB are read at once; a program has at most 16 chains.  Source:
``drivers/s390/cio/vfio_ccw_cp.c``.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pyvfio.css.ccw import CCW_SIZE, Ccw, CcwFlag, Command
from pyvfio.css.orb import Orb
from pyvfio.css.scsw import Scsw
from pyvfio.css.trace import ProgramLine
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.vfio_core import VfioDevice

__all__ = ["CHAINS_MAX", "CHAIN_LENGTH_MAX", "ChannelProgram"]

CHAIN_LENGTH_MAX = 256
CHAINS_MAX = 16
_IDAW = struct.Struct(">Q")
_FORMAT_1_IDAW = struct.Struct(">I")
_LOW_HALF = 0x0F
_ADDRESS_WIDTH = 1 << 32


@dataclass(slots=True)
class _Chain:
    """Consecutive CCWs: where they are in the guest (`iova`) and in the kernel (`address`), and what hangs on them."""

    iova: int
    ccws: list[Ccw]
    address: int
    blocks: list[int] = field(default_factory=list)
    lines: list[ProgramLine] = field(default_factory=list)

    def holds(self, iova: int, extra: int = 0) -> bool:
        """Whether a guest address lies in the chain (`extra` CCWs past its end count too)."""
        return self.iova <= iova <= self.iova + (len(self.ccws) - 1 + extra) * CCW_SIZE


class ChannelProgram:
    """The program of one START SUBCHANNEL of `device`; `initialized` from `copy` to `free`."""

    def __init__(self, device: VfioDevice) -> None:
        self._device = device
        self._memory = device.kernel.memory
        self._page = device.kernel.page_size
        self.initialized = False
        self.orb = Orb()
        self._chains: list[_Chain] = []
        self._pinned: list[tuple[int, int]] = []  # (iova, pages)

    # copying

    def copy(self, orb: Orb) -> None:
        """Copy the program that the ORB designates.

        Raise OSError EBUSY (there is one already), EINVAL (too long, too many chains), or what reading the guest's
        memory gives.
        """
        if self.initialized:
            raise fail(errno.EBUSY)
        self.orb = orb
        try:
            self._copy_chain(orb.cpa)
        except OSError:
            self._free_chains()
            raise
        self.initialized = True

    def _copy_chain(self, iova: int) -> None:
        raw = self._device.dma_read(iova, CHAIN_LENGTH_MAX * CCW_SIZE)
        ccws = _read_chain(raw, self.orb.fmt, iova)
        if len(self._chains) >= CHAINS_MAX:
            raise fail(errno.EINVAL)
        chain = _Chain(iova, ccws, self._memory.allocate(len(ccws) * CCW_SIZE))
        self._chains.append(chain)
        for ccw in chain.ccws:
            if ccw.is_tic and not any(other.holds(ccw.cda) for other in self._chains):
                self._copy_chain(ccw.cda)

    # translating

    def translate(self) -> None:
        """Translate all addresses and pin the pages.  Raise OSError; the program must be freed then."""
        if not self.initialized:
            raise fail(errno.EINVAL)
        for chain in self._chains:
            lines: list[ProgramLine] = []
            for ccw in chain.ccws:
                at = chain.address + len(lines) * CCW_SIZE
                lines.append(self._translate_tic(at, ccw) if ccw.is_tic else self._translate_data(at, ccw, chain))
            chain.lines = lines
            self._memory.write(chain.address, b"".join(line.ccw.to_bytes() for line in lines))

    def _translate_tic(self, at: int, ccw: Ccw) -> ProgramLine:
        for chain in self._chains:
            if chain.holds(ccw.cda):
                return ProgramLine(at, replace(ccw, cda=chain.address + ccw.cda - chain.iova))
        raise fail(errno.EFAULT)

    def _translate_data(self, at: int, ccw: Ccw, chain: _Chain) -> ProgramLine:
        guest = self._guest_idaws(ccw)
        if _moves_data(ccw):
            words = self._pin(guest)
            raw = b"".join(map(_IDAW.pack, words))
        else:
            # Nothing is moved, so the list stays as it came, in the guest's format and with its addresses.
            words = guest
            raw = b"".join(self._guest_idaw.pack(word) for word in guest)
        block = self._memory.allocate(len(words) * _IDAW.size)
        chain.blocks.append(block)
        self._memory.write(block, raw)
        return ProgramLine(at, replace(ccw, flags=ccw.flags | CcwFlag.IDA, cda=block), tuple(words))

    @property
    def _guest_idaw(self) -> struct.Struct:
        return _IDAW if self.orb.c64 else _FORMAT_1_IDAW

    def _guest_idaws(self, ccw: Ccw) -> list[int]:
        """The guest's IDAWs for the CCW's data, made up when it has a direct address."""
        layout, block = self._guest_idaw, self.orb.idaw_block
        indirect = bool(ccw.flags & CcwFlag.IDA)
        first = layout.unpack(self._device.dma_read(ccw.cda, layout.size))[0] if indirect else ccw.cda
        count = (first % block + max(ccw.count, 1) + block - 1) // block
        if indirect:
            words = [word for (word,) in layout.iter_unpack(self._device.dma_read(ccw.cda, count * layout.size))]
            if words[0] != first:
                raise fail(errno.EINVAL)  # the guest changed it meanwhile
            return words
        words = [first]
        while len(words) < count:
            words.append((words[-1] + block) // block * block % (1 << 8 * layout.size))
        return words

    def _pin(self, iovas: list[int]) -> list[int]:
        """Pin the page of each address; the host's absolute addresses.  Raise OSError; none of these is pinned then."""
        page = self._page
        merge = self.orb.idaw_block == page
        mark = len(self._pinned)
        addresses: list[int] = []
        start = 0
        try:
            while start < len(iovas):
                end = start + 1
                while merge and end < len(iovas) and iovas[start] + (end - start) * page == iovas[end]:
                    end += 1
                pages = self._device.pin_pages(iovas[start], end - start, write=True)
                self._pinned.append((iovas[start], end - start))
                addresses += [at - at % page + iova % page for at, iova in zip(pages, iovas[start:end], strict=True)]
                start = end
        except OSError:
            self._unpin(mark)
            raise
        return addresses

    def _unpin(self, mark: int = 0) -> None:
        while len(self._pinned) > mark:
            self._device.unpin_pages(*self._pinned.pop())

    # using

    def host_orb(self, intparm: int, lpm: int) -> Orb:
        """The ORB to start the translated program with; `lpm` counts when the guest named no path."""
        orb = self.orb
        return replace(
            orb,
            intparm=intparm,
            fmt=1,
            c64=True,
            i2k=orb.i2k if orb.c64 else True,
            lpm=orb.lpm or lpm,
            cpa=self._chains[0].address,
        )

    def guest_scsw(self, scsw: Scsw) -> Scsw:
        """The status word with the guest's CCW address instead of the kernel's."""
        if not self.initialized:
            return scsw
        for chain in self._chains:
            offset = scsw.cpa - chain.address
            if 0 <= offset <= len(chain.ccws) * CCW_SIZE:
                return replace(scsw, cpa=(chain.iova + offset) % _ADDRESS_WIDTH)
        return scsw

    def pinned(self, iova: int, length: int) -> bool:
        """Whether one of the pages of a range is pinned for the program."""
        if not self.initialized:
            return False
        first, last = iova // self._page, (iova + length - 1) // self._page
        return any(
            start // self._page <= last and start // self._page + pages - 1 >= first for start, pages in self._pinned
        )

    def free(self) -> None:
        """Unpin the pages and give the storage back; nothing to do without a program."""
        if self.initialized:
            self.initialized = False
            self._unpin()
            self._free_chains()

    def _free_chains(self) -> None:
        for chain in self._chains:
            for block in (chain.address, *chain.blocks):
                self._memory.free(block)
        self._chains = []

    # for people

    def guest_lines(self) -> tuple[ProgramLine, ...]:
        """The program as the guest wrote it (in format 1)."""
        return tuple(
            ProgramLine(chain.iova + index * CCW_SIZE, ccw)
            for chain in self._chains
            for index, ccw in enumerate(chain.ccws)
        )

    def host_lines(self) -> tuple[ProgramLine, ...]:
        """The translated program."""
        return tuple(self._translated())

    def _translated(self) -> Iterator[ProgramLine]:
        for chain in self._chains:
            yield from chain.lines


def _as_format_1(raw: bytes, fmt: int) -> Ccw:
    """A CCW in format 1, from either format."""
    ccw = Ccw.from_bytes(raw, fmt)
    if fmt:
        return ccw
    if ccw.is_tic:
        return Ccw(Command.TIC, CcwFlag(0), 0, ccw.cda)
    return Ccw(ccw.cmd, ccw.flags, ccw.count, ccw.cda)


def _read_chain(raw: bytes, fmt: int, iova: int) -> list[Ccw]:
    """CCWs up to the one without chaining; a TIC back into the part already seen, as after a search, does not end it.

    Raise OSError EINVAL when the end is not in `raw`.
    """
    ccws: list[Ccw] = []
    for offset in range(0, len(raw), CCW_SIZE):
        ccw = _as_format_1(raw[offset : offset + CCW_SIZE], fmt)
        ccws.append(ccw)
        if not ccw.chained and not (ccw.is_tic and iova <= ccw.cda <= iova + offset):
            return ccws
    raise fail(errno.EINVAL)


def _moves_data(ccw: Ccw) -> bool:
    """Whether pages are needed: not for a count of 0, a NOP, or a read or sense whose data are skipped."""
    if ccw.count == 0 or ccw.cmd == Command.NOP:
        return False
    if not ccw.flags & CcwFlag.SKIP:
        return True
    low = ccw.cmd & _LOW_HALF
    read, read_backward, sense = ccw.cmd & 0x03 == 0x02, low == 0x0C, low == Command.SENSE
    return not (read or read_backward or sense)
