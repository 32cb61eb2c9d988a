"""Hot resets of several functions at once, and who may make them.

Expected values are what Linux 6.12.107 answered for the same requests on the x86 lab's machine, where 0000:0c:00.0 and
0000:0c:00.1 are two functions in one slot and one IOMMU group, and 0000:0a:01.0 and 0000:0a:02.0 on a conventional bus.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator

import pytest
from pci_fixture import BUS, VFIO, Device, errno_of
from pcie_fixture import Pcie, lab_spec

import pyvfio
from pyvfio.abi import vfio as abi
from pyvfio.errors import PyvfioError
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.hardware.pcie.endpoints import ENDPOINTS
from pyvfio_backends.software.linux.kernel_log import kernel_log
from pyvfio_backends.software.loader import load_machine, machine_files
from pyvfio_backends.software.machine import Machine

A, B = "0000:0c:00.0", "0000:0c:00.1"
HEAD, ROW = 12, 8
NOT_OWNED = abi.VFIO_PCI_DEVID_NOT_OWNED
DEV_ID, OWNED = abi.VFIO_PCI_HOT_RESET_FLAG_DEV_ID, abi.VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED


def bind(lab: Pcie, name: str, driver: str = "vfio-pci") -> None:
    if lab.driver(name) is not None:
        lab.write(f"{BUS}/devices/{name}/driver/unbind", name)
    lab.write(f"{BUS}/devices/{name}/driver_override", driver)
    lab.write(f"{BUS}/drivers_probe", name)
    assert lab.driver(name) == driver


def info(lab: Pcie, fd: int, size: int = 256) -> tuple[object, ...]:
    """What the request came to, flags, count, and rows of group or device id, segment, bus, devfn."""
    room = bytearray(struct.pack("=III", size, 0, 0).ljust(max(size, HEAD), b"\0"))
    result = errno_of(lab.host.ioctl, fd, abi.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, room)
    _, flags, count = struct.unpack_from("=III", room)
    rows = [struct.unpack_from("=IHBB", room, HEAD + ROW * n) for n in range(min(count, (size - HEAD) // ROW))]
    return result, flags, count, rows


def hot_reset(lab: Pcie, fd: int, *fds: int) -> str:
    room = bytearray(struct.pack(f"=III{len(fds)}i", HEAD + 4 * len(fds), 0, len(fds), *fds))
    return errno_of(lab.host.ioctl, fd, abi.VFIO_DEVICE_PCI_HOT_RESET, room)


class Node:
    """A device opened by its own node."""

    def __init__(self, lab: Pcie, name: str) -> None:
        self.host = lab.host
        (node,) = lab.host.listdir(f"{BUS}/devices/{name}/vfio-dev")
        self.fd = lab.host.open(f"/dev/vfio/devices/{node}", os.O_RDWR)
        self.id = 0

    def bind(self, iommufd: int) -> str:
        request = bytearray(struct.pack("=IIiI", 16, 0, iommufd, 0))
        result = errno_of(self.host.ioctl, self.fd, abi.VFIO_DEVICE_BIND_IOMMUFD, request)
        self.id = struct.unpack("=IIiI", request)[3]
        return result

    def close(self) -> None:
        self.host.close(self.fd)


@pytest.fixture
def lab() -> Iterator[Pcie]:
    made = Pcie(modules=[*lab_spec().modules, "pci_stub"])
    for name in (A, B):
        bind(made, name)
    yield made
    made.host.close()


@pytest.mark.parametrize(("size", "rows"), [(12, 0), (19, 0), (20, 1), (27, 1)])
def test_without_room_for_all_the_count_is_told(lab: Pcie, size: int, rows: int) -> None:
    device = Device(lab, A)
    assert info(lab, device.fd, size) == ("ENOSPC", 0, 2, [(0, 0, 0, 0)] * rows)


def test_the_functions_of_a_slot_are_told_by_group(lab: Pcie) -> None:
    device, group = Device(lab, A), lab.group_of(A)
    assert lab.group_of(B) == group
    assert info(lab, device.fd, 28) == ("0", 0, 2, [(group, 0, 0x0C, 0), (group, 0, 0x0C, 1)])


def test_the_group_owns_both_whoever_is_open(lab: Pcie) -> None:
    device = Device(lab, A)
    assert hot_reset(lab, device.fd, device.group) == "0"
    assert hot_reset(lab, device.fd, device.group, device.group) == "0"
    assert hot_reset(lab, device.fd, device.group, device.group, device.group) == "EINVAL"  # more than functions
    assert hot_reset(lab, device.fd, device.container) == "EINVAL"
    assert hot_reset(lab, device.fd, 999) == "EBADF"
    assert hot_reset(lab, device.fd, device.group, 999) == "EBADF"
    device.get(B)
    assert hot_reset(lab, device.fd, device.group) == "0"


def test_all_functions_lose_what_they_had_and_get_it_back(lab: Pcie) -> None:
    device = Device(lab, A)
    seen: list[str] = []
    for name in (A, B):
        lab.hardware(name).on_reset.append(lambda name=name: seen.append(name))  # type: ignore[misc]
    device.write(b"\x06\x04", 4)
    headers = [lab.config(name, 0, 64) for name in (A, B)]
    assert hot_reset(lab, device.fd, device.group) == "0"
    assert seen[-2:] == [A, B]  # (the one that slept was reset on its way to D0, too)
    assert [lab.config(name, 0, 64) for name in (A, B)] == headers


@pytest.mark.parametrize("other", ["", "pci-stub"])
def test_what_vfio_pci_does_not_have_cannot_be_reset(lab: Pcie, other: str) -> None:
    """A driver that is not VFIO's spoils it (``vfio_pci_dev_set_resettable``), and so does none."""
    lab.write(f"{VFIO}/unbind", B)
    device = Device(lab, A)
    if other:
        bind(lab, B, other)
    group = lab.group_of(A)
    assert info(lab, device.fd) == ("0", 0, 2, [(group, 0, 0x0C, 0), (group, 0, 0x0C, 1)])
    assert hot_reset(lab, device.fd, device.group) == "EINVAL"


