"""Sysfs as a tree that the test writes: missing files, groups of every kind, hosts without a bus."""

from __future__ import annotations

import errno
import threading

import pytest
from client_fake import FakeHost

import pyvfio
from pyvfio.backend import Holder
from pyvfio.errors import KernelRefused, Misuse, NoSuchDevice, PermissionDenied, Timeout
from pyvfio.sysfs import Sysfs

ATTRIBUTE = "/sys/x/attribute"
ROOT = "/sys/devices/pci0000:00"


@pytest.fixture
def fake() -> FakeHost:
    host = FakeHost()
    host.files[ATTRIBUTE] = " value\n"
    return host


@pytest.fixture
def sysfs(fake: FakeHost) -> Sysfs:
    return Sysfs(fake)


# attributes


def test_an_empty_write_never_reaches_the_kernel(fake: FakeHost, sysfs: Sysfs) -> None:
    with pytest.raises(Misuse, match="empty write"):
        sysfs.write_text(ATTRIBUTE, "")
    assert fake.written == []


@pytest.mark.parametrize("number", [errno.ENODEV, errno.ENXIO, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT])
def test_no_value(fake: FakeHost, sysfs: Sysfs, number: int) -> None:
    fake.errors["read", ATTRIBUTE] = number
    assert sysfs.attribute(ATTRIBUTE, "default") == "default"
    with pytest.raises(KernelRefused) as caught:
        sysfs.read_text(ATTRIBUTE)
    assert (caught.value.errno, caught.value.path) == (number, ATTRIBUTE)


def test_another_error_is_not_hidden(fake: FakeHost, sysfs: Sysfs) -> None:
    for verb, call in (
        ("open", sysfs.attribute),
        ("stat", sysfs.exists),
        ("listdir", sysfs.names),
        ("readlink", sysfs.link),
    ):
        fake.errors[verb, ATTRIBUTE] = errno.EACCES
        with pytest.raises(PermissionDenied, match=ATTRIBUTE):
            call(ATTRIBUTE)


def test_what_is_not_there(sysfs: Sysfs) -> None:
    missing = "/sys/nowhere"
    assert (sysfs.exists(missing), sysfs.names(missing), sysfs.link(missing), sysfs.attribute(missing)) == (
        False,
        [],
        None,
        None,
    )
    assert sysfs.link(ATTRIBUTE) is None


def test_a_failing_read_leaves_no_descriptor(fake: FakeHost, sysfs: Sysfs) -> None:
    fake.errors["read", ATTRIBUTE] = errno.EIO
    fake.errors["write", ATTRIBUTE] = errno.EIO
    with pytest.raises(KernelRefused):
        sysfs.read_text(ATTRIBUTE)
    with pytest.raises(KernelRefused):
        sysfs.write_text(ATTRIBUTE, "1", deadline=5.0)
    assert fake.fds == {}


def test_a_write_that_does_not_return_names_the_holder(fake: FakeHost, sysfs: Sysfs) -> None:
    fake.held = [Holder(4711, "qemu", 12)]
    free = threading.Event()
    done = threading.Event()

    def wait(fd: int, data: bytes) -> int:
        free.wait(10)
        done.set()
        return len(data)

    fake.write = wait  # type: ignore[method-assign]
    with pytest.raises(Timeout) as caught:
        sysfs.write_text(ATTRIBUTE, "1", deadline=0.05, held="/dev/vfio/7")
    assert "/dev/vfio/7 is open in qemu (pid 4711, fd 12)" in caught.value.cause
    free.set()
    assert done.wait(10)


def test_text(fake: FakeHost, sysfs: Sysfs) -> None:
    assert sysfs.read_text(ATTRIBUTE) == "value"
    assert sysfs.read_bytes(ATTRIBUTE, 3) == b" va"
    sysfs.write_text(ATTRIBUTE, "one\n", deadline=5.0)
    assert fake.written == [(ATTRIBUTE, "one\n")]


