"""Virtio devices as functions of PCI Express, with the capabilities that QEMU 10.0 gives them.

===================  ======================================================================================
`virtio-blk-pci`     a disk that says how large it is; its queue is not served
`virtio-net-pci`     an interface; its queues are not served
`virtio-rng-pci`     an entropy source that writes by DMA (VIRTIO_F_ACCESS_PLATFORM)
`virtio-9p-pci`      a mount tag; transitional, on a root bus as the integrated endpoint it is there
`virtio-serial-pci`  a console; its queues are not served, so nobody hears of a port; transitional, too
===================  ======================================================================================

Those that are not transitional are version 1 only, report errors (AER) unless `aer` is false, and are reset by a
function-level reset unless `flr` is false.  Without `express` they have none of that: they are conventional functions,
as QEMU makes them on a root bus (``virtio_pci_realize``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.hardware.devices.virtio_kinds import (
    VirtioKind,
    virtio_9p,
    virtio_blk,
    virtio_net,
    virtio_rng,
    virtio_serial,
)
from pyvfio_backends.software.hardware.devices.virtio_pci import Legacy
from pyvfio_backends.software.hardware.devices.virtio_registers import VirtioRegisters
from pyvfio_backends.software.hardware.devices.virtio_window import ConfigWindow, capabilities
from pyvfio_backends.software.hardware.dma import PinInitiator
from pyvfio_backends.software.hardware.pci.bar import Bar
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.pcie.aer import Aer
from pyvfio_backends.software.hardware.pcie.block import Block
from pyvfio_backends.software.hardware.pcie.capabilities import Msix, PowerManagement
from pyvfio_backends.software.hardware.pcie.express import REPORTING, Express
from pyvfio_backends.software.hardware.pcie.function import Function

__all__ = ["KINDS", "VirtioCard", "virtio"]

KINDS: Final[dict[str, Callable[..., VirtioKind]]] = {
    "virtio-blk-pci": virtio_blk,
    "virtio-net-pci": virtio_net,
    "virtio-rng-pci": virtio_rng,
    "virtio-9p-pci": virtio_9p,
    "virtio-serial-pci": virtio_serial,
}
"""What makes the device behind a model."""

_VENDOR, _SUBSYSTEM, _FIRST_ID = 0x1AF4, 0x1100, 0x1040
_TABLE_BAR, _REGISTER_BAR = 1, 4
_TABLE_SIZE, _REGISTERS_SIZE, _PENDING = 0x1000, 0x4000, 0x800
_LEGACY_CONFIG = 24  # registers of a transitional device before its own configuration, with MSI-X
_WIDE = regs.PCI_BASE_ADDRESS_MEM_TYPE_64 | regs.PCI_BASE_ADDRESS_MEM_PREFETCH
_EXPRESS, _POWER, _FIRST, _CONVENTIONAL_FIRST = 0x40, 0x7C, 0x84, 0x40
_AER: Final = 0x100
_PREFIXES: Final = 0x300000  # of device capabilities 2: extended format, end-end prefixes
_TRANSITIONAL: Final = ("virtio-9p-pci", "virtio-serial-pci")


class VirtioCard(VirtioRegisters):
    """The registers of such a device, whose interrupts may also go by the pin."""

    pins: PinInitiator | None = None

    @property
    def messages_on(self) -> bool:
        """See `VirtioRegisters.messages_on`."""
        return self.pins is not None and self.pins.messages_on

    def pin_changed(self) -> None:
        """See `VirtioRegisters.pin_changed`."""
        if self.pins is not None:
            self.pins.set_intx(bool(self.interrupt))


def virtio(
    model: str,
    kind: VirtioKind,
    *,
    flr: bool = True,
    aer: bool = True,
    legacy: bool | None = None,
    express: bool = True,
    name: str = "",
) -> Function:
    """A function of the model, one of `KINDS`, with the device `kind` behind it; `legacy`: a transitional one (None: as
    the model is on a root bus), which is never one of PCI Express.
    """
    legacy = model in _TRANSITIONAL if legacy is None else legacy
    express = express and not legacy
    if legacy:
        identity = Identity(_VENDOR, kind.transitional_id, _VENDOR, kind.type, class_code=kind.class_code)
    else:
        identity = Identity(_VENDOR, _FIRST_ID + kind.type, _VENDOR, _SUBSYSTEM, class_code=kind.class_code, revision=1)
    device = VirtioCard(kind, platform=not legacy)
    table, registers = Block(_TABLE_SIZE), Block(_REGISTERS_SIZE)
    registers.place(0, device)
    bars = [
        Bar(_TABLE_BAR, _TABLE_SIZE, regs.PCI_BASE_ADDRESS_SPACE_MEMORY, table),
        Bar(_REGISTER_BAR, _REGISTERS_SIZE, _WIDE, registers),
    ]
    if legacy:
        size = 1 << (_LEGACY_CONFIG + len(kind.config("<")) - 1).bit_length()
        bars.insert(0, Bar(0, size, regs.PCI_BASE_ADDRESS_SPACE_IO, Legacy()))
    config = ConfigSpace(identity, interrupt_pin=1)
    vendors = list(capabilities(_REGISTER_BAR, _FIRST if express else _CONVENTIONAL_FIRST))
    window = vendors[-1][0]
    after = window + len(vendors[-1][1]) + regs.PCI_CAP_FLAGS
    opening = ConfigWindow(config, window, bars)
    function = Function(config, bars, rom_size=kind.rom_size, name=name)
    if express:
        link = Express(
            ExpressType.ENDPOINT, flr=flr, control=REPORTING, control_reset=0, device2=_PREFIXES, serr_reports=False
        )
        function.add(link, _EXPRESS)
        function.add(PowerManagement(no_soft_reset=False), _POWER)
    for at, content in vendors:
        config.add_capability(at, regs.PCI_CAP_ID_VNDR, content)
    opening.open()
    table.place(0, function.add_msix(Msix(kind.vectors, _TABLE_BAR, pending_offset=_PENDING), after))
    if aer and express:
        function.add(Aer(overwrites=True), _AER)
    device.attach(function)
    device.pins = function
    return function
