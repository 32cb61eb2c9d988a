"""What the architecture and the host bridge give to the PCI core: everything about a function that is not generic.

The core (`pci`, `pci_device`, `pci_msi`, `pci_iov`, `pci_sysfs`) and vfio-pci know a function only through these.  The
names are the kernel's::

    PciHostBridge   struct pci_host_bridge          a root, and how its buses are scanned
    PciSysdata      pci_dev.sysdata                 one function:
                      struct pci_ops                  config_read, config_write (and looking: config, peek)
                      pci_resource, ioread, iowrite   map_resources, bar_read, bar_write, bar_memory
                      pcibios_*                       enable, disable, release
                      reset_fn_methods, slot resets   reset_methods, reset; probe_reset_bus, reset_bus
                      struct iommu_ops                iommu_device, iommu_group, attach_dma, reserved_regions
                      ARCH_PCI_DEV_GROUPS             attributes, shown
                      SR-IOV of the architecture      physfn, virtfns
    MsiDomain       struct irq_domain               where messages go, and who tells the hardware (`msi_domain`)
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.numa import NO_NODE
from pyvfio_backends.software.linux.vfs import Directory, Node, fail

if TYPE_CHECKING:
    from pyvfio.abi.layout import Capability
    from pyvfio.process import SharedMapping
    from pyvfio_backends.software.hardware.dma import DmaSpace
    from pyvfio_backends.software.hardware.pci.config import ConfigSpace
    from pyvfio_backends.software.linux.iommu_group import IommuGroup, Region
    from pyvfio_backends.software.linux.irq_line import IrqLine
    from pyvfio_backends.software.linux.msi_domain import MsiDomain
    from pyvfio_backends.software.linux.of_node import OfNode
    from pyvfio_backends.software.linux.pci import PciBus
    from pyvfio_backends.software.linux.pci_device import PciDevice
    from pyvfio_backends.software.linux.resource import Resource

__all__ = ["BarMemory", "HotplugSlot", "PciHostBridge", "PciSysdata"]


class BarMemory(Protocol):
    """Memory behind a BAR, which programs can map."""

    def map(self, length: int, flags: int, prot: int, offset: int) -> SharedMapping:
        """Map it as ``mmap`` does.  Raise OSError."""
        ...


class PciSysdata(ABC):
    """What is behind a function: an architecture subclasses this.

    `bus` is the bus type ``pci``, `bridge` the root that the function is below, `bus_number` and `devfn` where it is;
    `pdev` is its device, None while there is none.
    """

    bus: PciBus
    bridge: PciHostBridge
    bus_number: int = 0
    devfn: int
    pdev: PciDevice | None
    has_intx = False
    """Whether interrupt pins lead anywhere."""
    irq = 0
    """The Linux number of the interrupt that its pin is wired to, 0 without any (``pci_dev.irq``)."""
    native_aer = False
    """Whether Linux handles the errors that it reports (``pci_host_bridge.native_aer``, and a kernel with AER)."""
    runtime_power = False
    """Whether unused functions can sleep: a kernel for s390 cannot be built with power management (``CONFIG_PM``)."""
    knows_speeds = True
    """Whether Linux has looked at how fast its link can be (``pci_dev.supported_speeds``)."""

    # what it is, which not every architecture knows by itself

    @property
    @abstractmethod
    def no_command_memory(self) -> bool:
        """Whether it decodes memory whatever its command register says (``pci_dev.no_command_memory``)."""

    @property
    def isolates(self) -> bool:
        """Whether an IOMMU asked for functions to be isolated, wherever they can be (``pci_request_acs``)."""
        return False

    @property
    def ari_enabled(self) -> bool:
        """Whether the bus that it is on takes function numbers beyond 7 (``pci_ari_enabled``)."""
        return False

    @property
    def numa_node(self) -> int:
        """The NUMA node that it is near, as firmware tells of its root (``pcibus_to_node``)."""
        return NO_NODE

    # configuration space (struct pci_ops)

    @property
    @abstractmethod
    def config(self) -> ConfigSpace:
        """Configuration space, to look at without an access."""

    @abstractmethod
    def config_read(self, where: int, size: int) -> int:
        """Read 1, 2 or 4 bytes, as a little-endian number.  Raise OSError: the bus or the instruction refuses."""

    @abstractmethod
    def config_write(self, where: int, size: int, value: int) -> None:
        """Write.  Errors as `config_read`."""

    def peek(self, position: int, count: int) -> bytes | None:
        """Bytes that reading would give, where reading changes nothing and would work; None: it has to be done.

        It stands for the accesses to the 32-bit words concerned.
        """
        return None

    # base address registers

    def bus_address(self, address: int) -> int:
        """The address on the bus of one of the processor's, which resources have (``pcibios_resource_to_bus``)."""
        return address

    @abstractmethod
    def map_resources(self, resources: list[Resource]) -> None:
        """Fill in addresses, sizes and flags of the BARs and the ROM (``pci_read_bases``, ``pcibios_add_device``)."""

    @abstractmethod
    def bar_read(self, bar: int, offset: int, size: int) -> int:
        """Read 1, 2, 4 or 8 bytes; all ones when nobody answers."""

    @abstractmethod
    def bar_write(self, bar: int, offset: int, size: int, value: int) -> None:
        """Write; nothing happens when nobody answers."""

    maps_registers = False
    """Whether loads and stores of a program reach registers that it maps."""

    @abstractmethod
    def bar_memory(self, bar: int) -> BarMemory | None:
        """The memory behind a BAR; None for registers."""

    def peer_read(self, bar: int, offset: int, count: int) -> bytes:
        """Another device reads memory of a BAR.  Raise OSError EFAULT when nobody answers."""
        raise fail(errno.EFAULT)

    def peer_write(self, bar: int, offset: int, data: bytes) -> None:
        """Another device writes there.  Raise OSError EFAULT when nobody takes it."""
        raise fail(errno.EFAULT)

    # what is not behind base addresses

    def old_read(self, address: int, size: int, *, io: bool) -> int:
        """Read 1, 2, 4 or 8 bytes of the addresses that display adapters have always had; all ones: nobody is there."""
        return (1 << 8 * size) - 1

    def old_write(self, address: int, size: int, value: int, *, io: bool) -> None:
        """Write to them."""
        return

    # pcibios

    def enable(self, device: PciDevice) -> None:
        """The device is enabled for the first time (``pcibios_enable_device``), before its resources are.

        Raise OSError where the architecture forbids it.
        """
        return

    def disable(self, device: PciDevice) -> None:
        """It is no longer (``pcibios_disable_device``)."""
        return

    def release(self) -> None:
        """The device was removed by somebody who held the locks of the bus for it (``pcibios_release_device``)."""
        return

    def rescan(self) -> None:
        """Find what is new on the function's bus and behind it.  The caller holds the lock of who looks for devices."""
        self.bridge.rescan()

    def children(self) -> list[PciDevice]:
        """The devices behind a bridge (``pci_dev.subordinate``), in the order of the bus."""
        return []

    # resets

    @abstractmethod
    def reset_methods(self) -> tuple[str, ...]:
        """The ways in which the function can be reset now, as ``reset_method`` names them, in the kernel's order."""

    @abstractmethod
    def reset(self, method: str) -> None:
        """Reset in one of these ways.  Raise OSError; ENOTTY: another one is to be tried."""

    @abstractmethod
    def probe_reset_bus(self) -> bool:
        """Whether the slot or bus of the function could be reset now (``pci_probe_reset_slot``)."""

    @abstractmethod
    def reset_bus(self) -> None:
        """Reset it, with nobody's state saved (``pci_bus_error_reset``).  Raise OSError."""

    def reset_behind(self) -> None:
        """Reset all behind a bridge (``pci_bridge_secondary_bus_reset``).  Raise OSError ENOTTY for no bridge."""
        raise fail(errno.ENOTTY)

    def reset_scope(self) -> list[PciDevice]:
        """The devices that a reset of its slot or else of its bus concerns, each before what is behind it.

        None without such a reset (``vfio_pci_for_each_slot_or_bus``).
        """
        return [self.pdev] if self.pdev is not None and self.probe_reset_bus() else []

    def reset_key(self) -> object:
        """What those have in common that are reset together: the slot, the bus, or only itself."""
        return self

    def behind(self) -> list[PciDevice]:
        """All devices behind a bridge, each before what is behind it."""
        return [found for child in self.children() for found in (child, *child.sysdata.behind())]

    # the IOMMU (struct iommu_ops)

    @property
    @abstractmethod
    def iommu_device(self) -> Device | None:
        """The IOMMU's own device, which ``iommu`` of the function is a link to."""

    @abstractmethod
    def iommu_group(self) -> IommuGroup | None:
        """The group for the function's device, which is a new one (``iommu_ops.device_group``); None: there is none."""

    def iommu_release(self) -> None:
        """The function's device has left its group, and the IOMMU forgets it (``iommu_ops.release_device``)."""
        return

    def reserved_regions(self) -> Iterable[Region]:
        """Addresses that are not for mappings of its DMA (``iommu_ops.get_resv_regions``)."""
        return ()

    @abstractmethod
    def attach_dma(self, space: DmaSpace | None) -> None:
        """The address space for the function's DMA (``iommu_domain_ops.attach_dev``); None blocks it."""

    @property
    def firmware_node(self) -> Device | None:
        """What firmware tells of it, if it does (``ACPI_COMPANION``)."""
        return None

    def of_node(self) -> OfNode | None:
        """Its node in the device tree, if firmware makes one (``pci_set_of_node``)."""
        return None

    # interrupts

    def irq_line(self) -> IrqLine | None:
        """The line that its interrupt pin leads to; None without one."""
        return None

    @property
    @abstractmethod
    def msi_domain(self) -> MsiDomain:
        """Who delivers its messages."""

    # SR-IOV

    no_vf_scan = False
    """Whether virtual functions come by themselves, and the core does not look for them (``pci_dev.no_vf_scan``)."""

    def iov_alignment(self, bar: int) -> int:
        """What the base address `bar` of all virtual functions is aligned to (``pcibios_iov_resource_alignment``)."""
        device = self.pdev
        return device.sriov.bar_sizes[bar] if device is not None and device.sriov is not None else 0

    def before_virtual(self, count: int) -> None:
        """Virtual functions, up to `count`, come next (``pcibios_sriov_enable``).  Raise OSError."""
        return

    def after_virtual(self) -> None:
        """They are gone (``pcibios_sriov_disable``)."""
        return

    virtual_of: PciDevice | None = None
    """The physical function of a virtual one that the core itself made, which cannot say what it is."""

    @property
    def last_bus(self) -> int:
        """The last bus number that virtual functions can have."""
        return 0

    def add_virtual(self, number: int) -> None:
        """Find and add virtual function `number`, from 0 (``pci_iov_add_virtfn``).  Raise OSError."""
        return

    def remove_virtual(self, number: int) -> None:
        """Take it away, if it is there."""
        device = self.virtfns().get(number)
        if device is not None:
            self.bus.remove_device(device)

    def physfn(self) -> PciDevice | None:
        """The physical function of a virtual one, if that is there; None for any other."""
        return None

    def virtfns(self) -> dict[int, PciDevice]:
        """The virtual functions that are there, by number from 0."""
        return {}

    # what the architecture adds

    def attributes(self, device: PciDevice) -> Mapping[str, Node]:
        """Files of the device that other architectures do not have."""
        return {}

    def shown(self) -> Mapping[str, Callable[[], str]]:
        """Those of them that only tell something."""
        return {}

    def vfio_capabilities(self) -> Iterable[Capability]:
        """What VFIO_DEVICE_GET_INFO tells of it besides."""
        return ()

    def vfio_opened(self) -> None:
        """A program has opened the device, at the end of that (``vfio_pci_core_finish_enable``)."""
        return

    def vfio_closed(self) -> None:
        """The program has closed the device (``vfio_pci_zdev_close_device``)."""
        return


class PciHostBridge(ABC):
    """A root: `device` is ``pciDDDD:BB`` in ``/sys/devices``, `domain` its number."""

    device: Device
    domain: int

    @abstractmethod
    def scan(self, *, quiet: bool) -> None:
        """Find the devices; `quiet` at boot.  Takes the lock of who looks for devices."""

    @abstractmethod
    def rescan(self) -> None:
        """Find what is new (``pci_rescan_bus``).  The caller holds that lock."""


class HotplugSlot(ABC):
    """A slot: a directory below ``/sys/bus/pci/slots`` (``struct hotplug_slot``)."""

    @abstractmethod
    def directory(self) -> Directory:
        """What it shows."""
