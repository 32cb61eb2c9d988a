"""Checks of a machine file's PCI Express: what it describes is built, to find out whether it can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvfio.errors import Misuse
from pyvfio_backends.software.description import POWER, PSERIES, MachineSpec
from pyvfio_backends.software.file_report import Report, check_range
from pyvfio_backends.software.image_files import ImageFiles

if TYPE_CHECKING:
    from pyvfio_backends.software.pcie_tree import PcieTree

__all__ = ["check_pcie"]

_MOST_BUSES: Final = 0x100
_MOST_SEGMENTS: Final = 0x10000


def check_pcie(spec: MachineSpec, images: ImageFiles, error: Report) -> None:
    """Build the PCI Express tree, to find out whether it can be.  Raise what `error` makes of it."""
    if spec.architecture in POWER:
        _check_phbs(spec, images, error)
        return
    if spec.pcie_phbs:
        raise error(("pcie", "phb"), f"a machine of architecture {spec.architecture} has none", 0)
    if spec.architecture == "x86_64" and not spec.pcie_buses:
        raise error(("machine", "architecture"), "it has no root bus: x86_64 needs a [[pcie.bus]]")
    if not (spec.pcie_buses or spec.pcie_functions or spec.pcie_iommus or spec.pcie_reserved):
        return
    from pyvfio_backends.software.pcie_iommus import check_iommu, reserved_memory  # most machines have none of this

    for n, iommu in enumerate(spec.pcie_iommus):
        try:
            check_iommu(iommu, spec)
        except Misuse as found:
            raise error(("pcie", "iommu"), found.cause, n, found.next_step) from found
    from pyvfio_backends.software.pcie_tree import PcieTree

    tree = PcieTree()
    for n, bus in enumerate(spec.pcie_buses):
        check_range(error, bus.number, (0, _MOST_BUSES - 1), ("pcie", "bus", "number"), n)
        check_range(error, bus.segment, (0, _MOST_SEGMENTS - 1), ("pcie", "bus", "segment"), n)
        check_range(error, bus.node, (-1, spec.nodes - 1), ("pcie", "bus", "node"), n)
        try:
            tree.add_bus(bus)
        except Misuse as found:
            raise error(("pcie", "bus"), found.cause, n, found.next_step) from found
    _check_functions(spec, tree, images, error)
    for n, region in enumerate(spec.pcie_reserved):
        try:
            reserved_memory(region, spec)
        except Misuse as found:
            raise error(("pcie", "reserved"), found.cause, n, found.next_step) from found


def _check_functions(spec: MachineSpec, tree: PcieTree, images: ImageFiles, error: Report) -> None:
    """Plug the functions of a tree, to find out whether they can be."""
    for n, function in enumerate(spec.pcie_functions):
        images.find(function, ("pcie", "function"), n)
        try:
            tree.add(function)
        except Misuse as found:
            raise error(("pcie", "function"), found.cause, n, found.next_step) from found


def _check_phbs(spec: MachineSpec, images: ImageFiles, error: Report) -> None:
    """Build the host bridges of POWER, to find out whether they can be."""
    for key, rows in (("bus", spec.pcie_buses), ("iommu", spec.pcie_iommus), ("reserved", spec.pcie_reserved)):
        if rows:
            raise error(("pcie", key), f"a machine of architecture {spec.architecture} has none", 0)
    from pyvfio_backends.software.hardware.pcie.remapping import NOTHING
    from pyvfio_backends.software.phb_tree import PhbTree
    from pyvfio_backends.software.spapr_tree import SpaprTree

    tree = SpaprTree(NOTHING) if spec.platform == PSERIES else PhbTree(NOTHING)
    for n, phb in enumerate(spec.pcie_phbs):
        try:
            tree.add_phb(phb)
        except Misuse as found:
            raise error(("pcie", "phb"), found.cause, n, found.next_step) from found
    _check_functions(spec, tree, images, error)
