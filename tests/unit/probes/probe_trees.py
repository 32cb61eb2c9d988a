"""Trees in use and merely present: how to build each, a device of it, and exactly what must be found."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from probe_tree import Tree

from pyvfio.backend import Holder
from pyvfio.network import Link, Network, Route

__all__ = ["TREES", "Case", "zfs_label"]

HBA = "0000:3b:00.0"
LUN = f"/sys/devices/pci0000:3a/{HBA}/host0/target0:0:0/0:0:0:0"
QEMU = Holder(4711, "qemu", 9)


@dataclass(frozen=True, slots=True)
class Case:
    """What `build` makes, the `device` to look at, what each probe must find and what cannot be seen."""

    name: str
    device: str
    build: Callable[[Tree], None]
    found: dict[str, list[str]] = field(default_factory=dict)
    blind: tuple[str, ...] = ()


TREES: list[Case] = []


def case(
    name: str, device: str = HBA, found: dict[str, list[str]] | None = None, blind: tuple[str, ...] = ()
) -> Callable[[Callable[[Tree], None]], Callable[[Tree], None]]:
    def add(build: Callable[[Tree], None]) -> Callable[[Tree], None]:
        TREES.append(Case(name, device, build, found or {}, blind))
        return build

    return add


def zfs_label(pool: str) -> bytes:
    """The beginning of a list of names and values in XDR."""

    def text(value: str) -> bytes:
        return struct.pack(">I", len(value)) + value.encode() + bytes(-len(value) % 4)

    def pair(name: str, kind: int, value: bytes) -> bytes:
        body = text(name) + struct.pack(">II", kind, 1) + value
        return struct.pack(">II", len(body) + 8, 0) + body

    pairs = pair("version", 8, struct.pack(">Q", 5000)) + pair("pool_guid", 8, struct.pack(">Q", 7))
    return b"\1\1\0\0" + struct.pack(">II", 0, 1) + pairs + (pair("name", 9, text(pool)) if pool else b"") + bytes(4)


def hba(tree: Tree) -> str:
    """A SCSI adapter with one disk ``sda``, which has a partition ``sda1``; the disk's path is returned."""
    tree.pci(HBA, "megaraid_sas")
    tree.device(LUN, "scsi", driver="sd")
    tree.device(f"{LUN}/scsi_generic/sg0", "scsi_generic", node="sg0", number="21:0")
    disk = tree.disk(LUN, "sda", "8:0")
    tree.partition(disk, 1, "8:1")
    return disk


# disks


@case("a disk behind an adapter, free")
def free_lun(tree: Tree) -> None:
    hba(tree)
    tree.file("/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/sdb partition 1024 0 -2\n")
    tree.mount("8:16", "/srv", "ext4", "/dev/sdb")
    tree.mount("8:33", "/gone", "ext4", "/dev/sda1")  # the name that another disk had when it was mounted
    tree.mount("0:40", "/mnt", "overlay", "overlay")
    tree.file("/proc/cmdline", "root=UUID=1111 console=ttyS0\n")
    tree.link("/dev/disk/by-uuid/1111", "/dev/sdb")


@case("an adapter without disks")
def no_lun(tree: Tree) -> None:
    tree.pci(HBA, "megaraid_sas")


@case(
    "a partition behind an adapter is mounted; the names come from UUID, LABEL and a link",
    found={
        "boot": [
            "sda1 holds /boot/efi [/dev/sda1]",
            "sda1 is named by root=UUID=1111 [/proc/cmdline]",
            "sda1 is named by resume=LABEL=swap space [/proc/cmdline]",
            "sda1 is named by boot=/dev/disk/by-path/x [/proc/cmdline]",
        ],
        "mounted": [
            "sda1 is mounted on /boot/efi (vfat) [/dev/sda1]",
            "sda1 is mounted on /srv/a b (vfat) [/dev/sda1]",
        ],
    },
)
def mounted_lun(tree: Tree) -> None:
    hba(tree)
    tree.mount("8:1", "/boot/efi", "vfat", "/dev/sda1")
    tree.mount("8:1", r"/srv/a\040b", "vfat", "/dev/sda1")
    tree.file("/proc/cmdline", 'root=UUID=1111 resume="LABEL=swap space" boot=/dev/disk/by-path/x quiet\n')
    tree.link("/dev/disk/by-uuid/1111", "/dev/sda1")
    tree.link(r"/dev/disk/by-label/swap\x20space", "/dev/sda1")
    tree.link("/dev/disk/by-path/x", "/dev/sda1")


@case(
    "what the command line names cannot be told without udev's links",
    blind=(
        "boot: root=PARTUUID=22-01: /dev/disk does not say which device that is",
        "boot: resume=UUID=33: /dev/disk does not say which device that is",
    ),
)
def unknown_root(tree: Tree) -> None:
    hba(tree)
    tree.file("/proc/cmdline", "root=PARTUUID=22-01 resume=UUID=33\n")


@case("a root that is mounted needs no links, and a swap area that is gone is nowhere")
def known_root(tree: Tree) -> None:
    hba(tree)
    tree.mount("8:17", "/", "ext4", "/dev/root")
    tree.file("/proc/cmdline", "root=PARTUUID=22-01 resume=UUID=33\n")
    tree.link("/dev/disk/by-uuid/44", "/dev/sdb")


