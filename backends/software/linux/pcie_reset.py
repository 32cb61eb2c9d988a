"""How a PCI Express function is reset (``pci_reset_fn_methods``, 6.12): by its own registers, or with its slot or bus.

::

    flr, af_flr   function-level reset: device control of PCI Express, the advanced features of conventional PCI
    pm            D3hot and back, where that resets
    bus           the slot, if the function is alone in it; else the bus, if it is alone there

``device_specific``, ``acpi`` and ``cxl_bus`` are for devices and firmware that no machine here has.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_capability_regs as capability_regs
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.kernel_log import WARNING, say
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pcie_function import PcieFunction

__all__ = ["in_slot", "methods", "perform", "reset_behind", "scope", "wait_for"]

_AF_BOTH = capability_regs.PCI_AF_CAP_TP | capability_regs.PCI_AF_CAP_FLR
_FUNCTIONS = 8
_NOBODY = 0xFFFFFFFF
_PATIENCE = (1 << 16) - 1
"""Milliseconds: the wait doubles from 1 on until it is longer than a minute."""
_WAITS = {"flr": "FLR", "af_flr": "AF_FLR", "pm": "PM D3hot->D0"}
"""What the kernel calls each in its log."""


def methods(function: PcieFunction) -> tuple[str, ...]:
    """The names of what works now, in the kernel's order."""
    works = {
        "flr": _has_flr(function),
        "af_flr": _af(function) != 0,
        "pm": _pm(function) != 0,
        "bus": _slot_alone(function) or _bus_alone(function),
    }
    return tuple(name for name, there in works.items() if there)


def perform(function: PcieFunction, method: str) -> None:
    """Reset by this method, and wait for the function, which has a minute (``pci_dev_wait``; no time passes here).

    Raise OSError ENOTTY: another one is to be tried (also when it does not come back), EINVAL: not from this power
    state.
    """
    if method == "flr":
        if not _has_flr(function):
            raise fail(errno.ENOTTY)
        at = _capability(function, regs.PCI_CAP_ID_EXP) + regs.PCI_EXP_DEVCTL
        function.config_write(at, 2, function.config_read(at, 2) | regs.PCI_EXP_DEVCTL_BCR_FLR)
    elif method == "af_flr":
        at = _af(function)
        if not at:
            raise fail(errno.ENOTTY)
        function.config_write(at + capability_regs.PCI_AF_CTRL, 1, capability_regs.PCI_AF_CTRL_FLR)
    elif method == "pm":
        _reset_by_power(function)
    elif _slot_alone(function) or _bus_alone(function):
        function.reset_bus()
    else:
        raise fail(errno.ENOTTY)
    wait_for(function, _WAITS.get(method, ""))


def wait_for(function: PcieFunction, reset: str = "") -> None:
    """Raise OSError ENOTTY when nobody answers for it after a reset, and name the reset in the kernel's log.

    Behind a bus that was reset it is the link that does not come up, of which nothing is said.
    """
    if function.config_read(regs.PCI_COMMAND, 4) != _NOBODY:
        return
    if function.pdev is not None and reset:
        say(function.pdev, WARNING, f"not ready {_PATIENCE}ms after {reset}; giving up")
    raise fail(errno.ENOTTY)


def _reset_by_power(function: PcieFunction) -> None:
    at = _pm(function)
    if not at:
        raise fail(errno.ENOTTY)
    if function.pdev is None or function.pdev.power_state != "D0":
        raise fail(errno.EINVAL)
    register = at + regs.PCI_PM_CTRL
    control = function.config_read(register, 2) & ~regs.PCI_PM_CTRL_STATE_MASK
    function.config_write(register, 2, control | regs.PCI_PM_CTRL_STATE_MASK)
    function.config_write(register, 2, control)


def reset_behind(bridge: PcieFunction) -> None:
    """Reset everything behind a bridge (``pci_bridge_secondary_bus_reset``)."""
    control = bridge.config_read(bridge_regs.PCI_BRIDGE_CONTROL, 2)
    bridge.config_write(bridge_regs.PCI_BRIDGE_CONTROL, 2, control | bridge_regs.PCI_BRIDGE_CTL_BUS_RESET)
    bridge.config_write(bridge_regs.PCI_BRIDGE_CONTROL, 2, control & ~bridge_regs.PCI_BRIDGE_CTL_BUS_RESET)


def in_slot(function: PcieFunction) -> bool:
    """Whether it is in a slot that can be reset: that of a port, which is device 0 of the bus behind it."""
    return function.on.has_slot and function.devfn < _FUNCTIONS


def scope(function: PcieFunction) -> list[PciDevice]:
    """The devices that a reset of its slot, or else of its bus, concerns; none on a root bus."""
    if function.on.above is None:
        return []
    slot = in_slot(function)
    return [
        one.pdev
        for top in tuple(function.on.functions.values())
        if not slot or top.devfn < _FUNCTIONS
        for one in (top, *(top.subordinate.walk() if top.subordinate is not None else ()))
        if one.pdev is not None
    ]


def _capability(function: PcieFunction, number: int) -> int:
    return function.hardware.offset(number) or 0


def _has_flr(function: PcieFunction) -> bool:
    at = _capability(function, regs.PCI_CAP_ID_EXP)
    return bool(at and function.config_read(at + regs.PCI_EXP_DEVCAP, 4) & regs.PCI_EXP_DEVCAP_FLR)


def _af(function: PcieFunction) -> int:
    """Where the advanced features are, 0 for nowhere or without a reset."""
    at = _capability(function, regs.PCI_CAP_ID_AF)
    works = at and function.config_read(at + capability_regs.PCI_AF_CAP, 1) & _AF_BOTH == _AF_BOTH
    return at if works else 0


def _pm(function: PcieFunction) -> int:
    """Where power management is that resets on the way from D3hot to D0, 0 for nowhere."""
    at = _capability(function, regs.PCI_CAP_ID_PM)
    keeps = at and function.config_read(at + regs.PCI_PM_CTRL, 2) & regs.PCI_PM_CTRL_NO_SOFT_RESET
    return 0 if keeps else at


def _slot_alone(function: PcieFunction) -> bool:
    """Whether a reset of the slot is one of this function (``pci_dev_reset_slot_function``)."""
    device = function.pdev
    if device is not None and device.multifunction:
        return False
    return function.subordinate is None and in_slot(function)


def _bus_alone(function: PcieFunction) -> bool:
    """Whether a reset of the bus is one of this function (``pci_parent_bus_reset``)."""
    if function.on.above is None or function.subordinate is not None:
        return False
    return all(device is function.pdev for device in function.on.devices())
