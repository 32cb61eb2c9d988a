"""The ways into a device, as `pyvfio show` prints them."""

from __future__ import annotations

import json

import pytest

from pyvfio.backend import open_backend
from pyvfio.host import Host
from pyvfio_backends.software.description import FunctionSpec, MachineSpec
from pyvfio_tools import options
from pyvfio_tools.cli import run


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(["show", *words]) == 0
    return capsys.readouterr().out


def ways(capsys: pytest.CaptureFixture[str], device: str, machine: str) -> dict[str, dict[str, object]]:
    found = json.loads(shown(capsys, device, "--machine", machine, "--json"))["ways_in"]
    return {way["way"]: way for way in found}


def test_without_a_vfio_driver(capsys: pytest.CaptureFixture[str]) -> None:
    found = ways(capsys, "0011:00:00.0", "z15-lpar")
    assert [found[name]["obstacle"] for name in ("iommufd", "group", "noiommu")] == [
        "no-vfio-driver",
        "no-vfio-driver",
        "has-iommu",
    ]
    assert found["group"]["next_step"] == "pyvfio bind 0011:00:00.0"
    assert "iommufd: no, no VFIO driver has 0011:00:00.0" in shown(capsys, "0011:00:00.0", "--machine", "z15-lpar")


def test_without_an_iommu(capsys: pytest.CaptureFixture[str]) -> None:
    found = ways(capsys, "0000:00:02.0", "x86-no-iommu")
    assert (found["group"]["obstacle"], found["noiommu"]["obstacle"]) == ("no-group", "not-enabled")
    assert "access to all memory" in str(found["group"]["next_step"])


def test_of_a_function_that_vfio_has(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for iommufd, reason in ((True, ""), (False, "no-device-nodes")):
        spec = MachineSpec("m", functions=[FunctionSpec(0x60, 0x60, "virtio-bell", "vfio-pci")], iommufd=iommufd)
        with open_backend("software", machine=spec) as backend, monkeypatch.context() as patch:
            patch.setattr(options, "Host", lambda *names, one=backend, **machine: Host(one))
            text = shown(capsys, "0060:00:00.0")
            found = {way["way"]: way for way in json.loads(shown(capsys, "0060:00:00.0", "--json"))["ways_in"]}
        assert (found["iommufd"]["obstacle"] or "", found["group"]["open"]) == (reason, True)
        assert "group: yes, /dev/vfio/0 and /dev/vfio/vfio" in text
        assert ("CONFIG_VFIO_DEVICE_CDEV" in text) == (not iommufd)


def test_a_channel_device_of_the_hosts_driver(capsys: pytest.CaptureFixture[str]) -> None:
    assert ways(capsys, "0.0.013f", "z15-lpar") == {}
    assert "ways in" not in shown(capsys, "0.0.013f", "--machine", "z15-lpar")
