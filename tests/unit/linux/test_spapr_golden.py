"""Containers on POWER answer as the recorded powernv9 kernel did, question by question (``golden/ppc64``).

The recording has the names of the questions, not their arguments; those here are the plainest that fit the names.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from spapr_rig import GOLDEN, SpaprLab

from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_type1 as t1
from pyvfio.abi.request import VFIO_BASE, VFIO_TYPE, request
from pyvfio.process import AnonymousMemory
from pyvfio_fixtures import golden

RECORDED: dict[str, Any] = json.loads(golden(GOLDEN).read_text(encoding="utf-8"))
OF_THE_DEVICE = {"device_fd", "device_info", "regions", "irqs", "cfg", "reset"}
OF_THE_HOST = {"page", "memlock"}
MIB, GIB2 = 1 << 20, 1 << 31
KINDS = {"v1": abi.VFIO_SPAPR_TCE_IOMMU, "v2": abi.VFIO_SPAPR_TCE_v2_IOMMU}
K4 = 0x1000
MANY, READ_ONLY, WRITE_ONLY, FOUR = 0x100000, 0x200000, 0x201000, 0x300000


@pytest.fixture
def lab() -> Iterator[SpaprLab]:
    lab = SpaprLab()
    with lab.host:
        yield lab


def answer(call: Callable[[], object]) -> object:
    try:
        return call()
    except OSError as error:
        return {"errno": errno.errorcode[error.errno or 0]}


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_replay(lab: SpaprLab, version: str) -> None:
    recorded = RECORDED[version]
    container, group = lab.container(), lab.group("p0")
    ioctl = lab.host.ioctl
    with AnonymousMemory(2 * MIB) as memory:
        at = memory.address
        other = at + MIB + 0x10000  # memory that nobody registers

        def extensions() -> dict[str, int]:
            return {str(n): ioctl(container, abi.VFIO_CHECK_EXTENSION, n) for n in range(12)}

        def map_(iova: int, size: int = K4, vaddr: int = at, flags: int = 3) -> Callable[[], int]:
            return lambda: lab.map_raw(container, iova, size, vaddr, flags)

        def unmap(iova: int, size: int = K4, flags: int = 0) -> Callable[[], int]:
            return lambda: lab.unmap(container, iova, size, flags)

        def register(vaddr: int = at, size: int = MIB, flags: int = 0) -> Callable[[], int]:
            return lambda: lab.register(container, vaddr, size, flags)

        def create(shift: int = 12, size: int = GIB2, levels: int = 1, flags: int = 0) -> Callable[[], str]:
            return lambda: hex(lab.create(container, shift, size, levels, flags))

        def set_iommu(kind: int) -> Callable[[], int]:
            return lambda: ioctl(container, abi.VFIO_SET_IOMMU, kind)

        def info() -> dict[str, int]:
            return lab.spapr_info(container)

        def remove(start: int) -> Callable[[], int]:
            return lambda: lab.remove(container, start)

        enable, disable = t1.VFIO_IOMMU_ENABLE, t1.VFIO_IOMMU_DISABLE
        questions: dict[str, Callable[[], object]] = {
            "set_iommu_without_group": set_iommu(KINDS[version]),
            "set_container": lambda: lab.set_container(group, container),
            "extensions": extensions,
            "set_iommu_type1": set_iommu(abi.VFIO_TYPE1_IOMMU),
            "set_iommu_type1v2": set_iommu(abi.VFIO_TYPE1v2_IOMMU),
            "set_iommu": set_iommu(KINDS[version]),
            "extensions_after": extensions,
            "set_iommu_again_other": set_iommu(KINDS["v2" if version == "v1" else "v1"]),
            "info": info,
            "info_argsz16": lambda: lab.spapr_info(container, 16),
            "info_argsz8": lambda: lab.spapr_info(container, 8),
            "map_before_enable": map_(0),
            "unmap_before_enable": unmap(0),
            "disable_before_enable": lambda: ioctl(container, disable, 0),
            "enable": lambda: ioctl(container, enable, 0),
            "enable_again": lambda: ioctl(container, enable, 0),
            "info_after_enable": info,
            "map_unregistered": map_(0, vaddr=other),
            "unmap_unregistered": unmap(0),
            "register_unaligned": register(at + 1),
            "register_flags": register(flags=1),
            "register_bad_vaddr": register(0x1000),
            "register": register(),
            "register_again_same": register(),
            "register_overlap": register(at + 0x10000, 0x20000),
            "vmlck": lambda: [f"VmLck:\t{lab.locked:8} kB", "VmPin:\t       0 kB"],
            "map": map_(0),
            "map_same_iova": map_(0, vaddr=at + K4),
            "map_many": map_(MANY, 16 * K4),
            "map_readonly": map_(READ_ONLY, flags=1),
            "map_writeonly": map_(WRITE_ONLY, flags=2),
            "map_noflags": map_(0x400000, flags=0),
            "map_unaligned": map_(0x400000, vaddr=at + 0x800),
            "map_unaligned_size": map_(0x400000, 0x800),
            "map_size0": map_(0x400000, 0),
            "map_outside_window": map_(0x100000000),
            "map_4k": map_(FOUR),
            "unmap_part_of_many": unmap(MANY),
            "unmap": unmap(0),
            "unmap_again": unmap(0),
            "unmap_outside": unmap(0x100000000),
            "unmap_flags": unmap(0, flags=1),
            "unregister_while_mapped": lambda: lab.unregister(container, at, MIB),
            "unregister_subrange": lambda: lab.unregister(container, at, 0x10000),
            "unmap_rest": unmap(MANY, 16 * K4),
            "unmap_ro": unmap(READ_ONLY, 2 * K4),
            "unregister": lambda: lab.unregister(container, at, MIB),
            "unregister_2": lambda: lab.unregister(container, at + MIB, MIB),
            "unregister_missing": lambda: lab.unregister(container, at + MIB, K4),
            "create_4k_2G": create(),
            "create_64k_2G": create(16),
            "create_third": create(),
            "info_after_create": info,
            "create_bad_shift": create(13),
            "create_non_pow2": create(size=3 << 30),
            "create_levels_9": create(levels=9),
            "create_levels_0": create(levels=0),
            "create_flags": create(flags=1),
            "remove_missing": remove(0x12345000),
            "remove_create_4k_2G": remove(1 << 59),
            "remove_default": remove(0),
            "remove_default_again": remove(0),
            "map_without_window": map_(0),
            "recreate_default": create(),
            "disable": lambda: ioctl(container, disable, 0),
            "unknown": lambda: ioctl(container, request(VFIO_TYPE, VFIO_BASE + 99), 0),
        }
        assert set(recorded) <= set(questions) | OF_THE_DEVICE | OF_THE_HOST
        got = {name: answer(call) for name, call in questions.items() if name in recorded}
        assert got == {name: value for name, value in recorded.items() if name in questions}
        lab.host.close(container)
        lab.host.close(group)
