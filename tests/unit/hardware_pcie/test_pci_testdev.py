"""`pci-testdev`: the header and the counts of QEMU's ``hw/misc/pci-testdev.c``, through the fabric."""

from __future__ import annotations

import pytest
from device_rig import Board

from pyvfio.pci.testdev import COUNT, DATA, IO_BAR, MATCH, MEMORY_BAR, NAME, NO_MATCH, OFFSET, TEST, WIDTH, TestKind
from pyvfio_backends.software.hardware.pcie.peripherals import pci_testdev

BARS = [(MEMORY_BAR, "mmio", 2048, 0), (IO_BAR, "portio", 128, 3)]


def name(on: Board, bar: int) -> str:
    return bytes(on.load(NAME + index, 1, bar=bar) for index in range(32)).rstrip(b"\0").decode()


@pytest.mark.parametrize(("bar", "prefix", "base", "first"), BARS)
@pytest.mark.parametrize("kind", TestKind)
def test_the_header(bar: int, prefix: str, base: int, first: int, kind: TestKind) -> None:
    on = Board(pci_testdev().function)
    on.store(TEST, kind, 1, bar=bar)
    assert name(on, bar) == f"{prefix}-{kind.label}"
    assert on.load(TEST, 1, bar=bar) == first + kind
    assert on.load(WIDTH, 1, bar=bar) == 1
    assert on.load(OFFSET, bar=bar) == base + first + kind
    assert on.load(DATA, bar=bar) == (NO_MATCH if kind is TestKind.ANY_EVENT else MATCH)


@pytest.mark.parametrize(("bar", "prefix", "base", "first"), BARS)
def test_what_is_counted_and_what_is_an_event(bar: int, prefix: str, base: int, first: int) -> None:
    card = pci_testdev()
    on = Board(card.function)
    counted = {}
    for kind in TestKind:
        on.store(TEST, kind, 1, bar=bar)
        offset = on.load(OFFSET, bar=bar)
        for data in (MATCH, MATCH, NO_MATCH):
            on.store(offset, data, 1, bar=bar)
        on.store(offset + 8, MATCH, 1, bar=bar)
        counted[kind] = on.load(COUNT, bar=bar)
    assert counted == {TestKind.NO_EVENT: 2, TestKind.ANY_EVENT: 0, TestKind.DATA_EVENT: 0}
    assert card.device.events == {f"{prefix}-wildcard-eventfd": 3, f"{prefix}-datamatch-eventfd": 2}


def test_a_test_begins_with_no_writes_and_one_that_is_not_there_stops_it() -> None:
    on = Board(pci_testdev().function)
    on.store(TEST, 0, 1)
    on.store(2048, MATCH, 4)
    assert on.load(COUNT) == 1, "byte by byte"
    on.store(TEST, 0, 1)
    assert on.load(COUNT) == 0
    on.store(2048, MATCH, 1, bar=MEMORY_BAR)
    on.store(TEST, 3, 1, bar=IO_BAR)
    assert on.load(OFFSET) == on.load(OFFSET, bar=IO_BAR) == 0
    on.store(TEST, 1, 1)
    on.function.reset()
    assert on.function.bars[0].registers.read(OFFSET, 4) == 0
