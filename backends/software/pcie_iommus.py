"""The IOMMUs above a PCI Express tree, from the table ``[[pcie.iommu]]`` of a machine file: one for each segment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pyvfio.css.instructions import StorageError
from pyvfio.errors import Misuse
from pyvfio_backends.software.description import MachineSpec, PcieIommuSpec, PcieReservedSpec
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.hardware.pcie.dmar import DeviceScope, ReservedMemory
from pyvfio_backends.software.hardware.pcie.remapping import WIDTHS, Abilities, RemappingUnit, unit_address
from pyvfio_backends.software.memory import HostMemory

__all__ = ["AbsoluteMemory", "build_units", "check_iommu", "reserve_storage", "reserved_memory"]

_MOST_RESERVED: Final = 1 << 30
"""Bytes that all regions may have together: their storage is really there, whether a device uses it or not."""
_LAST_ADDRESS: Final = (1 << 52) - 1
"""No processor of x86 has more bits of addresses, and no page table of its IOMMUs."""
_FIRST_STAGE: Final = ("5-level", "supervisor", "extended-access")
_LARGE: Final = {"2M": 1 << 0, "1G": 1 << 1}


def check_iommu(spec: PcieIommuSpec, machine: MachineSpec) -> None:
    """Raise `Misuse` for what no unit can be."""
    name = f"of segment {spec.segment:04x}"
    if spec.width not in WIDTHS:
        raise Misuse("build the IOMMU", name, cause=f"width must be one of {', '.join(map(str, WIDTHS))}")
    unknown = [size for size in spec.large_pages if size not in _LARGE]
    if unknown:
        raise Misuse("build the IOMMU", name, cause=f"no pages of {unknown[0]}; there is {', '.join(_LARGE)}")
    strange = [word for word in spec.first_stage if word not in _FIRST_STAGE]
    if strange:
        raise Misuse("build the IOMMU", name, cause=f"no {strange[0]}; there is {', '.join(_FIRST_STAGE)}")
    if spec.first_stage and not spec.nesting:
        raise Misuse("build the IOMMU", name, cause="first_stage is for nesting", next_step="say nesting = true")
    if all(bus.segment != spec.segment for bus in machine.pcie_buses):
        raise Misuse("build the IOMMU", name, cause=f"there is no segment {spec.segment:04x}")
    if sum(one.segment == spec.segment for one in machine.pcie_iommus) > 1:
        raise Misuse("build the IOMMU", name, cause=f"segment {spec.segment:04x} is there twice")


def reserved_memory(spec: PcieReservedSpec, machine: MachineSpec) -> ReservedMemory:
    """The row of the table.  Raise `Misuse` for memory that is no pages of the machine, or is of no device."""
    name, page = "of devices", machine.page_size
    if not 0 <= spec.first <= spec.last < machine.memory or spec.first % page or (spec.last + 1) % page:
        cause = f"{spec.first:#x} to {spec.last:#x} are no pages of {page} bytes within the machine's memory"
        raise Misuse("reserve memory", name, cause=cause)
    if spec.last - spec.first >= _MOST_RESERVED or spec.last > _LAST_ADDRESS:
        cause = f"{spec.first:#x} to {spec.last:#x} is more than {_MOST_RESERVED:#x} bytes or beyond {_LAST_ADDRESS:#x}"
        raise Misuse("reserve memory", name, cause=cause)
    if not spec.devices:
        raise Misuse("reserve memory", name, cause="devices is empty: it is for no device")
    return ReservedMemory(spec.first, spec.last, tuple(_scope(device, machine) for device in spec.devices))


def reserve_storage(memory: HostMemory, regions: Iterable[ReservedMemory]) -> None:
    """Have the storage of the regions, some of which may be partly the same.  Raise `Misuse` when it is in use."""
    spans: list[tuple[int, int]] = []
    for first, end in sorted((one.first, one.last + 1) for one in regions):
        if spans and first <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((first, end))
    if sum(end - first for first, end in spans) > _MOST_RESERVED:
        cause = f"the regions have more than {_MOST_RESERVED:#x} bytes together"
        raise Misuse("reserve memory", "of devices", cause=cause)
    for first, end in spans:
        try:
            memory.reserve(first, end - first)
        except MemoryError as error:
            cause = f"the kernel has its own data between {first:#x} and {end - 1:#x}"
            raise Misuse("reserve memory", "of devices", cause=cause, next_step="take another place") from error


def _scope(device: str, machine: MachineSpec) -> DeviceScope:
    by_id = {function.id: function for function in machine.pcie_functions if function.id}
    path: list[int] = []
    behind = device
    while (function := by_id.get(behind)) is not None and len(path) <= len(by_id):
        number, part = function.at.split(".")
        path.insert(0, int(number, 16) << 3 | int(part))
        behind = function.behind
    if not path:
        cause = f"no [[pcie.function]] has the id {device!r}"
        raise Misuse("reserve memory", "of devices", cause=cause, next_step="give the function an id")
    segment, _, bus = behind.partition(":")
    return DeviceScope(int(segment, 16), int(bus, 16), tuple(path))


class AbsoluteMemory:
    """The machine's storage as devices see it without translation (`hardware.dma.DmaSpace`)."""

    def __init__(self, memory: HostMemory) -> None:
        self._memory = memory

    def read(self, iova: int, count: int) -> bytes:
        """See `DmaSpace.read`."""
        try:
            return self._memory.read(iova, count)
        except StorageError as error:
            raise DmaFault(iova, count, write=False) from error

    def write(self, iova: int, data: bytes) -> None:
        """See `DmaSpace.write`."""
        try:
            self._memory.write(iova, data)
        except StorageError as error:
            raise DmaFault(iova, len(data), write=True) from error

    def copy(self, target: int, source: int, count: int) -> None:
        """See `DmaSpace.copy`."""
        self.write(target, self.read(source, count))


def build_units(
    segments: Iterable[int], specs: Sequence[PcieIommuSpec], memory: HostMemory
) -> dict[int, RemappingUnit]:
    """The unit of each segment, before the `memory` of the machine."""
    storage = AbsoluteMemory(memory)
    by_segment = {spec.segment: spec for spec in specs}
    return {
        segment: RemappingUnit(
            _abilities(by_segment.get(segment, PcieIommuSpec())), address=unit_address(number), memory=storage
        )
        for number, segment in enumerate(sorted(segments))
    }


def _abilities(spec: PcieIommuSpec) -> Abilities:
    return Abilities(
        width=spec.width,
        large_pages=sum(_LARGE[size] for size in set(spec.large_pages)),
        caching=spec.caching_mode,
        snoops=spec.snoop_control,
        dirty=spec.dirty_tracking,
        nests=spec.nesting,
        five_levels="5-level" in spec.first_stage,
        supervisor="supervisor" in spec.first_stage,
        extended="extended-access" in spec.first_stage,
    )
