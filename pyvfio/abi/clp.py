"""``arch/s390/include/uapi/asm/clp.h``: ``/dev/clp``, by which a program of s390 calls the logical processor.

::

    byte  0          1        2                 4                 8
         +-+-+------+--------+-----------------+-----------------+--------------------+
         |C|R| lps  |  cmd   |      zeros      |      zeros      |      data_p        |
         +-+-+------+--------+-----------------+-----------------+--------------------+

C (0x80 of the first byte) makes an immediate command of it: `cmd` 0 asks whether the processor `lps` is there (an int
is stored at `data_p`), 1 for all of them (a mask of 64 bits).  Else `data_p` is a page with a request block and room
for its response (`pyvfio.zpci.clp`).  R must be zero.
"""

from __future__ import annotations

import struct
from typing import Final

from ioctl_opt import IOC, IOC_READ, IOC_WRITE

__all__ = ["CLP_IOCTL_MAGIC", "CLP_PAGE", "CLP_REQ", "CLP_SYNC", "IMMEDIATE", "LPS_BASE", "LPS_PCI", "RESERVED"]

#: ``struct clp_req``: the first byte, `cmd`, and `data_p` in the byte order of the process.
CLP_REQ: Final = struct.Struct("=BBHIQ")
CLP_IOCTL_MAGIC: Final = ord("c")
CLP_SYNC: Final = int(IOC(IOC_READ | IOC_WRITE, CLP_IOCTL_MAGIC, 0xC1, CLP_REQ.size))

IMMEDIATE: Final = 0x80
RESERVED: Final = 0x40
LPS_BASE: Final = 0
LPS_PCI: Final = 2

#: Bytes that the kernel copies from `data_p` and back: a page of s390.
CLP_PAGE: Final = 1 << 12
