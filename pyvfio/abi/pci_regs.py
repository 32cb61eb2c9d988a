"""``include/uapi/linux/pci_regs.h``: what pyvfio uses of PCI configuration space.

Configuration space is little-endian whatever the process is; offsets and sizes are bytes.  Offsets inside a
capability count from its first byte.  As of Linux 6.12.  The header of type 0::

          3              2              1              0
    00   | device id                   | vendor id                   |
    04   | status                      | command                     |
    08   | class        | subclass     | prog. intf.  | revision     |
    0c   | BIST         | header type  | latency      | cache line   |
    10   | base address 0                                            |
     :                                                               :
    24   | base address 5                                            |
    28   | CardBus CIS pointer                                       |
    2c   | subsystem id                | subsystem vendor id         |
    30   | expansion ROM address                                     |
    34   | reserved                                   | capabilities |
    38   | reserved                                                  |
    3c   | max. latency | min. grant   | intr. pin    | intr. line   |

The MSI-X capability, and an entry of the table that it points to::

    00   | E M ... table size - 1      | next         | id = 11      |     00  | message address     |
    04   | table offset, 8-aligned                        | BAR (3)  |     04  | upper address       |
    08   | pending bits offset, 8-aligned                 | BAR (3)  |     08  | message data        |
                                                                          0c  | ... M (masked)      |

The SR-IOV extended capability, at or after 100::

          3              2              1              0
    00   | next (12)     ver. | id = 0010                            |
    04   | capabilities                                              |
    08   | status                      | control: VFE 0, MSE 3, ARI 4|
    0c   | total VFs                   | initial VFs                 |
    10   | reserved     | dep. link    | number of VFs               |
    14   | VF stride                   | first VF offset             |
    18   | VF device id                | reserved                    |
    1c   | supported page sizes                                      |
    20   | system page size                                          |
    24   | base addresses 0 to 5 of the VFs                          |
    3c   | VF migration state array                                  |

The extended capability of access control services (ACS), at or after 100::

          3              2              1              0
    00   | next (12)     ver. | id = 000d                            |
    04   | control: DT 6 ... SV 0      | egr. vector size | DT 6..SV 0 |
    08   | egress control vector ...                                 |
"""

from enum import IntEnum, IntFlag

PCI_CFG_SPACE_SIZE = 0x100
PCI_CFG_SPACE_EXP_SIZE = 0x1000
PCI_STD_HEADER_SIZEOF = 64
PCI_STD_NUM_BARS = 6

# ---- header of type 0 --------------------------------------------------------------------------------------------

PCI_VENDOR_ID = 0x00
PCI_DEVICE_ID = 0x02
PCI_COMMAND = 0x04
PCI_STATUS = 0x06
PCI_CLASS_REVISION = 0x08
PCI_REVISION_ID = 0x08
PCI_CLASS_PROG = 0x09
PCI_CLASS_DEVICE = 0x0A
PCI_CACHE_LINE_SIZE = 0x0C
PCI_LATENCY_TIMER = 0x0D
PCI_HEADER_TYPE = 0x0E
PCI_BIST = 0x0F
PCI_BASE_ADDRESS_0 = 0x10
PCI_BASE_ADDRESS_1 = 0x14
PCI_BASE_ADDRESS_2 = 0x18
PCI_BASE_ADDRESS_3 = 0x1C
PCI_BASE_ADDRESS_4 = 0x20
PCI_BASE_ADDRESS_5 = 0x24
PCI_CARDBUS_CIS = 0x28
PCI_SUBSYSTEM_VENDOR_ID = 0x2C
PCI_SUBSYSTEM_ID = 0x2E
PCI_ROM_ADDRESS = 0x30
PCI_CAPABILITY_LIST = 0x34
PCI_INTERRUPT_LINE = 0x3C
PCI_INTERRUPT_PIN = 0x3D
PCI_MIN_GNT = 0x3E
PCI_MAX_LAT = 0x3F

PCI_COMMAND_IO = 0x1
PCI_COMMAND_MEMORY = 0x2
PCI_COMMAND_MASTER = 0x4
PCI_COMMAND_SPECIAL = 0x8
PCI_COMMAND_INVALIDATE = 0x10
PCI_COMMAND_VGA_PALETTE = 0x20
PCI_COMMAND_PARITY = 0x40
PCI_COMMAND_WAIT = 0x80
PCI_COMMAND_SERR = 0x100
PCI_COMMAND_FAST_BACK = 0x200
PCI_COMMAND_INTX_DISABLE = 0x400


