"""The ways to give a device an address space: one test runs over the five that most architectures have.

==================  ==========================================================================
mode                how
==================  ==========================================================================
type1               ``/dev/vfio/vfio``, group, ``VFIO_TYPE1_IOMMU``
type1v2             ``/dev/vfio/vfio``, group, ``VFIO_TYPE1v2_IOMMU``
compat-type1        ``/dev/iommu`` in the container's place, group, ``VFIO_TYPE1_IOMMU``
compat-type1v2      ``/dev/iommu`` in the container's place, group, ``VFIO_TYPE1v2_IOMMU``
iommufd             ``/dev/vfio/devices/vfioN`` bound to ``/dev/iommu`` and attached to an IOAS
tce                 ``/dev/vfio/vfio``, group, ``VFIO_SPAPR_TCE_v2_IOMMU``: POWER has only this
==================  ==========================================================================

The first five are the variants of the kernel's own VFIO selftests.
"""

from __future__ import annotations

import os
from typing import Protocol

import pytest

from pyvfio.abi import vfio
from pyvfio.backend import Backend
from pyvfio.testing import requests
from pyvfio.testing.attributes import Attributes, OpenFiles

__all__ = [
    "CONTAINER",
    "EVERY_MODE",
    "IOMMU",
    "MODES",
    "TCE",
    "DeviceNodes",
    "OpenDevice",
    "group_mode",
    "open_device",
    "require_mode",
    "require_node",
    "require_way",
]

CONTAINER = "/dev/vfio/vfio"
IOMMU = "/dev/iommu"
MODES = ("type1", "type1v2", "compat-type1", "compat-type1v2", "iommufd")
TCE = "tce"
EVERY_MODE = (*MODES, TCE)
"""With POWER's: for tests of nothing that differs there."""
_IN_CONTAINER = ("type1", "type1v2", TCE)


class DeviceNodes(Protocol):
    """What `open_device` needs of a bound device."""

    @property
    def address(self) -> str:
        """Its name in its group."""

    @property
    def group(self) -> str:
        """The group's node."""

    @property
    def cdev(self) -> str:
        """The node of the device itself."""


class OpenDevice:
    """An open device with its address space: `fd`, `container` (or iommufd), `group` and `ioas` where there are."""

    def __init__(self, backend: Backend, files: OpenFiles, mode: str) -> None:
        self.backend = backend
        self.files = files
        self.mode = mode
        self.container = self.group = self.fd = -1
        self.ioas = self.devid = 0

    @property
    def version(self) -> int:
        """The number of the container's IOMMU for ``VFIO_SET_IOMMU``."""
        if self.mode == TCE:
            return vfio.VFIO_SPAPR_TCE_v2_IOMMU
        return vfio.VFIO_TYPE1v2_IOMMU if self.mode.endswith("v2") else vfio.VFIO_TYPE1_IOMMU

    def map(self, iova: int, vaddr: int, size: int, *, read: bool = True, write: bool = True) -> None:
        """Map `size` bytes at `vaddr` for the device at `iova`."""
        if self.mode == "iommufd":
            flags = requests.ioas_flags(read=read, write=write)
            requests.ioas_map(self.backend, self.container, self.ioas, vaddr, size, iova, flags)
        else:
            requests.map_dma(self.backend, self.container, iova, vaddr, size, requests.map_flags(read, write))

    def unmap(self, iova: int, size: int) -> int:
        """Unmap; the bytes that were unmapped."""
        if self.mode == "iommufd":
            return requests.ioas_unmap(self.backend, self.container, self.ioas, iova, size)
        return requests.unmap_dma(self.backend, self.container, iova, size)

    def unmap_nothing(self, iova: int, size: int) -> bool:
        """Whether an unmap finds nothing: 0 bytes, or ENOENT of an IOAS."""
        try:
            return self.unmap(iova, size) == 0
        except FileNotFoundError:
            return True

    def ranges(self) -> list[tuple[int, int]]:
        """The IOVA ranges, (first, last) of each; one that covers all where the kernel names none."""
        if self.mode == "iommufd":
            return requests.ioas_ranges(self.backend, self.container, self.ioas)[0]
        return requests.iova_ranges(self.backend, self.container)

    @property
    def base(self) -> int:
        """The first IOVA that may be mapped."""
        return self.ranges()[0][0]


def _has(backend: Backend, extension: int) -> bool:
    fd = backend.open(CONTAINER, os.O_RDWR)
    try:
        return backend.ioctl(fd, vfio.VFIO_CHECK_EXTENSION, extension) > 0
    finally:
        backend.close(fd)


def require_mode(backend: Backend, mode: str) -> None:
    """Skip the test where the kernel has not what `mode` needs, as POWER's has neither type 1 nor, in Debian, iommufd.

    Who cannot open the container's node, or finds no iommufd where there is type 1, is told so by the test itself.
    """
    try:
        type1 = _has(backend, vfio.VFIO_TYPE1v2_IOMMU)
    except OSError:
        return
    if mode == TCE and group_mode(backend) != TCE:
        pytest.skip("this kernel has no sPAPR TCE IOMMU")
    if not type1 and mode in ("type1", "type1v2"):
        pytest.skip("this kernel has no type 1 IOMMU")
    if not type1 and mode not in _IN_CONTAINER and not Attributes(backend).exists(IOMMU):
        pytest.skip("this kernel has no iommufd")


def require_node(backend: Backend, path: str) -> None:
    """Skip the test of a node where it is iommufd's and the kernel has none."""
    if path == IOMMU:
        require_mode(backend, "iommufd")


def require_way(backend: Backend, way: str) -> None:
    """Skip the test where the kernel has not that way of the library's: ``group`` or ``iommufd``."""
    require_mode(backend, group_mode(backend) if way == "group" else way)


def group_mode(backend: Backend) -> str:
    """The mode of a device that is opened by its group: type1v2, or tce where the kernel has that alone."""
    try:
        tce = _has(backend, vfio.VFIO_SPAPR_TCE_v2_IOMMU) and not _has(backend, vfio.VFIO_TYPE1v2_IOMMU)
    except OSError:
        return "type1v2"
    return TCE if tce else "type1v2"


def open_device(backend: Backend, files: OpenFiles, device: DeviceNodes, mode: str) -> OpenDevice:
    """Open `device` in `mode`; all descriptors go to `files`, in the order in which they may be closed backwards."""
    require_mode(backend, mode)
    opened = OpenDevice(backend, files, mode)
    opened.container = files.open(CONTAINER if mode in _IN_CONTAINER else IOMMU)
    if mode == "iommufd":
        opened.fd = files.open(device.cdev)
        opened.devid = requests.bind_iommufd(backend, opened.fd, opened.container)
        opened.ioas = requests.ioas_alloc(backend, opened.container)
        requests.attach_iommufd(backend, opened.fd, opened.ioas)
        return opened
    opened.group = files.open(device.group)
    requests.set_container(backend, opened.group, opened.container)
    backend.ioctl(opened.container, vfio.VFIO_SET_IOMMU, opened.version)
    opened.fd = files.adopt(requests.device_fd(backend, opened.group, device.address))
    return opened