def test_by_iommufd_the_ids_tell_who_owns_what(lab: Pcie) -> None:
    first, second = (lab.host.open("/dev/iommu", os.O_RDWR) for _ in range(2))
    one = Node(lab, A)
    assert one.bind(first) == "0"
    # the other is in a group that the context owns: 0
    assert info(lab, one.fd) == ("0", DEV_ID | OWNED, 2, [(one.id, 0, 0x0C, 0), (0, 0, 0x0C, 1)])
    assert hot_reset(lab, one.fd) == "0"
    assert hot_reset(lab, one.fd, one.fd) == "EINVAL"  # descriptors are for groups
    two = Node(lab, B)
    assert two.bind(second) == "EPERM"
    assert two.bind(first) == "0"
    assert info(lab, one.fd) == ("0", DEV_ID | OWNED, 2, [(one.id, 0, 0x0C, 0), (two.id, 0, 0x0C, 1)])
    assert hot_reset(lab, one.fd) == "0"
    two.close()
    lab.write(f"{VFIO}/unbind", B)
    assert info(lab, one.fd) == ("0", DEV_ID, 2, [(one.id, 0, 0x0C, 0), (NOT_OWNED, 0, 0x0C, 1)])
    assert hot_reset(lab, one.fd) == "EINVAL"


def test_a_root_bus_cannot_be_reset(lab: Pcie) -> None:
    bind(lab, "0000:00:06.0")
    device = Device(lab, "0000:00:06.0")
    assert info(lab, device.fd)[0] == "ENODEV"
    assert hot_reset(lab, device.fd, device.group) == "ENODEV"


def test_a_set_is_reset_when_its_last_device_without_reset_is_closed() -> None:
    """``vfio_pci_dev_set_try_reset``: neither edu nor pci-testdev on a conventional bus can be reset by itself."""
    lab = Pcie()
    with lab.host:
        names = ("0000:0a:01.0", "0000:0a:02.0")
        for name in names:
            bind(lab, name)
        seen: list[str] = []
        lab.hardware(names[0]).on_reset.append(lambda: seen.append("reset"))
        bridge = lab.device("0000:09:00.0")
        if bridge.driver is not None:
            lab.write(f"{BUS}/devices/{bridge.name}/driver/unbind", bridge.name)
        device = Device(lab, names[0])
        other = device.get(names[1])
        device.host.close(device.fd)
        assert seen == []  # the other one is open
        device.host.close(other)
        assert seen == ["reset"]


