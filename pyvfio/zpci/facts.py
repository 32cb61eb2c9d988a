"""What VFIO tells of a zPCI function, in the capability chain of its device info.

A hypervisor answers its guest's CLP instructions from these facts.  Source: ``include/uapi/linux/vfio_zdev.h``,
``drivers/vfio/pci/vfio_pci_zdev.c``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_zdev as zdev
from pyvfio.abi.layout import AbiStructure, Capability

__all__ = ["ZpciBase", "ZpciFacts", "ZpciGroup"]

_EBCDIC: Final = "cp037"


def _before(cls: type[AbiStructure], name: str) -> int:
    """Bytes of a capability of version 1, which ends before the field that version 2 added."""
    return int(getattr(cls, name).offset)


_BASE_V1: Final = _before(zdev.DeviceInfoCapZpciBase, "fh")
_GROUP_V1: Final = _before(zdev.DeviceInfoCapZpciGroup, "imaxstbl")


@dataclass(frozen=True, slots=True)
class ZpciBase:
    """The function.  `start_dma` to `end_dma` are the DMA addresses (inclusive); `fh` is None in version 1."""

    start_dma: int
    end_dma: int
    pchid: int
    vfn: int
    fmb_length: int
    pft: int
    gid: int
    fh: int | None


@dataclass(frozen=True, slots=True)
class ZpciGroup:
    """The function's group.

    `dasm` is the DMA address-space mask, `msi_addr` where MSIs go, `noi` the number of interrupts, `mui` the
    measurement update interval, `maxstbl` and `imaxstbl` the longest block stores in bytes (`imaxstbl`: None in version
    1), `refresh` says that the DMA tables need a refresh instruction.
    """

    dasm: int
    msi_addr: int
    refresh: bool
    mui: int
    noi: int
    maxstbl: int
    version: int
    imaxstbl: int | None


@dataclass(frozen=True, slots=True)
class ZpciFacts:
    """All facts of a function; what the kernel does not give is None.

    `util` is the utility string as text (decoded from EBCDIC code page 037), `util_raw` as it came, `pfip` the
    PCI function internal path.
    """

    base: ZpciBase | None
    group: ZpciGroup | None
    util: str | None
    util_raw: bytes
    pfip: bytes | None

    @classmethod
    def from_capabilities(cls, capabilities: Sequence[Capability]) -> Self | None:
        """Read them from a device-info chain; None when it has none.  Raise `MalformedAnswer` for a short one."""
        by_id = {capability.id: capability for capability in capabilities}
        base = by_id.get(abi.VFIO_DEVICE_INFO_CAP_ZPCI_BASE)
        group = by_id.get(abi.VFIO_DEVICE_INFO_CAP_ZPCI_GROUP)
        util = by_id.get(abi.VFIO_DEVICE_INFO_CAP_ZPCI_UTIL)
        pfip = by_id.get(abi.VFIO_DEVICE_INFO_CAP_ZPCI_PFIP)
        if not (base or group or util or pfip):
            return None
        raw = b""
        if util is not None:
            raw = util.trailing_bytes(zdev.DeviceInfoCapZpciUtil, util.read(zdev.DeviceInfoCapZpciUtil).size)
        path = None
        if pfip is not None:
            path = pfip.trailing_bytes(zdev.DeviceInfoCapZpciPfip, pfip.read(zdev.DeviceInfoCapZpciPfip).size)
        return cls(
            base=None if base is None else _base(base),
            group=None if group is None else _group(group),
            util=None if util is None else raw.decode(_EBCDIC).rstrip("\0 "),
            util_raw=raw,
            pfip=path,
        )


def _base(capability: Capability) -> ZpciBase:
    found = capability.read(zdev.DeviceInfoCapZpciBase, minimum=_BASE_V1)
    return ZpciBase(
        start_dma=int(found.start_dma),
        end_dma=int(found.end_dma),
        pchid=int(found.pchid),
        vfn=int(found.vfn),
        fmb_length=int(found.fmb_length),
        pft=int(found.pft),
        gid=int(found.gid),
        fh=int(found.fh) if capability.version > 1 else None,
    )


def _group(capability: Capability) -> ZpciGroup:
    found = capability.read(zdev.DeviceInfoCapZpciGroup, minimum=_GROUP_V1)
    return ZpciGroup(
        dasm=int(found.dasm),
        msi_addr=int(found.msi_addr),
        refresh=bool(found.flags & zdev.VFIO_DEVICE_INFO_ZPCI_FLAG_REFRESH),
        mui=int(found.mui),
        noi=int(found.noi),
        maxstbl=int(found.maxstbl),
        version=int(found.version),
        imaxstbl=int(found.imaxstbl) if capability.version > 1 else None,
    )
