"""Host bridges of a guest on POWER from the tables ``[[pcie.phb]]`` of a machine file.

::

    [[pcie.phb]]                   [[pcie.function]]
    id = "phb0"                    model = "nvme"
    segment = 0                    behind = "phb0"
                                   at = "03.0"

Functions are on the bridge's own bus.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from pyvfio.errors import Misuse
from pyvfio_backends.software.description import PcieFunctionSpec, PciePhbSpec
from pyvfio_backends.software.hardware.dma import DmaSpace
from pyvfio_backends.software.hardware.pcie.bridge import Bridge
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.virtio import KINDS as VIRTIO
from pyvfio_backends.software.hardware.spapr.firmware import place_functions
from pyvfio_backends.software.hardware.spapr.hypervisor import Hypervisor, LogicalBridges
from pyvfio_backends.software.hardware.spapr.phb import LogicalPhb
from pyvfio_backends.software.pcie_peripherals import Peripherals
from pyvfio_backends.software.pcie_tree import PcieTree

__all__ = ["SPAPR_MODEL", "SpaprTree", "build_bridges", "start_bridges"]

SPAPR_MODEL: Final = "spapr-pci-host-bridge"
"""The one model of a guest's bridges."""
_LAST_SEGMENT = 30


class SpaprTree(PcieTree):
    """Host bridges that are being built (`phbs`), before the guest's `memory`."""

    def __init__(self, memory: DmaSpace, peripherals: Peripherals | None = None) -> None:
        super().__init__(peripherals)
        self._memory = memory
        self.phbs: list[LogicalPhb] = []

    def add_phb(self, spec: PciePhbSpec) -> LogicalPhb:
        """Add a bridge.  Raise `Misuse` for another model, a slot, a segment or an id that is another's."""
        name = spec.id or f"phb{spec.segment}"
        if spec.model not in ("", SPAPR_MODEL):
            cause = f"there is no model {spec.model!r} on a pseries; there is {SPAPR_MODEL}"
            raise Misuse("build the host bridge", name, cause=cause)
        if not 0 <= spec.segment <= _LAST_SEGMENT:
            cause = f"segments are 0 to {_LAST_SEGMENT}; not {spec.segment}"
            raise Misuse("build the host bridge", name, cause=cause)
        if any(one.number == spec.segment for one in self.phbs):
            raise Misuse("build the host bridge", name, cause=f"segment {spec.segment:04x} is another's")
        if spec.slot != -1:
            raise Misuse("build the host bridge", name, cause="slots are not modelled on a pseries")
        phb = LogicalPhb(self._memory, segment=spec.segment)
        self.add_place(name, phb.root_bus)
        self.phbs.append(phb)
        return phb

    def add(self, spec: PcieFunctionSpec) -> Function:
        """See `PcieTree.add`: virtio functions are conventional, as the bus is.  Raise `Misuse` for a bridge, too."""
        if spec.model in VIRTIO:
            spec = replace(spec, options={**spec.options, "express": False})
        function = super().add(spec)
        if isinstance(function, Bridge):
            cause = "bridges below a host bridge are not modelled on a pseries"
            raise Misuse("build the PCI Express tree", spec.id or spec.model, cause=cause)
        return function


def build_bridges(
    specs: Sequence[PciePhbSpec],
    functions: Sequence[PcieFunctionSpec],
    memory: DmaSpace,
    peripherals: Peripherals | None = None,
) -> tuple[LogicalBridges, Hypervisor]:
    """The bridges with everything plugged, before firmware, and the hypervisor.  Raise `Misuse` as `SpaprTree` does."""
    tree = SpaprTree(memory, peripherals)
    for spec in specs:
        tree.add_phb(spec)
    for function in functions:
        tree.add(function)
    return LogicalBridges(tree.phbs), Hypervisor(tree.phbs)


def start_bridges(bridges: LogicalBridges) -> None:
    """What firmware does before Linux."""
    for phb in bridges.phbs.values():
        place_functions(phb)
