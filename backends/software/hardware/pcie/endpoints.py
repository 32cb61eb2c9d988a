"""Endpoints with the configuration space of known devices, declared, as QEMU 10.0 has them.

What is behind their base addresses is given to `EndpointModel.build`; the MSI-X table is put where the capability says.
A base address that nothing was given for is there, has its size, and says "not modelled" when it is accessed.

=============  =========  ======================================================================
`edu`          1234:11e8  a device to learn on: MSI, pin A, 1 MiB of registers
`pci-testdev`  1b36:0005  memory and I/O to test speed with
`e1000e`       8086:10d3  Ethernet 82574L: MSI, MSI-X with 5 vectors, AER, serial number
`igb`          8086:10c9  Ethernet 82576: MSI-X with 10 vectors, AER, ARI, SR-IOV with 8 functions
`igbvf`        8086:10ca  its virtual functions
`nvme`         1b36:0010  NVM Express: MSI-X with 65 vectors
`ich9-lpc`     8086:2918  the ISA bridge of q35 (its chipset registers are not modelled)
`ich9-ahci`    8086:2922  the SATA controller of q35
`ich9-smbus`   8086:2930  the SMBus controller of q35
=============  =========  ======================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pyvfio.abi import pci_express_regs as express_regs
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import ExpressType
from pyvfio.errors import Misuse, NotModelled
from pyvfio.process import SharedMemory
from pyvfio_backends.software.hardware.pci.bar import Bar, Registers
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.pci.register import Capability
from pyvfio_backends.software.hardware.pcie.aer import Aer
from pyvfio_backends.software.hardware.pcie.block import Block
from pyvfio_backends.software.hardware.pcie.capabilities import Msi, Msix, PowerManagement
from pyvfio_backends.software.hardware.pcie.express import REPORTING, Express
from pyvfio_backends.software.hardware.pcie.extended import Ari, SerialNumber
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.option_rom import OptionRom
from pyvfio_backends.software.hardware.pcie.sriov import Sriov, VfBar, VirtualFunction, VirtualFunctions

__all__ = ["ENDPOINTS", "IGB_SRIOV", "EndpointModel", "add_igb_functions", "integrated"]

_INTEL, _QEMU, _EDU, _SUBSYSTEM = 0x8086, 0x1B36, 0x1234, (0x1AF4, 0x1100)
_MEMORY32, _MEMORY64 = regs.PCI_BASE_ADDRESS_SPACE_MEMORY, regs.PCI_BASE_ADDRESS_MEM_TYPE_64
_PREFETCH64 = _MEMORY64 | regs.PCI_BASE_ADDRESS_MEM_PREFETCH
_SERIAL = 0x525400FFFF123456
_UNIT_BITS, _ROM_UNITS = 9, 0xD5
"""As long as the images of QEMU's network cards."""
_IO = regs.PCI_BASE_ADDRESS_SPACE_IO
_PREFIXES = express_regs.PCI_EXP_DEVCAP2_EE_PREFIX | 0x100000


class _Unmodelled:
    """Registers that nobody wrote a model of."""

    def __init__(self, what: str) -> None:
        self.what = what

    def read(self, offset: int, length: int) -> int:
        """See `Registers.read`."""
        raise NotModelled(f"registers of {self.what}, offset {offset:#x}")

    def takes(self, offset: int, length: int) -> bool:
        """See `Registers.takes`."""
        return True

    def write(self, offset: int, length: int, value: int) -> None:
        """See `Registers.write`."""
        self.read(offset, length)

    def reset(self) -> None:
        """See `Registers.reset`."""


class _Reserved:
    """What is behind the last register: zeros."""

    def read(self, offset: int, length: int) -> int:
        """See `Registers.read`."""
        return 0

    def takes(self, offset: int, length: int) -> bool:
        """See `Registers.takes`."""
        return True

    def write(self, offset: int, length: int, value: int) -> None:
        """See `Registers.write`: nothing happens."""

    def reset(self) -> None:
        """See `Registers.reset`."""


