"""PCI functions of KVM guests: which guest may use a function by its own instructions, and where it interrupts.

The model is ``arch/s390/kvm/pci.c`` (6.12): registering disables and enables the function, with the guest's
designation, and gives its address space back; the guest's vector and summary bits are pinned while interruptions are
forwarded.
Beside what KVM's request has, the bit offset of the vector is known here.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pyvfio.process import ProcessMemory
from pyvfio_backends.software.hardware.zpci.forwarding import AdapterForwarding, ForwardedVector, ForwardingEntry, Gisa
from pyvfio_backends.software.hardware.zpci.function import ZpciFunction
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio.passthrough.interpretation import Areas
    from pyvfio.zpci.fib import Fib
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = ["Kvm", "KvmZdev"]

_SUBSYSTEM: Final = "kvm-zpci"
_DOUBLEWORD: Final = 8
_WORD_BITS: Final = 64


class _Aift:
    """The forwarding tables of the host (``struct zpci_aift``)."""

    def __init__(self, kernel: Kernel) -> None:
        self.forwarding = AdapterForwarding(kernel.memory, self._alert)
        self.users: dict[int, KvmZdev] = {}

    def _alert(self) -> None:
        """The machine tells the host, which forwards (``aen_process_gait``)."""
        forwarding = self.forwarding
        for number in sorted(forwarding.summary):
            forwarding.summary.discard(number)
            zdev = self.users.get(number)
            if zdev is not None:
                zdev.kvm.aen_forward += 1
                forwarding.present(forwarding.entries[number], zdev.kvm.gisa)


def _aift(kernel: Kernel) -> _Aift:
    found = kernel.subsystems.get(_SUBSYSTEM)
    if not isinstance(found, _Aift):
        found = kernel.subsystems[_SUBSYSTEM] = _Aift(kernel)
    return found


class Kvm:
    """A guest (``struct kvm``): storage in `areas`, interruptions by `gisa`.  `aen_forward` is its statistic."""

    def __init__(self, kernel: Kernel, areas: Areas, gisa: Gisa) -> None:
        self.kernel = kernel
        self.gisa = gisa
        self.aen_forward = 0
        self._areas = areas

    def pin(self, address: int) -> int:
        """The absolute address of the page with a guest address.  Raise OSError EIO."""
        for area in self._areas():
            if area.start <= address < area.start + area.length:
                virtual = area.address + address - area.start
                return self.kernel.memory.pinned_address(ProcessMemory(), virtual)
        raise fail(errno.EIO)


class KvmZdev:
    """A function of a guest (``struct kvm_zdev``).  Raise OSError EINVAL when it has one, EIO when it is not there.

    `failed` is called when the function's interruptions cannot be delivered.
    """

    def __init__(self, kvm: Kvm, device: PciDevice) -> None:
        if device.zdev.kzdev is not None:
            raise fail(errno.EINVAL)
        self.kvm = kvm
        self.device = device
        self._number: int | None = None
        self._cycle()
        device.zdev.kzdev = self

    def _cycle(self) -> None:
        """Disable and enable the function, which changes whose guest it is."""
        saved = self.device.save_state()
        self.device.zdev.reset_slot()
        self.device.restore_state(saved)

    @property
    def function(self) -> ZpciFunction:
        """The hardware."""
        return self.device.function

    def unregister(self) -> None:
        """The guest may not use it any more (``kvm_s390_pci_unregister_kvm``)."""
        self.device.zdev.kzdev = None
        self.disable_forwarding()
        if self.function.configured:
            self._cycle()

    def enable_forwarding(self, fib: Fib, *, assist: bool, failed: Callable[[], None]) -> None:
        """``kvm_s390_pci_aif_enable``.  Raise OSError EINVAL or EIO."""
        page = self.kvm.kernel.page_size
        if self._number is not None:
            raise fail(errno.EINVAL)
        vectors = min(fib.noi, self.function.group.max_interrupts)
        size = -(-(vectors + fib.aibvo) // _WORD_BITS) * _DOUBLEWORD
        if fib.aibv % page + size > page:
            raise fail(errno.EINVAL)
        aibv = self.kvm.pin(fib.aibv)
        aisb = None
        if fib.sum:
            if fib.aisb % _DOUBLEWORD:
                raise fail(errno.EINVAL)
            aisb = self.kvm.pin(fib.aisb)
        aift = _aift(self.kvm.kernel)
        entry = ForwardingEntry(self.kvm.gisa if assist else None, fib.isc, aisb, fib.aisbo)
        self._number = aift.forwarding.add(entry)
        aift.users[self._number] = self
        self.function.register_interrupts(
            ForwardedVector(aift.forwarding, self._number, noi=vectors, aibv=aibv, aibvo=fib.aibvo, failed=failed)
        )

    def disable_forwarding(self) -> None:
        """``kvm_s390_pci_aif_disable``."""
        if self._number is None:
            return
        self.function.register_interrupts(None)
        aift = _aift(self.kvm.kernel)
        aift.forwarding.remove(self._number)
        del aift.users[self._number]
        self._number = None
