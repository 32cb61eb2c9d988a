"""Devices that are removed and found again: what the x86 lab's kernel did (``fixtures/golden/x86/rescan.json``).

Each device was removed by its file and came back by a rescan, one after the other.  What comes back is given new
addresses; on a root bus those are the lowest that lead there, and no longer firmware's.
"""

from __future__ import annotations

import json
import os
from typing import Any

from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.hardware.pcie.bridge import Bridge
from pyvfio_backends.software.hardware.pcie.endpoints import ENDPOINTS
from pyvfio_backends.software.hardware.pcie.port import DownstreamPort
from pyvfio_backends.software.hardware.pcie.request import Request
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.loader import load_machine, machine_files
from pyvfio_backends.software.machine import Machine
from pyvfio_fixtures import golden

STEPS: list[dict[str, Any]] = json.loads(golden("x86/rescan.json").read_text(encoding="utf-8"))["steps"]
DEVICES = "/sys/bus/pci/devices"
RESCAN = "/sys/bus/pci/rescan"


class Lab:
    """The machine `lab-x86`."""

    def __init__(self) -> None:
        self.host = SoftwareBackend(Machine(load_machine(machine_files()["lab-x86"])))
        self.complex = self.host.machine.pcie

    def read(self, path: str) -> str:
        fd = self.host.open(path, os.O_RDONLY)
        try:
            return self.host.read(fd, 1 << 16).decode()
        finally:
            self.host.close(fd)

    def write(self, path: str, data: bytes) -> None:
        fd = self.host.open(path, os.O_WRONLY)
        try:
            self.host.write(fd, data)
        finally:
            self.host.close(fd)

    def resources(self) -> dict[str, list[str]]:
        """The lines of ``resource`` of every device."""
        return {
            name: [
                " ".join(hex(int(word, 16)) for word in line.split())
                for line in self.read(f"{DEVICES}/{name}/resource").splitlines()
            ]
            for name in self.host.listdir(DEVICES)
        }


def test_each_device_comes_back_where_the_kernel_put_it() -> None:
    lab = Lab()
    with lab.host:
        before = lab.resources()
        for step in STEPS:
            lab.write(f"{DEVICES}/{step['device']}/remove", b"1")
            assert step["device"] not in lab.host.listdir(DEVICES)
            lab.write(RESCAN, b"1")
            after = lab.resources()
            assert sorted(after) == sorted(before)
            changed = {
                name: {str(n): line for n, line in enumerate(after[name]) if line != before[name][n]}
                for name in after
                if after[name] != before[name]
            }
            assert (step["device"], changed) == (step["device"], step["resource"])
            before = after


def test_what_comes_back_answers_at_its_new_address() -> None:
    """A register of edu behind a port is reached through the windows that Linux wrote (``pci_setup_bridge``)."""
    lab = Lab()
    with lab.host:
        lab.write(f"{DEVICES}/0000:00:08.1/remove", b"1")
        lab.write(RESCAN, b"1")
        start = int(lab.resources()["0000:02:00.0"][0].split()[0], 16)
        lab.write(f"{DEVICES}/0000:02:00.0/enable", b"1")
        assert start == 0x40000000
        port, card = lab.complex.function(0, 0x41), lab.complex.function(0, 0x200)
        assert isinstance(port, Bridge)
        assert card is not None
        assert port.claims(Request.read(start, 4))
        assert [(one.first, one.target) for one in card.decoders()] == [(start, card)]


def test_a_rescan_of_one_bus_finds_only_what_is_there() -> None:
    lab = Lab()
    with lab.host:
        for name in ("0000:01:00.0", "0000:02:00.0"):
            lab.write(f"{DEVICES}/{name}/remove", b"1")
        lab.write("/sys/class/pci_bus/0000:01/rescan", b"1")
        assert {"0000:01:00.0", "0000:02:00.0"} & set(lab.host.listdir(DEVICES)) == {"0000:01:00.0"}
        lab.write(f"{DEVICES}/0000:00:08.1/rescan", b"1")  # that of a device is the bus it is on, and all behind
        assert "0000:02:00.0" in lab.host.listdir(DEVICES)


def test_what_does_not_fit_has_no_address() -> None:
    """An endpoint that finds its window full is there, without resources (``reset_resource``)."""
    lab = Lab()
    with lab.host:
        lab.write(f"{DEVICES}/0000:02:00.0/remove", b"1")
        port = lab.host.machine.kernel.buses["pci"].devices["0000:00:08.1"]
        assert isinstance(port, PciDevice)
        port.resources[14].end = port.resources[14].start + 0xFFF
        lab.write(RESCAN, b"1")
        assert lab.resources()["0000:02:00.0"][0] == "0x0 0x0 0x0"


def test_at_the_other_end_of_a_link_only_device_0_is_looked_for() -> None:
    """``only_one_child`` in ``drivers/pci/probe.c`` (6.12); and a port without ARI passes on requests to that alone.

    Hardware cannot have this, and machine files are refused it (`test_what_a_machine_file_cannot_have`).
    """
    lab = Lab()
    with lab.host:
        ports = [one for _, one in lab.complex.functions() if isinstance(one, DownstreamPort) and one.link_up]
        port = next(one for one in ports if not one.ari_forwarding)
        before = set(lab.host.listdir(DEVICES))
        stranger = port.plug(ENDPOINTS["e1000e"].build(), device=1)
        assert lab.complex.function(0, stranger.rid) is None
        lab.write(RESCAN, b"1")
        assert set(lab.host.listdir(DEVICES)) == before
