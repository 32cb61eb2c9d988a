"""SR-IOV: the capability of a physical function, and its virtual functions as the register says that there are any.

The capability is drawn in `pyvfio.abi.pci_regs`.  Virtual function n (from 0) has::

    routing id     that of the physical function + first VF offset + n * VF stride
    BAR i          VF base address i + n * its size, while VF memory space enable is set
    vendor, device ones: its ids are the physical function's vendor and the VF device id

It has no I/O, no interrupt pin and no base addresses of its own, and its configuration space is made by `make`.
Source: PCI Express Base Specification, 6.0, 9.3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pci.bar import Bar
from pyvfio_backends.software.hardware.pci.register import ExtendedCapability, Register
from pyvfio_backends.software.hardware.pcie.function import Decoder, Function
from pyvfio_backends.software.hardware.pcie.request import Space

__all__ = ["Sriov", "VfBar", "VirtualFunction", "VirtualFunctions"]

_PAGE_SIZES = 0x553
_DWORD = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class VfBar:
    """A base address of all virtual functions: the `size` that each of them gets there, and its low bits."""

    index: int
    size: int
    flags: int


@dataclass(frozen=True)
class Sriov(ExtendedCapability):
    """The capability: how many virtual functions at most, their device id, the way of their routing ids, their BARs."""

    id: ClassVar[int] = regs.PCI_EXT_CAP_ID_SRIOV
    total: int
    device: int
    offset: int = 1
    stride: int = 1
    bars: Sequence[VfBar] = field(default=())

    def registers(self) -> Iterator[Register]:
        """See `Capability.registers`."""
        control = regs.PCI_SRIOV_CTRL_VFE | regs.PCI_SRIOV_CTRL_MSE | regs.PCI_SRIOV_CTRL_ARI
        yield Register(regs.PCI_SRIOV_CAP, 4)
        yield Register(regs.PCI_SRIOV_CTRL, 2, rw=control)
        yield Register(regs.PCI_SRIOV_STATUS, 2)
        yield Register(regs.PCI_SRIOV_INITIAL_VF, 2, self.total)
        yield Register(regs.PCI_SRIOV_TOTAL_VF, 2, self.total)
        yield Register(regs.PCI_SRIOV_NUM_VF, 2, rw=0xFFFF)
        yield Register(regs.PCI_SRIOV_VF_OFFSET, 2, self.offset)
        yield Register(regs.PCI_SRIOV_VF_STRIDE, 2, self.stride)
        yield Register(regs.PCI_SRIOV_VF_DID, 2, self.device)
        yield Register(regs.PCI_SRIOV_SUP_PGSIZE, 4, _PAGE_SIZES)
        yield Register(regs.PCI_SRIOV_SYS_PGSIZE, 4, 1, rw=_PAGE_SIZES)
        for bar in self.bars:
            at = regs.PCI_SRIOV_BAR + 4 * bar.index
            wide = bar.flags & regs.PCI_BASE_ADDRESS_MEM_TYPE_64
            low = -bar.size & regs.PCI_BASE_ADDRESS_MEM_MASK & _DWORD
            yield Register(at, 4, bar.flags, rw=low)
            if wide:
                yield Register(at + 4, 4, rw=-bar.size >> 32 & _DWORD)
        yield Register(regs.PCI_EXT_CAP_SRIOV_SIZEOF - 4, 4)


class VirtualFunction(Function):
    """A virtual function: its decoders come from the physical one."""

    virtual = True
    physical: VirtualFunctions | None = None
    index: int = 0

    def address(self, bar: Bar) -> int:
        """See `Function.address`."""
        if self.physical is None:
            return 0
        return self.physical.bar_address(bar.index) + self.index * bar.size

    def decoders(self) -> list[Decoder]:
        """See `Function.decoders`: while VF memory space enable is set."""
        if self.physical is None or not self.physical.memory or self.power_state:
            return []
        return [
            Decoder(first, first + bar.size - 1, Space.MEMORY, self, bar)
            for bar in self.bars.values()
            if (first := self.address(bar)) >= bar.size
        ]


class VirtualFunctions:
    """The virtual functions of `function`: made by `make` (number) when VF Enable is set, gone when it is cleared.

    `on_change` is told how many there are.  They are on the bus of the physical function, or with a routing id beyond
    it on one that only they are on: the function's bridge must have that number too.
    """

    def __init__(
        self, function: Function, declared: Sriov, make: Callable[[int], VirtualFunction], at: int | None = None
    ) -> None:
        self.function = function
        self.declared = declared
        self.make = make
        self.on_change: Callable[[int], None] | None = None
        self.active: list[VirtualFunction] = []
        self.offset = function.add(declared, at)
        function.config.watch(self.offset + regs.PCI_SRIOV_CTRL, 2, self._control_written)
        function.config.watch(self.offset + regs.PCI_SRIOV_BAR, 4 * regs.PCI_SRIOV_NUM_BARS, self._bars_written)
        function.on_reset.append(self._settle)
        function.on_unplug.append(lambda: self._make(0))

    def _read(self, field_: int, width: int = 2) -> int:
        return self.function.config.read(self.offset + field_, width)

    @property
    def number(self) -> int:
        """How many the registers ask for now."""
        enabled = self._read(regs.PCI_SRIOV_CTRL) & regs.PCI_SRIOV_CTRL_VFE
        return min(self._read(regs.PCI_SRIOV_NUM_VF), self.declared.total) if enabled else 0

    @property
    def memory(self) -> bool:
        """Whether their memory space is enabled."""
        return bool(self._read(regs.PCI_SRIOV_CTRL) & regs.PCI_SRIOV_CTRL_MSE)

    def bar_address(self, index: int) -> int:
        """Where VF base address `index` points: the first virtual function's."""
        bar = next(one for one in self.declared.bars if one.index == index)
        width = 8 if bar.flags & regs.PCI_BASE_ADDRESS_MEM_TYPE_64 else 4
        return self._read(regs.PCI_SRIOV_BAR + 4 * index, width) & -bar.size

    def _control_written(self, before: int, ones: int) -> None:
        self._settle()

    def _bars_written(self, before: int, ones: int) -> None:
        for one in self.active:
            if one.bus is not None:
                one.bus.forget()

    def _settle(self) -> None:
        wanted = self.number
        bus = self.function.bus
        if bus is None or wanted == len(self.active):
            self._bars_written(0, 0)
        else:
            self._make(wanted)

    def _make(self, wanted: int) -> None:
        """Have as many as wanted, all of them new."""
        bus = self.function.bus
        if bus is None or wanted == len(self.active):
            return
        for one in self.active:
            bus.remove(one)
        self.active = []
        for index in range(wanted):
            virtual = self.make(index)
            virtual.physical, virtual.index = self, index
            bus.insert(virtual, self.function.devfn + self.declared.offset + index * self.declared.stride)
            self.active.append(virtual)
        if self.on_change is not None:
            self.on_change(wanted)
