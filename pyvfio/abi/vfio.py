"""``include/uapi/linux/vfio.h``: container, group, device, regions, interrupts and PCI reset.

All integers are in native byte order and all sizes and offsets are bytes.  A structure that begins with ``argsz``
is given by the caller with its size there; the kernel reads and writes no more than that.  The rest of the header is
in `vfio_type1`, `vfio_spapr`, `vfio_feature` and `vfio_gfx`.  As of Linux 6.12.

One request number has several names, and the kind of file tells them apart:

=========  ==============================  ====================================================================
base +     on a container                  on a device (or a group)
=========  ==============================  ====================================================================
12         ``IOMMU_GET_INFO``              ``DEVICE_GET_PCI_HOT_RESET_INFO``
13         ``IOMMU_MAP_DMA``               ``DEVICE_PCI_HOT_RESET``
14         ``IOMMU_UNMAP_DMA``             ``DEVICE_QUERY_GFX_PLANE``
15, 16     ``IOMMU_ENABLE``, ``DISABLE``   ``DEVICE_GET_GFX_DMABUF``, ``DEVICE_IOEVENTFD``
17         ``IOMMU_DIRTY_PAGES``           ``DEVICE_FEATURE``
=========  ==============================  ====================================================================

On a container with the sPAPR IOMMU, 12 and 17 to 21 have the names of `vfio_spapr`; 21 is also
``VFIO_MIG_GET_PRECOPY_INFO`` on a migration data file (`vfio_feature`).
"""

import ctypes
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Annotated

from .layout import S32, U8, U16, U32, U64, AbiStructure, ByteTail, InfoCapHeader, native_struct, structure
from .request import VFIO_BASE, VFIO_TYPE, request


def _request(number: int) -> int:
    return request(VFIO_TYPE, VFIO_BASE + number)


VFIO_API_VERSION = 0

# ---- container: /dev/vfio/vfio -----------------------------------------------------------------------------------

VFIO_GET_API_VERSION = _request(0)
VFIO_CHECK_EXTENSION = _request(1)
VFIO_SET_IOMMU = _request(2)

VFIO_TYPE1_IOMMU = 1
VFIO_SPAPR_TCE_IOMMU = 2
VFIO_TYPE1v2_IOMMU = 3
VFIO_DMA_CC_IOMMU = 4
VFIO_EEH = 5
VFIO_TYPE1_NESTING_IOMMU = 6
VFIO_SPAPR_TCE_v2_IOMMU = 7
VFIO_NOIOMMU_IOMMU = 8
VFIO_UNMAP_ALL = 9
VFIO_UPDATE_VADDR = 10


class Extension(IntEnum):
    """What ``VFIO_CHECK_EXTENSION`` can be asked; those with IOMMU in the name also go to ``VFIO_SET_IOMMU``."""

    TYPE1_IOMMU = VFIO_TYPE1_IOMMU
    SPAPR_TCE_IOMMU = VFIO_SPAPR_TCE_IOMMU
    TYPE1v2_IOMMU = VFIO_TYPE1v2_IOMMU
    DMA_CC_IOMMU = VFIO_DMA_CC_IOMMU
    EEH = VFIO_EEH
    TYPE1_NESTING_IOMMU = VFIO_TYPE1_NESTING_IOMMU
    SPAPR_TCE_v2_IOMMU = VFIO_SPAPR_TCE_v2_IOMMU
    NOIOMMU_IOMMU = VFIO_NOIOMMU_IOMMU
    UNMAP_ALL = VFIO_UNMAP_ALL
    UPDATE_VADDR = VFIO_UPDATE_VADDR


# ---- group: /dev/vfio/<number> -----------------------------------------------------------------------------------

VFIO_GROUP_GET_STATUS = _request(3)
VFIO_GROUP_SET_CONTAINER = _request(4)
VFIO_GROUP_UNSET_CONTAINER = _request(5)
VFIO_GROUP_GET_DEVICE_FD = _request(6)

VFIO_GROUP_FLAGS_VIABLE = 1 << 0
VFIO_GROUP_FLAGS_CONTAINER_SET = 1 << 1


class GroupFlags(IntFlag):
    """``VFIO_GROUP_FLAGS_*``."""

    VIABLE = VFIO_GROUP_FLAGS_VIABLE
    CONTAINER_SET = VFIO_GROUP_FLAGS_CONTAINER_SET


@structure("vfio_group_status")
class GroupStatus(AbiStructure):
    """Answer of ``VFIO_GROUP_GET_STATUS``; `flags` are `GroupFlags`."""

    argsz: U32
    flags: U32


