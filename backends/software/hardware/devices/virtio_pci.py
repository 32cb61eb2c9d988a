"""Virtio devices on PCI with the identity and the registers that QEMU 7.2 gives them.

BAR 0 is the legacy register block (I/O, which zPCI cannot reach), BAR 1 the MSI-X table, and BAR 4 holds::

    0000   common configuration (`pyvfio.abi.virtio_pci` draws it)
    1000   interrupt status, one byte, cleared by reading
    2000   configuration of the device kind; big-endian, as the guest, until the driver accepts VERSION_1
    3000   notification, 4 bytes from queue to queue

An entropy source that reaches memory by the function's addresses (VIRTIO_F_ACCESS_PLATFORM) serves its queue.  For
all others notifying an enabled queue is `NotModelled`.  As QEMU does, disabling and enabling the function leaves these
registers alone; writing 0 to the device status resets what belongs to the driver.
"""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import virtio_pci as abi
from pyvfio.errors import NotModelled
from pyvfio_backends.software.hardware.devices.virtio_kinds import VirtioKind
from pyvfio_backends.software.hardware.devices.virtqueue import QueueError, SplitQueue
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.hardware.pci_config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.zpci.bar import Bar, Unmapped
from pyvfio_backends.software.hardware.zpci.msix import MsixTable

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.dma import Initiator

__all__ = ["COMMON", "DEVICE", "ISR", "NOTIFY", "VirtioPci"]

COMMON, ISR, DEVICE, NOTIFY = 0x0000, 0x1000, 0x2000, 0x3000
_PART = 0x1000
_BAR4_SIZE = 0x4000
_TABLE_BAR, _TABLE_BAR_SIZE, _PENDING_OFFSET = 1, 0x1000, 0x800
_REGISTER_BAR = 4
_NOTIFY_STEP = 4
_LEGACY_HEADER = 20
_NO_VECTOR = 0xFFFF
_VENDOR = 0x1AF4
_MODERN_FIRST_ID = 0x1040
_MODERN_SUBSYSTEM = 0x1100
_VERSION_1 = 1  # of features 32 to 63
_FEATURES_HIGH = 0x100 | _VERSION_1  # and RING_RESET
_SR_IOV = 0x20
_ACCESS_PLATFORM = 0x02
_EVENT_INDEX = 1 << 29
_FEATURES_OK, _DRIVER_OK, _NEEDS_RESET = 0x08, 0x04, 0x40
_QUEUE_INTERRUPT = 1
_CONFIG_INTERRUPT = 2
_MSIX_CAPABILITY, _WINDOW_CAPABILITY = 0x98, 0x84
_WINDOW_DATA = _WINDOW_CAPABILITY + abi.VIRTIO_PCI_NOTIFY_CAP_MULT
_DWORD = 0xFFFFFFFF


@dataclass(slots=True)
class _Queue:
    size: int
    vector: int = _NO_VECTOR
    enabled: int = 0
    descriptors: int = 0
    driver: int = 0
    device: int = 0


