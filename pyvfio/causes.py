"""From evidence to cause: pure functions, one per reason why the kernel refuses.

Each takes what was found out (never the host itself) and returns a `Cause`: a sentence on why, in the user's words,
and the next step.  An empty sentence means that the evidence does not explain the refusal.  Who gathers the evidence
also knows that the errno fits.
"""

from __future__ import annotations

import stat as _stat
from collections.abc import Collection, Sequence
from typing import NamedTuple

from pyvfio.backend import Holder

__all__ = [
    "Cause",
    "bind_refused",
    "busy",
    "entry_limit",
    "firmware_memory",
    "map_invalid",
    "memlock",
    "no_driver",
    "no_vfio",
    "not_permitted",
    "not_viable",
    "tce_group",
    "tce_large_pages",
    "tce_window",
    "tce_window_of_groups",
]

_TOP = 1 << 64


class Cause(NamedTuple):
    """Why (`sentence`) and what to do (`next_step`); both may be empty."""

    sentence: str = ""
    next_step: str = ""


def busy(node: str, holders: Sequence[Holder]) -> Cause:
    """EBUSY on opening `node`: only one program may have a group, a bound device or a device file."""
    if not holders:
        return Cause(f"{node} is in use, by a process which this user cannot see", "look again as root")
    who = ", ".join(map(str, holders))
    return Cause(f"{node} is open in {who}", "close it there; a group can be open only once")


def not_permitted(node: str, mode: int, uid: int, gid: int) -> Cause:
    """EACCES or EPERM on `node`, which has this `mode` (as ``st_mode``), owner and group."""
    return Cause(
        f"{node} belongs to uid {uid}, gid {gid}, mode {_stat.S_IMODE(mode):04o}",
        "run as its owner, or have the owner give access to your user or group"
        + (" (pyvfio grant DEV --user NAME, as root)" if node.startswith(("/dev/vfio/", "/dev/iommu")) else ""),
    )


def no_vfio(path: str, modules: Collection[str], directory: bool) -> Cause:
    """ENOENT on a node below ``/dev/vfio``: what is missing (`modules` are the loaded ones)."""
    if path == "/dev/iommu":
        if "iommufd" not in modules:
            return Cause("the module iommufd is not loaded, or this kernel has no iommufd", "modprobe iommufd")
        return Cause("iommufd is there, but its node is not", "look at udev, or give the node to this container")
    if "vfio" not in modules:
        return Cause(
            "the module vfio is not loaded, or this kernel has no VFIO",
            "modprobe vfio-pci (PCI) or modprobe vfio_ccw (channel devices)",
        )
    if not directory:
        return Cause("VFIO is there, but /dev/vfio is not", "look at udev, or give /dev/vfio to this container")
    if path == "/dev/vfio/vfio":
        return Cause("this kernel has no VFIO container", 'take way="iommufd"')
    return Cause("no VFIO driver has a device of this group", "bind the device to a VFIO driver first (pyvfio bind)")


def map_invalid(
    iova: int,
    length: int,
    address: int,
    *,
    granule: int,
    ranges: Sequence[tuple[int, int]],
    permitted: bool = True,
    source: str = "process address",
) -> Cause:
    """EINVAL or EOVERFLOW on a DMA mapping: which rule it broke.  `ranges` are inclusive; all numbers are bytes.

    `source` is what `address` is: one of this process, or an offset in a file ("file offset").
    """
    if length <= 0:
        return Cause("the length is zero")
    if not permitted:
        return Cause("the device may neither read nor write it", "ask for read, write or both")
    for name, value in (("IOVA", iova), ("length", length), (source, address)):
        if value % granule:
            return Cause(
                f"the {name} {value:#x} is no multiple of the smallest page {granule:#x}",
                f"align IOVA, length and {source.split()[-1]} to {granule:#x}",
            )
    last = iova + length - 1
    if last >= _TOP or address + length > _TOP:
        return Cause("the range goes past the end of the address space")
    if ranges and not any(start <= iova and last <= end for start, end in ranges):
        words = ", ".join(f"{start:#x}-{end:#x}" for start, end in ranges)
        return Cause(
            f"IOVA {iova:#x}-{last:#x} is not inside what this IOMMU can map: {words}",
            "leave the IOVA out to have one chosen",
        )
    return Cause()


def entry_limit(mapped: int) -> Cause:
    """ENOSPC on a DMA mapping: the container's number of mappings (module parameter ``dma_entry_limit``).

    `mapped` are those of this program, which need not be all.
    """
    return Cause(
        f"no DMA mapping is left: {mapped} are in use here",
        "map fewer and larger ranges, or raise vfio_iommu_type1.dma_entry_limit",
    )


