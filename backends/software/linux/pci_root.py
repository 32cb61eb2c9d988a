"""A root bus and its ``pci_bus``: ``/sys/devices/pciDDDD:00`` (``arch/s390/pci/pci_bus.c``).

A function without a routing identifier has a bus of its own.  A physical function with one shares its bus with its
virtual functions; the first function of a bus decides on its domain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.pci_device import ROM
from pyvfio_backends.software.linux.pci_sysfs import number
from pyvfio_backends.software.linux.vfs import Attribute, Node

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci import PciBus
    from pyvfio_backends.software.linux.zpci import ZpciDev

__all__ = ["PciRoot"]

_DEVFN = 0xFF


class _BusDevice(Device):
    """``DDDD:00`` of class ``pci_bus``."""

    def __init__(self, root: PciRoot) -> None:
        kernel = root.device.kernel
        super().__init__(kernel, f"{root.domain:04x}:00", root.device, cls=kernel.class_("pci_bus"))
        self.root = root

    def attributes(self) -> dict[str, Node]:
        return {
            "cpuaffinity": Attribute(lambda: "1\n"),
            "cpulistaffinity": Attribute(lambda: "0\n"),
            "rescan": Attribute(store=self._store_rescan),
        }

    def _store_rescan(self, data: bytes) -> None:
        if number(data):
            self.root.rescan()


class PciRoot:
    """A bus with its `functions`, by devfn; `domain` is the first one's UID, or the lowest free number without UID
    checking.  `multifunction` says that devfns are routing identifiers; there is one such bus for a `pchid`.
    """

    def __init__(self, zdev: ZpciDev, bus: PciBus) -> None:
        facts = zdev.function.facts
        self.bus = bus
        self.functions: dict[int, ZpciDev] = {}
        self.domain = bus.take_domain(facts.uid)
        self.multifunction = facts.rid is not None and not facts.vfn
        self.pchid = facts.pchid
        self.device = Device(bus.kernel, f"pci{self.domain:04x}:00", None)
        self._bus_device = _BusDevice(self)

    @classmethod
    def of(cls, zdev: ZpciDev, bus: PciBus) -> PciRoot:
        """The bus that a new function belongs to: that of its physical function, else one of its own."""
        facts = zdev.function.facts
        if facts.rid is not None and facts.vfn:
            for other in bus.zdevs.values():
                root = other.root
                if root.multifunction and root.pchid == facts.pchid and root.has_parent_of(facts.rid, facts.vfn):
                    return root
        return cls(zdev, bus)

    def has_parent_of(self, rid: int, vfn: int) -> bool:
        """Whether a physical function here has this virtual one (``zpci_bus_is_isolated_vf``)."""
        return any(
            zdev.pdev is not None
            and zdev.pdev.sriov is not None
            and zdev.pdev.sriov.routing_id(vfn - 1) & _DEVFN == rid & _DEVFN
            for zdev in self.functions.values()
        )

    def join(self, zdev: ZpciDev, *, quiet: bool) -> int:
        """Take a function in; its devfn.  The first one puts the bus into the tree."""
        rid = zdev.function.facts.rid
        devfn = rid & _DEVFN if self.multifunction and rid is not None else 0
        if not self.functions:
            self.bus.kernel.add_root(self.device)
            self.bus.kernel.add_class_device(self._bus_device, quiet=quiet)
        self.functions[devfn] = zdev
        return devfn

    def leave(self, zdev: ZpciDev) -> None:
        """Let a function go; the bus goes with the last one."""
        del self.functions[zdev.devfn]
        if self.functions:
            return
        self.bus.kernel.remove_class_device(self._bus_device)
        self.bus.kernel.remove_root(self.device)
        self.bus.domains.discard(self.domain)

    def rescan(self) -> None:
        """Find what is new (``pci_rescan_bus``).

        The kernel then gives addresses to what has none.  The expansion ROM cannot have one and is forgotten.
        """
        for _, zdev in sorted(self.functions.items()):
            zdev.scan()
            if zdev.pdev is not None:
                zdev.pdev.resources[ROM].clear()
