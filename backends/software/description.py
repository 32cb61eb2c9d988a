"""The description of a machine: what a machine file says, as plain values.

A machine file is TOML (``fixtures/machines/*.toml``, format in ``docs/machines.md``).  Each table here names its keys;
an unknown key, a value of a wrong type or out of range is a `BadMachine` that names the file, the key and the line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pyvfio_backends.software.usage import (
    DiskSpec,
    HolderSpec,
    HostSpec,
    HugePagesSpec,
    MountSpec,
    NetSpec,
    ProcessSpec,
    SessionSpec,
    SwapSpec,
)

__all__ = [
    "ARCHITECTURES",
    "CSS_ACTIONS",
    "MODULES",
    "OTHER_TYPES",
    "PLATFORMS",
    "POWER",
    "PSERIES",
    "ZPCI_ACTIONS",
    "ChannelPathSpec",
    "CssEventSpec",
    "FunctionSpec",
    "GroupSpec",
    "MachineSpec",
    "OtherSubchannelSpec",
    "PairSpec",
    "PciDeviceSpec",
    "PcieBusSpec",
    "PcieCapabilitySpec",
    "PcieFunctionSpec",
    "PcieIommuSpec",
    "PciePhbSpec",
    "PcieReservedSpec",
    "SubchannelSpec",
    "ZpciEventSpec",
]


ARCHITECTURES = ("s390x", "x86_64", "ppc64le", "ppc64")
"""Whose kernel a machine can have; on POWER the numbers of requests are the same in either byte order."""

POWER = ("ppc64le", "ppc64")
"""Those of POWER."""

PSERIES = "pseries"
PLATFORMS = ("powernv", PSERIES)
"""What a machine of POWER is: bare metal, or the guest of a hypervisor."""

MODULES = (
    *("aer_inject", "copier_vfio_pci", "e1000e", "igb", "iommufd", "mdev", "mtty", "nvme", "pci_stub", "shpchp"),
    *("vfio", "vfio_ccw", "vfio_iommu_spapr_tce", "vfio_iommu_type1", "vfio_pci", "virtio_pci"),
)
"""The modules that can be loaded at boot; those of PCI's drivers on a machine with PCI Express."""

_DEFAULT_MODULES = ("vfio", "vfio_iommu_type1", "iommufd", "vfio_pci", "mdev", "vfio_ccw")
_POWER_MODULES = ("vfio", "vfio_iommu_spapr_tce", "vfio_pci")


@dataclass(slots=True)
class ChannelPathSpec:
    """``[[css.path]]``: `chpid` (css 0), `type` as sysfs prints it (hexadecimal byte), online or not.

    `shared` with other systems, measurement group `cmg` and `speed` (bit/s) are told together when `cmg` is not -1;
    `chid` is the physical channel's id, -1 when it is not told.
    """

    chpid: int
    type: int = 0x1B
    online: bool = True
    shared: bool = False
    cmg: int = -1
    speed: int = 0
    chid: int = -1


@dataclass(slots=True)
class SubchannelSpec:
    """``[[css.subchannel]]``.

    `schid` and `device` are ``c.s.nnnn``; `unit` names the control unit model (``virtio-blk``, ``dasd-3390``, ``echo``,
    ``osa``, ``fcp``, ``3270``, ...), `options` its parameters; `count` makes a run of consecutive subchannels.
    `driver` is the ccw driver that holds the device at boot (empty: none) and `online` its state.
    """

    schid: str
    device: str
    unit: str
    chpids: tuple[int, ...] = (0,)
    pim: int = 0x80
    pam: int = 0x80
    pom: int = 0xFF
    driver: str = ""
    online: bool = False
    count: int = 1
    options: dict[str, Any] = field(default_factory=dict)


OTHER_TYPES = ("chsc", "message", "adm")
"""The types of subchannels that are not for I/O, as machine files call them."""


@dataclass(slots=True)
class OtherSubchannelSpec:
    """``[[css.other]]``: `count` subchannels from `schid` (``c.s.nnnn``) on that are not for I/O, of a `type`:
    ``chsc``, ``message`` or ``adm``.
    """

    schid: str
    type: str
    count: int = 1


CSS_ACTIONS = {
    "path-off": "path",
    "path-on": "path",
    "break-path": "path",
    "repair-path": "path",
    "ask-configure": "path",
    "ask-deconfigure": "path",
    "ask-cancel": "path",
    "unplug": "schid",
    "silence": "schid",
    "answer": "schid",
    "attention": "schid",
    "report": "words",
    "event": "sei",
}
"""What can happen to channel paths and subchannels (`CssEventSpec.action`), and the key that each needs."""


@dataclass(slots=True)
class CssEventSpec:
    """``[[css.event]]``: an `action` that happens by itself, `after` so many milliseconds of the machine's clock.

    They are counted from the boot or, with `starts`, from the moment when the subchannel `of` accepts so many-th start.
    `path` is a CHPID, `schid` a subchannel, `dstat` the device status of an attention, `words` are CRWs and `sei` is
    event information, in hexadecimal.
    """

    action: str
    after: int = 0
    starts: int = 0
    of: str = ""
    path: int = -1
    schid: str = ""
    dstat: int = 0x80
    words: tuple[str, ...] = ()
    sei: str = ""


