"""``arch/powerpc/include/asm/opal-api.h``: the PCI part of OPAL, the firmware of POWER machines without a hypervisor.

What Linux (``platforms/powernv``) and the firmware agree on: return codes, windows, freeze states, resets, errors.
Not an interface to programs; `pyvfio.ioda` and the software machine use it.  As of Linux 6.12.  `opal_diag` has the
structures of the error log.
"""

from enum import IntEnum, IntFlag

# what a call returns: 0, one of these, or (`pci_reset`, `pci_poll`) milliseconds to wait

OPAL_SUCCESS = 0
OPAL_PARAMETER = -1
OPAL_BUSY = -2
OPAL_PARTIAL = -3
OPAL_CLOSED = -5
OPAL_HARDWARE = -6
OPAL_UNSUPPORTED = -7
OPAL_PERMISSION = -8
OPAL_NO_MEM = -9
OPAL_RESOURCE = -10
OPAL_INTERNAL_ERROR = -11
OPAL_HARDWARE_FROZEN = -13
OPAL_WRONG_STATE = -14
OPAL_EMPTY = -16


class OpalFreezeState(IntEnum):
    """``enum OpalFreezeState``: what of an endpoint is stopped."""

    NOT_FROZEN = 0
    MMIO_FREEZE = 1
    DMA_FREEZE = 2
    MMIO_DMA_FREEZE = 3
    RESET = 4
    TEMP_UNAVAIL = 5
    PERM_UNAVAIL = 6


class OpalFreezeAction(IntFlag):
    """``enum OpalEehFreezeActionToken``: what to freeze or to clear."""

    MMIO = 1
    DMA = 2
    ALL = 3


class OpalErrorType(IntEnum):
    """``enum OpalPciStatusToken``: what an error is about."""

    NO_ERROR = 0
    IOC_ERROR = 1
    PHB_ERROR = 2
    PE_ERROR = 3
    PE_MMIO_ERROR = 4
    PE_DMA_ERROR = 5


class OpalSeverity(IntEnum):
    """``enum OpalPciErrorSeverity``."""

    NO_ERROR = 0
    IOC_DEAD = 1
    PHB_DEAD = 2
    PHB_FENCED = 3
    PE_ER = 4
    INF = 5


class OpalWindow(IntEnum):
    """``enum OpalMmioWindowType``: the outbound windows."""

    M32 = 1
    M64 = 2
    IO = 3


class OpalBusCompare(IntEnum):
    """``enum OpalPciBusCompare``: how many bits of a bus number count; n + 1 bits for n."""

    ANY = 0
    BITS_3 = 2
    BITS_4 = 3
    BITS_5 = 4
    BITS_6 = 5
    BITS_7 = 6
    ALL = 7


class OpalM64Action(IntEnum):
    """``enum OpalM64Action``: a 64-bit window is off, split into segments, or of one endpoint."""

    DISABLE = 0
    SPLIT = 1
    NON_SPLIT = 2


class OpalReset(IntEnum):
    """``enum OpalPciResetScope``."""

    PHB_COMPLETE = 1
    PCI_LINK = 2
    PHB_ERROR = 3
    PCI_HOT = 4
    PCI_FUNDAMENTAL = 5
    PCI_IODA_TABLE = 6


class OpalTceKill(IntEnum):
    """What ``opal_pci_tce_kill`` makes the hardware forget."""

    PAGES = 0
    PE = 1
    ALL = 2


OPAL_UNMAP_PE = 0
OPAL_MAP_PE = 1
OPAL_REMOVE_PE_FROM_DOMAIN = 0
OPAL_ADD_PE_TO_DOMAIN = 1
OPAL_DEASSERT_RESET = 0
OPAL_ASSERT_RESET = 1
OPAL_EVENT_PCI_ERROR = 0x200
OPAL_SLOT_ID_PREFIX = 1 << 63
"""In the id of a slot that is not the host bridge's own: ``prefix | routing id << 16 | host bridge``."""