# ---- device: information -----------------------------------------------------------------------------------------

VFIO_DEVICE_GET_INFO = _request(7)
VFIO_DEVICE_GET_REGION_INFO = _request(8)
VFIO_DEVICE_GET_IRQ_INFO = _request(9)
VFIO_DEVICE_SET_IRQS = _request(10)
VFIO_DEVICE_RESET = _request(11)
VFIO_DEVICE_GET_PCI_HOT_RESET_INFO = _request(12)
VFIO_DEVICE_PCI_HOT_RESET = _request(13)
VFIO_DEVICE_IOEVENTFD = _request(16)
VFIO_DEVICE_FEATURE = _request(17)
VFIO_DEVICE_BIND_IOMMUFD = _request(18)
VFIO_DEVICE_ATTACH_IOMMUFD_PT = _request(19)
VFIO_DEVICE_DETACH_IOMMUFD_PT = _request(20)

VFIO_DEVICE_FLAGS_RESET = 1 << 0
VFIO_DEVICE_FLAGS_PCI = 1 << 1
VFIO_DEVICE_FLAGS_PLATFORM = 1 << 2
VFIO_DEVICE_FLAGS_AMBA = 1 << 3
VFIO_DEVICE_FLAGS_CCW = 1 << 4
VFIO_DEVICE_FLAGS_AP = 1 << 5
VFIO_DEVICE_FLAGS_FSL_MC = 1 << 6
VFIO_DEVICE_FLAGS_CAPS = 1 << 7
VFIO_DEVICE_FLAGS_CDX = 1 << 8


class DeviceFlags(IntFlag):
    """``VFIO_DEVICE_FLAGS_*``: what kind of device it is, whether it has a reset and a capability chain."""

    RESET = VFIO_DEVICE_FLAGS_RESET
    PCI = VFIO_DEVICE_FLAGS_PCI
    PLATFORM = VFIO_DEVICE_FLAGS_PLATFORM
    AMBA = VFIO_DEVICE_FLAGS_AMBA
    CCW = VFIO_DEVICE_FLAGS_CCW
    AP = VFIO_DEVICE_FLAGS_AP
    FSL_MC = VFIO_DEVICE_FLAGS_FSL_MC
    CAPS = VFIO_DEVICE_FLAGS_CAPS
    CDX = VFIO_DEVICE_FLAGS_CDX


@structure("vfio_device_info")
class DeviceInfo(AbiStructure):
    """Answer of ``VFIO_DEVICE_GET_INFO``; 24 bytes, 20 in kernels before the field `pad`."""

    argsz: U32
    flags: U32
    num_regions: U32
    num_irqs: U32
    cap_offset: U32
    pad: U32


VFIO_DEVICE_API_PCI_STRING = "vfio-pci"
VFIO_DEVICE_API_PLATFORM_STRING = "vfio-platform"
VFIO_DEVICE_API_AMBA_STRING = "vfio-amba"
VFIO_DEVICE_API_CCW_STRING = "vfio-ccw"
VFIO_DEVICE_API_AP_STRING = "vfio-ap"

VFIO_DEVICE_INFO_CAP_ZPCI_BASE = 1
VFIO_DEVICE_INFO_CAP_ZPCI_GROUP = 2
VFIO_DEVICE_INFO_CAP_ZPCI_UTIL = 3
VFIO_DEVICE_INFO_CAP_ZPCI_PFIP = 4
VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP = 5

VFIO_PCI_ATOMIC_COMP32 = 1 << 0
VFIO_PCI_ATOMIC_COMP64 = 1 << 1
VFIO_PCI_ATOMIC_COMP128 = 1 << 2


@structure("vfio_device_info_cap_pci_atomic_comp")
class DeviceInfoCapPciAtomicComp(AbiStructure):
    """Capability of `DeviceInfo`: the AtomicOp widths which the path to the root completes."""

    header: InfoCapHeader
    flags: U32
    reserved: U32


# ---- device: regions ---------------------------------------------------------------------------------------------

VFIO_REGION_INFO_FLAG_READ = 1 << 0
VFIO_REGION_INFO_FLAG_WRITE = 1 << 1
VFIO_REGION_INFO_FLAG_MMAP = 1 << 2
VFIO_REGION_INFO_FLAG_CAPS = 1 << 3


class RegionFlags(IntFlag):
    """``VFIO_REGION_INFO_FLAG_*``."""

    READ = VFIO_REGION_INFO_FLAG_READ
    WRITE = VFIO_REGION_INFO_FLAG_WRITE
    MMAP = VFIO_REGION_INFO_FLAG_MMAP
    CAPS = VFIO_REGION_INFO_FLAG_CAPS


