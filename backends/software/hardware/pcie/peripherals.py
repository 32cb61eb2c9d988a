"""Endpoints with their devices behind them: functions to plug that do something.

The identity and the capabilities are those of `endpoints`, but for the software machine's own devices, which are
declared here; the behaviour is in `hardware.devices`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import ExpressType
from pyvfio.nvme import registers as nvme_registers
from pyvfio.pci import copier as copier_registers
from pyvfio.pci import edu as edu_registers
from pyvfio.pci import pairnic, testdev
from pyvfio_backends.software.hardware.devices.copier import Copier
from pyvfio_backends.software.hardware.devices.edu import Edu
from pyvfio_backends.software.hardware.devices.ivshmem import IvshmemRegisters, SharedBar
from pyvfio_backends.software.hardware.devices.nvme.controller import NvmeController
from pyvfio_backends.software.hardware.devices.nvme.storage import Namespace
from pyvfio_backends.software.hardware.devices.pair_nic import PairNic, connect
from pyvfio_backends.software.hardware.devices.pci_testdev import PciTestDevice
from pyvfio_backends.software.hardware.devices.vga import IO_WINDOWS, MEMORY_WINDOW, VgaPorts, VgaRegisters
from pyvfio_backends.software.hardware.pci.bar import Bar, Registers
from pyvfio_backends.software.hardware.pci.config import Identity
from pyvfio_backends.software.hardware.pcie.aer import Aer
from pyvfio_backends.software.hardware.pcie.block import Memory
from pyvfio_backends.software.hardware.pcie.capabilities import Msix, PowerManagement
from pyvfio_backends.software.hardware.pcie.endpoints import ENDPOINTS, EndpointModel, integrated
from pyvfio_backends.software.hardware.pcie.express import Express
from pyvfio_backends.software.hardware.pcie.function import ROM, Function

__all__ = [
    "CopierCard",
    "EduCard",
    "NicCard",
    "NvmeCard",
    "PciTestCard",
    "copier",
    "edu",
    "nic",
    "nic_pair",
    "nvme",
    "pci_testdev",
    "shared_memory",
    "vga",
]


_RAM_BAR = 2
_PREFETCHABLE = regs.PCI_BASE_ADDRESS_MEM_TYPE_64 | regs.PCI_BASE_ADDRESS_MEM_PREFETCH
_IVSHMEM = EndpointModel(
    "ivshmem",
    Identity(0x1AF4, 0x1110, 0x1AF4, 0x1100, class_code=0x050000, revision=1),
    ((0, 0x100, regs.PCI_BASE_ADDRESS_SPACE_MEMORY),),
)
_VGA = EndpointModel(
    "VGA",
    Identity(0x1234, 0x1111, 0x1AF4, 0x1100, class_code=0x030000, revision=2),
    ((2, 0x1000, regs.PCI_BASE_ADDRESS_SPACE_MEMORY),),
    pin=0,
    rom_size=0x10000,
)
_OWN_SUBSYSTEM = (0x1AF4, 0x0001)
_REGISTERS_SIZE, _TABLE_BAR = 0x1000, 1


def _own(name: str, vendor: int, device: int, class_code: int, vectors: int, *, pme: int = 0) -> EndpointModel:
    """A device of the software machine's own: registers behind BAR 0, MSI-X behind BAR 1, no pin."""
    memory = regs.PCI_BASE_ADDRESS_SPACE_MEMORY
    return EndpointModel(
        name,
        Identity(vendor, device, *_OWN_SUBSYSTEM, class_code=class_code, revision=1),
        ((0, _REGISTERS_SIZE, memory), (_TABLE_BAR, _REGISTERS_SIZE, memory)),
        (
            (0x40, Msix(vectors, _TABLE_BAR)),
            (0x50, PowerManagement(pme=pme)),
            (0x60, Express(ExpressType.ENDPOINT, flr=True)),
            (0x100, Aer()),
        ),
        pin=0,
    )


_COPIER = _own(
    "copier",
    copier_registers.VENDOR_ID,
    copier_registers.DEVICE_ID,
    copier_registers.CLASS_CODE,
    copier_registers.VECTORS,
)

_NIC = _own(
    "pair NIC",
    pairnic.VENDOR_ID,
    pairnic.DEVICE_ID,
    pairnic.CLASS_CODE,
    pairnic.VECTORS,
    pme=regs.PCI_PM_CAP_PME_D0 | regs.PCI_PM_CAP_PME_D3hot,
)


