"""Random maps and unmaps of type 1 against a simple model, for both versions."""

from __future__ import annotations

import errno

from hypothesis import given, settings
from hypothesis import strategies as st
from vfio_fixture import FIRST, PAGE, Lab, RealDevice

from pyvfio.process import AnonymousMemory
from pyvfio_backends.software.hardware.dma import DmaFault

PAGES = 24
LIMIT = 6
Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["map", "map", "unmap", "unmap", "all"]), st.integers(0, PAGES - 1), st.integers(0, 6)),
    max_size=40,
)


class Model:
    """What the header and the kernel's own comments promise, as a list of (start, pages)."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.maps: list[tuple[int, int]] = []

    def map(self, start: int, count: int) -> int:
        if not count:
            return errno.EINVAL
        if any(a < start + count and start < a + n for a, n in self.maps):
            return errno.EEXIST
        if len(self.maps) == LIMIT:
            return errno.ENOSPC
        if start + count > PAGES:
            return errno.EINVAL
        self.maps.append((start, count))
        return 0

    def unmap(self, start: int, count: int) -> int:
        """Pages unmapped, or minus an errno."""
        if not count:
            return -errno.EINVAL
        end = start + count
        hit = sorted((a, n) for a, n in self.maps if a < end and start < a + n)
        if self.version == 2:
            if any(a < start or a + n > end for a, n in hit):
                return -errno.EINVAL
        elif hit and hit[0][0] < start:
            return 0  # version 1: a mapping whose first page is not meant stays, and all behind it
        for mapping in hit:
            self.maps.remove(mapping)
        return sum(n for _, n in hit)


def answer(call: object, *arguments: object) -> int:
    try:
        return call(*arguments) or 0  # type: ignore[operator]
    except OSError as error:
        return -(error.errno or 0)


def run(version: int, steps: list[Step]) -> None:
    lab = Lab()
    group = lab.fake("p0").device.iommu_group
    assert group is not None
    group.aperture = (FIRST, FIRST + PAGES * PAGE - 1)
    for device in group.devices.values():
        assert isinstance(device, RealDevice)
        device.regions = ()
    lab.fake("p0").core.dma_entry_limit = LIMIT
    model = Model(version)
    with lab.host, AnonymousMemory(PAGES * PAGE) as memory:
        container, _ = lab.ready("p0", 1 if version == 1 else 3)
        for kind, start, count in steps:
            iova, size = FIRST + start * PAGE, count * PAGE
            if kind == "map":
                assert answer(lab.map, container, iova, size, memory.address) == -model.map(start, count)
            elif kind == "unmap":
                expected = model.unmap(start, count)
                assert answer(lab.unmap, container, iova, size) == (expected * PAGE if expected > 0 else expected)
            else:
                assert lab.unmap(container, 0, 0, 2) == sum(n for _, n in model.maps) * PAGE
                model.maps.clear()
            assert lab.available(container) == LIMIT - len(model.maps)
        dma = lab.fake("p0").dma
        assert dma is not None
        for page in range(PAGES):
            mapped = any(a <= page < a + n for a, n in model.maps)
            try:
                dma.read(FIRST + page * PAGE, 1)
            except DmaFault:
                assert not mapped
            else:
                assert mapped


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_version_1(steps: list[Step]) -> None:
    run(1, steps)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_version_2(steps: list[Step]) -> None:
    run(2, steps)
