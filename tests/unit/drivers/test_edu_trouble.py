"""The edu driver after something went wrong: it does not take what was left for its answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from q35_card import device_inside, host_of

import pyvfio
from pyvfio.drivers import Edu
from pyvfio.errors import Timeout
from pyvfio.pci import edu as regs
from pyvfio.pci.edu import EduInterrupt
from pyvfio.vfio import Device
from pyvfio_backends.software.hardware.devices.edu import Edu as Hardware

ADDRESS = "0000:00:02.0"


@pytest.fixture
def host() -> Iterator[pyvfio.Host]:
    with host_of(ADDRESS) as opened:
        yield opened


@pytest.fixture
def device(host: pyvfio.Host) -> Iterator[Device]:
    with pyvfio.open_device(host, ADDRESS) as opened:
        yield opened


@pytest.fixture
def hardware(host: pyvfio.Host) -> Hardware:
    """The edu inside the machine."""
    return device_inside(host, ADDRESS, regs.BAR, Hardware)


class Slow:
    """Work that is done when somebody has looked a few times."""

    def __init__(self, hardware: Hardware, looks: int) -> None:
        self.left = looks
        self.work: list[Callable[[], None]] = []
        self._read = hardware.read
        hardware._schedule = lambda delay, work: self.work.append(work)
        hardware.read = self.read  # type: ignore[method-assign]

    def read(self, offset: int, length: int) -> int:
        if offset == regs.STATUS and self.work:
            self.left -= 1
            if self.left <= 0:
                self.work.pop()()
        return self._read(offset, length)


@pytest.mark.parametrize("kind", ["msi", "intx", "poll"])
def test_the_interrupt_of_another_number_is_not_the_answer(device: Device, hardware: Hardware, kind: str) -> None:
    with Edu(device, interrupts=kind) as edu:
        edu.work._write(regs.RAISE, EduInterrupt.FACTORIAL)  # of a number that nobody waited for
        Slow(hardware, 3)
        assert edu.factorial(10) == 3628800


def test_a_number_that_takes_too_long(device: Device, hardware: Hardware) -> None:
    with Edu(device, timeout=0.1) as edu:
        slow = Slow(hardware, 1 << 30)
        with pytest.raises(Timeout, match="factorial of 5"):
            edu.factorial(5)
        slow.left = 1
        assert edu.factorial(6) == 720
