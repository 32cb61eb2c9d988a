"""PCI functions of IBM Z whose identity, configuration space and BARs are there, but not what their devices do.

They can be found, taken and given back.  Loads and stores of their registers raise `NotModelled`, unless a model gives
them a device (`NVME`: the controller of `devices.nvme`).

Sources: ids from the drivers' tables (``drivers/net/ethernet/mellanox/mlx4/main.c``, ``mlx5/core/main.c``,
``drivers/s390/net/ism_drv.c``, ``drivers/misc/genwqe/card_base.h``), function types from s390-tools
(``libzpci``, `enum zpci_pft`), the size of ISM's BAR 0 and that it has no memory I/O from the kernel's change
888bd8322dfc ("s390/pci: Introduce pdev->non_mappable_bars").

Without a source that could be cited, and compared with no adapter: the BARs and MSI-X tables of ConnectX functions
(which BAR there is follows from what mlx4 and mlx5 map: BAR 0 and BAR 2, and BAR 0; the sizes, the numbers of vectors
and where the tables are were chosen to be like those of such adapters in other machines), the size of ISM's BAR 2 (its
longest command, rounded up to a page) and of genwqe's BAR 0 (room for the registers in
``include/uapi/linux/genwqe/genwqe_card.h``), and the subsystem ids of RoCE Express and ISM, which are 0 here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pyvfio.abi import pci_regs as regs
from pyvfio.errors import NotModelled
from pyvfio_backends.software.hardware.pci.bar import Bar, Parts, Registers
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.pci.msix import MsixTable
from pyvfio_backends.software.hardware.zpci.sriov import make_express

__all__ = [
    "GENWQE",
    "ISM",
    "NVME",
    "ROCE_EXPRESS",
    "ROCE_EXPRESS_2",
    "BarShape",
    "IdentifiedDevice",
    "MsixShape",
    "PciKind",
]

_IBM: Final = 0x1014
_MELLANOX: Final = 0x15B3
_CAPABILITY: Final = 0x40
_MEMORY_64: Final = regs.PCI_BASE_ADDRESS_MEM_TYPE_64
_PREFETCHABLE_64: Final = regs.PCI_BASE_ADDRESS_MEM_TYPE_64 | regs.PCI_BASE_ADDRESS_MEM_PREFETCH
_DWORD: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class BarShape:
    """A base address register: its `index`, the exponent of two of its size (`order`), and its low bits (`flags`)."""

    index: int
    order: int
    flags: int = _PREFETCHABLE_64


@dataclass(frozen=True, slots=True)
class MsixShape:
    """Where the MSI-X table (`offset`) and its pending bits (`pending`) are in BAR `bar`, and the number of vectors."""

    vectors: int
    bar: int
    offset: int
    pending: int


@dataclass(frozen=True, slots=True)
class PciKind:
    """A kind of function.  `what` is said in messages, `fmb_words` the length of its measurement block.

    `pft` is the function type.  `msi` functions have one message-signalled interrupt, `express` ones the capability
    and the 4 KiB of PCI Express; `mio` says that PCI memory I/O instructions reach the BARs, where a machine has them.
    """

    what: str
    identity: Identity
    bars: tuple[BarShape, ...]
    pft: int = 0
    msix: MsixShape | None = None
    msi: bool = False
    express: bool = True
    mio: bool = True
    fmb_words: int = 0


ROCE_EXPRESS: Final = (
    PciKind(
        "RoCE Express functions",
        Identity(_MELLANOX, 0x1003, _MELLANOX, 0, 0x020000),
        (BarShape(0, 20, _MEMORY_64), BarShape(2, 23)),
        0x02,
        MsixShape(128, 0, 0x7C000, 0x7D000),
    ),
    PciKind(
        "RoCE Express functions",
        Identity(_MELLANOX, 0x1004, _MELLANOX, 0, 0x020000),
        (BarShape(2, 23),),
        0x02,
        MsixShape(4, 2, 0x2000, 0x3000),
    ),
)
"""ConnectX-3: the physical function, and the virtual one that a partition has."""

ROCE_EXPRESS_2: Final = (
    PciKind(
        "RoCE Express2 functions",
        Identity(_MELLANOX, 0x1015, _MELLANOX, 0, 0x020000),
        (BarShape(0, 25),),
        0x0A,
        MsixShape(64, 0, 0x2000, 0x3000),
    ),
    PciKind(
        "RoCE Express2 functions",
        Identity(_MELLANOX, 0x1016, _MELLANOX, 0, 0x020000),
        (BarShape(0, 20),),
        0x0A,
        MsixShape(12, 0, 0x2000, 0x3000),
    ),
)
"""ConnectX-4 Lx: physical and virtual."""

ISM: Final = PciKind(
    "internal shared memory (ISM)",
    Identity(_IBM, 0x04ED, 0, 0, 0x000000),
    (BarShape(0, 48), BarShape(2, 12)),
    0x05,
    msi=True,
    express=False,
    mio=False,
)

GENWQE: Final = PciKind(
    "compression cards (GenWQE, zEDC)",
    Identity(_IBM, 0x044B, _IBM, 0x044B, 0x120000),
    (BarShape(0, 27),),
    msi=True,
)


NVME: Final = PciKind(
    "NVMe controllers",
    Identity(0x1B36, 0x0010, 0x1AF4, 0x1100, 0x010802, 2),
    (BarShape(0, 14, regs.PCI_BASE_ADDRESS_MEM_TYPE_64),),
    0x0B,
    MsixShape(65, 0, 0x2000, 0x3000),
)
"""A solid state disk with QEMU's ids, of the function type that IBM Z has for it."""


