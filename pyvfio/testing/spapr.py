"""Containers of POWER in a test's hand: the requests of the sPAPR TCE IOMMU and of EEH, each field as the caller says.

As in `pyvfio.testing.requests` nothing is checked and nothing corrected.  Two things of Linux 6.12 are to be known:
it checks the first page of a range only, so a test that asks for pages behind the end of a window overwrites kernel
memory; and memory that is unregistered while it is mapped stays registered until the process ends.
"""

from __future__ import annotations

import ctypes
import os

import pytest

from pyvfio.abi import vfio, vfio_type1
from pyvfio.abi import vfio_spapr as spapr
from pyvfio.backend import Backend
from pyvfio.process import AnonymousMemory
from pyvfio.process.locked import Locked
from pyvfio.testing import requests
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.modes import CONTAINER

__all__ = [
    "BOTH",
    "SECOND_WINDOW",
    "TCE_PAGE",
    "PageMemory",
    "TceContainer",
    "add_group",
    "locked",
    "open_tce",
    "require_tce",
]

BOTH = (vfio.VFIO_SPAPR_TCE_IOMMU, vfio.VFIO_SPAPR_TCE_v2_IOMMU)
"""The versions 1 and 2."""
TCE_PAGE = 1 << 12
"""Bytes of a page of the default window, whatever the host's are (``IOMMU_PAGE_SHIFT_4K``)."""
SECOND_WINDOW = 1 << 59
"""Where the second window begins on bare metal (``pnv_pci_ioda2_create_table``)."""
_MEMORY_SIZE = ctypes.sizeof(spapr.IommuSpaprRegisterMemory)


def require_tce(backend: Backend) -> None:
    """Skip the test where the kernel has no such IOMMU."""
    if not Attributes(backend).exists(CONTAINER):
        pytest.skip("this kernel has no sPAPR TCE IOMMU")
    with requests.opened_file(backend, CONTAINER, os.O_RDWR) as fd:
        if not requests.check_extension(backend, fd, vfio.VFIO_SPAPR_TCE_IOMMU):
            pytest.skip("this kernel has no sPAPR TCE IOMMU")


def locked(backend: Backend) -> int:
    """The bytes that this process has locked."""
    return Locked.parse(Attributes(backend).read(f"/proc/{os.getpid()}/status")).size


def add_group(backend: Backend, files: OpenFiles, container: int, function: BoundFunction) -> int:
    """Put a function's group into a container; the group's descriptor, which is closed with `files`."""
    group = files.open(function.group)
    requests.set_container(backend, group, container)
    return group


def open_tce(backend: Backend, files: OpenFiles, function: BoundFunction, kind: int) -> TceContainer:
    """A container with the group of one function and the IOMMU of this `kind`; both are closed with `files`."""
    opened = TceContainer(backend, files.open(CONTAINER))
    opened.group = add_group(backend, files, opened.fd, function)
    opened.set_iommu(kind)
    return opened


class PageMemory(AnonymousMemory):
    """Memory that begins with a page of the host of `page` bytes, which may be larger than this process's own."""

    def __init__(self, length: int, page: int) -> None:
        super().__init__(length + page)
        start = -self.address % page
        self.address += start
        self.length = length
        whole = self.view
        self._view = whole[start : start + length]
        whole.release()


