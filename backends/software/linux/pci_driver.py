"""PCI drivers: which ids they know, and how people add some (``drivers/pci/pci-driver.c``)."""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.driver_core import Driver
from pyvfio_backends.software.linux.vfs import Attribute, Node, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci import PciBus
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = ["ANY", "PciDriver", "PciId", "Recovery"]

ANY = 0xFFFFFFFF
"""Matches every id (``PCI_ANY_ID``)."""
_HEX = re.compile(r"[ \t\n\r\f\v]*(?:0[xX])?([0-9a-fA-F]+)")
_U32 = 0xFFFFFFFF
_ALL_FIELDS = 7


class Recovery(Enum):
    """``pci_ers_result_t``: what a driver says of the recovery; `NO_DRIVER` is said for one that is not there."""

    NONE = "nothing"
    CAN_RECOVER = "can recover"
    NEED_RESET = "needs a reset"
    DISCONNECT = "lost"
    RECOVERED = "recovered"
    NO_DRIVER = "no driver that takes part"


@dataclass(frozen=True, slots=True)
class PciId:
    """An entry of a driver's table (``struct pci_device_id``)."""

    vendor: int = ANY
    device: int = ANY
    subvendor: int = ANY
    subdevice: int = ANY
    class_code: int = 0
    class_mask: int = 0
    data: int = 0
    override_only: bool = False

    def matches(self, vendor: int, device: int, subvendor: int, subdevice: int, class_code: int) -> bool:
        """Whether a device with these ids is meant."""
        return (
            self.vendor in (ANY, vendor)
            and self.device in (ANY, device)
            and self.subvendor in (ANY, subvendor)
            and self.subdevice in (ANY, subdevice)
            and not (self.class_code ^ class_code) & self.class_mask
        )


class PciDriver(Driver):
    """A PCI driver: `table` of the ids it knows, `dynamic` those that people added.

    `driver_managed_dma` says that it cares for who owns the group's DMA (VFIO); any other cannot have a device of a
    group that a program owns.
    """

    driver_managed_dma = False
    has_sriov = False
    """Whether it configures virtual functions (`sriov_configure`)."""
    table: Sequence[PciId] = ()

    def __init__(self, bus: PciBus, name: str, *, module: str = "") -> None:
        super().__init__(bus, name, module=module)
        self.dynamic: list[PciId] = []

    def sriov_configure(self, device: PciDevice, count: int) -> None:
        """Make `count` virtual functions of a physical one, 0: take them away.  Raise OSError to refuse."""

    def virtual_found(self, physical: PciDevice, virtual: PciDevice) -> None:
        """A virtual function of one of its devices is going to be added (``BUS_NOTIFY_ADD_DEVICE``)."""

    # runtime power management (dev_pm_ops)

    manages_power = False
    """Whether it lets go of the use that a function is probed with, so that the function may sleep."""

    def runtime_suspend(self, device: PciDevice) -> None:
        """The function is going to sleep."""

    def runtime_resume(self, device: PciDevice) -> None:
        """It is awake again."""

    # pci_error_handlers

    recovers = False
    """Whether it can recover a device: it has `error_detected`, `slot_reset` and `resume`."""

    @property
    def detects_errors(self) -> bool:
        """Whether it has an `error_detected`, without which PCI Express errors are not recovered from."""
        return type(self).error_detected is not PciDriver.error_detected

    @property
    def resets_slots(self) -> bool:
        """Whether it has a `slot_reset`."""
        return type(self).slot_reset is not PciDriver.slot_reset

    def error_detected(self, device: PciDevice) -> Recovery:
        """The device had an error; its `PciDevice.error_state` says how bad it is."""
        return Recovery.DISCONNECT

    def mmio_enabled(self, device: PciDevice) -> Recovery | None:
        """The driver may look at the registers again; None when it has no such function."""
        return None

    def slot_reset(self, device: PciDevice) -> Recovery:
        """The device was reset."""
        return Recovery.DISCONNECT

    def resume(self, device: PciDevice) -> None:
        """All is well: the driver goes on."""

    def attributes(self) -> dict[str, Node]:
        """See `Driver.attributes`."""
        return {"new_id": Attribute(store=self._new_id), "remove_id": Attribute(store=self._remove_id)}

    def knows(self, ids: tuple[int, int, int, int, int], *, override: bool = False) -> bool:
        """Whether a device with these ids is for this driver; `override` says that people named the driver."""
        return (
            override
            or any(entry.matches(*ids) for entry in self.dynamic)
            or any(entry.matches(*ids) for entry in self.table if not entry.override_only)
        )

    def _new_id(self, data: bytes) -> None:
        fields = _hex_fields(data, _ALL_FIELDS)
        if len(fields) < 2:
            raise fail(errno.EINVAL)
        values = [*fields, *(ANY, ANY, 0, 0, 0)[len(fields) - 2 :]]
        vendor, device, subvendor, subdevice, class_code, class_mask, driver_data = values
        if len(fields) != _ALL_FIELDS and self.knows((vendor, device, subvendor, subdevice, class_code)):
            raise fail(errno.EEXIST)
        if self.table and all(driver_data != entry.data for entry in self.table):
            raise fail(errno.EINVAL)
        self.dynamic.append(PciId(vendor, device, subvendor, subdevice, class_code, class_mask, driver_data))
        self.bus.attach_all(self)

    def _remove_id(self, data: bytes) -> None:
        fields = _hex_fields(data, _ALL_FIELDS - 1)
        if len(fields) < 2:
            raise fail(errno.EINVAL)
        values = [*fields, *(ANY, ANY, 0, 0)[len(fields) - 2 :]]
        vendor, device, subvendor, subdevice, class_code, class_mask = values
        for entry in self.dynamic:
            if (
                (entry.vendor, entry.device) == (vendor, device)
                and subvendor in (ANY, entry.subvendor)
                and subdevice in (ANY, entry.subdevice)
                and not (entry.class_code ^ class_code) & class_mask
            ):
                self.dynamic.remove(entry)
                return
        raise fail(errno.ENODEV)


def _hex_fields(data: bytes, most: int) -> list[int]:
    # sscanf("%x %x ..."): blanks may stand before each, a number too long loses its high bits
    text, at = data.decode(errors="replace").split("\0")[0], 0
    fields: list[int] = []
    while len(fields) < most:
        match = _HEX.match(text, at)
        if match is None:
            break
        fields.append(int(match[1], 16) & _U32)
        at = match.end()
    return fields
