"""A subchannel as a VFIO device: regions, interrupts, requests (``drivers/s390/cio/vfio_ccw_ops.c``)."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from pyvfio.abi import vfio as abi
from pyvfio.abi.layout import native_struct
from pyvfio.css.crw import Crw
from pyvfio.css.irb import Irb
from pyvfio.process import EventFdReference
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfio_ccw_fsm import CcwMachine, State
from pyvfio_backends.software.linux.vfio_ccw_regions import (
    OFFSET_SHIFT,
    AsyncRegion,
    CrwRegion,
    IoRegion,
    Region,
    SchibRegion,
)
from pyvfio_backends.software.linux.vfio_irqs import read_irq_set
from pyvfio_backends.software.linux.vfio_mdev_device import VfioMdevDevice
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.mdev import MdevDevice
    from pyvfio_backends.software.linux.subchannel import SubchannelDevice

__all__ = ["VfioCcwDevice"]

_REGION = native_struct(abi.RegionInfo)
_CAPABILITY = native_struct(abi.RegionInfoCapType)
_IRQ = native_struct(abi.IrqInfo)
_FD = struct.Struct("=i")
_U32 = 0xFFFFFFFF
_DATA_AT = native_struct(abi.IrqSet).size


class VfioCcwDevice(VfioMdevDevice):
    """The VFIO device of a mediated device below the subchannel `sch`."""

    moves_position = False

    def __init__(self, mdev: MdevDevice, sch: SubchannelDevice) -> None:
        super().__init__(mdev.kernel, mdev, emulated=True)
        self.machine = CcwMachine(self, sch)
        self.io = IoRegion(self)
        self.crw = CrwRegion(self)
        self.regions: tuple[Region, ...] = (self.io, AsyncRegion(self), SchibRegion(self), self.crw)
        self._triggers: list[EventFdReference | None] = [None] * abi.VFIO_CCW_NUM_IRQS

    # life

    def open_device(self) -> None:
        """See `VfioDevice.open_device`: enable the subchannel.  Raise OSError EINVAL when it is not operational."""
        machine = self.machine
        if machine.state is not State.NOT_OPERATIONAL:
            machine.open()
        if machine.state is State.NOT_OPERATIONAL:
            raise fail(errno.EINVAL)

    def close_device(self) -> None:
        """See `VfioDevice.close_device`."""
        self.machine.close()
        self.machine.drain()
        if self.machine.state is State.NOT_OPERATIONAL:
            self.machine.program.free()
        # The kernel keeps the eventfds until they are replaced; here they are descriptors, so they go with the device.
        for index in range(len(self._triggers)):
            self._set_trigger(index, None)

    def reset(self) -> None:
        """See `VfioMdevDevice.reset`: close and open again.  Raise OSError EINVAL when it is not operational then."""
        self.machine.close()
        self.machine.open()
        if self.machine.state is State.NOT_OPERATIONAL:
            raise fail(errno.EINVAL)

    def request(self, count: int) -> None:
        """See `VfioDevice.request`."""
        self.signal(abi.VFIO_CCW_REQ_IRQ_INDEX)

    def dma_unmap(self, iova: int, length: int) -> None:
        """See `VfioDevice.dma_unmap`: a program that uses the range is stopped by a reset."""
        if self.machine.program.pinned(iova, length):
            self.machine.close()
            self.machine.open()

    # regions

    def _region(self, offset: int) -> tuple[Region, int]:
        index = offset >> OFFSET_SHIFT & _U32  # an unsigned int in the kernel
        if index >= len(self.regions):
            raise fail(errno.EINVAL)
        return self.regions[index], offset & (1 << OFFSET_SHIFT) - 1

    def read(self, n: int, offset: int) -> bytes:
        """See `VfioDevice.read` and `Region.read`."""
        region, position = self._region(offset)
        return region.read(position, n)

    def write(self, data: bytes, offset: int) -> int:
        """See `VfioDevice.write` and `Region.write`."""
        region, position = self._region(offset)
        return region.write(position, data)

    def show_irb(self, irb: Irb) -> None:
        """Put the answer of a start, halt or clear into the I/O region."""
        self.io.store_irb(irb)

    def report(self, crw: Crw) -> None:
        """Queue a channel report for the guest."""
        self.crw.queue.append(crw)
        self.kernel.clock.schedule(0.0, self._report_todo)

    def _report_todo(self) -> None:
        if self.crw.queue:
            self.signal(abi.VFIO_CCW_CRW_IRQ_INDEX)

    # interrupts

    def signal(self, index: int) -> None:
        """Signal the eventfd of an interrupt, if it has one."""
        trigger = self._triggers[index]
        if trigger is not None:
            trigger.signal()

    def _set_trigger(self, index: int, trigger: EventFdReference | None) -> None:
        old, self._triggers[index] = self._triggers[index], trigger
        if old is not None:
            old.close()

    # requests

    def _info(self) -> tuple[int, int, int]:
        flags = abi.VFIO_DEVICE_FLAGS_CCW | abi.VFIO_DEVICE_FLAGS_RESET
        return flags, len(self.regions), abi.VFIO_CCW_NUM_IRQS

    def _get_region_info(self, argument: Argument) -> int:
        argsz, _, index, cap_offset, _, _ = _REGION.unpack(argument.read(0, _REGION.size))
        if argsz < _REGION.size or index >= len(self.regions):
            raise fail(errno.EINVAL)
        region = self.regions[index]
        flags = region.flags
        if index >= abi.VFIO_CCW_NUM_REGIONS:
            flags |= abi.VFIO_REGION_INFO_FLAG_CAPS
            wanted = _REGION.size + _CAPABILITY.size
            if argsz < wanted:
                argsz, cap_offset = wanted, 0
            else:
                capability = (abi.VFIO_REGION_INFO_CAP_TYPE, 1, 0, abi.VFIO_REGION_TYPE_CCW, region.subtype)
                argument.write(_REGION.size, _CAPABILITY.pack(*capability))
                cap_offset = _REGION.size
        argument.write(0, _REGION.pack(argsz, flags, index, cap_offset, region.size, index << OFFSET_SHIFT))
        return 0

    def _get_irq_info(self, argument: Argument) -> int:
        argsz, _, index, _ = _IRQ.unpack(argument.read(0, _IRQ.size))
        if argsz < _IRQ.size or index >= abi.VFIO_CCW_NUM_IRQS:
            raise fail(errno.EINVAL)
        argument.write(0, _IRQ.pack(argsz, abi.VFIO_IRQ_INFO_EVENTFD, index, 1))
        return 0

    def _set_irqs(self, argument: Argument) -> int:
        irqs = read_irq_set(argument, abi.VFIO_CCW_NUM_IRQS, lambda index: 1)
        if not irqs.action & abi.VFIO_IRQ_SET_ACTION_TRIGGER:
            raise fail(errno.EINVAL)
        if irqs.data == abi.VFIO_IRQ_SET_DATA_NONE:
            self.signal(irqs.index)
        elif irqs.data == abi.VFIO_IRQ_SET_DATA_BOOL:
            # Whatever the count, one element is looked at.
            if argument.read(_DATA_AT, 1)[0]:
                self.signal(irqs.index)
        else:
            (fd,) = _FD.unpack(argument.read(_DATA_AT, _FD.size))
            if fd < -1:
                raise fail(errno.EINVAL)
            self._set_trigger(irqs.index, None if fd == -1 else EventFdReference(fd))
        return 0
