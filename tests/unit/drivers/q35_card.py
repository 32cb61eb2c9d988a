"""A card of the machine ``q35-switch``: bound, opened, and the device inside it, for tests that make it misbehave."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import pyvfio
from pyvfio.address import PciAddress
from pyvfio.testing.devices import BoundFunction
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.hardware.pcie.block import Block

T = TypeVar("T")


@contextmanager
def host_of(address: str) -> Iterator[pyvfio.Host]:
    """The machine, with the function at `address` bound to vfio-pci."""
    with pyvfio.Host("software", machine="q35-switch") as opened, BoundFunction(opened.backend, address):
        yield opened


def device_inside(host: pyvfio.Host, address: str, bar: int, kind: type[T]) -> T:
    """The device of the machine that is behind a base address register."""
    assert isinstance(host.backend, SoftwareBackend)
    at = PciAddress.parse(address)
    function = host.backend.machine.pcie.function(at.domain, at.bus << 8 | at.device << 3 | at.function)
    assert function is not None
    registers = function.bars[bar].registers
    found = registers.parts[0] if isinstance(registers, Block) else registers
    assert isinstance(found, kind)
    return found
