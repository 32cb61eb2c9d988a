"""Translated programs on the software channel: all bytes land, and none outside the pages that were mapped."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import pytest
from channel_programs import LISTS, MIDALS, ORIGIN, Case, Obedient, programs
from css_rig import SCHID, Bench, Memory
from hypothesis import given, settings
from hypothesis import strategies as st

from pyvfio.css import Blocks, Ccw, CcwFlag, Cstat, Direction, Image, Irb, Orb, PageTable, StorageError, translate
from pyvfio.css.protection import StorageProtected
from pyvfio.css.translation import NOWHERE
from pyvfio.errors import KernelRefused

PAGE = 0x1000
HOST = 1 << 40
DATA_PAGES = range(0x20000, 0x2A000, PAGE)
PROGRAM_PAGES = (ORIGIN, LISTS, MIDALS, MIDALS + PAGE)


class Host:
    """The host's storage: the kernel's blocks, the guest's pages, and everything else, where `landed` notes writes."""

    def __init__(self, guest: Memory, table: PageTable, kernel: Blocks, readonly: Collection[int] = ()) -> None:
        self.guest = guest
        self.readonly = readonly
        self.kernel = kernel
        self.pages = {host: page for page, host in table.pages.items()}
        self.landed: list[int] = []

    def _pieces(self, address: int, count: int) -> Iterator[tuple[int, int, int | None]]:
        """Page by page: the offset, the bytes, and where they are in the guest."""
        done = 0
        while done < count:
            at = address + done
            step = min(count - done, PAGE - at % PAGE)
            page = self.pages.get(at - at % PAGE)
            yield done, step, None if page is None else page + at % PAGE
            done += step

    def read(self, address: int, count: int) -> bytes:
        if address < 1 << 31:
            return self.kernel.read(address, count)
        pieces = list(self._pieces(address, count))
        if any(place is None for *_, place in pieces):
            raise StorageError(address, count)
        return b"".join(self.guest.read(place, step) for _, step, place in pieces if place is not None)

    def write(self, address: int, data: bytes) -> None:
        if address >= NOWHERE:
            raise StorageError(address, len(data), "write")
        for offset, step, place in self._pieces(address, len(data)):
            if place is None:
                self.landed.append(address + offset)
            elif place - place % PAGE in self.readonly:
                raise StorageProtected(address + offset, step)
            else:
                self.guest.write(place, data[offset : offset + step])


def tables(mapped: set[int]) -> dict[int, int]:
    """The guest's pages in reverse order on the host, with gaps."""
    return {page: HOST - 2 * page for page in sorted(mapped)}


def guest_memory(case: Case) -> Memory:
    memory = Memory()
    memory.write(0x20000, bytes(index % 253 for index in range(0xA000)))
    for address, content in case.parts():
        memory.write(address, content)
    return memory


def run(orb: Orb, storage: object) -> Irb | None:
    bench = Bench(Obedient(), memory=storage)  # type: ignore[arg-type]
    if bench.ssch(orb):
        return None
    bench.clock.settle()
    cc, irb = bench.css.tsch(SCHID)
    return irb if cc == 0 else None


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(programs(), programs(plain=True)),
    st.sets(st.sampled_from(DATA_PAGES)),
    st.sets(st.sampled_from(DATA_PAGES)),
    st.booleans(),
)
def test_no_byte_lands_outside_what_is_mapped(case: Case, mapped: set[int], readonly: set[int], whole: bool) -> None:
    """Random maps with holes and read-only pages: a device stores into no page but those mapped for it to store."""
    orb = case.orb
    guest, alone = guest_memory(case), guest_memory(case)
    readonly = set() if whole else readonly
    pages = tables({*PROGRAM_PAGES, *(DATA_PAGES if whole else mapped)})
    table, kernel = PageTable(guest, pages, PAGE), Blocks(PAGE)
    try:
        translation = translate(orb, table, kernel)
    except KernelRefused:
        assert not table.held
        assert not kernel.blocks
        return
    assert translation.trace()
    before = {page: guest.read(page, PAGE) for page in DATA_PAGES}
    host = Host(guest, table, kernel, readonly)
    irb = run(translation.host_orb(0, 0x80), host)
    assert host.landed == []
    for page in DATA_PAGES:
        assert page in (mapped - readonly) or whole or guest.read(page, PAGE) == before[page]
    expected = run(orb, alone)
    plain = not any(ccw.flags & CcwFlag.MIDA or ccw.direction == Direction.BACKWARD for ccw in case.ccws)
    if plain and whole and irb is not None and expected is not None and not expected.scsw.cstat & Cstat.PROGRAM_CHECK:
        assert translation.guest_scsw(irb.scsw).cpa == expected.scsw.cpa
        assert guest.read(0x20000, 0xA000) == alone.read(0x20000, 0xA000)
    translation.free()
    assert not table.held
    assert not kernel.blocks


@pytest.mark.parametrize("chained", [Ccw(0x03, CcwFlag.SLI, 64, 0x28000), Ccw(0x02, CcwFlag.SKIP, 64, 0x28000)])
@pytest.mark.parametrize("first", [0x01, 0x02])
def test_a_ccw_that_seems_to_move_nothing_in_a_data_chain(first: int, chained: Ccw) -> None:
    """The code of a CCW in a data chain does not count: a READ goes on to store, a WRITE to fetch."""
    guest = Memory()
    guest.write(ORIGIN, Ccw(first, CcwFlag.CD, 16, 0x20000).to_bytes() + chained.to_bytes())
    table, kernel = PageTable(guest, tables({*PROGRAM_PAGES, 0x20000}), PAGE), Blocks(PAGE)
    translation = translate(Orb(cpa=ORIGIN), table, kernel)
    host = Host(guest, table, kernel)
    irb = run(translation.host_orb(0, 0x80), host)
    assert irb is not None
    assert host.landed == []
    assert irb.scsw.cstat & Cstat.PROGRAM_CHECK or (first, chained.flags) == (0x02, CcwFlag.SKIP)
    assert "nothing is moved" in "\n".join(translation.trace())


def refusal(pages: Mapping[int, int], orb: Orb, *ccws: Ccw) -> str:
    guest = Image([(ORIGIN, b"".join(ccw.to_bytes() for ccw in ccws).ljust(0x800, b"\0"))])
    with pytest.raises(KernelRefused) as caught:
        translate(orb, PageTable(guest, pages, PAGE))
    return f"{caught.value.errno_name} {caught.value.cause}"


def test_what_is_refused_says_why() -> None:
    orb = Orb(cpa=ORIGIN)
    nop = Ccw(0x03, CcwFlag.CC, 1)
    assert refusal({}, orb, nop) == "EINVAL the guest's page 0x11000 is not mapped"
    pages = {ORIGIN: HOST, 0x50000: HOST + PAGE}
    assert "more than 256 CCWs" in refusal(pages, orb, *[nop] * 256)
    assert "0x20000 is not mapped" in refusal(pages, orb, Ccw(0x02, count=1, cda=0x20000))
    assert refusal(pages, Orb(cpa=0x50000), nop).startswith("EFAULT")
