"""Slots, removing and rescanning, recovery, and functions that come and go."""

from __future__ import annotations

import threading

import pytest
from pci_fixture import BELL, BUS, CONFIG, NET, REQ, RNG, Pci, errno_of

from pyvfio.abi import vfio as abi
from pyvfio.process import EventFd
from pyvfio_backends.software.description import FunctionSpec

POWER = f"{BUS}/slots/00000010/power"


def present(pci: Pci, name: str) -> bool:
    return name in pci.host.listdir(f"{BUS}/devices")


def test_a_slot_refuses_the_state_it_has(pci: Pci) -> None:
    assert errno_of(pci.write, POWER, "1") == "EIO"
    assert errno_of(pci.write, POWER, "2") == "EINVAL"
    pci.write(POWER, "0")
    assert errno_of(pci.write, POWER, "0") == "EIO"
    assert pci.text(POWER) == "0\n"


@pytest.mark.parametrize("text", ["0", "x", "", "256"])
def test_anything_that_begins_with_no_number_powers_off(pci: Pci, text: str) -> None:
    pci.write(POWER, text or "0\n")
    assert not present(pci, NET)
    assert "0" not in pci.kernel.groups.names()


def test_power_off_and_on_brings_the_function_back_but_not_its_reset(pci: Pci) -> None:
    before = pci.attr(NET, "resource")
    pci.write(POWER, "0")
    pci.seen()
    pci.write(POWER, "1")
    assert pci.headers()[0] == f"add@/devices/pci0011:00/{NET}"
    assert pci.attr(NET, "resource") == before
    assert pci.driver(NET) == "virtio-pci"
    assert errno_of(pci.text, f"{BUS}/devices/{NET}/reset_method") == "ENOENT"


def test_remove_and_rescan(pci: Pci) -> None:
    pci.write(f"{BUS}/devices/{NET}/remove", "0")
    assert present(pci, NET)
    pci.write(f"{BUS}/devices/{NET}/remove", "1")
    assert not present(pci, NET)
    assert pci.text(POWER) == "1\n"
    pci.write(f"{BUS}/rescan", "1")
    assert pci.attr(NET, "reset_method") == "bus"
    assert pci.driver(NET) == "virtio-pci"


def test_the_bus_device_finds_a_removed_function_too(pci: Pci) -> None:
    pci.write(f"{BUS}/devices/{RNG}/remove", "1")
    pci.write("/sys/devices/pci0030:00/pci_bus/0030:00/rescan", "1")
    assert present(pci, RNG)


def test_recover_gives_a_fresh_device(pci: Pci) -> None:
    pci.write(f"{BUS}/devices/{NET}/driver_override", "virtio-pci")
    pci.write(f"{BUS}/devices/{NET}/recover", "1")
    assert pci.attr(NET, "driver_override") == "(null)"
    assert pci.driver(NET) == "virtio-pci"
    assert errno_of(pci.text, f"{BUS}/devices/{NET}/reset_method") == "ENOENT"


def test_a_function_in_standby_has_a_slot_only() -> None:
    lab = Pci(
        FunctionSpec(0x99, 0x99, "virtio-rng", state="standby"),
        FunctionSpec(0x98, 0x98, "virtio-rng", state="reserved"),
    )
    assert not present(lab, "0099:00:00.0")
    assert lab.text(f"{BUS}/slots/00000099/power") == "0\n"
    assert "00000098" not in lab.host.listdir(f"{BUS}/slots")
    lab.write(f"{BUS}/slots/00000099/power", "1")
    assert lab.driver("0099:00:00.0") == "virtio-pci"
    lab.host.close()


def test_plugging_and_unplugging(pci: Pci) -> None:
    pci.machine.zpci.plug(FunctionSpec(0x77, 0x88, "virtio-rng", options={"legacy": True}))
    assert pci.headers()[:4] == [
        "add@/devices/virtual/iommu/s390-iommu.00000088",
        "add@/devices/pci0077:00/pci_bus/0077:00",
        "add@/bus/pci/slots/00000088",
        "add@/devices/pci0077:00/0077:00:00.0",
    ]
    assert pci.attr("0077:00:00.0", "device") == "0x1005"
    pci.machine.zpci.unplug(0x88)
    assert pci.headers()[-4:] == [
        "remove@/devices/pci0077:00/0077:00:00.0",
        "remove@/bus/pci/slots/00000088",
        "remove@/devices/pci0077:00/pci_bus/0077:00",
        "remove@/devices/virtual/iommu/s390-iommu.00000088",
    ]
    assert "pci0077:00" not in pci.host.listdir("/sys/devices")


