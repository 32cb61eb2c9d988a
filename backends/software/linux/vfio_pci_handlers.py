"""Registers where a write through vfio-pci does more than the permissions say, each capability's in one function.

They are called for one access, of 1, 2 or 4 bytes, that touches the capability which begins at `start`; `at` and
`start` count from the beginning of configuration space.  Source: ``drivers/vfio/pci/vfio_pci_config.c`` (6.12), the
functions named ``vfio_*_config_write``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from pyvfio.abi import pci_bridge_regs as vpd
from pyvfio.abi import pci_capability_regs as capability_regs
from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.pci_power import D3HOT

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.vfio_pci_config import VirtualConfig

__all__ = ["HANDLERS", "Handler", "write_header"]

Handler = Callable[["VirtualConfig", int, int, int, int], None]
"""Called with the view, where, how many bytes, the value and where the capability begins.  It may raise OSError."""

_MEMORY_AND_IO = regs.PCI_COMMAND_MEMORY | regs.PCI_COMMAND_IO
_MSI_QUEUE_SHIFT = 4
_READ_REQUEST_SHIFT, _PAYLOAD_SHIFT = 12, 5


def write_header(config: VirtualConfig, at: int, size: int, value: int, start: int) -> None:
    """The command register: decoding that was lost is brought back, the interrupt pin follows; then the BARs."""
    if at == regs.PCI_COMMAND:
        if not value & regs.PCI_COMMAND_MEMORY:
            config.move_memory(True)
        config.bars.recover(value & 0xFFFF)
    config.write_default(at, size, value)
    if at == regs.PCI_COMMAND:
        kept = config.word(at, 2) & ~_MEMORY_AND_IO
        config.put(at, 2, kept | value & _MEMORY_AND_IO)
        config.move_memory(False)
    if regs.PCI_COMMAND <= at <= regs.PCI_COMMAND + 1:
        config.follow_intx()
    config.bars.written(at)


def _write_power(config: VirtualConfig, at: int, size: int, value: int, start: int) -> None:
    config.write_default(at, size, value)
    if at == start + regs.PCI_PM_CTRL:
        state = value & regs.PCI_PM_CTRL_STATE_MASK
        if state >= D3HOT:
            config.move_memory(True)
        config.power.change(state)
        config.move_memory(False)


def _write_vpd(config: VirtualConfig, at: int, size: int, value: int, start: int) -> None:
    """The upper byte of the address has the flag, and sets it off.  The flag stays when the device fails."""
    config.write_default(at, size, value)
    flag_byte = start + vpd.PCI_VPD_ADDR + 1
    if not at <= flag_byte < at + size:
        return
    address = config.word(start + vpd.PCI_VPD_ADDR, 2)
    window = start + vpd.PCI_VPD_DATA
    with contextlib.suppress(OSError):
        if address & vpd.PCI_VPD_ADDR_F:
            data = config.word(window, 4)
            config.device.product_data.write(address & ~vpd.PCI_VPD_ADDR_F, data.to_bytes(4, "little"))
        else:
            config.put(window, 4, int.from_bytes(config.device.product_data.read(address, 4), "little"))
        config.put(start + vpd.PCI_VPD_ADDR, 2, address ^ vpd.PCI_VPD_ADDR_F)


def _reset(config: VirtualConfig) -> None:
    config.move_memory(True)
    try:
        config.device.try_reset()
    finally:
        config.move_memory(False)


def _write_express(config: VirtualConfig, at: int, size: int, value: int, start: int) -> None:
    """The reset bit resets and never stays set; a new read request size goes to the device, but not below its payload
    size, which only the kernel sets.
    """
    control = start + regs.PCI_EXP_DEVCTL
    before = config.word(control, 2) & regs.PCI_EXP_DEVCTL_READRQ
    config.write_default(at, size, value)
    own = config.word(control, 2)
    if own & regs.PCI_EXP_DEVCTL_BCR_FLR:
        config.put(control, 2, own & ~regs.PCI_EXP_DEVCTL_BCR_FLR)
        with contextlib.suppress(OSError):
            if config.device.load_config(start + regs.PCI_EXP_DEVCAP, 4) & regs.PCI_EXP_DEVCAP_FLR:
                _reset(config)
    wanted = own & regs.PCI_EXP_DEVCTL_READRQ
    if wanted == before:
        return
    real = config.device.read_config(control, 2)
    payload = (real & regs.PCI_EXP_DEVCTL_PAYLOAD) >> _PAYLOAD_SHIFT
    request = max(wanted >> _READ_REQUEST_SHIFT, payload) << _READ_REQUEST_SHIFT
    if request <= express.PCI_EXP_DEVCTL_READRQ_4096B:
        with contextlib.suppress(OSError):
            config.device.store_config(control, 2, real & ~regs.PCI_EXP_DEVCTL_READRQ | request)


def _write_advanced_features(config: VirtualConfig, at: int, size: int, value: int, start: int) -> None:
    """The reset bit resets, where the function can, and never stays set."""
    control = start + capability_regs.PCI_AF_CTRL
    config.write_default(at, size, value)
    own = config.word(control, 1)
    if not own & capability_regs.PCI_AF_CTRL_FLR:
        return
    config.put(control, 1, own & ~capability_regs.PCI_AF_CTRL_FLR)
    needed = capability_regs.PCI_AF_CAP_FLR | capability_regs.PCI_AF_CAP_TP
    with contextlib.suppress(OSError):
        if config.device.load_config(start + capability_regs.PCI_AF_CAP, 1) & needed == needed:
            _reset(config)


def _write_msi(config: VirtualConfig, at: int, size: int, value: int, start: int) -> None:
    """The flags: MSI is switched on by a request, and has no more messages than were asked for then.  What becomes of
    them goes to the device, too, also when a write ends just before them.
    """
    config.write_default(at, size, value)
    register = start + regs.PCI_MSI_FLAGS
    if not at <= register <= at + size:
        return
    flags = config.word(register, 2)
    if not config.msi_on:
        flags &= ~regs.PCI_MSI_FLAGS_ENABLE
    if (flags & regs.PCI_MSI_FLAGS_QSIZE) >> _MSI_QUEUE_SHIFT > config.msi_exponent:
        flags = flags & ~regs.PCI_MSI_FLAGS_QSIZE | config.msi_exponent << _MSI_QUEUE_SHIFT
    config.put(register, 2, flags)
    config.device.store_config(register, 2, flags)


HANDLERS: dict[int, Handler] = {
    regs.PCI_CAP_ID_PM: _write_power,
    regs.PCI_CAP_ID_VPD: _write_vpd,
    regs.PCI_CAP_ID_EXP: _write_express,
    regs.PCI_CAP_ID_AF: _write_advanced_features,
    regs.PCI_CAP_ID_MSI: _write_msi,
}
"""Of the conventional capabilities that have one, by id."""
