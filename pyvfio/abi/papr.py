"""``arch/powerpc/include/asm/hvcall.h``, ``rtas.h``: what a guest of POWER's hypervisor calls for its PCI devices.

Return codes of the hypervisor's calls and of RTAS, and the bits that name sizes of pages in the calls for dynamic DMA
windows.  Not an interface to programs; the software machine uses it.  As of Linux 6.12; the bits are those of
``query_page_size_to_mask`` (``platforms/pseries/iommu.c``).  Specification: Linux on Power Architecture Reference
(LoPAR), 14.5.4.2 (H_PUT_TCE) and 7.4 (ibm,query-pe-dma-window and the others).
"""

from typing import Final

# what a call of the hypervisor returns

H_SUCCESS = 0
H_PARAMETER = -4

# what a call of RTAS returns

RTAS_SUCCESS = 0
RTAS_HARDWARE_ERROR = -1
RTAS_INVALID_PARAMETER = -3

PAGE_SHIFTS: Final = (12, 16, 24, 25, 26, 27, 28, 34, 21)
"""The sizes of pages, by the bit that stands for each: 4 KiB is bit 0, and 2 MiB the last one."""
