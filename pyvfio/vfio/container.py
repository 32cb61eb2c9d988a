"""The container: ``/dev/vfio/vfio``, one address space for the groups in it.

Order of the calls, which the methods keep: a group is attached, then the IOMMU is set, then there is an address space
to map in and devices can be opened.  Source: ``Documentation/driver-api/vfio.rst``, ``drivers/vfio/container.c``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pyvfio.abi import vfio as abi
from pyvfio.arguments import require_host
from pyvfio.call import Call
from pyvfio.errors import Misuse, NotAvailable, PyvfioError
from pyvfio.iommu.address_space import AddressSpace
from pyvfio.iommu.type1 import PREFERENCE, Type1Table
from pyvfio.node import open_node
from pyvfio.vfio.ways import CONTAINER_NODE, NO_IOMMU_SWITCH

if TYPE_CHECKING:
    from pyvfio.backend import WritableBuffer
    from pyvfio.host import Host
    from pyvfio.iommu.spapr import SpaprTable
    from pyvfio.vfio.group import Group

__all__ = ["Container"]


class Container:
    """An open container.  A context manager; close devices and groups before it.

    Raise `NotAvailable` when VFIO is not there or speaks another version, `PermissionDenied`, or the errno's class.
    """

    def __init__(self, host: Host) -> None:
        require_host("Container", host)
        self.backend = host.backend
        self._fd = open_node(host.sysfs, CONTAINER_NODE, "open VFIO container")
        self._call = Call(self.backend, self._fd, "container", CONTAINER_NODE)
        self._groups: list[Group] = []
        self._type: tuple[int, int] | None = None
        self._space: AddressSpace | None = None
        self._tce: SpaprTable | None = None
        try:
            version = self._call("read VFIO version", abi.VFIO_GET_API_VERSION)
            if version != abi.VFIO_API_VERSION:
                raise NotAvailable(
                    "open VFIO container", path=CONTAINER_NODE, cause=f"the kernel speaks VFIO version {version}"
                )
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """The descriptor (-1 after `close`)."""
        return self._fd

    def supports(self, extension: int) -> bool:
        """Whether the kernel has an extension (`pyvfio.abi.vfio.Extension`)."""
        return self._call("check VFIO extension", abi.VFIO_CHECK_EXTENSION, int(extension)) > 0

    def extensions(self) -> list[abi.Extension]:
        """The extensions it has now; some appear only when an IOMMU is set."""
        return [extension for extension in abi.Extension if self.supports(extension)]

    def request(self, operation: str, request: int, argument: WritableBuffer) -> int:
        """Make a request of the IOMMU that has no method of its own; `operation` is the word for errors.

        Raise the class for the errno.
        """
        return self._call(operation, request, argument)

    @property
    def groups(self) -> list[Group]:
        """The groups attached here."""
        return list(self._groups)

    @property
    def has_space(self) -> bool:
        """Whether an IOMMU is set."""
        return self._space is not None

    @property
    def space(self) -> AddressSpace:
        """The address space.  Raise `Misuse` before `set_iommu`."""
        if self._space is None:
            raise Misuse("map DMA", "container", cause="no IOMMU is set", next_step="attach a group, then set_iommu()")
        return self._space

    def attach(self, group: Group) -> None:
        """Put a group in.  Raise the class for the errno (EINVAL: it has a container already, or is not viable).

        When it is the first one again after all had left, the IOMMU is set and all mappings are made as they were.
        """
        group.set_container(self)
        self._groups.append(group)
        if self._space is None or self._type is None:
            return
        try:
            if len(self._groups) == 1:
                self._call("set IOMMU", abi.VFIO_SET_IOMMU, self._type[0])
                if self._tce is not None:
                    self._tce.start()
                self._space.restore()
            else:
                self._space.refresh()
        except BaseException:
            self.detach(group)
            raise

    def detach(self, group: Group) -> None:
        """Take a group out.  Raise `DeviceBusy` while one of its devices is open.

        With the last group the kernel drops the IOMMU and all mappings; the address space remembers them.  The TCE
        IOMMU drops all mappings with any group: those of the others are made again, but DMA in between is refused.
        """
        _take_out(group)
        self._groups.remove(group)
        if self._space is None:
            return
        if self._groups:
            self._space.left(self._tce.enter_again if self._tce is not None else lambda: None)
        else:
            self._space.dropped()

    def set_iommu(self, version: int | None = None, *, tce: int | None = None) -> AddressSpace:
        """Choose the IOMMU: type 1 `version` 2 or 1 (None: the highest there is), and return the address space.

        On POWER, where there is no type 1, it is the TCE IOMMU (`pyvfio.iommu.spapr`) of version `tce`, 2 or 1.

        Groups without an IOMMU have the type for that, and an address space in which nothing can be mapped
        (`pyvfio.iommu.noiommu`).  Raise `Misuse` without a group or when it is chosen, `NotAvailable` when the kernel
        has no such type, `PermissionDenied` without CAP_SYS_RAWIO where that is needed.
        """
        if self._space is not None:
            raise Misuse("set IOMMU", "container", cause="it is set")
        if not self._groups:
            raise Misuse("set IOMMU", "container", cause="no group is attached", next_step="attach one first")
        if any(group.without_iommu for group in self._groups):
            return self._set_no_iommu(version)
        for number, its_version in PREFERENCE:
            if tce is None and version in (None, its_version) and self.supports(number):
                self._call("set IOMMU", abi.VFIO_SET_IOMMU, number)
                self._type = (number, its_version)
                table = Type1Table(self._call, its_version, unmaps_all=self.supports(abi.VFIO_UNMAP_ALL))
                self._space = AddressSpace(table, self.backend, gone=self._gone)
                return self._space
        if version is None and (space := self._set_tce(tce)) is not None:
            return space
        raise self._no_such_iommu(tce=tce is not None, any_will_do=version is None and tce is None)

    def set_iommu_called(self, kind: str | None) -> AddressSpace:
        """As `set_iommu`, by the name of an IOMMU (`AddressSpace.kind`); None: the best there is."""
        versions, tces = {"type1v2": 2, "type1": 1}, {"tcev2": 2, "tce": 1}
        if kind is not None and kind not in (*versions, *tces):
            raise Misuse("set IOMMU", "container", cause=f"{kind!r} is none of {', '.join((*versions, *tces))}")
        return self.set_iommu(versions.get(kind or ""), tce=tces.get(kind or ""))

    def _no_such_iommu(self, *, tce: bool, any_will_do: bool) -> NotAvailable:
        """Why the kernel has no IOMMU of the kind that was asked for."""
        offered = self.extensions()
        named = ", ".join(one.name for one in offered) or "nothing"
        power = any(one in offered for one in (abi.Extension.SPAPR_TCE_IOMMU, abi.Extension.SPAPR_TCE_v2_IOMMU))
        cause, step = f"the kernel offers {named}", "modprobe vfio_iommu_type1 (on POWER: vfio_iommu_spapr_tce)"
        if tce and not power:
            cause += "; TCE is the IOMMU of POWER"
            step = "modprobe vfio_iommu_spapr_tce, if this is POWER" if not offered else 'way="group"'
        elif power and not any_will_do:
            cause += "; kernels of POWER have the TCE IOMMU and no type 1"
            step = 'way="group", "tcev2" or "tce"'
        return NotAvailable("set IOMMU", "container", cause=cause, next_step=step)

    def _set_tce(self, version: int | None) -> AddressSpace | None:
        """The TCE IOMMU of POWER; None when the kernel has none of this version."""
        from pyvfio.iommu.spapr import TCE_PREFERENCE, SpaprTable

        for number, its_version in TCE_PREFERENCE:
            if version in (None, its_version) and self.supports(number):
                self._call("set IOMMU", abi.VFIO_SET_IOMMU, number)
                self._type = (number, its_version)
                self._tce = SpaprTable(self._call, its_version)
                self._tce.start()
                self._space = AddressSpace(
                    self._tce, self.backend, gone=self._gone, grow=self._tce.grow, places=self._tce.places
                )
                return self._space
        return None

    def _set_no_iommu(self, version: int | None) -> AddressSpace:
        from pyvfio.iommu.noiommu import NoIommuTable

        if version is not None or not self.supports(abi.VFIO_NOIOMMU_IOMMU):
            cause = "its groups have no IOMMU" if version is not None else f"{NO_IOMMU_SWITCH} was switched off"
            raise NotAvailable("set IOMMU", "container", cause=cause)
        self._call("set IOMMU", abi.VFIO_SET_IOMMU, abi.VFIO_NOIOMMU_IOMMU)
        self._type = (abi.VFIO_NOIOMMU_IOMMU, 0)
        self._space = AddressSpace(NoIommuTable(), self.backend, gone=self._gone)
        return self._space

    def _gone(self) -> bool:
        """Whether the devices of all groups have left VFIO: the kernel has dropped the IOMMU then."""
        return bool(self._groups) and all(group.gone for group in self._groups)

    def close(self) -> None:
        """Remove the mappings, take the groups out, close the descriptor; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            if self._space is not None:
                self._space.close()
            for group in list(self._groups):
                if group.fileno() >= 0:
                    _take_out(group)
            self._groups.clear()
        finally:
            self._call.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _take_out(group: Group) -> None:
    """Take a group out of its container, unless the kernel has done that already."""
    try:
        group.unset_container()
    except PyvfioError:
        if not group.gone:
            raise