class Command(IntFlag):
    """Bits of the command register."""

    IO = PCI_COMMAND_IO
    MEMORY = PCI_COMMAND_MEMORY
    MASTER = PCI_COMMAND_MASTER
    SPECIAL = PCI_COMMAND_SPECIAL
    INVALIDATE = PCI_COMMAND_INVALIDATE
    VGA_PALETTE = PCI_COMMAND_VGA_PALETTE
    PARITY = PCI_COMMAND_PARITY
    WAIT = PCI_COMMAND_WAIT
    SERR = PCI_COMMAND_SERR
    FAST_BACK = PCI_COMMAND_FAST_BACK
    INTX_DISABLE = PCI_COMMAND_INTX_DISABLE


PCI_STATUS_IMM_READY = 0x01
PCI_STATUS_INTERRUPT = 0x08
PCI_STATUS_CAP_LIST = 0x10
PCI_STATUS_66MHZ = 0x20
PCI_STATUS_UDF = 0x40
PCI_STATUS_FAST_BACK = 0x80
PCI_STATUS_PARITY = 0x100
PCI_STATUS_DEVSEL_MASK = 0x600
PCI_STATUS_DEVSEL_FAST = 0x000
PCI_STATUS_DEVSEL_MEDIUM = 0x200
PCI_STATUS_DEVSEL_SLOW = 0x400
PCI_STATUS_SIG_TARGET_ABORT = 0x800
PCI_STATUS_REC_TARGET_ABORT = 0x1000
PCI_STATUS_REC_MASTER_ABORT = 0x2000
PCI_STATUS_SIG_SYSTEM_ERROR = 0x4000
PCI_STATUS_DETECTED_PARITY = 0x8000


class Status(IntFlag):
    """Bits of the status register; DEVSEL is a field of two bits and left out."""

    IMM_READY = PCI_STATUS_IMM_READY
    INTERRUPT = PCI_STATUS_INTERRUPT
    CAP_LIST = PCI_STATUS_CAP_LIST
    MHZ66 = PCI_STATUS_66MHZ
    UDF = PCI_STATUS_UDF
    FAST_BACK = PCI_STATUS_FAST_BACK
    PARITY = PCI_STATUS_PARITY
    SIG_TARGET_ABORT = PCI_STATUS_SIG_TARGET_ABORT
    REC_TARGET_ABORT = PCI_STATUS_REC_TARGET_ABORT
    REC_MASTER_ABORT = PCI_STATUS_REC_MASTER_ABORT
    SIG_SYSTEM_ERROR = PCI_STATUS_SIG_SYSTEM_ERROR
    DETECTED_PARITY = PCI_STATUS_DETECTED_PARITY


PCI_HEADER_TYPE_MASK = 0x7F
PCI_HEADER_TYPE_NORMAL = 0
PCI_HEADER_TYPE_BRIDGE = 1
PCI_HEADER_TYPE_CARDBUS = 2
PCI_HEADER_TYPE_MFD = 0x80


def is_silent(header: bytes) -> bool:
    """Whether the first bytes of configuration space are what a function without power answers: ones everywhere.

    Vendor and device alone do not tell, a virtual function has ones there.
    """
    return header[PCI_HEADER_TYPE] == 0xFF


PCI_BIST_CODE_MASK = 0x0F
PCI_BIST_START = 0x40
PCI_BIST_CAPABLE = 0x80

PCI_BASE_ADDRESS_SPACE = 0x01
PCI_BASE_ADDRESS_SPACE_IO = 0x01
PCI_BASE_ADDRESS_SPACE_MEMORY = 0x00
PCI_BASE_ADDRESS_MEM_TYPE_MASK = 0x06
PCI_BASE_ADDRESS_MEM_TYPE_32 = 0x00
PCI_BASE_ADDRESS_MEM_TYPE_1M = 0x02
PCI_BASE_ADDRESS_MEM_TYPE_64 = 0x04
PCI_BASE_ADDRESS_MEM_PREFETCH = 0x08
PCI_BASE_ADDRESS_MEM_MASK = 0xFFFFFFFFFFFFFFF0
PCI_BASE_ADDRESS_IO_MASK = 0xFFFFFFFFFFFFFFFC

PCI_ROM_ADDRESS_ENABLE = 0x01
PCI_ROM_ADDRESS_MASK = 0xFFFFF800

# ---- capabilities ------------------------------------------------------------------------------------------------

PCI_CAP_LIST_ID = 0
PCI_CAP_LIST_NEXT = 1
PCI_CAP_FLAGS = 2
PCI_CAP_SIZEOF = 4

