"""What Linux says of requests that the IOMMU refused (``dmar_fault`` in ``drivers/iommu/intel/dmar.c``, 6.12).

At most ten lines in five seconds, and then how many were left out (``include/linux/ratelimit.h``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvfio_backends.software.hardware.pcie.remapping import FaultReason
from pyvfio_backends.software.linux.kernel_log import ERROR, WARNING, kernel_log

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.pcie.remapping import RemappingFault
    from pyvfio_backends.software.linux.kernel import Kernel

__all__ = ["FaultLog"]

_INTERVAL, _BURST = 5.0, 10
_PENDING: Final = 2  # DMA_FSTS_PPF: a fault is recorded
_TEXTS: Final = {
    FaultReason.NO_CONTEXT: "Present bit in context entry is clear",
    FaultReason.NO_WRITE: "PTE Write access is not set",
    FaultReason.NO_READ: "PTE Read access is not set",
}


class FaultLog:
    """Writes faults of all units of a machine to the kernel's log."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._begin = 0.0
        self._said = self._missed = 0

    def report(self, fault: RemappingFault) -> None:
        """Say who, where and why; addresses are those of pages."""
        if self._may():
            self._say(f"DRHD: handling fault status reg {_PENDING:x}")
        if self._may():
            rid = fault.source.rid
            self._say(
                f"[DMA {'Write' if fault.write else 'Read'} NO_PASID] Request device "
                f"[{rid >> 8:02x}:{rid >> 3 & 0x1F:02x}.{rid & 7}] "
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
