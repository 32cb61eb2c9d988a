"""A host bridge of POWER with two functions, each with an endpoint and an IOMMU group, and containers' requests.

The functions are those of the fake devices ``p0`` and ``p1``; nothing else of a POWER machine is there.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from vfio_fixture import PAGE, Lab

from pyvfio.abi import opal as api
from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_spapr as spapr
from pyvfio.abi import vfio_type1 as t1
from pyvfio.abi.opal import OpalBusCompare
from pyvfio.abi.pci_regs import ExpressType
from pyvfio.ioda.segments import Segments
from pyvfio_backends.software.hardware.ioda.model import PHB4
from pyvfio_backends.software.hardware.ioda.opal import Opal
from pyvfio_backends.software.hardware.ioda.phb import Phb
from pyvfio_backends.software.hardware.ioda.placement import apertures, arrange
from pyvfio_backends.software.hardware.ioda.port import phb_port
from pyvfio_backends.software.hardware.pci.bar import Bar
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.pcie.block import Memory
from pyvfio_backends.software.hardware.pcie.express import Express
from pyvfio_backends.software.hardware.pcie.firmware import Firmware
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.linux.iommu_group import IommuGroup
from pyvfio_backends.software.linux.pnv_table_group import PnvTableGroup
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfio_state import vfio_core

BUS_PE = 10
PES = {"p0": 20, "p1": 21}
M32_BUS = 0x80000000
MEMORY_SIZE = 4 << 30
SECOND = 1 << 59


def _function(name: str) -> Function:
    size = 0x10000
    config = ConfigSpace(Identity(0x1234, 0x5678, 0x1234, 1, 0xFF0000, 1))
    function = Function(config, [Bar(0, size, regs.PCI_BASE_ADDRESS_SPACE_MEMORY, Memory(size))], name=name)
    function.add(Express(ExpressType.ENDPOINT))
    return function


@dataclass
class Eeh:
    """EEH that answers `answer` for each group, and notes whose turn it was."""

    answer: int = 0
    enabled: bool = True
    asked: list[int] = field(default_factory=list)

    def pe_op(self, group: IommuGroup, argument: Argument) -> int:
        self.asked.append(group.number)
        return self.answer


class SpaprLab(Lab):
    """See above.  `functions` and `groups` are by the names of the devices."""

    def __init__(
        self, *, memlock: int = -1, page_size: int = PAGE, functions: Mapping[str, Function] | None = None
    ) -> None:
        super().__init__(memlock=memlock, page_size=page_size)
        self.core = vfio_core(self.kernel)
        self.core.type1 = False
        self.core.load_spapr_tce()
        self.eeh = self.core.eeh = Eeh()
        port = phb_port(PHB4)
        self.phb = Phb(PHB4, self.core.real_memory, port, Segments(0x600C000000000, M32_BUS, 1 << 31, PHB4.segments))
        self.functions = {name: _function(name) for name in PES} if functions is None else dict(functions)
        port.plug_all(dict(enumerate(self.functions.values())))
        with self.phb.probing():
            Firmware(apertures(self.phb), arrange=arrange(self.phb)).set_up(self.phb)
        self.opal = Opal({0: self.phb})
        self.groups: dict[str, PnvTableGroup] = {}
        for name, function in self.functions.items():
            assert not self.opal.pci_set_pe(0, PES[name], function.rid, OpalBusCompare.ALL, 1, 1, api.OPAL_MAP_PE)
            function.config.write(regs.PCI_COMMAND, 2, function.config.command | regs.PCI_COMMAND_MASTER)
            self.groups[name] = group = PnvTableGroup(
                self.opal, 0, PES[name], self.kernel.memory, dma32_size=M32_BUS, memory_size=MEMORY_SIZE
            )
            iommu_group = self.fake(name).device.iommu_group
            assert iommu_group is not None
            iommu_group.table_group = group

    @property
    def locked(self) -> int:
        """KiB that this process has locked, as ``VmLck`` of its status says."""
        return self.kernel.locked_pages(os.getpid())[0] * self.page >> 10

    # requests; those that Lab has raise OSError too

    def spapr_info(self, fd: int, argsz: int = 32) -> dict[str, int]:
        info = spapr.IommuSpaprTceInfo(argsz=argsz)
        self.host.ioctl(fd, spapr.VFIO_IOMMU_SPAPR_TCE_GET_INFO, info)
        return {
            "argsz": info.argsz,
            "flags": info.flags,
            "dma32_start": info.dma32_window_start,
            "dma32_size": info.dma32_window_size,
            "ddw_pgsizes": info.ddw.pgsizes,
            "max_windows": info.ddw.max_dynamic_windows_supported,
            "levels": info.ddw.levels,
        }

    def map_raw(self, fd: int, iova: int, size: int, vaddr: int, flags: int = 3) -> int:
        request = t1.IommuType1DmaMap.sized(flags=flags, vaddr=vaddr, iova=iova, size=size)
        return self.host.ioctl(fd, t1.VFIO_IOMMU_MAP_DMA, request)

    def register(self, fd: int, vaddr: int, size: int, flags: int = 0) -> int:
        request = spapr.IommuSpaprRegisterMemory.sized(flags=flags, vaddr=vaddr, size=size)
        return self.host.ioctl(fd, spapr.VFIO_IOMMU_SPAPR_REGISTER_MEMORY, request)

    def unregister(self, fd: int, vaddr: int, size: int) -> int:
        request = spapr.IommuSpaprRegisterMemory.sized(vaddr=vaddr, size=size)
        return self.host.ioctl(fd, spapr.VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, request)

    def create(self, fd: int, page_shift: int, size: int, levels: int = 1, flags: int = 0) -> int:
        request = spapr.IommuSpaprTceCreate.sized(flags=flags, page_shift=page_shift, window_size=size, levels=levels)
        self.host.ioctl(fd, spapr.VFIO_IOMMU_SPAPR_TCE_CREATE, request)
        return int(request.start_addr)

    def remove(self, fd: int, start: int) -> int:
        return self.host.ioctl(fd, spapr.VFIO_IOMMU_SPAPR_TCE_REMOVE, spapr.IommuSpaprTceRemove.sized(start_addr=start))

    def enable(self, fd: int) -> int:
        return self.host.ioctl(fd, t1.VFIO_IOMMU_ENABLE, 0)

    def ready_v1(self, name: str = "p0") -> int:
        """A container of version 1 that is enabled."""
        container = self.ready(name, abi.VFIO_SPAPR_TCE_IOMMU)[0]
        self.enable(container)
        return container

    def ready_v2(self, vaddr: int, size: int, name: str = "p0") -> int:
        """A container of version 2 with registered memory."""
        container = self.ready(name, abi.VFIO_SPAPR_TCE_v2_IOMMU)[0]
        self.register(container, vaddr, size)
        return container


GOLDEN = "ppc64/lab/spapr_tce.json"


@contextmanager
def protected(address: int, protection: int) -> Iterator[None]:
    """One page that may only be used like this."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert not libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(PAGE), protection)
    yield
    assert not libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(PAGE), mmap.PROT_READ | mmap.PROT_WRITE)
