"""The attributes of a PCI function (``drivers/pci/pci-sysfs.c``), with those that its architecture adds."""

from __future__ import annotations

import contextlib
import errno
import mmap
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux import numa
from pyvfio_backends.software.linux.driver_core import override_attribute
from pyvfio_backends.software.linux.kernel import TAINT_FIRMWARE_WORKAROUND
from pyvfio_backends.software.linux.kernel_log import ALERT, say
from pyvfio_backends.software.linux.kstrtox import kstrtoul
from pyvfio_backends.software.linux.numa import NO_NODE
from pyvfio_backends.software.linux.pci_reset import parse_methods, reset_together
from pyvfio_backends.software.linux.pci_rom import map_rom, unmap_rom
from pyvfio_backends.software.linux.resource import Resource, ResourceFlag
from pyvfio_backends.software.linux.vfs import Attribute, BinaryAttribute, Node, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = ["WAITING", "device_attributes", "number", "shown_attribute"]

WAITING = "waiting_for_supplier"
"""The file of a device that firmware knows of, until a driver has it for the first time (``drivers/base/core.c``)."""

_MOST_VECTORS = 0x7FFFFFFF
_SPEEDS = ("", "2.5", "5.0", "8.0", "16.0", "32.0", "64.0")
_WIDTH_SHIFT = 4
_PORT_WIDTHS = (1, 2, 4)


def number(data: bytes) -> int:
    """Read what was written as a number; EINVAL for anything else (these attributes hide ERANGE)."""
    try:
        return kstrtoul(data, 0)
    except OSError:
        raise fail(errno.EINVAL) from None


def _shown(device: PciDevice) -> dict[str, Callable[[], str]]:
    """The files that only tell something."""
    return {
        "ari_enabled": lambda: f"{int(device.sysdata.ari_enabled)}\n",
        "class": lambda: f"{device.class_code:#08x}\n",
        "consistent_dma_mask_bits": lambda: f"{device.dma_mask_bits}\n",
        "device": lambda: f"{device.device_id:#06x}\n",
        "dma_mask_bits": lambda: f"{device.dma_mask_bits}\n",
        "irq": lambda: f"{device.msi.first_message or device.sysdata.irq}\n",
        "local_cpulist": lambda: numa.listed(device.kernel, device.numa_node),
        "local_cpus": lambda: numa.mask(device.kernel, device.numa_node),
        "modalias": lambda: f"{device.modalias}\n",
        "power_state": lambda: f"{device.power_state}\n",
        "resource": lambda: _show_resources(device),
        "revision": lambda: f"{device.revision:#04x}\n",
        "subsystem_device": lambda: f"{device.subsystem_device:#06x}\n",
        "subsystem_vendor": lambda: f"{device.subsystem_vendor:#06x}\n",
        "vendor": lambda: f"{device.vendor:#06x}\n",
    }


def shown_attribute(device: PciDevice, name: str) -> Node | None:
    """One of the files that only tell something, without making all others; None for any other name."""
    show = _shown(device).get(name) or device.sysdata.shown().get(name)
    return None if show is None else Attribute(show)


def device_attributes(device: PciDevice) -> dict[str, Node]:
    """All files of a function besides those that every device has."""
    entries: dict[str, Node] = {name: Attribute(show) for name, show in _shown(device).items()}
    entries["broken_parity_status"] = Attribute(
        lambda: f"{int(device.broken_parity)}\n", lambda data: setattr(device, "broken_parity", bool(number(data)))
    )
    entries["config"] = BinaryAttribute(
        device.config_size,
        lambda offset, n: _read_config(device, offset, n),
        lambda offset, data: _write_config(device, offset, data),
    )
    entries["driver_override"] = override_attribute(device)
    entries["enable"] = Attribute(lambda: f"{device.enable_count}\n", lambda data: _store_enable(device, data))
    entries["msi_bus"] = Attribute(
        lambda: f"{int(not device.no_msi)}\n", lambda data: setattr(device, "no_msi", not number(data))
    )
    if device.msi.listed:
        entries["msi_irqs"] = device.msi.directory()
    if device.kernel.numa_nodes:
        entries["numa_node"] = Attribute(lambda: f"{device.numa_node}\n", lambda data: _store_node(device, data))
    if device.sysdata.runtime_power:
        entries["power"] = device.runtime.directory()
    if device.sysdata.virtual_of is not None:
        entries["sriov_vf_msix_count"] = Attribute(store=lambda data: _store_vector_count(device, data), mode=0o200)
    else:  # virtual functions come and go by their number
        entries["remove"] = Attribute(store=lambda data: _store_remove(device, data), mode=0o220)
        entries["rescan"] = Attribute(store=lambda data: _store_rescan(device, data))
    if device.resettable:
        entries["reset"] = Attribute(store=lambda data: _store_reset(device, data))
        entries["reset_method"] = Attribute(
            lambda: _show_methods(device), lambda data: _store_methods(device, data), mode=0o644
        )
    if device.rom_size:
        entries["rom"] = BinaryAttribute(
            device.rom_size,
            lambda offset, n: _read_rom(device, offset, n),
            lambda offset, data: _write_rom(device, offset, data),
            mode=0o600,
        )
    if device.find_capability(regs.PCI_CAP_ID_VPD):
        entries["vpd"] = BinaryAttribute(0, partial(_read_vpd, device), partial(_write_vpd, device), mode=0o600)
    if device.maps_bars:
        entries.update(_bar_files(device))
    if device.express:
        entries.update(_link_attributes(device))
    if device.is_bridge:
        entries.update(_bridge_attributes(device))
    if device.sriov is not None:
        entries.update(device.sriov.attributes())
    if device.aer is not None:
        entries.update(device.aer.attributes())
    if device.sysdata.firmware_node is not None and device.driver is None:
        entries[WAITING] = Attribute(lambda: "0\n")
    entries.update(device.sysdata.attributes(device))
    return entries


