"""Configuration space, read as named fields: a picture of the header is in `pyvfio.abi.pci_regs`.

Little-endian on every host.  The same class reads sysfs (`PciFunction.config`) and VFIO (`Device.config`); the two
differ where VFIO virtualises (base addresses, interrupt pin and line, MSI-X enable).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pyvfio.abi import pci_regs as regs
from pyvfio.arguments import require_numbers
from pyvfio.errors import MalformedAnswer, Misuse
from pyvfio.pci.capability_names import CAPABILITIES, EXTENDED_CAPABILITIES

__all__ = ["Bar", "ConfigSpace", "PciCapability"]

_POINTER_MASK = 0xFC


@dataclass(frozen=True, slots=True)
class Bar:
    """A base address register: `address` as it stands there, and what kind of space it is."""

    index: int
    address: int
    io: bool
    is_64bit: bool
    prefetchable: bool

    def __str__(self) -> str:
        kind = "I/O" if self.io else f"memory {64 if self.is_64bit else 32}-bit"
        return f"BAR{self.index} {kind}{' prefetchable' if self.prefetchable else ''} at {self.address:#x}"


@dataclass(frozen=True, slots=True)
class PciCapability:
    """A capability: where it is, its id and name, and its bytes up to the next one (of an extended one the header)."""

    offset: int
    id: int
    name: str
    data: bytes

    def __str__(self) -> str:
        return f"[{self.offset:02x}] {self.name}"


class ConfigSpace:
    """Configuration space through `read` (offset, count) and, if it can be written, `write` (offset, bytes).

    `size` is what can be read.  Nothing is kept; each property reads.  Raise `Misuse` outside of it, and what `read`
    raises.
    """

    def __init__(
        self,
        read: Callable[[int, int], bytes],
        name: str,
        *,
        size: int = regs.PCI_CFG_SPACE_SIZE,
        write: Callable[[int, bytes], None] | None = None,
    ) -> None:
        self._read = read
        self._write = write
        self.name = name
        self.size = size

    def read(self, offset: int, count: int) -> bytes:
        """Read bytes."""
        try:
            outside = offset < 0 or count < 0 or offset + count > self.size
        except TypeError:
            require_numbers("ConfigSpace.read", offset=offset, count=count)
            raise
        if outside:
            cause = f"{count} bytes at {offset:#x} are not inside {self.size:#x}"
            raise Misuse("read configuration space", self.name, cause=cause)
        data = self._read(offset, count)
        if len(data) != count:
            detail = f"{len(data)} of {count} bytes at {offset:#x} came (sysfs shows an ordinary user the first 64)"
            raise MalformedAnswer("read configuration space", self.name, detail)
        return data

    def read_u8(self, offset: int) -> int:
        """Read a byte."""
        return self.read(offset, 1)[0]

    def read_u16(self, offset: int) -> int:
        """Read 16 bits, little-endian."""
        return int.from_bytes(self.read(offset, 2), "little")

    def read_u32(self, offset: int) -> int:
        """Read 32 bits, little-endian."""
        return int.from_bytes(self.read(offset, 4), "little")

    def write_u8(self, offset: int, value: int) -> None:
        """Write a byte.  Raise `Misuse` when this is a read-only view, or for a value that is too large."""
        self.write(offset, self._packed(offset, value, 1))

    def write_u16(self, offset: int, value: int) -> None:
        """Write 16 bits, little-endian."""
        self.write(offset, self._packed(offset, value, 2))

    def write_u32(self, offset: int, value: int) -> None:
        """Write 32 bits, little-endian."""
        self.write(offset, self._packed(offset, value, 4))

    def _packed(self, offset: int, value: int, width: int) -> bytes:
        if not 0 <= value < 1 << 8 * width:
            cause = f"{value:#x} is no number of {8 * width} bits, which the register at {offset:#x} has"
            raise Misuse("write configuration space", self.name, cause=cause)
        return value.to_bytes(width, "little")

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes in one access.  Raise `Misuse` when this is a read-only view."""
        if self._write is None:
            raise Misuse("write configuration space", self.name, cause="it is open for reading only")
        self._write(offset, data)

    @property
    def vendor_id(self) -> int:
        """Vendor (16 bits)."""
        return self.read_u16(regs.PCI_VENDOR_ID)

    @property
    def device_id(self) -> int:
        """Device (16 bits)."""
        return self.read_u16(regs.PCI_DEVICE_ID)

    @property
    def subsystem_vendor(self) -> int:
        """Vendor of the subsystem (16 bits)."""
        return self.read_u16(regs.PCI_SUBSYSTEM_VENDOR_ID)

    @property
    def subsystem_device(self) -> int:
        """Device of the subsystem (16 bits)."""
        return self.read_u16(regs.PCI_SUBSYSTEM_ID)

    @property
    def revision(self) -> int:
        """Revision (8 bits)."""
        return self.read_u8(regs.PCI_REVISION_ID)

    @property
    def class_code(self) -> int:
        """Class, subclass and programming interface (24 bits)."""
        return self.read_u32(regs.PCI_CLASS_REVISION) >> 8

    @property
    def command(self) -> regs.Command:
        """The command register; assign to write it."""
        return regs.Command(self.read_u16(regs.PCI_COMMAND))

    @command.setter
    def command(self, value: int) -> None:
        self.write_u16(regs.PCI_COMMAND, int(value))

    @property
    def status(self) -> regs.Status:
        """The status register (without the two DEVSEL bits)."""
        return regs.Status(self.read_u16(regs.PCI_STATUS) & ~regs.PCI_STATUS_DEVSEL_MASK)

    @property
    def header_type(self) -> int:
        """Header type (7 bits): 0 function, 1 bridge, 2 CardBus bridge."""
        return self.read_u8(regs.PCI_HEADER_TYPE) & regs.PCI_HEADER_TYPE_MASK

    @property
    def multifunction(self) -> bool:
        """The bit beside the header type; only function 0 of a device has to have it right."""
        return bool(self.read_u8(regs.PCI_HEADER_TYPE) & regs.PCI_HEADER_TYPE_MFD)

    def bars(self) -> list[Bar]:
        """The base address registers in use: a 64-bit one takes two, and an empty one is left out.

        An address of 0 counts as in use when its type bits are set (VFIO shows addresses that nobody assigned as 0).
        """
        found: list[Bar] = []
        skip = False
        for index in range(regs.PCI_STD_NUM_BARS):
            if skip:
                skip = False
                continue
            at = regs.PCI_BASE_ADDRESS_0 + 4 * index
            value = self.read_u32(at)
            if not value:
                continue
            io = bool(value & regs.PCI_BASE_ADDRESS_SPACE_IO)
            wide = not io and value & regs.PCI_BASE_ADDRESS_MEM_TYPE_MASK == regs.PCI_BASE_ADDRESS_MEM_TYPE_64
            if wide and index + 1 < regs.PCI_STD_NUM_BARS:
                value |= self.read_u32(at + 4) << 32
                skip = True
            mask = regs.PCI_BASE_ADDRESS_IO_MASK if io else regs.PCI_BASE_ADDRESS_MEM_MASK
            prefetch = not io and bool(value & regs.PCI_BASE_ADDRESS_MEM_PREFETCH)
            found.append(Bar(index, value & mask, io, bool(wide), prefetch))
        return found

    def capabilities(self) -> list[PciCapability]:
        """The capabilities, in the order of the list.  Raise `MalformedAnswer` on a loop or a bad pointer."""
        if not self.status & regs.Status.CAP_LIST:
            return []
        offsets: list[int] = []
        at = self.read_u8(regs.PCI_CAPABILITY_LIST) & _POINTER_MASK
        while at:
            if at in offsets or not regs.PCI_STD_HEADER_SIZEOF <= at <= regs.PCI_CFG_SPACE_SIZE - regs.PCI_CAP_SIZEOF:
                detail = f"the list {[hex(one) for one in offsets]} goes on at {at:#x}"
                raise MalformedAnswer("read capabilities", self.name, detail)
            offsets.append(at)
            at = self.read_u8(at + regs.PCI_CAP_LIST_NEXT) & _POINTER_MASK
        ends = sorted([*offsets, regs.PCI_CFG_SPACE_SIZE])
        return [self._capability(at, ends[ends.index(at) + 1]) for at in offsets]

    def extended_capability(self, number: int) -> int | None:
        """The offset of the first extended capability with this id; None when it has none, or no extended space.

        An extended capability begins with 32 bits: id (16), version (4), offset of the next one (12).  The first one is
        at 0x100; all zeros or all ones there mean that there is none.  Raise `MalformedAnswer` on a loop.
        """
        return next((at for at, header in self._extended() if regs.pci_ext_cap_id(header) == number), None)

    def extended_capabilities(self) -> list[PciCapability]:
        """The extended capabilities, in the order of the list; none where only 256 bytes can be read.

        `PciCapability.data` is the header.  Raise `MalformedAnswer` on a loop.
        """
        found: list[PciCapability] = []
        for at, header in self._extended():
            number = regs.pci_ext_cap_id(header)
            name = EXTENDED_CAPABILITIES.get(number, f"extended capability {number:#06x}")
            found.append(PciCapability(at, number, name, header.to_bytes(4, "little")))
        return found

    def _extended(self) -> Iterator[tuple[int, int]]:
        """Offset and header of each; one whose id is 0 is a place holder that links to the next."""
        seen: set[int] = set()
        at = regs.PCI_CFG_SPACE_SIZE
        while at >= regs.PCI_CFG_SPACE_SIZE:
            if at in seen:
                raise MalformedAnswer("read extended capabilities", self.name, f"the list comes back to {at:#x}")
            seen.add(at)
            data = self._read(at, 4) if at + 4 <= self.size else b""
            header = int.from_bytes(data, "little")
            if len(data) < 4 or header in (0, 0xFFFFFFFF):
                return
            if regs.pci_ext_cap_id(header):
                yield at, header
            at = regs.pci_ext_cap_next(header)

    def capability(self, number: int) -> PciCapability | None:
        """The first capability with this id, None when there is none."""
        return next((one for one in self.capabilities() if one.id == number), None)

    @property
    def msix_vectors(self) -> int:
        """The number of MSI-X vectors, 0 without the capability."""
        found = self.capability(regs.PCI_CAP_ID_MSIX)
        if found is None:
            return 0
        return (self.read_u16(found.offset + regs.PCI_MSIX_FLAGS) & regs.PCI_MSIX_FLAGS_QSIZE) + 1

    def _capability(self, at: int, end: int) -> PciCapability:
        number = self.read_u8(at + regs.PCI_CAP_LIST_ID)
        name = CAPABILITIES.get(number, f"capability {number:#04x}")
        return PciCapability(at, number, name, self.read(at, end - at))
