"""The root buses of zPCI functions: ``/sys/devices/pciDDDD:00`` (``arch/s390/pci/pci_bus.c``).

A function without a routing identifier has a bus of its own, at device 0 function 0.  One that is no virtual function
and has a routing identifier begins a multifunction bus: the others of the same topology (its identifier, or the
physical channel where the machine tells none) come to it, each where its routing identifier says; a virtual function
only if its physical one is there already.  The first function of a bus decides on its domain.
"""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.pci_bus_device import PciBusDevice
from pyvfio_backends.software.linux.pci_device import ROM
from pyvfio_backends.software.linux.pci_host import PciHostBridge
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import PciDevice
    from pyvfio_backends.software.linux.zpci import ZpciDev
    from pyvfio_backends.software.linux.zpci_host import ZpciHost

__all__ = ["ZpciBus"]

_DEVFN = 0xFF
_FUNCTION = 7


class ZpciBus(PciHostBridge):
    """A bus (``struct zpci_bus``) with its `functions`, by devfn.

    `multifunction` says that devfns are routing identifiers; `topology` then tells which functions belong here.
    """

    def __init__(self, zdev: ZpciDev, host: ZpciHost) -> None:
        """Raise OSError EEXIST when the domain is taken."""
        facts = zdev.function.facts
        self.host = host
        self.bus = host.bus
        self.functions: dict[int, ZpciDev] = {}
        self.domain = host.take_domain(facts.uid)
        self.multifunction = facts.rid is not None and not facts.vfn and host.uses_rid
        self.topology = _topology(zdev)
        self.device = Device(host.kernel, f"pci{self.domain:04x}:00", None)
        self._bus_device = PciBusDevice(self.device, self.domain, 0, self.bus, self.rescan)

    @classmethod
    def of(cls, zdev: ZpciDev, host: ZpciHost) -> ZpciBus:
        """The bus that a new function belongs to (``zpci_bus_device_register``).  Raise OSError EEXIST."""
        topology = _topology(zdev)
        for root in host.buses:
            if root.multifunction and root.topology == topology:
                if zdev.function.facts.vfn and root.physical_of(zdev) is None:
                    break  # an isolated virtual function has a bus of its own
                return root
        return cls(zdev, host)

    def physical_of(self, zdev: ZpciDev) -> PciDevice | None:
        """The physical function of a virtual one that is here, or would be (``zpci_iov_find_parent_pf``)."""
        facts = zdev.function.facts
        if not self.multifunction or not facts.vfn or facts.rid is None:
            return None
        for _, other in sorted(self.functions.items()):
            pdev = other.pdev
            if pdev is None or pdev.sriov is None or not other.function.facts.is_physfn:
                continue
            if pdev.sriov.routing_id(facts.vfn - 1) & _DEVFN == facts.rid & _DEVFN:
                return pdev
        return None

    def join(self, zdev: ZpciDev, *, quiet: bool) -> int:
        """Take a function in; its devfn.  The first one puts the bus into the tree.

        Raise OSError EINVAL for a function without a routing identifier, or with that of another.
        """
        devfn = 0
        if self.multifunction:
            rid = zdev.function.facts.rid
            if rid is None:
                raise fail(errno.EINVAL)
            devfn = rid & _DEVFN
        if devfn in self.functions:
            raise fail(errno.EINVAL)
        if not self.functions:
            self.host.buses.append(self)
            self.bus.bridges.append(self)
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
        self.host.buses.remove(self)
        self.bus.bridges.remove(self)
        self.host.domains.discard(self.domain)

    def scan(self, *, quiet: bool) -> None:
        """See `PciHostBridge.scan`; the functions are enabled for it (``zpci_bus_scan_bus``)."""
        for _, zdev in sorted(self.functions.items()):
            if zdev.configured:
                with contextlib.suppress(OSError):
                    zdev.prepare()
        with self.bus.rescan_remove():
            self._scan(quiet=quiet)

    def _scan(self, *, quiet: bool) -> None:
        """Find the devices (``pci_scan_child_bus``).

        Function 0 need not be there.  Where a function says that its device has no other, none is looked for behind it.
        """
        for slot in sorted({devfn & ~_FUNCTION for devfn in self.functions}):
            for function in range(_FUNCTION + 1):
                zdev = self.functions.get(slot + function)
                pdev = zdev.find(quiet=quiet) if zdev is not None else None
                if pdev is not None:
                    pdev.multifunction = pdev.multifunction or function > 0
                    if not pdev.multifunction:
                        break

    def rescan(self) -> None:
        """See `PciHostBridge.rescan`.

        The kernel then gives addresses to what has none.  The expansion ROM cannot have one and is forgotten.
        """
        self._scan(quiet=False)
        for zdev in self.functions.values():
            if zdev.pdev is not None:
                zdev.pdev.resources[ROM].clear()


def _topology(zdev: ZpciDev) -> tuple[bool, int]:
    facts = zdev.function.facts
    return (False, facts.pchid) if facts.tid is None else (True, facts.tid)