@structure("vfio_region_info")
class RegionInfo(AbiStructure):
    """Argument and answer of ``VFIO_DEVICE_GET_REGION_INFO``; `offset` is its place in the device's file."""

    argsz: U32
    flags: U32
    index: U32
    cap_offset: U32
    size: U64
    offset: U64


VFIO_REGION_INFO_CAP_SPARSE_MMAP = 1
VFIO_REGION_INFO_CAP_TYPE = 2
VFIO_REGION_INFO_CAP_MSIX_MAPPABLE = 3
VFIO_REGION_INFO_CAP_NVLINK2_SSATGT = 4
VFIO_REGION_INFO_CAP_NVLINK2_LNKSPD = 5


@structure("vfio_region_sparse_mmap_area")
class RegionSparseMmapArea(AbiStructure):
    """One part of a region that can be mapped; `offset` is from the start of the region."""

    offset: U64
    size: U64


@structure("vfio_region_info_cap_sparse_mmap")
class RegionInfoCapSparseMmap(AbiStructure):
    """Capability of `RegionInfo`: only the `nr_areas` areas behind it can be mapped."""

    header: InfoCapHeader
    nr_areas: U32
    reserved: U32
    areas: Annotated[ctypes.Array[RegionSparseMmapArea], RegionSparseMmapArea * 0]


@structure("vfio_region_info_cap_type")
class RegionInfoCapType(AbiStructure):
    """Capability of `RegionInfo`: what a region is, as ``VFIO_REGION_TYPE_*`` and ``_SUBTYPE_*``."""

    header: InfoCapHeader
    type: U32
    subtype: U32


@structure("vfio_region_info_cap_nvlink2_ssatgt")
class RegionInfoCapNvlink2Ssatgt(AbiStructure):
    """Capability of `RegionInfo` which kernels no longer give: the NVLink2 target address."""

    header: InfoCapHeader
    tgt: U64


@structure("vfio_region_info_cap_nvlink2_lnkspd")
class RegionInfoCapNvlink2Lnkspd(AbiStructure):
    """Capability of `RegionInfo` which kernels no longer give: the NVLink2 speed."""

    header: InfoCapHeader
    link_speed: U32
    __pad: U32


VFIO_REGION_TYPE_PCI_VENDOR_TYPE = 1 << 31
VFIO_REGION_TYPE_PCI_VENDOR_MASK = 0xFFFF
VFIO_REGION_TYPE_GFX = 1
VFIO_REGION_TYPE_CCW = 2
VFIO_REGION_TYPE_MIGRATION_DEPRECATED = 3

VFIO_REGION_SUBTYPE_INTEL_IGD_OPREGION = 1
VFIO_REGION_SUBTYPE_INTEL_IGD_HOST_CFG = 2
VFIO_REGION_SUBTYPE_INTEL_IGD_LPC_CFG = 3
VFIO_REGION_SUBTYPE_NVIDIA_NVLINK2_RAM = 1
VFIO_REGION_SUBTYPE_IBM_NVLINK2_ATSD = 1
VFIO_REGION_SUBTYPE_GFX_EDID = 1
VFIO_REGION_SUBTYPE_CCW_ASYNC_CMD = 1
VFIO_REGION_SUBTYPE_CCW_SCHIB = 2
VFIO_REGION_SUBTYPE_CCW_CRW = 3
VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED = 1

# ---- device: interrupts ------------------------------------------------------------------------------------------

VFIO_IRQ_INFO_EVENTFD = 1 << 0
VFIO_IRQ_INFO_MASKABLE = 1 << 1
VFIO_IRQ_INFO_AUTOMASKED = 1 << 2
VFIO_IRQ_INFO_NORESIZE = 1 << 3


class IrqInfoFlags(IntFlag):
    """``VFIO_IRQ_INFO_*``."""

    EVENTFD = VFIO_IRQ_INFO_EVENTFD
    MASKABLE = VFIO_IRQ_INFO_MASKABLE
    AUTOMASKED = VFIO_IRQ_INFO_AUTOMASKED
    NORESIZE = VFIO_IRQ_INFO_NORESIZE


@structure("vfio_irq_info")
class IrqInfo(AbiStructure):
    """Argument and answer of ``VFIO_DEVICE_GET_IRQ_INFO``; `count` is the number of vectors of this index."""

    argsz: U32
    flags: U32
    index: U32
    count: U32


