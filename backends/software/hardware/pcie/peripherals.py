"""Endpoints with their devices behind them: functions to plug that do something.

The identity and the capabilities are those of `endpoints`, the behaviour is in `hardware.devices`.
"""

from __future__ import annotations

from typing import NamedTuple

from pyvfio.pci import edu as edu_registers
from pyvfio.pci import testdev
from pyvfio_backends.software.hardware.devices.edu import Edu
from pyvfio_backends.software.hardware.devices.pci_testdev import PciTestDevice
from pyvfio_backends.software.hardware.pcie.endpoints import ENDPOINTS
from pyvfio_backends.software.hardware.pcie.function import Function

__all__ = ["EduCard", "PciTestCard", "edu", "pci_testdev"]


class EduCard(NamedTuple):
    """A function to plug, and the device that it is of."""

    function: Function
    device: Edu


class PciTestCard(NamedTuple):
    """A function to plug, and the device that it is of."""

    function: Function
    device: PciTestDevice


def edu(device: Edu | None = None, *, name: str = "") -> EduCard:
    """`edu`, with a device of its own or the one given."""
    device = device or Edu()
    function = ENDPOINTS["edu"].build({edu_registers.BAR: device}, name=name)
    device.attach(function)
    return EduCard(function, device)


def pci_testdev(*, name: str = "") -> PciTestCard:
    """`pci-testdev`."""
    device = PciTestDevice()
    behind = {testdev.MEMORY_BAR: device.memory, testdev.IO_BAR: device.io}
    return PciTestCard(ENDPOINTS["pci-testdev"].build(behind, name=name), device)
