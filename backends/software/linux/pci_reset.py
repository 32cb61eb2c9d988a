"""Resets of PCI functions, and of all that shares a bus or slot (``drivers/pci/pci.c``, 6.12).

::

    of a function   the methods of ``reset_method``, in their order, until one does it: its state is kept meanwhile
    of a bus        a hot reset by the bridge above it: the state of all functions there and behind is kept

The kernel's order of methods is `METHODS`; those that a function has its `PciSysdata` says.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.pci_power import D0
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import PciDevice
    from pyvfio_backends.software.linux.pci_state import SavedState

__all__ = ["METHODS", "parse_methods", "reset_function", "reset_together"]

METHODS = ("device_specific", "acpi", "flr", "af_flr", "pm", "bus", "cxl_bus")
_SPACES = " \t\n\v\f\r"


def parse_methods(data: bytes, works: Sequence[str]) -> list[str]:
    """Read what was written to ``reset_method``: nothing, ``default``, or names of methods that work, with blanks.

    Raise OSError EINVAL for a name that is none or does not work, and for more than there are.
    """
    text = data.decode(errors="replace").split("\0")[0]
    if text.removesuffix("\n") == "":
        return []
    if text.removesuffix("\n") == "default":
        return list(works)
    names = [word.strip(_SPACES) for word in text.split(" ") if word.removesuffix("\n")]
    if any(name not in works for name in names) or len(names) > len(METHODS):
        raise fail(errno.EINVAL)
    return names


def _save_and_disable(device: PciDevice) -> SavedState:
    """Keep the state and stop the function, in D0 (``pci_dev_save_and_disable``)."""
    device.set_power_state(D0)
    device.runtime.reset_asleep()
    saved = device.save_state()
    device.write_config(regs.PCI_COMMAND, 2, regs.PCI_COMMAND_INTX_DISABLE)
    return saved


def reset_function(device: PciDevice) -> None:
    """Reset by the first method that works, and bring the configuration back.

    Raise OSError ENOTTY when no method does, or what the one that there is fails with.
    """
    saved = _save_and_disable(device)
    try:
        device.reset_function_locked()
    finally:
        device.restore_state(saved)


def reset_together(devices: Sequence[PciDevice], reset: Callable[[], None]) -> None:
    """Have all these devices reset at once, and bring their configuration back (``pci_reset_bus``).

    Raise OSError EAGAIN when somebody holds the lock of one of them.
    """
    if any(device.locked for device in devices):
        raise fail(errno.EAGAIN)
    saved = [(device, _save_and_disable(device)) for device in devices]
    try:
        reset()
    finally:
        for device, state in saved:
            device.restore_state(state)
