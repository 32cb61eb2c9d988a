"""Migration and the log of DMA of a copier under ``copier-vfio-pci``, by the registers of `pyvfio.pci.copier_control`.

The device is asked for nothing but what a driver can ask: loads and stores in BAR 0.  What the states mean to it::

    RUNNING, PRE_COPY                  it works
    RUNNING_P2P, PRE_COPY_P2P          it begins no work, but takes doorbells, also of other devices
    STOP, STOP_COPY, RESUMING, ERROR   nothing changes
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio_feature
from pyvfio.abi.layout import native_struct
from pyvfio.abi.vfio_feature import MigrationState as S
from pyvfio.pci import copier_control as control
from pyvfio.pci.copier import BAR
from pyvfio_backends.software.linux.file import File
from pyvfio_backends.software.linux.vfio_dma_logging import DmaLog
from pyvfio_backends.software.linux.vfio_migration import Migration
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import PciDevice
    from pyvfio_backends.software.linux.uaccess import Argument

__all__ = ["CopierLog", "CopierMigration"]

_FLAGS = vfio_feature.VFIO_MIGRATION_STOP_COPY | vfio_feature.VFIO_MIGRATION_P2P | vfio_feature.VFIO_MIGRATION_PRE_COPY
_WHOLE: Final = control.StreamHead.SIZE + control.IMAGE_SIZE
_INFO = native_struct(vfio_feature.PrecopyInfo)
_RUNS: Final = (S.RUNNING, S.PRE_COPY)
_WAITS: Final = (S.RUNNING_P2P, S.PRE_COPY_P2P)
_SAVES: Final = ((S.RUNNING, S.PRE_COPY), (S.RUNNING_P2P, S.PRE_COPY_P2P), (S.STOP, S.STOP_COPY))
_ENDS: Final = ((S.PRE_COPY, S.RUNNING), (S.PRE_COPY_P2P, S.RUNNING_P2P), (S.STOP_COPY, S.STOP))


class _Registers:
    """The owner's registers of a copier.  Each access is made with memory decoding on, whatever the program wants."""

    def __init__(self, device: PciDevice) -> None:
        self._device = device

    @contextmanager
    def _decoding(self) -> Iterator[None]:
        command = self._device.read_config(regs.PCI_COMMAND, 2)
        if command & regs.PCI_COMMAND_MEMORY:
            yield
            return
        self._device.write_config(regs.PCI_COMMAND, 2, command | regs.PCI_COMMAND_MEMORY)
        try:
            yield
        finally:
            self._device.write_config(regs.PCI_COMMAND, 2, command)

    def load(self, offset: int, size: int = 4) -> int:
        with self._decoding():
            return self._device.load_bar(BAR, offset, size)

    def store(self, offset: int, value: int, size: int = 4) -> None:
        with self._decoding():
            self._device.store_bar(BAR, offset, size, value)

    def image(self) -> bytes:
        places = range(control.IMAGE, control.IMAGE + control.IMAGE_SIZE, 8)
        return b"".join(self.load(at, 8).to_bytes(8, "little") for at in places)

    def take_image(self, image: bytes) -> bool:
        """Whether the device took it over."""
        for at in range(0, len(image), 8):
            self.store(control.IMAGE + at, int.from_bytes(image[at : at + 8], "little"), 8)
        self.store(control.LOAD, 1)
        return self.load(control.LOADED) == control.LOADED_GOOD


class _Stream(File):
    """A data file: a stream that is over once the state that it belongs to is left (ENODEV)."""

    __slots__ = ("data", "disabled", "position")

    def __init__(self) -> None:
        self.data = bytearray()
        self.position = 0
        self.disabled = False

    def pread(self, n: int, offset: int) -> bytes:
        raise fail(errno.ESPIPE)

    def pwrite(self, data: bytes, offset: int) -> int:
        raise fail(errno.ESPIPE)

    def check(self) -> None:
        if self.disabled:
            raise fail(errno.ENODEV)

    def release(self) -> None:
        self.disabled = True


class _Saving(_Stream):
    __slots__ = ("_migration",)

    def __init__(self, migration: CopierMigration) -> None:
        super().__init__()
        self._migration = migration
        self.data += control.StreamHead.pack()

    def read(self, n: int) -> bytes:
        self.check()
        data = bytes(self.data[self.position : self.position + n])
        self.position += len(data)
        return data

    def ioctl(self, request: int, argument: Argument) -> int:
        """VFIO_MIG_GET_PRECOPY_INFO."""
        if request != vfio_feature.VFIO_MIG_GET_PRECOPY_INFO:
            raise fail(errno.ENOTTY)
        argsz, flags, _, _ = _INFO.unpack(argument.read(0, _INFO.size))
        if argsz < _INFO.size or self._migration.state not in (S.PRE_COPY, S.PRE_COPY_P2P):
            raise fail(errno.EINVAL)
        self.check()
        argument.write(0, _INFO.pack(argsz, flags, len(self.data) - self.position, 0))
        return 0