@dataclass(slots=True)
class FunctionSpec:
    """``[[zpci.function]]``: `uid`, `fid` and the `model` (``virtio-net``, ``virtio-blk``, ``virtio-rng``,
    ``virtio-bell``) with its `options`; `driver` holds it at boot; `state` is configured, standby or reserved.
    """

    uid: int
    fid: int
    model: str
    driver: str = ""
    state: str = "configured"
    pchid: int = 0
    pft: int = -1
    pfgid: int = 0xFF
    vfn: int = 0
    port: int = 0
    rid: int = -1
    tid: int = -1
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class PcieBusSpec:
    """``[[pcie.bus]]``: a root bus, with the bus `number` that it begins with, in a `segment`, near the NUMA `node`."""

    number: int = 0
    segment: int = 0
    node: int = -1


@dataclass(slots=True)
class PciePhbSpec:
    """``[[pcie.phb]]``: a host bridge of POWER for a `segment`, by its `model`.

    On bare metal it has one root port, and is a ``PHB4`` (or nothing is said), a ``PHB4 (small)`` (256 endpoints
    instead of 512) or a ``PHB3``; on a pseries, a ``spapr-pci-host-bridge``, functions are on its own bus.

    What is behind the port, or on the bus, names its `id`, which is ``phb`` and the segment unless given.  The port's
    slot has a number (`slot`), -1: there is none, and the card is soldered on.
    """

    segment: int = 0
    model: str = ""
    id: str = ""
    slot: int = -1


@dataclass(slots=True)
class PcieIommuSpec:
    """``[[pcie.iommu]]``: the IOMMU (VT-d) of a `segment`, where it differs from the one that every segment has.

    `width` is the number of bits of DMA addresses (39, 48 or 57), `large_pages` the sizes of pages besides the smallest
    (``2M``, ``1G``); `snoop_control`: it can make all DMA coherent; `dirty_tracking`: it notes what is written, for a
    Linux with ``intel_iommu=sm_on``; `nesting`: page tables of programs can be nested in others, for such a Linux, too,
    and `first_stage` is what these can besides (``5-level``, ``supervisor``, ``extended-access``); `caching_mode`: it
    is an emulated one, for which Linux uses no flush queue.
    """

    segment: int = 0
    width: int = 48
    large_pages: tuple[str, ...] = ("2M", "1G")
    snoop_control: bool = False
    dirty_tracking: bool = False
    nesting: bool = False
    first_stage: tuple[str, ...] = ()
    caching_mode: bool = True


@dataclass(slots=True)
class PcieReservedSpec:
    """``[[pcie.reserved]]``: memory from `first` to `last` that firmware reserves for `devices` (RMRR), as their `id`.

    Of a port or bridge it is for everything behind it, too.
    """

    first: int
    last: int
    devices: tuple[str, ...]


@dataclass(slots=True)
class PcieCapabilitySpec:
    """``[[pcie.function.capability]]``: one more capability of a function, of a `kind` with its `options`.

    It is `at` an offset, -1: at the next one that is free.
    """

    kind: str
    at: int = -1
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class PcieFunctionSpec:
    """``[[pcie.function]]``: a port, bridge or endpoint of a `model` (QEMU's name for it).

    It is at `at` (device.function, hexadecimal) of the bus that is `behind` the port or bridge of that `id`, or of a
    root bus (``SSSS:BB``).  The slot of a port has a number (`slot`), -1: there is none.  `options` are the model's;
    `capability` are those that it has besides the model's.
    """

    model: str
    behind: str
    at: str = "00.0"
    id: str = ""
    slot: int = -1
    options: dict[str, Any] = field(default_factory=dict)
    capability: list[PcieCapabilitySpec] = field(default_factory=list)


@dataclass(slots=True)
class PairSpec:
    """``[[zpci.pair]]``: the identifiers of the PCI device called `target`; a `uid` of 0 and a `fid` of -1 mean the
    lowest one that is free.
    """

    target: str
    uid: int = 0
    fid: int = -1


@dataclass(slots=True)
class PciDeviceSpec(FunctionSpec):
    """``[[pci.device]]``: a function called `id`; its identifiers come from the pair that names it, else they are the
    lowest ones that are free.  `driver` is the one that Linux has for it, unless it is given.
    """

    uid: int = 0
    fid: int = -1
    model: str = field(kw_only=True)
    driver: str = "auto"
    id: str = ""


@dataclass(slots=True)
class GroupSpec:
    """``[[zpci.group]]``: what the machine tells of the function group `pfgid`, in the words of CLP.

    `noi` is how many interrupts a function may have, `maxstbl` the bytes of one store block, `mui` the measurement
    interval in milliseconds, `refresh` whether new translations must be refreshed, too; `dasm` the mask of DMA
    addresses and `msia` where messages go.
    """

    pfgid: int
    noi: int = 128
    maxstbl: int = 128
    mui: int = 4000
    refresh: bool = True
    version: int = 0
    dasm: int = 0
    msia: int = 0xFE00000000000000


