"""The IOMMUs above a PCI Express tree, from the table ``[[pcie.iommu]]`` of a machine file: one for each segment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pyvfio.css.instructions import StorageError
from pyvfio.errors import Misuse
from pyvfio_backends.software.description import MachineSpec, PcieIommuSpec
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.hardware.pcie.remapping import WIDTHS, Abilities, RemappingUnit, unit_address
from pyvfio_backends.software.memory import HostMemory

__all__ = ["AbsoluteMemory", "build_units", "check_iommu"]

_LARGE: Final = {"2M": 1 << 0, "1G": 1 << 1}


def check_iommu(spec: PcieIommuSpec, machine: MachineSpec) -> None:
    """Raise `Misuse` for what no unit can be."""
    name = f"of segment {spec.segment:04x}"
    if spec.width not in WIDTHS:
        raise Misuse("build the IOMMU", name, cause=f"width must be one of {', '.join(map(str, WIDTHS))}")
    unknown = [size for size in spec.large_pages if size not in _LARGE]
    if unknown:
        raise Misuse("build the IOMMU", name, cause=f"no pages of {unknown[0]}; there is {', '.join(_LARGE)}")
    if all(bus.segment != spec.segment for bus in machine.pcie_buses):
        raise Misuse("build the IOMMU", name, cause=f"there is no segment {spec.segment:04x}")
    if sum(one.segment == spec.segment for one in machine.pcie_iommus) > 1:
        raise Misuse("build the IOMMU", name, cause=f"segment {spec.segment:04x} is there twice")


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
    )
