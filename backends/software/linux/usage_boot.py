"""Puts the host's devices to the uses that its description names: mounts, swap, volumes, arrays, consoles, network."""

from __future__ import annotations

import os
import re
import uuid
from typing import TYPE_CHECKING

from pyvfio.errors import Misuse
from pyvfio_backends.software.linux.block import BlockEntry, Disk, Medium, media
from pyvfio_backends.software.linux.consoles import set_consoles
from pyvfio_backends.software.linux.host_state import MountEntry, SwapEntry
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.net_boot import boot_network
from pyvfio_backends.software.linux.vfs import StaticDirectory, Symlink
from pyvfio_backends.software.medium.image import Image, Window
from pyvfio_backends.software.medium.signatures import Area, Marks, sign
from pyvfio_backends.software.medium.tables import Part, write_dasd, write_table
from pyvfio_backends.software.usage import P9, DiskSpec, HolderSpec
from pyvfio_backends.software.usage_disks import BootDisk, boot_disks, lay_out

if TYPE_CHECKING:
    from pyvfio_backends.software.machine import Machine

__all__ = ["boot"]

_KIB = 1 << 10


def boot(machine: Machine) -> None:
    """Do what the sections after the hardware say, without events.  Raise `Misuse` for what the kernel refuses."""
    kernel, spec = machine.kernel, machine.spec
    kernel.sys.entries["block"] = lambda: _disk_links(kernel)
    kernel.cmdline = spec.host.cmdline or kernel.cmdline
    try:
        disks = boot_disks(spec)
        for row in spec.disks:
            _fill(kernel, row, disks[row.name], spec.name)
        for holder in spec.holders:
            _stack(kernel, holder, spec.name)
        for mount in spec.mounts:
            if mount.type == P9:
                number = max((other.minor for other in kernel.mounts if other.major == 0), default=0) + 1
                kernel.mounts.append(MountEntry(mount.device, mount.target, P9, 0, number, mount.options))
                continue
            entry = _block(kernel, mount.device)
            entry.state.claim(mount.device)
            entry.state.mounted = True
            shown = MountEntry(mount.device, mount.target, mount.type, *entry.number, mount.options)
            if mount.target == "/":
                kernel.mounts[:] = [shown, *(other for other in kernel.mounts if other.mount_point != "/")]
            else:
                kernel.mounts.append(shown)
        for swap in spec.swaps:
            entry = _block(kernel, swap.device)
            entry.state.claim(swap)
            size = (entry.state.content.size - kernel.page_size) // _KIB  # the first page is the header
            kernel.swaps.append(
                SwapEntry(f"/dev/{entry.name}", size=size, used=swap.used // _KIB, priority=swap.priority)
            )
        set_consoles(kernel, spec.host.consoles)
        boot_network(kernel, spec.net, spec.session.peer)
    except OSError as error:
        raise Misuse("boot machine", spec.name, cause=f"what it says of its use cannot be: {error}") from error


def _disk_links(kernel: Kernel) -> StaticDirectory:
    disks = {name: device for name, device in kernel.class_("block").devices.items() if isinstance(device, Disk)}
    return StaticDirectory({name: Symlink(os.path.relpath(disk.devpath, "/block")) for name, disk in disks.items()})


def _block(kernel: Kernel, name: str) -> BlockEntry:
    """The block device of a name or of a node."""
    if name.startswith("/dev/mapper/"):
        name = kernel.vfs.resolve(name)[1]
    entry = kernel.class_("block").devices.get(name.removeprefix("/dev/"))
    if not isinstance(entry, BlockEntry):
        raise Misuse("boot machine", name, cause="there is no such block device")
    return entry


def _marks(machine: str, name: str, kernel: Kernel) -> Marks:
    return Marks(uuid.uuid5(uuid.NAMESPACE_URL, f"{machine}/{name}"), page_size=kernel.page_size)


def _fill(kernel: Kernel, row: DiskSpec, facts: BootDisk, machine: str) -> None:
    """Give a disk its contents, and show its partitions."""
    disk = _block(kernel, row.name)
    if not isinstance(disk, Disk) or disk.parent is None:
        raise Misuse("boot machine", row.name, cause="it is not a disk")
    parts = list(lay_out(row, facts)) if row.table or facts.volser else []
    if facts.volser:  # what is written is on the volume, where channel programs find it, too
        from pyvfio_backends.software.linux.dasd_volume import find_partitions  # not all machines have one

        image = disk.image()
        write_dasd(image, facts.volser, parts)
        _sign_all(image, row, parts, machine, kernel)
        disk.show_parts(find_partitions(image), quiet=True)
        return
    medium = Medium(lambda: _image(kernel, row, facts, parts, machine), parts)
    media(kernel)[(disk.parent.parent or disk.parent).name] = medium
    disk.refill(medium)
    disk.show_parts(parts, quiet=True)


def _image(kernel: Kernel, row: DiskSpec, facts: BootDisk, parts: list[Part], machine: str) -> Image:
    image = Image(facts.size)
    if row.table:
        write_table(image, row.table, _marks(machine, row.name, kernel).identity, parts)
    _sign_all(image, row, parts, machine, kernel)
    return image


def _sign_all(image: Image, row: DiskSpec, parts: list[Part], machine: str, kernel: Kernel) -> None:
    """Write what is on the disk and on its partitions."""
    areas: list[tuple[Area, str, str]] = [(image, row.signature, row.name)]
    areas += [(Window(image, part.start, part.size), part.signature, f"{row.name}{part.number}") for part in parts]
    for area, signature, name in areas:
        if signature:
            sign(area, signature, _marks(machine, name, kernel))


def _stack(kernel: Kernel, row: HolderSpec, machine: str) -> None:
    """Add a device that stands on others."""
    from pyvfio_backends.software.linux.virtual_block import add_mapped, add_raid  # few machines have any

    below = [_block(kernel, slave) for slave in row.slaves]
    sizes = [entry.state.content.size for entry in below]
    minor = int(re.sub(r"\D", "", row.name))
    if row.name.startswith("dm-"):
        disk: Disk = add_mapped(
            kernel, minor, below, name=row.dm_name, uuid=row.uuid, size=row.size or sum(sizes), quiet=True
        )
    else:
        size = row.size or (min(sizes) if row.level == "raid1" else sum(sizes))
        disk = add_raid(kernel, minor, below, level=row.level, array_state=row.array_state, size=size, quiet=True)
    if row.signature:
        sign(disk.image(), row.signature, _marks(machine, row.name, kernel))
