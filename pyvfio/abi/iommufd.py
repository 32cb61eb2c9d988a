"""``include/uapi/linux/iommufd.h``: address spaces, mappings and page tables of ``/dev/iommu``.

Each argument begins with its own size; the kernel takes a longer one if what it does not know is zero (E2BIG else),
and a shorter one as far as its first version reaches (EINVAL else).  Native byte order; addresses, lengths and page
sizes are bytes; ``*_uptr``, ``user_va``, ``allowed_iovas`` and ``data`` are addresses in the process.  Linux 6.12.
"""

import ctypes
from enum import IntFlag
from typing import Annotated

from .layout import U8, U16, U32, U64, AbiStructure, structure
from .request import request

IOMMUFD_TYPE = ord(";")

IOMMUFD_CMD_BASE = 0x80
IOMMUFD_CMD_DESTROY = 0x80
IOMMUFD_CMD_IOAS_ALLOC = 0x81
IOMMUFD_CMD_IOAS_ALLOW_IOVAS = 0x82
IOMMUFD_CMD_IOAS_COPY = 0x83
IOMMUFD_CMD_IOAS_IOVA_RANGES = 0x84
IOMMUFD_CMD_IOAS_MAP = 0x85
IOMMUFD_CMD_IOAS_UNMAP = 0x86
IOMMUFD_CMD_OPTION = 0x87
IOMMUFD_CMD_VFIO_IOAS = 0x88
IOMMUFD_CMD_HWPT_ALLOC = 0x89
IOMMUFD_CMD_GET_HW_INFO = 0x8A
IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING = 0x8B
IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP = 0x8C
IOMMUFD_CMD_HWPT_INVALIDATE = 0x8D
IOMMUFD_CMD_FAULT_QUEUE_ALLOC = 0x8E

IOMMU_DESTROY = request(IOMMUFD_TYPE, IOMMUFD_CMD_DESTROY)
IOMMU_IOAS_ALLOC = request(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_ALLOC)
IOMMU_IOAS_ALLOW_IOVAS = request(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_ALLOW_IOVAS)
IOMMU_IOAS_COPY = request(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_COPY)
IOMMU_IOAS_IOVA_RANGES = request(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_IOVA_RANGES)
IOMMU_IOAS_MAP = request(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_MAP)
IOMMU_IOAS_UNMAP = request(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_UNMAP)
IOMMU_OPTION = request(IOMMUFD_TYPE, IOMMUFD_CMD_OPTION)
IOMMU_VFIO_IOAS = request(IOMMUFD_TYPE, IOMMUFD_CMD_VFIO_IOAS)
IOMMU_HWPT_ALLOC = request(IOMMUFD_TYPE, IOMMUFD_CMD_HWPT_ALLOC)
IOMMU_GET_HW_INFO = request(IOMMUFD_TYPE, IOMMUFD_CMD_GET_HW_INFO)
IOMMU_HWPT_SET_DIRTY_TRACKING = request(IOMMUFD_TYPE, IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING)
IOMMU_HWPT_GET_DIRTY_BITMAP = request(IOMMUFD_TYPE, IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP)
IOMMU_HWPT_INVALIDATE = request(IOMMUFD_TYPE, IOMMUFD_CMD_HWPT_INVALIDATE)
IOMMU_FAULT_QUEUE_ALLOC = request(IOMMUFD_TYPE, IOMMUFD_CMD_FAULT_QUEUE_ALLOC)

# ---- objects and address spaces ----------------------------------------------------------------------------------


@structure("iommu_destroy")
class Destroy(AbiStructure):
    """Argument of ``IOMMU_DESTROY``: any object by its number."""

    size: U32
    id: U32


@structure("iommu_ioas_alloc")
class IoasAlloc(AbiStructure):
    """Argument of ``IOMMU_IOAS_ALLOC``; the answer is `out_ioas_id`."""

    size: U32
    flags: U32
    out_ioas_id: U32


@structure("iommu_iova_range")
class IovaRange(AbiStructure):
    """Addresses from `start` to `last`, both included."""

    start: U64
    last: U64


@structure("iommu_ioas_iova_ranges")
class IoasIovaRanges(AbiStructure):
    """Argument of ``IOMMU_IOAS_IOVA_RANGES``; `allowed_iovas` points to `num_iovas` `IovaRange` (EMSGSIZE: too few)."""

    size: U32
    ioas_id: U32
    num_iovas: U32
    __reserved: U32
    allowed_iovas: U64
    out_iova_alignment: U64


