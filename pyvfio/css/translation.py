"""Channel programs of a guest, translated for the host's channel subsystem: steps K1 and K2 of vfio-ccw.

The guest's program names guest addresses.  It is copied, chain by chain, into storage of the host's kernel (`copy`),
and each data address is replaced by a list of IDAWs with the addresses of the guest's pages, which are pinned
(`translate`)::

    guest                               kernel
    0x11000  NOP       @0x20000         block 1  NOP       IDA -> list of IDAWs (8 bytes each, format 2)
    0x11008  TIC  -> 0x12000            block 1  TIC  -> block 2
    0x12000  SENSE ID  @0x20ffd         block 2  SENSE ID  IDA -> ...

Limits: a chain has at most 256 CCWs, of which 2 KiB are read at once; a program has at most 16 chains.

A CCW that Linux takes for one without data (NOP; a read or sense that skips) gets no pages.  Linux leaves the guest's
words in its list, which the channel would use as the host's addresses if the CCW came to stand in a data chain, where
its code does not count.  Here such a list names no storage (`NOWHERE`), so that no byte can land on the host.

Source: ``drivers/s390/cio/vfio_ccw_cp.c``.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from pyvfio.css.ccw import CCW_SIZE, Ccw, CcwFlag
from pyvfio.css.chain import CHAIN_LENGTH_MAX, moves_data, read_chain, refused
from pyvfio.css.layout import changed
from pyvfio.css.orb import Orb
from pyvfio.css.scsw import Scsw
from pyvfio.css.trace import ProgramLine, Step

__all__ = ["CHAINS_MAX", "NOWHERE", "GuestPages", "KernelStorage", "Translation"]

CHAINS_MAX: Final = 16
#: A block boundary where no machine has storage.
NOWHERE: Final = 0xFFFF_FFFF_FFFF_0000
_IDAW = struct.Struct(">Q")
_FORMAT_1_IDAW = struct.Struct(">I")
_ADDRESS_WIDTH: Final = 1 << 32


class GuestPages(Protocol):
    """The guest's memory as the host's kernel sees it."""

    def read(self, iova: int, count: int) -> bytes:
        """Copy `count` bytes.  Raise `KernelRefused` (or OSError) where nothing is mapped."""
        ...

    def pin(self, iova: int, npages: int) -> list[int]:
        """Hold the pages from the one of `iova` on; their host addresses.  Raise as `read`; none is held then."""
        ...

    def unpin(self, iova: int, npages: int) -> None:
        """Let pages go that `pin` gave."""
        ...


class KernelStorage(Protocol):
    """Storage of the host's kernel below 2 GiB."""

    def allocate(self, size: int) -> int:
        """The address of a new block."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Store into a block."""
        ...

    def free(self, address: int) -> None:
        """Give a block back."""
        ...


@dataclass(slots=True)
class _Chain:
    """Consecutive CCWs: where they are in the guest (`iova`) and in the kernel (`address`), and what hangs on them."""

    iova: int
    ccws: list[Ccw]
    address: int
    blocks: list[int] = field(default_factory=list)
    lines: list[ProgramLine] = field(default_factory=list)
    words: list[tuple[int, ...]] = field(default_factory=list)

    def holds(self, iova: int) -> bool:
        """Whether a guest address lies in the chain."""
        return self.iova <= iova <= self.iova + (len(self.ccws) - 1) * CCW_SIZE


