"""``include/uapi/linux/iommufd.h`` after Linux 6.12: told apart because an older kernel refuses it.

6.13 maps ranges of a memory file (``memfd_create``, tmpfs, huge pages) without an address of the program; 6.19 takes a
dma-buf of a VFIO device's memory in the same call.  A kernel before that answers ENOTTY.
"""

from .iommufd import IOMMUFD_TYPE
from .layout import S32, U32, U64, AbiStructure, structure
from .request import request

__all__ = ["IOMMUFD_CMD_IOAS_MAP_FILE", "IOMMU_IOAS_MAP_FILE", "IoasMapFile"]

IOMMUFD_CMD_IOAS_MAP_FILE = 0x8F
IOMMU_IOAS_MAP_FILE = request(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_MAP_FILE)


@structure("iommu_ioas_map_file")
class IoasMapFile(AbiStructure):
    """Argument of ``IOMMU_IOAS_MAP_FILE``: `length` bytes from `start` of the file `fd`; the rest as of `IoasMap`."""

    size: U32
    flags: U32
    ioas_id: U32
    fd: S32
    start: U64
    length: U64
    iova: U64
