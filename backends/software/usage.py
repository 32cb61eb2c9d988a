"""What a machine file says of the host's use of its devices: contents of disks, mounts, networks, consoles.

Devices are named as the kernel names them when it boots: PCI disks ``vda``, ``vdb``, ... before those behind channels,
``dasda``, ..., interfaces ``eth0``, ``eth1``, ...  Sizes are in bytes, and whole sectors of 512 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "BOND_MODES",
    "CONSOLES",
    "P9",
    "AddressSpec",
    "BondSpec",
    "BridgeSpec",
    "DiskSpec",
    "HolderSpec",
    "HostSpec",
    "HugePagesSpec",
    "MountSpec",
    "NetSpec",
    "PartitionSpec",
    "ProcessSpec",
    "RouteSpec",
    "SessionSpec",
    "SwapSpec",
    "VlanSpec",
]


CONSOLES = {
    "3270/tty1": ("tty32700", 227, 1),
    "hvc0": ("hvc0", 229, 0),
    "ttyS0": ("ttyS0", 4, 64),
    "ttysclp0": ("ttysclp0", 4, 65),
}
"""The terminals that can be a console: the name in ``/proc/consoles`` and the device number (``drivers/s390/char``,
``drivers/tty/hvc``, ``drivers/tty/serial/8250``).
"""


BOND_MODES = ("balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb")
P9 = "9p"
"""The file system whose `device` is the tag of a virtio-9p device, not a node."""


@dataclass(slots=True)
class PartitionSpec:
    """``[[disk.partition]]``: partition `number` from byte `start` on, `size` bytes long.

    A `start` of 0 means behind the partition before it, a `size` of 0 up to the end of the disk.  `name` is for GPT,
    `signature` says what is on it.
    """

    number: int = 0
    start: int = 0
    size: int = 0
    name: str = ""
    signature: str = ""


@dataclass(slots=True)
class DiskSpec:
    """``[[disk]]``: what is on the disk `name`: a partition `table` (``gpt`` or ``dos``; a DASD has its own) or a
    `signature` such as ``ext4`` or ``LVM2_member``.
    """

    name: str
    table: str = ""
    signature: str = ""
    partition: list[PartitionSpec] = field(default_factory=list)


@dataclass(slots=True)
class HolderSpec:
    """``[[holder]]``: a block device `name` (``dm-0``, ``md0``) that stands on the `slaves`.

    A device-mapper device has a `dm_name` and a `uuid` that begins with its owner (``LVM-``, ``CRYPT-``, ``mpath-``);
    an md array a `level` and an `array_state`.  A `size` of 0 is that of the slaves together (of one, for raid1).
    """

    name: str
    slaves: tuple[str, ...]
    dm_name: str = ""
    uuid: str = ""
    level: str = "raid1"
    array_state: str = "clean"
    size: int = 0
    signature: str = ""


@dataclass(slots=True)
class MountSpec:
    """``[[mount]]``: the block `device` is mounted at `target`; `type` is that of the file system.

    For the type ``9p`` `device` is the tag of a virtio-9p device.
    """

    device: str
    target: str
    type: str = "ext4"
    options: str = "rw,relatime"


@dataclass(slots=True)
class SwapSpec:
    """``[[swap]]``: the kernel swaps to the block `device`; `used` bytes of it hold pages."""

    device: str
    used: int = 0
    priority: int = -2


@dataclass(slots=True)
class AddressSpec:
    """``[[net.address]]``: `interface` has the `address`, written ADDRESS/PREFIX."""

    interface: str
    address: str


@dataclass(slots=True)
class RouteSpec:
    """``[[net.route]]``: to `destination` (``default`` or NETWORK/PREFIX) by `interface`, through `gateway`."""

    destination: str
    interface: str
    gateway: str = ""


@dataclass(slots=True)
class BondSpec:
    """``[[net.bond]]``: the bond `name` of the interfaces `ports`."""

    name: str
    ports: tuple[str, ...]
    mode: str = "active-backup"


@dataclass(slots=True)
class BridgeSpec:
    """``[[net.bridge]]``: the bridge `name` with the interfaces `ports`."""

    name: str
    ports: tuple[str, ...]


@dataclass(slots=True)
class VlanSpec:
    """``[[net.vlan]]``: the interface `name` for VLAN `id` of the interface `lower`."""

    name: str
    lower: str
    id: int


@dataclass(slots=True)
class NetSpec:
    """``[net]``: `up` are interfaces that are up although nothing here uses them."""

    up: tuple[str, ...] = ()
    address: list[AddressSpec] = field(default_factory=list)
    route: list[RouteSpec] = field(default_factory=list)
    bond: list[BondSpec] = field(default_factory=list)
    bridge: list[BridgeSpec] = field(default_factory=list)
    vlan: list[VlanSpec] = field(default_factory=list)


@dataclass(slots=True)
class HostSpec:
    """``[host]``: the kernel's command line and its `consoles`; the last one is ``/dev/console``."""

    cmdline: str = ""
    consoles: tuple[str, ...] = ()


@dataclass(slots=True)
class SessionSpec:
    """``[session]``: the address `peer` that the caller's remote session comes from."""

    peer: str = ""


@dataclass(slots=True)
class ProcessSpec:
    """``[[process]]``: a program `name` that runs as `pid` and has the paths `open`; it does nothing else."""

    pid: int
    name: str
    open: tuple[str, ...] = ()


@dataclass(slots=True)
class HugePagesSpec:
    """``[[huge_pages]]``: `total` huge pages of `size` KiB on NUMA `node`, of which `free` are not in use (-1: all)."""

    size: int
    total: int = 0
    free: int = -1
    node: int = 0
