"""Identify and Get Log Page: what a controller says of itself.  Source: NVM Express 1.4, 5.14, 5.15."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio.nvme.commands import Command
from pyvfio.nvme.identity import IDENTIFY_SIZE, Identify, namespace_descriptors, namespace_list
from pyvfio.nvme.logs import KEEP_EVENT, ErrorEntry, LogPage, firmware_log
from pyvfio.nvme.status import Status
from pyvfio_backends.software.hardware.devices.nvme.prp import CommandError

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.devices.nvme.controller import NvmeController
    from pyvfio_backends.software.hardware.devices.nvme.storage import Namespace

__all__ = ["get_log_page", "identify"]

_NO_NAMESPACE_AFTER = 0xFFFFFFFE


def identify(controller: NvmeController, command: Command) -> bytes:
    """The 4 KiB that Identify asks for.  Raise `CommandError`."""
    what = command.cdw10 & 0xFF
    if what == Identify.CONTROLLER:
        return controller.identity.pack()
    if what == Identify.NAMESPACES:
        if command.nsid >= _NO_NAMESPACE_AFTER:
            raise CommandError(Status.INVALID_NAMESPACE)
        return namespace_list([nsid for nsid in controller.namespaces if nsid > command.nsid])
    if what == Identify.NAMESPACE:
        there = _namespace(controller, command.nsid)
        return there.identity.pack() if there is not None else bytes(IDENTIFY_SIZE)
    if what == Identify.DESCRIPTORS:
        there = _namespace(controller, command.nsid)
        if there is None:
            raise CommandError(Status.INVALID_FIELD)
        return namespace_descriptors(eui64=there.eui64, uuid=there.uuid)
    raise CommandError(Status.INVALID_FIELD)


def _namespace(controller: NvmeController, nsid: int) -> Namespace | None:
    """The namespace of an id; None for a valid one that is not active."""
    if not 0 < nsid <= controller.identity.namespaces:
        raise CommandError(Status.INVALID_NAMESPACE)
    return controller.namespaces.get(nsid)


def get_log_page(controller: NvmeController, command: Command) -> bytes:
    """The part of a log page that is asked for, not longer than the page.  Raise `CommandError`."""
    count = 4 * ((command.cdw11 & 0xFFFF) << 16 | command.cdw10 >> 16) + 4
    offset = command.cdw13 << 32 | command.cdw12
    try:
        page = LogPage(command.cdw10 & 0xFF)
    except ValueError:
        raise CommandError(Status.INVALID_LOG_PAGE) from None
    data = _page(controller, page, command.nsid)
    if offset % 4 or offset > len(data):
        raise CommandError(Status.INVALID_FIELD)
    if not command.cdw10 & KEEP_EVENT:
        controller.events.page_read(page)
    return data[offset : offset + count]


def _page(controller: NvmeController, page: LogPage, nsid: int) -> bytes:
    if page is LogPage.ERROR:
        entries = list(controller.errors)
        entries += [ErrorEntry(0, 0, 0, 0, 0)] * (controller.identity.errors - len(entries))
        return b"".join(entry.pack() for entry in entries)
    if page is LogPage.HEALTH:
        if nsid not in (0, 0xFFFFFFFF):
            raise CommandError(Status.INVALID_FIELD)  # not kept by namespace
        return controller.health.pack()
    return firmware_log(controller.identity.firmware)
