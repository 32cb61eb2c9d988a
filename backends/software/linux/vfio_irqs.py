"""``struct vfio_irq_set`` as the kernel reads it: the head, what it must satisfy, and the data behind it.

Shared by all VFIO drivers.  Which actions and which data an interrupt index knows is the driver's own business.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from dataclasses import dataclass

from pyvfio.abi import vfio as abi
from pyvfio.abi.layout import native_struct
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfs import fail

__all__ = ["IrqRequest", "read_irq_set"]

_HEAD = native_struct(abi.IrqSet)
_DATA_TYPES = abi.VFIO_IRQ_SET_DATA_TYPE_MASK
_KNOWN = abi.VFIO_IRQ_SET_DATA_TYPE_MASK | abi.VFIO_IRQ_SET_ACTION_TYPE_MASK
_U32_MAX = (1 << 32) - 1
_ELEMENT = {
    abi.VFIO_IRQ_SET_DATA_NONE: "",
    abi.VFIO_IRQ_SET_DATA_BOOL: "B",
    abi.VFIO_IRQ_SET_DATA_EVENTFD: "i",
}


@dataclass(frozen=True, slots=True)
class IrqRequest:
    """A valid VFIO_DEVICE_SET_IRQS: interrupts `start` up to `start` + `count` - 1 of `index`.

    `action` is the bits of ``VFIO_IRQ_SET_ACTION_TYPE_MASK`` as they came (none or several is for the driver to
    refuse), `data` exactly one of ``VFIO_IRQ_SET_DATA_NONE``, ``_BOOL`` and ``_EVENTFD``.  `values` has `count`
    elements, bytes of 0 to 255 for BOOL and signed descriptors for EVENTFD (-1: none), and is empty for NONE.
    """

    index: int
    start: int
    count: int
    action: int
    data: int
    values: tuple[int, ...]

    @property
    def flags(self) -> int:
        """Action and data bits together, as the caller gave them."""
        return self.action | self.data


def read_irq_set(argument: Argument, indexes: int, irqs_of: Callable[[int], int]) -> IrqRequest:
    """Read and check the argument of VFIO_DEVICE_SET_IRQS for a device with `indexes` kinds of interrupts.

    `irqs_of` gives the number of interrupts of an index (0 for one that the device does not have).  Raise OSError
    EFAULT or EINVAL.  Source: ``drivers/vfio/vfio_main.c``, ``vfio_set_irqs_validate_and_prepare()``.
    """
    argsz, flags, index, start, count = _HEAD.unpack(argument.read(0, _HEAD.size))
    if argsz < _HEAD.size or index >= indexes or count >= _U32_MAX - start or flags & ~_KNOWN:
        raise fail(errno.EINVAL)
    irqs = irqs_of(index)
    if start >= irqs or start + count > irqs:
        raise fail(errno.EINVAL)
    data = flags & _DATA_TYPES
    element = _ELEMENT.get(data)
    if element is None:
        raise fail(errno.EINVAL)
    values: tuple[int, ...] = ()
    if element:
        layout = struct.Struct(f"={count}{element}")
        if argsz - _HEAD.size < layout.size:
            raise fail(errno.EINVAL)
        # The kernel copies with memdup_user, which takes a size of 0.
        values = layout.unpack(argument.read(_HEAD.size, layout.size))
    return IrqRequest(index, start, count, flags & ~_DATA_TYPES, data, values)
