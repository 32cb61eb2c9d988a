"""Checks what a machine file says of the host's use of its devices: rules between values."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from pyvfio_backends.software.description import MachineSpec
from pyvfio_backends.software.file_report import Report
from pyvfio_backends.software.medium.signatures import SIGNATURES
from pyvfio_backends.software.medium.tables import SECTOR, TABLES, Part, Table
from pyvfio_backends.software.usage import (
    BOND_MODES,
    CONSOLES,
    P9,
    BondSpec,
    BridgeSpec,
    DiskSpec,
    HolderSpec,
    VlanSpec,
)
from pyvfio_backends.software.usage_disks import BootDisk, boot_disks, boot_interfaces, boot_tags, lay_out

__all__ = ["check_usage"]

"""The modes of a bond in the order of their numbers (``drivers/net/bonding/bond_options.c``)."""
_RAID_LEVELS = ("linear", "raid0", "raid1", "raid4", "raid5", "raid6", "raid10")
_ARRAY_STATES = ("clean", "active", "active-idle", "write-pending", "readonly", "read-auto", "inactive")
_HOLDER = re.compile(r"(dm-|md)(0|[1-9][0-9]*)\Z")
_NAME_MOST, _PART_NAME_MOST, _VLANS = 15, 36, 4095


def check_usage(spec: MachineSpec, error: Report) -> None:
    """Raise what `error` makes of the first thing that cannot be.

    `error` gets the key (``("disk", "partition", "size")``), the cause, and the number of the row in its table.
    """
    _Disks(spec, error).check()
    _Network(spec, error).check()
    for name in spec.host.consoles:
        if name not in CONSOLES:
            raise error(("host", "consoles"), f"no terminal {name!r}; there is {_listing(CONSOLES)}")
    pids: set[int] = set()
    for n, process in enumerate(spec.processes):
        if process.pid < 1:
            raise error(("process", "pid"), f"must be 1 or more, not {process.pid}", n)
        if process.pid in pids:
            raise error(("process", "pid"), f"{process.pid} is there twice", n)
        pids.add(process.pid)
        if not process.name:
            raise error(("process", "name"), "must not be empty", n)
        for path in process.open:
            if not path.startswith("/"):
                raise error(("process", "open"), f"{path!r} is no absolute path", n)
    pools: set[tuple[int, int]] = set()
    for n, pool in enumerate(spec.huge_pages):
        if pool.size < 1 or pool.size & (pool.size - 1) or pool.size * 1024 <= spec.page_size:
            raise error(("huge_pages", "size"), f"must be a power of 2 above the page size, not {pool.size} KiB", n)
        for key in ("total", "node"):
            if getattr(pool, key) < 0:
                raise error(("huge_pages", key), f"must be 0 or more, not {getattr(pool, key)}", n)
        if pool.free > pool.total:
            raise error(("huge_pages", "free"), f"{pool.free} of {pool.total} cannot be free", n)
        if (pool.size, pool.node) in pools:
            raise error(("huge_pages", "size"), f"{pool.size} KiB on node {pool.node} is there twice", n)
        pools.add((pool.size, pool.node))
    if spec.session.peer and not _is_address(spec.session.peer):
        raise error(("session", "peer"), f"{spec.session.peer!r} is not an IP address")


class _Disks:
    """Disks, what is on them, what stands on them, and who uses them."""

    def __init__(self, spec: MachineSpec, error: Report) -> None:
        self.spec = spec
        self.error = error
        self.sizes: dict[str, int] = {}
        self.users: dict[str, str] = {}
        """Which holder or mount has a device for itself."""

    def check(self) -> None:
        disks = boot_disks(self.spec)
        self.sizes = {name: disk.size for name, disk in disks.items()}
        first = 0
        seen: set[str] = set()
        for n, disk in enumerate(self.spec.disks):
            if disk.name not in disks:
                raise self.error(("disk", "name"), f"no disk {disk.name!r} at boot; there is {_listing(disks)}", n)
            if disk.name in seen:
                raise self.error(("disk", "name"), f"{disk.name} is there twice", n)
            seen.add(disk.name)
            self._disk(disk, disks[disk.name], n, first)
            first += len(disk.partition)
        for n, holder in enumerate(self.spec.holders):
            self._holder(holder, n)
        self._mounts()

    def _disk(self, disk: DiskSpec, facts: BootDisk, n: int, first: int) -> None:
        if facts.volser and (disk.table or disk.signature):
            key = "table" if disk.table else "signature"
            raise self.error(("disk", key), "a DASD has a table of its own, and all else is in its partitions", n)
        kind = "dasd" if facts.volser else disk.table
        if not kind:
            if disk.partition:
                raise self.error(("disk", "name"), "partitions need a table", n)
            self._signature(disk.signature, facts.size, ("disk", "signature"), n)
            return
        if disk.signature:
            raise self.error(("disk", "signature"), "a disk has a table or a signature", n)
        if kind not in TABLES or (kind == "dasd" and not facts.volser):
            raise self.error(("disk", "table"), f"no table {kind!r}; there is dos, gpt", n)
        table = TABLES[kind]
        if facts.size < table.head + table.tail:
            raise self.error(("disk", "table"), f"a disk of {facts.size} bytes has no room for it", n)
        done: list[Part] = []
        for m, part in enumerate(lay_out(disk, facts), first):
            self._partition(part, done, table, facts, m)
            self.sizes[f"{disk.name}{part.number}"] = part.size
            self.users.setdefault(disk.name, "its partitions")
            done.append(part)
            where = ("disk", "partition")
            if part.name and (kind != "gpt" or len(part.name) > _PART_NAME_MOST):
                raise self.error((*where, "name"), "names are for GPT, and have at most 36 characters", m)
            self._signature(part.signature, part.size, (*where, "signature"), m)

    def _partition(self, part: Part, done: list[Part], table: Table, facts: BootDisk, m: int) -> None:
        where = ("disk", "partition")
        if not 1 <= part.number <= table.most or part.number in {other.number for other in done}:
            raise self.error((*where, "number"), f"a number of its own from 1 to {table.most}, not {part.number}", m)
        unit = table.align if facts.volser else SECTOR
        for key, value in (("start", part.start), ("size", part.size)):
            if value % unit or value < 0:
                raise self.error((*where, key), f"must be a multiple of {unit}, not {value}", m)
        if part.size == 0:
            raise self.error((*where, "size"), "no room is left for it", m)
        if part.start < table.head or part.start + part.size > facts.size - table.tail:
            raise self.error(
                (*where, "size"), f"must lie between {table.head} and {facts.size - table.tail} of the disk", m
            )
        for other in done:
            if part.start < other.start + other.size and other.start < part.start + part.size:
                raise self.error((*where, "start"), f"overlaps partition {other.number}", m)

    def _signature(self, name: str, size: int, where: tuple[str, ...], n: int) -> None:
        if name and name not in SIGNATURES:
            raise self.error(where, f"no signature {name!r}; there is {_listing(SIGNATURES)}", n)
        if name and size < SIGNATURES[name].least:
            raise self.error(where, f"{name} needs {SIGNATURES[name].least} bytes, and there are {size}", n)

    def _holder(self, holder: HolderSpec, n: int) -> None:
        if not _HOLDER.match(holder.name) or holder.name in self.sizes:
            raise self.error(("holder", "name"), f"a name of its own like dm-0 or md0, not {holder.name!r}", n)
        mapper = holder.name.startswith("dm-")
        if mapper and not holder.dm_name:
            raise self.error(("holder",), "missing: dm_name", n)
        if not mapper:
            known_words = (("level", holder.level, _RAID_LEVELS), ("array_state", holder.array_state, _ARRAY_STATES))
            for key, value, known in known_words:
                if value not in known:
                    raise self.error(("holder", key), f"no {key} {value!r}; there is {_listing(known)}", n)
        if not holder.slaves:
            raise self.error(("holder", "slaves"), "it stands on at least one device", n)
        for slave in holder.slaves:
            self._take(slave, holder.name, ("holder", "slaves"), n, shared=mapper)
        sizes = [self.sizes[slave] for slave in holder.slaves]
        size = holder.size or (min(sizes) if holder.level == "raid1" and not mapper else sum(sizes))
        if size % SECTOR or size < 0:
            raise self.error(("holder", "size"), f"must be a multiple of {SECTOR}, not {size}", n)
        self.sizes[holder.name] = size
        self._signature(holder.signature, size, ("holder", "signature"), n)

    def _take(self, name: str, user: str, where: tuple[str, ...], n: int, *, shared: bool = False) -> None:
        if name not in self.sizes:
            raise self.error(where, f"no block device {name!r}; there is {_listing(self.sizes)}", n)
        before = self.users.get(name)
        if before is not None and not (shared and before.startswith(user.rstrip("0123456789"))):
            raise self.error(where, f"{name} is in use by {before}", n)
        self.users[name] = user

    def _mounts(self) -> None:
        nodes = {f"/dev/mapper/{holder.dm_name}": holder.name for holder in self.spec.holders if holder.dm_name}
        nodes |= {f"/dev/{name}": name for name in self.sizes}
        tags = boot_tags(self.spec)
        for n, mount in enumerate(self.spec.mounts):
            if not mount.target.startswith("/"):
                raise self.error(("mount", "target"), "must be an absolute path", n)
            if mount.type == P9:
                if mount.device not in tags:
                    raise self.error(("mount", "device"), f"no tag {mount.device!r}; there is {_listing(tags)}", n)
                continue
            if mount.device not in nodes:
                raise self.error(("mount", "device"), f"no node {mount.device!r}; there is {_listing(nodes)}", n)
            self._take(nodes[mount.device], "a mount", ("mount", "device"), n, shared=True)
        for n, swap in enumerate(self.spec.swaps):
            if swap.device not in nodes:
                raise self.error(("swap", "device"), f"no node {swap.device!r}; there is {_listing(nodes)}", n)
            self._take(nodes[swap.device], "swap", ("swap", "device"), n)
            if not 0 <= swap.used <= self.sizes[nodes[swap.device]]:
                raise self.error(("swap", "used"), "cannot be more than its device has", n)


class _Network:
    """Interfaces, what they stand on, addresses and routes."""

    def __init__(self, spec: MachineSpec, error: Report) -> None:
        self.net = spec.net
        self.error = error
        self.names = boot_interfaces(spec)

    def check(self) -> None:
        masters: dict[str, str] = {}
        made: list[tuple[str, Sequence[BondSpec | BridgeSpec | VlanSpec]]] = [
            ("bond", self.net.bond),
            ("bridge", self.net.bridge),
            ("vlan", self.net.vlan),
        ]
        for key, rows in made:
            for n, row in enumerate(rows):
                if row.name in self.names or not 1 <= len(row.name) <= _NAME_MOST or "/" in row.name:
                    raise self.error(
                        ("net", key, "name"), f"a name of its own, up to 15 characters, not {row.name!r}", n
                    )
                self.names.append(row.name)
        for n, vlan in enumerate(self.net.vlan):
            self._known(vlan.lower, ("net", "vlan", "lower"), n)
            if not 0 <= vlan.id < _VLANS:
                raise self.error(("net", "vlan", "id"), f"must be between 0 and {_VLANS - 1}, not {vlan.id}", n)
        with_ports: list[tuple[str, Sequence[BondSpec | BridgeSpec]]]
        with_ports = [("bond", self.net.bond), ("bridge", self.net.bridge)]
        for key, groups in with_ports:
            for n, group in enumerate(groups):
                for port in group.ports:
                    self._known(port, ("net", key, "ports"), n)
                    if port in ("lo", group.name) or port in masters:
                        cause = f"{port} belongs to {masters[port]}" if port in masters else f"{port} cannot be a port"
                        raise self.error(("net", key, "ports"), cause, n)
                    masters[port] = group.name
        for n, bond in enumerate(self.net.bond):
            if bond.mode not in BOND_MODES:
                raise self.error(("net", "bond", "mode"), f"no mode {bond.mode!r}; there is {_listing(BOND_MODES)}", n)
        for name in self.net.up:
            self._known(name, ("net", "up"), None)
        self._addresses()

    def _known(self, name: str, where: tuple[str, ...], n: int | None) -> None:
        if name not in self.names:
            raise self.error(where, f"no interface {name!r}; there is {_listing(self.names)}", n)

    def _addresses(self) -> None:
        for n, row in enumerate(self.net.address):
            self._known(row.interface, ("net", "address", "interface"), n)
            try:
                ipaddress.ip_interface(row.address)
            except ValueError:
                raise self.error(("net", "address", "address"), f"{row.address!r} is not ADDRESS/PREFIX", n) from None
        for n, route in enumerate(self.net.route):
            self._known(route.interface, ("net", "route", "interface"), n)
            if route.gateway and not _is_address(route.gateway):
                raise self.error(("net", "route", "gateway"), f"{route.gateway!r} is not an IP address", n)
            if route.destination != "default" and not _is_network(route.destination):
                cause = f"{route.destination!r} is neither default nor NETWORK/PREFIX"
                raise self.error(("net", "route", "destination"), cause, n)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _listing(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