def test_plugging_a_function_in_standby_and_taking_it_away_again(pci: Pci) -> None:
    pci.machine.zpci.plug(FunctionSpec(0x77, 0x88, "virtio-rng", state="standby"))
    assert pci.text(f"{BUS}/slots/00000088/power") == "0\n"
    pci.machine.zpci.unplug(0x88)
    assert "00000088" not in pci.host.listdir(f"{BUS}/slots")


def test_numbers_of_bars_are_used_again(pci: Pci) -> None:
    spec = FunctionSpec(0x77, 0x88, "virtio-rng")
    pci.machine.zpci.plug(spec)
    first = pci.attr("0077:00:00.0", "resource")
    pci.machine.zpci.unplug(0x88)
    pci.machine.zpci.plug(spec)
    assert pci.attr("0077:00:00.0", "resource") == first


def test_unplugging_waits_for_the_program(pci: Pci) -> None:
    device = pci.open(NET)
    pci.seen()
    with EventFd() as wanted:
        device.eventfds(REQ, 0, wanted.fileno())
        pci.machine.zpci.unplug(0x10)
        assert wanted.read() == 1
        assert pci.headers() == [f"remove@/devices/pci0011:00/{NET}/vfio-dev/vfio0"]
        assert present(pci, NET)
        assert device.read(4, 0).hex() == "f41a0010"
        assert errno_of(device.ask, abi.VFIO_DEVICE_RESET, abi.DeviceInfo()) == "EAGAIN"
        assert errno_of(device.get, NET) == "ENODEV"
        pci.machine.clock.advance(25)
        assert wanted.read() == 2
    device.close()
    finish(pci, lambda: not present(pci, NET))
    assert pci.headers()[:3] == [
        "remove@/devices/virtual/vfio/0",
        f"unbind@/devices/pci0011:00/{NET}",
        f"remove@/devices/pci0011:00/{NET}",
    ]


def finish(pci: Pci, done: object) -> None:
    """Wait until the kernel's worker is done."""
    for _ in range(200):
        if done():  # type: ignore[operator]
            return
        threading.Event().wait(0.01)
    raise AssertionError("the worker does not end")


def test_a_second_remover_waits_for_the_first(pci: Pci) -> None:
    device = pci.open(NET)
    pci.machine.zpci.unplug(0x10)
    second = threading.Thread(target=lambda: errno_of(pci.write, f"{BUS}/drivers/vfio-pci/unbind", NET))
    second.start()
    second.join(0.05)
    assert second.is_alive()
    device.close()
    second.join(5)
    assert not second.is_alive()
    finish(pci, lambda: not present(pci, NET))


def test_a_surprise_takes_the_device_from_the_program(pci: Pci) -> None:
    device = pci.open(BELL)
    pci.machine.zpci.unplug(0x60, surprise=True)
    assert errno_of(device.read, 4, 4) == "ENODEV"
    assert device.read(4, 0).hex() == "f41af010"  # vendor and device are VFIO's own copy
    assert device.read(4, 0, 0) == b"\xff" * 4
    device.close()
    finish(pci, lambda: not present(pci, BELL))


def test_an_error_loses_the_function_until_it_recovers(pci: Pci) -> None:
    device = pci.open(BELL)
    pci.machine.zpci.fail(0x60)
    assert errno_of(device.read, 4, 4, CONFIG) == "EIO"
    assert errno_of(device.write, b"\6\0", 4) == "EIO"
    assert device.read(4, 0x3C, 0) == b"\xff" * 4
    device.close()
    pci.write(f"{BUS}/devices/{BELL}/recover", "1")
    assert pci.config(BELL, 0, 4) == "f41af010"
