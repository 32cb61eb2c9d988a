"""The IOMMUs above a PCI Express tree, from the table ``[[pcie.iommu]]`` of a machine file: one for each segment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pyvfio.errors import Misuse
from pyvfio_backends.software.description import MachineSpec, PcieIommuSpec
from pyvfio_backends.software.hardware.pcie.remapping import WIDTHS, Abilities, RemappingUnit, unit_address

__all__ = ["build_units", "check_iommu"]

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


def build_units(segments: Iterable[int], specs: Sequence[PcieIommuSpec]) -> dict[int, RemappingUnit]:
    """The unit of each segment."""
    by_segment = {spec.segment: spec for spec in specs}
    return {
        segment: RemappingUnit(_abilities(by_segment.get(segment, PcieIommuSpec())), address=unit_address(number))
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
