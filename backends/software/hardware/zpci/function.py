"""A zPCI function: who it is, in which state, and what PCI LOAD and PCI STORE find in it.

The state decides what works::

    reserved --> standby --configure--> disabled --enable--> enabled --> error --> (disable)
                    ^--------deconfigure--------|<---------disable---|

A function in error refuses everything until the program resets the error, or takes two steps: it unblocks loads and
stores to look (blocked: no DMA, no interrupts), then resets the error.  Nothing but deconfiguring helps against a
permanent error.

Enabling gives the handle that the instructions need; disabling takes it back and resets the function: configuration
space, the registers behind the BARs, DMA and interrupts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pyvfio.abi import pci_regs as regs
from pyvfio.zpci.function import Counts, FunctionState, OnFault
from pyvfio.zpci.handle import FH_ENABLED, FH_INDEX, FunctionHandle, Sharing
from pyvfio_backends.software.hardware.dma import DmaFault, DmaSpace
from pyvfio_backends.software.hardware.pci.bar import Bar, Unmapped
from pyvfio_backends.software.hardware.pci.config import ConfigSpace
from pyvfio_backends.software.hardware.pci.msix import MsixTable, Send
from pyvfio_backends.software.hardware.zpci.clp import FunctionFacts, GroupFacts, mio_addresses
from pyvfio_backends.software.hardware.zpci.instructions import CONFIG_SPACE, OperandException, Refused, Status
from pyvfio_backends.software.hardware.zpci.sriov import Sriov

if TYPE_CHECKING:  # what most machines never use is imported when it is
    from pyvfio.css.instructions import Storage
    from pyvfio.zpci.clp import FunctionResponse, GroupResponse, HandleEntry
    from pyvfio.zpci.table import Iota
    from pyvfio_backends.software.hardware.zpci.translation import TranslatedSpace

__all__ = ["FunctionState", "ZpciFunction"]

_CONFIG_LENGTHS = (1, 2, 4)
_BAR_LENGTHS = (1, 2, 4, 8)
_DOUBLEWORD = 8


_UNUSABLE = (FunctionState.RESERVED, FunctionState.STANDBY, FunctionState.DISABLED)


@functools.cache  # every instruction asks for it
def _handle(sharing: Sharing, index: int) -> int:
    return FunctionHandle(sharing=sharing, index=index).to_word()


class ZpciFunction:
    """A function with its device.

    `facts` and `group` are what CLP tells, `config` is the configuration space, `bars` what lies behind the BARs and
    `msix` the interrupt table, if it has one.  `number` makes the handle unique among all functions ever plugged,
    `sharing` is in it, too.  `sriov` makes the virtual functions of a physical one.  `mio` has the addresses of the
    BARs for PCI memory I/O instructions, where the function can be reached by them.

    With `most_translations` the machine keeps only so many translations of pages of the function, and only what was
    refreshed.

    Linux gives `dma`, the address space for DMA, and `msix.send`; the device uses `dma_read`, `dma_write`, `dma_copy`
    and `signal`.
    """

    def __init__(
        self,
        facts: FunctionFacts,
        group: GroupFacts,
        config: ConfigSpace,
        bars: Sequence[Bar],
        *,
        msix: MsixTable | None = None,
        rom_size: int = 0,
        number: int = 0,
        sriov: Sriov | None = None,
    ) -> None:
        self.facts = facts
        self.group = group
        self.config = config
        self.bars = {bar.index: bar for bar in bars}
        self.msix = msix
        self.rom_size = rom_size
        self.number = number
        self.sriov = sriov
        self.sharing = Sharing.EMULATED
        self.mio = mio_addresses(number, facts.bar_sizes) if facts.mio_capable else {}
        self.state = FunctionState.DISABLED
        self.dma: DmaSpace | None = None
        self.on_reset: Callable[[], None] | None = None
        self.on_dma_fault: Callable[[DmaFault], None] | None = None
        """Called when an access was refused by the address space that Linux gave (tables report by themselves)."""
        self.most_translations: int | None = None
        self.counts = Counts()
        """Whoever carries out an instruction counts it."""
        config.seal()

    def __repr__(self) -> str:
        return f"<ZpciFunction fid {self.fid:#x} {self.state.value}>"

    @property
    def fid(self) -> int:
        """The function identifier (32 bits)."""
        return self.facts.fid

    @property
    def uid(self) -> int:
        """The user-defined identifier (16 bits)."""
        return self.facts.uid

    @property
    def fh(self) -> int:
        """The function handle now (32 bits)."""
        handle = _handle(self.sharing, self.number & FH_INDEX)
        return handle if self.state in _UNUSABLE else handle | FH_ENABLED

    @property
    def configured(self) -> bool:
        """Whether this partition has the function."""
        return self.state not in (FunctionState.RESERVED, FunctionState.STANDBY)

    # CLP

    def entry(self) -> HandleEntry:
        """What LIST PCI tells of it."""
        from pyvfio.zpci.clp import HandleEntry

        data = self.config.data
        vendor, device = (int.from_bytes(data[place : place + 2], "little") for place in (0, 2))
        return HandleEntry(device, vendor, int(self.configured), self.fid, self.fh)

    def query(self) -> FunctionResponse:
        """What QUERY PCI FUNCTION tells of it."""
        from pyvfio_backends.software.hardware.zpci.answers import query_function

        first = regs.PCI_BASE_ADDRESS_0
        bars = tuple(self.config.read(first + 4 * bar, 4) for bar in range(regs.PCI_STD_NUM_BARS))
        return query_function(self.facts, bars, self.mio)

    def query_group(self) -> GroupResponse:
        """What QUERY PCI FUNCTION GROUP tells of its group."""
        from pyvfio_backends.software.hardware.zpci.answers import query_group

        return query_group(self.group)

    def enable(self) -> int:
        """Enable the function; its new handle.  Raise `Refused`."""
        if not self.configured:
            raise Refused(3)
        if self.state is not FunctionState.DISABLED:
            raise Refused(1, Status.FUNCTION_ALREADY_ENABLED)
        self.state = FunctionState.ENABLED
        return self.fh

    def disable(self) -> int:
        """Disable and reset the function; its new handle.  Raise `Refused`."""
        if not self.configured:
            raise Refused(3)
        if self.state is FunctionState.DISABLED:
            raise Refused(1, Status.ALREADY_IN_REQUESTED_STATE)
        self.state = FunctionState.DISABLED
        self.reset()
        return self.fh

    def reset(self) -> None:
        """Forget everything that was set: DMA, interrupts, registers, configuration space."""
        self.dma = None
        if self.on_reset is not None:
            self.on_reset()
        if self.msix is not None:
            self.msix.send = None
        self.counts.clear()
        self.config.reset()
        for bar in self.bars.values():
            bar.registers.reset()

    def register_interrupts(self, send: Send | None) -> None:
        """Where messages go (MODIFY PCI FUNCTION CONTROLS, register and deregister adapter interrupts)."""
        if self.msix is not None:
            self.msix.send = send
            self.msix.control_changed()

    def make_space(self, storage: Storage, iota: Iota, pba: int, pal: int, on_fault: OnFault) -> TranslatedSpace:
        """Let the function do DMA by the tables of a program (register I/O-address translation)."""
        from pyvfio_backends.software.hardware.zpci.translation import RefreshedSpace, TranslatedSpace

        if self.most_translations is None:
            space = TranslatedSpace(storage, iota, pba, pal, on_fault)
        else:
            space = RefreshedSpace(storage, iota, pba, pal, on_fault, self.most_translations)
        self.dma = space
        return space

    def without_space(self, on_fault: OnFault) -> None:
        """Make an error event of each access, unless Linux has given the function an address space."""
        from pyvfio_backends.software.hardware.zpci.translation import NoSpace, TranslatedSpace

        if self.dma is None or isinstance(self.dma, TranslatedSpace):
            self.dma = NoSpace(on_fault)

    def refresh(self) -> None:
        """REFRESH PCI TRANSLATIONS: nothing is kept of the address spaces that Linux gives, so it is only counted."""
        self.counts.refreshes += 1

    def has_bar(self, number: int) -> bool:
        """Whether there is a base address register of this number."""
        return number in self.bars

    # instructions

    def _admit(self) -> None:
        if self.state in (FunctionState.ENABLED, FunctionState.BLOCKED):
            return
        if self.state in (FunctionState.ERROR, FunctionState.PERMANENT_ERROR):
            raise Refused(1, Status.BLOCKED)
        raise Refused(3)

    @property
    def usable(self) -> bool:
        """Whether the function may do DMA and interrupt now."""
        return self.state is FunctionState.ENABLED

    def load(self, space: int, offset: int, length: int) -> int:
        """PCI LOAD: `length` bytes at `offset` of an address space, as a little-endian number.

        Configuration space takes 1, 2 or 4 bytes within a word, a BAR 1, 2, 4 or 8 within a doubleword.
        Raise `Refused` or `OperandException`.
        """
        self._admit()
        if space == CONFIG_SPACE:
            self._check_config(offset, length)
            value = self.config.read(offset, length)
        else:
            bar = self._bar(space, offset, length)
            try:
                value = bar.read(offset, length)
            except Unmapped:
                raise OperandException(f"nothing at offset {offset:#x} of BAR {space}") from None
        return value

    def store(self, space: int, offset: int, length: int, value: int) -> None:
        """PCI STORE: the converse of `load`, with the same rules."""
        self._admit()
        if space == CONFIG_SPACE:
            self._check_config(offset, length)
            self.config.write(offset, length, value)
            if self.msix is not None:
                self.msix.control_changed()
        else:
            bar = self._bar(space, offset, length)
            try:
                bar.write(offset, length, value)
            except Unmapped:
                raise OperandException(f"nothing at offset {offset:#x} of BAR {space}") from None

    def check_block(self, space: int, offset: int, length: int) -> None:
        """PCI STORE BLOCK, before anything is stored: whether all can be.  Raise `Refused` or `OperandException`."""
        self._admit()
        if not self._bar(space, offset, _DOUBLEWORD).takes(offset, length):
            raise OperandException(f"nothing at some offset of {length} bytes from {offset:#x} of BAR {space}")

    def _check_config(self, offset: int, length: int) -> None:
        if length not in _CONFIG_LENGTHS or offset % 4 + length > 4 or not 0 <= offset < len(self.config.data):
            raise OperandException(f"configuration access of {length} bytes at {offset:#x}")

    def _bar(self, space: int, offset: int, length: int) -> Bar:
        if not 0 <= space < regs.PCI_STD_NUM_BARS:
            raise Refused(1, Status.INVALID_ADDRESS_SPACE)
        if length not in _BAR_LENGTHS or offset % _DOUBLEWORD + length > _DOUBLEWORD:
            raise OperandException(f"access of {length} bytes at {offset:#x}")
        bar = self.bars.get(space)
        if bar is None:
            raise Refused(1, Status.INVALID_ADDRESS_SPACE)
        return bar

    # what the device does

    def signal(self, vector: int) -> None:
        """Raise an MSI-X interrupt."""
        if self.msix is not None and self.usable:
            self.msix.signal(vector)

    def _space(self, iova: int, count: int, *, write: bool) -> DmaSpace:
        if self.dma is None or not self.usable or not self.config.bus_master:
            raise DmaFault(iova, count, write=write)
        return self.dma

    def dma_read(self, iova: int, count: int) -> bytes:
        """Read memory.  Raise `DmaFault`, also while there is no address space or the function is no bus master."""
        space = self._space(iova, count, write=False)
        try:
            return space.read(iova, count)
        except DmaFault as fault:
            self._refused(fault)
            raise

    def dma_write(self, iova: int, data: bytes) -> None:
        """Write memory.  Raise `DmaFault`."""
        space = self._space(iova, len(data), write=True)
        try:
            space.write(iova, data)
        except DmaFault as fault:
            self._refused(fault)
            raise

    def dma_copy(self, target: int, source: int, count: int) -> None:
        """Copy within memory.  Raise `DmaFault`."""
        space = self._space(source, count, write=False)
        try:
            space.copy(target, source, count)
        except DmaFault as fault:
            self._refused(fault)
            raise

    def _refused(self, fault: DmaFault) -> None:
        """An access that is refused puts the function into the error state, and the machine reports it."""
        if self.usable and self.on_dma_fault is not None:
            self.state = FunctionState.ERROR
            self.on_dma_fault(fault)
