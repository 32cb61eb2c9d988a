"""``/dev/clp``: calls of the logical processor from user space (``arch/s390/pci/pci_clp.c``)."""

from __future__ import annotations

import errno
from typing import Final

from pyvfio.abi import clp as abi
from pyvfio.zpci.clp import CLP_REQUEST_SIZE, ClpCommand, ClpRequest
from pyvfio.zpci.instructions import OperandException
from pyvfio.zpci.logical import LogicalProcessor
from pyvfio.zpci.service import condition
from pyvfio_backends.software.linux.file import File
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfs import fail

__all__ = ["ClpFile"]

_HEADER: Final = 16
_LENGTHS: Final[dict[int, int]] = {
    ClpCommand.STORE_LOGICAL_PROCESSOR_CHARACTERISTICS: _HEADER,
    ClpCommand.LIST_PCI: CLP_REQUEST_SIZE,
    ClpCommand.QUERY_PCI_FUNCTION: CLP_REQUEST_SIZE,
    ClpCommand.QUERY_PCI_FUNCTION_GROUP: CLP_REQUEST_SIZE,
}
#: What must be zero in a request, from byte 16 on; LIST PCI has its resume token there.
_ZEROS: Final[dict[int, tuple[slice, ...]]] = {
    ClpCommand.LIST_PCI: (slice(24, 32),),
    ClpCommand.QUERY_PCI_FUNCTION: (slice(20, 32),),
    ClpCommand.QUERY_PCI_FUNCTION_GROUP: (slice(16, 19), slice(20, 32)),
}


class ClpFile(File):
    """The open node.  A call changes nothing, so files have no state."""

    __slots__ = ("_processor",)

    def __init__(self, processor: LogicalProcessor) -> None:
        self._processor = processor

    def ioctl(self, request: int, argument: Argument) -> int:
        """``CLP_SYNC``; the kernel's EINVAL for any other request."""
        if request != abi.CLP_SYNC:
            raise fail(errno.EINVAL)
        first, _, _, _, place = abi.CLP_REQ.unpack(argument.read(0, abi.CLP_REQ.size))
        if first & abi.RESERVED:
            raise fail(errno.EINVAL)
        if first & abi.IMMEDIATE:
            # The machine has no immediate commands: the instruction fails, as under the emulated machine of the lab.
            raise fail(errno.EINVAL)
        processor = first & 0x3F
        if processor not in (abi.LPS_BASE, abi.LPS_PCI):
            raise fail(errno.EINVAL)
        memory = argument.caller
        page = memory.read(place, abi.CLP_PAGE)
        memory.write(place, self._call(processor, bytearray(page)))
        return 0

    def _call(self, processor: int, page: bytearray) -> bytes:
        head = ClpRequest.from_bytes(page[:_HEADER])
        if head.fmt or head.reserved or head.reserved2:
            raise fail(errno.EINVAL)
        if processor == abi.LPS_BASE and head.command != ClpCommand.STORE_LOGICAL_PROCESSOR_CHARACTERISTICS:
            raise fail(errno.EINVAL)
        length = _LENGTHS.get(head.command, -1)
        if head.length != length:
            raise fail(errno.EINVAL)
        room = int.from_bytes(page[length : length + 2], "big")
        if room > len(page) - length:
            raise fail(errno.EINVAL)
        if any(any(page[zeros]) for zeros in _ZEROS.get(head.command, ())):
            raise fail(errno.EINVAL)
        try:
            answer = self._processor.call(bytes(page[:length]), room)
        except OperandException:
            raise fail(errno.EOPNOTSUPP) from None  # the instruction fails
        if condition(bytes(page[:length]), answer):
            raise fail(errno.EOPNOTSUPP)
        page[length : length + len(answer)] = answer
        return bytes(page)
