"""An open VFIO device: information, regions, interrupts, reset.

Closing order, which `Device.close` keeps and the tests check:

1. nobody watches for requests any more; interrupts are disabled and their eventfds closed;
2. mappings of regions are undone;
3. the device's descriptor is closed: the kernel stops the device and its DMA;
4. what was opened for this device only: the address space's mappings, then the group leaves the container, group and
   container are closed; with iommufd, the address space is destroyed, then iommufd is closed.

So no memory is unmapped under a device that still runs.  `DmaBuffer`s are closed before the device (they are inside its
``with`` block) or after it, both are right.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from uuid import UUID

from pyvfio.abi import vfio as abi
from pyvfio.abi.layout import Capability
from pyvfio.abi.vfio_feature import VFIO_DEVICE_FEATURE_PCI_VF_TOKEN
from pyvfio.arguments import require_numbers
from pyvfio.backend import Backend
from pyvfio.call import Call, read_info
from pyvfio.errors import KernelRefused, Misuse, PyvfioError
from pyvfio.iommu.address_space import AddressSpace
from pyvfio.vfio.feature import Features
from pyvfio.vfio.irq import Irq
from pyvfio.vfio.region import Region
from pyvfio.vfio.request import RequestWatch
from pyvfio.vfio.token import vf_token

if TYPE_CHECKING:
    from pyvfio.iommu.nested import NestedTable, NestParent
    from pyvfio.pci.config import ConfigSpace
    from pyvfio.pci.device_error import DeviceError
    from pyvfio.vfio.cdev import Cdev
    from pyvfio.vfio.dma_log import DmaLog
    from pyvfio.vfio.error import ErrorWatch
    from pyvfio.vfio.group import Group
    from pyvfio.vfio.hot_reset import HotReset
    from pyvfio.vfio.migration import Migration
    from pyvfio.vfio.ways import Way
    from pyvfio.zpci.facts import ZpciFacts

__all__ = ["Device", "DeviceFacts"]

_KINDS = {
    abi.DeviceFlags.PCI: "pci",
    abi.DeviceFlags.PLATFORM: "platform",
    abi.DeviceFlags.AMBA: "amba",
    abi.DeviceFlags.CCW: "ccw",
    abi.DeviceFlags.AP: "ap",
    abi.DeviceFlags.FSL_MC: "fsl-mc",
    abi.DeviceFlags.CDX: "cdx",
}


_REQUEST = {
    "pci": abi.VFIO_PCI_REQ_IRQ_INDEX,
    "ccw": abi.VFIO_CCW_REQ_IRQ_INDEX,
    "ap": abi.VFIO_AP_REQ_IRQ_INDEX,
}
"""Kind of device -> its request interrupt."""


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What the kernel says of a device: `flags`, the numbers of region and interrupt indexes, its `capabilities`."""

    flags: abi.DeviceFlags
    num_regions: int
    num_irqs: int
    capabilities: tuple[Capability, ...]

    @property
    def kind(self) -> str:
        """``pci``, ``ccw``, ``ap``, ``platform``, ...; ``unknown`` for a later kind."""
        return next((name for flag, name in _KINDS.items() if self.flags & flag), "unknown")