class TceContainer:
    """The requests of a container's descriptor; `group` is the one of `open_tce`."""

    group = -1

    def __init__(self, backend: Backend, fd: int) -> None:
        self.backend = backend
        self.fd = fd

    def set_iommu(self, kind: int) -> None:
        """``VFIO_SET_IOMMU``."""
        self.backend.ioctl(self.fd, vfio.VFIO_SET_IOMMU, kind)

    def extension(self, number: int) -> int:
        """``VFIO_CHECK_EXTENSION``."""
        return requests.check_extension(self.backend, self.fd, number)

    def info(self, argsz: int = ctypes.sizeof(spapr.IommuSpaprTceInfo)) -> spapr.IommuSpaprTceInfo:
        """``VFIO_IOMMU_SPAPR_TCE_GET_INFO``."""
        info = spapr.IommuSpaprTceInfo(argsz=argsz)
        self.backend.ioctl(self.fd, spapr.VFIO_IOMMU_SPAPR_TCE_GET_INFO, info)
        return info

    def enable(self) -> int:
        """``VFIO_IOMMU_ENABLE``."""
        return self.backend.ioctl(self.fd, vfio_type1.VFIO_IOMMU_ENABLE, 0)

    def disable(self) -> int:
        """``VFIO_IOMMU_DISABLE``."""
        return self.backend.ioctl(self.fd, vfio_type1.VFIO_IOMMU_DISABLE, 0)

    def map(
        self,
        iova: int,
        vaddr: int,
        size: int,
        flags: int = requests.READ_WRITE,
        argsz: int = ctypes.sizeof(vfio_type1.IommuType1DmaMap),
    ) -> int:
        """``VFIO_IOMMU_MAP_DMA``; what the request returned."""
        argument = vfio_type1.IommuType1DmaMap(argsz=argsz, flags=flags, vaddr=vaddr, iova=iova, size=size)
        return self.backend.ioctl(self.fd, vfio_type1.VFIO_IOMMU_MAP_DMA, argument)

    def unmap(
        self, iova: int, size: int, flags: int = 0, argsz: int = ctypes.sizeof(vfio_type1.IommuType1DmaUnmap)
    ) -> tuple[int, int]:
        """``VFIO_IOMMU_UNMAP_DMA``; what it returned, and the size in the answer."""
        argument = vfio_type1.IommuType1DmaUnmap(argsz=argsz, flags=flags, iova=iova, size=size)
        result = self.backend.ioctl(self.fd, vfio_type1.VFIO_IOMMU_UNMAP_DMA, argument)
        return result, int(argument.size)

    def _memory(self, number: int, vaddr: int, size: int, flags: int, argsz: int) -> int:
        argument = spapr.IommuSpaprRegisterMemory(argsz=argsz, flags=flags, vaddr=vaddr, size=size)
        return self.backend.ioctl(self.fd, number, argument)

    def register(self, vaddr: int, size: int, flags: int = 0, argsz: int = _MEMORY_SIZE) -> int:
        """``VFIO_IOMMU_SPAPR_REGISTER_MEMORY``."""
        return self._memory(spapr.VFIO_IOMMU_SPAPR_REGISTER_MEMORY, vaddr, size, flags, argsz)

    def unregister(self, vaddr: int, size: int, flags: int = 0, argsz: int = _MEMORY_SIZE) -> int:
        """``VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY``."""
        return self._memory(spapr.VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, vaddr, size, flags, argsz)

    def create(
        self,
        page_shift: int,
        size: int,
        levels: int = 1,
        flags: int = 0,
        argsz: int = ctypes.sizeof(spapr.IommuSpaprTceCreate),
    ) -> int:
        """``VFIO_IOMMU_SPAPR_TCE_CREATE``; where the window begins."""
        argument = spapr.IommuSpaprTceCreate(
            argsz=argsz, flags=flags, page_shift=page_shift, window_size=size, levels=levels
        )
        self.backend.ioctl(self.fd, spapr.VFIO_IOMMU_SPAPR_TCE_CREATE, argument)
        return int(argument.start_addr)

    def remove(self, start: int, flags: int = 0, argsz: int = ctypes.sizeof(spapr.IommuSpaprTceRemove)) -> int:
        """``VFIO_IOMMU_SPAPR_TCE_REMOVE``."""
        argument = spapr.IommuSpaprTceRemove(argsz=argsz, flags=flags, start_addr=start)
        return self.backend.ioctl(self.fd, spapr.VFIO_IOMMU_SPAPR_TCE_REMOVE, argument)

    def eeh(
        self,
        op: int,
        *,
        flags: int = 0,
        argsz: int = ctypes.sizeof(spapr.EehPeOp),
        error: tuple[int, int, int, int] = (0, 0, 0, 0),
    ) -> int:
        """``VFIO_EEH_PE_OP``; `error` is the type, the function, the address and the mask of one to inject."""
        argument = spapr.EehPeOp(argsz=argsz, flags=flags, op=op)
        argument.err.type, argument.err.func, argument.err.addr, argument.err.mask = error
        return self.backend.ioctl(self.fd, spapr.VFIO_EEH_PE_OP, argument)
