"""Machines in use and merely present: the text of a machine file, a device of it, and exactly what must be found."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field

from pyvfio.host import Host
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import MDEV_UUID, BoundSubchannel

__all__ = ["BASE", "ROWS", "Row"]

BASE = """
[machine]
name = "probes"

[[css.path]]
chpid = 0x42

[[css.path]]
chpid = 0x00

[[css.subchannel]]
schid = "0.0.0000"
device = "0.0.0200"
unit = "dasd-3390"
driver = "dasd-eckd"
online = {dasd}
chpids = [0x42]
options = {{ volser = "VOL001" }}

[[css.subchannel]]
schid = "0.0.0001"
device = "0.0.0009"
unit = "3270"
driver = "3270"
online = {terminal}
chpids = [0x42]

[[css.subchannel]]
schid = "0.0.0002"
device = "0.0.0300"
unit = "virtio-blk"
driver = "virtio_ccw"
online = true
options = {{ size = 1048576 }}

[[css.subchannel]]
schid = "0.0.0003"
device = "0.0.0301"
unit = "virtio-rng"
driver = "virtio_ccw"
online = true

[[css.subchannel]]
schid = "0.0.0004"
device = "0.0.0302"
unit = "virtio-console"
driver = "virtio_ccw"
online = true

[[css.subchannel]]
schid = "0.0.0005"
device = "0.0.1220"
unit = "osa"
driver = "qeth"
chpids = [0x42]

[[zpci.function]]
uid = 0x10
fid = 0x10
model = "virtio-net"
driver = "virtio-pci"

[[zpci.function]]
uid = 0x11
fid = 0x11
model = "virtio-net"
driver = "virtio-pci"

[[zpci.function]]
uid = 0x20
fid = 0x20
model = "virtio-blk"
driver = "virtio-pci"
options = {{ size = 67108864 }}

[[zpci.function]]
uid = 0x21
fid = 0x21
model = "virtio-blk"
driver = "virtio-pci"
options = {{ size = 67108864 }}

[[zpci.function]]
uid = 0x30
fid = 0x30
model = "virtio-rng"
driver = "virtio-pci"

[[zpci.function]]
uid = 0x60
fid = 0x60
model = "virtio-bell"
driver = "vfio-pci"

[[zpci.function]]
uid = 0x70
fid = 0x70
model = "virtio-rng"
driver = "virtio-pci"
options = {{ total_vfs = 2 }}
"""
"""``vda`` (0x20) and ``vdb`` (0x21) with 64 MiB, ``vdc`` behind 0.0.0300, ``eth0`` (0x10), ``eth1`` (0x11)."""

ETH0, ETH1, VDA, VDB, RNG, BELL, MANY = (f"00{uid}:00:00.0" for uid in (10, 11, 20, 21, 30, 60, 70))
MDEV_PATH = f"/sys/devices/css0/0.0.0002/{MDEV_UUID}"


@dataclass(frozen=True, slots=True)
class Row:
    """A machine (`BASE` and `more`), the `device` to look at, what each probe must find and what cannot be seen.

    `dasd` and `terminal` say whether these are online.  `prepare` changes the machine before the look.
    """

    name: str
    device: str
    more: str = ""
    found: dict[str, list[str]] = field(default_factory=dict)
    blind: tuple[str, ...] = ()
    dasd: str = "false"
    terminal: str = "false"
    prepare: Callable[[Host], None] = lambda host: None

    @property
    def text(self) -> str:
        """The machine file."""
        return BASE.format(dasd=self.dasd, terminal=self.terminal) + textwrap.dedent(self.more)


def _take(host: Host) -> None:
    subchannel = BoundSubchannel(host.backend, "0.0.0300")
    subchannel.take("vfio_ccw")
    subchannel.create()


def _two_functions(host: Host) -> None:
    Attributes(host.backend).write("/sys/bus/pci/devices/0070:00:00.0/sriov_numvfs", "2")


GPT = """
    [[disk]]
    name = "vda"
    table = "gpt"
    [[disk.partition]]
    number = 1
    size = 16777216
    [[disk.partition]]
    number = 2
