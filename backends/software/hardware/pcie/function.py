"""A PCI or PCI Express function: its configuration space, what lies behind its base addresses, and its requests.

::

    config requests --> [config] ---- changed ----> decoders, power state, interrupts
    memory, I/O ------> [receive] --> bar ---------> registers of the device
    the device -------> [dma_*, signal] -----------> bus --> ports --> root complex

A device uses `dma_read`, `dma_write`, `dma_copy` and `signal`, which a zPCI function has too.  While it is not in D0
nothing works but configuration space, and while it is no bus master it sends no requests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pyvfio.abi import pci_extended_regs as extended_regs
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.hardware.pci.bar import Bar, Registers
from pyvfio_backends.software.hardware.pci.config import ConfigSpace
from pyvfio_backends.software.hardware.pci.msix import MsixTable
from pyvfio_backends.software.hardware.pci.register import Capability
from pyvfio_backends.software.hardware.pcie import access
from pyvfio_backends.software.hardware.pcie.access import Control
from pyvfio_backends.software.hardware.pcie.aer import Aer
from pyvfio_backends.software.hardware.pcie.capabilities import Msi, Msix
from pyvfio_backends.software.hardware.pcie.express import Express
from pyvfio_backends.software.hardware.pcie.msi import MsiSender
from pyvfio_backends.software.hardware.pcie.pin import InterruptPin
from pyvfio_backends.software.hardware.pcie.power_events import raise_event, watch_events
from pyvfio_backends.software.hardware.pcie.reporting import ErrorMessage, Reporter
from pyvfio_backends.software.hardware.pcie.request import Completion, Outcome, Request, Space, rid_of
from pyvfio_backends.software.hardware.pcie.resets import watch_resets

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.pcie.bus import Bus

_DECODING = regs.PCI_COMMAND_IO | regs.PCI_COMMAND_MEMORY

__all__ = ["ROM", "Decoder", "Function"]

ROM = 6
"""The index of the expansion ROM among the base addresses."""


class Decoder(NamedTuple):
    """A range of addresses that a function answers: with a base address register, or a bridge by a window (None)."""

    first: int
    last: int
    space: Space
    target: Function
    bar: Bar | None


class Function:
    """A function of `config` and `bars`, on no bus yet (`Bus.plug`).

    `rom` lies behind the expansion ROM register, with `rom_size` bytes.  `hung` functions answer nothing at all but
    stay on the bus: what is asked of them ends in a completion timeout.  `on_reset` are called after a
    reset, `on_unplug` before it leaves its bus, `on_power` when its power state has changed.
    """

    virtual = False
    """Whether it is a virtual function (SR-IOV)."""

    def __init__(
        self,
        config: ConfigSpace,
        bars: Sequence[Bar] = (),
        *,
        rom: Registers | None = None,
        rom_size: int = 0,
        name: str = "",
    ) -> None:
        self.config = config
        self.bars = {bar.index: bar for bar in bars}
        self.name = name
        self.bus: Bus | None = None
        self.devfn = 0
        self.hung = False
        self.msix: MsixTable | None = None
        self.msi: MsiSender | None = None
        self._decoding: int | None = None
        self.fixed: dict[int, Bar] = {}
        """What it answers at addresses that no register has, by the first one."""
        self.on_reset: list[Callable[[], None]] = []
        self.on_unplug: list[Callable[[], None]] = []
        self.on_power: list[Callable[[], None]] = []
        self._found: dict[tuple[bool, int], int] | None = None
        self._control: Control | None = None
        self.pin = InterruptPin(self)
        for bar in bars:
            config.set_bar(bar.index, bar.size, bar.flags)
        if rom_size:
            config.set_rom(rom_size)
            if rom is not None:
                self.bars[ROM] = Bar(ROM, rom_size, regs.PCI_BASE_ADDRESS_SPACE_MEMORY, rom)
        self.errors = Reporter(self)
        self._others = config.changed
        config.changed = self._changed

    def __repr__(self) -> str:
        where = f"{self.rid:#06x}" if self.bus else "unplugged"
        return f"<{type(self).__name__} {self.name or 'of'} {self.config.read(0, 4):#010x} {where}>"

    # who it is

    @property
    def rid(self) -> int:
        """Its routing id: the number of the bus that it is on now, device and function.  0 on no bus."""
        return rid_of(self.bus.number, self.devfn) if self.bus is not None else 0

    def add(self, capability: Capability, at: int | None = None) -> int:
        """Add a capability (see `ConfigSpace.add`); its offset."""
        self._found = self._control = None
        offset = self.config.add(capability, at)
        self.added(capability, offset)
        return offset

    def added(self, capability: Capability, offset: int) -> None:
        """Make a capability that was added at an offset do something."""
        watch_resets(self, capability, offset)
        watch_events(self, capability, offset)
        if isinstance(capability, Express):
            self.config.extend()  # whether or not it has an extended capability
            self.errors.serr_reports = capability.serr_reports
        elif isinstance(capability, Aer):
            self.errors.logs_prefixes = capability.prefix_log
            self.errors.overwrites = capability.overwrites
            self.errors.watch(offset)

    def add_msi(self, declared: Msi, at: int | None = None) -> int:
        """Add MSI, and send by it."""
        offset = self.add(declared, at)
        self.msi = MsiSender(self, declared, offset)
        return offset

    def add_msix(self, declared: Msix, at: int | None = None) -> MsixTable:
        """Add MSI-X, and send by it; the table is to be put behind the BAR that the capability names."""
        offset = self.add(declared, at)
        apart = declared.pending_offset - declared.table_offset
        table = MsixTable(self.config, offset, declared.table_bar, declared.vectors, apart, declare=False)
        self.use_msix(table)
        return table

    def use_msix(self, table: MsixTable) -> None:
        """Send by the table of a device that declared MSI-X itself."""
        self.msix = table
        table.send = self.send_message

    def offset(self, number: int, *, extended: bool = False) -> int | None:
        """Where the first capability with this id is."""
        if self._found is None:
            self._found = access.capabilities(self.config)
        return self._found.get((extended, number))

    @property
    def express_type(self) -> ExpressType | None:
        """What it is to PCI Express; None for conventional PCI."""
        at = self.offset(regs.PCI_CAP_ID_EXP)
        return None if at is None else ExpressType(regs.pci_exp_type(self.config.read(at + regs.PCI_EXP_FLAGS, 2)))

    @property
    def control(self) -> Control:
        """What the registers say that requests depend on."""
        if self._control is None:
            self._control = access.read_control(self)
        return self._control

    @property
    def max_payload(self) -> int:
        """The largest payload that it may send and will take, in bytes."""
        return self.control.payload

    @property
    def power_state(self) -> int:
        """0 to 3: D0, D1, D2, D3hot."""
        return self.control.power

    @property
    def acs(self) -> int:
        """The access control services that are on."""
        return self.control.acs

    def egress_blocks(self, other: Function) -> bool:
        """Whether access control services of a port forbid requests to a port beside it; only a port can."""
        return False

    # what it answers

    def address(self, bar: Bar) -> int:
        """Where a base address register points now; 0 when nobody placed it."""
        return access.bar_address(self.config, bar)

    def decoders(self) -> list[Decoder]:
        """The ranges that it answers now.  A base address of 0 counts as not placed, but where `Bus.has_port_0`."""
        command = self.config.command
        port_0 = self.bus is not None and self.bus.has_port_0
        if self.power_state:
            return []
        found: list[Decoder] = []
        places = [(self.address(bar), bar) for bar in self.bars.values()]
        for first, bar in [*places, *self.fixed.items()]:
            decodes = command & (regs.PCI_COMMAND_IO if bar.is_io else regs.PCI_COMMAND_MEMORY)
            if decodes and (first or (port_0 and bar.is_io)):
                space = Space.IO if bar.is_io else Space.MEMORY
                found.append(Decoder(first, first + bar.size - 1, space, self, bar))
        return found

    def receive(self, request: Request, decoder: Decoder) -> Completion:
        """Answer a request that a decoder of this function claims."""
        refused = self.check(request)
        if refused is not None:
            return refused
        if self.hung:
            return Completion(Outcome.TIMEOUT)
        assert decoder.bar is not None  # a bridge overrides this for its windows
        outcome, data = access.perform(decoder.bar, request, request.address - decoder.first)
        if self.bus is None:  # it was taken away meanwhile: nobody completes the request any more
            return Completion(Outcome.TIMEOUT)
        if outcome in (Outcome.UNSUPPORTED, Outcome.ABORT):
            self.errors.refused(outcome, request)
        return Completion(outcome, data, self.rid)

    def check(self, request: Request) -> Completion | None:
        """What makes the request end here, as its receiver: malformed, bad end-to-end CRC, poisoned.  None: nothing."""
        if request.write and request.payload > self.max_payload and self.express_type is not None:
            self.errors.uncorrectable(extended_regs.PCI_ERR_UNC_MALF_TLP, request)
            return Completion(Outcome.MALFORMED)
        if not request.digest and self.errors.checks_digest:
            self.errors.uncorrectable(extended_regs.PCI_ERR_UNC_ECRC, request)
            return Completion(Outcome.ECRC)
        if request.poisoned:
            self.errors.poisoned(request)
            return Completion(Outcome.POISONED, completer=self.rid)
        return None

    # what it asks

    def send(self, request: Request) -> Completion:
        """Send a request of its own up; `requester` is filled in.

        A function that may not (no bus master, not in D0, unplugged) sends nothing: unsupported request.
        """
        if self.bus is None or not self.control.may_ask:
            return Completion(Outcome.UNSUPPORTED)
        request.requester = self.rid
        completion = self.bus.ascend(request, self)
        if not completion.ok and not request.posted:
            self.errors.answered(completion.outcome, request)
        return completion

    def dma_read(self, iova: int, count: int) -> bytes:
        """Read memory.  Raise `DmaFault` when the answer is no."""
        return access.dma_read(self, iova, count)

    def dma_write(self, iova: int, data: bytes) -> None:
        """Write memory.  Raise `DmaFault` only when the function may not: nobody answers a posted write."""
        access.dma_write(self, iova, data)

    def dma_copy(self, target: int, source: int, count: int) -> None:
        """Copy within memory, through the device.  Raise `DmaFault`."""
        self.dma_write(target, self.dma_read(source, count))

    @property
    def messages_on(self) -> bool:
        """Whether MSI-X or MSI is enabled, so that the interrupt pin is not used."""
        return (self.msix is not None and self.msix.enabled) or (self.msi is not None and bool(self.msi.enabled))

    def signal(self, vector: int) -> None:
        """Send interrupt message `vector`, of MSI-X or MSI, whichever is on; nothing while neither is."""
        if self.msix is not None and self.msix.enabled:
            self.msix.signal(vector)
        elif self.msi is not None:
            self.msi.signal(vector)

    def send_message(self, address: int, data: int) -> None:
        """Write an interrupt message of 32 bits."""
        self.send(Request.store(address, data.to_bytes(4, "little")))

    def report(self, message: ErrorMessage) -> None:
        """Send an error message towards the root port."""
        if self.bus is not None:
            self.bus.report(message)

    @property
    def asleep(self) -> bool:
        """Whether it is not in D0, and can neither send requests nor interrupt."""
        return bool(self.power_state)

    def raise_event(self) -> bool:
        """Ask for attention by a power management event; whether that is possible."""
        return raise_event(self)

    def set_intx(self, asserted: bool) -> None:
        """Assert or release the interrupt pin."""
        self.pin.set(asserted)

    # being written and reset

    def _changed(self, offset: int, length: int) -> None:
        if self._others is not None:
            self._others(offset, length)
        before, self._control = self._control, None
        slept = before is not None and before.power != self.power_state
        if slept or (offset < regs.PCI_STD_HEADER_SIZEOF and not self._decodes_as_before(offset, length)):
            self.moved()
        self._decoding = self.config.command & _DECODING
        if self.pin.asserted and offset <= regs.PCI_COMMAND + 1 < offset + length:
            self.pin.show()
        if self.msix is not None:
            self.msix.control_changed()
        if slept:
            for told in self.on_power:
                told()

    def _decodes_as_before(self, offset: int, length: int) -> bool:
        """Whether a write was one of the command register (and the status register) that changed no decoding."""
        alone = offset >= regs.PCI_COMMAND and offset + length <= regs.PCI_STATUS + 2
        return alone and self._decoding == self.config.command & _DECODING

    def moved(self) -> None:
        """Take note that it may answer other addresses, or none."""
        self._decoding = None
        if self.bus is not None:
            self.bus.forget()

    def reset(self, *, cold: bool = False) -> None:
        """Bring everything back to the start but sticky bits; after a loss of power (`cold`) those too.

        A bridge overrides this and resets what is behind it too.
        """
        self.reset_self(cold=cold)

    def reset_self(self, *, cold: bool = False) -> None:
        """`reset` this function and nothing else."""
        self.set_intx(False)
        self.config.reset(cold=cold)
        self._control = None
        if cold:
            self.errors.queue.clear()
        for bar in self.bars.values():
            bar.registers.reset()
        for told in self.on_reset:
            told()
        self.moved()
