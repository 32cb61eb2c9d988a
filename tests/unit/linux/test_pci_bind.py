"""Binding on the PCI bus: ids, overrides, and who gets a device."""

from __future__ import annotations

import os

import pytest
from pci_fixture import BELL, BLK, BUS, NET, VFIO, VIRTIO, Pci, errno_of

from pyvfio.errors import Misuse
from pyvfio_backends.software.description import FunctionSpec, MachineSpec
from pyvfio_backends.software.machine import Machine


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("1af4", "EINVAL"),
        ("\n", "EINVAL"),
        ("1AF4 zz", "EINVAL"),
        ("1af4:1000", "EINVAL"),
        ("1af4 1000 0 0 0 0 5", "EINVAL"),
    ],
)
def test_new_id_refuses_what_is_no_id(pci: Pci, text: str, error: str) -> None:
    assert errno_of(pci.write, f"{VFIO}/new_id", text) == error


def test_new_id_refuses_an_id_that_the_driver_knows(pci: Pci) -> None:
    assert pci.write(f"{VFIO}/new_id", "0x1af4 0x1000\n") == 14
    assert errno_of(pci.write, f"{VFIO}/new_id", "  1af4   1000") == "EEXIST"
    assert errno_of(pci.write, f"{VIRTIO}/new_id", "1af4 1000") == "EEXIST"
    assert pci.write(f"{VFIO}/new_id", "1af4 1000 0 0 0 0 0") == 19  # with all fields nothing is compared


@pytest.mark.parametrize("text", ["1af4", "zz"])
def test_remove_id_refuses_what_is_no_id(pci: Pci, text: str) -> None:
    assert errno_of(pci.write, f"{VFIO}/remove_id", text) == "EINVAL"


def test_remove_id_only_removes_what_was_added(pci: Pci) -> None:
    assert errno_of(pci.write, f"{VFIO}/remove_id", "1af4 1000") == "ENODEV"
    pci.write(f"{VFIO}/new_id", "1af4 1000")
    assert errno_of(pci.write, f"{VFIO}/remove_id", "1af4 1000 1 1") == "ENODEV"
    assert pci.write(f"{VFIO}/remove_id", "1af4 1000") == 9
    assert errno_of(pci.write, f"{VFIO}/remove_id", "1af4 1000") == "ENODEV"


def test_a_number_too_long_keeps_its_low_bits(pci: Pci) -> None:
    assert pci.write(f"{VFIO}/new_id", "1ffffffffff 10f0") == 16  # any vendor
    assert pci.driver(BELL) == "vfio-pci"


def test_vfio_pci_takes_nothing_without_an_id_or_an_override(pci: Pci) -> None:
    assert errno_of(pci.write, f"{VFIO}/bind", BELL) == "ENODEV"
    pci.write(f"{BUS}/drivers_probe", BELL)
    assert pci.driver(BELL) is None


def test_virtio_pci_does_not_want_the_bell(pci: Pci) -> None:
    assert errno_of(pci.write, f"{VIRTIO}/bind", BELL) == "ENODEV"
    assert pci.attr(BELL, "enable") == "0"


def test_a_held_device_is_busy_and_an_unknown_one_is_not_there(pci: Pci) -> None:
    pci.write(f"{VFIO}/new_id", "1af4 1000")
    assert pci.driver(NET) == "virtio-pci"
    assert errno_of(pci.write, f"{VFIO}/bind", NET) == "EBUSY"
    assert errno_of(pci.write, f"{VFIO}/bind", "0099:00:00.0") == "ENODEV"
    assert errno_of(pci.write, f"{VFIO}/unbind", NET) == "ENODEV"


def test_pcieport_finds_no_port(pci: Pci) -> None:
    pci.write(f"{BUS}/devices/{BELL}/driver_override", "pcieport")
    assert errno_of(pci.write, f"{BUS}/drivers/pcieport/bind", BELL) == "ENODEV"


def test_an_override_keeps_all_other_drivers_away(pci: Pci) -> None:
    pci.write(f"{VIRTIO}/unbind", BLK)
    pci.write(f"{BUS}/devices/{BLK}/driver_override", "nobody")
    pci.write(f"{BUS}/drivers_probe", BLK)
    assert errno_of(pci.write, f"{VIRTIO}/bind", BLK) == "ENODEV"
    pci.write(f"{BUS}/devices/{BLK}/driver_override", "\n")
    pci.write(f"{BUS}/drivers_probe", BLK)
    assert pci.driver(BLK) == "virtio-pci"


