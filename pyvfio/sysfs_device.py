"""A device as sysfs shows it, whatever bus it is on.

Sources: ``Documentation/ABI/testing/sysfs-bus-pci``, ``-css`` and ``-vfio-mdev``; ``drivers/base/core.c``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pyvfio.address import Address
from pyvfio.errors import NoSuchDevice
from pyvfio.sysfs import Sysfs

if TYPE_CHECKING:
    from pyvfio.groups import IommuGroup

__all__ = ["SysfsDevice", "has_vfio_driver", "is_vfio_name"]

_NO_OVERRIDE = "(null)"


def is_vfio_name(driver: str) -> bool:
    """Whether a driver is called as VFIO's are: ``vfio-pci``, ``vfio_ccw``, and variants such as ``mlx5_vfio_pci``."""
    return "vfio" in driver.replace("-", "_").split("_")


def has_vfio_driver(sysfs: Sysfs, path: str) -> bool:
    """Whether the driver that has the device at `path` registered a VFIO device, or is called as VFIO's are.

    The name is for kernels before 6.0, which have no ``vfio-dev`` directory.
    """
    driver = sysfs.link_name(f"{path}/driver")
    return driver is not None and (is_vfio_name(driver) or sysfs.exists(f"{path}/vfio-dev"))


class SysfsDevice:
    """A device on a bus.  `address` names it; `path` is its directory below ``/sys/devices``."""

    bus: ClassVar[str] = ""

    def __init__(self, sysfs: Sysfs, address: Address) -> None:
        self.sysfs = sysfs
        self.address = address

    @property
    def name(self) -> str:
        """The address as sysfs prints it."""
        return str(self.address)

    @property
    def link_path(self) -> str:
        """The link in the list of the bus."""
        return f"/sys/bus/{self.bus}/devices/{self.name}"

    @property
    def exists(self) -> bool:
        """Whether the device is registered now."""
        return self.sysfs.exists(self.link_path)

    @property
    def path(self) -> str:
        """The device's directory.  Raise `NoSuchDevice` when it is gone."""
        path = self.sysfs.link(self.link_path)
        if path is None:
            raise NoSuchDevice(
                "find device",
                self.name,
                path=self.link_path,
                cause=f"it is not registered on bus {self.bus}",
                next_step="pyvfio list shows what there is",
            )
        return path

    def require(self) -> None:
        """Raise `NoSuchDevice` when the device is not registered now."""
        _ = self.path

    @property
    def driver(self) -> str | None:
        """The driver that has the device, or None."""
        return self.sysfs.link_name(f"{self.link_path}/driver")

    @property
    def has_vfio_driver(self) -> bool:
        """Whether the driver that has the device is one of VFIO's."""
        return has_vfio_driver(self.sysfs, self.link_path)

    @property
    def override(self) -> str | None:
        """``driver_override``, None when it is not set or the bus has none.

        Plans go by it, so an error is raised and never taken for "not set".
        """
        path = f"{self.link_path}/driver_override"
        text = self.sysfs.read_text(path) if self.sysfs.exists(path) else None
        return None if text in (None, "", _NO_OVERRIDE) else text

    @property
    def modalias(self) -> str:
        """What module loading goes by."""
        return self.attribute("modalias") or ""

    @property
    def group(self) -> IommuGroup | None:
        """The IOMMU group, or None when the device has none."""
        from pyvfio.groups import IommuGroup  # a group lists devices, a device names its group

        number = self.sysfs.link_name(f"{self.link_path}/iommu_group")
        return IommuGroup(self.sysfs, int(number)) if number is not None and number.isdecimal() else None

    @property
    def vfio_name(self) -> str | None:
        """The name of its VFIO character device (``vfio0``), None without a VFIO driver or on a kernel without it."""
        names = [name for name in self.sysfs.names(f"{self.link_path}/vfio-dev") if name.startswith("vfio")]
        return names[0] if names else None

    def read(self, attribute: str) -> str:
        """Read an attribute, stripped.  Raise `NoSuchDevice` when the device is gone."""
        return self.sysfs.read_text(f"{self.path}/{attribute}")

    def attribute(self, attribute: str, default: str | None = None) -> str | None:
        """Read an attribute, stripped; `default` when it has none."""
        return self.sysfs.attribute(f"{self.link_path}/{attribute}", default)

    def write(self, attribute: str, text: str) -> None:
        """Write an attribute.  Raise the class for the kernel's errno."""
        self.sysfs.write_text(f"{self.path}/{attribute}", text)

    def uevent(self) -> dict[str, str]:
        """The variables of the device's ``uevent`` file, in order."""
        pairs = (line.partition("=") for line in (self.attribute("uevent") or "").splitlines())
        return {key: value for key, equals, value in pairs if equals}

    def read_number(self, attribute: str) -> int | None:
        """Read an attribute that is a number (``0x`` for hexadecimal); None when it has none or it is no number."""
        text = self.attribute(attribute)
        try:
            return None if text is None else int(text, 0)
        except ValueError:
            return None

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SysfsDevice):
            return NotImplemented
        return self.address == other.address and self.sysfs.backend is other.sysfs.backend

    def __hash__(self) -> int:
        return hash(self.address)
