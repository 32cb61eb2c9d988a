"""``include/uapi/linux/virtio_pci.h``: the registers of a virtio device on PCI, version 1 ("modern").

Registers and capability fields are little-endian whatever the process is; sizes and offsets are bytes.  As of Linux
6.12.  A capability of virtio is a vendor-specific one::

    00   | cfg type     | length       | next         | id = 9       |
    04   | padding                     | id           | BAR          |
    08   | offset in the BAR                                         |
    0c   | length of the structure                                   |
    10   | only NOTIFY: bytes from queue to queue;  only PCI: a window of four bytes into the BAR |

The common structure (``VIRTIO_PCI_COMMON_*``)::

    00   | device feature select                                     |
    04   | device feature (32 bits of them)                          |
    08   | driver feature select                                     |
    0c   | driver feature                                            |
    10   | number of queues            | vector of config changes    |
    14   | queue select                | generation   | status       |
    18   | queue's vector              | queue size                  |
    1c   | queue's notify offset       | queue enable                |
    20   | descriptors, 64 bits;  28 | driver ring;  30 | device ring |
    38   | queue reset                 | queue's notify data         |
"""

VIRTIO_PCI_CAP_COMMON_CFG = 1
VIRTIO_PCI_CAP_NOTIFY_CFG = 2
VIRTIO_PCI_CAP_ISR_CFG = 3
VIRTIO_PCI_CAP_DEVICE_CFG = 4
VIRTIO_PCI_CAP_PCI_CFG = 5

VIRTIO_PCI_CAP_LEN = 2
VIRTIO_PCI_CAP_CFG_TYPE = 3
VIRTIO_PCI_CAP_BAR = 4
VIRTIO_PCI_CAP_OFFSET = 8
VIRTIO_PCI_CAP_LENGTH = 12
VIRTIO_PCI_NOTIFY_CAP_MULT = 16

VIRTIO_PCI_COMMON_DFSELECT = 0
VIRTIO_PCI_COMMON_DF = 4
VIRTIO_PCI_COMMON_GFSELECT = 8
VIRTIO_PCI_COMMON_GF = 12
VIRTIO_PCI_COMMON_MSIX = 16
VIRTIO_PCI_COMMON_NUMQ = 18
VIRTIO_PCI_COMMON_STATUS = 20
VIRTIO_PCI_COMMON_CFGGENERATION = 21
VIRTIO_PCI_COMMON_Q_SELECT = 22
VIRTIO_PCI_COMMON_Q_SIZE = 24
VIRTIO_PCI_COMMON_Q_MSIX = 26
VIRTIO_PCI_COMMON_Q_ENABLE = 28
VIRTIO_PCI_COMMON_Q_NOFF = 30
VIRTIO_PCI_COMMON_Q_DESCLO = 32
VIRTIO_PCI_COMMON_Q_DESCHI = 36
VIRTIO_PCI_COMMON_Q_AVAILLO = 40
VIRTIO_PCI_COMMON_Q_AVAILHI = 44
VIRTIO_PCI_COMMON_Q_USEDLO = 48
VIRTIO_PCI_COMMON_Q_USEDHI = 52
VIRTIO_PCI_COMMON_Q_NDATA = 56
VIRTIO_PCI_COMMON_Q_RESET = 58