class NicCard(NamedTuple):
    """A function to plug, and the device that it is of."""

    function: Function
    device: PairNic


class CopierCard(NamedTuple):
    """A function to plug, and the device that it is of."""

    function: Function
    device: Copier


class EduCard(NamedTuple):
    """A function to plug, and the device that it is of."""

    function: Function
    device: Edu


class PciTestCard(NamedTuple):
    """A function to plug, and the device that it is of."""

    function: Function
    device: PciTestDevice


class NvmeCard(NamedTuple):
    """A function to plug, and the controller that it is of."""

    function: Function
    device: NvmeController


def edu(device: Edu | None = None, *, name: str = "") -> EduCard:
    """`edu`, with a device of its own or the one given."""
    device = device or Edu()
    function = ENDPOINTS["edu"].build({edu_registers.BAR: device}, name=name)
    device.attach(function)
    return EduCard(function, device)


def pci_testdev(*, memory: int = 0, name: str = "") -> PciTestCard:
    """`pci-testdev`, with `memory` bytes behind a BAR of their own (QEMU's ``membar``), a power of two."""
    device = PciTestDevice()
    behind: dict[int, Registers] = {testdev.MEMORY_BAR: device.memory, testdev.IO_BAR: device.io}
    model = ENDPOINTS["pci-testdev"]
    if memory:
        model = replace(model, bars=(*model.bars, (_RAM_BAR, memory, _PREFETCHABLE)))
        behind[_RAM_BAR] = SharedBar(memory)
    return PciTestCard(model.build(behind, name=name), device)


def shared_memory(size: int, *, name: str = "") -> Function:
    """`ivshmem-plain` without anybody at the other side: `size` bytes of memory, a power of two."""
    model = replace(_IVSHMEM, bars=(*_IVSHMEM.bars, (_RAM_BAR, size, _PREFETCHABLE)))
    return model.build({0: IvshmemRegisters(), _RAM_BAR: SharedBar(size)}, name=name)


def nvme(
    namespaces: Sequence[Namespace | None] = (),
    *,
    device: NvmeController | None = None,
    inside: bool = False,
    name: str = "",
) -> NvmeCard:
    """`nvme`, with a controller of its own for `namespaces`, or the one given.

    `inside`: as an endpoint that is integrated in the root complex, with advanced error reporting (QEMU's has none).
    """
    device = device or NvmeController(namespaces)
    model = ENDPOINTS["nvme"]
    function = (integrated(model) if inside else model).build({nvme_registers.BAR: device}, name=name)
    device.attach(function, pin=function)
    return NvmeCard(function, device)


def vga(*, memory: int = 16 << 20, name: str = "") -> Function:
    """`VGA`, a display adapter with `memory` bytes of frame buffer, a power of two, and the old windows."""
    ports = VgaPorts()
    model = replace(_VGA, bars=((0, memory, regs.PCI_BASE_ADDRESS_MEM_PREFETCH), *_VGA.bars))
    function = model.build({0: SharedBar(memory), 2: VgaRegisters(ports, bochs=memory)}, name=name)
    old = Bar(ROM, len(MEMORY_WINDOW), 0, Memory(len(MEMORY_WINDOW)))
    function.fixed = {MEMORY_WINDOW.start: old}
    for place in IO_WINDOWS:
        registers = VgaRegisters(ports, place.start)
        function.fixed[place.start] = Bar(ROM, len(place), regs.PCI_BASE_ADDRESS_SPACE_IO, registers)
    return function


def copier(device: Copier | None = None, *, name: str = "") -> CopierCard:
    """The copier (`pyvfio.pci.copier`), with a device of its own or the one given."""
    device = device or Copier()
    function = _COPIER.build({copier_registers.BAR: device}, name=name)
    device.attach(function)
    return CopierCard(function, device)


def nic(device: PairNic, *, inside: bool = False, name: str = "") -> NicCard:
    """One end of a pair of NICs, for the `device` given; `inside`: integrated in the root complex."""
    function = (integrated(_NIC) if inside else _NIC).build({pairnic.BAR: device}, name=name or device.mac.hex(":"))
    device.attach(function)
    return NicCard(function, device)


def nic_pair(one: bytes, other: bytes) -> tuple[NicCard, NicCard]:
    """Two NICs with these MAC addresses (6 bytes each) and a cable between them (`pyvfio.pci.pairnic`)."""
    first, second = (PairNic(mac) for mac in (one, other))
    connect(first, second)
    return nic(first), nic(second)