@structure("iommu_ioas_allow_iovas")
class IoasAllowIovas(AbiStructure):
    """Argument of ``IOMMU_IOAS_ALLOW_IOVAS``: ranges that attaching a device must not take away."""

    size: U32
    ioas_id: U32
    num_iovas: U32
    __reserved: U32
    allowed_iovas: U64


IOMMU_IOAS_MAP_FIXED_IOVA = 1 << 0
IOMMU_IOAS_MAP_WRITEABLE = 1 << 1
IOMMU_IOAS_MAP_READABLE = 1 << 2


class IoasMapFlags(IntFlag):
    """``IOMMU_IOAS_MAP_*``: without FIXED_IOVA the kernel chooses the address; the others say what a device may do."""

    FIXED_IOVA = IOMMU_IOAS_MAP_FIXED_IOVA
    WRITEABLE = IOMMU_IOAS_MAP_WRITEABLE
    READABLE = IOMMU_IOAS_MAP_READABLE


@structure("iommu_ioas_map")
class IoasMap(AbiStructure):
    """Argument of ``IOMMU_IOAS_MAP``; `iova` is the answer unless FIXED_IOVA is set."""

    size: U32
    flags: U32
    ioas_id: U32
    __reserved: U32
    user_va: U64
    length: U64
    iova: U64


@structure("iommu_ioas_copy")
class IoasCopy(AbiStructure):
    """Argument of ``IOMMU_IOAS_COPY``: a mapping of one address space into another."""

    size: U32
    flags: U32
    dst_ioas_id: U32
    src_ioas_id: U32
    length: U64
    dst_iova: U64
    src_iova: U64


@structure("iommu_ioas_unmap")
class IoasUnmap(AbiStructure):
    """Argument of ``IOMMU_IOAS_UNMAP``; on return `length` is what was unmapped.  0 and 2**64-1 unmap all."""

    size: U32
    ioas_id: U32
    iova: U64
    length: U64


IOMMU_OPTION_RLIMIT_MODE = 0
IOMMU_OPTION_HUGE_PAGES = 1
IOMMU_OPTION_OP_SET = 0
IOMMU_OPTION_OP_GET = 1


@structure("iommu_option")
class Option(AbiStructure):
    """Argument of ``IOMMU_OPTION``; `object_id` is 0 for RLIMIT_MODE and an IOAS for HUGE_PAGES."""

    size: U32
    option_id: U32
    op: U16
    __reserved: U16
    object_id: U32
    val64: U64


IOMMU_VFIO_IOAS_GET = 0
IOMMU_VFIO_IOAS_SET = 1
IOMMU_VFIO_IOAS_CLEAR = 2


@structure("iommu_vfio_ioas")
class VfioIoas(AbiStructure):
    """Argument of ``IOMMU_VFIO_IOAS``: the address space which the VFIO container requests on this file work on."""

    size: U32
    ioas_id: U32
    op: U16
    __reserved: U16


# ---- hardware page tables ----------------------------------------------------------------------------------------

IOMMU_HWPT_ALLOC_NEST_PARENT = 1 << 0
IOMMU_HWPT_ALLOC_DIRTY_TRACKING = 1 << 1
IOMMU_HWPT_FAULT_ID_VALID = 1 << 2

IOMMU_HWPT_DATA_NONE = 0
IOMMU_HWPT_DATA_VTD_S1 = 1

IOMMU_VTD_S1_SRE = 1 << 0
IOMMU_VTD_S1_EAFE = 1 << 1
IOMMU_VTD_S1_WPE = 1 << 2


@structure("iommu_hwpt_vtd_s1")
class HwptVtdS1(AbiStructure):
    """Data of ``IOMMU_HWPT_DATA_VTD_S1``: a first-stage table of Intel VT-d."""

    flags: U64
    pgtbl_addr: U64
    addr_width: U32
    __reserved: U32


@structure("iommu_hwpt_alloc")
class HwptAlloc(AbiStructure):
    """Argument of ``IOMMU_HWPT_ALLOC``: a page table for device `dev_id` on IOAS or parent `pt_id`."""

    size: U32
    flags: U32
    dev_id: U32
    pt_id: U32
    out_hwpt_id: U32
    __reserved: U32
    data_type: U32
    data_len: U32
    data_uptr: U64
    fault_id: U32
    __reserved2: U32


