"""A /sys with thousands of PCI functions, written as files, for measuring and for tests.

The tree is that of a large host: sixteen domains, each with a host bridge and fifteen root ports; behind them SR-IOV
network cards, switches with NVMe disks, and cards of many functions.  Every function has the files of a real one
(configuration space of 4 KiB for PCI Express and 256 bytes for the rest), its driver, its IOMMU group, and the
children that its driver makes.  The same tree serves `KernelBackend` by its option ``sysfs``, and every program when
it is bound over ``/sys`` in a mount namespace.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Function", "host_functions", "write_tree"]

DOMAINS = 16
PORTS = 15
BEHIND = 16  # functions behind each root port
VFIO = "vfio-pci"


@dataclass
class Function:
    """One function: where it is, what it is, who drives it."""

    parent: str  # directory below /sys/devices
    name: str
    vendor: int
    device: int
    code: int
    driver: str | None
    group: int
    express: bool = True
    node: int = 0
    children: dict[str, str] = field(default_factory=dict)  # directory below the function -> class it is listed in
    physical: str = ""  # of a virtual function: the directory of the physical one
    path: str = field(init=False)

    def __post_init__(self) -> None:
        self.path = f"{self.parent}/{self.name}"


def host_functions(count: int = 4096) -> Iterator[Function]:
    """`count` functions, bridges first among those of a root port."""
    groups, disks, nics = itertools.count(), itertools.count(), itertools.count()
    return itertools.islice(
        (function for domain in range(DOMAINS) for function in _domain(domain, groups, disks, nics)), count
    )


def _domain(number: int, groups: Iterator[int], disks: Iterator[int], nics: Iterator[int]) -> Iterator[Function]:
    dom, root, node = f"{number:04x}", f"pci{number:04x}:00", number % 2
    yield Function(root, f"{dom}:00:00.0", 0x8086, 0x09A2, 0x060000, None, next(groups), False, node)
    buses = itertools.count(1)
    for slot in range(1, PORTS + 1):
        port = Function(root, f"{dom}:00:{slot:02x}.0", 0x8086, 0x352A, 0x060400, "pcieport", next(groups), True, node)
        yield port
        kind = (_network_card, _disks, _many_functions)[slot % 3]
        yield from kind(port, dom, buses, groups, disks if kind is _disks else nics)


def _network_card(
    port: Function, dom: str, buses: Iterator[int], groups: Iterator[int], nics: Iterator[int]
) -> Iterator[Function]:
    bus, number = next(buses), next(nics)
    card = Function(
        port.path, f"{dom}:{bus:02x}:00.0", 0x8086, 0x1592, 0x020000, "ice", next(groups), node=port.node,
        children={f"net/ens{number}": "net", f"ptp/ptp{number}": "ptp"},
    )  # fmt: skip
    yield card
    for n in range(1, BEHIND):
        driver = ("iavf", VFIO, VFIO, None)[n % 4]
        function = Function(
            port.path, f"{dom}:{bus:02x}:{n >> 3:02x}.{n & 7}", 0x8086, 0x1889, 0x020000, driver, next(groups),
            node=port.node, physical=card.path,
        )  # fmt: skip
        if driver == "iavf":
            function.children = {f"net/ens{number}v{n}": "net"}
        yield function


def _disks(
    port: Function, dom: str, buses: Iterator[int], groups: Iterator[int], disks: Iterator[int]
) -> Iterator[Function]:
    up_bus, down_bus = next(buses), next(buses)
    up = Function(
        port.path, f"{dom}:{up_bus:02x}:00.0", 0x10B5, 0x9797, 0x060400, "pcieport", next(groups), node=port.node
    )
    yield up
    pairs = (BEHIND - 1) // 2
    for slot in range(pairs):
        down = Function(
            up.path, f"{dom}:{down_bus:02x}:{slot:02x}.0", 0x10B5, 0x9797, 0x060400, "pcieport", next(groups),
            node=port.node,
        )  # fmt: skip
        yield down
        number = next(disks)
        yield Function(
            down.path, f"{dom}:{next(buses):02x}:00.0", 0x144D, 0xA80A, 0x010802, "nvme", next(groups), node=port.node,
            children={f"nvme/nvme{number}": "nvme", f"nvme/nvme{number}/nvme{number}n1": "block"},
        )  # fmt: skip
    yield Function(port.path, f"{dom}:{up_bus:02x}:00.1", 0x10B5, 0x87D0, 0x088000, None, up.group, node=port.node)


def _many_functions(
    port: Function, dom: str, buses: Iterator[int], groups: Iterator[int], nics: Iterator[int]
) -> Iterator[Function]:
    bus, group = next(buses), next(groups)
    kinds = (
        (0x10DE, 0x1E07, 0x030000, "nouveau"),
        (0x10DE, 0x10F7, 0x040300, "snd_hda_intel"),
        (0x10DE, 0x1AD6, 0x0C0330, "xhci_hcd"),
        (0x10DE, 0x1AD7, 0x0C8000, VFIO),
    )
    for n in range(BEHIND):
        vendor, device, code, driver = kinds[n % 4]
        yield Function(
            port.path, f"{dom}:{bus:02x}:{n >> 3:02x}.{n & 7}", vendor, device, code, driver, group, n % 2 == 0,
            port.node,
        )  # fmt: skip


# as files


def write_tree(sys: Path, functions: Iterator[Function]) -> int:
    """Write `functions` below `sys`, which stands for ``/sys``, and return how many there were."""
    for node in ("node0", "node1"):
        (sys / "devices/system/node" / node).mkdir(parents=True)
    for folder in ("bus/pci/devices", "bus/pci/drivers", "bus/pci/slots", "kernel/iommu_groups", "class", "module"):
        (sys / folder).mkdir(parents=True, exist_ok=True)
    made: set[str] = set()
    _driver(str(sys), VFIO, made)
    count = 0
    for function in functions:
        _write(str(sys), function, made)
        count += 1
    return count


def _write(sys: str, function: Function, made: set[str]) -> None:
    here = f"{sys}/devices/{function.path}"
    up = "../" * (function.path.count("/") + 2)
    os.makedirs(here)
    for name, text in _texts(function).items():
        with open(f"{here}/{name}", "w") as file:
            file.write(text)
    with open(f"{here}/config", "wb") as config:
        config.write(_config(function))
    name = function.name
    os.symlink(f"../../../devices/{function.path}", f"{sys}/bus/pci/devices/{name}")
    os.symlink(f"{up}bus/pci", f"{here}/subsystem")
    if function.driver:
        folder = _driver(sys, function.driver, made)
        os.symlink(f"{up}bus/pci/drivers/{function.driver}", f"{here}/driver")
        os.symlink(f"../../../../devices/{function.path}", f"{folder}/{name}")
    members = f"{sys}/kernel/iommu_groups/{function.group}/devices"
    if f"group {function.group}" not in made:
        made.add(f"group {function.group}")
        os.makedirs(members)
        for attribute, text in (("name", ""), ("type", "DMA-FQ\n"), ("reserved_regions", _RESERVED)):
            with open(f"{os.path.dirname(members)}/{attribute}", "w") as file:
                file.write(text)
    os.symlink(f"../../../../devices/{function.path}", f"{members}/{name}")
    os.symlink(f"{up}kernel/iommu_groups/{function.group}", f"{here}/iommu_group")
    if function.physical:
        os.symlink(os.path.relpath(function.physical, function.path), f"{here}/physfn")
        card = f"{sys}/devices/{function.physical}"
        number = sum(1 for entry in os.listdir(card) if entry.startswith("virtfn"))
        os.symlink(os.path.relpath(function.path, function.physical), f"{card}/virtfn{number}")
    for child, kind in function.children.items():
        _child(sys, function, child, kind)
    if function.driver == VFIO:
        made.add(f"vfio {name}")
        number = sum(entry.startswith("vfio ") for entry in made) - 1
        _child(sys, function, f"vfio-dev/vfio{number}", "vfio-dev")


def _driver(sys: str, driver: str, made: set[str]) -> str:
    folder = f"{sys}/bus/pci/drivers/{driver}"
    if driver not in made:
        made.add(driver)
        module = f"{sys}/module/{driver.replace('-', '_')}"
        os.makedirs(f"{module}/drivers")
        os.mkdir(folder)
        os.symlink(f"../../../../module/{os.path.basename(module)}", f"{folder}/module")
        os.symlink(f"../../../bus/pci/drivers/{driver}", f"{module}/drivers/pci:{driver}")
        for attribute in ("bind", "unbind", "new_id", "remove_id", "uevent"):
            open(f"{folder}/{attribute}", "w").close()
    return folder


def _child(sys: str, function: Function, child: str, kind: str) -> None:
    path = f"{function.path}/{child}"
    os.makedirs(f"{sys}/devices/{path}")
    os.makedirs(f"{sys}/class/{kind}", exist_ok=True)
    os.symlink(f"../../devices/{path}", f"{sys}/class/{kind}/{os.path.basename(child)}")
    os.symlink(os.path.relpath(f"class/{kind}", f"devices/{path}"), f"{sys}/devices/{path}/subsystem")
    name, number = os.path.basename(child), len(os.listdir(f"{sys}/class/{kind}"))
    texts = dict(_OF_CLASS.get(kind, {}))
    if kind == "net":
        texts |= {"ifindex": f"{number + 1}\n", "uevent": f"INTERFACE={name}\nIFINDEX={number + 1}\n"}
    else:
        major = _MAJORS[kind]
        texts |= {"dev": f"{major}:{number}\n", "uevent": f"MAJOR={major}\nMINOR={number}\nDEVNAME={name}\n"}
    if kind == "block":
        texts["uevent"] += "DEVTYPE=disk\n"
        os.makedirs(f"{sys}/devices/{path}/holders")
        os.makedirs(f"{sys}/devices/{path}/slaves")
    for attribute, text in texts.items():
        with open(f"{sys}/devices/{path}/{attribute}", "w") as file:
            file.write(text)


_MAJORS = {"block": 259, "nvme": 241, "ptp": 248, "vfio-dev": 511}
_OF_CLASS = {
    "net": {"flags": "0x1003\n", "operstate": "up\n"},
    "block": {"size": "7501476528\n", "ro": "0\n", "removable": "0\n"},
}
_RESERVED = "0x00000000fee00000 0x00000000feefffff msi\n"


def _texts(function: Function) -> dict[str, str]:
    vendor, device, code = function.vendor, function.device, function.code
    base, sub, interface = code >> 16, code >> 8 & 0xFF, code & 0xFF
    alias = f"pci:v{vendor:08X}d{device:08X}sv{vendor:08X}sd00000001bc{base:02X}sc{sub:02X}i{interface:02X}"
    uevent = f"DRIVER={function.driver}\n" if function.driver else ""
    uevent += (
        f"PCI_CLASS={code:X}\nPCI_ID={vendor:04X}:{device:04X}\nPCI_SUBSYS_ID={vendor:04X}:0001\n"
        f"PCI_SLOT_NAME={function.name}\nMODALIAS={alias}\n"
    )
    texts = {
        "uevent": uevent,
        "vendor": f"{vendor:#06x}\n",
        "device": f"{device:#06x}\n",
        "subsystem_vendor": f"{vendor:#06x}\n",
        "subsystem_device": "0x0001\n",
        "class": f"{code:#08x}\n",
        "revision": "0x01\n",
        "modalias": f"{alias}\n",
        "driver_override": "(null)\n",
        "irq": "0\n",
        "numa_node": f"{function.node}\n",
        "local_cpulist": "0-63\n",
        "enable": "1\n",
        "resource": _range(0xE0000000, 0xE001FFFF, 0x140204) + _range(0, 0, 0) * 12,
        "ari_enabled": "0\n",
        "msi_bus": "1\n",
        "power_state": "D0\n",
        "reset_method": "flr bus\n",
        "dma_mask_bits": "64\n",
        "consistent_dma_mask_bits": "64\n",
        "broken_parity_status": "0\n",
    }  # fmt: skip
    if function.express:
        texts |= {
            "current_link_speed": "16.0 GT/s PCIe\n",
            "current_link_width": "16\n",
            "max_link_speed": "16.0 GT/s PCIe\n",
            "max_link_width": "16\n",
        }
    if function.driver == "ice":
        texts |= {"sriov_totalvfs": "256\n", "sriov_numvfs": f"{BEHIND - 1}\n", "sriov_drivers_autoprobe": "1\n"}
    return texts


def _range(start: int, last: int, flags: int) -> str:
    return f"{start:#018x} {last:#018x} {flags:#018x}\n"


def _config(function: Function) -> bytes:
    """A header of type 0, or 1 for a bridge, with a capability list of power management and PCI Express."""
    space = bytearray(4096 if function.express else 256)

    def put(at: int, value: int, size: int) -> None:
        space[at : at + size] = value.to_bytes(size, "little")

    bridge = function.code >> 8 == 0x0604
    put(0x00, function.vendor, 2)
    put(0x02, function.device, 2)
    put(0x04, 0x0406, 2)  # bus master, memory, interrupts off
    put(0x06, 0x0010, 2)  # has capabilities
    put(0x08, 0x01, 1)
    put(0x09, function.code, 3)
    put(0x0E, int(bridge), 1)
    if bridge:
        bus = int(function.name[5:7], 16)
        put(0x18, bus, 1)
        put(0x19, min(bus + 1, 255), 1)
        put(0x1A, 0xFF, 1)
    else:
        put(0x2C, function.vendor, 2)
        put(0x2E, 0x0001, 2)
    put(0x34, 0x40, 1)
    put(0x40, 0x0001 | (0x50 if function.express else 0) << 8, 2)
    put(0x42, 0x0003, 2)
    if function.express:
        put(0x50, 0x10, 2)
        put(0x52, 0x0042 if bridge else 0x0002, 2)
    return bytes(space)
