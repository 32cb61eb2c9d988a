"""A device of mtty as a VFIO device: a PCI serial controller of one or two ports, in I/O space.

Its configuration space is 255 bytes::

    00 | 3253             | 4348             |     10 BAR 0: port 0, 8 bytes     2c subsystem: as at 00
    04 | status 0200      | command 0001     |     14 BAR 1: port 1 (of two)     3c line     3d pin A
    08 | class 070002                 | 10   |     40 ... "PCI Serial/UART" from 60 on
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_feature
from pyvfio.abi.layout import native_struct
from pyvfio.abi.vfio_feature import MigrationState as S
from pyvfio.process import EventFdReference
from pyvfio_backends.software.hardware.devices.loop_uart import IMAGE_SIZE, LoopUart
from pyvfio_backends.software.linux.file import File
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfio_dma_logging import DmaLog
from pyvfio_backends.software.linux.vfio_irqs import read_irq_set
from pyvfio_backends.software.linux.vfio_mdev_device import VfioMdevDevice
from pyvfio_backends.software.linux.vfio_migration import Migration
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.mdev import MdevDevice

__all__ = ["MttyDevice"]

_SHIFT: Final = 40
_CONFIG_SIZE, _PORT_SIZE = 0xFF, 8
_IDS: Final = 0x32534348
_IO: Final = 1
_MASK: Final = -_PORT_SIZE & 0xFFFFFFFF
_ONES: Final = 0xFFFFFFFF
_TEXT: Final = (0x60, b"PCI Serial/UART")
_REGION, _IRQ = native_struct(abi.RegionInfo), native_struct(abi.IrqInfo)
_INTX, _MSI = abi.VFIO_PCI_INTX_IRQ_INDEX, abi.VFIO_PCI_MSI_IRQ_INDEX
_IRQ_FLAGS: Final = {
    _INTX: abi.VFIO_IRQ_INFO_EVENTFD | abi.VFIO_IRQ_INFO_MASKABLE | abi.VFIO_IRQ_INFO_AUTOMASKED,
    _MSI: abi.VFIO_IRQ_INFO_EVENTFD | abi.VFIO_IRQ_INFO_NORESIZE,
}
_HEAD: Final = struct.Struct("=QIIII")
_MAGIC: Final = 0x7E9D09898C3E2C4E
_FLAGS = vfio_feature.VFIO_MIGRATION_STOP_COPY | vfio_feature.VFIO_MIGRATION_P2P | vfio_feature.VFIO_MIGRATION_PRE_COPY
_SAVES: Final = ((S.RUNNING, S.PRE_COPY), (S.RUNNING_P2P, S.PRE_COPY_P2P), (S.STOP, S.STOP_COPY))
_ENDS: Final = (
    *((S.PRE_COPY, S.RUNNING), (S.PRE_COPY_P2P, S.RUNNING_P2P), (S.STOP_COPY, S.STOP), (S.RESUMING, S.STOP)),
)


def _config(ports: int) -> bytearray:
    config = bytearray(_CONFIG_SIZE)
    struct.pack_into("<IHHBBBB", config, 0, _IDS, _IO, 0x0200, 0x10, 0x02, 0x00, 0x07)
    for port in range(ports):
        struct.pack_into("<I", config, regs.PCI_BASE_ADDRESS_0 + 4 * port, _IO)
    struct.pack_into("<I", config, regs.PCI_SUBSYSTEM_VENDOR_ID, _IDS)
    config[regs.PCI_INTERRUPT_PIN] = 1
    for offset, value in ((0x40, 0x23), (0x43, 0x80), (0x44, 0x23), (0x48, 0x23), (0x4C, 0x23)):
        config[offset] = value
    at, text = _TEXT
    config[at : at + len(text)] = text
    return config


class MttyDevice(VfioMdevDevice):
    """The VFIO device of `mdev`, with so many ports."""

    moves_position = False

    def __init__(self, mdev: MdevDevice, ports: int) -> None:
        super().__init__(mdev.kernel, mdev, emulated=True)
        self.config = _config(ports)
        self.ports = [LoopUart(self._interrupt) for _ in range(ports)]
        self.migration = _Migration(mdev.kernel, self.ports)
        self.dma_log = _Log(mdev.kernel)
        self._irq: int | None = None
        self._trigger: EventFdReference | None = None
        self._masked = False

    def close_device(self) -> None:
        """See `VfioDevice.close_device`."""
        self._connect(None, None)

    # regions

    def read(self, n: int, offset: int) -> bytes:
        """See `VfioDevice.read`: one register of a port is one byte, whatever the length."""
        index, at = offset >> _SHIFT, offset & (1 << _SHIFT) - 1
        if index == abi.VFIO_PCI_CONFIG_REGION_INDEX:
            return bytes(self.config[at : at + n]).ljust(n, b"\0")
        return bytes([self._port(index, at).read(at)]).ljust(n, b"\0")

    def write(self, data: bytes, offset: int) -> int:
        """See `VfioDevice.write`."""
        index, at = offset >> _SHIFT, offset & (1 << _SHIFT) - 1
        if index == abi.VFIO_PCI_CONFIG_REGION_INDEX:
            self._configure(at, data)
        else:
            self._port(index, at).write(at, data[0])
        return len(data)

    def _port(self, index: int, at: int) -> LoopUart:
        if index >= len(self.ports) or at >= _PORT_SIZE:
            raise fail(errno.EPERM)
        return self.ports[index]

    def _configure(self, at: int, data: bytes) -> None:
        if at == regs.PCI_INTERRUPT_LINE:
            self.config[at] = data[0]
        number = (at - regs.PCI_BASE_ADDRESS_0) // 4
        if at % 4 == 0 and 0 <= number < len(self.ports):
            address = int.from_bytes(data[:4].ljust(4, b"\0"), "little")
            address = address & _MASK if address == _ONES else address
            struct.pack_into("<I", self.config, at, address | _IO)

    # interrupts

    def _interrupt(self) -> None:
        if self._trigger is None or (self._irq == _INTX and self._masked):
            return
        self._masked = self._irq == _INTX
        self._trigger.signal()

    def _connect(self, index: int | None, trigger: EventFdReference | None) -> None:
        if self._trigger is not None:
            self._trigger.close()
        self._irq, self._trigger, self._masked = index, trigger, False

    def request(self, count: int) -> None:
        """See `VfioDevice.request`: it has no interrupt for that."""

    # requests

    def reset(self) -> None:
        """See `VfioMdevDevice.reset`."""
        if self.migration is not None:
            self.migration.reset()

    def _info(self) -> tuple[int, int, int]:
        return abi.VFIO_DEVICE_FLAGS_PCI, abi.VFIO_PCI_NUM_REGIONS, abi.VFIO_PCI_NUM_IRQS

    def _get_region_info(self, argument: Argument) -> int:
        argsz, _, index, cap_offset, _, _ = _REGION.unpack(argument.read(0, _REGION.size))
        if argsz < _REGION.size or index >= abi.VFIO_PCI_NUM_REGIONS:
            raise fail(errno.EINVAL)
        config = index == abi.VFIO_PCI_CONFIG_REGION_INDEX
        size = _CONFIG_SIZE if config else _PORT_SIZE if index < len(self.ports) else 0
        flags = abi.VFIO_REGION_INFO_FLAG_READ | abi.VFIO_REGION_INFO_FLAG_WRITE
        argument.write(0, _REGION.pack(argsz, flags, index, cap_offset, size, index << _SHIFT))
        return 0

    def _get_irq_info(self, argument: Argument) -> int:
        argsz, _, index, _ = _IRQ.unpack(argument.read(0, _IRQ.size))
        if argsz < _IRQ.size or index not in _IRQ_FLAGS:
            raise fail(errno.EINVAL)
        argument.write(0, _IRQ.pack(argsz, _IRQ_FLAGS[index], index, 1))
        return 0

    def _set_irqs(self, argument: Argument) -> int:
        irqs = read_irq_set(argument, abi.VFIO_PCI_NUM_IRQS, lambda index: 1)
        action, on = irqs.action, self._irq == irqs.index
        if irqs.index not in _IRQ_FLAGS:
            raise fail(errno.ENOTTY)
        if action != abi.VFIO_IRQ_SET_ACTION_TRIGGER:
            if irqs.index == _MSI or action not in (abi.VFIO_IRQ_SET_ACTION_MASK, abi.VFIO_IRQ_SET_ACTION_UNMASK):
                raise fail(errno.ENOTTY)
            if not on or irqs.start or irqs.count != 1:
                raise fail(errno.EINVAL)
            if irqs.data == abi.VFIO_IRQ_SET_DATA_EVENTFD:
                raise fail(errno.ENOTTY)
            if irqs.data == abi.VFIO_IRQ_SET_DATA_NONE or irqs.values[0]:
                self._masked = action == abi.VFIO_IRQ_SET_ACTION_MASK
            return 0
        if on and not irqs.count and irqs.data == abi.VFIO_IRQ_SET_DATA_NONE:
            self._connect(None, None)
            return 0
        if not (on or self._irq is None) or irqs.start or irqs.count != 1:
            raise fail(errno.EINVAL)
        if irqs.data == abi.VFIO_IRQ_SET_DATA_EVENTFD:
            fd = irqs.values[0]
            self._connect(None, None)  # also if the new one is bad
            trigger = EventFdReference(fd) if fd >= 0 else None
            self._connect(irqs.index if trigger is not None else None, trigger)
            return 0
        if not on:
            raise fail(errno.EINVAL)
        if irqs.data == abi.VFIO_IRQ_SET_DATA_NONE or irqs.values[0]:
            self._interrupt()
        return 0


class _Log(DmaLog):
    """It does no DMA, so that nothing is ever dirty."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    @property
    def page_size(self) -> int:
        return self._kernel.page_size

    def start(self, ranges: list[tuple[int, int]], page_size: int) -> int:
        return page_size

    def stop(self) -> None:
        return

    def take(self, iova: int, length: int) -> Iterable[tuple[int, int]]:
        return ()


