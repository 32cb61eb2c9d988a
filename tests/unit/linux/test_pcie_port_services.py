"""The services of PCI Express ports as devices, as the x86 lab's kernel showed them in ``/sys/bus/pci_express``."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from pci_fixture import BUS
from pcie_fixture import Pcie

from pyvfio.abi import pci_regs as regs
from pyvfio.errors import NotModelled
from pyvfio_backends.software.linux.kernel_log import kernel_log
from pyvfio_fixtures import golden

EXPRESS = "/sys/bus/pci_express"
IOH = ["0000:00:08.0", "0000:00:08.1"]
ROOTS = [f"0000:00:{place}" for place in ("09.0", "09.1", "0a.0", "0b.0", "0c.0", "0d.0", "0f.0")] + ["0000:40:00.0"]
DOWN = ["0000:06:00.0", "0000:06:01.0"]


@pytest.fixture
def lab() -> Iterator[Pcie]:
    made = Pcie()
    made.seen()
    yield made
    made.host.close()


def bound(lab: Pcie, driver: str) -> set[str]:
    return {name for name in lab.host.listdir(f"{EXPRESS}/drivers/{driver}") if ":" in name}


def test_each_driver_has_the_services_of_its_kind(lab: Pcie) -> None:
    assert sorted(lab.host.listdir(f"{EXPRESS}/drivers")) == ["aer", "dpc", "pcie_pme", "pciehp"]
    assert bound(lab, "pcie_pme") == {f"{port}:pcie001" for port in (*IOH, *ROOTS)}
    assert bound(lab, "aer") == {f"{port}:pcie002" for port in (*IOH, *ROOTS)}
    assert bound(lab, "pciehp") == {f"{port}:pcie004" for port in (*IOH, *ROOTS)} | {f"{d}:pcie204" for d in DOWN}
    assert bound(lab, "dpc") == set()
    every = set(lab.host.listdir(f"{EXPRESS}/devices"))
    # the link of ioh3420 and of the switch tells of no change of its bandwidth; no driver wants those that do
    assert {name for name in every if name.endswith("pcie010")} == {f"{port}:pcie010" for port in ROOTS}


def test_what_a_service_shows(lab: Pcie) -> None:
    path = f"{EXPRESS}/devices/0000:00:09.0:pcie001"
    assert lab.host.readlink(path) == "../../../devices/pci0000:00/0000:00:09.0/0000:00:09.0:pcie001"
    assert sorted(lab.host.listdir(path)) == ["driver", "power", "subsystem", "uevent"]
    assert lab.host.listdir(f"{path}/power") == []
    assert lab.text(f"{path}/uevent") == "DRIVER=pcie_pme\n"
    assert sorted(lab.host.listdir(f"{EXPRESS}/devices/0000:00:09.0:pcie010")) == ["power", "subsystem", "uevent"]


def test_they_go_and_come_with_their_port(lab: Pcie) -> None:
    lab.write(f"{BUS}/drivers/pcieport/unbind", "0000:00:0c.0")
    assert not [name for name in lab.host.listdir(f"{EXPRESS}/devices") if "00:0c.0" in name]
    lab.seen()
    lab.write(f"{BUS}/drivers/pcieport/bind", "0000:00:0c.0")
    events = [
        (event.action, event.devpath.rsplit(":", 1)[-1]) for event in lab.seen() if event.subsystem == "pci_express"
    ]
    driven = [(action, f"pcie{service}") for service in ("001", "002", "004") for action in ("add", "bind")]
    assert events == [*driven, ("add", "pcie010")]
    lab.write(f"{BUS}/devices/0000:00:0c.0/remove", "1")
    assert not [name for name in lab.host.listdir(f"{EXPRESS}/devices") if "00:0c.0" in name]


def test_a_service_keeps_its_driver(lab: Pcie) -> None:
    with pytest.raises(NotModelled, match="service of a PCI Express port"):
        lab.write(f"{EXPRESS}/drivers/aer/unbind", "0000:00:09.0:pcie002")


def test_a_port_without_a_service_is_enabled_and_not_bus_master(lab: Pcie) -> None:
    """``pcie_port_device_register`` (``portdrv.c``, 6.12) ends there.  Firmware makes all bridges bus masters, until a
    driver lets go of one.
    """
    for port, masters in (("0000:05:00.0", False), ("0000:06:00.0", True)):  # upstream; downstream with a slot
        lab.write(f"{BUS}/drivers/pcieport/unbind", port)
        assert not lab.device(port).command & regs.PCI_COMMAND_MASTER
        lab.write(f"{BUS}/drivers/pcieport/bind", port)
        assert lab.device(port).enable_count == 1
        assert bool(lab.device(port).command & regs.PCI_COMMAND_MASTER) is masters


def test_what_the_kernel_says_of_services_at_boot(lab: Pcie) -> None:
    """``pme.c``, ``aer.c`` and ``dpc.c`` of ``drivers/pci/pcie`` (6.12), with the numbers in ``/proc/interrupts``."""
    said = [text for text in kernel_log(lab.kernel).lines if "with IRQ" in text]
    assert len(said) == 2 * len((*IOH, *ROOTS))
    for text in said:
        name, number = text.split()[1].removesuffix(":"), int(text.rsplit(" ", 1)[1])
        kind = "PCIe PME" if "PME: Signaling" in text else "aerdrv"
        (line,) = [one for one in lab.text("/proc/interrupts").splitlines() if one.lstrip().startswith(f"{number}:")]
        assert kind in line, text
        assert number in lab.device(name).msi.irqs.values()


def test_what_a_kernel_said_at_boot_is_said_here(lab: Pcie) -> None:
    """In its order and with its numbers, as the recording has it (``fixtures/golden/x86``), whose guest has some ports
    more, before that of the second root bus.
    """
    recorded = json.loads(golden("x86/port_services.json").read_text(encoding="utf-8"))["lines"]
    ports = {*IOH, *ROOTS, *DOWN}
    expected = [text for text in recorded if text.split()[1].removesuffix(":") in ports]
    said = [text for text in kernel_log(lab.kernel).lines if text.startswith("pcieport")]
    last = f"pcieport {ROOTS[-1]}: "
    assert [text for text in said if last not in text] == [text for text in expected if last not in text]
    assert [text.rstrip("0123456789") for text in said] == [text.rstrip("0123456789") for text in expected]