def test_reset_subordinate_resets_all_behind_a_bridge() -> None:
    lab = Pcie()
    with lab.host:
        seen: list[str] = []
        for name in ("0000:05:00.0", "0000:07:00.0"):
            lab.hardware(name).on_reset.append(lambda name=name: seen.append(name))  # type: ignore[misc]
        before = [lab.config(name, 0, 64) for name in ("0000:05:00.0", "0000:06:01.0", "0000:07:00.0", "0000:08:00.0")]
        path = f"{BUS}/devices/0000:00:0a.0/reset_subordinate"
        assert lab.write(path, "0") == 1
        assert seen == []
        assert lab.write(path, "1") == 1
        assert sorted(seen) == ["0000:05:00.0", "0000:07:00.0"]
        after = [lab.config(name, 0, 64) for name in ("0000:05:00.0", "0000:06:01.0", "0000:07:00.0", "0000:08:00.0")]
        assert after == before
        assert errno_of(lab.write, path, "x") == "EINVAL"
        assert lab.write(f"{BUS}/devices/0000:00:0c.0/reset_subordinate", "2") == 1  # an empty slot
        assert lab.host.stat(path).st_mode & 0o777 == 0o200


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\n", ""),
        ("default", "flr pm bus"),
        ("default\n", "flr pm bus"),
        ("flr", "flr"),
        (" flr  pm ", "flr pm"),
        ("pm flr bus", "pm flr bus"),
        ("flr\tpm", None),
        ("flr,pm", None),
        ("FLR", None),
        ("bus bus bus bus bus bus bus", "bus bus bus bus bus bus bus"),
        ("bus bus bus bus bus bus bus bus", None),
        ("acpi", None),
        ("af_flr", None),
        ("device_specific", None),
        ("cxl_bus", None),
        ("flr\n pm", "flr pm"),
        ("default flr", None),
        ("flr\n\n", "flr"),
        ("flr\t", "flr"),
        ("\tflr", "flr"),
        ("none", None),
    ],
)
def test_what_can_be_written_to_reset_method(text: str, shown: str | None) -> None:
    lab = Pcie()
    with lab.host:
        path = f"{BUS}/devices/0000:03:00.0/reset_method"
        if shown is None:
            lab.write(path, "pm")
            assert errno_of(lab.write, path, text) == "EINVAL"
            assert lab.attr("0000:03:00.0", "reset_method") == "pm"
        else:
            assert lab.write(path, text) == len(text)
            assert lab.attr("0000:03:00.0", "reset_method") == shown


def test_without_methods_there_is_no_reset() -> None:
    lab = Pcie()
    with lab.host:
        path = f"{BUS}/devices/0000:03:00.0"
        lab.write(f"{path}/reset_method", "\n")
        assert errno_of(lab.write, f"{path}/reset", "1") == "ENOTTY"
        lab.write(f"{path}/reset_method", "default")
        wrong = [errno_of(lab.write, f"{path}/reset", text) for text in ("0", "2", "x", " 1")]
        assert wrong == ["EINVAL"] * 4
        assert [lab.write(f"{path}/reset", text) for text in ("1\n", "0x1")] == [2, 3]


def test_a_reset_keeps_what_is_set_in_capabilities() -> None:
    """``pci_save_pcie_state`` and ``pci_save_aer_state``: a function-level reset clears both."""
    lab = Pcie()
    with lab.host:
        device = lab.device("0000:04:00.0")
        at = device.express + 8
        hardware = lab.hardware(device.name)
        device.write_config(at, 2, 0x000F)
        kept = device.read_config(at, 2)
        cleared: list[int] = []
        hardware.on_reset.append(lambda: cleared.append(hardware.config.read(at, 2)))
        lab.write(f"{BUS}/devices/{device.name}/reset_method", "flr")
        lab.write(f"{BUS}/devices/{device.name}/reset", "1")
        assert (kept, cleared) == (0x000F, [0])
        assert device.read_config(at, 2) == kept


def test_no_model_is_a_device_that_linux_resets_in_a_way_of_its_own() -> None:
    """``pci_dev_reset_methods`` (``drivers/pci/quirks.c``, 6.12): else ``device_specific`` would have to be there."""
    known = {
        *((0x8086, device) for device in (0x10ED, 0x0156, 0x0166, 0x0953, 0x0A54)),
        *((0x144D, 0xA804), (0x025E, 0xF1AC), (0x19E5, 0x375E)),
    }
    chelsio = 0x1425
    models = {(model.identity.vendor, model.identity.device) for model in ENDPOINTS.values()}
    assert len(models) > 5
    assert not models & known
    assert chelsio not in {vendor for vendor, _ in models}


def test_a_card_that_is_gone_does_not_come_back() -> None:
    """Linux does not notice that a card is pulled from this slot (it has a button); a reset does (`pci_dev_wait`)."""
    machine = Machine(load_machine(machine_files()["q35-switch"]))
    with SoftwareBackend(machine) as opened:
        host, name = pyvfio.Host(opened), "0000:01:00.0"
        assert pyvfio.bind(host.device(name)).steps
        with pyvfio.open_device(host, name) as device:
            device.reset()
            before = kernel_log(machine.kernel).lines
            machine.slots.pull("1")
            for reset in (device.reset, device.hot_reset):
                with pytest.raises(PyvfioError) as caught:
                    reset()
                assert caught.value.errno == errno.ENOTTY
    assert "not ready 65535ms after FLR; giving up" in "".join(kernel_log(machine.kernel).lines[len(before) :])