class _NoBehaviour:
    """The registers of a device that does nothing here (implements `Registers`)."""

    def __init__(self, what: str) -> None:
        self._what = what

    def read(self, offset: int, length: int) -> int:
        raise NotModelled(f"the registers of {self._what}")

    def takes(self, offset: int, length: int) -> bool:
        return True

    def write(self, offset: int, length: int, value: int) -> None:
        raise NotModelled(f"the registers of {self._what}")

    def reset(self) -> None:
        return


class IdentifiedDevice:
    """The `config` space, the `bars` and the `msix` table of a kind; `registers` makes what is behind a BAR."""

    def __init__(self, kind: PciKind, registers: Callable[[BarShape], Registers] | None = None) -> None:
        self.kind = kind
        self.config = ConfigSpace(kind.identity)
        self.msix: MsixTable | None = None
        shape = kind.msix
        if shape is not None:
            self.msix = MsixTable(
                self.config, _CAPABILITY, shape.bar, shape.vectors, shape.pending - shape.offset, base=shape.offset
            )
        if kind.msi:
            _add_msi(self.config)
        if kind.express:
            make_express(self.config)
        self.bars = []
        for bar in kind.bars:
            behind = _NoBehaviour(kind.what) if registers is None else registers(bar)
            if self.msix is not None and shape is not None and bar.index == shape.bar:
                behind = Parts(behind, self.msix, shape.offset, self.msix.size)
            self.bars.append(Bar(bar.index, 1 << bar.order, bar.flags, behind, getattr(behind, "memory", None)))
            self.config.set_bar(bar.index, 1 << bar.order, bar.flags)
        # An LPAR's firmware has placed the BARs, so memory is enabled from the start.
        self.config.data[regs.PCI_COMMAND] |= regs.PCI_COMMAND_MEMORY


def _add_msi(config: ConfigSpace) -> None:
    """Give a function MSI with one message: a 64-bit address, 16 bits of data."""
    length = regs.PCI_MSI_DATA_64 + 2 - regs.PCI_CAP_FLAGS
    config.add_capability(_CAPABILITY, regs.PCI_CAP_ID_MSI, regs.PCI_MSI_FLAGS_64BIT.to_bytes(length, "little"))
    config.allow(_CAPABILITY + regs.PCI_MSI_FLAGS, 2, regs.PCI_MSI_FLAGS_ENABLE | regs.PCI_MSI_FLAGS_QSIZE)
    config.allow(_CAPABILITY + regs.PCI_MSI_ADDRESS_LO, 4, _DWORD & ~3)
    config.allow(_CAPABILITY + regs.PCI_MSI_ADDRESS_HI, 4, _DWORD)
    config.allow(_CAPABILITY + regs.PCI_MSI_DATA_64, 2, 0xFFFF)