@case(
    "mounts of process 1 and of a container",
    found={
        "mounted": [
            "sda is mounted on /both (xfs) [/dev/sda]",
            "sda is mounted on /data (xfs) (as process 1 sees it) [/dev/sda]",
            "sda1 is mounted (ext4) in a mount namespace not seen here [/sys/fs/ext4/sda1]",
        ]
    },
)
def other_namespaces(tree: Tree) -> None:
    hba(tree)
    tree.mount("8:0", "/data", "xfs", "/dev/sda", process="1")
    for process in ("1", "self"):
        tree.mount("8:0", "/both", "xfs", "/dev/sda", process)
    tree.file("/proc/swaps", "Filename Type Size Used Priority\n/data/swap file 1024 0 -2\n")
    tree.file("/sys/fs/ext4/sda1/session_write_kbytes", "0\n")
    tree.file("/sys/fs/xfs/sdb/log/log_head_lsn", "0\n")


@case(
    "NVMe, a partition mounted, its controller open",
    found={
        "mounted": ["nvme0n1p1 is mounted on /srv (ext4) [/dev/nvme0n1p1]"],
        "open": ["nvme0 is open in qemu (pid 4711, fd 9) [/dev/nvme0]"],
    },
)
def nvme(tree: Tree) -> None:
    path = tree.pci(HBA, "nvme")
    tree.device(f"{path}/nvme/nvme0", "nvme", node="nvme0", number="239:0")
    disk = tree.nvme_disk(f"{path}/nvme/nvme0/nvme0n1", "259:0")
    tree.partition(disk, 1, "259:1")
    tree.mount("259:1", "/srv", "ext4", "/dev/nvme0n1p1")
    tree.backend.held["/dev/nvme0"] = [QEMU]


@case(
    "NVMe with native multipath: the disk is not below the device",
    found={"mounted": ["nvme0n1p1 is mounted on /srv (ext4) [/dev/nvme0n1p1]"]},
)
def nvme_multipath(tree: Tree) -> None:
    path = tree.pci(HBA, "nvme")
    tree.device(f"{path}/nvme/nvme0/nvme0c0n1", "block", DEVTYPE="disk")
    tree.file(f"{path}/nvme/nvme0/nvme0c0n1/hidden", "1\n")
    disk = tree.nvme_disk("/sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1", "259:0")
    tree.partition(disk, 1, "259:1")
    tree.mount("259:1", "/srv", "ext4", "/dev/nvme0n1p1")


@case("a bridge: the disks behind it belong to other functions", "0000:3a:01.0")
def bridge(tree: Tree) -> None:
    above = tree.pci("0000:3a:01.0", "pcieport")
    path = tree.pci(HBA, "nvme", above=above)
    tree.nvme_disk(f"{path}/nvme/nvme0/nvme0n1", "259:0")
    tree.mount("259:0", "/", "ext4", "/dev/nvme0n1")


@case(
    "a function that makes a host bridge of its own (VMD)",
    found={
        "boot": ["nvme0n1 holds / [/dev/nvme0n1]"],
        "mounted": ["nvme0n1 is mounted on / (ext4) [/dev/nvme0n1]"],
    },
)
def vmd(tree: Tree) -> None:
    path = tree.pci(HBA, "vmd")
    tree.file(f"{path}/pci10000:e0/uevent")
    port = tree.pci("10000:e0:06.0", "pcieport", above=f"{path}/pci10000:e0")
    drive = tree.pci("10000:e1:00.0", "nvme", above=port)
    tree.nvme_disk(f"{drive}/nvme/nvme0/nvme0n1", "259:0")
    tree.mount("259:0", "/", "ext4", "/dev/nvme0n1")


@case(
    "a drive reader without a medium and a disk whose node may not be read",
    blind=(
        "holders: /dev/sda could not be opened (EACCES)",
        "signature: /dev/sda could not be read (EACCES)",
    ),
)
def unreadable(tree: Tree) -> None:
    disk = hba(tree)
    tree.disk(f"{LUN}", "sr0", "11:0", size=512)
    tree.file("/sys/block/sr0/size", "0\n")
    tree.backend.refused |= {"/dev/sr0": errno.ENOMEDIUM, "/dev/sda": errno.EACCES}
    assert disk


@case(
    "a disk without a node",
    blind=(
        "holders: /dev/sda could not be opened (ENOENT)",
        "open: /dev/sda is not there, so who has it open is not known",
        "signature: /dev/sda could not be read (ENOENT)",
    ),
)
def no_node(tree: Tree) -> None:
    hba(tree)
    (tree.root / "dev/sda").unlink()


@case(
    "nothing tells what is mounted",
    blind=(
        "boot: /proc/self/mountinfo could not be read (ENOENT)",
        "mounted: /proc/self/mountinfo could not be read (ENOENT)",
        "holders: /proc/self/mountinfo could not be read (ENOENT)",
    ),
)
def no_proc(tree: Tree) -> None:
    hba(tree)
    (tree.root / "proc/self/mountinfo").unlink()


@case(
    "other users' programs cannot be seen",
    blind=("open: programs of other users could not be looked at (run as root)",),
)
def no_root(tree: Tree) -> None:
    hba(tree)
    tree.backend.refused["/proc/1/fd"] = errno.EACCES


