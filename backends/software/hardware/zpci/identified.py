"""The models of functions that have an identity and BARs, but little or no behaviour (`devices.pci_kinds`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.devices.ivshmem import IvshmemRegisters, SharedBar, ivshmem
from pyvfio_backends.software.hardware.devices.pci_kinds import (
    GENWQE,
    ISM,
    NVME,
    ROCE_EXPRESS,
    ROCE_EXPRESS_2,
    BarShape,
    IdentifiedDevice,
    PciKind,
)
from pyvfio_backends.software.hardware.zpci.facts import function_facts
from pyvfio_backends.software.hardware.zpci.function import ZpciFunction

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.devices.nvme.controller import NvmeController
    from pyvfio_backends.software.hardware.pci.bar import Registers
    from pyvfio_backends.software.hardware.zpci.models import FunctionDescription, Place

__all__ = ["identified"]

_SHARED_SIZE, _SHARED_LEAST, _SHARED_MOST = 1 << 20, 1 << 12, 1 << 62
_KINDS: Final[dict[str, tuple[PciKind, PciKind]]] = {
    "genwqe": (GENWQE, GENWQE),
    "ism": (ISM, ISM),
    "nvme": (NVME, NVME),
    "roce-express": ROCE_EXPRESS,
    "roce-express2": ROCE_EXPRESS_2,
}
"""By model: the physical function, and the virtual one."""


def identified(spec: FunctionDescription, place: Place) -> ZpciFunction:
    """The function of a description.  Raise `Misuse` for a size that no memory has."""
    kind = _shared(spec) if spec.model == "ivshmem" else _KINDS[spec.model][bool(spec.vfn)]
    controller = _controller(spec) if spec.model == "nvme" else None
    device = IdentifiedDevice(kind, _registers(spec.model, controller))
    facts = function_facts(spec, place, device.bars, pft=kind.pft, mio=kind.mio, fmb_words=kind.fmb_words)
    function = ZpciFunction(
        facts, place.group(spec.pfgid), device.config, device.bars, msix=device.msix, number=place.number
    )
    if controller is not None:
        controller.attach(function)
    return function


def _controller(spec: FunctionDescription) -> NvmeController:
    """An NVMe controller with a namespace of memory."""
    from pyvfio_backends.software.hardware.devices.nvme.options import build_controller, build_namespace, build_storage

    name = f"{spec.fid:08x}"
    return build_controller(
        name, [build_namespace(name, build_storage(name, spec.options), spec.options)], spec.options
    )


def _shared(spec: FunctionDescription) -> PciKind:
    size = spec.options.get("size", _SHARED_SIZE)
    if not _SHARED_LEAST <= size <= _SHARED_MOST or size & size - 1:
        cause = f"size is a power of two from {_SHARED_LEAST} to {_SHARED_MOST} bytes, not {size}"
        raise Misuse("build PCI function", spec.model, cause=cause)
    return ivshmem(size.bit_length() - 1)


def _registers(model: str, controller: NvmeController | None) -> Callable[[BarShape], Registers] | None:
    """What is behind the BARs of a model that has more than an identity."""
    if controller is not None:
        return lambda bar: controller
    if model == "ivshmem":
        return lambda bar: SharedBar(1 << bar.order) if bar.index else IvshmemRegisters()
    return None