@dataclass(frozen=True)
class EndpointModel:
    """A kind of endpoint: who it is, its base addresses (index, size, flags) and capabilities (offset, declaration).

    The first capability is the last of the chain, as `ConfigSpace.add` has it.  `keeps_rest`: it keeps what is written
    to bytes that belong to no capability, as all of QEMU's functions do.
    """

    name: str
    identity: Identity
    bars: tuple[tuple[int, int, int], ...] = ()
    capabilities: tuple[tuple[int, Capability], ...] = ()
    pin: int = 1
    rom_size: int = 0
    virtual: bool = False
    keeps_rest: bool = False

    def build(
        self, registers: Mapping[int, Registers] | None = None, *, rom: Registers | None = None, name: str = ""
    ) -> Function:
        """A function of this kind; `registers` by the index of the base address that they are behind."""
        blocks: dict[int, Block] = {}
        bars: list[Bar] = []
        for index, size, flags in self.bars:
            blocks[index] = Block(size)
            given = (registers or {}).get(index) or _Unmodelled(f"{self.name}, BAR {index}")
            blocks[index].place(0, given)
            memory = getattr(given, "memory", None)  # a BAR of plain memory, which can be mapped
            bars.append(Bar(index, size, flags, blocks[index], memory if isinstance(memory, SharedMemory) else None))
        config = ConfigSpace(self.identity, interrupt_pin=self.pin)
        if self.virtual:
            function: Function = VirtualFunction(config, name=name)
            function.bars = {bar.index: bar for bar in bars}  # no base address registers of its own
        else:
            if self.rom_size and rom is None:
                rom = OptionRom(self.identity, self.rom_size, min(_ROM_UNITS, self.rom_size >> _UNIT_BITS))
            function = Function(config, bars, rom=rom, rom_size=self.rom_size, name=name)
        for at, declared in self.capabilities:
            if isinstance(declared, Msi):
                function.add_msi(declared, at)
            elif isinstance(declared, Msix):
                table = function.add_msix(declared, at)
                blocks[declared.table_bar].place(declared.table_offset, table)
                end = declared.pending_offset + -(-declared.vectors // 64) * 8
                bar_index = declared.table_bar
                if end < blocks[bar_index].size:
                    known = bar_index in (registers or {})
                    rest = _Reserved() if known else _Unmodelled(f"{self.name}, BAR {bar_index}")
                    blocks[bar_index].place(end, rest)
            else:
                function.add(declared, at)
        if self.keeps_rest:
            config.keep_rest()
        return function


def integrated(model: EndpointModel) -> EndpointModel:
    """The same as part of the root complex: without a link, and with advanced error reporting.

    Raise `Misuse` for one of conventional PCI.
    """
    if not any(isinstance(one, Express) for _, one in model.capabilities):
        raise Misuse("integrate an endpoint", model.name, cause="it is a function of conventional PCI")
    there = tuple(
        (at, replace(one, kind=ExpressType.RC_END) if isinstance(one, Express) else one)
        for at, one in model.capabilities
    )
    reports = any(isinstance(one, Aer) for _, one in there)
    return replace(model, capabilities=there if reports else (*there, (regs.PCI_CFG_SPACE_SIZE, Aer())))


def _express(*, version: int = 2, flr: bool = False, control: int = 0) -> Express:
    second = _PREFIXES if version > 1 else 0
    return Express(
        ExpressType.ENDPOINT,
        version,
        flr=flr,
        control=control,
        control_reset=0,
        device2=second,
        serr_reports=False,
    )


IGB_SRIOV = Sriov(8, 0x10CA, 128, 2, (VfBar(0, 0x4000, _PREFETCH64), VfBar(3, 0x4000, _PREFETCH64)))
"""The SR-IOV capability of `igb`, for `add_igb_functions`."""

_MODELS = (
    EndpointModel(
        "edu",
        Identity(_EDU, 0x11E8, *_SUBSYSTEM, class_code=0x00FF00, revision=0x10),
        ((0, 0x100000, _MEMORY32),),
        ((0x40, Msi(1)),),
    ),
    EndpointModel(
        "pci-testdev",
        Identity(_QEMU, 0x0005, *_SUBSYSTEM, class_code=0x00FF00),
        ((0, 0x1000, _MEMORY32), (1, 0x100, _IO)),
        pin=0,
    ),
    EndpointModel(
        "e1000e",
        Identity(_INTEL, 0x10D3, _INTEL, 0, class_code=0x020000),
        ((0, 0x20000, _MEMORY32), (1, 0x20000, _MEMORY32), (2, 0x20, _IO), (3, 0x4000, _MEMORY32)),
        (
            (0xA0, Msix(5, 3, 0, pending_offset=0x2000)),
            (0xE0, _express(version=1)),
            (0xD0, Msi(1)),
            (0xC8, PowerManagement(2, no_soft_reset=False, device_specific=True, data_select=True)),
            (0x100, Aer(prefix_log=False)),
            (0x140, SerialNumber(_SERIAL)),
        ),
        rom_size=0x40000,
        keeps_rest=True,
    ),
    EndpointModel(
        "igb",
        Identity(_INTEL, 0x10C9, *_SUBSYSTEM, class_code=0x020000, revision=1),
        ((0, 0x20000, _MEMORY32), (1, 0x20000, _MEMORY32), (2, 0x20, _IO), (3, 0x4000, _MEMORY64)),
        (
            (0xA0, _express(flr=True)),
            (0x70, Msix(10, 3, 0, pending_offset=0x2000)),
            (0x50, Msi(1, maskable=True)),
            (0x40, PowerManagement(2, no_soft_reset=False, device_specific=True, data_select=True)),
            (0x100, Aer(edition=1)),
            (0x150, Ari()),
        ),
        keeps_rest=True,
    ),
    EndpointModel(
        "igbvf",
        Identity(0xFFFF, 0xFFFF, *_SUBSYSTEM, class_code=0x020000, revision=1),
        ((0, 0x4000, _PREFETCH64), (3, 0x4000, _PREFETCH64)),
        (
            (0x70, Msix(3, 3, 0, pending_offset=0x2000)),
            (0xA0, _express(flr=True)),
            (0x100, Aer(edition=1)),
            (0x150, Ari()),
        ),
        pin=0,
        virtual=True,
    ),
    EndpointModel(
        "nvme",
        Identity(_QEMU, 0x0010, *_SUBSYSTEM, class_code=0x010802, revision=2),
        ((0, 0x4000, _MEMORY64),),
        (
            (0x60, PowerManagement()),
            (0x80, _express(flr=True, control=REPORTING)),
            (0x40, Msix(65, 0, 0x2000, pending_offset=0x3000)),
        ),
    ),
    EndpointModel("ich9-lpc", Identity(_INTEL, 0x2918, *_SUBSYSTEM, class_code=0x060100, revision=2), pin=0),
    EndpointModel(
        "ich9-ahci",
        Identity(_INTEL, 0x2922, *_SUBSYSTEM, class_code=0x010601, revision=2),
        ((4, 0x20, _IO), (5, 0x1000, _MEMORY32)),
        ((0x80, Msi(1)),),
    ),
    EndpointModel(
        "ich9-smbus",
        Identity(_INTEL, 0x2930, *_SUBSYSTEM, class_code=0x0C0500, revision=2),
        ((4, 0x40, _IO),),
    ),
)
ENDPOINTS: dict[str, EndpointModel] = {model.name: model for model in _MODELS}
"""By the names that QEMU has for them, and names like those for parts of its chipset."""


def add_igb_functions(physical: Function) -> VirtualFunctions:
    """Give a function that `igb` built its SR-IOV capability and virtual functions, `igbvf`."""

    def make(number: int) -> VirtualFunction:
        virtual = ENDPOINTS["igbvf"].build(name=f"{physical.name} VF {number}")
        assert isinstance(virtual, VirtualFunction)
        return virtual

    return VirtualFunctions(physical, IGB_SRIOV, make, 0x160)