class VirtioPci:
    """The device behind a function: `config` space, `bars` and `msix` are built for it; it is the registers of BAR 4.

    `legacy` devices are transitional (BAR 0 in I/O space, ids 0x1000 and up), others are version 1 only; `sriov` ones
    offer VIRTIO_F_SR_IOV, and `platform` ones insist on VIRTIO_F_ACCESS_PLATFORM: they use the function's DMA.
    """

    def __init__(self, kind: VirtioKind, *, legacy: bool = True, sriov: bool = False, platform: bool = False) -> None:
        self.kind = kind
        self.features_high = _FEATURES_HIGH | (_SR_IOV if sriov else 0) | (_ACCESS_PLATFORM if platform else 0)
        self._function: Initiator | None = None
        self._served: dict[int, SplitQueue] = {}
        self.legacy = legacy
        self.config = ConfigSpace(self._identity(), interrupt_pin=1)
        self._add_window()
        self._add_capabilities()
        self.msix = MsixTable(self.config, _MSIX_CAPABILITY, _TABLE_BAR, kind.vectors, _PENDING_OFFSET)
        memory64 = regs.PCI_BASE_ADDRESS_MEM_TYPE_64 | regs.PCI_BASE_ADDRESS_MEM_PREFETCH
        self.bars = [
            Bar(_TABLE_BAR, _TABLE_BAR_SIZE, regs.PCI_BASE_ADDRESS_SPACE_MEMORY, self.msix),
            Bar(_REGISTER_BAR, _BAR4_SIZE, memory64, self),
        ]
        if legacy:
            size = 1 << (_LEGACY_HEADER + len(kind.config("<")) - 1).bit_length()
            self.bars.insert(0, Bar(0, size, regs.PCI_BASE_ADDRESS_SPACE_IO, _Legacy()))
        for bar in self.bars:
            self.config.set_bar(bar.index, bar.size, bar.flags)
        if kind.rom_size:
            self.config.set_rom(kind.rom_size)
        self.queues = [_Queue(size) for size in kind.queues]
        self._use_byte_order(">")
        self.device_select = self.driver_select = self.queue_select = 0
        self.driver_features = [0, 0]
        self.config_vector = _NO_VECTOR
        self.status = self.interrupt = 0

    def attach(self, function: Initiator) -> None:
        """Belong to a function, whose DMA and interrupts are used."""
        self._function = function

    def _identity(self) -> Identity:
        kind = self.kind
        if self.legacy:
            return Identity(_VENDOR, kind.transitional_id, _VENDOR, kind.type, kind.class_code)
        return Identity(_VENDOR, _MODERN_FIRST_ID + kind.type, _VENDOR, _MODERN_SUBSYSTEM, kind.class_code, 1)

    # configuration space

    def _add_capabilities(self) -> None:
        parts = (
            (0x40, abi.VIRTIO_PCI_CAP_COMMON_CFG, COMMON),
            (0x50, abi.VIRTIO_PCI_CAP_ISR_CFG, ISR),
            (0x60, abi.VIRTIO_PCI_CAP_DEVICE_CFG, DEVICE),
            (0x70, abi.VIRTIO_PCI_CAP_NOTIFY_CFG, NOTIFY),
        )
        for at, number, offset in parts:
            extra = struct.pack("<I", _NOTIFY_STEP) if number == abi.VIRTIO_PCI_CAP_NOTIFY_CFG else b""
            head = struct.pack("<BBB3xII", 16 + len(extra), number, _REGISTER_BAR, offset, _PART)
            self.config.add_capability(at, regs.PCI_CAP_ID_VNDR, head + extra)
        window = struct.pack("<BBB3xIII", 20, abi.VIRTIO_PCI_CAP_PCI_CFG, 0, 0, 0, 0)
        self.config.add_capability(_WINDOW_CAPABILITY, regs.PCI_CAP_ID_VNDR, window)
        self.config.allow(_WINDOW_CAPABILITY + abi.VIRTIO_PCI_CAP_BAR, 1, 0xFF)
        for field in (abi.VIRTIO_PCI_CAP_OFFSET, abi.VIRTIO_PCI_CAP_LENGTH, abi.VIRTIO_PCI_NOTIFY_CAP_MULT):
            self.config.allow(_WINDOW_CAPABILITY + field, 4, _DWORD)

    def _add_window(self) -> None:
        config = self.config
        first = _MSIX_CAPABILITY + regs.PCI_CAP_MSIX_SIZEOF
        size = regs.PCI_CFG_SPACE_SIZE - first
        config.allow(first, size, (1 << 8 * size) - 1)  # QEMU keeps what is written past the capabilities
        config.kept = range(_WINDOW_CAPABILITY, regs.PCI_CFG_SPACE_SIZE)  # and in the window, also over a reset
        config.refresh = self._window_read
        config.changed = self._config_written
        config.live = (_WINDOW_DATA, _WINDOW_DATA + 4)

    def _window(self) -> tuple[Bar, int, int] | None:
        """The BAR, offset and length that the window capability shows; None when they make no sense."""
        data = self.config.data
        at = _WINDOW_CAPABILITY
        number = data[at + abi.VIRTIO_PCI_CAP_BAR]
        offset, length = struct.unpack_from("<II", data, at + abi.VIRTIO_PCI_CAP_OFFSET)
        bar = next((bar for bar in self.bars if bar.index == number), None)
        if bar is None or length not in (1, 2, 4) or offset % length or offset + length > bar.size:
            return None
        return bar, offset, length

    def _window_read(self) -> None:
        window = self._window()
        if window is not None:
            bar, offset, length = window
            with contextlib.suppress(Unmapped):  # what no register answers leaves the data as they are
                value = bar.read(offset, length)
                self.config.data[_WINDOW_DATA : _WINDOW_DATA + length] = value.to_bytes(length, "little")

    def _config_written(self, offset: int, length: int) -> None:
        window = self._window() if offset < _WINDOW_DATA + 4 and offset + length > _WINDOW_DATA else None
        if window is not None:
            bar, at, count = window
            with contextlib.suppress(Unmapped):
                bar.write(at, count, int.from_bytes(self.config.data[_WINDOW_DATA : _WINDOW_DATA + count], "little"))

    # the registers of BAR 4

    def reset(self) -> None:
        """See `Registers.reset`: nothing, see the module."""

    def read(self, offset: int, length: int) -> int:
        """See `Registers.read`."""
        part, within = offset & -_PART, offset % _PART
        if part == COMMON:
            return self._common_read(within, length)
        if part == ISR:
            if within:
                return 0
            value, self.interrupt = self.interrupt, 0
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
        part, within = offset & -_PART, offset % _PART
        if part == COMMON:
            while length > 4:
                self._common_write(within, value & _DWORD)
                within, length, value = within + 4, length - 4, value >> 32
            self._common_write(within, value)
        elif part == NOTIFY:
            number = within // _NOTIFY_STEP
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
        if self.msix.enabled:
            if vector != _NO_VECTOR and self._function is not None:
                self._function.signal(vector)
        else:
            self.interrupt |= reason

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
                self._use_byte_order("<" if self.driver_features[1] & _VERSION_1 else ">")
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
        self._use_byte_order(">")


class _Legacy:
    """BAR 0: I/O space, which the instructions of zPCI cannot reach through Linux; it answers zeros."""

    def read(self, offset: int, length: int) -> int:
        return 0

    def takes(self, offset: int, length: int) -> bool:
        return True

    def write(self, offset: int, length: int, value: int) -> None:
        raise NotModelled("the legacy registers of virtio PCI functions")

    def reset(self) -> None:
        return
