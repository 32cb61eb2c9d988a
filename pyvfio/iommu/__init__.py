"""Address spaces behind one small table, IOVA allocation and DMA memory."""

from pyvfio.iommu.address_space import AddressSpace, IommuTable, IovaRange, Mapping
from pyvfio.iommu.allocator import IovaAllocator
from pyvfio.iommu.buffer import DmaBuffer
from pyvfio.iommu.dirty import DirtyBitmap, DirtyRange
from pyvfio.iommu.file_mapping import FileMapping
from pyvfio.iommu.iommufd import Iommufd

__all__ = [
    "AddressSpace",
    "DirtyBitmap",
    "DirtyRange",
    "DmaBuffer",
    "FileMapping",
    "IommuTable",
    "Iommufd",
    "IovaAllocator",
    "IovaRange",
    "Mapping",
]