@case(
    "directories that may not be read",
    blind=(f"{LUN} could not be read (EACCES)",),
)
def closed_directory(tree: Tree) -> None:
    hba(tree)
    tree.backend.refused[LUN] = errno.EACCES


@case(
    "multipath with a partition, below a file system",
    found={
        "boot": ["dm-1 (mpatha1) on dm-0 (mpatha) on sda is named by resume=/dev/mapper/mpatha1 [/proc/cmdline]"],
        "mounted": ["dm-1 (mpatha1) on dm-0 (mpatha) on sda is mounted on /db (xfs) [/dev/dm-1]"],
        "holders": [
            "dm-0 (mpatha) stands on sda (multipath map) [/dev/dm-0]",
            "dm-1 (mpatha1) stands on dm-0 (mpatha) on sda (partition of a multipath map) [/dev/dm-1]",
        ],
        "open": ["sg0 is open in multipathd (pid 9, fd 5) [/dev/sg0]"],
    },
)
def multipath(tree: Tree) -> None:
    disk = hba(tree)
    whole = tree.upper("dm-0", "253:0", disk, dm_name="mpatha", dm_uuid="mpath-36001")
    tree.upper("dm-1", "253:1", whole, dm_name="mpatha1", dm_uuid="part1-mpath-36001")
    tree.mount("253:1", "/db", "xfs", "/dev/mapper/mpatha1")
    tree.file("/proc/cmdline", "resume=/dev/mapper/mpatha1\n")
    tree.backend.held["/dev/sg0"] = [Holder(9, "multipathd", 5)]


@case(
    "an array with partitions, one of them swapped to",
    found={
        "swap": ["md127p2 on sda1 is swap space (1020 KiB, 8 KiB in use) [/dev/md127p2]"],
        "holders": ["md127 stands on sda1 (md array, raid5, active) [/dev/md127]"],
    },
)
def array(tree: Tree) -> None:
    disk = hba(tree)
    md = tree.upper("md127", "9:127", f"{disk}/sda1", md_level="raid5", md_array_state="active")
    tree.partition(md, 2, "259:7")
    tree.file("/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/md/x2 partition 1020 8 -2\n")
    tree.link("/dev/md/x2", "/dev/md127p2")


@case(
    "a swap file on a volume, not one beside it",
    found={
        "mounted": [
            "sda1 is mounted on /srv (ext4) [/dev/sda1]",
            "sda1 is mounted on /over (ext4) [/dev/sda1]",
        ],
        "swap": [
            "sda1 holds the swap file /srv/a file (1024 KiB, 0 KiB in use) [/srv/a file]",
            "sda1 holds the swap file /over/file (8 KiB, 4 KiB in use) [/over/file]",
        ],
    },
)
def swap_files(tree: Tree) -> None:
    hba(tree)
    tree.mount("8:17", "/srv/other", "ext4", "/dev/sdb1")
    tree.mount("8:17", "/over", "ext4", "/dev/sdb1")
    tree.mount("8:1", "/srv", "ext4", "/dev/sda1")
    tree.mount("8:1", "/over", "ext4", "/dev/sda1")
    lines = ["Filename Type Size Used Priority", r"/srv/a\040file file 1024 0 -2", "/srv/other/swap file 2048 0 -3"]
    tree.file("/proc/swaps", "\n".join([*lines, "/srvswap file 4096 0 -4", "/over/file file 8 4 -5", ""]))


@case(
    "a loop device over the disk, mounted",
    found={
        "mounted": ["loop3 on sda is mounted on /iso (ext4) [/dev/loop3]"],
        "holders": ["loop3 stands on sda (loop device) [/dev/loop3]"],
    },
)
def loop(tree: Tree) -> None:
    hba(tree)
    tree.upper("loop3", "7:3", loop_backing_file="/dev/sda")
    tree.upper("loop4", "7:4", loop_backing_file="/srv/image")
    tree.mount("7:3", "/iso", "ext4", "/dev/loop3")
    tree.mount("7:4", "/img", "ext4", "/dev/loop4")


@case(
    "a btrfs of two devices, mounted by the other one",
    found={"mounted": ["sda1 is mounted on /pool (btrfs) [/dev/sda1]"]},
)
def btrfs(tree: Tree) -> None:
    disk = hba(tree)
    tree.link("/sys/fs/btrfs/aaaa-bbbb/devices/sda1", f"{disk}/sda1")
    tree.file("/sys/fs/btrfs/aaaa-bbbb/devices/sdb1")
    tree.file("/sys/fs/btrfs/features/raid1c34", "1\n")
    tree.mount("0:45", "/pool", "btrfs", "/dev/sdb1")
    tree.mount("0:46", "/home", "btrfs", "/dev/sdc1")


@case(
    "a btrfs that is mounted somewhere else",
    found={"mounted": ["sda1 belongs to a btrfs that is mounted [/sys/fs/btrfs/aaaa-bbbb]"]},
)
def btrfs_elsewhere(tree: Tree) -> None:
    disk = hba(tree)
    tree.link("/sys/fs/btrfs/aaaa-bbbb/devices/sda1", f"{disk}/sda1")


