"""The drivers of the virtio bus which hold the host's devices: what they put into sysfs, not what they do.

Feature numbers are those of the Virtual I/O Device specification; each driver lists the ones it accepts.
"""

from __future__ import annotations

from pyvfio.errors import NotModelled
from pyvfio_backends.software.linux.block import Disk, Medium, add_disk, media, remove_disk
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.file import File
from pyvfio_backends.software.linux.majors import release_major, take_major
from pyvfio_backends.software.linux.net import Interface, add_interface, remove_interface
from pyvfio_backends.software.linux.vfs import Attribute, CharacterDevice, Node
from pyvfio_backends.software.linux.virtio import VirtioBus, VirtioDevice, VirtioDriver
from pyvfio_backends.software.medium.image import Image

__all__ = ["VIRTIO_BLK", "VIRTIO_CONSOLE", "VIRTIO_NET", "VIRTIO_P9", "VIRTIO_RNG", "register_drivers"]

VIRTIO_NET, VIRTIO_BLK, VIRTIO_CONSOLE, VIRTIO_RNG, VIRTIO_P9 = 1, 2, 3, 4, 9
_BALLOON, _RPROC_SERIAL, _FS = 5, 11, 26
_NET_FEATURES = {0, 1, 2, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22, 23}
_DEFAULT_MAC = "52:54:00:12:34:56"
_BLK_FEATURES = {1, 2, 4, 5, 6, 9, 10, 11, 12, 13, 14, 16}
_CONSOLE_FEATURES = {0, 1}
_P9_FEATURES = {0}
_BALLOON_FEATURES = {0, 1, 2, 3, 5}
_DISK_MAJOR = 254
_SECTOR = 512
_DISK_SIZE = 1 << 20


class _BlockDriver(VirtioDriver):
    # What is on a disk belongs to the device: it is the same when the disk comes back under another name.
    def populate(self, device: VirtioDevice, *, quiet: bool) -> None:
        said = device.options.get("size", _DISK_SIZE)
        size = said if isinstance(said, int) else 0
        serial = device.options.get("serial", "")
        block_size = device.options.get("block_size", _SECTOR)
        transport = device.parent.name if device.parent is not None else device.name
        add_disk(
            device,
            "vd",
            _DISK_MAJOR,
            media(self.kernel).setdefault(transport, Medium(lambda: Image(size))),
            sectors=size // _SECTOR,
            readonly=bool(device.options.get("readonly")),
            serial=serial if isinstance(serial, str) else "",
            block_size=block_size if isinstance(block_size, int) else _SECTOR,
            quiet=quiet,
        )

    def clear(self, device: VirtioDevice) -> None:
        for child in tuple(device.child_devices()):
            if isinstance(child, Disk):
                remove_disk(child)


class _NetDriver(VirtioDriver):
    def populate(self, device: VirtioDevice, *, quiet: bool) -> None:
        add_interface(device, str(device.options.get("mac", _DEFAULT_MAC)), quiet=quiet)

    def clear(self, device: VirtioDevice) -> None:
        for child in tuple(device.child_devices()):
            if isinstance(child, Interface):
                remove_interface(child)


class _Port(Device):
    def __init__(self, parent: VirtioDevice, major: int, number: int, label: str) -> None:
        kernel = parent.kernel
        name = f"vport{parent.number}p{number}"
        super().__init__(kernel, name, parent, cls=kernel.class_("virtio-ports"))
        self.devnode = (major, number, name)
        self.label = label

    def attributes(self) -> dict[str, Node]:
        return {"name": Attribute(lambda: f"{self.label}\n")}


class _ConsoleDriver(VirtioDriver):
    def __init__(self, bus: VirtioBus) -> None:
        super().__init__(bus, "virtio_console", VIRTIO_CONSOLE, _CONSOLE_FEATURES)
        self._majors: dict[str, int] = {}

    def populate(self, device: VirtioDevice, *, quiet: bool) -> None:
        major = self._majors[device.name] = take_major(self.kernel)
        label = device.options.get("port")
        if isinstance(label, str):
            port = _Port(device, major, 1, label)
            self.kernel.add_node(port.name, CharacterDevice(major, 1, _open_port))
            self.kernel.add_class_device(port, quiet=quiet)

    def clear(self, device: VirtioDevice) -> None:
        for child in tuple(device.child_devices()):
            if isinstance(child, _Port):
                self.kernel.remove_node(child.name)
                self.kernel.remove_class_device(child)
        release_major(self.kernel, self._majors.pop(device.name))


def _open_port(path: str, flags: int) -> File:
    raise NotModelled(f"not modelled: what passes through {path}")


class _P9Driver(VirtioDriver):
    def populate(self, device: VirtioDevice, *, quiet: bool) -> None:
        tag = str(device.options.get("mount_tag", ""))
        device.extra["mount_tag"] = Attribute(lambda: f"{tag}\0")
        if not quiet:
            device.uevent("change")

    def clear(self, device: VirtioDevice) -> None:
        device.uevent("change")
        super().clear(device)


def register_drivers(bus: VirtioBus) -> None:
    """Put the drivers of this kernel on a bus."""
    for driver in (
        _P9Driver(bus, "9pnet_virtio", VIRTIO_P9, _P9_FEATURES),
        VirtioDriver(bus, "virtio_balloon", _BALLOON, _BALLOON_FEATURES),
        _BlockDriver(bus, "virtio_blk", VIRTIO_BLK, _BLK_FEATURES),
        _ConsoleDriver(bus),
        _NetDriver(bus, "virtio_net", VIRTIO_NET, _NET_FEATURES),
        VirtioDriver(bus, "virtio_rng", VIRTIO_RNG),
        VirtioDriver(bus, "virtio_rproc_serial", _RPROC_SERIAL),
        VirtioDriver(bus, "virtiofs", _FS),
    ):
        bus.drivers[driver.name] = driver