PCI_CAP_ID_PM = 0x01
PCI_CAP_ID_AGP = 0x02
PCI_CAP_ID_VPD = 0x03
PCI_CAP_ID_SLOTID = 0x04
PCI_CAP_ID_MSI = 0x05
PCI_CAP_ID_CHSWP = 0x06
PCI_CAP_ID_PCIX = 0x07
PCI_CAP_ID_HT = 0x08
PCI_CAP_ID_VNDR = 0x09
PCI_CAP_ID_DBG = 0x0A
PCI_CAP_ID_CCRC = 0x0B
PCI_CAP_ID_SHPC = 0x0C
PCI_CAP_ID_SSVID = 0x0D
PCI_CAP_ID_AGP3 = 0x0E
PCI_CAP_ID_SECDEV = 0x0F
PCI_CAP_ID_EXP = 0x10
PCI_CAP_ID_MSIX = 0x11
PCI_CAP_ID_SATA = 0x12
PCI_CAP_ID_AF = 0x13
PCI_CAP_ID_EA = 0x14


class CapabilityId(IntEnum):
    """The id byte of a capability."""

    PM = PCI_CAP_ID_PM
    AGP = PCI_CAP_ID_AGP
    VPD = PCI_CAP_ID_VPD
    SLOTID = PCI_CAP_ID_SLOTID
    MSI = PCI_CAP_ID_MSI
    CHSWP = PCI_CAP_ID_CHSWP
    PCIX = PCI_CAP_ID_PCIX
    HT = PCI_CAP_ID_HT
    VNDR = PCI_CAP_ID_VNDR
    DBG = PCI_CAP_ID_DBG
    CCRC = PCI_CAP_ID_CCRC
    SHPC = PCI_CAP_ID_SHPC
    SSVID = PCI_CAP_ID_SSVID
    AGP3 = PCI_CAP_ID_AGP3
    SECDEV = PCI_CAP_ID_SECDEV
    EXP = PCI_CAP_ID_EXP
    MSIX = PCI_CAP_ID_MSIX
    SATA = PCI_CAP_ID_SATA
    AF = PCI_CAP_ID_AF
    EA = PCI_CAP_ID_EA


# ---- power management --------------------------------------------------------------------------------------------

PCI_PM_PMC = 2
PCI_PM_CAP_VER_MASK = 0x0007
PCI_PM_CAP_PME_CLOCK = 0x0008
PCI_PM_CAP_DSI = 0x0020
PCI_PM_CAP_AUX_POWER = 0x01C0
PCI_PM_CAP_D1 = 0x0200
PCI_PM_CAP_D2 = 0x0400
PCI_PM_CAP_PME = 0x0800
PCI_PM_CAP_PME_MASK = 0xF800
PCI_PM_CAP_PME_D0 = 0x0800
PCI_PM_CAP_PME_D1 = 0x1000
PCI_PM_CAP_PME_D2 = 0x2000
PCI_PM_CAP_PME_D3hot = 0x4000
PCI_PM_CAP_PME_D3cold = 0x8000
PCI_PM_CAP_PME_SHIFT = 11
PCI_PM_CTRL = 4
PCI_PM_CTRL_STATE_MASK = 0x0003
PCI_PM_CTRL_NO_SOFT_RESET = 0x0008
PCI_PM_CTRL_PME_ENABLE = 0x0100
PCI_PM_CTRL_DATA_SEL_MASK = 0x1E00
PCI_PM_CTRL_DATA_SCALE_MASK = 0x6000
PCI_PM_CTRL_PME_STATUS = 0x8000
PCI_PM_DATA_REGISTER = 7
PCI_PM_PPB_EXTENSIONS = 6
PCI_PM_SIZEOF = 8

# ---- MSI and MSI-X -----------------------------------------------------------------------------------------------

PCI_MSI_FLAGS = 0x02
PCI_MSI_FLAGS_ENABLE = 0x0001
PCI_MSI_FLAGS_QMASK = 0x000E
PCI_MSI_FLAGS_QSIZE = 0x0070
PCI_MSI_FLAGS_64BIT = 0x0080
PCI_MSI_FLAGS_MASKBIT = 0x0100
PCI_MSI_ADDRESS_LO = 0x04
PCI_MSI_ADDRESS_HI = 0x08
PCI_MSI_DATA_32 = 0x08
PCI_MSI_MASK_32 = 0x0C
PCI_MSI_PENDING_32 = 0x10
PCI_MSI_DATA_64 = 0x0C
PCI_MSI_MASK_64 = 0x10
PCI_MSI_PENDING_64 = 0x14