class _Resuming(_Stream):
    __slots__ = ()

    def write(self, data: bytes) -> int:
        self.check()
        if len(self.data) + len(data) > _WHOLE:
            raise fail(errno.ENOMEM)
        size = control.StreamHead.SIZE
        had, self.data = len(self.data), self.data + data
        if had < size <= len(self.data) and not control.StreamHead.fits(bytes(self.data[:size])):
            del self.data[had:]
            raise fail(errno.EINVAL)
        return len(data)


class CopierMigration(Migration):
    """The migration of the copier that is `device`."""

    def __init__(self, device: PciDevice) -> None:
        super().__init__(device.kernel, _FLAGS)
        self._registers = _Registers(device)
        self._saving: _Saving | None = None
        self._resuming: _Resuming | None = None

    def data_size(self) -> int:
        """See `Migration.data_size`."""
        return _WHOLE

    def reset(self) -> None:
        """See `Migration.reset`."""
        super().reset()
        self._close_files()
        self._pause(S.RUNNING)

    def _pause(self, state: S) -> None:
        waits = control.NO_WORK if state in _WAITS else control.NO_WORK | control.FROZEN
        self._registers.store(control.PAUSE, 0 if state in _RUNS else waits)

    def _close_files(self) -> None:
        for file in (self._saving, self._resuming):
            if file is not None:
                file.disabled = True
        self._saving = self._resuming = None

    def step(self, new: S) -> File | None:
        """See `Migration.step`.  EINVAL: the stream is not complete; EIO, and ERROR: it is none of a copier."""
        arc = (self.state, new)
        if arc == (S.RESUMING, S.STOP):
            self._load()
        if arc == (S.RESUMING, S.STOP) or arc in _ENDS:
            self._close_files()
        self._pause(new)
        if arc == (S.STOP, S.RESUMING):
            self._resuming = _Resuming()
            return self._resuming
        if arc in _SAVES:
            self._saving = _Saving(self)
        if new is S.STOP_COPY and self._saving is not None:
            self._saving.data += self._registers.image()
        return self._saving if arc in _SAVES else None

    def _load(self) -> None:
        data = b"" if self._resuming is None else bytes(self._resuming.data)
        if len(data) < _WHOLE:
            raise fail(errno.EINVAL)
        if not self._registers.take_image(data[control.StreamHead.SIZE :]):
            self._close_files()
            self.state = S.ERROR
            raise fail(errno.EIO)


class CopierLog(DmaLog):
    """The log of the writes of the copier that is `device`: one range of pages of one size."""

    def __init__(self, device: PciDevice) -> None:
        self._device = device
        self._registers = _Registers(device)
        self._range = range(0)
        self._shift = 0

    @property
    def page_size(self) -> int:
        """See `DmaLog.page_size`."""
        return self._device.kernel.page_size

    def start(self, ranges: list[tuple[int, int]], page_size: int) -> int:
        """See `DmaLog.start`: ranges become one, and the page one that the device has.  EINVAL when it logs already."""
        if self._shift:
            raise fail(errno.EINVAL)
        shift = min(max(page_size.bit_length() - 1, control.SHIFTS[0]), control.SHIFTS[-1])
        first, last = ranges[0][0] >> shift << shift, ranges[-1][1] | (1 << shift) - 1
        for register, value in ((control.LOG_FIRST, first), (control.LOG_LAST, last)):
            self._registers.store(register, value, 8)
        self._registers.store(control.LOG_SHIFT, shift)
        self._registers.store(control.LOG, control.LOG_ON)
        self._range, self._shift = range(first, last + 1), shift
        return 1 << shift

    def stop(self) -> None:
        """See `DmaLog.stop`."""
        self._registers.store(control.LOG, 0)
        self._shift = 0

    def take(self, iova: int, length: int) -> Iterator[tuple[int, int]]:
        """See `DmaLog.take`.  Raise OSError EINVAL without a log."""
        if not self._shift:
            raise fail(errno.EINVAL)
        page = 1 << self._shift
        first, end = max(iova, self._range.start) // page * page, min(iova + length, self._range.stop)
        for at in range(first, end, page * control.PAGES_AT_ONCE):
            self._registers.store(control.LOG_AT, at, 8)
            bits = self._registers.load(control.LOG_BITS, 8)
            while bits:
                low = bits & -bits
                bits ^= low
                start = at + (low.bit_length() - 1) * page
                yield max(start, iova), min(start + page, iova + length) - max(start, iova)