IOMMU_HW_INFO_TYPE_NONE = 0
IOMMU_HW_INFO_TYPE_INTEL_VTD = 1
IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17 = 1 << 0
IOMMU_HW_CAP_DIRTY_TRACKING = 1 << 0
IOMMU_HW_CAP_PCI_PASID_EXEC = 1 << 1
IOMMU_HW_CAP_PCI_PASID_PRIV = 1 << 2


@structure("iommu_hw_info_vtd")
class HwInfoVtd(AbiStructure):
    """Data of ``IOMMU_HW_INFO_TYPE_INTEL_VTD``: the IOMMU's capability registers."""

    flags: U32
    __reserved: U32
    cap_reg: U64
    ecap_reg: U64


@structure("iommu_hw_info")
class HwInfo(AbiStructure):
    """Argument of ``IOMMU_GET_HW_INFO``; `out_capabilities` are ``IOMMU_HW_CAP_*``."""

    size: U32
    flags: U32
    dev_id: U32
    data_len: U32
    data_uptr: U64
    out_data_type: U32
    out_max_pasid_log2: U8
    __reserved: Annotated[ctypes.Array[ctypes.c_uint8], ctypes.c_uint8 * 3]
    out_capabilities: U64


IOMMU_HWPT_DIRTY_TRACKING_ENABLE = 1
IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR = 1


@structure("iommu_hwpt_set_dirty_tracking")
class HwptSetDirtyTracking(AbiStructure):
    """Argument of ``IOMMU_HWPT_SET_DIRTY_TRACKING``."""

    size: U32
    flags: U32
    hwpt_id: U32
    __reserved: U32


@structure("iommu_hwpt_get_dirty_bitmap")
class HwptGetDirtyBitmap(AbiStructure):
    """Argument of ``IOMMU_HWPT_GET_DIRTY_BITMAP``; `data` points to one bit per page of the range."""

    size: U32
    hwpt_id: U32
    flags: U32
    __reserved: U32
    iova: U64
    length: U64
    page_size: U64
    data: U64


IOMMU_HWPT_INVALIDATE_DATA_VTD_S1 = 0
IOMMU_VTD_INV_FLAGS_LEAF = 1 << 0


@structure("iommu_hwpt_vtd_s1_invalidate")
class HwptVtdS1Invalidate(AbiStructure):
    """One entry of ``IOMMU_HWPT_INVALIDATE_DATA_VTD_S1``."""

    addr: U64
    npages: U64
    flags: U32
    __reserved: U32


@structure("iommu_hwpt_invalidate")
class HwptInvalidate(AbiStructure):
    """Argument of ``IOMMU_HWPT_INVALIDATE``; on return `entry_num` is how many entries were done."""

    size: U32
    hwpt_id: U32
    data_uptr: U64
    data_type: U32
    entry_len: U32
    entry_num: U32
    __reserved: U32


# ---- page faults -------------------------------------------------------------------------------------------------

IOMMU_PGFAULT_FLAGS_PASID_VALID = 1 << 0
IOMMU_PGFAULT_FLAGS_LAST_PAGE = 1 << 1
IOMMU_PGFAULT_PERM_READ = 1 << 0
IOMMU_PGFAULT_PERM_WRITE = 1 << 1
IOMMU_PGFAULT_PERM_EXEC = 1 << 2
IOMMU_PGFAULT_PERM_PRIV = 1 << 3
IOMMUFD_PAGE_RESP_SUCCESS = 0
IOMMUFD_PAGE_RESP_INVALID = 1


@structure("iommu_hwpt_pgfault")
class HwptPgfault(AbiStructure):
    """What is read from a fault queue's file."""

    flags: U32
    dev_id: U32
    pasid: U32
    grpid: U32
    perm: U32
    __reserved: U32
    addr: U64
    length: U32
    cookie: U32


@structure("iommu_hwpt_page_response")
class HwptPageResponse(AbiStructure):
    """What is written to a fault queue's file; `code` is one of ``IOMMUFD_PAGE_RESP_*``."""

    cookie: U32
    code: U32


@structure("iommu_fault_alloc")
class FaultAlloc(AbiStructure):
    """Argument of ``IOMMU_FAULT_QUEUE_ALLOC``; the answers are an object and a file descriptor."""

    size: U32
    flags: U32
    out_fault_id: U32
    out_fault_fd: U32
