"""Ports whose messages nobody can have interrupt by their pin (``pcie_init_service_irqs`` in ``portdrv.c``, 6.12)."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

import pytest
from error_rig import CONTAINED, CONTAINING, FIRST, PORT, Errors
from pci_fixture import BUS
from slot_rig import FUNCTION, SlotRig

from pyvfio.pci.aer import Severity
from pyvfio_backends.software.linux.pci_msi import PciMsi
from pyvfio_backends.software.linux.vfs import fail

DEVICES = f"{BUS}/devices"


@pytest.fixture(autouse=True)
def no_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody gets a message, as where the interrupt controller has no room."""

    def refuse(msi: PciMsi, *wanted: Any, **more: Any) -> int:
        raise fail(errno.ENOSPC)

    monkeypatch.setattr(PciMsi, "allocate", refuse)


@pytest.fixture
def made() -> Iterator[Errors]:
    errors = Errors()
    yield errors
    errors.host.close()


def line(made: Errors, name: str) -> list[str]:
    """Its count and who handles it, of the line that handlers with this name are on; the first such line."""
    found = [text.split() for text in made.text("/proc/interrupts").splitlines() if name in text]
    return found[0] if found else []


def test_errors_come_by_the_pin(made: Errors) -> None:
    at = line(made, "aerdrv")
    assert "IR-IO-APIC" in at
    made.inject(FIRST, "COMP_TIME")
    assert made.counters(FIRST, Severity.NONFATAL) == {"CmpltTO": 1}
    assert int(line(made, "aerdrv")[1]) == int(at[1]) + 1
    assert not made.hardware(PORT).pin.asserted


def test_a_pin_that_is_off_tells_nothing(made: Errors) -> None:
    """The interrupt disable bit of the port's command register holds it back."""
    made.device(PORT).set_intx(False)
    made.inject(FIRST, "COMP_TIME")
    assert made.messages(PORT) == (0, 0, 0)
    with made.machine.lock:
        made.device(PORT).set_intx(True)
        made.machine.clock.settle()
    assert made.messages(PORT) == (0, 1, 0)


def test_containment_comes_by_the_pin(made: Errors) -> None:
    made.inject(CONTAINED, "DLP")
    assert any("containment event" in text for text in made.log)
    assert any("device recovery successful" in text for text in made.log)
    assert not made.hardware(CONTAINING).pin.asserted
    assert made.attr(CONTAINED, "vendor") == "0x1af4"


def test_without_its_driver_the_line_is_left(made: Errors) -> None:
    before = made.text("/proc/interrupts").count("aerdrv")
    made.write(f"{BUS}/drivers/pcieport/unbind", PORT)
    assert made.text("/proc/interrupts").count("aerdrv") == before - 1
    made.inject(FIRST, "COMP_TIME")
    assert made.messages(PORT) == (0, 0, 0)
    made.write(f"{BUS}/drivers/pcieport/bind", PORT)
    made.inject(FIRST, "UNX_COMP")
    assert made.messages(PORT) == (0, 1, 0)


def test_cards_come_and_go_by_the_pin() -> None:
    rig = SlotRig()
    rig.plug("e1000e", press=True)
    rig.machine.clock.advance(8)
    assert FUNCTION.rsplit("/", 1)[1] in rig.host.listdir(DEVICES)
    rig.slots.press("port")
    rig.machine.clock.advance(8)
    assert FUNCTION.rsplit("/", 1)[1] not in rig.host.listdir(DEVICES)
    assert not any(function.pin.asserted for _, function in rig.machine.pcie.functions())
    rig.host.close()