PCI_MSIX_FLAGS = 2
PCI_MSIX_FLAGS_QSIZE = 0x07FF
PCI_MSIX_FLAGS_MASKALL = 0x4000
PCI_MSIX_FLAGS_ENABLE = 0x8000
PCI_MSIX_TABLE = 4
PCI_MSIX_TABLE_BIR = 0x00000007
PCI_MSIX_TABLE_OFFSET = 0xFFFFFFF8
PCI_MSIX_PBA = 8
PCI_MSIX_PBA_BIR = 0x00000007
PCI_MSIX_PBA_OFFSET = 0xFFFFFFF8
PCI_CAP_MSIX_SIZEOF = 12
PCI_MSIX_ENTRY_SIZE = 16
PCI_MSIX_ENTRY_LOWER_ADDR = 0x0
PCI_MSIX_ENTRY_UPPER_ADDR = 0x4
PCI_MSIX_ENTRY_DATA = 0x8
PCI_MSIX_ENTRY_VECTOR_CTRL = 0xC
PCI_MSIX_ENTRY_CTRL_MASKBIT = 0x00000001

# ---- PCI Express -------------------------------------------------------------------------------------------------

PCI_EXP_FLAGS = 0x02
PCI_EXP_FLAGS_VERS = 0x000F
PCI_EXP_FLAGS_TYPE = 0x00F0
PCI_EXP_TYPE_ENDPOINT = 0x0
PCI_EXP_TYPE_LEG_END = 0x1
PCI_EXP_TYPE_ROOT_PORT = 0x4
PCI_EXP_TYPE_UPSTREAM = 0x5
PCI_EXP_TYPE_DOWNSTREAM = 0x6
PCI_EXP_TYPE_PCI_BRIDGE = 0x7
PCI_EXP_TYPE_PCIE_BRIDGE = 0x8
PCI_EXP_TYPE_RC_END = 0x9
PCI_EXP_TYPE_RC_EC = 0xA


class ExpressType(IntEnum):
    """What a PCI Express function is: `PCI_EXP_FLAGS_TYPE` of its flags, four bits to the right."""

    ENDPOINT = PCI_EXP_TYPE_ENDPOINT
    LEG_END = PCI_EXP_TYPE_LEG_END
    ROOT_PORT = PCI_EXP_TYPE_ROOT_PORT
    UPSTREAM = PCI_EXP_TYPE_UPSTREAM
    DOWNSTREAM = PCI_EXP_TYPE_DOWNSTREAM
    PCI_BRIDGE = PCI_EXP_TYPE_PCI_BRIDGE
    PCIE_BRIDGE = PCI_EXP_TYPE_PCIE_BRIDGE
    RC_END = PCI_EXP_TYPE_RC_END
    RC_EC = PCI_EXP_TYPE_RC_EC


def pci_exp_type(flags: int) -> int:
    """``pci_pcie_type()``: the type in the flags of a PCI Express function, a value of `ExpressType`."""
    return (flags & PCI_EXP_FLAGS_TYPE) >> 4


PCI_EXP_FLAGS_SLOT = 0x0100
PCI_EXP_FLAGS_IRQ = 0x3E00

PCI_EXP_DEVCAP = 0x04
PCI_EXP_DEVCAP_PAYLOAD = 0x00000007
PCI_EXP_DEVCAP_PHANTOM = 0x00000018
PCI_EXP_DEVCAP_EXT_TAG = 0x00000020
PCI_EXP_DEVCAP_L0S = 0x000001C0
PCI_EXP_DEVCAP_L1 = 0x00000E00
PCI_EXP_DEVCAP_ATN_BUT = 0x00001000
PCI_EXP_DEVCAP_ATN_IND = 0x00002000
PCI_EXP_DEVCAP_PWR_IND = 0x00004000
PCI_EXP_DEVCAP_RBER = 0x00008000
PCI_EXP_DEVCAP_PWR_VAL = 0x03FC0000
PCI_EXP_DEVCAP_PWR_SCL = 0x0C000000
PCI_EXP_DEVCAP_FLR = 0x10000000

PCI_EXP_DEVCTL = 0x08
PCI_EXP_DEVCTL_CERE = 0x0001
PCI_EXP_DEVCTL_NFERE = 0x0002
PCI_EXP_DEVCTL_FERE = 0x0004
PCI_EXP_DEVCTL_URRE = 0x0008
PCI_EXP_DEVCTL_RELAX_EN = 0x0010
PCI_EXP_DEVCTL_PAYLOAD = 0x00E0
PCI_EXP_DEVCTL_EXT_TAG = 0x0100
PCI_EXP_DEVCTL_PHANTOM = 0x0200
PCI_EXP_DEVCTL_AUX_PME = 0x0400
PCI_EXP_DEVCTL_NOSNOOP_EN = 0x0800
PCI_EXP_DEVCTL_READRQ = 0x7000
PCI_EXP_DEVCTL_BCR_FLR = 0x8000

