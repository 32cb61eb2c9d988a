"""Runtime power management: a function of vfio-pci that nobody uses sleeps, and its user can leave it alone."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from errno import EBADF, EINVAL, EIO

import pytest

from pyvfio.abi import pci_regs, vfio
from pyvfio.abi import vfio_feature as feature
from pyvfio.backend import Backend
from pyvfio.process import EventFd
from pyvfio.testing import requests
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import OpenDevice

SET, GET, PROBE = vfio.VFIO_DEVICE_FEATURE_SET, vfio.VFIO_DEVICE_FEATURE_GET, vfio.VFIO_DEVICE_FEATURE_PROBE
ENTRY = feature.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY
WAKEUP = feature.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP
EXIT = feature.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT
_PATIENCE = 3.0
State = Callable[[], tuple[str, str]]


def ask(device: OpenDevice, flags: int, data: bytes = b"") -> None:
    head = bytes(vfio.DeviceFeature(argsz=8 + len(data), flags=flags))[:8]
    device.backend.ioctl(device.fd, vfio.VFIO_DEVICE_FEATURE, bytearray(head + data))


@pytest.fixture
def state(sysfs: Attributes, function: BoundFunction) -> State:
    """``power_state`` and ``runtime_status``, once the kernel has done what it does by itself."""
    if not sysfs.exists(f"{function.path}/power"):
        pytest.skip("this kernel has no power management")

    def read() -> tuple[str, str]:
        deadline = time.monotonic() + _PATIENCE
        while True:
            status = sysfs.read(f"{function.path}/power/runtime_status")
            if status in ("active", "suspended") or time.monotonic() > deadline:
                return sysfs.read(f"{function.path}/power_state"), status
            time.sleep(0.05)

    return read


def settle(state: State, wanted: str) -> str:
    """The power state when the function has come to ``suspended`` or ``active``."""
    deadline = time.monotonic() + _PATIENCE
    while state()[1] != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    power, status = state()
    assert status == wanted
    return power


@pytest.fixture
def lowest(backend: Backend, files: OpenFiles, function: BoundFunction, held_awake: bool) -> str:
    """Where the function sleeps: D3hot, or D0 if it has no power management, or firmware keeps it awake."""
    fd = files.open(f"{function.path}/config")
    data = backend.pread(fd, 256, 0)
    at = data[pci_regs.PCI_CAPABILITY_LIST] if data[pci_regs.PCI_STATUS] & pci_regs.PCI_STATUS_CAP_LIST else 0
    while at and data[at] != pci_regs.PCI_CAP_ID_PM:
        at = data[at + 1]
    return "D3hot" if at and not held_awake else "D0"


def test_who_is_not_open_sleeps(function: BoundFunction, state: State, lowest: str) -> None:
    assert settle(state, "suspended") == lowest


@pytest.fixture
def cold(sysfs: Attributes, function: BoundFunction) -> Iterator[str]:
    """``d3cold_allowed``; what it said comes back."""
    path = f"{function.path}/d3cold_allowed"
    if not sysfs.exists(path):
        pytest.skip("this kernel has no ACPI")
    before = sysfs.read(path)
    yield path
    sysfs.write(path, before)


@pytest.mark.parametrize("allowed", ["0", "1"])
def test_below_a_port_that_does_not_sleep_no_power_is_cut(
    sysfs: Attributes, function: BoundFunction, state: State, cold: str, allowed: str
) -> None:
    """Whatever ``d3cold_allowed`` says; a function that sleeps is woken by the question, and sleeps on."""
    before = settle(state, "suspended")
    sysfs.write(cold, allowed)
    assert settle(state, "suspended") == before


def test_what_is_written_to_d3cold_allowed(sysfs: Attributes, cold: str) -> None:
    for text, shown in (("0", "0"), ("1\n", "1"), ("0x0", "0"), ("010", "1"), ("2", "1"), ("+0", "0")):
        sysfs.write(cold, text)
        assert sysfs.read(cold) == shown
    for text in ("-1", "x", "\n", " 1", "1 ", "on", "1" * 30):
        with fails(EINVAL):
            sysfs.write(cold, text)
        assert sysfs.read(cold) == "0"


def test_who_is_open_does_not(opened: OpenDevice, state: State) -> None:
    assert state() == ("D0", "active")


@pytest.fixture
def control(sysfs: Attributes, function: BoundFunction, state: State) -> Iterator[str]:
    path = f"{function.path}/power/control"
    yield path
    sysfs.write(path, "auto")


def test_control_keeps_it_awake(sysfs: Attributes, control: str, state: State, lowest: str) -> None:
    assert sysfs.read(control) == "auto"
    sysfs.write(control, "on")
    assert state() == ("D0", "active")
    for wrong in ("off", "AUTO", "autoo", "1"):
        with fails(EINVAL):
            sysfs.write(control, wrong)
    sysfs.write(control, "auto\n")
    assert settle(state, "suspended") == lowest


def test_no_delay_is_kept(sysfs: Attributes, control: str) -> None:
    with fails(EIO):
        sysfs.read(f"{control.rpartition('/')[0]}/autosuspend_delay_ms")


def test_an_access_wakes_it_for_as_long_as_it_takes(opened: OpenDevice, state: State, lowest: str) -> None:
    config = requests.region_info(opened.backend, opened.fd, vfio.VFIO_PCI_CONFIG_REGION_INDEX)[0].offset
    identity = opened.backend.pread(opened.fd, 4, config)
    ask(opened, ENTRY | SET)
    assert settle(state, "suspended") == lowest
    assert opened.backend.pread(opened.fd, 4, config) == identity
    assert settle(state, "suspended") == lowest
    with fails(EINVAL):
        ask(opened, ENTRY | SET)
    ask(opened, EXIT | SET)
    assert state() == ("D0", "active")
    ask(opened, EXIT | SET)  # once more is nothing


def test_the_user_is_told_of_what_wakes_it(opened: OpenDevice, state: State) -> None:
    config = requests.region_info(opened.backend, opened.fd, vfio.VFIO_PCI_CONFIG_REGION_INDEX)[0].offset
    with EventFd() as wakeup:
        ask(opened, WAKEUP | SET, struct.pack("=iI", wakeup.fileno(), 0))
        settle(state, "suspended")
        assert wakeup.read() == 0
        opened.backend.pread(opened.fd, 4, config)
        assert wakeup.read() == 1
        assert state() == ("D0", "active")  # low power is over
        opened.backend.pread(opened.fd, 4, config)
        assert wakeup.read() == 0
        ask(opened, WAKEUP | SET, struct.pack("=iI", wakeup.fileno(), 0))
        settle(state, "suspended")
        ask(opened, EXIT | SET)
        assert wakeup.read() == 1  # the request itself has woken it


@pytest.mark.parametrize(("fd", "error"), [(-1, EINVAL), (9999, EBADF)])
def test_what_is_no_eventfd(opened: OpenDevice, fd: int, error: int) -> None:
    with fails(error):
        ask(opened, WAKEUP | SET, struct.pack("=iI", fd, 0))
    with fails(EINVAL):
        ask(opened, WAKEUP | SET, bytes(4))


def test_a_chosen_state_closes_the_base_addresses(
    opened: OpenDevice, state: State, lowest: str, held_awake: bool
) -> None:
    """D3hot by configuration space: memory answers EIO, and the way back is a reset or a write of D0.

    Where firmware does not pass the write on nothing happens.
    """
    config = requests.region_info(opened.backend, opened.fd, vfio.VFIO_PCI_CONFIG_REGION_INDEX)[0].offset
    data = opened.backend.pread(opened.fd, 256, config)
    at = data[pci_regs.PCI_CAPABILITY_LIST] if data[pci_regs.PCI_STATUS] & pci_regs.PCI_STATUS_CAP_LIST else 0
    while at and data[at] != pci_regs.PCI_CAP_ID_PM:
        at = data[at + 1]
    if not at:
        pytest.skip("the function has no power management")
    bar = next(
        index
        for index in reversed(range(pci_regs.PCI_STD_NUM_BARS))  # the first may begin with the table of MSI-X
        if requests.region_info(opened.backend, opened.fd, index)[0].size
        and not data[pci_regs.PCI_BASE_ADDRESS_0 + 4 * index] & 1
    )
    place = requests.region_info(opened.backend, opened.fd, bar)[0].offset
    opened.backend.pwrite(opened.fd, b"\x02\x00", config + pci_regs.PCI_COMMAND)
    for back in ("write", "reset"):
        opened.backend.pwrite(opened.fd, b"\x03\x00", config + at + pci_regs.PCI_PM_CTRL)
        assert state() == (lowest, "active")
        assert opened.backend.pread(opened.fd, 1, config + at + pci_regs.PCI_PM_CTRL)[0] & 3 == (0 if held_awake else 3)
        with nullcontext() if held_awake else fails(EIO):
            opened.backend.pread(opened.fd, 4, place)
        if back == "write":
            opened.backend.pwrite(opened.fd, b"\x00\x00", config + at + pci_regs.PCI_PM_CTRL)
        else:
            opened.backend.ioctl(opened.fd, vfio.VFIO_DEVICE_RESET)
        assert state() == ("D0", "active")
        assert len(opened.backend.pread(opened.fd, 4, place)) == 4
