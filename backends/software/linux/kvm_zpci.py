"""PCI functions of KVM guests: which guest may use a function by its own instructions, and where it interrupts.

The model is ``arch/s390/kvm/pci.c`` (6.12): registering disables and enables the function, with the guest's
designation, and gives its address space back; the guest's vector and summary bits are pinned while interruptions are
forwarded, by the machine's table (`pyvfio.zpci.forwarding`).  Beside what KVM's request has, the bit offset of the
vector is known here.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pyvfio.process import ProcessMemory
from pyvfio.zpci.fib import Fib
from pyvfio.zpci.forwarding import GUEST_ENTRY_SIZE, GuestEntry, GuestState, GuestSubclasses
from pyvfio.zpci.instructions import FunctionOperation
from pyvfio.zpci.interruptions import StorageBits
from pyvfio.zpci.sic import ForwardingBlock, SicOperation
from pyvfio_backends.software.hardware.zpci.function import ZpciFunction
from pyvfio_backends.software.linux.airq import AirqVector
from pyvfio_backends.software.linux.subsystems import Key
from pyvfio_backends.software.linux.vfs import fail
from pyvfio_backends.software.linux.zpci import to_zpci
from pyvfio_backends.software.linux.zpci_irq import PciInterrupts

if TYPE_CHECKING:
    from pyvfio.passthrough.interpretation import Areas
    from pyvfio.zpci.processor import Processor
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = ["Kvm", "KvmZdev"]

_AIFT: Final[Key[_Aift]] = Key("kvm-zpci")
_NISC: Final = 5  # GAL_ISC: what a machine tells of guests that do not run
_FUNCTIONS: Final = 1 << 12  # ZPCI_NR_DEVICES
_DOUBLEWORD: Final = 8
_WORD_BITS: Final = 64
_ALL: Final = 0xFF


class _Aift:
    """The forwarding tables of the host (``struct zpci_aift``), told to the machine once."""

    def __init__(self, kernel: Kernel, interrupts: PciInterrupts) -> None:
        self._memory = kernel.memory
        self.processor = interrupts.processor
        self.summary = AirqVector(kernel.memory, _FUNCTIONS, allocate=True)
        self._gait = kernel.memory.allocate(_FUNCTIONS * GUEST_ENTRY_SIZE)
        self.users: dict[int, KvmZdev] = {}
        self.guests: dict[int, Kvm] = {}
        interrupts.handlers[_NISC] = self._process
        block = ForwardingBlock(faisb=self.summary.address, gait=self._gait, afi=_NISC, faal=_FUNCTIONS)
        self.processor.sic(SicOperation.SET_FORWARDING, 0, block.to_bytes())
        forwarding = self.processor.interruptions.forwarding
        if forwarding is not None:
            forwarding.on_alert = self._alert
        self.processor.sic(SicOperation.SINGLE, _NISC)

    def put(self, number: int, entry: GuestEntry) -> None:
        """Write an entry of the table."""
        self._memory.write(self._gait + number * GUEST_ENTRY_SIZE, entry.to_bytes())

    def entry(self, number: int) -> GuestEntry:
        """Read one."""
        return GuestEntry.from_bytes(self._memory.read(self._gait + number * GUEST_ENTRY_SIZE, GUEST_ENTRY_SIZE))

    def _alert(self, gisa: int) -> None:
        """The machine has made an interruption pending in a guest that wants to know (``process_gib_alert_list``)."""
        guest = self.guests.get(gisa)
        if guest is not None:
            guest.present()

    def _process(self, isc: int) -> None:
        """The machine tells the host, which forwards (``aen_process_gait``)."""
        irqs_on, at = False, 0
        while True:
            at = self.summary.scan(at)
            if at >= 0:
                self._forward(at)
                continue
            if irqs_on:
                return
            self.processor.sic(SicOperation.SINGLE, _NISC)
            irqs_on, at = True, 0

    def _forward(self, number: int) -> None:
        """``aen_host_forward``."""
        zdev = self.users.get(number)
        if zdev is None:
            return
        entry = self.entry(number)
        if entry.aisb:
            place, mask = entry.aisb + entry.aisbo // 8, 0x80 >> entry.aisbo % 8
            self._memory.update_byte(place, _ALL, mask)
        zdev.kvm.aen_forward += 1
        zdev.kvm.state.request(entry.gisc)
        zdev.kvm.present()


def _aift(kernel: Kernel, interrupts: PciInterrupts) -> _Aift:
    return kernel.subsystems.get_or_make(_AIFT, lambda: _Aift(kernel, interrupts))


class Kvm:
    """A guest (``struct kvm``) with storage in `areas`; `interrupt` is called with the subclass of each interruption.

    `gisa` is the address of its interruption `state`, and `aen_forward` its statistic.  Which interruptions the guest
    has suppressed is kept by who runs it.
    """

    def __init__(self, kernel: Kernel, areas: Areas, interrupt: Callable[[int], None]) -> None:
        self.kernel = kernel
        self.aen_forward = 0
        self.gisa = kernel.memory.allocate(GuestState.SIZE)
        self.state = GuestSubclasses(StorageBits(kernel.memory), self.gisa)
        self.state.watch(_ALL)
        self._areas = areas
        self._interrupt = interrupt

    def pin(self, address: int) -> int:
        """The absolute address of a guest address.  Raise OSError EIO."""
        for area in self._areas():
            if area.start <= address < area.start + area.length:
                virtual = area.address + address - area.start
                return self.kernel.memory.pinned_address(ProcessMemory(), virtual)
        raise fail(errno.EIO)

    def present(self) -> None:
        """Have the guest take what is pending, until nothing is, and ask to be alerted again."""
        while pending := self.state.watch(_ALL):
            for isc in range(8):
                if pending & 0x80 >> isc and self.state.take(isc):
                    self._interrupt(isc)


class KvmZdev:
    """A function of a guest (``struct kvm_zdev``).  Raise OSError EINVAL when it has one, EIO when it is not there."""

    def __init__(self, kvm: Kvm, device: PciDevice) -> None:
        if to_zpci(device).kzdev is not None:
            raise fail(errno.EINVAL)
        self.kvm = kvm
        self.device = device
        self._number: int | None = None
        self._cycle()
        to_zpci(device).kzdev = self

    def _cycle(self) -> None:
        """Disable and enable the function, which changes whose guest it is."""
        saved = self.device.save_state()
        to_zpci(self.device).reset_slot()
        self.device.restore_state(saved)

    @property
    def function(self) -> ZpciFunction:
        """The hardware."""
        return to_zpci(self.device).function

    def unregister(self) -> None:
        """The guest may not use it any more (``kvm_s390_pci_unregister_kvm``)."""
        to_zpci(self.device).kzdev = None
        self.disable_forwarding()
        if self.function.configured:
            self._cycle()

    @property
    def _interrupts(self) -> PciInterrupts:
        return to_zpci(self.device).host.interrupts

    @property
    def _processor(self) -> Processor:
        return self._interrupts.processor

    def enable_forwarding(self, fib: Fib, *, assist: bool) -> None:
        """``kvm_s390_pci_aif_enable``.  Raise OSError EINVAL or EIO."""
        kvm, page = self.kvm, self.kvm.kernel.page_size
        if self._number is not None:
            raise fail(errno.EINVAL)
        vectors = min(fib.noi, self.function.group.max_interrupts)
        size = -(-(vectors + fib.aibvo) // _WORD_BITS) * _DOUBLEWORD
        if fib.aibv % page + size > page:
            raise fail(errno.EINVAL)
        aibv, aisb = kvm.pin(fib.aibv), 0
        if fib.sum:
            if fib.aisb % _DOUBLEWORD:
                raise fail(errno.EINVAL)
            aisb = kvm.pin(fib.aisb)
        aift = _aift(kvm.kernel, self._interrupts)
        number = aift.summary.allocate()
        if number < 0:
            raise fail(errno.ENOMEM)
        aift.put(number, GuestEntry(kvm.gisa if assist else 0, fib.isc, 1, fib.aisbo if aisb else 0, aisb))
        aift.users[number], aift.guests[kvm.gisa] = self, kvm
        self._number = number
        place, bit = aift.summary.address + number // _WORD_BITS * _DOUBLEWORD, number % _WORD_BITS
        own = Fib(isc=_NISC, noi=vectors, aibv=aibv, aibvo=fib.aibvo, sum=1, aisb=place, aisbo=bit, gd=kvm.gisa)
        if self._processor.mpcifc(self.function.fh, 0, FunctionOperation.REGISTER_INTERRUPTS, own).cc:
            self._release()
            raise fail(errno.EIO)

    def disable_forwarding(self) -> None:
        """``kvm_s390_pci_aif_disable``; a function that is gone, or was reset, is no error."""
        if self._number is not None:
            self._processor.mpcifc(self.function.fh, 0, FunctionOperation.DEREGISTER_INTERRUPTS, Fib())
            self._release()

    def _release(self) -> None:
        number, self._number = self._number, None
        if number is not None:
            aift = _aift(self.kvm.kernel, self._interrupts)
            aift.put(number, GuestEntry())
            del aift.users[number]
            aift.summary.free(number)
