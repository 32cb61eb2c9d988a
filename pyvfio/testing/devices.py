"""Take a device for the contract and give it back as it was: driver, override and online state.

These use the seam alone, so that the contract tests the library against something that is not the library.
"""

from __future__ import annotations

from typing import Self

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.expect import settles

__all__ = ["MDEV_UUID", "BoundFunction", "BoundMdev", "BoundSubchannel"]

MDEV_UUID = "66826a94-72c4-557f-beca-d135a70628e9"
"""The mediated device that the contract makes."""
_CLEARED = "(null)"


class _Override:
    """A device of a bus that has ``driver_override``: its driver now, and how to change and restore it."""

    def __init__(self, backend: Backend, bus: str, address: str) -> None:
        self.backend = backend
        self.sysfs = Attributes(backend)
        self.bus = f"/sys/bus/{bus}"
        self.address = address
        self.path = f"{self.bus}/devices/{address}"
        self.driver_before = self.driver
        self.override_before = self.sysfs.read(f"{self.path}/driver_override")

    @property
    def driver(self) -> str | None:
        """The driver's name, None without one."""
        return self.sysfs.link(f"{self.path}/driver")

    def unbind(self) -> None:
        """Take the device from its driver, if it has one."""
        if (driver := self.driver) is not None:
            self.sysfs.write(f"{self.bus}/drivers/{driver}/unbind", self.address)

    def probe(self, override: str) -> None:
        """Write `override` (a newline clears it) and let the bus look for a driver."""
        self.sysfs.write(f"{self.path}/driver_override", override)
        self.sysfs.write(f"{self.bus}/drivers_probe", self.address)

    def take(self, driver: str) -> None:
        """Give the device to `driver`."""
        if self.driver != driver:
            self.unbind()
            self.probe(driver)
        assert self.driver == driver, f"{self.address} was not taken by {driver}"

    def restore(self) -> None:
        """Give the device back to the driver it had; its override becomes what it was."""
        override = "\n" if self.override_before == _CLEARED else self.override_before
        if self.driver != self.driver_before:
            self.unbind()
            self.sysfs.write(f"{self.path}/driver_override", override)
            if self.driver_before is not None:
                self.sysfs.write(f"{self.bus}/drivers_probe", self.address)
        else:
            self.sysfs.write(f"{self.path}/driver_override", override)
        assert self.driver == self.driver_before, f"{self.address} did not go back to {self.driver_before}"


class _VfioNodes:
    """Where a device that a VFIO driver has is opened."""

    backend: Backend
    sysfs: Attributes
    path: str

    @property
    def group_number(self) -> int:
        """The IOMMU group."""
        return int(self.sysfs.link(f"{self.path}/iommu_group") or -1)

    @property
    def group(self) -> str:
        """The group's node."""
        return f"/dev/vfio/{self.group_number}"

    @property
    def cdev(self) -> str:
        """The node of the device itself."""
        return f"/dev/vfio/devices/{self.backend.listdir(f'{self.path}/vfio-dev')[0]}"


class BoundFunction(_Override, _VfioNodes):
    """A PCI function bound to vfio-pci, given back at the end of the ``with`` block."""

    def __init__(self, backend: Backend, address: str) -> None:
        super().__init__(backend, "pci", address)

    def __enter__(self) -> Self:
        self.take("vfio-pci")
        return self

    def __exit__(self, *exc: object) -> None:
        self.restore()


class BoundSubchannel(_Override):
    """The subchannel of a channel device bound to vfio_ccw; its ccw device is back and online as before at the end."""

    def __init__(self, backend: Backend, device_number: str) -> None:
        self.ccw = f"/sys/bus/ccw/devices/{device_number}"
        self.device_number = device_number
        target = backend.readlink(self.ccw).split("/")
        super().__init__(backend, "css", target[-2])
        self.online_before = self.sysfs.read(f"{self.ccw}/online")
        self.cutype_before = self.sysfs.read(f"{self.ccw}/cutype")
        self.ccw_driver_before = self.sysfs.link(f"{self.ccw}/driver")

    @property
    def types(self) -> str:
        """The directory of the mdev type of vfio_ccw."""
        return f"{self.path}/mdev_supported_types/vfio_ccw-io"

    def create(self, uuid: str = MDEV_UUID) -> BoundMdev:
        """Make the mediated device."""
        self.sysfs.write(f"{self.types}/create", uuid)
        return BoundMdev(self.backend, uuid)

    def set_offline(self) -> None:
        """Set the ccw device offline, as a careful administrator does before the take."""
        if self.sysfs.read(f"{self.ccw}/online") == "1":
            self.sysfs.write(f"{self.ccw}/online", "0")

    def give_back(self) -> None:
        """Give the subchannel to its driver and wait for the ccw device as it was."""
        self.restore()
        assert settles(lambda: self.sysfs.exists(self.ccw)), f"{self.device_number} did not come back"
        assert settles(lambda: self.sysfs.link(f"{self.ccw}/driver") == self.ccw_driver_before)
        if self.online_before == "1" and not settles(lambda: self.sysfs.read(f"{self.ccw}/online") == "1", 3.0):
            self.sysfs.write(f"{self.ccw}/online", "1")  # a driver that does not set its devices online itself
        assert self.sysfs.read(f"{self.ccw}/online") == self.online_before

    def __enter__(self) -> Self:
        self.set_offline()
        self.take("vfio_ccw")
        return self

    def __exit__(self, *exc: object) -> None:
        self.give_back()


class BoundMdev(_VfioNodes):
    """A mediated device; removed at the end of the ``with`` block if it still exists."""

    def __init__(self, backend: Backend, uuid: str) -> None:
        self.backend = backend
        self.sysfs = Attributes(backend)
        self.uuid = uuid
        self.address = uuid
        self.path = f"/sys/bus/mdev/devices/{uuid}"

    def remove(self) -> None:
        """Remove it; blocks while it is open."""
        self.sysfs.write(f"{self.path}/remove", "1")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.sysfs.exists(self.path):
            self.remove()