"""
GPT_FOUND = "vda has a signature: GPT partition table [/dev/vda]"

ROWS = [
    # merely present: a free disk, an interface that is down, devices with a driver and no user
    Row("a free disk", VDA),
    Row("a free disk behind a channel", "0.0.0300"),
    Row("an interface that is down", ETH0),
    Row("a random-number generator", RNG),
    Row("a random-number generator behind a channel", "0.0.0301"),
    Row("a function with vfio-pci that nobody has open", BELL),
    Row("a function that could have virtual functions", MANY),
    Row("a DASD that is offline", "0.0.0200"),
    Row("a terminal that is offline", "0.0.0009", '[host]\nconsoles = ["hvc0"]'),
    Row("a virtio console that is no console", "0.0.0302", '[host]\nconsoles = ["3270/tty1"]'),
    Row("an ungrouped qeth device that is offline", "0.0.1220"),
    Row("a disk beside one that is in use", VDB, '[[mount]]\ndevice = "/dev/vda"\ntarget = "/"'),
    Row("a channel without mediated devices", "0.0.0300"),
    # disks
    Row(
        "mounted",
        VDA,
        """
        [[mount]]
        device = "/dev/vda"
        target = "/srv/my data"
        """,
        {"mounted": ["vda is mounted on /srv/my data (ext4) [/dev/vda]"]},
    ),
    Row(
        "a partition is the root",
        VDA,
        GPT
        + """
        [[mount]]
        device = "/dev/vda2"
        target = "/"
        type = "xfs"
        [host]
        cmdline = "root=/dev/vda2 ro"
        """,
        {
            "boot": ["vda2 holds / [/dev/vda2]", "vda2 is named by root=/dev/vda2 [/proc/cmdline]"],
            "mounted": ["vda2 is mounted on / (xfs) [/dev/vda2]"],
            "signature": [GPT_FOUND],
        },
    ),
    Row(
        "the root of the command line is another disk",
        VDB,
        """
        [host]
        cmdline = "root=/dev/vda resume=/dev/vda2 rd.dasd=0.0.0200"
        """,
    ),
    Row(
        "named by its number on the command line",
        VDB,
        """
        [host]
        cmdline = "quiet resume=254:16 root=/dev/vda"
        """,
        {"boot": ["vdb is named by resume=254:16 [/proc/cmdline]"]},
    ),
    Row(
        "a DASD for dracut",
        "0.0.0200",
        """
        [host]
        cmdline = "rd.dasd=0.0.0100,0.0.0200(ro)"
        """,
        {"boot": ["0.0.0200 is named by rd.dasd=0.0.0100,0.0.0200(ro) [/proc/cmdline]"]},
    ),
    Row(
        "swap",
        VDB,
        """
        [[swap]]
        device = "/dev/vdb"
        used = 4194304
        """,
        {"swap": ["vdb is swap space (65532 KiB, 4096 KiB in use) [/dev/vdb]"]},
    ),
    Row(
        "swap space that is not used",
        VDB,
        """
        [[disk]]
        name = "vdb"
        signature = "swap"
        """,
        {"signature": ["vdb has a signature: swap space, UUID 115fc2d1-e566-5244-bbf0-cd20427920a9 [/dev/vdb]"]},
    ),
    Row(
        "a logical volume stands on a partition",
        VDA,
        GPT
        + """
        [[holder]]
        name = "dm-0"
        slaves = ["vda2"]
        dm_name = "vg0-home"
        uuid = "LVM-0123"
        [[mount]]
        device = "/dev/mapper/vg0-home"
        target = "/home"
        """,
        {
            "mounted": ["dm-0 (vg0-home) on vda2 is mounted on /home (ext4) [/dev/dm-0]"],
            "holders": ["dm-0 (vg0-home) stands on vda2 (LVM logical volume) [/dev/dm-0]"],
            "signature": [GPT_FOUND],
        },
    ),
    Row(
        "a volume without a device that stands on it",
        VDA,
        """
        [[disk]]
        name = "vda"
        signature = "LVM2_member"
        """,
        {
            "signature": [
                "vda has a signature: LVM physical volume, UUID fe391c-05f5-875c-10bd-d5e8-f35c-3d7351 [/dev/vda]"
            ]
        },
    ),
    Row(
        "an array of two disks, encrypted",
        VDB,
        """
        [[holder]]
        name = "md0"
        slaves = ["vda", "vdb"]
        level = "raid1"
        [[holder]]
        name = "dm-1"
        slaves = ["md0"]
        dm_name = "secret"
        uuid = "CRYPT-LUKS2-1"
        [[swap]]
        device = "/dev/dm-1"
        """,
        {
            "swap": ["dm-1 (secret) on md0 on vdb is swap space (65532 KiB, 0 KiB in use) [/dev/dm-1]"],
            "holders": [
                "md0 stands on vdb (md array, raid1, clean) [/dev/md0]",
                "dm-1 (secret) stands on md0 on vdb (encrypted volume) [/dev/dm-1]",
            ],
        },
    ),
    Row(
        "a file system that is not mounted",
        "0.0.0300",
        """
        [[disk]]
        name = "vdc"
        signature = "ext4"
        """,
        {"signature": ["vdc has a signature: ext4 file system, UUID 46e8a2e4-92ab-54b9-b124-2d09d120b2ad [/dev/vdc]"]},
    ),
    Row(
        "open in a program",
        VDA,
        GPT
        + """
        [[process]]
        pid = 300
        name = "dd"
        open = ["/dev/null", "/dev/vda1"]
        """,
        {"open": ["vda1 is open in dd (pid 300, fd 4) [/dev/vda1]"], "signature": [GPT_FOUND]},
    ),
    # the network
    Row(
        "an address and routes, and your session",
        ETH0,
        """
        [[net.address]]
        interface = "eth0"
        address = "192.0.2.5/24"
        [[net.route]]
        destination = "default"
        interface = "eth0"
        gateway = "192.0.2.1"
        [session]
        peer = "198.51.100.7"
        """,
        {
            "session": ["your session comes from 198.51.100.7 through eth0 [/sys/class/net/eth0]"],
            "network": [
                "eth0 has the address 192.0.2.5/24 [/sys/class/net/eth0]",
                "the default route by 192.0.2.1 leaves through eth0 [/sys/class/net/eth0]",
                "the route to 192.0.2.0/24 leaves through eth0 [/sys/class/net/eth0]",
            ],
        },
    ),
    Row(
        "your session, but through another interface",
        ETH1,
        """
        [[net.address]]
        interface = "eth0"
        address = "192.0.2.5/24"
        [session]
        peer = "192.0.2.7"
        """,
    ),
    Row(
        "up, with what IPv6 makes by itself",
        ETH0,
        """
        [net]
        up = ["eth0"]
        [[net.address]]
        interface = "eth0"
        address = "fe80::5054:ff:fe00:1/64"
        """,
    ),
    Row(
        "a route without an address",
        ETH0,
        """
        [[net.route]]
        destination = "2001:db8::/32"
        interface = "eth0"
        gateway = "fe80::1"
        """,
        {"network": ["the route to 2001:db8::/32 by fe80::1 leaves through eth0 [/sys/class/net/eth0]"]},
    ),
    Row(
        "a member of a bond that carries a VLAN with your session",
        ETH1,
        """
        [[net.bond]]
        name = "bond0"
        ports = ["eth0", "eth1"]
        [[net.vlan]]
        name = "bond0.7"
        lower = "bond0"
        id = 7
        [[net.address]]
        interface = "bond0.7"
        address = "2001:db8::5/64"
        [session]
        peer = "2001:db8::7"
        """,
        {
            "session": [
                "your session comes from 2001:db8::7 through bond0.7 on bond0 on eth1 [/sys/class/net/bond0.7]"
            ],
            "network": [
                "bond0.7 on bond0 on eth1 has the address 2001:db8::5/64 [/sys/class/net/bond0.7]",
                "the route to 2001:db8::/64 leaves through bond0.7 on bond0 on eth1 [/sys/class/net/bond0.7]",
            ],
            "bond": [
                "eth1 is a member of bond0 (bond) [/sys/class/net/bond0]",
                "bond0.7 (vlan) stands on bond0 on eth1 [/sys/class/net/bond0.7]",
            ],
        },
    ),
    Row(
        "a port of a bridge without an address",
        ETH0,
        """
        [[net.bridge]]
        name = "br0"
        ports = ["eth0"]
        """,
        {"bond": ["eth0 is a member of br0 (bridge) [/sys/class/net/br0]"]},
    ),
    # consoles and channel devices
    Row(
        "the 3270 terminal is a console",
        "0.0.0009",
        '[host]\nconsoles = ["3270/tty1", "hvc0"]',
        {
            "console": ["tty32700 is a console (Ep) [/proc/consoles]"],
            "online": ["0.0.0009 is online (driver 3270) [/sys/devices/css0/0.0.0001/0.0.0009/online]"],
        },
        terminal="true",
    ),
    Row(
        "the virtio console is the console",
        "0.0.0302",
        '[host]\nconsoles = ["hvc0"]',
        {"console": ["hvc0 is a console (ECp) [/proc/consoles]"]},
    ),
    Row(
        "a DASD that is online, by its subchannel",
        "css 0.0.0000",
        "",
        {
            "online": [
                "0.0.0200 is online (3390/0c, driver dasd-eckd) [/sys/devices/css0/0.0.0000/0.0.0200/online]",
            ]
        },
        dasd="true",
    ),
    # VFIO
    Row(
        "open through its group",
        BELL,
        """
        [[process]]
        pid = 4711
        name = "qemu-system-s39"
        open = ["/dev/vfio/vfio", "/dev/vfio/5"]
        """,
        {"vfio": ["IOMMU group 5 is open in qemu-system-s39 (pid 4711, fd 4) [/dev/vfio/5]"]},
    ),
    Row(
        "open through its own node",
        BELL,
        """
        [[process]]
        pid = 4711
        name = "program"
        open = ["/dev/vfio/devices/vfio0"]
        """,
        {"vfio": ["0060:00:00.0 is open in program (pid 4711, fd 3) [/dev/vfio/devices/vfio0]"]},
    ),
    Row(
        "a mediated device",
        "css 0.0.0002",
        """
        [[process]]
        pid = 4711
        name = "qemu"
        open = ["/dev/vfio/7"]
        """,
        {
            "vfio": ["IOMMU group 7 is open in qemu (pid 4711, fd 3) [/dev/vfio/7]"],
            "mdev": [f"mediated device {MDEV_UUID} (vfio_ccw-io), open in qemu (pid 4711, fd 3) [{MDEV_PATH}]"],
        },
        prepare=_take,
    ),
    Row(
        "a mediated device that nobody has open, by its channel device",
        "0.0.0300",
        found={"mdev": [f"mediated device {MDEV_UUID} (vfio_ccw-io), not open [{MDEV_PATH}]"]},
        prepare=_take,
    ),
    Row(
        "the mediated device itself",
        MDEV_UUID,
        """
        [[process]]
        pid = 4711
        name = "qemu"
        open = ["/dev/vfio/devices/vfio1"]
        """,
        {"vfio": [f"{MDEV_UUID} is open in qemu (pid 4711, fd 3) [/dev/vfio/devices/vfio1]"]},
        prepare=_take,
    ),
    Row("a mediated device that nobody has open", MDEV_UUID, prepare=_take),
    Row(
        "virtual functions",
        MANY,
        found={
            "sriov": [
                "2 virtual functions are enabled [/sys/devices/pci0070:00/0070:00:00.0/sriov_numvfs]",
                "virtual function 0070:00:00.1 has driver virtio-pci [/sys/devices/pci0070:00/0070:00:00.1]",
                "virtual function 0070:00:00.2 has driver virtio-pci [/sys/devices/pci0070:00/0070:00:00.2]",
            ]
        },
        prepare=_two_functions,
    ),
]
"""Every probe is here in use, and with a device that it applies to and finds nothing on."""
