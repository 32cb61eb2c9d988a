"""The interrupts of a PCI function as a driver uses them: MSI-X, MSI, the pin, or none at all.

Messages fire once for each event.  The pin (INTx) stays asserted until the driver has dealt with its cause; the kernel
masks it when it fires, and `Lines.rearm` unmasks it, so that it fires again at once if it is asserted still.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, Self

from pyvfio.abi import vfio as abi
from pyvfio.errors import KernelRefused, Misuse, NotAvailable, Timeout
from pyvfio.vfio.device import Device
from pyvfio.vfio.irq import Irq

__all__ = ["KINDS", "Lines"]

_INDEXES: Final = {
    "msix": abi.VFIO_PCI_MSIX_IRQ_INDEX,
    "msi": abi.VFIO_PCI_MSI_IRQ_INDEX,
    "intx": abi.VFIO_PCI_INTX_IRQ_INDEX,
}
KINDS: Final = (*_INDEXES, "poll")
"""Kinds of interrupts, the better ones first; ``poll`` is to look again and again."""
_LOOK_EVERY: Final = 0.0005


class Lines:
    """The interrupts of `device`, on until `close`; a context manager.

    `wanted` is one of `KINDS`, or ``auto`` for the first that works; up to `vectors` are used.  `kind` is what it
    became, `count` how many vectors there are, and `note` says what the better ones failed with.  Raise `Misuse` for
    another kind, `NotAvailable` when the one wanted is not there, or the class for the kernel's errno.
    """

    def __init__(self, device: Device, wanted: str = "auto", vectors: int = 1) -> None:
        if wanted != "auto" and wanted not in KINDS:
            cause = f"interrupts are auto, {', '.join(KINDS)}, not {wanted!r}"
            raise Misuse("use interrupts", device.name, cause=cause)
        self.kind = "poll"
        self.count = 1
        self.note = ""
        self._irq: Irq | None = None
        self._masked = False
        for kind, index in _INDEXES.items():
            if wanted not in ("auto", kind):
                continue
            irq = device.irq(index)
            if not irq.count:
                if wanted == kind:
                    raise NotAvailable("use interrupts", device.name, cause=f"the function has no {kind}")
                continue
            count = min(irq.count, vectors)
            try:
                irq.enable(count)
            except KernelRefused as error:
                if wanted == kind:
                    raise
                self.note += f"{kind}: {error.errno_name}; "
                continue
            self.kind, self.count, self._irq = kind, count, irq
            break

    def vector(self, number: int) -> int:
        """The vector that stands for `number` of a driver: the same one for all when there are too few."""
        return number if number < self.count else self.count - 1

    def wait(self, vector: int, seconds: float) -> bool:
        """Wait for a vector at most so long; whether it fired.  It may have fired for something dealt with already.

        Without interrupts it is a short sleep, and False.
        """
        if self._irq is None:
            time.sleep(min(seconds, _LOOK_EVERY))
            return False
        try:
            self._irq.wait(max(seconds, 0.0), vector)
        except Timeout:
            return False
        self._masked = self.kind == "intx"
        return True

    async def wait_async(self, vector: int, seconds: float) -> bool:
        """As `wait`, without blocking the event loop; one task at a time may await a vector."""
        if self._irq is None:
            await asyncio.sleep(min(seconds, _LOOK_EVERY))
            return False
        try:
            await self._irq.wait_async(max(seconds, 0.0), vector)
        except Timeout:
            return False
        self._masked = self.kind == "intx"
        return True

    def poll(self, vector: int) -> bool:
        """Whether a vector has fired since the last look; for those who wait for `fileno` themselves."""
        if self._irq is None or not self._irq.poll(vector):
            return False
        self._masked = self.kind == "intx"
        return True

    def fileno(self, vector: int) -> int:
        """The descriptor that is readable when a vector fired, -1 without interrupts."""
        return -1 if self._irq is None else self._irq.fileno(vector)

    def rearm(self) -> None:
        """The cause was dealt with: let the pin fire again.  Nothing to do for messages."""
        if self._masked and self._irq is not None:
            self._masked = False
            self._irq.unmask()

    def close(self) -> None:
        """Have no interrupts any more; a second call does nothing."""
        irq, self._irq = self._irq, None
        if irq is not None:
            irq.disable()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Lines {self.kind}, {self.count} vectors>"
