"""Mediated devices: types, create, remove, and what user space is told."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator

import pytest
from ccw_fixture import CSS, UUID, CcwHost, Channel, refused

SCH = "0.0.0005"
TYPE = f"{SCH}/mdev_supported_types/vfio_ccw-io"
OTHER = "6dfd3ec5-e8b3-4e18-a6fe-57bc9eceb920"
MDEV_DRIVER = "/sys/bus/mdev/drivers/vfio_ccw_mdev"


@pytest.fixture
def host() -> Iterator[CcwHost]:
    with CcwHost() as host:
        host.take(SCH)
        host.heard()
        yield host


@pytest.mark.parametrize(
    "text",
    [
        "x",
        UUID[:-1],
        UUID + "\n\n",
        UUID + "xy",
        UUID.replace("-", ""),
        f"{{{UUID}}}",
        "g" + UUID[1:],
        " " + UUID,
        UUID[:8] + "_" + UUID[9:],
        UUID[:-1] + "\n",
    ],
)
def test_malformed_uuids(host: CcwHost, text: str) -> None:
    with refused(errno.EINVAL):
        host.write(f"{TYPE}/create", text)
    assert host.heard() == []
    assert host.read(f"{TYPE}/available_instances") == "1\n"


def test_a_uuid_is_there_once_and_a_subchannel_has_one_device(host: CcwHost) -> None:
    host.create()
    with refused(errno.EEXIST):
        host.create()
    with refused(errno.EUSERS):
        host.create(uuid=OTHER)
    host.take("0.0.0004")
    with refused(errno.EEXIST):
        host.create("0.0.0004")
    host.create("0.0.0004", OTHER)
    assert host.names("/sys/bus/mdev/devices") == [UUID, OTHER]


@pytest.mark.parametrize("text", ["x", "", "0x", "1 1"])
def test_remove_wants_a_number(host: CcwHost, text: str) -> None:
    host.create()
    if text:
        with refused(errno.EINVAL):
            host.write(f"{SCH}/{UUID}/remove", text)
    assert host.write(f"{SCH}/{UUID}/remove", "0") == 1
    assert host.exists(f"{SCH}/{UUID}")


def test_no_driver_takes_a_mediated_device_by_itself(host: CcwHost) -> None:
    host.create()
    host.heard()
    host.write(f"{MDEV_DRIVER}/unbind", UUID)
    assert host.names(f"{SCH}/{UUID}") == ["mdev_type", "remove", "subsystem", "uevent"]
    assert host.read(f"{TYPE}/available_instances") == "0\n"
    assert host.write("/sys/bus/mdev/drivers_probe", UUID) == 36
    with refused(errno.ENODEV):
        host.write(f"{MDEV_DRIVER}/bind", UUID)
    host.write(f"{SCH}/{UUID}/remove", "1")
    assert host.read(f"{TYPE}/available_instances") == "1\n"


@pytest.mark.parametrize("text", [UUID.upper() + "\n", UUID, UUID + "x"])
def test_create_and_remove(host: CcwHost, text: str) -> None:
    mdev = f"css0/{SCH}/{UUID}"
    assert host.write(f"{TYPE}/create", text) == len(text)
    assert host.heard() == [f"add {mdev}", "add virtual/vfio/0", f"add {mdev}/vfio-dev/vfio0", f"bind {mdev}"]
    assert host.host.readlink(f"/sys/devices/{mdev}/mdev_type") == "../mdev_supported_types/vfio_ccw-io"
    assert host.host.readlink(host.path(f"{TYPE}/devices/{UUID}")) == f"../../../{UUID}"
    assert host.names("/sys/class/mdev_bus") == [SCH]
    assert host.write(f"{SCH}/{UUID}/remove", "1\n") == 2
    assert host.heard() == [
        f"remove {mdev}/vfio-dev/vfio0", "remove virtual/vfio/0", f"unbind {mdev}", f"remove {mdev}",
    ]  # fmt: skip
    assert host.names(f"{TYPE}/devices") == []


def test_unbinding_the_parent_removes_its_device(host: CcwHost) -> None:
    host.create()
    host.heard()
    host.write(f"{CSS}/drivers/vfio_ccw/unbind", SCH)
    mdev = f"css0/{SCH}/{UUID}"
    assert host.heard() == [
        f"remove {mdev}/vfio-dev/vfio0", "remove virtual/vfio/0", f"unbind {mdev}", f"remove {mdev}",
        f"change css0/{SCH}", f"unbind css0/{SCH}",
    ]  # fmt: skip
    assert host.names("/sys/class/mdev_bus") == []
    assert "mdev_supported_types" not in host.names(SCH)
    assert "parent" not in host.names(SCH)


def test_the_state_of_a_parent_is_told(host: CcwHost) -> None:
    host.write(f"{CSS}/drivers/vfio_ccw/unbind", SCH)
    change = next(iter(host.events))
    assert (change.action, change.properties["MDEV_STATE"], change.properties["DRIVER"]) == (
        "change",
        "unregistered",
        "vfio_ccw",
    )


def test_removal_waits_for_the_user_and_asks_him(host: CcwHost) -> None:
    host.create()
    channel = Channel(host.host)
    host.heard()
    remover = threading.Thread(target=lambda: host.write(f"{SCH}/{UUID}/remove", "1"))
    remover.start()
    channel.request.wait(10)
    assert not host.exists(f"/sys/bus/mdev/devices/{UUID}")
    assert not host.exists(f"{TYPE}/devices/{UUID}")
    with refused(errno.EEXIST):
        host.create()
    assert remover.is_alive()
    with host.machine.lock:
        host.machine.clock.advance(10)
    assert channel.request.read() == 1
    channel.close_device()
    remover.join(10)
    assert not remover.is_alive()
    assert host.read(f"{TYPE}/available_instances") == "1\n"
    host.create()
    channel.close()