@case(
    "a btrfs on a volume with a space in its name",
    found={
        "mounted": ["dm-7 (my vol) on sda1 is mounted on /pool (btrfs) [/dev/dm-7]"],
        "holders": ["dm-7 (my vol) stands on sda1 (device-mapper volume) [/dev/dm-7]"],
    },
)
def btrfs_volume(tree: Tree) -> None:
    disk = hba(tree)
    tree.upper("dm-7", "253:7", f"{disk}/sda1", dm_name="my vol")
    tree.mount("0:45", "/pool", "btrfs", r"/dev/mapper/my\040vol")


@case(
    "bcachefs of two devices",
    found={"mounted": ["sda1 is mounted on /big (bcachefs) [/dev/sda1]"]},
)
def bcachefs(tree: Tree) -> None:
    hba(tree)
    tree.mount("0:47", "/big", "bcachefs", "/dev/sdb:/dev/sda1")


@case(
    "bcache: the cache and what is cached",
    found={
        "holders": [
            "bcache0 stands on sda1 (bcache) [/dev/bcache0]",
            f"sda is registered with bcache [{LUN}/block/sda/bcache]",
        ]
    },
)
def bcache(tree: Tree) -> None:
    disk = hba(tree)
    tree.upper("bcache0", "252:0", f"{disk}/sda1")
    tree.file(f"{disk}/bcache/block_size", "0.5k\n")


@case(
    "a member of a ZFS pool that is imported",
    found={
        "holders": ["sda1 belongs to the ZFS pool tank, which is imported [/dev/sda1]"],
        "signature": ["sda1 has a signature: ZFS member, label tank [/dev/sda1]"],
    },
)
def zfs(tree: Tree) -> None:
    hba(tree)
    tree.file("/dev/sda1", zfs_label("tank"), at=16 << 10)
    tree.file("/proc/spl/kstat/zfs/tank/state", "ONLINE\n")
    tree.backend.claimed |= {"/dev/sda", "/dev/sda1"}


@case(
    "a member of a ZFS pool that is not imported: only the last label is left",
    found={"signature": ["sda1 has a signature: ZFS member, label old [/dev/sda1]"]},
)
def old_zfs(tree: Tree) -> None:
    hba(tree)
    tree.file("/dev/sda1", zfs_label("old"), at=(512 - 256 + 16) << 10)
    tree.file("/proc/spl/kstat/zfs/tank/state", "ONLINE\n")


@case(
    "claimed by something that leaves no trace in sysfs",
    found={"holders": ["a part of the kernel has sda1 for itself (EBUSY) [/dev/sda1]"]},
)
def claimed(tree: Tree) -> None:
    hba(tree)
    tree.backend.claimed |= {"/dev/sda", "/dev/sda1"}


@case(
    "a disk that is claimed as a whole",
    found={"holders": ["a part of the kernel has sda for itself (EBUSY) [/dev/sda]"]},
)
def claimed_whole(tree: Tree) -> None:
    hba(tree)
    tree.backend.claimed.add("/dev/sda")


# the network


def nic(tree: Tree, *links: Link, **network: object) -> None:
    """An adapter with the port ``ens1``."""
    path = tree.pci(HBA, "ixgbe")
    tree.device(f"{path}/net/ens1", "net", INTERFACE="ens1", IFINDEX="2")
    tree.backend.net = Network(links=links, **network)  # type: ignore[arg-type]


@case(
    "an interface in another network namespace, as that of a container",
    found={
        "network": [
            "an interface of it is in another network namespace, as those of containers are "
            f"[/sys/devices/pci0000:3a/{HBA}/virtio0/net]"
        ]
    },
)
def apart(tree: Tree) -> None:
    path = tree.pci(HBA, "virtio-pci")
    tree.device(f"{path}/virtio0", "virtio", driver="virtio_net")
    (tree.root / f"{path}/virtio0/net".lstrip("/")).mkdir()


@case(
    "sysfs of another network namespace than the program's",
    blind=("network: ens1 is in another network namespace: what it is used for cannot be seen",),
)
def elsewhere(tree: Tree) -> None:
    nic(tree, Link(1, "lo", "", "", "", True, ()))


@case("a port that is up and has only what IPv6 gives")
def idle_port(tree: Tree) -> None:
    nic(
        tree,
        Link(2, "ens1", up=True, addresses=("fe80::1/64",)),
        Link(3, "ens2", up=True, addresses=("192.0.2.5/24",)),
        routes=(Route("fe80::/64", "ens1"), Route("ff00::/8", "ens1"), Route("default", "ens2", "192.0.2.1")),
        peer="192.0.2.9",
        peer_interface="ens2",
    )


