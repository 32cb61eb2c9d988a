"""Recovery of the functions below a port from an uncorrectable error, with their drivers (``drivers/pci/pcie/err.c``).

::

    non-fatal                      fatal, or contained
        |                              |
    error_detected (normal)        error_detected (frozen)
        |                          reset of the link
        +--------------+---------------+
                       |
      all can recover: | mmio_enabled ----- somebody needs a reset
                       |                          |
                       |                      slot_reset
                       +--------------------------+
                       |                          |
      all recovered: resume              else: failed, everybody is told so

Everybody below the port takes part, also who had no error.  A function whose driver has no `error_detected`, or that
has no driver, ends it: Linux does not go on without one (bridges aside).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.linux.kernel_log import INFO, WARNING, say
from pyvfio_backends.software.linux.pci_aer import clear_device_status
from pyvfio_backends.software.linux.pci_device import ErrorState, PciDevice
from pyvfio_backends.software.linux.pci_driver import PciDriver, Recovery
from pyvfio_backends.software.linux.pci_error_events import tell_recovery
from pyvfio_backends.software.linux.pcie_type import express_type

__all__ = ["above", "merge", "recover", "reset_secondary", "walk"]

_OWN = (ExpressType.ROOT_PORT, ExpressType.DOWNSTREAM, ExpressType.RC_EC, ExpressType.RC_END)
"""What recovery runs on itself when it had the error: for ports that is all below them."""


def above(device: PciDevice) -> PciDevice | None:
    """The bridge that a device is behind, None on a root bus (``pci_upstream_bridge``)."""
    return device.parent if isinstance(device.parent, PciDevice) else None


def walk(bridge: PciDevice) -> Iterator[PciDevice]:
    """All below a bridge, each before what is below it (``pci_walk_bus``)."""
    for device in bridge.sysdata.children():
        yield device
        yield from walk(device)


def reset_secondary(bridge: PciDevice) -> bool:
    """Reset the bus behind a bridge, with nobody's state saved (``pci_bus_error_reset``); whether that worked."""
    if not bridge.is_bridge:
        return False
    control = bridge.read_config(bridge_regs.PCI_BRIDGE_CONTROL, 2)
    for value in (control | bridge_regs.PCI_BRIDGE_CTL_BUS_RESET, control & ~bridge_regs.PCI_BRIDGE_CTL_BUS_RESET):
        bridge.write_config(bridge_regs.PCI_BRIDGE_CONTROL, 2, value)
    return True


def merge(before: Recovery, said: Recovery) -> Recovery:
    """What all have said so far, with one more (``merge_result``)."""
    if said is Recovery.NO_DRIVER:
        return said
    if said is Recovery.NONE:
        return before
    if before in (Recovery.CAN_RECOVER, Recovery.RECOVERED):
        return said
    if before is Recovery.DISCONNECT and said is Recovery.NEED_RESET:
        return said
    return before


def recover(device: PciDevice, state: ErrorState, reset: Callable[[PciDevice], bool]) -> Recovery:
    """Recover from an error that `device` found (``pcie_do_recovery``); what came of it.

    `state` is NORMAL or FROZEN: then `reset` resets what is below the port and says whether that worked.
    """
    own = express_type(device) in _OWN
    bridge = device if own else above(device)
    if bridge is None:
        return Recovery.NONE
    with contextlib.ExitStack() as awake:  # nobody sleeps meanwhile
        for one in _affected(bridge):
            awake.enter_context(one.runtime.awake())
        status = _recover(bridge, state, reset)
    if status is not Recovery.RECOVERED:
        for one in _affected(bridge):
            tell_recovery(one, Recovery.DISCONNECT)
        say(bridge, INFO, "AER: device recovery failed")
        return status
    clear_device_status(device)
    if device.aer is not None:
        device.aer.clear_severity(fatal=False)
    say(bridge, INFO, "AER: device recovery successful")
    return status


def _recover(bridge: PciDevice, state: ErrorState, reset: Callable[[PciDevice], bool]) -> Recovery:
    """Ask everybody, in the order above; what came of it."""
    status = _ask(bridge, lambda one, said: merge(said, _detected(one, state)), Recovery.CAN_RECOVER)
    if state is ErrorState.FROZEN and not reset(bridge):
        say(bridge, WARNING, "AER: subordinate device reset failed")
        return Recovery.DISCONNECT if status in (Recovery.RECOVERED, Recovery.CAN_RECOVER) else status
    if status is Recovery.CAN_RECOVER:
        status = _ask(bridge, _mmio_enabled, Recovery.RECOVERED)
    if status is Recovery.NEED_RESET:
        status = _ask(bridge, _slot_reset, Recovery.RECOVERED)
    if status is Recovery.RECOVERED:
        _ask(bridge, _resume, status)
    return status


def _affected(bridge: PciDevice) -> list[PciDevice]:
    return list(walk(bridge)) if bridge.is_bridge else [bridge]


def _ask(bridge: PciDevice, ask: Callable[[PciDevice, Recovery], Recovery], said: Recovery) -> Recovery:
    """Ask everybody, each with its lock held."""
    for device in _affected(bridge):
        with device.pci_bus.hold(device):
            said = ask(device, said)
    return said


def _driver(device: PciDevice) -> PciDriver | None:
    return device.driver if isinstance(device.driver, PciDriver) else None


def _set_state(device: PciDevice, state: ErrorState) -> bool:
    """``pci_dev_set_io_state``: a lost device stays so."""
    if device.error_state is ErrorState.LOST:
        return False
    device.error_state = state
    return True


def _detected(device: PciDevice, state: ErrorState) -> Recovery:
    driver = _driver(device)
    if not _set_state(device, state):
        said = Recovery.DISCONNECT
    elif driver is None or not driver.detects_errors:
        said = Recovery.NONE if device.is_bridge else Recovery.NO_DRIVER
        if not device.is_bridge:
            say(device, INFO, "AER: can't recover (no error_detected callback)")
    else:
        said = driver.error_detected(device)
    tell_recovery(device, said)
    return said


def _mmio_enabled(device: PciDevice, said: Recovery) -> Recovery:
    driver = _driver(device)
    more = driver.mmio_enabled(device) if driver is not None and driver.detects_errors else None
    return said if more is None else merge(said, more)


def _slot_reset(device: PciDevice, said: Recovery) -> Recovery:
    driver = _driver(device)
    if not _set_state(device, ErrorState.NORMAL) or driver is None or not driver.resets_slots:
        return said
    return merge(said, driver.slot_reset(device))


def _resume(device: PciDevice, said: Recovery) -> Recovery:
    driver = _driver(device)
    if _set_state(device, ErrorState.NORMAL) and driver is not None:
        driver.resume(device)
    tell_recovery(device, Recovery.RECOVERED)
    return said
