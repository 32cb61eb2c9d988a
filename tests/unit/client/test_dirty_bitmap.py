"""Bitmaps of dirty pages, compared with a plain set of pages."""

from __future__ import annotations

import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvfio.errors import Misuse
from pyvfio.iommu import DirtyBitmap

PAGE, BASE = 1 << 12, 1 << 30


def filled(pages: int, dirty: set[int]) -> DirtyBitmap:
    """As a kernel fills it: 64-bit words in its own byte order."""
    bitmap = DirtyBitmap(BASE, pages * PAGE, PAGE)
    for page in dirty:
        bitmap.buffer[page // 64] |= 1 << page % 64
    return bitmap


@pytest.mark.parametrize(
    ("iova", "length", "page"),
    [(0, PAGE, 0), (0, PAGE, 3 * PAGE), (0, 0, PAGE), (1, PAGE, PAGE), (0, PAGE + 1, PAGE), (-PAGE, PAGE, PAGE)],
)
def test_pages_that_cannot_be(iova: int, length: int, page: int) -> None:
    with pytest.raises(Misuse):
        DirtyBitmap(iova, length, page)


def test_bitmaps_of_different_ranges_are_not_joined() -> None:
    bitmap = filled(3, {1})
    for other in (filled(4, {1}), DirtyBitmap(BASE + PAGE, 3 * PAGE, PAGE), DirtyBitmap(BASE, 3 * PAGE, PAGE // 2)):
        with pytest.raises(Misuse):
            bitmap |= other


@given(st.data())
def test_a_model(data: st.DataObject) -> None:
    pages = data.draw(st.integers(1, 300))
    runs = data.draw(st.lists(st.tuples(st.integers(0, pages - 1), st.integers(1, 150)), max_size=6))
    dirty = {page for first, count in runs for page in range(first, min(first + count, pages))}
    bitmap = filled(pages, dirty)
    assert list(bitmap) == [BASE + page * PAGE for page in sorted(dirty)]
    assert (bitmap.count, bitmap.bytes_dirty, bool(bitmap)) == (len(dirty), len(dirty) * PAGE, bool(dirty))
    ranges = list(bitmap.ranges())
    assert {page for one in ranges for page in range(one.iova, one.iova + one.length, PAGE)} == set(bitmap)
    for one, following in pairwise(ranges):
        assert one.iova + one.length < following.iova  # neighbours are one range
    for page in range(-1, pages + 1):
        assert (BASE + page * PAGE in bitmap) == (page in dirty)
        assert (BASE + page * PAGE + PAGE - 1 in bitmap) == (page in dirty)
    assert bitmap.to_bytes() == sum(1 << page for page in dirty).to_bytes(-(-pages // 8), "little")


@given(st.sets(st.integers(0, 199)), st.sets(st.integers(0, 199)))
def test_joining(one: set[int], other: set[int]) -> None:
    bitmap = filled(200, one)
    bitmap |= filled(200, other)
    assert set(bitmap) == {BASE + page * PAGE for page in one | other}


def test_the_buffer_is_what_the_kernel_fills() -> None:
    bitmap = DirtyBitmap(0, 65 * PAGE, PAGE)
    assert (bitmap.size, bitmap.pages) == (16, 65)
    view = memoryview(bitmap.buffer).cast("B")
    view[:] = (1 << 63).to_bytes(8, sys.byteorder) + (1).to_bytes(8, sys.byteorder)
    assert [str(one) for one in bitmap.ranges()] == ["0x3f000-0x40fff"]
    assert "2 of 65" in repr(bitmap)


def test_a_large_one_is_looked_through_quickly() -> None:
    """A terabyte of pages of 4 KiB: one word is looked at as fast as all of its pages."""
    bitmap = DirtyBitmap(0, 1 << 36, PAGE)
    bitmap.buffer[1000] = 1
    for word in range(2000, 200_000):
        bitmap.buffer[word] = (1 << 64) - 1
    assert [one.length // PAGE for one in bitmap.ranges()] == [1, 64 * 198_000]