# groups


def group_of(fake: FakeHost, **drivers: str) -> pyvfio.Host:
    """A host with group 3, which has the functions 00.0, 01.0, ... with these drivers (empty: none)."""
    group = "/sys/kernel/iommu_groups/3"
    for number, driver in enumerate(drivers.values()):
        name = f"0000:00:{number:02x}.0"
        path = f"{ROOT}/{name}"
        fake.files[f"{path}/vendor"] = "0x1af4\n"
        fake.links[f"/sys/bus/pci/devices/{name}"] = f"../../../devices/pci0000:00/{name}"
        fake.links[f"{path}/subsystem"] = "../../../bus/pci"
        fake.links[f"{path}/iommu_group"] = "../../../kernel/iommu_groups/3"
        fake.links[f"{group}/devices/{name}"] = f"../../../../devices/pci0000:00/{name}"
        if driver:
            fake.links[f"{path}/driver"] = f"../../../bus/pci/drivers/{driver}"
    fake.files[f"{group}/reserved_regions"] = (
        "0x00000000fee00000 0x00000000feefffff msi\n0x000000fd00000000 0x000000ffffffffff reserved\n"
    )
    return pyvfio.Host(fake)


@pytest.mark.parametrize(
    ("driver", "blocks", "reason"),
    [
        ("nvme", True, "blocks"),
        ("pcieport", False, "harmless"),
        ("pci-stub", False, "harmless"),
        ("vfio-pci", False, "ready"),
        ("", False, "harmless: no driver"),
    ],
)
def test_who_keeps_a_group_from_user_space(fake: FakeHost, driver: str, blocks: bool, reason: str) -> None:
    group = group_of(fake, first="vfio-pci", second=driver).group(3)
    assert group.viable is not blocks
    assert [one.name for one in group.blockers()] == (["0000:00:01.0"] if blocks else [])
    assert group.blockers(besides="0000:00:01.0") == []
    assert str(group.members()[1]).startswith(f"0000:00:01.0 ({driver or 'no driver'}): {reason}")


def test_a_member_on_a_bus_that_is_not_known(fake: FakeHost) -> None:
    host = group_of(fake, first="vfio-pci")
    path = "/sys/devices/platform/uart"
    fake.files[f"{path}/uevent"] = ""
    fake.links[f"{path}/subsystem"] = "../../../bus/platform"
    fake.links[f"{path}/driver"] = "../../../bus/platform/drivers/serial"
    fake.links["/sys/kernel/iommu_groups/3/devices/uart"] = "../../../../devices/platform/uart"
    group = host.group(3)
    assert [str(device) for device in group.devices] == ["0000:00:00.0"]
    assert [one.name for one in group.blockers()] == ["uart"]


def test_reserved_regions(fake: FakeHost) -> None:
    regions = group_of(fake, first="").group(3).reserved_regions
    assert [(one.start, one.last, one.kind) for one in regions] == [
        (0xFEE00000, 0xFEEFFFFF, "msi"),
        (0xFD00000000, 0xFFFFFFFFFF, "reserved"),
    ]


# hosts


def test_a_host_without_channel_devices(fake: FakeHost) -> None:
    host = group_of(fake, first="", second="")
    assert (host.ccw_devices(), host.subchannels(), host.mdevs(), host.mdev_parents()) == ([], [], [], [])
    with pytest.raises(NoSuchDevice, match="no bus ccw"):
        host.device("0.0.013f")
    with pytest.raises(NoSuchDevice, match=r"nearby: 0000:00:00\.0, 0000:00:01\.0"):
        host.device("0000:00:07.0")


def test_numbers_of_s390_are_none_elsewhere(fake: FakeHost) -> None:
    function = group_of(fake, first="").function("0000:00:00.0")
    assert (function.uid, function.fid, function.fh, function.uid_is_unique) == (None, None, None, None)
    assert function.vendor_id == 0x1AF4
    assert function.override is None
