"""The services of PCI Express ports as devices, as the x86 lab's kernel showed them in ``/sys/bus/pci_express``."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from error_rig import CONTAINED, CONTAINING, FIRST, Errors
from error_rig import PORT as ERRING
from pci_fixture import BUS
from pcie_fixture import Pcie
from slot_rig import FUNCTION, SLOT, SlotRig

from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.kernel_log import kernel_log
from pyvfio_backends.software.linux.pciehp import SlotPhase
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
    events = told(lab)
    driven = [(action, f"pcie{service}") for service in ("001", "002", "004") for action in ("add", "bind")]
    assert events == [*driven, ("add", "pcie010")]
    lab.write(f"{BUS}/devices/0000:00:0c.0/remove", "1")
    assert not [name for name in lab.host.listdir(f"{EXPRESS}/devices") if "00:0c.0" in name]


def told(lab: Pcie) -> list[tuple[str, str]]:
    """What services came, went and were bound since the last look."""
    return [
        (event.action, event.devpath.rsplit(":", 1)[-1]) for event in lab.seen() if event.subsystem == "pci_express"
    ]


def lines(lab: Pcie) -> dict[str, str]:
    """``/proc/interrupts`` without counts: who handles an interrupt, by its number."""
    found = (text.partition(":") for text in lab.text("/proc/interrupts").splitlines()[1:])
    return {number.strip(): " ".join(text.split()[1:]) for number, _, text in found}


def listening(lab: Pcie, port: str) -> tuple[bool, bool, bool]:
    """Whether a port interrupts for power management events, errors and its slot."""
    device = lab.device(port)
    assert device.aer is not None
    events = device.read_config(device.express + express.PCI_EXP_RTCTL, 2) & express.PCI_EXP_RTCTL_PMEIE
    errors = device.aer.read(extended.PCI_ERR_ROOT_COMMAND)
    slot = device.read_config(device.express + express.PCI_EXP_SLTCTL, 2) & express.PCI_EXP_SLTCTL_HPIE
    return bool(events), bool(errors), bool(slot)


PORT = "0000:00:0c.0"


@pytest.mark.parametrize(
    ("driver", "service", "name", "off"),
    [("aer", "002", "aerdrv", 1), ("pciehp", "004", "pciehp", 2), ("pcie_pme", "001", "PCIe PME", 0)],
)
def test_a_service_ends_and_begins_with_its_driver(lab: Pcie, driver: str, service: str, name: str, off: int) -> None:
    """``aer_remove``, ``pciehp_remove``, ``pcie_pme_remove`` (``drivers/pci/pcie``, ``drivers/pci/hotplug``, 6.12)."""
    numbers = [str(number) for number in lab.device(PORT).msi.irqs.values()]
    before, heard = lines(lab), listening(lab, PORT)
    lab.write(f"{EXPRESS}/drivers/{driver}/unbind", f"{PORT}:pcie{service}")
    assert f"{PORT}:pcie{service}" not in bound(lab, driver)
    assert not any(name in lines(lab).get(number, "") for number in numbers)
    assert listening(lab, PORT) == tuple(heard[one] and one != off for one in range(3))
    assert [str(number) for number in lab.device(PORT).msi.irqs.values()] == numbers
    assert told(lab) == [("unbind", f"pcie{service}")]
    lab.write(f"{EXPRESS}/drivers/{driver}/bind", f"{PORT}:pcie{service}")
    assert lines(lab) == before
    assert listening(lab, PORT) == heard
    assert told(lab) == [("bind", f"pcie{service}")]


def test_the_slot_goes_with_pciehp_and_its_card_stays(lab: Pcie) -> None:
    names = {lab.text(f"{BUS}/slots/{name}/address").strip(): name for name in lab.host.listdir(f"{BUS}/slots")}
    port, slot = IOH[0], f"{BUS}/slots/{names['0000:01:00']}"
    lab.write(f"{EXPRESS}/drivers/pciehp/unbind", f"{port}:pcie004")
    assert slot.rsplit("/", 1)[1] not in lab.host.listdir(f"{BUS}/slots")
    assert "0000:01:00.0" in lab.host.listdir(f"{BUS}/devices")
    lab.write(f"{EXPRESS}/drivers/pciehp/bind", f"{port}:pcie004")
    assert lab.text(f"{slot}/power").strip() == "1"
    lab.machine.clock.advance(8)
    assert "0000:01:00.0" in lab.host.listdir(f"{BUS}/devices")


def test_a_port_whose_service_is_free_lets_go_all_the_same(lab: Pcie) -> None:
    lab.write(f"{EXPRESS}/drivers/aer/unbind", f"{PORT}:pcie002")
    lab.write(f"{BUS}/drivers/pcieport/unbind", PORT)
    assert not lab.device(PORT).msi.irqs
    lab.write(f"{BUS}/drivers/pcieport/bind", PORT)
    assert f"{PORT}:pcie002" in bound(lab, "aer")


def test_errors_are_told_again_to_who_comes_back() -> None:
    """Without ``aer`` errors stay in the registers of root port and function; what is there is forgotten
    (``aer_enable_rootport``).
    """
    made = Errors()
    made.write(f"{EXPRESS}/drivers/aer/unbind", f"{ERRING}:pcie002")
    made.inject(FIRST, "COMP_TIME")
    assert made.messages(ERRING) == (0, 0, 0)
    assert made.register(ERRING, extended.PCI_ERR_ROOT_STATUS) & extended.PCI_ERR_ROOT_UNCOR_RCV
    made.write(f"{EXPRESS}/drivers/aer/bind", f"{ERRING}:pcie002")
    assert not made.register(ERRING, extended.PCI_ERR_ROOT_STATUS) & extended.PCI_ERR_ROOT_UNCOR_RCV
    assert not made.register(FIRST, extended.PCI_ERR_UNCOR_STATUS)
    assert made.messages(ERRING) == (0, 0, 0)
    made.inject(FIRST, "UNX_COMP")
    assert made.messages(ERRING) == (0, 1, 0)
    made.host.close()


def test_nothing_is_contained_without_dpc() -> None:
    """``dpc_remove`` (``dpc.c``, 6.12) disables triggers; ``aer`` recovers then."""
    made = Errors()
    made.write(f"{EXPRESS}/drivers/dpc/unbind", f"{CONTAINING}:pcie008")
    made.inject(CONTAINED, "DLP")
    assert not any("containment event" in text for text in made.log)
    assert made.messages(CONTAINING) == (0, 0, 1)
    made.write(f"{EXPRESS}/drivers/dpc/bind", f"{CONTAINING}:pcie008")
    assert any("DPC: enabled with IRQ" in text for text in made.log)
    made.inject(CONTAINED, "DLP")
    assert any("containment event" in text for text in made.log)
    made.host.close()


def test_a_press_ends_with_the_service() -> None:
    """``pciehp_release_ctrl`` (``pciehp_hpc.c``, 6.12) cancels what was to be done after five seconds."""
    rig = SlotRig()
    rig.on()
    rig.slots.press("port")
    rig.pass_time(1)
    assert rig.phase is SlotPhase.BLINKING_OFF
    rig.write("unbind", "0000:00:01.0:pcie004", path=f"{EXPRESS}/drivers/pciehp")
    assert not rig.there(SLOT)
    rig.pass_time(10)
    assert rig.there(FUNCTION)
    rig.slots.press("port")
    rig.pass_time(10)
    assert rig.there(FUNCTION)
    rig.write("bind", "0000:00:01.0:pcie004", path=f"{EXPRESS}/drivers/pciehp")
    assert rig.phase is SlotPhase.ON
    rig.slots.press("port")
    rig.pass_time(10)
    assert not rig.there(FUNCTION)
    rig.close()


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
