"""VFIO containers, ``/dev/vfio/vfio`` (``drivers/vfio/container.c``)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.abi import vfio as abi
from pyvfio_backends.software.linux.file import File
from pyvfio_backends.software.linux.spapr_tce import SpaprTce
from pyvfio_backends.software.linux.type1 import Type1
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfio_noiommu import NoIommu
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.vfio_core import VfioCore
    from pyvfio_backends.software.linux.vfio_group import VfioGroup

__all__ = ["ContainerFile"]

_TYPE1, _SPAPR, _VFIO = "vfio_iommu_type1", "vfio_iommu_spapr_tce", "vfio"
_MODULES: dict[type, str] = {Type1: _TYPE1, SpaprTce: _SPAPR, NoIommu: _VFIO}


class ContainerFile(File):
    """An open container: `groups`, newest first, and `driver`, their IOMMU once VFIO_SET_IOMMU was called.

    A group that is in it keeps it alive although the descriptor is closed; when the last group leaves, the IOMMU and
    all mappings go.  `without_iommu`: these groups have none, and others cannot come.
    """

    __slots__ = ("core", "driver", "groups", "without_iommu")

    def __init__(self, core: VfioCore) -> None:
        self.core = core
        self.groups: list[VfioGroup] = []
        self.driver: Type1 | SpaprTce | NoIommu | None = None
        self.without_iommu = False
        core.hold("vfio")

    def release(self) -> None:
        self.core.hold("vfio", -1)

    def ioctl(self, request: int, argument: Argument) -> int:
        if request == abi.VFIO_GET_API_VERSION:
            return abi.VFIO_API_VERSION
        if request == abi.VFIO_CHECK_EXTENSION:
            return self._check_extension(argument.value)
        if request == abi.VFIO_SET_IOMMU:
            return self._set_iommu(argument.value)
        if self.driver is None:
            raise fail(errno.EINVAL)
        return self.driver.ioctl(request, argument)

    def _check_extension(self, extension: int) -> int:
        if self.driver is not None:
            return self.driver.check_extension(extension)
        core = self.core
        translated = not (self.groups and self.without_iommu) and bool(self._drivers(extension))
        untranslated = (self.without_iommu or not self.groups) and NoIommu.offers(core, extension)
        return int(translated or untranslated)

    def _set_iommu(self, kind: int) -> int:
        if not self.groups or self.driver is not None:
            raise fail(errno.EINVAL)
        if self.without_iommu:
            if not NoIommu.offers(self.core, kind):
                raise fail(errno.ENODEV)
            self.driver = NoIommu(self.core)
            self.core.hold(_VFIO)
            return 0
        refusal = fail(errno.ENODEV)
        for open_driver in self._drivers(kind):
            try:
                driver = open_driver(self.core, kind)
                self._attach_groups(driver)
            except OSError as error:
                refusal = error
                continue
            self.driver = driver
            self.core.hold(_MODULES[type(driver)])
            return 0
        raise refusal

    def _drivers(self, extension: int) -> list[type[Type1] | type[SpaprTce]]:
        """The drivers that are loaded and have an extension (``vfio.iommu_drivers_list``)."""
        core = self.core
        found: list[type[Type1] | type[SpaprTce]] = []
        if core.type1 and Type1.offers(extension):
            found.append(Type1)
        if core.registered is not None and SpaprTce.offers(core, extension):
            found.append(SpaprTce)
        return found

    def _attach_groups(self, driver: Type1 | SpaprTce) -> None:
        for number, group in enumerate(self.groups):
            try:
                driver.attach_group(group)
            except OSError:
                for attached in reversed(self.groups[:number]):
                    driver.detach_group(attached)
                raise

    def attach(self, group: VfioGroup) -> None:
        """Put a group in (``vfio_container_attach_group``).

        Raise OSError EPERM when the group's DMA has an owner, or groups with and without an IOMMU would mix, EINVAL
        when a device needs memory that firmware reserves, or what the IOMMU answers.
        """
        group.check_permitted()
        if self.groups and self.without_iommu != group.without_iommu:
            raise fail(errno.EPERM)
        owned = not group.emulated and not group.without_iommu
        if owned:
            if group.claimed:
                raise fail(errno.EPERM)
            group.iommu_group.take_ownership(group)
        if self.driver is not None:
            try:
                self.driver.attach_group(group)
            except OSError:
                if owned:
                    group.iommu_group.owner = None
                raise
        self.without_iommu = group.without_iommu
        group.container = self
        group.container_users = 1
        self.groups.insert(0, group)

    def detach(self, group: VfioGroup) -> None:
        """Take a group out; without groups the container is as new."""
        if self.driver is not None:
            self.driver.detach_group(group)
        if not group.emulated and not group.without_iommu:
            group.iommu_group.owner = None
        group.container = None
        group.container_users = 0
        self.groups.remove(group)
        if self.driver is not None and not self.groups:
            self.driver.close()
            self.core.hold(_MODULES[type(self.driver)], -1)
            self.driver = None
