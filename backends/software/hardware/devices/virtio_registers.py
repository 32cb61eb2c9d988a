"""The registers of a virtio device on PCI, those of BAR 4, and the queues behind them; see `virtio_pci`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pyvfio.abi import virtio_pci as abi
from pyvfio.errors import NotModelled
from pyvfio_backends.software.hardware.devices.virtio_kinds import VirtioKind
from pyvfio_backends.software.hardware.devices.virtqueue import QueueError, SplitQueue
from pyvfio_backends.software.hardware.dma import DmaFault

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.dma import Initiator

__all__ = ["COMMON", "DEVICE", "ISR", "NOTIFY", "NOTIFY_STEP", "PART", "VirtioRegisters"]

COMMON, ISR, DEVICE, NOTIFY = 0x0000, 0x1000, 0x2000, 0x3000
PART: Final = 0x1000
NOTIFY_STEP: Final = 4
_NO_VECTOR = 0xFFFF
_VERSION_1 = 1  # of features 32 to 63
_FEATURES_HIGH = 0x100 | _VERSION_1  # and RING_RESET
_SR_IOV = 0x20
_ACCESS_PLATFORM = 0x02
_EVENT_INDEX = 1 << 29
_FEATURES_OK, _DRIVER_OK, _NEEDS_RESET = 0x08, 0x04, 0x40
_QUEUE_INTERRUPT = 1
_CONFIG_INTERRUPT = 2
_DWORD = 0xFFFFFFFF


@dataclass(slots=True)
class _Queue:
    size: int
    vector: int = _NO_VECTOR
    enabled: int = 0
    descriptors: int = 0
    driver: int = 0
    device: int = 0


class VirtioRegisters:
    """The registers of a device of this kind (implements `Registers`), acting through the function of `attach`.

    `order` is the byte order of the device's own configuration until the driver accepts VERSION_1: that of the guest.
    """

    def __init__(self, kind: VirtioKind, *, sriov: bool = False, platform: bool = False, order: str = "<") -> None:
        self.kind = kind
        self.features_high = _FEATURES_HIGH | (_SR_IOV if sriov else 0) | (_ACCESS_PLATFORM if platform else 0)
        self._function: Initiator | None = None
        self._served: dict[int, SplitQueue] = {}
        self._order = order
        self.queues = [_Queue(size) for size in kind.queues]
        self._use_byte_order(order)
        self.device_select = self.driver_select = self.queue_select = 0
        self.driver_features = [0, 0]
        self.config_vector = _NO_VECTOR
        self.status = self.interrupt = 0

    def attach(self, function: Initiator) -> None:
        """Belong to a function, whose DMA and interrupts are used."""
        self._function = function

    @property
    def messages_on(self) -> bool:
        """Whether MSI-X is on, so that there is no interrupt by the pin."""
        return False

    def pin_changed(self) -> None:
        """`interrupt` changed: the pin is asserted while a bit of it is set, on a bus that has pins."""

    # the registers of BAR 4

    def reset(self) -> None:
        """See `Registers.reset`: nothing, see the module."""

    def read(self, offset: int, length: int) -> int:
        """See `Registers.read`."""
        part, within = offset & -PART, offset % PART
        if part == COMMON:
            return self._common_read(within, length)
        if part == ISR:
            if within:
                return 0
            value, self.interrupt = self.interrupt, 0
            self.pin_changed()
            return value
        if part == DEVICE:
            end = within + length
            known = self._kind_config[within:end]
            return int.from_bytes(known.ljust(length, b"\xff"), "little") if end > within else 0
        return 0

    def takes(self, offset: int, length: int) -> bool:
        """See `Registers.takes`."""
        return True

    def write(self, offset: int, length: int, value: int) -> None:
        """See `Registers.write`."""
        part, within = offset & -PART, offset % PART
        if part == COMMON:
            while length > 4:
                self._common_write(within, value & _DWORD)
                within, length, value = within + 4, length - 4, value >> 32
            self._common_write(within, value)
        elif part == NOTIFY:
            number = within // NOTIFY_STEP
            if number < len(self.queues) and self.queues[number].enabled:
                self._notified(number)

    def _notified(self, number: int) -> None:
        """The driver says that a queue has something new."""
        function, supply = self._function, self.kind.supply
        if function is None or supply is None or not self.features_high & _ACCESS_PLATFORM:
            raise NotModelled("virtqueues of virtio PCI functions")
        if not self.status & _DRIVER_OK or self.status & _NEEDS_RESET:
            return
        queue = self.queues[number]
        event_index = bool(self.driver_features[0] & _EVENT_INDEX)
        try:
            if number not in self._served:
                self._served[number] = SplitQueue(function, queue.size, queue.descriptors, queue.driver, queue.device)
            wanted = self._served[number].serve(
                lambda chain: chain.fill(function, supply(chain.room)), event_index=event_index
            )
        except (QueueError, DmaFault):
            # What the driver did wrong, or where it let nobody reach: the device is broken until it is reset.
            self.status |= _NEEDS_RESET
            self._interrupt(_CONFIG_INTERRUPT, self.config_vector)
            return
        if wanted:
            self._interrupt(_QUEUE_INTERRUPT, queue.vector)

    def _interrupt(self, reason: int, vector: int) -> None:
        if self.messages_on:
            if vector != _NO_VECTOR and self._function is not None:
                self._function.signal(vector)
        else:
            self.interrupt |= reason
            self.pin_changed()

    def _common_read(self, offset: int, length: int) -> int:
        # A read answers with the register that begins at its offset, as wide as the read; 0 where none begins.
        value = 0
        for part in range(0, length, 4):
            wide = min(4, length - part)
            value |= (self._register(offset + part) & (1 << 8 * wide) - 1) << 8 * part
        return value

    def _register(self, offset: int) -> int:
        queue = self._queue or _Queue(0, 0)
        offered = (self.kind.features, self.features_high)
        if offset == abi.VIRTIO_PCI_COMMON_DF:
            return offered[self.device_select] if self.device_select < 2 else 0
        if offset == abi.VIRTIO_PCI_COMMON_GF:
            return self.driver_features[self.driver_select] if self.driver_select < 2 else 0
        registers = {
            abi.VIRTIO_PCI_COMMON_DFSELECT: self.device_select,
            abi.VIRTIO_PCI_COMMON_GFSELECT: self.driver_select,
            abi.VIRTIO_PCI_COMMON_MSIX: self.config_vector,
            abi.VIRTIO_PCI_COMMON_NUMQ: len(self.queues),
            abi.VIRTIO_PCI_COMMON_STATUS: self.status,
            abi.VIRTIO_PCI_COMMON_Q_SELECT: self.queue_select,
            abi.VIRTIO_PCI_COMMON_Q_SIZE: queue.size,
            abi.VIRTIO_PCI_COMMON_Q_MSIX: queue.vector if self._queue is not None else 0,
            abi.VIRTIO_PCI_COMMON_Q_ENABLE: queue.enabled,
            abi.VIRTIO_PCI_COMMON_Q_NOFF: self.queue_select,
            abi.VIRTIO_PCI_COMMON_Q_DESCLO: queue.descriptors & _DWORD,
            abi.VIRTIO_PCI_COMMON_Q_DESCHI: queue.descriptors >> 32,
            abi.VIRTIO_PCI_COMMON_Q_AVAILLO: queue.driver & _DWORD,
            abi.VIRTIO_PCI_COMMON_Q_AVAILHI: queue.driver >> 32,
            abi.VIRTIO_PCI_COMMON_Q_USEDLO: queue.device & _DWORD,
            abi.VIRTIO_PCI_COMMON_Q_USEDHI: queue.device >> 32,
        }
        return registers.get(offset, 0)  # the generation is 0, too: the configuration never changes

    def _use_byte_order(self, order: str) -> None:
        self._kind_config = self.kind.config(order)

    @property
    def _queue(self) -> _Queue | None:
        return self.queues[self.queue_select] if self.queue_select < len(self.queues) else None

    def _common_write(self, offset: int, value: int) -> None:
        # A register is only written at its first byte; the 64-bit addresses at either half.
        if offset == abi.VIRTIO_PCI_COMMON_DFSELECT:
            self.device_select = value
        elif offset == abi.VIRTIO_PCI_COMMON_GFSELECT:
            self.driver_select = value
        elif offset == abi.VIRTIO_PCI_COMMON_GF:
            if self.driver_select < 2:
                self.driver_features[self.driver_select] = value
                self._use_byte_order("<" if self.driver_features[1] & _VERSION_1 else self._order)
        elif offset == abi.VIRTIO_PCI_COMMON_MSIX:
            self.config_vector = self._vector(value)
        elif offset == abi.VIRTIO_PCI_COMMON_STATUS:
            self.status = value & 0xFF
            if self.features_high & _ACCESS_PLATFORM and not self.driver_features[1] & _ACCESS_PLATFORM:
                self.status &= ~_FEATURES_OK  # a driver that does not know it would give wrong addresses
            if not self.status:
                self.driver_reset()
        elif offset == abi.VIRTIO_PCI_COMMON_Q_SELECT:
            self.queue_select = value & 0xFFFF
        elif self._queue is not None:
            self._queue_write(self._queue, offset, value)

    def _queue_write(self, queue: _Queue, offset: int, value: int) -> None:
        if offset == abi.VIRTIO_PCI_COMMON_Q_SIZE:
            queue.size = value & 0xFFFF
        elif offset == abi.VIRTIO_PCI_COMMON_Q_MSIX:
            queue.vector = self._vector(value)
        elif offset == abi.VIRTIO_PCI_COMMON_Q_ENABLE:
            queue.enabled = int(value == 1)
        elif offset == abi.VIRTIO_PCI_COMMON_Q_RESET:
            if value == 1:
                queue.enabled = 0
                self._served.pop(self.queue_select, None)
        else:
            for name, low in (
                ("descriptors", abi.VIRTIO_PCI_COMMON_Q_DESCLO),
                ("driver", abi.VIRTIO_PCI_COMMON_Q_AVAILLO),
                ("device", abi.VIRTIO_PCI_COMMON_Q_USEDLO),
            ):
                if offset in (low, low + 4):
                    shift = 8 * (offset - low)
                    kept = getattr(queue, name) & ~(_DWORD << shift)
                    setattr(queue, name, kept | (value & _DWORD) << shift)

    def _vector(self, value: int) -> int:
        return value & 0xFFFF if value & 0xFFFF < self.kind.vectors else _NO_VECTOR

    def driver_reset(self) -> None:
        """Device status 0: the queues and the vectors are as at first."""
        self.queues = [_Queue(size) for size in self.kind.queues]
        self._served.clear()
        self.config_vector = _NO_VECTOR
        self.status = self.interrupt = 0
        self.pin_changed()
        self._use_byte_order(self._order)
