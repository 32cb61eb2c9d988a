"""The generations of host bridges: how many endpoints, segments and windows they have, and what they can do.

=========  =====  =============  ====================  =========  ==========================  ====================
bridge     PEs    M32, I/O       M64 windows           messages   DMA window chosen by        errors to inject
=========  =====  =============  ====================  =========  ==========================  ====================
P7IOC      128    128, 128       16 of 8 segments      256        address (256 MiB each)      all
PHB3       256    256, none      16 of 256             2,040      endpoint and address bit 59 memory, config, DMA
PHB4       512    512, none      32 of 512             4,088      endpoint and address bit 59 config
PHB4 (x4)  256    256, none      16 of 256             2,040      endpoint and address bit 59 config
=========  =====  =============  ====================  =========  ==========================  ====================

Sources: ``hw/phb3.c`` and ``hw/phb4.c`` of skiboot, ``hw/pci-host/pnv_phb4.c`` of QEMU; of P7IOC, ``p7ioc`` in older
versions of both and Linux's ``pci-ioda.c`` before 6.8.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from pyvfio.abi.opal_diag import (
    OPAL_PHB_ERROR_DATA_TYPE_P7IOC,
    OPAL_PHB_ERROR_DATA_TYPE_PHB3,
    OPAL_PHB_ERROR_DATA_TYPE_PHB4,
)

__all__ = ["MODELS", "P7IOC", "PHB3", "PHB4", "PHB4_SMALL", "Injectable", "PhbModel"]

_K4, _K64, _M2, _M16, _M256, _G1 = 12, 16, 21, 24, 28, 30


class Injectable(Enum):
    """What an injected error can strike."""

    CONFIG = "configuration space"
    MEMORY = "memory"
    IO = "I/O"
    DMA = "DMA"


@dataclass(frozen=True, slots=True)
class PhbModel:
    """A generation.

    `segments` are those of the 32-bit window and (with `has_io`) of the I/O window; `m64_segments` those of each of the
    64-bit windows `first_m64` up to `m64_windows`.  `segment_map`: segments of 64-bit windows can be given to any
    endpoint, else segment n is endpoint n's, or the whole window is one's.  `page_shifts` of TCEs.  `slice_shift`: DMA
    windows are slices of so many bits of addresses, each of one endpoint; None: every endpoint has two of its own.
    `freezes_config`: configuration accesses to a frozen endpoint go nowhere, as loads and stores do; of later bridges
    they get through (``eeh_powernv_init`` of Linux).
    `keeps_power_states`: firmware does not pass on what is written to the power management of functions right behind
    the root port, so they stay in D0 (``phb4_pcicfg_no_dstate`` of skiboot).
    The last endpoint is the `reserved` one, of all that has none.
    """

    name: str
    diagnosis: int
    endpoints: int
    has_io: bool
    first_m64: int
    m64_windows: int
    m64_segments: int
    segment_map: bool
    messages: int
    page_shifts: tuple[int, ...]
    injectable: frozenset[Injectable]
    slice_shift: int | None = None
    freezes_config: bool = False
    keeps_power_states: bool = False

    @property
    def segments(self) -> int:
        """Segments of the 32-bit window: one for each endpoint."""
        return self.endpoints

    @property
    def reserved(self) -> int:
        """The endpoint of routing ids that nobody gave one."""
        return self.endpoints - 1

    @property
    def page_sizes(self) -> int:
        """The sizes of pages of DMA windows, one bit each."""
        return sum(1 << shift for shift in self.page_shifts)

    @property
    def dma_windows(self) -> int:
        """How many DMA windows there are in all."""
        return self.endpoints if self.slice_shift is not None else 2 * self.endpoints


P7IOC: Final = PhbModel(
    "P7IOC",
    OPAL_PHB_ERROR_DATA_TYPE_P7IOC,
    endpoints=128,
    has_io=True,
    first_m64=0,
    m64_windows=16,
    m64_segments=8,
    segment_map=True,
    messages=256,
    page_shifts=(_K4, _K64, _M16),
    injectable=frozenset(Injectable),
    slice_shift=28,
    freezes_config=True,
)
PHB3: Final = PhbModel(
    "PHB3",
    OPAL_PHB_ERROR_DATA_TYPE_PHB3,
    endpoints=256,
    has_io=False,
    first_m64=0,
    m64_windows=16,
    m64_segments=256,
    segment_map=False,
    messages=2040,
    page_shifts=(_K4, _K64, _M16, _M256),
    injectable=frozenset({Injectable.CONFIG, Injectable.MEMORY, Injectable.DMA}),
)
PHB4: Final = PhbModel(
    "PHB4",
    OPAL_PHB_ERROR_DATA_TYPE_PHB4,
    endpoints=512,
    has_io=False,
    first_m64=1,
    m64_windows=32,
    m64_segments=512,
    segment_map=False,
    messages=4088,
    page_shifts=(_K4, _K64, _M2, _G1),
    injectable=frozenset({Injectable.CONFIG}),
    keeps_power_states=True,
)
PHB4_SMALL: Final = replace(PHB4, name="PHB4 (small)", endpoints=256, m64_windows=16, m64_segments=256, messages=2040)
MODELS: Final = {one.name: one for one in (P7IOC, PHB3, PHB4, PHB4_SMALL)}
"""By name."""
