"""Where an injected error strikes: the type, address and mask that the firmware of a host bridge takes.

=====================  =======================================  ===================================================
function               address                                  type
=====================  =======================================  ===================================================
``LD_CFG``, ``ST_CFG``  bus << 52, device and function << 44,    it makes no difference
                       register << 32
``LD_MEM``, ``ST_MEM``  of the processor, as ``resource`` of     32 for base addresses in the bridge's window for 32
                       sysfs has it, not of the bus             bits, 64 for those in its large window
``DMA``                that the device uses                     32 for the first window, 64 for the second
=====================  =======================================  ===================================================

The mask says which bits of the address count.  An address that is not the endpoint's counts as none: then *any* access
of the kind to the endpoint is struck, in the window that the type names.  Source: ``hw/phb3.c`` of skiboot
(phb3_err_inject), which takes what ``VFIO_EEH_PE_INJECT_ERR`` is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pyvfio.abi import pci_regs as regs
from pyvfio.abi.eeh import EehErrorFunction, EehErrorType
from pyvfio.errors import Misuse, NotAvailable

if TYPE_CHECKING:
    from pyvfio.address import PciAddress
    from pyvfio.devices import PciFunction
    from pyvfio.vfio.container import Container
    from pyvfio.vfio.device import Device

__all__ = ["Place", "function_of", "in_config", "in_dma", "in_memory", "needed_type", "parse_place", "strikes"]

_RID_SHIFT, _REGISTER_SHIFT = 44, 32
_RID_MASK, _REGISTER_MASK = 0xFFFF, 0xFFC
_ALL: Final = (1 << 64) - 1
_DWORD: Final = 4
_FIRST_64: Final = 1 << 32
_BAR_FLAGS: Final = 0xF


class Place(NamedTuple):
    """A place as `Pe.inject` takes it: ``pe.inject(EehErrorFunction.LD_MEM_ADDR, **place._asdict())``."""

    type: EehErrorType
    address: int
    mask: int


def strikes(function: EehErrorFunction) -> str:
    """What a function of error injection is about: ``config``, ``memory``, ``io`` or ``dma``."""
    first, second, _ = function.name.split("_")
    return "dma" if first == "DMA" else {"CFG": "config", "MEM": "memory"}.get(second, "io")


def in_config(address: PciAddress, register: int | None = None) -> Place:
    """Configuration space of one function, or four bytes of it at `register`.  Raise `Misuse`."""
    if register is not None and not 0 <= register < regs.PCI_CFG_SPACE_EXP_SIZE:
        raise Misuse("inject an error", str(address), cause=f"configuration space has no register {register:#x}")
    rid = address.bus << 8 | address.device << 3 | address.function
    place = rid << _RID_SHIFT | ((register or 0) & _REGISTER_MASK) << _REGISTER_SHIFT
    mask = _RID_MASK << _RID_SHIFT | (0 if register is None else _REGISTER_MASK << _REGISTER_SHIFT)
    return Place(EehErrorType.BITS_32, place, mask)


def in_memory(function: PciFunction, bar: int, offset: int = 0, length: int = _DWORD) -> Place:
    """`length` bytes (a power of two) at an offset into what is behind a base address.

    Raise `Misuse` for a place outside of it, `NotAvailable` when the function has no such base address.
    """
    found = dict(_resources(function)).get(bar)
    if found is None:
        raise NotAvailable("inject an error", function.name, cause=f"it has no memory behind base address {bar}")
    start, end = found
    if length < 1 or length & length - 1 or offset % length:
        cause = f"{length:#x} bytes at {offset:#x} are no power of two at a multiple of it, so no mask can say which"
        raise Misuse("inject an error", function.name, cause=cause)
    if not 0 <= offset <= end - start - length:
        cause = f"base address {bar} has {end - start:#x} bytes, of which {offset:#x} is none"
        raise Misuse("inject an error", function.name, cause=cause)
    return Place(_window(function, bar, start), start + offset, _ALL & -length)


def in_dma(iova: int, length: int = 1 << 12) -> Place:
    """`length` bytes (a power of two) at an address that the device uses.  Raise `Misuse`."""
    if length < 1 or length & length - 1 or iova % length or not 0 <= iova <= _ALL:
        cause = f"{length:#x} bytes at {iova:#x} are no power of two at a multiple of it, so no mask can say which"
        raise Misuse("inject an error", cause=cause)
    return Place(_wide(iova), iova, _ALL & -length)


def parse_place(function: PciFunction, error: EehErrorFunction, text: str) -> Place:
    """A place in words: ``config:0x44``, ``bar0:0x1000`` or ``dma:0x10000``.  Raise as the others, `Misuse`."""
    what, _, at = text.partition(":")
    try:
        number = int(at, 0)
        bar = int(what[3:]) if what.startswith("bar") else -1
    except ValueError:
        number = bar = -1
    kind = "memory" if bar >= 0 else what
    if number < 0 or kind not in ("config", "memory", "dma"):
        raise Misuse(
            "inject an error", function.name, cause=f"{text!r} is no place as config:0x44, bar0:0x10, dma:0x1000"
        )
    if kind != strikes(error):
        raise Misuse(
            "inject an error", function.name, cause=f"{error.name} is an error of {strikes(error)}, not {kind}"
        )
    if kind == "config":
        return in_config(function.address, number)
    return in_memory(function, bar, number) if kind == "memory" else in_dma(number, number & -number or 1 << 12)


def function_of(device: Device | Container) -> PciFunction | None:
    """The function that a device is; None of a container."""
    from pyvfio.address import PciAddress
    from pyvfio.devices import PciFunction
    from pyvfio.sysfs import Sysfs
    from pyvfio.vfio.container import Container

    if isinstance(device, Container):
        return None
    return PciFunction(Sysfs(device.backend), PciAddress.parse(device.name))


def needed_type(function: PciFunction | None, error: int, address: int) -> EehErrorType:
    """The type that an address needs; of memory it is found by the base addresses of `function`."""
    try:
        kind = strikes(EehErrorFunction(error))
    except ValueError:
        return EehErrorType.BITS_32  # the kernel says which functions there are
    if kind == "memory" and function is not None:
        for bar, (start, end) in _resources(function):
            if start <= address < end:
                return _window(function, bar, start)
    return EehErrorType.BITS_32 if kind == "config" else _wide(address)


def _wide(address: int) -> EehErrorType:
    return EehErrorType.BITS_64 if address >= _FIRST_64 else EehErrorType.BITS_32


def _resources(function: PciFunction) -> list[tuple[int, tuple[int, int]]]:
    """Number, first address and end of each base address of memory, by the processor's addresses."""
    found: list[tuple[int, tuple[int, int]]] = []
    for bar, line in enumerate((function.attribute("resource") or "").splitlines()[: regs.PCI_STD_NUM_BARS]):
        first, last, flags = (int(word, 16) for word in line.split())
        if first and flags & _MEMORY:
            found.append((bar, (first, last + 1)))
    return found


_MEMORY: Final = 0x200
"""``IORESOURCE_MEM``."""


def _window(function: PciFunction, bar: int, start: int) -> EehErrorType:
    """Which window a base address is in: addresses of the large one are the same on the bus."""
    at = regs.PCI_BASE_ADDRESS_0 + 4 * bar
    header = function.sysfs.read_bytes(f"{function.path}/config")[: regs.PCI_STD_HEADER_SIZEOF]
    low = int.from_bytes(header[at : at + 4], "little")
    wide = low & regs.PCI_BASE_ADDRESS_MEM_TYPE_MASK == regs.PCI_BASE_ADDRESS_MEM_TYPE_64
    on_bus = int.from_bytes(header[at : at + (8 if wide else 4)], "little") & ~_BAR_FLAGS
    # those of virtual functions are nowhere in their header; POWER puts them in the large window only
    return EehErrorType.BITS_64 if not on_bus or on_bus == start else EehErrorType.BITS_32
