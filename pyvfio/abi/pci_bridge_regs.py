"""``include/uapi/linux/pci_regs.h``: the header of a PCI-to-PCI bridge, and small capabilities that ports have.

Little-endian, offsets in bytes; inside a capability they count from its first byte.  As of Linux 6.12.  What the
header of type 1 has instead of base addresses 2 to 5::

          3              2              1              0
    18   | sec. latency | subordinate  | secondary    | primary bus  |
    1c   | secondary status            | I/O limit    | I/O base     |
    20   | memory limit                | memory base                 |
    24   | prefetchable limit          | prefetchable base           |
    28   | prefetchable base, upper 32 bits                          |
    2c   | prefetchable limit, upper 32 bits                         |
    30   | I/O limit, upper 16 bits    | I/O base, upper 16 bits     |
    34   | reserved                                   | capabilities |
    38   | expansion ROM address                                     |
    3c   | bridge control              | intr. pin    | intr. line   |

The base and limit of an I/O window are the top four bits of 16 (pages of 4 KiB), those of memory windows the top
twelve of 32 (1 MiB); the low four bits say how wide addresses are.
"""

# ---- header of type 1 ------------------------------------------------------------------------------------------------

PCI_PRIMARY_BUS = 0x18
PCI_SECONDARY_BUS = 0x19
PCI_SUBORDINATE_BUS = 0x1A
PCI_SEC_LATENCY_TIMER = 0x1B
PCI_IO_BASE = 0x1C
PCI_IO_LIMIT = 0x1D
PCI_IO_RANGE_TYPE_MASK = 0x0F
PCI_IO_RANGE_TYPE_16 = 0x00
PCI_IO_RANGE_TYPE_32 = 0x01
PCI_SEC_STATUS = 0x1E
PCI_MEMORY_BASE = 0x20
PCI_MEMORY_LIMIT = 0x22
PCI_MEMORY_RANGE_TYPE_MASK = 0x0F
PCI_PREF_MEMORY_BASE = 0x24
PCI_PREF_MEMORY_LIMIT = 0x26
PCI_PREF_RANGE_TYPE_MASK = 0x0F
PCI_PREF_RANGE_TYPE_32 = 0x00
PCI_PREF_RANGE_TYPE_64 = 0x01
PCI_PREF_BASE_UPPER32 = 0x28
PCI_PREF_LIMIT_UPPER32 = 0x2C
PCI_IO_BASE_UPPER16 = 0x30
PCI_IO_LIMIT_UPPER16 = 0x32
PCI_ROM_ADDRESS1 = 0x38
PCI_BRIDGE_CONTROL = 0x3E
PCI_BRIDGE_CTL_PARITY = 0x01
PCI_BRIDGE_CTL_SERR = 0x02
PCI_BRIDGE_CTL_ISA = 0x04
PCI_BRIDGE_CTL_VGA = 0x08
PCI_BRIDGE_CTL_MASTER_ABORT = 0x20
PCI_BRIDGE_CTL_BUS_RESET = 0x40
PCI_BRIDGE_CTL_FAST_BACK = 0x80

# ---- bridge subsystem id ---------------------------------------------------------------------------------------------

PCI_SSVID_VENDOR_ID = 4
PCI_SSVID_DEVICE_ID = 6

# ---- vital product data ----------------------------------------------------------------------------------------------

PCI_VPD_ADDR = 2
PCI_VPD_ADDR_MASK = 0x7FFF
PCI_VPD_ADDR_F = 0x8000
PCI_VPD_DATA = 4
PCI_CAP_VPD_SIZEOF = 8
