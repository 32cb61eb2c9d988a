"""DMA of a function in the program's memory: what is refused, then the bell's copies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pci_fixture import APERTURE, BELL, MSIX, Device, Pci, errno_of

from pyvfio.abi import vfio as abi
from pyvfio.pci import bell
from pyvfio.pci.bell import BellCommand, BellStatus
from pyvfio.process import AnonymousMemory, EventFd
from pyvfio_backends.software.description import FunctionSpec

PAGE = 0x1000


@pytest.fixture
def device(pci: Pci) -> Iterator[Device]:
    opened = pci.open(BELL)
    opened.write(b"\6\0", 4)
    yield opened
    opened.close()


def ring(device: Device, command: BellCommand, source: int, target: int, count: int) -> BellStatus:
    for register, value, length in (
        (bell.SOURCE, source, 8),
        (bell.TARGET, target, 8),
        (bell.COUNT, count, 4),
        (bell.COMMAND, command, 4),
    ):
        device.write(int(value).to_bytes(length, "little"), register, bell.BAR)
    return BellStatus(int.from_bytes(device.read(4, bell.STATUS, bell.BAR), "little"))


def test_nothing_is_reached_without_a_mapping(device: Device) -> None:
    """The machine puts the function into the error state, and Linux gives it up (test_zpci_errors in the contract)."""
    status = ring(device, BellCommand.COPY, APERTURE, APERTURE + PAGE, 16)
    assert status == 0xFFFFFFFF
    assert errno_of(device.read, 4, 4) == "EIO"


def test_a_copy_that_leaves_the_mapping_moves_nothing(device: Device, dma_memory: AnonymousMemory) -> None:
    device.map(APERTURE, dma_memory.address, 2 * PAGE)
    dma_memory.view[:PAGE] = b"x" * PAGE
    assert ring(device, BellCommand.COPY, APERTURE, APERTURE + PAGE + 8, PAGE) & BellStatus.ERROR
    assert not any(dma_memory.view[PAGE : 2 * PAGE])


def test_a_function_that_is_no_bus_master_reaches_nothing(device: Device, dma_memory: AnonymousMemory) -> None:
    device.map(APERTURE, dma_memory.address, PAGE)
    device.write(b"\2\0", 4)
    assert ring(device, BellCommand.CHECK, APERTURE, 0, 16) & BellStatus.MASTER_OFF


def test_the_bell_copies_and_signals(device: Device, dma_memory: AnonymousMemory) -> None:
    device.map(APERTURE, dma_memory.address, 2 * PAGE)
    dma_memory.view[:16] = bytes(range(16))
    with EventFd() as event:
        device.eventfds(MSIX, 0, event.fileno())
        device.write(bytes(4), bell.VECTOR, bell.BAR)
        assert ring(device, BellCommand.COPY, APERTURE, APERTURE + PAGE, 16) == BellStatus.DONE
        assert bytes(dma_memory.view[PAGE : PAGE + 16]) == bytes(range(16))
        assert event.read() == 1


def test_mappings_outlive_a_reset_but_not_the_device(pci: Pci, device: Device, dma_memory: AnonymousMemory) -> None:
    device.map(APERTURE, dma_memory.address, PAGE)
    pci.host.ioctl(device.fd, abi.VFIO_DEVICE_RESET)
    device.write(b"\x5a\0\0\0", bell.PATTERN, bell.BAR)
    assert ring(device, BellCommand.FILL, 0, APERTURE, 4) == BellStatus.DONE
    assert bytes(dma_memory.view[:5]) == b"ZZZZ\0"
    function = pci.machine.zpci.function(0x60)
    assert function.dma is not None


def test_a_delayed_bell_rings_when_the_clock_moves(dma_memory: AnonymousMemory) -> None:
    lab = Pci(FunctionSpec(0x99, 0x99, "virtio-bell", options={"delay": 2.0}))
    device = lab.open("0099:00:00.0")
    device.write(b"\6\0", 4)
    device.map(APERTURE, dma_memory.address, PAGE)
    assert ring(device, BellCommand.FILL, 0, APERTURE, 4) == 0
    lab.machine.clock.advance(1.5)
    assert not int.from_bytes(device.read(4, bell.STATUS, bell.BAR), "little")
    lab.machine.clock.advance(1.0)
    assert BellStatus(int.from_bytes(device.read(4, bell.STATUS, bell.BAR), "little")) == BellStatus.DONE
    lab.host.close()
