"""The files that s390 adds to a PCI device (``arch/s390/pci/pci_sysfs.c``)."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pyvfio_backends.software.hardware.zpci.clp import PFIP_SEGMENTS, UTILITY_STRING_SIZE
from pyvfio_backends.software.linux.nodes import Attribute, BinaryAttribute, Node, StaticDirectory, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import PciDevice
    from pyvfio_backends.software.linux.zpci import ZpciDev

__all__ = ["zpci_attributes", "zpci_shown"]

_NO_INDEX = 0xFFFFFFFF
# struct zpci_report_error_header (arch/s390/include/asm/sclp.h): version, action, length of what follows
_REPORT_HEADER = struct.Struct("=BBH")


def zpci_shown(zdev: ZpciDev) -> dict[str, Callable[[], str]]:
    """Those of the files that only tell something."""
    facts = zdev.function.facts
    return {
        "function_id": lambda: f"{zdev.fid:#010x}\n",
        "function_handle": lambda: f"{zdev.function.fh:#010x}\n",
        "mio_enabled": lambda: f"{int(zdev.use_mio)}\n",
        "pchid": lambda: f"{facts.pchid:#06x}\n",
        "pfgid": lambda: f"{facts.pfgid:#04x}\n",
        "pft": lambda: f"{facts.pft:#04x}\n",
        "port": lambda: f"{facts.port}\n",
        "uid": lambda: f"{facts.uid:#x}\n",
        "uid_is_unique": lambda: f"{int(zdev.host.unique_uid)}\n",
        "vfn": lambda: f"{facts.vfn:#06x}\n",
    }


def zpci_attributes(zdev: ZpciDev, device: PciDevice) -> dict[str, Node]:
    """The files of a function's device."""
    facts = zdev.function.facts
    segments = {f"segment{n}": Attribute(partial("{:#04x}\n".format, facts.pfip[n])) for n in range(PFIP_SEGMENTS)}
    entries: dict[str, Node] = {
        **{name: Attribute(show) for name, show in zpci_shown(zdev).items()},
        "pfip": StaticDirectory(dict(segments)),
        "recover": Attribute(store=lambda data: _recover(zdev, device)),
        "report_error": BinaryAttribute(zdev.bus.kernel.page_size, None, partial(_report_error, zdev), mode=0o200),
        "util_string": BinaryAttribute(UTILITY_STRING_SIZE, partial(_utility_string, zdev)),
    }
    if zdev.bus.kernel.pci_mmap:  # such a kernel is newer than the 6.14 that began to show it
        entries["fidparm"] = Attribute(lambda: f"{facts.fidparm:#04x}\n")
    if zdev.indexed:
        entries["index"] = Attribute(lambda: f"{facts.uid if zdev.host.unique_uid else _NO_INDEX}\n")
    return entries


def _utility_string(zdev: ZpciDev, offset: int, n: int) -> bytes:
    return zdev.function.facts.util_str.ljust(UTILITY_STRING_SIZE, b"\0")[offset : offset + n]


def _recover(zdev: ZpciDev, device: PciDevice) -> None:
    """Take the device away, reset the function, and find the device again.  Raise OSError EIO."""
    with zdev.state_lock():
        if not zdev.configured:
            return
        device.removed_files.add("recover")  # whoever comes now finds it gone
        with zdev.bus.rescan_remove():
            try:
                if not device.dead:
                    zdev.bus.remove_device(device)
                    zdev.cycle()
            finally:
                zdev.bridge.rescan()


def _report_error(zdev: ZpciDev, offset: int, data: bytes) -> int:
    if offset or len(data) < _REPORT_HEADER.size:
        raise fail(errno.EINVAL)
    version, action, length = _REPORT_HEADER.unpack_from(data)
    from pyvfio.zpci import sclp  # hardly a run reports errors

    room = zdev.bus.kernel.page_size - sclp.ErrorNotification.SIZE
    if version != 1 or action not in tuple(sclp.ReportAction) or length > room:
        raise fail(errno.EINVAL)  # sclp_pci_check_report()
    if not zdev.host.facility.takes_reports:
        raise fail(errno.EOPNOTSUPP)
    head = sclp.ErrorReport(version, action, length).notification(zdev.function.fh, zdev.fid).to_bytes()
    # As much as the header says goes to the machine, whatever was written.
    block = head + data[_REPORT_HEADER.size :][:length].ljust(length, b"\0")
    answer = sclp.call(zdev.host.facility, sclp.SclpCommand.WRITE_EVENT_DATA, block)
    if sclp.ErrorNotification.from_bytes(answer[: len(head)]).code != sclp.SclpCode.COMPLETED:
        raise fail(errno.EIO)
    return len(data)