def memlock(need: int, limit: int, locked: int) -> Cause:
    """ENOMEM on a DMA mapping of `need` bytes with `locked` bytes locked already; `limit` -1 means none."""
    if limit < 0 or locked + need <= limit:
        return Cause()
    return Cause(
        f"{need} bytes are to be locked, {locked} are, and the limit is {limit} (RLIMIT_MEMLOCK)",
        "raise it with ulimit -l, or with LimitMEMLOCK= of the service",
    )


def tce_window(size: int, limit: int) -> Cause:
    """ENOMEM when the IOMMU of version 1 of POWER is enabled: all of its window of `size` bytes counts as locked."""
    return Cause(
        f"version 1 of the TCE IOMMU counts its whole window as locked memory, {size} bytes, and the limit is {limit}"
        " (RLIMIT_MEMLOCK)",
        'way="tcev2", which counts what is mapped; or ulimit -l, or LimitMEMLOCK= of the service',
    )


def tce_group(number: int, errno_name: str, kind: str, groups: int) -> Cause:
    """A group that a container with the TCE IOMMU `kind` does not take, which has so many `groups` already.

    EBUSY: version 1 has one; EPERM: its tables cannot be those of the others; EINVAL: it can have no tables made.
    """
    if errno_name == "EBUSY" and kind == "tce" and groups:
        return Cause(
            "version 1 of the TCE IOMMU has one group in a container", 'way="tcev2", or a container of its own'
        )
    if errno_name == "EPERM" and kind.startswith("tce"):
        return Cause(f"group {number} cannot use the tables of the groups in the container", "a container of its own")
    return Cause()


def tce_window_of_groups() -> Cause:
    """EPERM when registered memory is mapped with version 2 of POWER: the first window could not be all groups'."""
    return Cause(
        "there is no DMA window that all groups of this container could have, as those of a guest on POWER share none",
        "a container for each group",
    )


def tce_large_pages(page: int) -> Cause:
    """EINVAL in a DMA window of POWER whose pages are larger than the host's: `page` is how large."""
    return Cause(
        f"the DMA window has pages of {page:#x} bytes, and maps memory of huge pages as large as that, by whole ones",
        f"AnonymousMemory(length, huge={page:#x}), all of it; or an address in the first window",
    )


def not_viable(number: int, blockers: Sequence[object]) -> Cause:
    """A group that is not viable: the members which have a driver that is no VFIO driver."""
    if not blockers:
        return Cause()
    return Cause(
        f"group {number} has members with other drivers: {'; '.join(map(str, blockers))}",
        "bind these members to a VFIO driver too, or to none",
    )


def firmware_memory(number: int, regions: Sequence[object]) -> Cause:
    """EINVAL on taking the DMA of a group in which firmware has reserved memory for a device (``direct``).

    The kernel keeps such memory mapped, each address to itself, and so gives the device to no program
    (``__iommu_device_set_domain()`` in ``drivers/iommu/iommu.c`` since 6.6, Intel's driver since 3.16).
    """
    if not regions:
        return Cause()
    return Cause(
        f"firmware has reserved memory for a device of group {number} ({', '.join(map(str, regions))}),"
        " which the device must reach at all times",
        "look for a setting of the firmware or of the device that ends this; the kernel log names the device",
    )


def no_driver(driver: str, bus: str) -> Cause:
    """There is no driver of this name on the device's bus."""
    return Cause(f"bus {bus} has no driver {driver}", f"modprobe {driver}, if it is a module")


def bind_refused(
    driver: str, device: str, *, override: str | None, now: str | None, needs_group: bool = False
) -> Cause:
    """A bind that left `device` without `driver`: does the override name it, who came instead?

    `needs_group` says that it is a driver of VFIO, and the device has no IOMMU group: then the kernel lets it have the
    device only without an IOMMU (``vfio_group_find_or_alloc``).
    """
    if now is not None:
        return Cause(f"driver {now} took {device} instead of {driver}")
    if override not in (None, driver):
        return Cause(f"driver_override of {device} is {override}, which keeps {driver} away")
    if needs_group:
        return Cause(
            f"{device} has no IOMMU group, and driver {driver} takes none such: no IOMMU is in front of it",
            "pyvfio doctor; or, with access to all memory for the program, enable_unsafe_noiommu_mode=1 of vfio",
        )
    return Cause(f"driver {driver} looked at {device} and refused it", "the kernel log says more (dmesg)")