class _Stream(File):
    """A data file, over once its state is left (ENODEV); `image` are the bytes of the whole stream."""

    __slots__ = ("data", "disabled", "most", "ports", "position")

    def __init__(self, ports: int, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.ports = ports
        self.most = _HEAD.size + ports * IMAGE_SIZE
        self.position = 0
        self.disabled = False

    def pread(self, n: int, offset: int) -> bytes:
        raise fail(errno.ESPIPE)

    def pwrite(self, data: bytes, offset: int) -> int:
        raise fail(errno.ESPIPE)

    def read(self, n: int) -> bytes:
        if self.disabled:
            raise fail(errno.ENODEV)
        data = bytes(self.data[self.position : self.position + n])
        self.position += len(data)
        return data

    def write(self, data: bytes) -> int:
        if len(self.data) + len(data) > self.most:
            raise fail(errno.ENOMEM)
        if self.disabled:
            raise fail(errno.ENODEV)
        had = len(self.data)
        self.data += data
        if had < _HEAD.size <= len(self.data):
            magic, major, minor, ports, flags = _HEAD.unpack_from(self.data)
            if (magic, major, minor, ports, flags) != (_MAGIC, 1, 0, self.ports, 0):
                raise fail(errno.EFAULT)
        return len(data)


class _Migration(Migration):
    def __init__(self, kernel: Kernel, ports: list[LoopUart]) -> None:
        super().__init__(kernel, _FLAGS)
        self._ports = ports
        self._file: _Stream | None = None

    def data_size(self) -> int:
        return _HEAD.size + len(self._ports) * IMAGE_SIZE

    def reset(self) -> None:
        super().reset()
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.disabled = True
        self._file = None

    def _image(self) -> bytes:
        return _HEAD.pack(_MAGIC, 1, 0, len(self._ports), 0) + b"".join(port.image() for port in self._ports)

    def step(self, new: S) -> File | None:
        arc = (self.state, new)
        if arc == (S.RESUMING, S.STOP):
            self._load()
        if arc in _ENDS:
            self._close()
        if arc == (S.STOP, S.RESUMING):
            self._file = _Stream(len(self._ports))
            return self._file
        if new is S.STOP_COPY and self._file is not None:
            self._file.data[:] = self._image()  # begun in PRE_COPY
        if arc in _SAVES:
            self._file = _Stream(len(self._ports), self._image())
            return self._file
        return None

    def _load(self) -> None:
        data = b"" if self._file is None else bytes(self._file.data)
        if len(data) < self.data_size():
            raise fail(errno.EINVAL)
        for number, port in enumerate(self._ports):
            port.load(data[_HEAD.size + number * IMAGE_SIZE :][:IMAGE_SIZE])
