"""A host laid out as files: what a test needs of /sys, /dev and /proc, read through the kernel backend."""

from __future__ import annotations

import os
from pathlib import Path

from pyvfio.host import Host
from pyvfio_backends.kernel import KernelBackend

NIC = "0000:3b:00.0"
NIC2 = "0000:3b:00.1"
DISK = "0000:5e:00.0"
WIDE = "10000:e1:00.0"
OSA = ("0.0.1220", "0.0.1221", "0.0.1222")
DASD = "0.0.013f"
FCP = "0.0.1700"
UUID = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"


class Layout:
    """Writes directories and links as a kernel shows them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def file(self, path: str, text: str = "") -> None:
        """A file with a text."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def link(self, path: str, target: str) -> None:
        """A link, relative as sysfs has them."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(os.path.relpath(self.root / target.lstrip("/"), place.parent))

    def device(self, path: str, bus: str, driver: str | None = None, **attributes: str) -> str:
        """A device on a bus, with its driver."""
        name = path.rpartition("/")[2]
        (self.root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        self.link(f"{path}/subsystem", f"/sys/bus/{bus}")
        self.link(f"/sys/bus/{bus}/devices/{name}", path)
        (self.root / f"sys/bus/{bus}/drivers").mkdir(parents=True, exist_ok=True)
        if driver:
            self.link(f"{path}/driver", f"/sys/bus/{bus}/drivers/{driver}")
            self.link(f"/sys/bus/{bus}/drivers/{driver}/{name}", path)
        for attribute, text in attributes.items():
            self.file(f"{path}/{attribute}", f"{text}\n")
        return path

    def member(self, path: str, group: int) -> None:
        """Put a device into an IOMMU group."""
        self.link(f"{path}/iommu_group", f"/sys/kernel/iommu_groups/{group}")
        self.link(f"/sys/kernel/iommu_groups/{group}/devices/{path.rpartition('/')[2]}", path)

    def child(self, path: str, kind: str, number: str = "", **attributes: str) -> None:
        """A device of a class; `number` is that of its node."""
        (self.root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        self.link(f"{path}/subsystem", f"/sys/class/{kind}")
        self.link(f"/sys/class/{kind}/{path.rpartition('/')[2]}", path)
        if "/virtual/" not in path:
            parent = path.rpartition("/")[0]
            self.link(f"{path}/device", parent.removesuffix(f"/{kind}"))
        if number:
            self.link(f"/sys/dev/{'block' if kind == 'block' else 'char'}/{number}", path)
        for attribute, text in attributes.items():
            self.file(f"{path}/{attribute}", f"{text}\n")

    def host(self) -> Host:
        """The host of these files."""
        return Host(_Files(self.root))


class _Files(KernelBackend):
    """The kernel backend with /proc, too, from another root."""

    def __init__(self, root: Path) -> None:
        super().__init__(sysfs=f"{root}/sys", devfs=f"{root}/dev")
        self._roots.append(("/proc", f"{root}/proc"))
        self._roots.append(("/usr", f"{root}/usr"))


def pci(vendor: int, device: int, code: int) -> dict[str, str]:
    """The attributes that tell what a function is."""
    alias = (
        f"pci:v{vendor:08X}d{device:08X}sv{0:08X}sd{0:08X}"
        f"bc{code >> 16:02X}sc{code >> 8 & 255:02X}i{code & 255:02X}"
    )  # fmt: skip
    return {
        "vendor": f"{vendor:#06x}",
        "device": f"{device:#06x}",
        "class": f"{code:#08x}",
        "modalias": alias,
        "uevent": f"PCI_CLASS={code:X}\nPCI_ID={vendor:04X}:{device:04X}",
    }


def lay_out(root: Path) -> Layout:
    """A host with two network functions, a disk behind a bridge, channel devices, and everything built upon them."""
    at = Layout(root)
    bridge = at.device("/sys/devices/pci0000:00/0000:00:02.0", "pci", "pcieport", **pci(0x8086, 0x2030, 0x060400))
    nic = at.device(f"{bridge}/{NIC}", "pci", "i40e", **pci(0x8086, 0x1572, 0x020000))
    other = at.device(f"{bridge}/{NIC2}", "pci", "vfio-pci", **pci(0x8086, 0x1572, 0x020000))
    disk = at.device(f"/sys/devices/pci0000:5d/{DISK}", "pci", "nvme", **pci(0x144D, 0xA80A, 0x010802))
    at.device(f"/sys/devices/pci10000:e0/{WIDE}", "pci", None, **pci(0x144D, 0xA80A, 0x010802))
    for device, group in ((bridge, 12), (nic, 12), (other, 12), (disk, 13)):
        at.member(device, group)
    for node, device in (("node0", nic), ("node1", disk)):
        at.file(f"/sys/devices/system/node/{node}/cpulist")
        at.file(f"{device}/numa_node", f"{node[-1]}\n")
    at.child(f"{nic}/net/eth0", "net", flags="0x1003")
    at.child(f"{other}/vfio-dev/vfio0", "vfio-dev", "252:0")
    at.child(f"{disk}/nvme/nvme0", "nvme", "241:0")
    at.child(f"{disk}/nvme/nvme0/nvme0n1", "block", "259:0")
    for number in (1, 2):
        at.child(f"{disk}/nvme/nvme0/nvme0n1/nvme0n1p{number}", "block", f"259:{number}", partition=str(number))
    _channels(at)
    _virtual(at, nic, disk)
    return at


def _channels(at: Layout) -> None:
    numbers = (DASD, *OSA, FCP)
    kinds = ("dasd-eckd", "qeth", "qeth", "qeth", "zfcp")
    types = ("t3990mE9dt3390dm0C", *["t1731m01dt1732dm01"] * 3, "t1731m03dt1732dm03")
    for place, (number, driver, alias) in enumerate(zip(numbers, kinds, types, strict=True)):
        subchannel = at.device(
            f"/sys/devices/css0/0.0.{place:04x}", "css", "io_subchannel",
            type="0", dev_busid=number, chpids="42 43 00 00 00 00 00 00", pimpampom="c0 c0 ff",
        )  # fmt: skip
        device = f"{subchannel}/{number}"
        control, kind = f"{alias[1:5]}/{alias[6:8]}".lower(), f"{alias[10:14]}/{alias[16:18]}".lower()
        at.device(
            device,
            "ccw",
            driver,
            online="1",
            modalias=f"ccw:{alias}",
            cutype=control,
            devtype=kind,
            availability="good",
        )
    at.child(f"/sys/devices/css0/0.0.0000/{DASD}/block/dasda", "block", "94:0")
    at.child(f"/sys/devices/css0/0.0.0004/{FCP}/host0/rport-0:0-0/target0:0:0/0:0:0:0/block/sda", "block", "8:0")
    group = "/sys/devices/qeth/0.0.1220"
    at.child(f"{group}/net/encc000", "net", flags="0x1002")
    at.link(f"{group}/subsystem", "/sys/bus/ccwgroup")
    for place, number in enumerate(OSA):
        at.link(f"{group}/cdev{place}", f"/sys/devices/css0/0.0.{place + 1:04x}/{number}")
    taken = at.device("/sys/devices/css0/0.0.0009", "css", "vfio_ccw", type="0", dev_busid="0.0.1234", chpids="42 00",
                      pimpampom="80 80 ff")  # fmt: skip
    mdev = at.device(f"{taken}/{UUID}", "mdev", "vfio_ccw_mdev")
    at.member(mdev, 14)
    at.link(f"{mdev}/mdev_type", f"{taken}/mdev_supported_types/vfio_ccw-io")


def _virtual(at: Layout, nic: str, disk: str) -> None:
    at.child("/sys/devices/virtual/net/bond0", "net", flags="0x1003")
    at.link("/sys/devices/virtual/net/bond0/lower_eth0", f"{nic}/net/eth0")
    at.child("/sys/devices/virtual/net/br0", "net", flags="0x1003")
    at.file("/sys/devices/virtual/net/br0/brif/bond0")
    at.child("/sys/devices/virtual/net/lo", "net", flags="0x9")
    at.child("/sys/devices/virtual/block/dm-0", "block", "253:0")
    at.link("/sys/devices/virtual/block/dm-0/slaves/nvme0n1p2", f"{disk}/nvme/nvme0/nvme0n1/nvme0n1p2")
    at.child("/sys/devices/virtual/block/loop0", "block", "7:0")
    at.file("/sys/devices/virtual/block/loop0/loop/backing_file", "/srv/image.iso\n")
    at.file(
        "/proc/self/mountinfo",
        "22 1 253:0 / / rw - ext4 /dev/mapper/root rw\n"
        "23 22 259:1 / /boot rw - ext4 /dev/nvme0n1p1 rw\n"
        "24 22 259:1 /efi /also\\040here rw - ext4 /dev/nvme0n1p1 rw\n"
        "25 22 0:31 /@ /data rw - btrfs /dev/sda rw\n"
        "26 22 0:5 / /proc rw - proc proc rw\n",
    )
    at.file("/proc/swaps", "Filename Type Size Used Priority\n/dev/dasda partition 8 0 -2\n/swap file 8 0 -3\n")