class Device:
    """An open device.  Made by `open_device`; a context manager with the closing order of the module.

    `way` is ``iommufd``, ``group``, ``noiommu`` or ``handed-over``, `why` says why, and `ways` why each of the others
    was not taken.  `space` is its address space; `cdev` is its own node's descriptor, where it was opened by that.
    """

    def __init__(
        self,
        backend: Backend,
        name: str,
        fd: int,
        *,
        close_fd: Callable[[], None],
        space: AddressSpace,
        way: str,
        why: str,
        ways: tuple[Way, ...] = (),
        resources: ExitStack,
    ) -> None:
        self.backend = backend
        self.name = name
        self.space = space
        self.way = way
        self.why = why
        self.ways = ways
        self.cdev: Cdev | None = None
        self.group: Group | None = None
        """Its group, if it was opened by that."""
        self._fd = fd
        self._close_fd = close_fd
        self._resources = resources
        self._call = Call(backend, fd, name)
        self._regions: dict[int, Region] = {}
        self._irqs: dict[int, Irq] = {}
        self._facts: DeviceFacts | None = None
        self._watch: RequestWatch | None = None
        self._migration: Migration | None = None
        self._errors: ErrorWatch | None = None
        self._closing = threading.Lock()
        self._closed = threading.Event()
        self.feature = Features(self._call)

    def fileno(self) -> int:
        """The device's descriptor (-1 after `close`)."""
        return self._fd

    @property
    def info(self) -> DeviceFacts:
        """What the kernel says of the device; it is asked once."""
        if self._facts is None:
            answer, capabilities = read_info(
                self._call, "read device info", abi.VFIO_DEVICE_GET_INFO, abi.DeviceInfo, "device info"
            )
            flags = abi.DeviceFlags(answer.flags)
            self._facts = DeviceFacts(flags, int(answer.num_regions), int(answer.num_irqs), tuple(capabilities))
        return self._facts

    @property
    def kind(self) -> str:
        """``pci``, ``ccw``, ``ap``, ..."""
        return self.info.kind

    # regions

    def region(self, index: int) -> Region:
        """Region `index`; the same object each time.

        Raise the class for the errno: EINVAL for an index that the device does not have (for a PCI device, the VGA
        region of anything that is no display).
        """
        found = self._regions.get(index)
        if found is None:
            require_numbers("Device.region", index=index)
            answer, capabilities = read_info(
                self._call,
                f"read region {index} info",
                abi.VFIO_DEVICE_GET_REGION_INFO,
                abi.RegionInfo,
                "region info",
                index=index,
            )
            found = self._regions[index] = Region(
                self.backend, self.fileno, self.name, answer, capabilities, takes_instructions=self._is_zpci
            )
        return found

    def regions(self) -> list[Region]:
        """All regions that the device has and that are not empty."""
        found: list[Region] = []
        for index in range(self.info.num_regions):
            if self.kind == "pci" and index == abi.VFIO_PCI_VGA_REGION_INDEX:
                continue  # refused for every device that is no display; ask `region` for it
            region = self.region(index)
            if region.size:
                found.append(region)
        return found

    def bar(self, number: int) -> Region:
        """Base address register 0 to 5 of a PCI device; its size is 0 when the device has none there."""
        if not 0 <= number <= abi.VFIO_PCI_BAR5_REGION_INDEX - abi.VFIO_PCI_BAR0_REGION_INDEX:
            raise Misuse("find BAR", self.name, cause=f"a function has BARs 0 to 5, not {number}")
        self._require("pci", "find BAR")
        return self.region(abi.VFIO_PCI_BAR0_REGION_INDEX + number)

    @property
    def config(self) -> ConfigSpace:
        """The configuration space of a PCI device, as VFIO shows it.  Raise `Misuse` for another kind of device."""
        from pyvfio.pci.config import ConfigSpace

        self._require("pci", "read configuration space")
        region = self.region(abi.VFIO_PCI_CONFIG_REGION_INDEX)
        return ConfigSpace(region.read, self.name, size=region.size, write=region.write)

    def find_region(self, kind: int, subtype: int) -> Region | None:
        """The region beyond the fixed indexes which has this type and subtype, None when the device has none."""
        return next((region for region in self.regions() if region.type == (kind, subtype)), None)

    # interrupts

    def irq(self, index: int) -> Irq:
        """Interrupt `index`; the same object each time.  Raise the class for the errno (EINVAL: no such index)."""
        found = self._irqs.get(index)
        if found is None:
            require_numbers("Device.irq", index=index)
            answer = abi.IrqInfo.sized(index=index)
            self._call(f"read interrupt {index} info", abi.VFIO_DEVICE_GET_IRQ_INFO, answer)
            found = self._irqs[index] = Irq(self._call, f"{self.name} interrupt {index}", answer)
        return found

    def irqs(self) -> list[Irq]:
        """All interrupt indexes that have a vector; those that the kernel refuses are left out."""
        found: list[Irq] = []
        for index in range(self.info.num_irqs):
            if self.kind == "pci" and index == abi.VFIO_PCI_ERR_IRQ_INDEX and not self._has_irq(index):
                continue  # refused for a device that is not PCI Express
            irq = self.irq(index)
            if irq.count:
                found.append(irq)
        return found

    def renew_interrupts(self) -> None:
        """Set up the pin, MSI or MSI-X again as it was enabled here: a reset of the function has cleared it."""
        for index in (abi.VFIO_PCI_INTX_IRQ_INDEX, abi.VFIO_PCI_MSI_IRQ_INDEX, abi.VFIO_PCI_MSIX_IRQ_INDEX):
            if self.kind == "pci" and index in self._irqs:
                self._irqs[index].renew()

    @property
    def request(self) -> Irq | None:
        """The interrupt by which the kernel asks for the device back, None when the device has none.

        It can be polled as any other; `on_request` watches it on a thread.
        """
        index = _REQUEST.get(self.kind)
        return self.irq(index) if index is not None and index < self.info.num_irqs and self._has_irq(index) else None

    def on_request(self, callback: Callable[[Device], None]) -> RequestWatch:
        """Call `callback` with this device when the kernel asks for it back, on a thread of its own, until `close`.

        ``device.on_request(Device.close)`` lets go, so that an unbind ends; so does ``open_device(let_go=True)``.  What
        other threads do with the device then fails with `Misuse`.  Raise `Misuse` when the device has no such
        interrupt, when it is enabled already, or when it is watched.
        """
        irq = self.request
        if irq is None:
            raise Misuse("watch for requests", self.name, cause=f"a {self.kind} device has no request interrupt here")
        with self._closing:  # a callback that closes comes to know the watch
            self._watch = RequestWatch(self, irq, callback)
        return self._watch

    # the address space

    def attach(self, space: AddressSpace, *, dirty_tracking: bool = False) -> None:
        """Let the device use another address space of its iommufd, in place of the present one, if any.

        Mappings stay in both.  On IBM Z there is a moment in which the device has neither, so it should be at rest; on
        other machines the kernel replaces one page table by the other.  The device does not close `space`.  With
        `dirty_tracking` the IOMMU notes what the device writes, for `AddressSpace.dirty_log`.

        Raise `NotAvailable` when the IOMMU does not note writes, `Misuse` for a device that was not opened by iommufd
        (its group is what has an address space: `Container`) or an address space of another kind or iommufd, else the
        class for the errno; then nothing was changed.
        """
        self._own_node("attach device").attach(space, dirty_tracking=dirty_tracking)
        self.space = space

    def nest_parent(self, space: AddressSpace) -> NestParent:
        """What page tables of this program are made in that take their addresses from `space`, for `attach_nested`.

        Raise `NotAvailable` where the device's IOMMU does not nest (EOPNOTSUPP), `Misuse` as `attach`, or the class for
        the errno.
        """
        from pyvfio.iommu.nested import NestParent

        return NestParent(space, self._own_node("nest page tables"))

    def attach_nested(self, table: NestedTable) -> None:
        """Let the device use a page table of this program, in place of the present one, if any.

        Its addresses are those of the table then, and the table's those of the address space that it is nested in.

        Raise `NotAvailable` for a table that the device's IOMMU cannot use, else as `attach`.
        """
        self._own_node("attach device").attach_nested(table)
        self.space = table.parent.space

    def detach(self) -> None:
        """Take the device out of its address space; until `attach` its DMA is blocked.  Errors as `attach`."""
        self._own_node("detach device").detach()

    def _own_node(self, operation: str) -> Cdev:
        if self.cdev is None:
            raise Misuse(
                operation,
                self.name,
                cause=f"it was opened by {self.way}; only a device opened by iommufd changes its address space",
                next_step='open it with way="iommufd", or close it and take its group out of the Container',
            )
        return self.cdev

    def export_dma_buf(self, region: int, pieces: Iterable[tuple[int, int]] | None = None) -> int:
        """Memory of a BAR as a dma-buf, for another device's driver or iommufd; the descriptor is the caller's.

        `pieces` are offsets and lengths in the region, None for all of it.  The kernel takes the memory back when the
        device is reset or closed.  Raise `NotAvailable` on kernels before 6.19 (ENOTTY) and for devices whose memory
        other devices cannot reach (EOPNOTSUPP), `Misuse` for what is no number of 64 bits, else the class for the
        errno.
        """
        from pyvfio.vfio.dma_buf import export

        whole = self.region(region)
        return export(self.feature, self.name, region, [(0, whole.size)] if pieces is None else list(pieces))

    # migration

    @property
    def migration(self) -> Migration:
        """The device's migration; the same object each time.  Raise `NotAvailable` when its driver cannot."""
        if self._migration is None:
            from pyvfio.vfio.migration import Migration

            self._migration = Migration(self)
        return self._migration

    def log_dma(self, ranges: Iterable[tuple[int, int]] | None = None, page_size: int | None = None) -> DmaLog:
        """Have the device log what it writes; `ranges` are pairs of IOVA and length, None for all that is mapped now.

        `page_size` is what is wanted (None: the smallest of the address space).  Raise `NotAvailable` when it cannot,
        `Misuse` when nothing is mapped, else the class for the errno.
        """
        from pyvfio.vfio.dma_log import DmaLog

        wanted = [(one.iova, one.length) for one in self.space.mappings()] if ranges is None else ranges
        return DmaLog(self.feature, self.name, wanted, page_size or self.space.granule)

    # errors of the hardware

    @property
    def error(self) -> Irq | None:
        """The interrupt by which the kernel tells of errors of the hardware, None when the device has none.

        It only fires; `errors` finds out what was behind it.
        """
        index = abi.VFIO_PCI_ERR_IRQ_INDEX
        return self.irq(index) if self.kind == "pci" and self._has_irq(index) else None

    def errors(self, *, patience: float = 5.0) -> ErrorWatch:
        """Watch for errors of the hardware: ``with device.errors() as errors: print(errors.wait())``.

        After a signal the watch gives the kernel up to `patience` seconds to end its recovery.  Raise `Misuse` when the
        device has no such interrupt (it is no function of PCI Express), or when it is enabled or watched already.
        """
        return self._watch_errors(patience, None)

    def on_error(self, callback: Callable[[DeviceError], None], *, patience: float = 5.0) -> ErrorWatch:
        """Call `callback` with each error of the hardware on a thread of its own, until `close`.  As `errors`."""
        return self._watch_errors(patience, callback)

    def _watch_errors(self, patience: float, callback: Callable[[DeviceError], None] | None) -> ErrorWatch:
        from pyvfio.vfio.error import ErrorWatch  # it decodes much that other programs do not need

        irq = self.error
        if irq is None:
            raise Misuse("watch for errors", self.name, cause="only a function of PCI Express has an error interrupt")
        with self._closing:  # a callback that closes comes to know the watch
            self._errors = ErrorWatch(self, irq, patience=patience, callback=callback)
        return self._errors

    # the rest

    def set_vf_token(self, token: UUID | str) -> None:
        """Set the VF token of a physical function: who opens one of its virtual functions must give it.

        Raise `Misuse` for a device that is no physical function of vfio-pci (ENOTTY), `BadAddress` for a bad token.
        """
        value = vf_token(token)
        try:
            self.feature.set(VFIO_DEVICE_FEATURE_PCI_VF_TOKEN, value.bytes)
        except PyvfioError as error:
            if error.errno == errno.ENOTTY:
                raise Misuse(
                    "set VF token",
                    self.name,
                    errno=error.errno,
                    cause="it is no physical function whose virtual functions vfio-pci would guard",
                ) from error
            raise

    def reset(self) -> None:
        """Reset the device.  Raise `Misuse` when it has no reset, else the class for the errno."""
        if not self.info.flags & abi.DeviceFlags.RESET:
            raise Misuse("reset device", self.name, cause="the kernel says that it cannot be reset")
        self._call("reset device", abi.VFIO_DEVICE_RESET)

    def hot_reset_info(self) -> HotReset:
        """What a hot reset of the device would reset with it, and by whom that is owned.

        Raise `NotAvailable` for a function on a root bus, `Misuse` for another kind of device.
        """
        from pyvfio.vfio.hot_reset import hot_reset_info

        self._require("pci", "read hot reset info")
        return hot_reset_info(self._call)

    def hot_reset(self, groups: Iterable[Group] | None = None) -> None:
        """Reset the whole slot or bus that the device is in; all functions there must be the caller's.

        A device opened by its group takes the `groups` that the caller has open (None: only its own); one opened by
        its own node takes none, and asks its iommufd.  Raise `KernelRefused` which names what is not owned,
        `NotAvailable` for a function on a root bus, `Misuse`.
        """
        from pyvfio.vfio.hot_reset import hot_reset

        self._require("pci", "hot reset")
        if self.cdev is not None:
            if groups is not None:
                raise Misuse("hot reset", self.name, cause="it was opened by its own node, which takes no groups")
            hot_reset(self._call, None)
            return
        own = [self.group] if self.group is not None else []
        hot_reset(self._call, own if groups is None else groups)

    @property
    def _is_zpci(self) -> bool:
        return any(one.id == abi.VFIO_DEVICE_INFO_CAP_ZPCI_BASE for one in self.info.capabilities)

    @property
    def zpci(self) -> ZpciFacts | None:
        """The facts of a zPCI function, None on any other device."""
        from pyvfio.zpci.facts import ZpciFacts

        return ZpciFacts.from_capabilities(self.info.capabilities)

    def close(self) -> None:
        """Close in the order of the module.  What fails does not keep the rest open.

        A second call does nothing; while another thread closes, it waits for the end of that.
        """
        with self._closing:
            fd, self._fd = self._fd, -1
        watches = [one for one in (self._watch, self._errors) if one is not None]
        if fd < 0:
            if not any(watch.is_here for watch in watches):
                self._closed.wait()
            return
        try:
            for watch in watches:
                watch.stop()
            with self._resources, ExitStack() as first:
                first.callback(self._close_fd)
                first.callback(self._call.end)
                for region in self._regions.values():
                    first.callback(region.close)
                for irq in self._irqs.values():
                    first.callback(irq.close)
        finally:
            self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Device {self.name} by {self.way}{'' if self._fd >= 0 else ', closed'}>"

    def _has_irq(self, index: int) -> bool:
        try:
            self.irq(index)
        except KernelRefused:
            return False
        return True

    def _require(self, kind: str, operation: str) -> None:
        if self.kind != kind:
            raise Misuse(operation, self.name, cause=f"it is a {self.kind} device, not {kind}")