VFIO_IRQ_SET_DATA_NONE = 1 << 0
VFIO_IRQ_SET_DATA_BOOL = 1 << 1
VFIO_IRQ_SET_DATA_EVENTFD = 1 << 2
VFIO_IRQ_SET_ACTION_MASK = 1 << 3
VFIO_IRQ_SET_ACTION_UNMASK = 1 << 4
VFIO_IRQ_SET_ACTION_TRIGGER = 1 << 5
VFIO_IRQ_SET_DATA_TYPE_MASK = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_DATA_EVENTFD
VFIO_IRQ_SET_ACTION_TYPE_MASK = VFIO_IRQ_SET_ACTION_MASK | VFIO_IRQ_SET_ACTION_UNMASK | VFIO_IRQ_SET_ACTION_TRIGGER


class IrqSetFlags(IntFlag):
    """``VFIO_IRQ_SET_*``: exactly one of the DATA flags and exactly one of the ACTION flags."""

    DATA_NONE = VFIO_IRQ_SET_DATA_NONE
    DATA_BOOL = VFIO_IRQ_SET_DATA_BOOL
    DATA_EVENTFD = VFIO_IRQ_SET_DATA_EVENTFD
    ACTION_MASK = VFIO_IRQ_SET_ACTION_MASK
    ACTION_UNMASK = VFIO_IRQ_SET_ACTION_UNMASK
    ACTION_TRIGGER = VFIO_IRQ_SET_ACTION_TRIGGER


@structure("vfio_irq_set")
class IrqSet(AbiStructure):
    """Argument of ``VFIO_DEVICE_SET_IRQS``.

    `data` has `count` elements: nothing (DATA_NONE), one byte each (DATA_BOOL), or one signed 32-bit descriptor each
    (DATA_EVENTFD, -1 takes an eventfd away); `argsz` counts them.
    """

    argsz: U32
    flags: U32
    index: U32
    start: U32
    count: U32
    data: ByteTail


# ---- devices: fixed indexes --------------------------------------------------------------------------------------

VFIO_PCI_BAR0_REGION_INDEX = 0
VFIO_PCI_BAR1_REGION_INDEX = 1
VFIO_PCI_BAR2_REGION_INDEX = 2
VFIO_PCI_BAR3_REGION_INDEX = 3
VFIO_PCI_BAR4_REGION_INDEX = 4
VFIO_PCI_BAR5_REGION_INDEX = 5
VFIO_PCI_ROM_REGION_INDEX = 6
VFIO_PCI_CONFIG_REGION_INDEX = 7
VFIO_PCI_VGA_REGION_INDEX = 8
VFIO_PCI_NUM_REGIONS = 9

VFIO_PCI_INTX_IRQ_INDEX = 0
VFIO_PCI_MSI_IRQ_INDEX = 1
VFIO_PCI_MSIX_IRQ_INDEX = 2
VFIO_PCI_ERR_IRQ_INDEX = 3
VFIO_PCI_REQ_IRQ_INDEX = 4
VFIO_PCI_NUM_IRQS = 5

VFIO_CCW_CONFIG_REGION_INDEX = 0
VFIO_CCW_NUM_REGIONS = 1

VFIO_CCW_IO_IRQ_INDEX = 0
VFIO_CCW_CRW_IRQ_INDEX = 1
VFIO_CCW_REQ_IRQ_INDEX = 2
VFIO_CCW_NUM_IRQS = 3

VFIO_AP_REQ_IRQ_INDEX = 0
VFIO_AP_NUM_IRQS = 1


class PciRegion(IntEnum):
    """The fixed region indexes of a PCI device."""

    BAR0 = VFIO_PCI_BAR0_REGION_INDEX
    BAR1 = VFIO_PCI_BAR1_REGION_INDEX
    BAR2 = VFIO_PCI_BAR2_REGION_INDEX
    BAR3 = VFIO_PCI_BAR3_REGION_INDEX
    BAR4 = VFIO_PCI_BAR4_REGION_INDEX
    BAR5 = VFIO_PCI_BAR5_REGION_INDEX
    ROM = VFIO_PCI_ROM_REGION_INDEX
    CONFIG = VFIO_PCI_CONFIG_REGION_INDEX
    VGA = VFIO_PCI_VGA_REGION_INDEX


class PciIrq(IntEnum):
    """The interrupt indexes of a PCI device."""

    INTX = VFIO_PCI_INTX_IRQ_INDEX
    MSI = VFIO_PCI_MSI_IRQ_INDEX
    MSIX = VFIO_PCI_MSIX_IRQ_INDEX
    ERR = VFIO_PCI_ERR_IRQ_INDEX
    REQ = VFIO_PCI_REQ_IRQ_INDEX