@case(
    "a VLAN and a macvlan on it, seen by their links in sysfs alone",
    found={
        "bond": [
            "ens1 is a member of bond1 (bond) [/sys/class/net/bond1]",
            "ens1.5 (vlan) stands on ens1 [/sys/class/net/ens1.5]",
            "team0 stands on ens1.5 on ens1 [/sys/class/net/team0]",
        ]
    },
    blind=(
        "session: addresses and routes are not known: the host could not be read (EPERM)",
        "network: addresses and routes are not known: the host could not be read (EPERM)",
        "bond: addresses and routes are not known: the host could not be read (EPERM)",
    ),
)
def uppers(tree: Tree) -> None:
    nic(tree)
    tree.backend.net = OSError(errno.EPERM, "no")
    tree.device("/sys/devices/virtual/net/ens1.5", "net", INTERFACE="ens1.5", DEVTYPE="vlan")
    tree.device("/sys/devices/virtual/net/team0", "net", INTERFACE="team0")
    tree.device("/sys/devices/virtual/net/bond1", "net", INTERFACE="bond1", DEVTYPE="bond")
    for name in ("master", "upper_bond1"):
        tree.link(f"/sys/devices/pci0000:3a/{HBA}/net/ens1/{name}", "/sys/devices/virtual/net/bond1")
    tree.link(f"/sys/devices/pci0000:3a/{HBA}/net/ens1/upper_ens1.5", "/sys/devices/virtual/net/ens1.5")
    tree.link("/sys/devices/virtual/net/ens1.5/upper_team0", "/sys/devices/virtual/net/team0")


@case(
    "your session over a bridge on a bond",
    found={
        "session": ["your session comes from 2001:db8::9 through br0 on bond0 on ens1 [/sys/class/net/br0]"],
        "network": [
            "ens1.9 on ens1 has the address 169.254.7.7/16 [/sys/class/net/ens1.9]",
            "br0 on bond0 on ens1 has the address 2001:db8::1/64 [/sys/class/net/br0]",
        ],
        "bond": [
            "ens1 is a member of bond0 (bond) [/sys/class/net/bond0]",
            "ens1.9 (vlan) stands on ens1 [/sys/class/net/ens1.9]",
            "bond0 on ens1 is a member of br0 (bridge) [/sys/class/net/br0]",
        ],
    },
)
def deep_session(tree: Tree) -> None:
    nic(
        tree,
        Link(2, "ens1", master="bond0", up=True),
        Link(3, "bond0", "bond", master="br0", up=True),
        Link(4, "br0", "bridge", up=True, addresses=("2001:db8::1/64",)),
        Link(5, "ens1.9", "vlan", lower="ens1", up=True, addresses=("169.254.7.7/16",)),
        peer="2001:db8::9",
        peer_interface="br0",
    )


QETH = "/sys/devices/qeth/0.0.1220"


def osa(tree: Tree, online: str) -> None:
    """Three channel devices that are grouped for the interface enc1220."""
    for number in range(3):
        tree.device(f"/sys/devices/css0/0.0.000{number}", "css", driver="io_subchannel")
        path = tree.device(f"/sys/devices/css0/0.0.000{number}/0.0.122{number}", "ccw", driver="qeth")
        tree.file(f"{path}/online", f"{online}\n")
        tree.file(f"{path}/devtype", "1732/01\n")
        tree.link(f"{path}/group_device", QETH)
    tree.device(QETH, "ccwgroup", driver="qeth")
    tree.file(f"{QETH}/online", f"{online}\n")


@case(
    "a qeth group that is online, by its data device",
    "0.0.1222",
    found={
        "network": ["enc1220 has the address 198.51.100.4/24 [/sys/class/net/enc1220]"],
        "online": [
            "0.0.1222 is online (1732/01, driver qeth) [/sys/devices/css0/0.0.0002/0.0.1222/online]",
            f"0.0.1222 belongs to the qeth group 0.0.1220 (online, interface enc1220) [{QETH}]",
        ],
    },
)
def qeth(tree: Tree) -> None:
    osa(tree, "1")
    tree.file(f"{QETH}/if_name", "enc1220\n")
    tree.device(f"{QETH}/net/enc1220", "net", INTERFACE="enc1220")
    tree.backend.net = Network((Link(5, "enc1220", up=True, addresses=("198.51.100.4/24",)),))


@case(
    "a qeth group that is offline",
    "0.0.1220",
    found={"online": [f"0.0.1220 belongs to the qeth group 0.0.1220 (offline) [{QETH}]"]},
)
def offline_qeth(tree: Tree) -> None:
    osa(tree, "0")


# the start of the system


def dasd(tree: Tree) -> None:
    """A channel device that is offline."""
    tree.device("/sys/devices/css0/0.0.0000", "css", driver="io_subchannel")
    path = tree.device("/sys/devices/css0/0.0.0000/0.0.0200", "ccw", driver="dasd-eckd")
    tree.file(f"{path}/online", "0\n")


@case(
    "loaded from a DASD, which is also the console's",
    "0.0.0200",
    found={
        "boot": [
            "0.0.0200 is named by condev=0x0200 [/proc/cmdline]",
            "the system was loaded (IPL) from 0.0.0200, type eckd [/sys/firmware/ipl/device]",
        ]
    },
)
def ipl_dasd(tree: Tree) -> None:
    dasd(tree)
    tree.file("/sys/firmware/ipl/ipl_type", "eckd\n")
    tree.file("/sys/firmware/ipl/device", "0.0.0200\n")
    tree.file("/proc/cmdline", "condev=0x0200 rd.dasd=0.0.0201\n")


