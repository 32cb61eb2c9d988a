"""``include/uapi/linux/vfio.h``: the sPAPR TCE IOMMU of POWER machines, and EEH.

Requests go to a container whose IOMMU is ``VFIO_SPAPR_TCE_IOMMU`` or ``VFIO_SPAPR_TCE_v2_IOMMU``.  Native byte
order; addresses and sizes are bytes.
"""

import ctypes
from enum import IntEnum
from typing import TYPE_CHECKING

from .layout import U32, U64, AbiStructure, structure
from .request import VFIO_BASE, VFIO_TYPE, request

VFIO_IOMMU_SPAPR_TCE_GET_INFO = request(VFIO_TYPE, VFIO_BASE + 12)
VFIO_IOMMU_SPAPR_REGISTER_MEMORY = request(VFIO_TYPE, VFIO_BASE + 17)
VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY = request(VFIO_TYPE, VFIO_BASE + 18)
VFIO_IOMMU_SPAPR_TCE_CREATE = request(VFIO_TYPE, VFIO_BASE + 19)
VFIO_IOMMU_SPAPR_TCE_REMOVE = request(VFIO_TYPE, VFIO_BASE + 20)
VFIO_EEH_PE_OP = request(VFIO_TYPE, VFIO_BASE + 21)

VFIO_IOMMU_SPAPR_INFO_DDW = 1 << 0


@structure("vfio_iommu_spapr_tce_ddw_info")
class IommuSpaprTceDdwInfo(AbiStructure):
    """What dynamic DMA windows can be: a bitmap of page sizes, the number of windows, the levels of a table."""

    pgsizes: U64
    max_dynamic_windows_supported: U32
    levels: U32


@structure("vfio_iommu_spapr_tce_info")
class IommuSpaprTceInfo(AbiStructure):
    """Answer of ``VFIO_IOMMU_SPAPR_TCE_GET_INFO``; `ddw` counts only with ``VFIO_IOMMU_SPAPR_INFO_DDW`` in `flags`."""

    argsz: U32
    flags: U32
    dma32_window_start: U32
    dma32_window_size: U32
    ddw: IommuSpaprTceDdwInfo


@structure("vfio_iommu_spapr_register_memory")
class IommuSpaprRegisterMemory(AbiStructure):
    """Argument of ``VFIO_IOMMU_SPAPR_REGISTER_MEMORY`` and ``_UNREGISTER_MEMORY``: process memory to pin."""

    argsz: U32
    flags: U32
    vaddr: U64
    size: U64


@structure("vfio_iommu_spapr_tce_create")
class IommuSpaprTceCreate(AbiStructure):
    """Argument of ``VFIO_IOMMU_SPAPR_TCE_CREATE``; `start_addr` is the answer, the window's bus address."""

    argsz: U32
    flags: U32
    page_shift: U32
    __resv1: U32
    window_size: U64
    levels: U32
    __resv2: U32
    start_addr: U64


@structure("vfio_iommu_spapr_tce_remove")
class IommuSpaprTceRemove(AbiStructure):
    """Argument of ``VFIO_IOMMU_SPAPR_TCE_REMOVE``: the window that begins at bus address `start_addr`."""

    argsz: U32
    flags: U32
    start_addr: U64


# ---- EEH ---------------------------------------------------------------------------------------------------------

VFIO_EEH_PE_DISABLE = 0
VFIO_EEH_PE_ENABLE = 1
VFIO_EEH_PE_UNFREEZE_IO = 2
VFIO_EEH_PE_UNFREEZE_DMA = 3
VFIO_EEH_PE_GET_STATE = 4
VFIO_EEH_PE_RESET_DEACTIVATE = 5
VFIO_EEH_PE_RESET_HOT = 6
VFIO_EEH_PE_RESET_FUNDAMENTAL = 7
VFIO_EEH_PE_CONFIGURE = 8
VFIO_EEH_PE_INJECT_ERR = 9

VFIO_EEH_PE_STATE_NORMAL = 0
VFIO_EEH_PE_STATE_RESET = 1
VFIO_EEH_PE_STATE_STOPPED = 2
VFIO_EEH_PE_STATE_STOPPED_DMA = 4
VFIO_EEH_PE_STATE_UNAVAIL = 5


class EehState(IntEnum):
    """``VFIO_EEH_PE_STATE_*``, the result of the operation GET_STATE."""

    NORMAL = VFIO_EEH_PE_STATE_NORMAL
    RESET = VFIO_EEH_PE_STATE_RESET
    STOPPED = VFIO_EEH_PE_STATE_STOPPED
    STOPPED_DMA = VFIO_EEH_PE_STATE_STOPPED_DMA
    UNAVAIL = VFIO_EEH_PE_STATE_UNAVAIL


@structure("vfio_eeh_pe_err")
class EehPeErr(AbiStructure):
    """An error to inject."""

    type: U32
    func: U32
    addr: U64
    mask: U64


class _EehArgument(ctypes.Union):
    _fields_ = [("err", EehPeErr)]


@structure("vfio_eeh_pe_op")
class EehPeOp(AbiStructure):
    """Argument of ``VFIO_EEH_PE_OP``: `op` is one of the operations, `err` belongs to INJECT_ERR."""

    _anonymous_ = ("argument",)
    argsz: U32
    flags: U32
    op: U32
    argument: _EehArgument
    if TYPE_CHECKING:

        @property
        def err(self) -> EehPeErr: ...
