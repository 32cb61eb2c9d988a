"""What VFIO keeps for a whole kernel: its groups, its numbers, and the users of its modules."""

from __future__ import annotations

import errno
from functools import cached_property
from typing import TYPE_CHECKING, Final

from pyvfio.process.descriptor import identity
from pyvfio_backends.software.linux.dma_domain import LockedMemory
from pyvfio_backends.software.linux.file import File
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.subsystems import Key
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.iommu_group import IommuGroup
    from pyvfio_backends.software.linux.iommufd import IommufdContext
    from pyvfio_backends.software.linux.real_memory import RealMemory
    from pyvfio_backends.software.linux.spapr_memory import RegisteredMemory
    from pyvfio_backends.software.linux.spapr_tce import EehService
    from pyvfio_backends.software.linux.vfio_group import VfioGroup

__all__ = ["VfioCore", "lowest_free", "vfio_core"]

_VFIO: Final[Key[VfioCore]] = Key("vfio")


class VfioCore:
    """What VFIO keeps for a kernel: groups, numbers, the pages its users have locked and the modules' parameters.

    `cdev` says whether devices get a node of their own (``CONFIG_VFIO_DEVICE_CDEV``), `type1` whether the module
    vfio_iommu_type1 is loaded, `dma_entry_limit` is its parameter.  `can_do_without` says whether devices without an
    IOMMU can be offered at all (``CONFIG_VFIO_NOIOMMU``), `without_iommu` whether they are
    (``enable_unsafe_noiommu_mode``).
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.cdev = True
        self.type1 = True
        self.dma_entry_limit = 65535
        self.can_do_without = False
        self.without_iommu = False
        self.groups: dict[IommuGroup, VfioGroup] = {}
        self.minors: set[int] = set()
        self.indexes: set[int] = set()
        self.locked = LockedMemory(kernel)
        self.registered: RegisteredMemory | None = None
        """What programs registered on POWER; None unless the module vfio_iommu_spapr_tce is loaded."""
        self.eeh: EehService | None = None
        """EEH, for containers on POWER."""
        kernel.locked_pages = lambda pid: (self.locked.locked(("process", pid)), self.locked.pinned(pid))

    @cached_property
    def real_memory(self) -> RealMemory:
        """Memory by real addresses, with the pages that are pinned for TCE tables: what host bridges of POWER see."""
        from pyvfio_backends.software.linux.real_memory import RealMemory

        return RealMemory(self.kernel.memory)

    def load_spapr_tce(self) -> None:
        """Have containers for TCE tables, as the module vfio_iommu_spapr_tce does."""
        from pyvfio_backends.software.linux.spapr_memory import RegisteredMemory

        self.registered = RegisteredMemory(self.real_memory, self.locked)

    def close(self) -> None:
        """The machine is no more: no pages stay pinned."""
        if "real_memory" in self.__dict__:
            self.real_memory.close()

    def take_minor(self) -> int:
        """A minor number for a group's node."""
        return lowest_free(self.minors)

    def file_of(self, fd: int) -> File | None:
        """The open file behind a number a program gave; None for one that is not the machine's.  Raise EBADF."""
        self.kernel.fds.reap()  # a number that was closed and reused elsewhere is another file now
        try:
            return self.kernel.fds.get(fd)
        except OSError:
            if identity(fd) is None:
                raise
            return None

    def iommufd_of(self, fd: int) -> IommufdContext:
        """The iommufd behind a number.  Raise OSError EBADF, or EBADFD for another file."""
        from pyvfio_backends.software.linux.iommufd import IommufdFile

        file = self.file_of(fd)
        if not isinstance(file, IommufdFile):
            raise fail(errno.EBADFD)
        return file.context

    def hold(self, module: str, change: int = 1) -> None:
        """Count a user of a module, if it is loaded (``try_module_get``, ``module_put``)."""
        loaded = self.kernel.modules.table.get(module)
        if loaded is not None:
            loaded.refcnt += change


def vfio_core(kernel: Kernel) -> VfioCore:
    """The core of this kernel, made when it is first asked for."""
    return kernel.subsystems.get_or_make(_VFIO, lambda: VfioCore(kernel))


def lowest_free(numbers: set[int], first: int = 0) -> int:
    """Take the lowest number from `first` on that is not in the set (an ida)."""
    number = first
    while number in numbers:
        number += 1
    numbers.add(number)
    return number
