"""Parents with several types, and attributes of mediated devices: trees like those of real drivers, as /sys."""

from __future__ import annotations

import pytest
from private_host import PrivateHost

UUID = "66826a94-72c4-557f-beca-d135a7062001"
SERIAL = {
    "mtty-1": {"available_instances": "24", "device_api": "vfio-pci", "name": "Single port serial"},
    "mtty-2": {"available_instances": "12", "device_api": "vfio-pci", "name": "Dual port serial"},
}
GRAPHICS = {
    "i915-GVTg_V4_4": {
        "available_instances": "0",
        "device_api": "vfio-pci",
        "description": "low_gm_size: 128MB\nfence: 4",
    },
    "i915-GVTg_V4_8": {
        "available_instances": "3",
        "device_api": "vfio-pci",
        "description": "low_gm_size: 64MB\nfence: 4",
    },
}


@pytest.fixture
def machine(host: PrivateHost) -> PrivateHost:
    """A serial card's parent on no bus, two graphics functions, and a device with attributes of all kinds."""
    parent = host.parent("mtty", "virtual/mtty", SERIAL)
    for name, room in (("0000:00:02.0", "3"), ("0000:05:00.0", "5")):
        path = host.parent(name, "pci0000:00", GRAPHICS)
        host.write(f"{path}/mdev_supported_types/i915-GVTg_V4_8/available_instances", f"{room}\n")
        host.link(f"{path}/subsystem", "/sys/bus/pci")
        host.link(f"/sys/bus/pci/devices/{name}", path)
    made = host.mdev(UUID, parent, "mtty-2", {"speed": "9600\n", "assign": "", "nvidia/params": "a=1\n", "uevent": ""})
    (host.top / made.lstrip("/") / "assign").chmod(0o200)
    (host.top / made.lstrip("/") / "nvidia/params").chmod(0o444)
    return host


def test_mistakes(machine: PrivateHost) -> None:
    machine.pyvfio("mdev", "attributes", UUID, "no_such=1", code=3)
    machine.pyvfio("mdev", "attributes", UUID, "nvidia/params=1", code=2)
    machine.pyvfio("mdev", "attributes", UUID, "../remove=1", code=2)
    assert "of its own" in machine.pyvfio("mdev", "attributes", UUID, "speed=1", "assign=5", code=2)
    machine.pyvfio("mdev", "create", "--auto", "i915-GVTg_V4_4", code=5)
    machine.pyvfio("mdev", "create", "mtty", "i915-GVTg_V4_8", code=3)
    assert machine.read(f"/sys/bus/mdev/devices/{UUID}/speed") == "9600\n"


def test_types_of_all_parents(machine: PrivateHost) -> None:
    rows = machine.pyvfio_json("mdev", "types")
    assert [(row["parent"], row["type"], row["available_instances"]) for row in rows] == [
        ("0000:00:02.0", "i915-GVTg_V4_4", 0),
        ("0000:00:02.0", "i915-GVTg_V4_8", 3),
        ("0000:05:00.0", "i915-GVTg_V4_4", 0),
        ("0000:05:00.0", "i915-GVTg_V4_8", 5),
        ("mtty", "mtty-1", 24),
        ("mtty", "mtty-2", 12),
    ]
    assert rows[0]["description"] == "low_gm_size: 128MB\nfence: 4"
    assert "low_gm_size: 128MB fence: 4" in machine.pyvfio("mdev", "types", "0000:00:02.0")


def test_auto_takes_the_parent_with_most_room(machine: PrivateHost) -> None:
    for kind, parent in (("i915-GVTg_V4_8", "0000:05:00.0"), ("mtty-1", "mtty")):
        plan = machine.pyvfio_json("mdev", "create", "--auto", kind, "--dry-run")
        assert plan["parent"] == parent
        assert plan["steps"][0]["paths"][0].endswith(f"/{parent}/mdev_supported_types/{kind}/create")


def test_attributes_are_shown_and_set(machine: PrivateHost) -> None:
    known = {one["name"]: one for one in machine.pyvfio_json("mdev", "attributes", UUID)}
    assert {name: (one["value"], one["readable"], one["writable"]) for name, one in known.items()} == {
        "speed": ("9600", True, True),
        "assign": (None, False, True),
        "nvidia/params": ("a=1", True, False),
    }
    plan = machine.pyvfio_json("mdev", "attributes", UUID, "speed=1200")
    assert [step["undo"] for step in plan["steps"]] == ["write '9600'"]
    assert machine.read(f"/sys/bus/mdev/devices/{UUID}/speed").startswith("1200")
    machine.pyvfio("mdev", "attributes", UUID, "assign=5")
    assert machine.read(f"/sys/bus/mdev/devices/{UUID}/assign") == "5"


def test_remove_remembers_what_can_be_read(machine: PrivateHost) -> None:
    plan = machine.pyvfio_json("mdev", "remove", UUID, "--dry-run")
    assert plan["steps"][0]["text"] == f"remember the attributes of {UUID}: speed"
    assert "what was written to assign cannot be read" in " ".join(plan["notes"])


def test_what_is_defined_beside_what_is_so(machine: PrivateHost) -> None:
    machine.pyvfio("mdev", "define", UUID, "--attr", "speed=2400", "--attr", "assign=5")
    (row,) = machine.pyvfio_json("defined")
    assert (row["agreement"], row["note"]) == ("different", "speed is 9600, defined as 2400")