def _bar_files(device: PciDevice) -> dict[str, Node]:
    """``resourceN``, and ``resourceN_wc`` of what is prefetchable: to be mapped, not read (``pci_create_attr``).

    Ports are read and written, and cannot be mapped on x86 (``arch_can_pci_mmap_io``).
    """
    entries: dict[str, Node] = {}
    for bar, resource in enumerate(device.resources[: regs.PCI_STD_NUM_BARS]):
        if resource.size and resource.flags & ResourceFlag.IO:
            read, write = partial(_read_ports, device, bar), partial(_write_ports, device, bar)
            entries[f"resource{bar}"] = BinaryAttribute(resource.size, read, write, mode=0o600)
        elif resource.size:
            names = [f"resource{bar}", *([f"resource{bar}_wc"] if resource.flags & ResourceFlag.PREFETCH else ())]
            for name in names:
                entries[name] = BinaryAttribute(resource.size, mode=0o600, map_at=partial(_map_bar, device, bar))
    return entries


def _map_bar(device: PciDevice, bar: int, length: int, flags: int, prot: int, offset: int) -> mmap.mmap:
    page = device.kernel.page_size
    if offset + length > -(-device.resources[bar].size // page) * page:  # pci_mmap_fits
        raise fail(errno.EINVAL)
    return device.map_bar(bar, length, flags, prot, offset)


def _read_ports(device: PciDevice, bar: int, offset: int, count: int) -> bytes:
    """One access of 1, 2 or 4 bytes, whatever its alignment (``pci_resource_io``).  Raise OSError EINVAL."""
    if count not in _PORT_WIDTHS:
        raise fail(errno.EINVAL)
    return device.load_bar(bar, offset, count).to_bytes(count, "little")


def _write_ports(device: PciDevice, bar: int, offset: int, data: bytes) -> int:
    if len(data) not in _PORT_WIDTHS:
        raise fail(errno.EINVAL)
    device.store_bar(bar, offset, len(data), int.from_bytes(data, "little"))
    return len(data)


def _read_vpd(device: PciDevice, offset: int, count: int) -> bytes:
    with device.runtime.awake():
        return device.product_data.read(offset, count)


def _write_vpd(device: PciDevice, offset: int, data: bytes) -> int:
    with device.runtime.awake():
        device.product_data.write(offset, data)
    return len(data)


def _store_node(device: PciDevice, data: bytes) -> None:
    """Say that firmware is wrong (``numa_node_store``), which the kernel does not forget.  Raise OSError EINVAL."""
    text = data[1:] if data[:1] == b"-" else data
    node = number(text) * (-1 if text is not data else 1)
    if node != NO_NODE and not 0 <= node < device.kernel.numa_nodes:
        raise fail(errno.EINVAL)
    device.kernel.taint |= TAINT_FIRMWARE_WORKAROUND
    wrong = f"[Firmware Bug]: Overriding NUMA node to {node}.  Contact your vendor for updates."
    say(device, ALERT, wrong)
    device.numa_node = node


def _link_attributes(device: PciDevice) -> dict[str, Node]:
    """The link of a PCI Express function, as its registers say (``pcie_dev_attrs``)."""

    def speed(register: int, mask: int) -> str:
        code = device.read_config(device.express + register, 2) & mask
        return f"{_SPEEDS[code]} GT/s PCIe\n" if code < len(_SPEEDS) and code else "Unknown\n"

    def fastest() -> str:
        known = device.sysdata.knows_speeds
        return speed(regs.PCI_EXP_LNKCAP, regs.PCI_EXP_LNKCAP_SLS) if known else "Unknown\n"

    def width(register: int, mask: int) -> str:
        return f"{(device.read_config(device.express + register, 2) & mask) >> _WIDTH_SHIFT}\n"

    return {
        "current_link_speed": Attribute(lambda: speed(regs.PCI_EXP_LNKSTA, regs.PCI_EXP_LNKSTA_CLS)),
        "current_link_width": Attribute(lambda: width(regs.PCI_EXP_LNKSTA, regs.PCI_EXP_LNKSTA_NLW)),
        "max_link_speed": Attribute(fastest),
        "max_link_width": Attribute(lambda: width(regs.PCI_EXP_LNKCAP, regs.PCI_EXP_LNKCAP_MLW)),
    }


def _bridge_attributes(device: PciDevice) -> dict[str, Node]:
    """The bus numbers of a bridge, as its registers say (``pci_bridge_attrs``)."""
    registers = {
        "secondary_bus_number": bridge_regs.PCI_SECONDARY_BUS,
        "subordinate_bus_number": bridge_regs.PCI_SUBORDINATE_BUS,
    }

    def show(register: int) -> str:
        return f"{device.read_config(register, 1)}\n"

    entries: dict[str, Node] = {name: Attribute(partial(show, register)) for name, register in registers.items()}
    entries["reset_subordinate"] = Attribute(store=lambda data: _store_reset_subordinate(device, data), mode=0o200)
    return entries


def _store_reset_subordinate(device: PciDevice, data: bytes) -> None:
    if number(data):
        reset_together(device.sysdata.behind(), device.sysdata.reset_behind)


def _show_resources(device: PciDevice) -> str:
    """Ports as they are on the bus, memory as the processor reaches it (``pci_resource_to_user``)."""

    def line(resource: Resource) -> str:
        start = resource.start
        if resource.flags & ResourceFlag.IO:
            start = device.sysdata.bus_address(start)
        return f"{start:#018x} {start + resource.end - resource.start:#018x} {resource.flags:#018x}\n"

    return "".join(line(resource) for resource in device.resources)


def _pieces(offset: int, count: int) -> list[tuple[int, int]]:
    """The accesses of a transfer: bytes and halfwords up to a word boundary, words, then the rest."""
    pieces: list[tuple[int, int]] = []
    while count:
        if offset & 1 or count < 2:
            size = 1
        elif offset & 2 or count < 4:
            size = 2
        else:
            size = 4
        pieces.append((offset, size))
        offset += size
        count -= size
    return pieces


def _read_config(device: PciDevice, offset: int, count: int) -> bytes:
    return b"".join(_load(device, at, size) for at, size in _pieces(offset, count))


def _load(device: PciDevice, offset: int, size: int) -> bytes:
    """What a program reads, ones where it fails."""
    try:
        return device.load_config(offset, size).to_bytes(size, "little")
    except OSError:
        return b"\xff" * size


def _write_config(device: PciDevice, offset: int, data: bytes) -> int:
    for at, size in _pieces(offset, len(data)):
        with contextlib.suppress(OSError):  # of which the program is not told
            device.store_config(at, size, int.from_bytes(data[at - offset : at - offset + size], "little"))
    return len(data)


def _store_enable(device: PciDevice, data: bytes) -> None:
    value = number(data)
    if device.driver is not None:
        raise fail(errno.EBUSY)
    if value:
        device.enable()
    elif device.enable_count:
        device.disable()
    else:
        raise fail(errno.EIO)


def _store_vector_count(device: PciDevice, data: bytes) -> None:
    """No driver here gives out the vectors of virtual functions (``sriov_set_msix_vec_count``)."""
    if number(data) > _MOST_VECTORS or device.physfn is None:
        raise fail(errno.EINVAL)
    device.pci_bus.wait_unlocked(device.physfn)
    raise fail(errno.EOPNOTSUPP)


def _store_remove(device: PciDevice, data: bytes) -> None:
    if number(data) and not device.dead and "remove" not in device.removed_files:
        device.removed_files.add("remove")  # whoever comes now finds it gone
        device.pci_bus.remove_device_locked(device)


def _store_rescan(device: PciDevice, data: bytes) -> None:
    if number(data):
        with device.pci_bus.rescan_remove():
            device.sysdata.rescan()


def _store_reset(device: PciDevice, data: bytes) -> None:
    if number(data) != 1:
        raise fail(errno.EINVAL)
    device.reset()


def _show_methods(device: PciDevice) -> str:
    return " ".join(device.reset_methods) + "\n" if device.reset_methods else ""


def _store_methods(device: PciDevice, data: bytes) -> None:
    device.reset_methods = parse_methods(data, device.sysdata.reset_methods())


def _read_rom(device: PciDevice, offset: int, count: int) -> bytes:
    if not device.rom_enabled:
        raise fail(errno.EINVAL)
    size = map_rom(device)
    if size is None:
        raise fail(errno.EIO)
    places = range(offset, min(offset + count, size))
    data = bytes(device.load_bar(regs.PCI_STD_NUM_BARS, place, 1) for place in places)
    unmap_rom(device)
    return data


def _write_rom(device: PciDevice, offset: int, data: bytes) -> int:
    device.rom_enabled = not (offset == 0 and data[:1] == b"0" and len(data) == len(b"0\n"))
    return len(data)
