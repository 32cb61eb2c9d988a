"""What vfio-pci tells of a device: info, regions, interrupts, who a hot reset touches.

The model is ``drivers/vfio/pci/vfio_pci_core.c`` (6.12).
"""

from __future__ import annotations

import errno
import struct
import sys
from typing import TYPE_CHECKING

from pyvfio.abi import vfio as abi
from pyvfio.abi.layout import Capability, InfoCapHeader, build_capability_chain, native_struct, offset_of
from pyvfio_backends.software.linux.pci_device import ROM
from pyvfio_backends.software.linux.pci_rom import map_rom, unmap_rom
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfio_pci_irqs import MemoryDecoding
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.vfio_pci import VfioPciDevice

__all__ = ["OFFSET_SHIFT", "device_info", "irq_info", "region_info"]

VGA_SIZE = 0xC0000
OFFSET_SHIFT = 40
"""A region's offset in the file is its index shifted by this (``VFIO_PCI_OFFSET_SHIFT``)."""
_INFO = native_struct(abi.DeviceInfo)
_INFO_MINIMUM = offset_of(abi.DeviceInfo, "cap_offset")
_REGION = native_struct(abi.RegionInfo)
_IRQ = native_struct(abi.IrqInfo)
_DEPENDENT = struct.Struct("=IHBB")
_HEADER_SIZE = native_struct(InfoCapHeader).size
_READ_WRITE = abi.VFIO_REGION_INFO_FLAG_READ | abi.VFIO_REGION_INFO_FLAG_WRITE


def device_info(vdev: VfioPciDevice, argument: Argument) -> int:
    """VFIO_DEVICE_GET_INFO.  Raise OSError."""
    argsz = int.from_bytes(argument.read(0, _INFO_MINIMUM)[:4], sys.byteorder)
    if argsz < _INFO_MINIMUM:
        raise fail(errno.EINVAL)
    length = min(argsz, _INFO.size)
    flags = abi.VFIO_DEVICE_FLAGS_PCI
    if vdev.reset_works:
        flags |= abi.VFIO_DEVICE_FLAGS_RESET
    chain = build_capability_chain(vdev.pdev.sysdata.vfio_capabilities(), _INFO.size)
    offset = 0
    if chain:
        flags |= abi.VFIO_DEVICE_FLAGS_CAPS
    if chain and argsz < _INFO.size + len(chain):
        argsz = _INFO.size + len(chain)
    elif chain:
        argument.write(_INFO.size, chain)
        offset = _INFO.size
    answer = _INFO.pack(argsz, flags, abi.VFIO_PCI_NUM_REGIONS, abi.VFIO_PCI_NUM_IRQS, offset, 0)
    argument.write(0, answer[:length])
    return 0


def region_info(vdev: VfioPciDevice, argument: Argument) -> int:
    """VFIO_DEVICE_GET_REGION_INFO.  Raise OSError."""
    argsz, _, index, cap_offset, _, _ = _REGION.unpack(argument.read(0, _REGION.size))
    if argsz < _REGION.size:
        raise fail(errno.EINVAL)
    flags, chain = 0, b""
    if index == abi.VFIO_PCI_CONFIG_REGION_INDEX:
        size, flags = vdev.config_size, _READ_WRITE
    elif index < ROM:
        size = vdev.pdev.resources[index].size
        flags = _READ_WRITE if size else 0
        if vdev.pdev.bar_mappable(index):
            flags |= abi.VFIO_REGION_INFO_FLAG_MMAP
            if vdev.pdev.msi.capability and vdev.pdev.msi.table[0] == index:
                chain = build_capability_chain(
                    [Capability(abi.VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, 1, b"")], _REGION.size
                )
    elif index == abi.VFIO_PCI_VGA_REGION_INDEX and vdev.has_vga:
        size, flags = VGA_SIZE, _READ_WRITE
    elif index == abi.VFIO_PCI_ROM_REGION_INDEX:
        size, flags = _rom(vdev)
    else:
        raise fail(errno.EINVAL)
    if chain:
        flags |= abi.VFIO_REGION_INFO_FLAG_CAPS
        cap_offset = 0
        if argsz < _REGION.size + len(chain):
            argsz = _REGION.size + len(chain)
        else:
            argument.write(_REGION.size, chain)
            cap_offset = _REGION.size
    argument.write(0, _REGION.pack(argsz, flags, index, cap_offset, size, index << OFFSET_SHIFT))
    return 0


def _rom(vdev: VfioPciDevice) -> tuple[int, int]:
    """Size and flags of the expansion ROM: there, if it has an image."""
    pdev = vdev.pdev
    with MemoryDecoding(pdev):
        if map_rom(pdev) is None:
            return 0, 0
        unmap_rom(pdev)
    return pdev.resources[ROM].size, abi.VFIO_REGION_INFO_FLAG_READ


def irq_info(vdev: VfioPciDevice, argument: Argument) -> int:
    """VFIO_DEVICE_GET_IRQ_INFO.  Raise OSError."""
    argsz, _, index, _ = _IRQ.unpack(argument.read(0, _IRQ.size))
    if argsz < _IRQ.size or index >= abi.VFIO_PCI_NUM_IRQS:
        raise fail(errno.EINVAL)
    if index == abi.VFIO_PCI_ERR_IRQ_INDEX and not vdev.interrupts.has_error:
        raise fail(errno.EINVAL)
    flags = abi.VFIO_IRQ_INFO_EVENTFD
    if index == abi.VFIO_PCI_INTX_IRQ_INDEX:
        flags |= abi.VFIO_IRQ_INFO_MASKABLE | abi.VFIO_IRQ_INFO_AUTOMASKED
    elif index != abi.VFIO_PCI_MSIX_IRQ_INDEX or not vdev.pdev.msi.can_grow:
        flags |= abi.VFIO_IRQ_INFO_NORESIZE
    count = vdev.interrupts.count(index, vdev.config)
    argument.write(0, _IRQ.pack(argsz, flags, index, count))
    return 0
