"""mtty, the kernel's sample of a parent of mediated devices: ports that loop back, types that share them, migration.

What a real kernel answered is replayed in ``tests/golden`` (mdev).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest

from pyvfio.abi import vfio
from pyvfio.abi.vfio_feature import MigrationState
from pyvfio.backend import Backend, open_backend
from pyvfio.process import EventFd
from pyvfio.testing import requests
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio_backends.software.hardware.devices.loop_uart import IMAGE_SIZE, LoopUart
from pyvfio_backends.software.loader import find_machine, load_machine

TYPES = "/sys/class/mdev_bus/mtty/mdev_supported_types"
UUIDS = [f"83b8f4f2-509f-382f-3c1e-e6bfe0fa10{number:02x}" for number in range(24)]
STREAM = 24 + IMAGE_SIZE


@pytest.fixture
def backend() -> Iterator[Backend]:
    spec = load_machine(find_machine("lab-x86"))
    spec.modules = (*spec.modules, "mdev", "mtty")
    with open_backend("software", machine=spec) as opened:
        yield opened


@pytest.fixture
def files(backend: Backend) -> Iterator[OpenFiles]:
    with OpenFiles(backend) as opened:
        yield opened


def created(backend: Backend, uuid: str, kind: int = 1) -> str:
    Attributes(backend).write(f"{TYPES}/mtty-{kind}/create", uuid)
    return f"/sys/bus/mdev/devices/{uuid}"


def opened(backend: Backend, files: OpenFiles, uuid: str, kind: int = 1) -> int:
    path = created(backend, uuid, kind)
    container = files.open("/dev/vfio/vfio")
    group = files.open(f"/dev/vfio/{Attributes(backend).link(f'{path}/iommu_group')}")
    requests.set_container(backend, group, container)
    backend.ioctl(container, vfio.VFIO_SET_IOMMU, vfio.VFIO_TYPE1v2_IOMMU)
    return files.adopt(requests.device_fd(backend, group, uuid))


def state(backend: Backend, fd: int, wanted: MigrationState) -> int:
    room = bytearray(struct.pack("=IIIi", 16, vfio.VFIO_DEVICE_FEATURE_SET | 2, wanted, -1))
    backend.ioctl(fd, vfio.VFIO_DEVICE_FEATURE, room)
    return int(struct.unpack_from("=i", room, 12)[0])


def test_what_is_sent_comes_back(backend: Backend, files: OpenFiles) -> None:
    fd = opened(backend, files, UUIDS[0])
    for character in b"mdev":
        backend.pwrite(fd, bytes([character]), 0)
    assert b"".join(backend.pread(fd, 1, 0) for _ in range(4)) == b"mdev"
    assert backend.pread(fd, 1, 5) == b"\x60"


def test_a_character_interrupts(backend: Backend, files: OpenFiles) -> None:
    fd = opened(backend, files, UUIDS[0])
    with EventFd() as signal:
        data = struct.pack("=IIIIIi", 24, 0x24, 0, 0, 1, signal.fileno())
        backend.ioctl(fd, vfio.VFIO_DEVICE_SET_IRQS, bytearray(data))
        backend.pwrite(fd, b"\x01", 1)
        backend.pwrite(fd, b"x", 0)
        assert signal.read() == 1
        backend.pread(fd, 1, 0)
        backend.pwrite(fd, b"y", 0)
        assert signal.read() == 0  # it is masked until the program unmasks it


def test_two_types_share_the_ports(backend: Backend) -> None:
    sysfs = Attributes(backend)
    for uuid in UUIDS[:11]:
        created(backend, uuid, 2)
    assert [sysfs.read(f"{TYPES}/mtty-{kind}/available_instances") for kind in (1, 2)] == ["2", "1"]
    created(backend, UUIDS[11])
    with pytest.raises(OSError, match="No space"):
        created(backend, UUIDS[12], 2)
    sysfs.write(f"/sys/bus/mdev/devices/{UUIDS[11]}/remove", "1")
    created(backend, UUIDS[12], 2)
    assert sysfs.read(f"{TYPES}/mtty-1/available_instances") == "0"


def test_what_waits_in_a_port_migrates(backend: Backend, files: OpenFiles) -> None:
    source, target = (opened(backend, files, uuid) for uuid in UUIDS[:2])
    backend.pwrite(source, b"s", 0)
    stream = files.adopt(state(backend, source, MigrationState.STOP_COPY))
    image = backend.read(stream, 4096)
    assert len(image) == STREAM
    resumed = files.adopt(state(backend, target, MigrationState.RESUMING))
    backend.write(resumed, image)
    state(backend, target, MigrationState.RUNNING)
    assert backend.pread(target, 1, 0) == b"s"


@pytest.mark.parametrize(("place", "error"), [(0, "Bad address"), (16, "Bad address")])
def test_a_stream_of_something_else_is_refused(place: int, error: str, backend: Backend, files: OpenFiles) -> None:
    fd = opened(backend, files, UUIDS[0])
    stream = files.adopt(state(backend, fd, MigrationState.STOP_COPY))
    image = bytearray(backend.read(stream, 4096))
    image[place] ^= 1
    state(backend, fd, MigrationState.STOP)
    resumed = files.adopt(state(backend, fd, MigrationState.RESUMING))
    with pytest.raises(OSError, match=error):
        backend.write(resumed, bytes(image))


def test_no_byte_of_an_image_breaks_a_port() -> None:
    source = os.urandom(IMAGE_SIZE * 64)
    port = LoopUart(lambda: None)
    for at in range(0, len(source), IMAGE_SIZE):
        port.load(source[at : at + IMAGE_SIZE])
        for register in range(8):
            port.write(register, port.read(register) & 0xFF)
        assert len(port.image()) == IMAGE_SIZE


def test_a_bad_eventfd_takes_the_one_before_away(backend: Backend, files: OpenFiles) -> None:
    """``mtty_set_irqs`` lets go of the old one first (``samples/vfio-mdev/mtty.c``)."""
    fd = opened(backend, files, UUIDS[0])
    trigger = vfio.VFIO_IRQ_SET_ACTION_TRIGGER

    def set_irqs(data: int, *fds: int) -> int:
        head = struct.pack("=5I", 20 + 4 * len(fds), data | trigger, vfio.VFIO_PCI_INTX_IRQ_INDEX, 0, 1)
        return backend.ioctl(fd, vfio.VFIO_DEVICE_SET_IRQS, bytearray(head + struct.pack(f"={len(fds)}i", *fds)))

    with EventFd() as fired:
        set_irqs(vfio.VFIO_IRQ_SET_DATA_EVENTFD, fired.fileno())
        set_irqs(vfio.VFIO_IRQ_SET_DATA_NONE)
        assert fired.read() == 1
        with pytest.raises(OSError, match="Bad file descriptor"):
            set_irqs(vfio.VFIO_IRQ_SET_DATA_EVENTFD, 999999)
        with pytest.raises(OSError, match="Invalid argument"):
            set_irqs(vfio.VFIO_IRQ_SET_DATA_NONE)
        assert fired.read() == 0
