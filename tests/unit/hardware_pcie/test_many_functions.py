"""A machine of 4,096 functions is set up with a bounded number of configuration requests for each."""

from __future__ import annotations

from pcie_rig import MEMORY32, Host, endpoint

from pyvfio_backends.software.hardware.pcie.firmware import Apertures, Firmware
from pyvfio_backends.software.hardware.pcie.models import ioh3420
from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex

FUNCTIONS = 4096


class Counting(RootComplex):
    """Counts configuration requests."""

    requests = 0

    def config_read(self, segment: int, rid: int, offset: int, length: int) -> int:
        self.requests += 1
        return super().config_read(segment, rid, offset, length)

    def config_write(self, segment: int, rid: int, offset: int, length: int, value: int) -> None:
        self.requests += 1
        super().config_write(segment, rid, offset, length, value)


def test_all_are_found_placed_and_reached() -> None:
    complex_ = Counting(Host())
    ports, left = 0, FUNCTIONS
    while left:
        bus = complex_.root_buses[-1] if ports % 240 else complex_.add_root_bus(ports // 240)
        port = bus.plug(ioh3420(), 1 + ports % 240 // 8, ports % 8)
        ports, left = ports + 1, left - 1
        for number in range(min(8, left)):
            port.plug(endpoint([(0x1000, MEMORY32)], aer=False), number)
            left -= 1
    setup = Firmware(Apertures(memory=range(0x40000000, 0xFEC00000))).set_up(complex_)
    assert len(setup.functions()) == FUNCTIONS
    assert setup.layout.unplaced == []
    assert complex_.requests < 80 * FUNCTIONS
    placed = [one for one in setup.layout.placed if one.bar is not None]
    assert len(placed) == FUNCTIONS - ports
    for number, one in enumerate(placed):
        complex_.store(one.address, 4, number)
    assert [complex_.load(one.address, 4) for one in placed] == list(range(len(placed)))
