"""A driver for a virtio entropy source on `pyvfio`: the shortest way to see a real device write memory by DMA.

The function must translate its addresses as every device behind an IOMMU does (QEMU: ``iommu_platform=on``).  The
memory is two pages; the first is the queue (`pyvfio.testing.virtio_queue`), and the second is what the device fills.
Source: VIRTIO 1.2, 4.1 (PCI), 5.4 (entropy device).
"""

from __future__ import annotations

from typing import Final, Self

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import virtio_pci as abi
from pyvfio.abi.vfio import PciIrq
from pyvfio.errors import MalformedAnswer
from pyvfio.testing import virtio_queue
from pyvfio.vfio import Device

__all__ = ["VirtioEntropy"]

_MOST_CAPABILITIES: Final = 64


class VirtioEntropy:
    """The entropy source that `device` is, running.  A context manager; closing resets it and frees its memory.

    Raise `MalformedAnswer` when it is none, or does not do what virtio says.
    """

    def __init__(self, device: Device, page: int) -> None:
        self.device = device
        self._page = page
        self._places = {
            kind: self._place(kind) for kind in (abi.VIRTIO_PCI_CAP_COMMON_CFG, abi.VIRTIO_PCI_CAP_NOTIFY_CFG)
        }
        self._requests = 0
        self.memory = device.space.buffer(2 * page)
        """What is mapped for the device."""
        self.irq = device.irq(PciIrq.MSIX)
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the device before its memory goes."""
        self._common(abi.VIRTIO_PCI_COMMON_STATUS, 1, 0)
        self.irq.disable()
        self.memory.close()

    def ask(self, count: int, iova: int | None = None) -> None:
        """Let the device write at most `count` bytes, by default into the second page."""
        target = self.memory.iova + self._page if iova is None else iova
        for at, data in virtio_queue.to_be_written(self._requests, target, count):
            self.memory.view[at : at + len(data)] = data
        self._requests += 1
        bar, offset = self._places[abi.VIRTIO_PCI_CAP_NOTIFY_CFG]
        self.device.bar(bar).write_u16(offset, 0)

    @property
    def answered(self) -> int:
        """How many requests came back (modulo 2^16)."""
        at = virtio_queue.DEVICE_RING + 2
        return int.from_bytes(self.memory.view[at : at + 2], "little")

    def written(self, number: int) -> int:
        """How many bytes answer `number` has."""
        at = virtio_queue.answer_at(number)
        return int.from_bytes(self.memory.view[at : at + 4], "little")

    def filled(self, count: int) -> bytes:
        """What lies at the beginning of the second page."""
        return bytes(self.memory.view[self._page : self._page + count])

    def _place(self, kind: int) -> tuple[int, int]:
        """The BAR and the offset of a structure of virtio."""
        config = self.device.config
        at = config.read_u8(regs.PCI_CAPABILITY_LIST)
        for _ in range(_MOST_CAPABILITIES):
            if not at:
                break
            is_virtio = config.read_u8(at) == regs.PCI_CAP_ID_VNDR
            if is_virtio and config.read_u8(at + abi.VIRTIO_PCI_CAP_CFG_TYPE) == kind:
                return config.read_u8(at + abi.VIRTIO_PCI_CAP_BAR), config.read_u32(at + abi.VIRTIO_PCI_CAP_OFFSET)
            at = config.read_u8(at + 1)
        raise MalformedAnswer("find virtio structure", f"type {kind}", "no capability tells of it")

    def _common(self, register: int, length: int, value: int | None = None) -> int:
        bar, offset = self._places[abi.VIRTIO_PCI_CAP_COMMON_CFG]
        region = self.device.bar(bar)
        if value is None:
            return {1: region.read_u8, 2: region.read_u16, 4: region.read_u32}[length](offset + register)
        {1: region.write_u8, 2: region.write_u16, 4: region.write_u32}[length](offset + register, value)
        return value

    def _start(self) -> None:
        config = self.device.config
        command = config.read_u16(regs.PCI_COMMAND)
        config.write_u16(regs.PCI_COMMAND, command | regs.PCI_COMMAND_MEMORY | regs.PCI_COMMAND_MASTER)
        self.irq.enable()
        virtio_queue.start(self._common, self.memory.iova)