@case(
    "loaded from a DASD whose subchannel is all that is left",
    "css 0.0.0000",
    found={"boot": ["the system was loaded (IPL) from 0.0.0200, type ccw [/sys/firmware/ipl/device]"]},
)
def ipl_subchannel(tree: Tree) -> None:
    path = tree.device("/sys/devices/css0/0.0.0000", "css", driver="vfio_ccw")
    tree.file(f"{path}/dev_busid", "0.0.0200\n")
    tree.file("/sys/firmware/ipl/ipl_type", "ccw\n")
    tree.file("/sys/firmware/ipl/device", "0.0.0200\n")


@case("loaded from another DASD", "0.0.0200")
def ipl_other(tree: Tree) -> None:
    dasd(tree)
    tree.file("/sys/firmware/ipl/ipl_type", "ccw\n")
    tree.file("/sys/firmware/ipl/device", "0.0.0201\n")


@case(
    "loaded through an FCP device",
    "0.0.0200",
    found={
        "boot": [
            "the system was loaded (IPL) from 0.0.0200, type fcp, WWPN 0x5005, LUN 0x4010 [/sys/firmware/ipl/device]"
        ]
    },
)
def ipl_fcp(tree: Tree) -> None:
    dasd(tree)
    for name, value in (("ipl_type", "fcp"), ("device", "0.0.0200"), ("wwpn", "0x5005"), ("lun", "0x4010")):
        tree.file(f"/sys/firmware/ipl/{name}", f"{value}\n")


def ipl_nvme(tree: Tree) -> None:
    for name in (HBA, "0000:3b:00.1"):
        path = tree.pci(name, "nvme")
        tree.file(f"{path}/function_id", f"0x0000001{name[-1]}\n")
    for name, value in (("ipl_type", "nvme"), ("fid", "0x00000010"), ("nsid", "0x00000001")):
        tree.file(f"/sys/firmware/ipl/{name}", f"{value}\n")


case(
    "loaded from an NVMe function",
    found={
        "boot": ["the system was loaded (IPL) from function 0x00000010, type nvme, namespace 1 [/sys/firmware/ipl/fid]"]
    },
)(ipl_nvme)
case("loaded from another function", "0000:3b:00.1")(ipl_nvme)


# terminals, keyboards, screens


def serial(tree: Tree) -> None:
    path = tree.pci(HBA, "serial")
    tree.device(f"{path}/tty/ttyS4", "tty", node="ttyS4", number="4:68")


@case("a serial port that is no console")
def idle_serial(tree: Tree) -> None:
    serial(tree)
    tree.file("/proc/consoles", "ttyS0                -W- (EC  p a)    4:64\n")
    tree.file("/sys/class/tty/console/active", "tty0 ttyS0\n")
    tree.link("/proc/self/fd/0", "/dev/ttyS0")
    tree.file("/dev/ttyS0")


@case(
    "the serial console, on which you are typing",
    found={
        "session": [f"you are typing on /dev/ttyS4 of {HBA} [/dev/ttyS4]"],
        "console": ["ttyS4 is a console (ECpa) [/proc/consoles]"],
    },
)
def serial_console(tree: Tree) -> None:
    serial(tree)
    tree.file("/proc/consoles", "ttyS4                -W- (EC  p a)    4:68\n")
    tree.link("/proc/self/fd/1", "/dev/ttyS4")


@case(
    "a console that goes by another name",
    found={"console": ["ttyS4 is a console (EC) [/proc/consoles]"]},
)
def console_by_number(tree: Tree) -> None:
    serial(tree)
    tree.file("/proc/consoles", "uart4                -W- (EC     )    4:68\n")


@case(
    "a serial port behind /dev/console",
    found={"console": ["ttyS4 is behind /dev/console [/sys/class/tty/console/active]"]},
)
def active_console(tree: Tree) -> None:
    serial(tree)
    tree.file("/sys/class/tty/console/active", "tty0 ttyS4\n")


@case(
    "two virtio consoles, one of them hvc0",
    blind=("console: whether hvc0 is on virtio0 or on virtio1 cannot be told",),
)
def two_virtio_consoles(tree: Tree) -> None:
    for number, name in enumerate((HBA, "0000:3b:00.1")):
        path = tree.pci(name, "virtio-pci")
        tree.device(f"{path}/virtio{number}", "virtio", driver="virtio_console")
    tree.file("/proc/consoles", "hvc0                 -W- (EC  p  )  229:0\n")


@case(
    "the 3270 on which you are typing",
    "0.0.0009",
    found={
        "session": ["you are typing on /dev/3270/tty1 of 0.0.0009 [/dev/3270/tty1]"],
        "console": ["tty32700 is a console (ECp) [/proc/consoles]"],
    },
)
def terminal(tree: Tree) -> None:
    tree.device("/sys/devices/css0/0.0.0001", "css", driver="io_subchannel")
    tree.device("/sys/devices/css0/0.0.0001/0.0.0009", "ccw", driver="3270")
    tree.file("/proc/consoles", "tty32700             -W- (EC  p  )  227:1\n")
    tree.file("/dev/3270/tty1")
    tree.link("/proc/self/fd/2", "/dev/3270/tty1")
    tree.backend.numbers["/dev/3270/tty1"] = os.makedev(227, 1)


