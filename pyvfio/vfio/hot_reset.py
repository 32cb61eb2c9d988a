"""Hot resets: all functions in a slot or on a bus at once, for who owns them all.

::

    by its own node (iommufd)   each function is owned if it, or another one of its group, is bound to this iommufd
    by its group                each function must be in a group whose descriptor is given; and be vfio-pci's

Source: ``VFIO_DEVICE_GET_PCI_HOT_RESET_INFO`` in ``include/uapi/linux/vfio.h``, `vfio_pci_core.c` (Linux 6.6 and on for
the ids of iommufd).
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyvfio.abi import vfio as abi
from pyvfio.address import PciAddress
from pyvfio.call import Call
from pyvfio.errors import KernelRefused, MalformedAnswer, Misuse, NotAvailable, PyvfioError

if TYPE_CHECKING:
    from pyvfio.vfio.group import Group

__all__ = ["Affected", "HotReset", "hot_reset", "hot_reset_info"]

_HEAD = ctypes.sizeof(abi.PciHotResetInfo)
_ROW = ctypes.sizeof(abi.PciDependentDevice)
_TRIES = 4
_FUNCTION_BITS = 3


@dataclass(frozen=True, slots=True)
class Affected:
    """A function that is reset with the device.

    By groups, `group` is its IOMMU group.  By iommufd, `owned` says whether this iommufd owns it, and `devid` is its
    number there if it is bound itself (None: it is owned with its group, or not at all).
    """

    address: PciAddress
    group: int | None = None
    devid: int | None = None
    owned: bool | None = None

    def __str__(self) -> str:
        if self.group is not None:
            return f"{self.address} (group {self.group})"
        how = "not owned" if not self.owned else "owned with its group" if self.devid is None else f"id {self.devid}"
        return f"{self.address} ({how})"


@dataclass(frozen=True, slots=True)
class HotReset:
    """What a hot reset would reset: the `affected` functions, the device among them.

    `owned`, by iommufd: whether all of them are this iommufd's, so that it may.  By groups nobody knows before: None.
    """

    affected: tuple[Affected, ...]
    owned: bool | None

    @property
    def groups(self) -> tuple[int, ...]:
        """The IOMMU groups whose descriptors are wanted, each once; empty by iommufd."""
        return tuple(dict.fromkeys(one.group for one in self.affected if one.group is not None))


def hot_reset_info(call: Call) -> HotReset:
    """Ask what would be reset.

    Raise `NotAvailable` where neither slot nor bus can be, else the class for the errno.
    """
    room = 0
    for _ in range(_TRIES):
        buffer = bytearray(bytes(abi.PciHotResetInfo(argsz=_HEAD + room * _ROW))[:_HEAD] + bytes(room * _ROW))
        try:
            call("read hot reset info", abi.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, buffer)
        except PyvfioError as error:
            if error.errno == errno.ENODEV:
                raise NotAvailable(
                    "read hot reset info",
                    call.obj,
                    errno=error.errno,
                    cause="neither its slot nor its bus can be reset: it is on a root bus, or in no slot",
                ) from error
            if error.errno != errno.ENOSPC:
                raise
            room = abi.PciHotResetInfo.from_buffer_copy(buffer).count
            continue
        head = abi.PciHotResetInfo.from_buffer_copy(buffer)
        rows = (abi.PciDependentDevice * head.count).from_buffer_copy(buffer, _HEAD)
        by_id = bool(head.flags & abi.VFIO_PCI_HOT_RESET_FLAG_DEV_ID)
        owned = bool(head.flags & abi.VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED) if by_id else None
        return HotReset(tuple(_affected(row, by_id=by_id) for row in rows), owned)
    raise MalformedAnswer("read hot reset info", call.obj, f"it asks for ever more room, at last for {room} functions")


def _affected(row: abi.PciDependentDevice, *, by_id: bool) -> Affected:
    address = PciAddress(row.segment, row.bus, row.devfn >> _FUNCTION_BITS, row.devfn & (1 << _FUNCTION_BITS) - 1)
    if not by_id:
        return Affected(address, group=row.group_id)
    owned = row.devid != abi.VFIO_PCI_DEVID_NOT_OWNED
    itself = owned and row.devid != abi.VFIO_PCI_DEVID_OWNED
    return Affected(address, devid=row.devid if itself else None, owned=owned)


def hot_reset(call: Call, groups: Iterable[Group] | None) -> None:
    """Reset; `groups` are those that the caller has open, None for a device that was opened by its own node.

    Raise `Misuse` (no group given), `KernelRefused` which names what is not owned, `NotAvailable`, else the class for
    the errno.
    """
    given = None if groups is None else list(groups)
    if given == []:
        raise Misuse(
            "hot reset", call.obj, cause="a device that was opened by its group is reset by groups: none given"
        )
    descriptors = [] if given is None else [group.fileno() for group in given]
    head = abi.PciHotReset(argsz=_HEAD + 4 * len(descriptors), count=len(descriptors))
    data = bytearray(bytes(head)[:_HEAD] + struct.pack(f"={len(descriptors)}i", *descriptors))
    try:
        call("hot reset", abi.VFIO_DEVICE_PCI_HOT_RESET, data)
    except PyvfioError as error:
        if error.errno != errno.EINVAL:
            raise
        info = hot_reset_info(call)
        numbers = None if given is None else {group.number for group in given}
        missing = [one for one in info.affected if (not one.owned if numbers is None else one.group not in numbers)]
        if not missing:
            cause = "some of these is not vfio-pci's: " + ", ".join(str(one.address) for one in info.affected)
        else:
            cause = f"not owned by the caller: {', '.join(map(str, missing))}"
        raise KernelRefused(
            "hot reset",
            call.obj,
            errno=error.errno,
            cause=cause,
            next_step="bind all of them to vfio-pci, and open their groups (or bind one of each group to this iommufd)",
        ) from error
