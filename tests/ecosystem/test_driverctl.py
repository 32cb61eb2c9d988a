"""What pyvfio defines driverctl loads and lists, and what driverctl saves pyvfio lists: with Debian's package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from private_host import PrivateHost

FUNCTION, SUBCHANNEL = "0000:3b:00.0", "0.0.0313"
NAMES = [f"pci/{FUNCTION}", f"css/{SUBCHANNEL}"]
FindTool = Callable[..., Path]

# the release that the host runs, and one whose driverctl has list-persisted (a script: it runs on any release)
VERSIONS = ["", "trixie"]


@pytest.fixture(params=VERSIONS, ids=["own-release", "trixie"])
def driverctl(request: pytest.FixtureRequest, find_tool: FindTool) -> Path:
    return find_tool("driverctl", "driverctl", request.param)


@pytest.fixture
def machine(host: PrivateHost) -> PrivateHost:
    """A host with an NVMe function and a subchannel; nothing of it takes a driver by itself."""
    host.device("pci", FUNCTION, "nvme", "pci0000:3a")
    host.device("css", SUBCHANNEL, "io_subchannel", "css0")
    for module in ("vfio-pci", "vfio_ccw", "vfio_pci"):
        host.module(module)
    return host


def state(host: PrivateHost, name: str) -> dict[str, object]:
    rows = host.pyvfio_json("defined")
    return next((row for row in rows if row["name"] == name), {})


def test_list_persisted_lists_what_pyvfio_defines(machine: PrivateHost, find_tool: FindTool) -> None:
    driverctl = find_tool("driverctl", "driverctl", "trixie")
    machine.pyvfio("define", *NAMES)
    assert machine.run(driverctl, "list-persisted") == f"{FUNCTION} vfio-pci\n"
    assert machine.run(driverctl, "-b", "css", "list-persisted") == f"{SUBCHANNEL} vfio_ccw\n"
    machine.pyvfio("undefine", *NAMES)
    assert machine.run(driverctl, "list-persisted") == ""


def test_load_override_loads_what_pyvfio_defines(machine: PrivateHost, driverctl: Path) -> None:
    machine.pyvfio("define", *NAMES)
    machine.run(driverctl, "load-override", f"pci/{FUNCTION}")
    machine.run(driverctl, "-b", "css", "load-override", SUBCHANNEL)
    assert machine.read(f"/sys/bus/pci/devices/{FUNCTION}/driver_override") == "vfio-pci\n"
    assert machine.read(f"/sys/bus/css/devices/{SUBCHANNEL}/driver_override") == "vfio_ccw\n"
    assert machine.read("/sys/bus/pci/drivers/nvme/unbind") == f"{FUNCTION}\n"
    assert machine.read("/sys/bus/css/drivers_probe") == f"{SUBCHANNEL}\n"


def test_none_keeps_every_driver_away_for_both(machine: PrivateHost, driverctl: Path) -> None:
    machine.pyvfio("define", FUNCTION, "--to", "none")
    machine.run(driverctl, "load-override", FUNCTION)
    assert machine.read(f"/sys/bus/pci/devices/{FUNCTION}/driver_override") == "none\n"
    assert machine.read("/sys/bus/pci/drivers_probe") == ""


def test_pyvfio_lists_what_driverctl_saves(machine: PrivateHost, driverctl: Path) -> None:
    machine.run(driverctl, "set-override", FUNCTION, "vfio-pci")
    machine.run(driverctl, "-b", "css", "set-override", SUBCHANNEL, "vfio_ccw")
    saved = {name: machine.read(f"/etc/driverctl.d/{name}") for name in machine.names("/etc/driverctl.d")}
    for name in NAMES:
        assert state(machine, name)["persistent"] == ("vfio-pci" if name.startswith("pci") else "vfio_ccw")
    machine.pyvfio("undefine", *NAMES)
    assert machine.names("/etc/driverctl.d") == []
    machine.pyvfio("define", *NAMES)
    assert saved == {name: machine.read(f"/etc/driverctl.d/{name}") for name in machine.names("/etc/driverctl.d")}


def test_unset_override_removes_what_pyvfio_defines(machine: PrivateHost, driverctl: Path) -> None:
    machine.pyvfio("define", FUNCTION)
    machine.run(driverctl, "unset-override", FUNCTION)
    assert machine.names("/etc/driverctl.d") == []
    assert state(machine, NAMES[0]) == {}


def test_an_empty_file_is_no_override_for_driverctl(machine: PrivateHost, driverctl: Path) -> None:
    machine.write(f"/etc/driverctl.d/pci-{FUNCTION}", "")
    machine.run(driverctl, "load-override", FUNCTION, code=1)
    assert state(machine, NAMES[0])["agreement"] == "malformed"
