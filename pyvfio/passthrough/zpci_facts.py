"""What CLP tells a guest of a function that it was given: from the host's capability chain, with defaults.

======  ==========================================  ===========================================================
chain   what it gives                               without it
======  ==========================================  ===========================================================
BASE    DMA addresses, PCHID, VFN, type, group,     the widest range that the host maps; zeros; group FF
        length of the measurement block
GROUP   limits and addresses of the group           128 interrupts, blocks of 128 bytes, 4 s, MSIs at FE00...00
UTIL    utility string                              none; nor of a string longer than 64 bytes
PFIP    internal path                               zeros; also for a path of more than 4 segments
======  ==========================================  ===========================================================

BARs are the device's own, UID and FID the guest's.  A group below F0 has other limits for a function whose instructions
the hypervisor intercepts, so the guest sees these in a group of their own, from F0 on (`SimulatedGroups`).

Sources: ``hw/s390x/s390-pci-vfio.c`` (which fact is whose, simulated groups) and ``s390-pci-bus.h`` (defaults) of QEMU;
``include/uapi/linux/vfio_zdev.h``.
"""

from __future__ import annotations

from typing import Final

from pyvfio.vfio.device import Device
from pyvfio.zpci.clp import FunctionResponse, GroupResponse
from pyvfio.zpci.facts import ZpciFacts

__all__ = ["DEFAULT_GROUP", "SimulatedGroups", "describe_function", "describe_group"]

DEFAULT_GROUP: Final = 0xFF
_FIRST_SIMULATED: Final = 0xF0
_MSI_ADDRESS: Final = 0xFE00000000000000
_STORE_BLOCK: Final = 128
_INTERRUPTS: Final = 128
_INTERVAL: Final = 4000
_REGION_THIRD: Final = 0x40
_PATH: Final = 4
_UTILITY: Final = 64


class SimulatedGroups:
    """The numbers that groups of the host have in a guest."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}

    def number(self, facts: ZpciFacts | None, *, interpreted: bool) -> int:
        """The group in the guest of a function with these facts."""
        if facts is None or facts.base is None or facts.group is None or facts.base.gid >= _FIRST_SIMULATED:
            return DEFAULT_GROUP
        if interpreted:
            return facts.base.gid
        free = _FIRST_SIMULATED + len(self._numbers)
        if facts.base.gid not in self._numbers and free == DEFAULT_GROUP:
            return DEFAULT_GROUP  # all are taken
        return self._numbers.setdefault(facts.base.gid, free)


def describe_function(
    device: Device, facts: ZpciFacts | None, *, uid: int, fid: int, group: int, bars: bytes, sizes: list[int]
) -> FunctionResponse:
    """The answer of QUERY PCI FUNCTION, with registers `bars` of `sizes` in bytes."""
    base = facts.base if facts is not None else None
    if base is not None:
        start, last = base.start_dma, base.end_dma
    else:
        widest = max(device.space.ranges(), key=lambda one: one.last - one.start)
        start, last = widest.start, widest.last
    utility = facts.util_raw if facts is not None and len(facts.util_raw) <= _UTILITY else b""
    path = facts.pfip if facts is not None and facts.pfip is not None and len(facts.pfip) <= _PATH else b""
    return FunctionResponse(
        vfn=base.vfn if base else 0,
        utility_available=int(bool(utility.strip(b"\0"))),
        pfgid=group,
        fid=fid,
        bar_sizes=bytes(size.bit_length() - 1 if size else 0 for size in sizes),
        pchid=base.pchid if base else 0,
        bars=bars,
        pfip=path.ljust(_PATH, b"\0"),
        fmb_length=base.fmb_length // 4 if base else 0,  # VFIO tells bytes, CLP words
        pft=base.pft if base else 0,
        sdma=start,
        edma=last,
        uid=uid,
        utility=utility.ljust(_UTILITY, b"\0"),
    )


def describe_group(facts: ZpciFacts | None, *, interpreted: bool) -> GroupResponse:
    """The answer of QUERY PCI FUNCTION GROUP.

    Store blocks are as long as the machine takes them when it interprets, else as the kernel does.
    """
    group = facts.group if facts is not None else None
    if group is None:
        return GroupResponse(
            noi=_INTERRUPTS, refresh=1, maxstbl=_STORE_BLOCK, mui=_INTERVAL, dtsm=_REGION_THIRD, msia=_MSI_ADDRESS
        )
    longest = group.imaxstbl if interpreted and group.imaxstbl is not None else min(group.maxstbl, _STORE_BLOCK)
    return GroupResponse(
        noi=group.noi,
        version=group.version,
        # Mappings follow refreshes, so a guest must refresh what becomes valid, too.
        refresh=1,
        maxstbl=longest,
        mui=group.mui,
        dtsm=_REGION_THIRD,
        dasm=group.dasm,
        msia=group.msi_addr,
    )