class CcwIrq(IntEnum):
    """The interrupt indexes of a channel device."""

    IO = VFIO_CCW_IO_IRQ_INDEX
    CRW = VFIO_CCW_CRW_IRQ_INDEX
    REQ = VFIO_CCW_REQ_IRQ_INDEX


# ---- PCI hot reset -----------------------------------------------------------------------------------------------

VFIO_PCI_DEVID_OWNED = 0
VFIO_PCI_DEVID_NOT_OWNED = 0xFFFFFFFF  # the header says -1, which a __u32 holds as this
VFIO_PCI_HOT_RESET_FLAG_DEV_ID = 1 << 0
VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED = 1 << 1


class _GroupOrDevice(ctypes.Union):
    _fields_ = [("group_id", ctypes.c_uint32), ("devid", ctypes.c_uint32)]


@structure("vfio_pci_dependent_device")
class PciDependentDevice(AbiStructure):
    """A device that a hot reset also resets; `devid` instead of `group_id` if the answer has FLAG_DEV_ID."""

    _anonymous_ = ("owner",)
    owner: _GroupOrDevice
    segment: U16
    bus: U8
    devfn: U8
    if TYPE_CHECKING:

        @property
        def group_id(self) -> int: ...
        @property
        def devid(self) -> int: ...


@structure("vfio_pci_hot_reset_info")
class PciHotResetInfo(AbiStructure):
    """Answer of ``VFIO_DEVICE_GET_PCI_HOT_RESET_INFO``: `count` devices, ENOSPC if `argsz` has no room for them."""

    argsz: U32
    flags: U32
    count: U32
    devices: Annotated[ctypes.Array[PciDependentDevice], PciDependentDevice * 0]


@structure("vfio_pci_hot_reset")
class PciHotReset(AbiStructure):
    """Argument of ``VFIO_DEVICE_PCI_HOT_RESET``; behind it `count` group descriptors (none with the cdev)."""

    argsz: U32
    flags: U32
    count: U32
    group_fds: Annotated[ctypes.Array[ctypes.c_int32], ctypes.c_int32 * 0]


# ---- eventfd for writes, features, iommufd -----------------------------------------------------------------------

VFIO_DEVICE_IOEVENTFD_8 = 1 << 0
VFIO_DEVICE_IOEVENTFD_16 = 1 << 1
VFIO_DEVICE_IOEVENTFD_32 = 1 << 2
VFIO_DEVICE_IOEVENTFD_64 = 1 << 3
VFIO_DEVICE_IOEVENTFD_SIZE_MASK = 0xF


@structure("vfio_device_ioeventfd")
class DeviceIoeventfd(AbiStructure):
    """Argument of ``VFIO_DEVICE_IOEVENTFD``: write `data` at `offset` of the device's file when `fd` is signalled."""

    argsz: U32
    flags: U32
    offset: U64
    data: U64
    fd: S32
    reserved: U32


VFIO_DEVICE_FEATURE_MASK = 0xFFFF
VFIO_DEVICE_FEATURE_GET = 1 << 16
VFIO_DEVICE_FEATURE_SET = 1 << 17
VFIO_DEVICE_FEATURE_PROBE = 1 << 18


@structure("vfio_device_feature")
class DeviceFeature(AbiStructure):
    """Argument of ``VFIO_DEVICE_FEATURE``; `data` is what `vfio_feature` has for the number in the low 16 bits."""

    argsz: U32
    flags: U32
    data: ByteTail


@structure("vfio_device_bind_iommufd")
class DeviceBindIommufd(AbiStructure):
    """Argument of ``VFIO_DEVICE_BIND_IOMMUFD``; `out_devid` is the device's object in iommufd."""

    argsz: U32
    flags: U32
    iommufd: S32
    out_devid: U32


@structure("vfio_device_attach_iommufd_pt")
class DeviceAttachIommufdPt(AbiStructure):
    """Argument of ``VFIO_DEVICE_ATTACH_IOMMUFD_PT``; `pt_id` is an IOAS or a HWPT, on return the HWPT."""

    argsz: U32
    flags: U32
    pt_id: U32


@structure("vfio_device_detach_iommufd_pt")
class DeviceDetachIommufdPt(AbiStructure):
    """Argument of ``VFIO_DEVICE_DETACH_IOMMUFD_PT``."""

    argsz: U32
    flags: U32


# ---- packing without ctypes, for what is called a hundred thousand times -----------------------------------------

PACK_REGION_INFO = native_struct(RegionInfo)
"""argsz, flags, index, cap_offset, size, offset"""
PACK_IRQ_SET = native_struct(IrqSet)
"""argsz, flags, index, start, count; the data follow"""