class Translation:
    """The program of one START SUBCHANNEL; `initialized` from `copy` to `free`.  `page` is the bytes of a page."""

    def __init__(self, guest: GuestPages, kernel: KernelStorage, page: int) -> None:
        self._guest = guest
        self._kernel = kernel
        self._page = page
        self.initialized = False
        self.orb = Orb()
        self._chains: list[_Chain] = []
        self._pinned: list[tuple[int, int]] = []  # (iova, pages)

    # copying

    def copy(self, orb: Orb) -> None:
        """Copy the program that the ORB designates.

        Raise `KernelRefused` EBUSY (there is one already), EINVAL (too long, too many chains), or what reading the
        guest's memory gives.
        """
        if self.initialized:
            raise refused(errno.EBUSY, "a program is under way")
        self.orb = orb
        try:
            self._copy_chain(orb.cpa)
        except BaseException:
            self._free_chains()
            raise
        self.initialized = True

    def _copy_chain(self, iova: int) -> None:
        ccws = read_chain(self._guest.read(iova, CHAIN_LENGTH_MAX * CCW_SIZE), self.orb.fmt, iova)
        if len(self._chains) >= CHAINS_MAX:
            raise refused(errno.EINVAL, f"the program has more than {CHAINS_MAX} chains of CCWs")
        chain = _Chain(iova, ccws, self._kernel.allocate(len(ccws) * CCW_SIZE))
        self._chains.append(chain)
        for ccw in chain.ccws:
            if ccw.is_tic and not any(other.holds(ccw.cda) for other in self._chains):
                self._copy_chain(ccw.cda)

    # translating

    def translate(self) -> None:
        """Translate all addresses and pin the pages.

        Raise `KernelRefused`, or what reading and pinning give; the program must be freed then.
        """
        if not self.initialized:
            raise refused(errno.EINVAL, "no program was copied")
        for chain in self._chains:
            chain.lines.clear()
            chain.words.clear()
            for ccw in chain.ccws:
                at = chain.address + len(chain.lines) * CCW_SIZE
                chain.lines.append(self._translate_tic(at, ccw, chain) if ccw.is_tic else self._data(at, ccw, chain))
            self._kernel.write(chain.address, b"".join(line.ccw.to_bytes() for line in chain.lines))

    def _translate_tic(self, at: int, ccw: Ccw, within: _Chain) -> ProgramLine:
        within.words.append(())
        for chain in self._chains:
            if chain.holds(ccw.cda):
                return ProgramLine(at, replace(ccw, cda=chain.address + ccw.cda - chain.iova))
        raise refused(errno.EFAULT, f"the target {ccw.cda:#x} of a TIC is in no chain")

    def _data(self, at: int, ccw: Ccw, chain: _Chain) -> ProgramLine:
        guest = self._guest_idaws(ccw)
        words = self._pin(guest) if moves_data(ccw) else [NOWHERE] * len(guest)
        block = self._kernel.allocate(len(words) * _IDAW.size)
        chain.blocks.append(block)
        chain.words.append(tuple(guest))
        self._kernel.write(block, b"".join(map(_IDAW.pack, words)))
        return ProgramLine(at, changed(ccw, flags=ccw.flags | CcwFlag.IDA, cda=block), tuple(words))

    def _guest_idaws(self, ccw: Ccw) -> list[int]:
        """The guest's IDAWs for the CCW's data, made up when it has a direct address."""
        layout, block = _IDAW if self.orb.c64 else _FORMAT_1_IDAW, self.orb.idaw_block
        indirect = bool(ccw.flags & CcwFlag.IDA)
        first = layout.unpack(self._guest.read(ccw.cda, layout.size))[0] if indirect else ccw.cda
        count = (first % block + max(ccw.count, 1) + block - 1) // block
        if indirect:
            words = [word for (word,) in layout.iter_unpack(self._guest.read(ccw.cda, count * layout.size))]
            if words[0] != first:
                raise refused(errno.EINVAL, "the guest changes its list of IDAWs meanwhile")
            return words
        words = [first]
        while len(words) < count:
            words.append((words[-1] + block) // block * block % (1 << 8 * layout.size))
        return words

    def _pin(self, iovas: list[int]) -> list[int]:
        """Pin the page of each address; the host's absolute addresses.  None of these stays pinned on an error."""
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
                pages = self._guest.pin(iovas[start], end - start)
                self._pinned.append((iovas[start], end - start))
                addresses += [at - at % page + iova % page for at, iova in zip(pages, iovas[start:end], strict=True)]
                start = end
        except BaseException:
            self._unpin(mark)
            raise
        return addresses

    def _unpin(self, mark: int = 0) -> None:
        while len(self._pinned) > mark:
            self._guest.unpin(*self._pinned.pop())

    # using

    def host_orb(self, intparm: int, lpm: int) -> Orb:
        """The ORB to start the translated program with; `lpm` counts when the guest named no path."""
        orb = self.orb
        return changed(
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
                return changed(scsw, cpa=(chain.iova + offset) % _ADDRESS_WIDTH)
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
                self._kernel.free(block)
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
        return tuple(line for chain in self._chains for line in chain.lines)

    def steps(self, device: str = "", *, intparm: int = 0, lpm: int = 0xFF) -> tuple[Step, Step]:
        """K1 and K2 of the slide "SSCH Handling Process", for the device of that name; see `pyvfio.css.trace`."""
        copied = "the channel program is copied from the guest"
        translated = "its addresses are translated, its pages pinned"
        return (
            Step("K1", device, copied, orb=self.orb, program=self.guest_lines()),
            Step("K2", device, translated, orb=self.host_orb(intparm, lpm), program=self.host_lines()),
        )

    def trace(self) -> list[str]:
        """Each CCW of the guest, what became of it, and where each of its pages is: one line for each fact."""
        return list(self._trace())

    def _trace(self) -> Iterator[str]:
        for guest, host, words in zip(
            self.guest_lines(),
            self.host_lines(),
            (words for chain in self._chains for words in chain.words),
            strict=True,
        ):
            yield f"{guest.address:#x}: {guest.ccw}"
            yield f"  -> {host.address:#x}: {host.ccw}"
            for number, (before, after) in enumerate(zip(words, host.idaws, strict=True)):
                where = "no page, nothing is moved" if after == NOWHERE else f"{after:#x}"
                yield f"     IDAW {number}: {before:#x} -> {where}"
