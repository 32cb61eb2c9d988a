"""Endpoints with their devices behind them: functions to plug that do something.

The identity and the capabilities are those of `endpoints`, the behaviour is in `hardware.devices`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pyvfio.nvme import registers as nvme_registers
from pyvfio.pci import edu as edu_registers
from pyvfio.pci import testdev
from pyvfio_backends.software.hardware.devices.edu import Edu
from pyvfio_backends.software.hardware.devices.nvme.controller import NvmeController
from pyvfio_backends.software.hardware.devices.nvme.storage import Namespace
from pyvfio_backends.software.hardware.devices.pci_testdev import PciTestDevice
from pyvfio_backends.software.hardware.pcie.endpoints import ENDPOINTS
from pyvfio_backends.software.hardware.pcie.function import Function

__all__ = ["EduCard", "NvmeCard", "PciTestCard", "edu", "nvme", "pci_testdev"]


class EduCard(NamedTuple):
    """A function to plug, and the device that it is of."""

    function: Function
    device: Edu


class PciTestCard(NamedTuple):
    """A function to plug, and the device that it is of."""

    function: Function
    device: PciTestDevice


class NvmeCard(NamedTuple):
    """A function to plug, and the controller that it is of."""

    function: Function
    device: NvmeController


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


def nvme(
    namespaces: Sequence[Namespace | None] = (), *, device: NvmeController | None = None, name: str = ""
) -> NvmeCard:
    """`nvme`, with a controller of its own for `namespaces`, or the one given."""
    device = device or NvmeController(namespaces)
    function = ENDPOINTS["nvme"].build({nvme_registers.BAR: device}, name=name)
    device.attach(function, pin=function)
    return NvmeCard(function, device)