INPUT = """I: Bus=0003 Vendor=046d Product=c31c Version=0110
N: Name="{name}"
P: Phys=usb-0000:3b:00.0-1/input0
S: Sysfs=/devices/pci0000:3a/{device}/usb1/1-1/1-1:1.0/input/input3
U: Uniq=
H: Handlers={handlers}
B: PROP=0
B: EV=120013
B: KEY={keys}
"""


def usb(tree: Tree, name: str, handlers: str, keys: str, device: str = HBA) -> None:
    for one in (HBA, "0000:3b:00.1"):
        path = tree.pci(one, "xhci_hcd")
        tree.device(f"{path}/usb1/1-1/1-1:1.0/input/input3", "input")
        tree.device(f"{path}/usb1/1-1/1-1:1.0/input/input3/event3-{one}", "input", node=f"ev{one[-1]}", number="13:67")
        (tree.root / "sys/class/input/input3").unlink()
    text = INPUT.format(name=name, handlers=handlers, keys=keys, device=device)
    tree.file("/proc/bus/input/devices", f"{text}\n")


KEYS = "1000000000007 ff9f207ac14057ff febeffdfffefffff fffffffffffffffe"


@case(
    "a USB controller with a keyboard",
    found={
        "keyboard": [
            'the keyboard "USB Keyboard" types on the console '
            f"[/sys/devices/pci0000:3a/{HBA}/usb1/1-1/1-1:1.0/input/input3]"
        ]
    },
)
def keyboard(tree: Tree) -> None:
    usb(tree, "USB Keyboard", "sysrq kbd event3 leds ", KEYS)


@case("a USB controller with a headset that has a volume key")
def headset(tree: Tree) -> None:
    usb(tree, "USB Headset", "kbd event3 ", "e000000000000 2")


@case("a keyboard that the console does not listen to")
def other_keyboard(tree: Tree) -> None:
    usb(tree, "USB Keyboard", "event3 ", KEYS)


@case("a USB controller beside that with the keyboard")
def other_controller(tree: Tree) -> None:
    usb(tree, "USB Keyboard", "sysrq kbd event3 leds ", KEYS, "0000:3b:00.1")


@case(
    "a program reads its events",
    found={"open": ["event3-0000:3b:00.0 is open in Xorg (pid 88, fd 30) [/dev/ev0]"]},
)
def events(tree: Tree) -> None:
    usb(tree, "USB Mouse", "mouse0 event3 ", "70000 0 0 0 0")
    tree.backend.held["/dev/ev0"] = [Holder(88, "Xorg", 30)]


def graphics(tree: Tree) -> None:
    for number, name in enumerate((HBA, "0000:3b:00.1")):
        path = tree.pci(name, "amdgpu")
        tree.device(f"{path}/drm/card{number}", "drm", node=f"dri/card{number}", number=f"226:{number}")
        tree.device(f"{path}/graphics/fb{number}", "graphics", node=f"fb{number}", number=f"29:{number}")
    tree.file("/sys/class/graphics/fbcon/rotate", "0\n")
    tree.file("/sys/class/vtconsole/vtcon0/name", "(S) dummy device\n")
    tree.file("/sys/class/vtconsole/vtcon0/bind", "0\n")
    tree.file("/sys/class/vtconsole/vtcon1/name", "(M) frame buffer device\n")
    tree.file("/sys/class/vtconsole/vtcon1/bind", "1\n")
    tree.backend.held["/dev/dri/card1"] = [Holder(88, "Xorg", 12)]


case(
    "the graphics card that shows the virtual terminals",
    found={"console": ["fb0 shows the virtual terminals (vtcon1 is bound) [/sys/class/vtconsole/vtcon1/bind]"]},
)(graphics)
case(
    "a second graphics card, which a program has open",
    "0000:3b:00.1",
    found={"open": ["card1 is open in Xorg (pid 88, fd 12) [/dev/dri/card1]"]},
)(graphics)


@case("a graphics card whose frame buffer was unbound from the terminals")
def unbound_graphics(tree: Tree) -> None:
    graphics(tree)
    tree.file("/sys/class/vtconsole/vtcon0/bind", "1\n")
    tree.file("/sys/class/vtconsole/vtcon1/bind", "0\n")


# VFIO


def group(tree: Tree) -> None:
    """Two functions in group 9, both with vfio-pci; the second is ``vfio1``."""
    for number, name in enumerate((HBA, "0000:3b:00.1")):
        path = tree.pci(name, "vfio-pci")
        tree.device(f"{path}/vfio-dev/vfio{number}", "vfio-dev", node=f"vfio/devices/vfio{number}", number="511:0")
        tree.link(f"{path}/iommu_group", "/sys/kernel/iommu_groups/9")
        tree.link(f"/sys/kernel/iommu_groups/9/devices/{name}", path)
    tree.file("/dev/vfio/9")


case("a group of VFIO that nobody has open")(group)


@case(
    "another function of the group is open, and mapped",
    found={
        "vfio": [
            "0000:3b:00.1 is open in qemu (pid 4711, fd 9) [/dev/vfio/devices/vfio1]",
            "0000:3b:00.1 is open in qemu (pid 4711) [/dev/vfio/devices/vfio1]",
        ]
    },
)
def open_member(tree: Tree) -> None:
    group(tree)
    tree.backend.held["/dev/vfio/devices/vfio1"] = [QEMU, Holder(4711, "qemu", -1)]


