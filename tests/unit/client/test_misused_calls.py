"""Wrong arguments of the library's calls on a PCI function: an error of its own, and everything is as before."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterator

import pytest

import pyvfio
from pyvfio.abi.vfio import PciIrq
from pyvfio.drivers import Edu, Nvme
from pyvfio.errors import Misuse, NotAvailable
from pyvfio.vfio import Device

EDU, DISK = "0000:00:02.0", "0000:01:00.0"
PAGE = 1 << 12
BLOCK = 1 << 9


@pytest.fixture
def host() -> Iterator[pyvfio.Host]:
    with pyvfio.Host("software", machine="q35-switch") as opened:
        for address in (EDU, DISK):
            pyvfio.bind(opened.device(address))
        yield opened


@pytest.fixture(params=["group", "iommufd"])
def device(request: pytest.FixtureRequest, host: pyvfio.Host) -> Iterator[Device]:
    with pyvfio.open_device(host, EDU, way=request.param) as opened:
        yield opened


@pytest.mark.parametrize("value", [-1, 1 << 16])
def test_a_value_that_a_register_of_configuration_space_has_no_room_for(device: Device, value: int) -> None:
    before = device.config.command
    with pytest.raises(Misuse, match="no number of 16 bits, which the register at 0x4 has"):
        device.config.write_u16(4, value)
    assert device.config.command == before


@pytest.mark.parametrize(
    "call",
    [
        lambda device: device.space.buffer(PAGE, iova=-PAGE),
        lambda device: device.space.buffer(PAGE, iova=1 << 64),
        lambda device: device.space.map(-PAGE, PAGE),
        lambda device: device.space.map(PAGE, 1 << 64),
        lambda device: device.space.unmap(-PAGE, PAGE),
        lambda device: device.space.unmap(0, 1 << 64),
        lambda device: device.space.buffer(PAGE, alignment=3),
        lambda device: device.space.buffer(PAGE, alignment=0),
        lambda device: device.space.buffer(PAGE, alignment=-PAGE),
    ],
)
def test_addresses_that_cannot_be(device: Device, call: Callable[[Device], object]) -> None:
    with pytest.raises(Misuse):
        call(device)
    assert device.space.mappings() == []
    with device.space.buffer(PAGE) as memory:  # the allocator gave nothing away
        assert memory.iova == PAGE


@pytest.mark.parametrize("length", [1 << 62, 1 << 70])
def test_more_memory_than_there_is(device: Device, length: int) -> None:
    with pytest.raises(NotAvailable, match="this process gets no") as caught:
        device.space.buffer(length)
    assert caught.value.errno == errno.ENOMEM
    assert device.space.mappings() == []


def test_a_buffer_at_a_multiple(device: Device) -> None:
    with device.space.buffer(PAGE), device.space.buffer(PAGE, alignment=1 << 20) as memory:
        assert memory.iova == 1 << 20


def test_a_timeout_that_is_not_a_number(device: Device) -> None:
    """``poll`` takes it for ever."""
    with device.irq(PciIrq.MSI) as irq:
        irq.enable()
        with pytest.raises(Misuse, match="not a number"):
            irq.wait(math.nan)


def test_a_second_driver_leaves_the_first_alone(host: pyvfio.Host, device: Device) -> None:
    with Edu(device) as first:
        with pytest.raises(Misuse, match="has it already"), Edu(device):
            pass
        with pytest.raises(Misuse, match="has it already"):
            first.start()
        assert first.factorial(5) == 120
    with Edu(device) as second:
        assert second.factorial(5) == 120
    with pyvfio.open_device(host, DISK) as disk, Nvme(disk) as first_disk:
        with pytest.raises(Misuse, match="has it already"), Nvme(disk, interrupts="poll"):
            pass
        with pytest.raises(Misuse, match="has it already"):
            first_disk.start()
        first_disk.write(0, bytes(BLOCK))
        assert first_disk.read(0) == bytes(BLOCK)


@pytest.mark.parametrize("options", [{"queues": 1 << 16}, {"timeout": 0}, {"timeout": -1}, {"timeout": math.nan}])
def test_options_of_a_driver_that_cannot_be(host: pyvfio.Host, options: dict[str, float]) -> None:
    with pyvfio.open_device(host, DISK) as disk:
        assert Nvme(disk).namespaces == {}
    with pyvfio.open_device(host, DISK) as disk, pytest.raises(Misuse):
        Nvme(disk, **options)  # type: ignore[arg-type]
    if "timeout" in options:
        with pyvfio.open_device(host, EDU) as device, pytest.raises(Misuse):
            Edu(device, timeout=options["timeout"])