PCI_EXP_DEVSTA = 0x0A
PCI_EXP_DEVSTA_CED = 0x0001
PCI_EXP_DEVSTA_NFED = 0x0002
PCI_EXP_DEVSTA_FED = 0x0004
PCI_EXP_DEVSTA_URD = 0x0008
PCI_EXP_DEVSTA_AUXPD = 0x0010
PCI_EXP_DEVSTA_TRPND = 0x0020

PCI_EXP_LNKCAP = 0x0C
PCI_EXP_LNKCAP_SLS = 0x0000000F
PCI_EXP_LNKCAP_MLW = 0x000003F0
PCI_EXP_LNKSTA = 0x12
PCI_EXP_LNKSTA_CLS = 0x000F
PCI_EXP_LNKSTA_NLW = 0x03F0
PCI_EXP_DEVCTL2 = 0x28
PCI_EXP_DEVCTL2_ARI = 0x0020
PCI_EXP_LNKCAP2 = 0x2C

PCI_CAP_EXP_RC_ENDPOINT_SIZEOF_V1 = 12
PCI_CAP_EXP_ENDPOINT_SIZEOF_V1 = 20
PCI_CAP_EXP_RC_ENDPOINT_SIZEOF_V2 = 0x2C
PCI_CAP_EXP_ENDPOINT_SIZEOF_V2 = 0x34

# ---- extended capabilities ---------------------------------------------------------------------------------------


def pci_ext_cap_id(header: int) -> int:
    """``PCI_EXT_CAP_ID()``: the id in the first 32 bits of an extended capability."""
    return header & 0x0000FFFF


def pci_ext_cap_next(header: int) -> int:
    """``PCI_EXT_CAP_NEXT()``: the offset of the next extended capability, 0 when there is none."""
    return header >> 20 & 0xFFC


# ---- SR-IOV, an extended capability ------------------------------------------------------------------------------

PCI_EXT_CAP_ID_SRIOV = 0x10
PCI_SRIOV_CAP = 0x04
PCI_SRIOV_CAP_VFM = 0x00000001
PCI_SRIOV_CTRL = 0x08
PCI_SRIOV_CTRL_VFE = 0x0001
PCI_SRIOV_CTRL_MSE = 0x0008
PCI_SRIOV_CTRL_ARI = 0x0010
PCI_SRIOV_STATUS = 0x0A
PCI_SRIOV_INITIAL_VF = 0x0C
PCI_SRIOV_TOTAL_VF = 0x0E
PCI_SRIOV_NUM_VF = 0x10
PCI_SRIOV_FUNC_LINK = 0x12
PCI_SRIOV_VF_OFFSET = 0x14
PCI_SRIOV_VF_STRIDE = 0x16
PCI_SRIOV_VF_DID = 0x1A
PCI_SRIOV_SUP_PGSIZE = 0x1C
PCI_SRIOV_SYS_PGSIZE = 0x20
PCI_SRIOV_BAR = 0x24
PCI_SRIOV_NUM_BARS = 6
PCI_EXT_CAP_SRIOV_SIZEOF = 0x40

# ---- access control services, an extended capability ------------------------------------------------------------

PCI_EXT_CAP_ID_ACS = 0x0D
PCI_ACS_CAP = 0x04
PCI_ACS_SV = 0x0001
PCI_ACS_TB = 0x0002
PCI_ACS_RR = 0x0004
PCI_ACS_CR = 0x0008
PCI_ACS_UF = 0x0010
PCI_ACS_EC = 0x0020
PCI_ACS_DT = 0x0040
PCI_ACS_EGRESS_BITS = 0x05
PCI_ACS_CTRL = 0x06
PCI_ACS_EGRESS_CTL_V = 0x08


class AcsBits(IntFlag):
    """Bits of the ACS capability register (what the function has) and of its control register (what is on).

    SV source validation, TB translation blocking, RR request redirect, CR completion redirect, UF upstream forwarding,
    EC egress control, DT direct translated peer-to-peer.
    """

    SV = PCI_ACS_SV
    TB = PCI_ACS_TB
    RR = PCI_ACS_RR
    CR = PCI_ACS_CR
    UF = PCI_ACS_UF
    EC = PCI_ACS_EC
    DT = PCI_ACS_DT