def test_a_program_that_owns_the_group_keeps_host_drivers_away(pci: Pci) -> None:
    device = pci.open(NET)
    pci.host.close(device.fd)
    pci.write(f"{VFIO}/unbind", NET)
    group = pci.kernel.groups.groups[0]
    group.owner = device  # as while an iommufd of the program has it
    pci.write(f"{BUS}/devices/{NET}/driver_override", "\n")
    assert errno_of(pci.write, f"{VIRTIO}/bind", NET) == "EBUSY"
    group.owner = None
    assert pci.write(f"{VIRTIO}/bind", NET) == len(NET)


def test_taking_and_giving_back_leaves_the_device_as_it_was(pci: Pci) -> None:
    def look() -> dict[str, str]:
        names = ("enable", "resource", "power_state", "driver_override", "function_handle", "dma_mask_bits")
        return {name: pci.attr(NET, name) for name in names} | {"config": pci.config(NET, 0, 256)}

    before = look()
    pci.open(NET).close()
    pci.write(f"{VFIO}/unbind", NET)
    pci.write(f"{BUS}/devices/{NET}/driver_override", "\n")
    pci.write(f"{BUS}/drivers_probe", NET)
    assert look() == before
    assert pci.irqs(NET) == ["7", "8", "9"]
    assert "virtio0" in pci.host.listdir(f"{BUS}/devices/{NET}")


def test_events_of_a_change_of_drivers(pci: Pci) -> None:
    pci.take(BLK)
    events = [event for event in pci.seen() if event.subsystem != "bdi"]
    path = f"/devices/pci0020:00/{BLK}"
    assert [event.lines()[0] for event in events] == [
        f"remove@{path}/virtio1/block/vda",
        f"unbind@{path}/virtio1",
        f"remove@{path}/virtio1",
        f"unbind@{path}",
        "add@/devices/virtual/vfio/1",
        f"add@{path}/vfio-dev/vfio0",
        f"bind@{path}",
    ]
    assert list(events[3].properties)[:-1] == [
        *("ACTION", "DEVPATH", "SUBSYSTEM", "PCI_CLASS", "PCI_ID", "PCI_SUBSYS_ID", "PCI_SLOT_NAME")
    ]
    assert events[6].properties["DRIVER"] == "vfio-pci"
    assert events[6].properties["MODALIAS"] == "pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00"


def test_a_description_may_give_functions_to_vfio_pci() -> None:
    machine = Machine(MachineSpec(name="m", functions=[FunctionSpec(0x60, 0x60, "virtio-bell", "vfio-pci")]))
    pci = machine.kernel.buses["pci"]
    device = pci.find(BELL)
    assert device is not None
    assert device.driver is not None
    assert (device.driver.name, device.override) == ("vfio-pci", "vfio-pci")
    assert machine.kernel.uevents.seqnum == 0
    machine.close()


@pytest.mark.parametrize("driver", ["mlx5_core", "vfio_pci"])
def test_a_description_that_names_an_unknown_driver_is_refused(driver: str) -> None:
    with pytest.raises(Misuse, match=driver):
        Machine(MachineSpec(name="m", functions=[FunctionSpec(1, 1, "virtio-net", driver)]))


def test_without_its_module_there_is_no_vfio_pci() -> None:
    machine = Machine(MachineSpec(name="m", modules=(), functions=[FunctionSpec(1, 1, "virtio-net", "virtio-pci")]))
    assert list(machine.kernel.buses["pci"].drivers) == ["pcieport", "virtio-pci"]
    machine.close()


def test_parameters_of_the_module(pci: Pci) -> None:
    path = "/sys/module/vfio_pci/parameters"
    assert {name: pci.text(f"{path}/{name}") for name in pci.host.listdir(path)} == dict.fromkeys(
        ("disable_denylist", "disable_idle_d3", "enable_sriov", "nointxmask"), "N\n"
    )
    with pytest.raises(PermissionError):
        pci.host.open(f"{path}/disable_denylist", os.O_WRONLY)
    assert pci.host.readlink("/sys/module/vfio_pci/drivers/pci:vfio-pci") == "../../../bus/pci/drivers/vfio-pci"
