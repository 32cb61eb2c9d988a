"""``include/uapi/linux/pci_regs.h``: capabilities whose registers only few read, and how long they are.

As of Linux 6.12.  The advanced features of conventional PCI (AF)::

          3              2              1              0
    00   | FLR 1 TP 0   | length = 6   | next         | id = 13      |
    04   |                             | TP 0         | FLR 0        |

Of the others there is what it takes to know their length:

==========================  ================================================================
AGP, PCI-X, HyperTransport  PCI-X has 24 bytes from version 1 on, HyperTransport depends on its kind
SATA                        with or without the index and data registers
power budgeting             16 bytes
resizable BARs              8 bytes for each, after the header
dynamic power allocation    one byte for each substate after 16
TPH                         two bytes for each steering tag, when they are in the capability
multicast, PRI              of an endpoint: 40 and 16 bytes
==========================  ================================================================
"""

PCI_AGP_SIZEOF = 12

PCI_X_CMD = 2
PCI_X_ECC_CSR = 8
PCI_CAP_PCIX_SIZEOF_V0 = 8
PCI_CAP_PCIX_SIZEOF_V2 = 24


def pci_x_cmd_version(command: int) -> int:
    """``PCI_X_CMD_VERSION()``: the version in the command register of PCI-X."""
    return command >> 12 & 3


HT_3BIT_CAP_MASK = 0xE0
HT_CAP_SIZEOF_LONG = 28
HT_CAP_SIZEOF_SHORT = 24

PCI_SATA_REGS = 4
PCI_SATA_REGS_MASK = 0xF
PCI_SATA_REGS_INLINE = 0xF
PCI_SATA_SIZEOF_SHORT = 8
PCI_SATA_SIZEOF_LONG = 16

PCI_AF_LENGTH = 2
PCI_AF_CAP = 3
PCI_AF_CAP_TP = 0x01
PCI_AF_CAP_FLR = 0x02
PCI_AF_CTRL = 4
PCI_AF_CTRL_FLR = 0x01
PCI_AF_STATUS = 5
PCI_AF_STATUS_TP = 0x01
PCI_CAP_AF_SIZEOF = 6

# ---- extended capabilities ---------------------------------------------------------------------------------------

PCI_PWR_DSR = 0x04
PCI_PWR_DATA = 0x08
PCI_PWR_CAP = 0x0C
PCI_EXT_CAP_PWR_SIZEOF = 0x10

PCI_REBAR_CTRL = 8
PCI_REBAR_CTRL_NBAR_MASK = 0x000000E0
PCI_REBAR_CTRL_NBAR_SHIFT = 5

PCI_DPA_CAP = 4
PCI_DPA_CAP_SUBSTATE_MASK = 0x1F
PCI_DPA_BASE_SIZEOF = 16

PCI_TPH_CAP = 4
PCI_TPH_CAP_LOC_MASK = 0x600
PCI_TPH_LOC_CAP = 0x200
PCI_TPH_CAP_ST_MASK = 0x07FF0000
PCI_TPH_CAP_ST_SHIFT = 16
PCI_TPH_BASE_SIZEOF = 0xC

PCI_EXT_CAP_MCAST_ENDPOINT_SIZEOF = 40
PCI_EXT_CAP_PRI_SIZEOF = 16


def pci_dvsec_header1_len(header: int) -> int:
    """``PCI_DVSEC_HEADER1_LEN()``: the length of a designated vendor's capability, from its second 32 bits."""
    return header >> 20 & 0xFFF