@case(
    "open without an IOMMU",
    found={"vfio": ["IOMMU group 9 is open in qemu (pid 4711, fd 9) [/dev/vfio/noiommu-9]"]},
)
def no_iommu(tree: Tree) -> None:
    group(tree)
    tree.file("/dev/vfio/noiommu-9")
    tree.backend.held["/dev/vfio/noiommu-9"] = [QEMU]


UUID = "66826a94-72c4-557f-beca-d135a70628e9"


@case(
    "a share of a graphics card in a guest",
    found={
        "vfio": [f"{UUID} is open in qemu (pid 4711, fd 9) [/dev/vfio/devices/vfio3]"],
        "mdev": [
            f"mediated device {UUID} (i915-GVTg_V5_4), open in qemu (pid 4711, fd 9) "
            f"[/sys/devices/pci0000:3a/{HBA}/{UUID}]"
        ],
    },
)
def share(tree: Tree) -> None:
    path = tree.pci(HBA, "i915")
    mdev = tree.device(f"{path}/{UUID}", "mdev", driver="vfio_mdev")
    tree.device(f"{mdev}/vfio-dev/vfio3", "vfio-dev", node="vfio/devices/vfio3", number="511:3")
    tree.file(f"{path}/mdev_supported_types/i915-GVTg_V5_4/available_instances", "1\n")
    tree.link(f"{mdev}/mdev_type", f"{path}/mdev_supported_types/i915-GVTg_V5_4")
    tree.backend.held["/dev/vfio/devices/vfio3"] = [QEMU]


@case("a graphics card that offers shares")
def no_share(tree: Tree) -> None:
    path = tree.pci(HBA, "i915")
    tree.file(f"{path}/mdev_supported_types/i915-GVTg_V5_4/available_instances", "1\n")


def virtual_functions(tree: Tree) -> None:
    path = tree.pci(HBA, "ixgbe")
    tree.file(f"{path}/sriov_numvfs", "2\n")
    for number, driver in ((0, "vfio-pci"), (1, "")):
        name = f"0000:3b:10.{number}"
        other = tree.pci(name, driver)
        tree.link(f"{path}/virtfn{number}", other)
        tree.link(f"{other}/iommu_group", f"/sys/kernel/iommu_groups/{20 + number}")
    tree.file("/dev/vfio/20")
    tree.backend.held["/dev/vfio/20"] = [QEMU]


case(
    "virtual functions, one of them in a guest",
    found={
        "sriov": [
            f"2 virtual functions are enabled [/sys/devices/pci0000:3a/{HBA}/sriov_numvfs]",
            "virtual function 0000:3b:10.0 has driver vfio-pci, open in qemu (pid 4711, fd 9) "
            "[/sys/devices/pci0000:3a/0000:3b:10.0]",
        ]
    },
)(virtual_functions)


@case("a physical function whose virtual functions are not enabled")
def no_virtual_functions(tree: Tree) -> None:
    tree.file(f"{tree.pci(HBA, 'ixgbe')}/sriov_numvfs", "0\n")


# directories of the hypervisor

VIRTIO = f"/sys/devices/pci0000:3a/{HBA}/virtio0"


def shared(tree: Tree, driver: str) -> None:
    tree.pci(HBA, "virtio-pci")
    tree.device(VIRTIO, "virtio", driver=driver)
    tree.mount("0:50", "/srv/other", "9p", "other")
    tree.mount("0:51", "/srv/tag", "ext4", "shared")


@case(
    "a directory of the hypervisor is mounted by 9p",
    found={"mounted": [f"virtio0 (shared) is mounted on /srv/a (9p) [{VIRTIO}]"]},
)
def mounted_9p(tree: Tree) -> None:
    shared(tree, "9pnet_virtio")
    tree.file(f"{VIRTIO}/mount_tag", "shared\0")
    tree.mount("0:52", "/srv/a", "9p", "shared")


@case("a directory of the hypervisor that is not mounted")
def free_9p(tree: Tree) -> None:
    shared(tree, "9pnet_virtio")
    tree.file(f"{VIRTIO}/mount_tag", "shared\0")


@case(
    "a directory of the hypervisor is mounted by virtiofs",
    found={"mounted": [f"virtio0 (shared) is mounted on /srv/a (virtiofs) [{VIRTIO}]"]},
)
def mounted_virtiofs(tree: Tree) -> None:
    shared(tree, "virtiofs")
    tree.file("/sys/fs/virtiofs/0/tag", "shared\n")
    tree.link("/sys/fs/virtiofs/0/device", VIRTIO)
    tree.mount("0:52", "/srv/a", "virtiofs", "shared")
    tree.mount("0:53", "/srv/b", "virtiofs", "another")


@case(
    "a virtiofs whose tag nothing tells",
    blind=("mounted: virtio0 does not say its tag, so whether it is mounted is not known",),
)
def untold_virtiofs(tree: Tree) -> None:
    shared(tree, "virtiofs")
    tree.mount("0:52", "/srv/a", "virtiofs", "shared")


@case("a virtiofs whose tag nothing tells, where no virtiofs is mounted")
def free_virtiofs(tree: Tree) -> None:
    shared(tree, "virtiofs")