ZPCI_ACTIONS = ("unplug", "surprise", "offer", "assign", "ask", "take", "reserve", "fail")
"""What can happen to PCI functions (`ZpciEventSpec.action`)."""


@dataclass(slots=True)
class ZpciEventSpec:
    """``[[zpci.event]]``: an `action` that happens by itself to the function `fid`, `after` so many milliseconds of the
    machine's clock.  `code` is the event code of an error (``fail``).
    """

    action: str
    fid: int
    after: int = 0
    code: int = 0x3A


@dataclass(slots=True)
class MachineSpec:
    """A whole machine.  `architecture` is one of `ARCHITECTURES`; `page_size` and `memory` (the host's
    storage, a bound of DMA addresses) in bytes; `memlock` in bytes or -1, which binds
    programs unless they have CAP_IPC_LOCK (`ipc_lock`, as root has); with `raw_io` they have CAP_SYS_RAWIO, too,
    and with `sys_resource` CAP_SYS_RESOURCE;
    `seqnum` the last uevent number at boot; `features` the words of that line of ``/proc/cpuinfo`` (empty: there is no
    such file; without ``edat`` there are no huge pages); `processors` its number of processors (1 to 64), each of which
    can be interrupted by PCI functions of its own with `directed_interrupts`; with `interpretation` it executes the PCI
    instructions of guests itself; with `pci_mmap` its kernel lets programs map BARs, as from Linux 6.15 on,
    with `map_file` iommufd maps memory files, as from 6.13 on,
    and with `dma_buf` an x86_64 kernel makes dma-bufs of BARs and maps them, as from 6.19 on;
    behind each slot for hot-plug its firmware keeps `slot_buses` bus numbers free; the processors are those of `nodes`
    NUMA nodes (0: its kernel has none);
    `modules` are loaded at boot (``vfio-pci``, ``vfio_ccw``, ``iommufd``, ...); all of VFIO that there is on POWER,
    or elsewhere, unless they are named.
    PCI functions are `functions`, and `pci_devices` with their `pairs`; `devices` are more, in QEMU's words.
    `zpci_events` happen to them, and with `error_reports` the machine takes reports of errors.
    An ``x86_64`` machine has `pcie_buses` and `pcie_functions` instead, each port before what is behind it, and
    `pcie_iommus` with the memory that firmware keeps for devices, `pcie_reserved`.
    One of POWER has `pcie_phbs` and `pcie_functions`, and is bare metal or, as its `platform` says, one of `PLATFORMS`.
    What the host does with its devices is in `disks` and the fields after it (`usage`).
    """

    name: str
    description: str = ""
    architecture: str = "s390x"
    platform: str = ""
    page_size: int = 4096
    memory: int = 8 << 30
    memlock: int = -1
    slot_buses: int = 0
    ipc_lock: bool = True
    raw_io: bool = True
    sys_resource: bool = True
    seqnum: int = 0
    features: tuple[str, ...] = ()
    iommufd: bool = True
    uid_checking: bool = True
    interpretation: bool = False
    processors: int = 1
    nodes: int = 0
    directed_interrupts: bool = False
    pci_mmap: bool = False
    map_file: bool = False
    dma_buf: bool = False
    modules: tuple[str, ...] = _DEFAULT_MODULES
    paths: list[ChannelPathSpec] = field(default_factory=list)
    subchannels: list[SubchannelSpec] = field(default_factory=list)
    others: list[OtherSubchannelSpec] = field(default_factory=list)
    css_events: list[CssEventSpec] = field(default_factory=list)
    functions: list[FunctionSpec] = field(default_factory=list)
    pairs: list[PairSpec] = field(default_factory=list)
    pci_devices: list[PciDeviceSpec] = field(default_factory=list)
    devices: tuple[str, ...] = ()
    zpci_events: list[ZpciEventSpec] = field(default_factory=list)
    pcie_buses: list[PcieBusSpec] = field(default_factory=list)
    pcie_phbs: list[PciePhbSpec] = field(default_factory=list)
    pcie_functions: list[PcieFunctionSpec] = field(default_factory=list)
    pcie_iommus: list[PcieIommuSpec] = field(default_factory=list)
    pcie_reserved: list[PcieReservedSpec] = field(default_factory=list)
    error_reports: bool = False
    groups: list[GroupSpec] = field(default_factory=list)
    disks: list[DiskSpec] = field(default_factory=list)
    holders: list[HolderSpec] = field(default_factory=list)
    mounts: list[MountSpec] = field(default_factory=list)
    swaps: list[SwapSpec] = field(default_factory=list)
    net: NetSpec = field(default_factory=NetSpec)
    host: HostSpec = field(default_factory=HostSpec)
    session: SessionSpec = field(default_factory=SessionSpec)
    processes: list[ProcessSpec] = field(default_factory=list)
    huge_pages: list[HugePagesSpec] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.modules is _DEFAULT_MODULES and self.architecture in POWER:
            self.modules = _POWER_MODULES
