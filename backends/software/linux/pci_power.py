"""Power states and events of PCI functions, by their power management capability (``drivers/pci/pci.c``, 6.12).

A platform that has power to cut is not modelled, so D3cold is never reached.  The delays that the specification wants
do not pass.
"""

from __future__ import annotations

from typing import Protocol

from pyvfio.abi import pci_regs as regs

__all__ = [
    "D0",
    "D3HOT",
    "POWER_NAMES",
    "PowerManaged",
    "is_low",
    "power_capability",
    "resets_on_wake",
    "set_events",
    "set_power_state",
    "sleep_state",
    "take_event",
]

POWER_NAMES = ("D0", "D1", "D2", "D3hot", "D3cold")
D0, D1, D2, D3HOT, D3COLD = range(len(POWER_NAMES))
_NEWEST = 3
_ONES = 0xFFFF


class PowerManaged(Protocol):
    """A function with configuration accesses of the kernel; `power_state` is one of `POWER_NAMES` or ``unknown``."""

    power_state: str

    @property
    def disconnected(self) -> bool:
        """Whether it is lost."""
        ...

    def read_config(self, offset: int, length: int) -> int:
        """Read; all ones when that fails."""
        ...

    def write_config(self, offset: int, length: int, value: int) -> None:
        """Write; nothing happens when that fails."""
        ...

    def find_capability(self, number: int) -> int:
        """Where a capability is, 0 when there is none."""
        ...


def is_low(name: str) -> bool:
    """Whether nothing but configuration space works in this state: D3hot and what is beyond, or nobody knows."""
    return name not in POWER_NAMES[:D3HOT]


def power_capability(device: PowerManaged) -> int:
    """Where its power management is, 0 without (or with a version that the kernel does not know)."""
    at = device.find_capability(regs.PCI_CAP_ID_PM)
    if not at or device.read_config(at + regs.PCI_PM_PMC, 2) & regs.PCI_PM_CAP_VER_MASK > _NEWEST:
        return 0
    return at


def resets_on_wake(device: PowerManaged) -> bool:
    """Whether it loses what it had on its way from D3hot to D0."""
    at = power_capability(device)
    return bool(at) and not device.read_config(at + regs.PCI_PM_CTRL, 2) & regs.PCI_PM_CTRL_NO_SOFT_RESET


def set_power_state(device: PowerManaged, state: int) -> bool:
    """Put a function into D0 to D3hot (0 to 3), if it can be (``pci_set_power_state``); False when it failed.

    `power_state` says afterwards where it is.  From a state of low power there is only a way down, or to D0.
    """
    if device.power_state == POWER_NAMES[state]:
        return True
    return _power_up(device) if state == D0 else _power_down(device, state)


def _power_up(device: PowerManaged) -> bool:
    at = power_capability(device)
    if not at:
        device.power_state = POWER_NAMES[D0]
        return True
    register = at + regs.PCI_PM_CTRL
    control = _ONES if device.disconnected else device.read_config(register, 2)
    if control == _ONES:
        device.power_state = POWER_NAMES[D3COLD]
        return False
    if control & regs.PCI_PM_CTRL_STATE_MASK:
        device.write_config(register, 2, 0)  # all of it: no power management event is enabled any more
    device.power_state = POWER_NAMES[device.read_config(register, 2) & regs.PCI_PM_CTRL_STATE_MASK]
    return True


def _power_down(device: PowerManaged, state: int) -> bool:
    at = power_capability(device)
    known = device.power_state in POWER_NAMES
    if not at or (known and POWER_NAMES.index(device.power_state) > state):
        return False
    able = device.read_config(at + regs.PCI_PM_PMC, 2)
    if (state == D1 and not able & regs.PCI_PM_CAP_D1) or (state == D2 and not able & regs.PCI_PM_CAP_D2):
        return False
    register = at + regs.PCI_PM_CTRL
    control = device.read_config(register, 2)
    if control == _ONES:
        device.power_state = POWER_NAMES[D3COLD]
        return False
    device.write_config(register, 2, control & ~regs.PCI_PM_CTRL_STATE_MASK | state)
    device.power_state = POWER_NAMES[device.read_config(register, 2) & regs.PCI_PM_CTRL_STATE_MASK]
    return True


def _event_states(device: PowerManaged) -> int:
    """Bit n: it can raise an event in Dn (``pci_dev.pme_support``)."""
    at = power_capability(device)
    able = device.read_config(at + regs.PCI_PM_PMC, 2) if at else 0
    return (able & regs.PCI_PM_CAP_PME_MASK) >> regs.PCI_PM_CAP_PME_SHIFT


def sleep_state(device: PowerManaged) -> tuple[int, bool]:
    """The state in which it sleeps, and whether an event can wake it there.

    That is the lowest one in which it can raise an event; any other function sleeps in D3hot.  Source:
    ``pci_target_state``, ``pci_dev_run_wake``.
    """
    able = _event_states(device)
    if not able:
        return (D3HOT if power_capability(device) else D0), False
    state = next((one for one in range(D3HOT, D0, -1) if able >> one & 1), None)
    if state is None:
        state = D0 if able & 1 else D3HOT
    return state, bool(able >> state & 1)


def set_events(device: PowerManaged, *, on: bool) -> None:
    """Let it raise events, or not, and forget the one that it has (``pci_pme_active``).  Nothing without any."""
    if _event_states(device):
        register = power_capability(device) + regs.PCI_PM_CTRL
        control = device.read_config(register, 2) | regs.PCI_PM_CTRL_PME_STATUS
        enable = regs.PCI_PM_CTRL_PME_ENABLE
        device.write_config(register, 2, control | enable if on else control & ~enable)


def take_event(device: PowerManaged) -> bool:
    """Clear an event that it has, and let it raise no more; whether it had one and was let (`pci_check_pme_status`)."""
    at = power_capability(device)
    if not at:
        return False
    control = device.read_config(at + regs.PCI_PM_CTRL, 2)
    if not control & regs.PCI_PM_CTRL_PME_STATUS:
        return False
    device.write_config(at + regs.PCI_PM_CTRL, 2, control & ~regs.PCI_PM_CTRL_PME_ENABLE)
    return bool(control & regs.PCI_PM_CTRL_PME_ENABLE)
