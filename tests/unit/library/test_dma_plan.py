"""Plans of DMA memory against the limit of locked memory, which no lab has, and with very many mappings."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from small_machine import BELL

import pyvfio
from pyvfio.errors import KernelRefused
from pyvfio.iommu import IovaAllocator
from pyvfio.iommu.plan import locked_memory

PAGE, MEBI = 1 << 12, 1 << 20
Boot = Callable[..., pyvfio.Host]


@pytest.mark.parametrize("way", ["group", "iommufd"])
def test_more_than_may_be_locked(boot: Boot, way: str) -> None:
    host = boot(memlock=MEBI, ipc_lock=False)
    with pyvfio.open_device(host, BELL, way=way) as device:
        assert device.space.plan([MEBI]).fits
        plan = device.space.plan([MEBI, PAGE])
        (broken,) = (limit for limit in plan.limits if not limit.kept)
        assert (broken.name, broken.need, broken.has) == ("locked memory", MEBI + PAGE, MEBI)
        with pytest.raises(
            KernelRefused, match=r"1052672 bytes are to be locked, 0 are, and the limit is 1048576"
        ) as e:
            plan.require()
        assert e.value.errno_name == "ENOMEM"
        assert "ulimit -l" in e.value.next_step
        # the kernel says the same, in the midst of it
        with device.space.buffer(MEBI), pytest.raises(KernelRefused) as caught:
            device.space.buffer(PAGE)
        assert caught.value.errno_name == "ENOMEM"


@pytest.mark.parametrize("way", ["group", "iommufd"])
def test_what_is_locked_already_counts(boot: Boot, way: str) -> None:
    host = boot(memlock=MEBI, ipc_lock=False)
    with pyvfio.open_device(host, BELL, way=way) as device, device.space.buffer(MEBI // 2):
        assert locked_memory(host.backend).now == MEBI // 2
        assert locked_memory(host.backend).left == MEBI // 2
        assert device.space.plan([MEBI // 2]).fits
        assert not device.space.plan([MEBI // 2 + 1]).fits


def test_who_may_lock_all_is_not_bound(boot: Boot) -> None:
    host = boot(memlock=PAGE, ipc_lock=True)
    assert locked_memory(host.backend).left is None
    with pyvfio.open_device(host, BELL) as device:
        plan = device.space.plan([MEBI])
        assert plan.fits
        assert "no limit" in str(plan.limits[1])


def test_a_plan_in_words(boot: Boot) -> None:
    with pyvfio.open_device(boot(), BELL, way="group") as device:
        words = [str(limit) for limit in device.space.plan([PAGE] * 70_000).limits]
    assert words[0] == ("DMA mappings: 70,000 needed, 65,535 left: 70,000 DMA mappings are needed, 65,535 are left")


def test_the_allocator_does_not_slow_down() -> None:
    """65,535 pieces, freed in an order that leaves a hole at every other one, then all again: growth is no square."""

    def churn(count: int) -> float:
        allocator = IovaAllocator([(0, (1 << 48) - 1)], PAGE)
        began = time.process_time()
        held = [allocator.allocate(PAGE) for _ in range(count)]
        for iova in held[::2]:
            allocator.free(iova)
        again = [allocator.allocate(PAGE) for _ in range(count // 2)]
        for iova in (*held[1::2], *again):
            allocator.free(iova)
        assert allocator.allocate(1 << 40) == PAGE  # one piece again
        return time.process_time() - began

    few, many = min(churn(4096) for _ in range(3)), churn(65_535)
    assert many < few * 16 * 4
