"""What Linux says of requests that the IOMMU refused (``dmar_fault`` in ``drivers/iommu/intel/dmar.c``, 6.12).

At most ten lines in five seconds, and then how many were left out (``include/linux/ratelimit.h``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvfio_backends.software.hardware.pcie.interrupt_remapping import InterruptFault
from pyvfio_backends.software.hardware.pcie.remapping import FaultReason
from pyvfio_backends.software.linux.kernel_log import ERROR, WARNING, kernel_log
from pyvfio_backends.software.linux.pci_msi import interrupt_numbers

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.pcie.remapping import RemappingFault
    from pyvfio_backends.software.hardware.pcie.upstream import Source
    from pyvfio_backends.software.linux.interrupts import InterruptLine
    from pyvfio_backends.software.linux.kernel import Kernel

__all__ = ["FaultLog"]

_INTERVAL, _BURST = 5.0, 10
_PENDING: Final = 2  # DMA_FSTS_PPF: a fault is recorded
_TEXTS: Final = {
    FaultReason.NO_CONTEXT: "Present bit in context entry is clear",
    FaultReason.NO_WRITE: "PTE Write access is not set",
    FaultReason.NO_READ: "PTE Read access is not set",
    FaultReason.NO_PASID_ENTRY: "SM: Present bit in PASID Table Entry is clear",
    FaultReason.NOT_PRESENT: "SM: Present bit in first-level paging entry is clear",
    FaultReason.RESERVED_BITS: "SM: Non-zero reserved field set in first-level paging entry",
    FaultReason.BEYOND_WIDTH: "SM: First-level entry address beyond MGAW in Nested translation",
    FaultReason.ROOT_NOT_READABLE: "SM: Read permission error in FL-PML4 entry in Nested translation",
    FaultReason.TABLE_NOT_READABLE: "SM: Read permission error in first-level paging entry in Nested translation",
    FaultReason.TABLE_NOT_WRITABLE: "SM: Write permission error in first-level paging entry in Nested translation",
    FaultReason.SECOND_STAGE_ACCESS: "SM: Read/Write permission error in second-level paging entry",
    FaultReason.NOT_CANONICAL: "SM: Address in first-level translation is not canonical",
    FaultReason.NOT_USER: "SM: U/S set 0 for first-level translation with user privilege",
    FaultReason.SCALABLE_NO_WRITE: "SM: No write permission for Write/AtomicOp request",
}


_MESSAGE_TEXTS: Final = {
    InterruptFault.BEYOND_TABLE: "Interrupt index exceeded the interrupt-remapping table size",
    InterruptFault.NOT_PRESENT: "Present field in the IRTE entry is clear",
    InterruptFault.BLOCKED_COMPATIBLE: "Blocked a compatibility format interrupt request",
    InterruptFault.WRONG_SOURCE: "Blocked an interrupt request due to source-id verification failure",
}


def _name(rid: int) -> str:
    return f"{rid >> 8:02x}:{rid >> 3 & 0x1F:02x}.{rid & 7}"


class FaultLog:
    """Writes faults of all units of a machine to the kernel's log."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._lines: dict[int, InterruptLine] = {}
        self._begin = 0.0
        self._said = self._missed = 0

    def add_line(self, segment: int, number: int) -> None:
        """Have the unit of a segment, which is ``dmarN``, interrupt when it has a fault."""
        line = self._kernel.interrupts.add(interrupt_numbers(self._kernel).take(), "DMAR-MSI")
        line.source, line.name = f"{number:3}-{'edge':8}", f"dmar{number}"
        self._lines[segment] = line

    def _interrupted(self, segment: int) -> None:
        line = self._lines.get(segment)
        if line is not None:
            line.counts[0] += 1

    def report_message(self, source: Source, index: int, reason: InterruptFault) -> None:
        """Say whose interrupt message was refused: the index of its entry, and why."""
        self._interrupted(source.segment)
        if self._may():
            self._say(f"DRHD: handling fault status reg {_PENDING:x}")
        if self._may():
            self._say(
                f"[INTR-REMAP] Request device [{_name(source.rid)}] fault index {index:#x} "
                f"[fault reason {reason:#04x}] {_MESSAGE_TEXTS[reason]}"
            )

    def report(self, fault: RemappingFault) -> None:
        """Say who, where and why; addresses are those of pages."""
        self._interrupted(fault.source.segment)
        if self._may():
            self._say(f"DRHD: handling fault status reg {_PENDING:x}")
        if self._may():
            self._say(
                f"[DMA {'Write' if fault.write else 'Read'} NO_PASID] Request device "
                f"[{_name(fault.source.rid)}] "
                f"fault addr {fault.address & -self._kernel.page_size:#x} "
                f"[fault reason {fault.reason:#04x}] {_TEXTS[fault.reason]}"
            )

    def _say(self, text: str) -> None:
        kernel_log(self._kernel).add(ERROR, f"DMAR: {text}")

    def _may(self) -> bool:
        """Whether one more line is within the limit (``___ratelimit``)."""
        now = self._kernel.clock.now
        if now > self._begin + _INTERVAL:
            if self._missed:
                kernel_log(self._kernel).add(WARNING, f"dmar_fault: {self._missed} callbacks suppressed")
            self._begin, self._said, self._missed = now, 0, 0
        if self._said >= _BURST:
            self._missed += 1
            return False
        self._said += 1
        return True
