"""Plans for slots: switch one on or off, and press its button, with a look at who uses what is in it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pyvfio.backend import beyond
from pyvfio.binding.facts import vfio_nodes
from pyvfio.binding.inspection import plan_for
from pyvfio.binding.plan import Plan
from pyvfio.binding.step import Step
from pyvfio.binding.steps_slot import PressButton, SwitchPower
from pyvfio.binding.steps_sriov import driver_state
from pyvfio.devices import PciFunction
from pyvfio.errors import NotAvailable, PyvfioError
from pyvfio.pci.slot import Slot

if TYPE_CHECKING:
    from pyvfio.host import Host

__all__ = ["plan_button", "plan_slot_power"]

_QEMU_PORT = (0x1B36, 0x000C)


def plan_slot_power(host: Host, slot: Slot, on: bool) -> Plan:
    """Plan to switch a slot on or off.  What uses a function that goes speaks against the plan.

    A slot of IBM Z is configured or deconfigured (`plan_power`).  Raise `NotAvailable`: nobody can switch it, it is
    empty, or its latch is open.
    """
    verb = f"switch slot {'on' if on else 'off'}"
    fid = slot.fid
    if fid is not None:
        from pyvfio.binding.zpci_settings import plan_power

        return plan_power(host, [fid], on)
    now = slot.power
    if now is None:
        raise NotAvailable(verb, slot.name, path=slot.path, cause="it has no power that could be switched")
    if now == on:
        return Plan(verb, (f"slot {slot.name}",), notes=(f"Slot {slot.name} is {'on' if on else 'off'} already",))
    if on:
        if slot.latch_open:
            raise NotAvailable(verb, slot.name, cause="its latch is open", next_step="close the latch")
        if slot.adapter is False:
            raise NotAvailable(verb, slot.name, cause="no card is in it", next_step="put a card in")
        return Plan(f"switch slot {slot.name} on", (slot.name,), (SwitchPower(slot.name, True),), sysfs=slot.sysfs)
    functions = slot.functions()
    states = tuple(driver_state(one) for one in functions if not _is_bridge(one))
    held = tuple(node for one in functions for node in _nodes(one))
    step = SwitchPower(slot.name, False, states, held)
    return _for_card(f"switch slot {slot.name} off", slot, functions, step, _notes(slot))


def plan_button(host: Host, slot: Slot) -> Plan:
    """Plan to press the attention button of a slot of a software machine; a card in use speaks against that.

    Raise `NotAvailable` on a host, where only a hand does that, and for a slot without a button.
    """
    what = "press attention button"
    if beyond(host.backend, "press_button") is None:
        raise NotAvailable(
            what,
            f"slot {slot.name}",
            cause="no system call presses the button of a host: somebody has to stand before it",
            next_step=f"pyvfio slot power {slot.name} on|off does what the button would",
        )
    port, state = slot.port, slot.state()
    if port is None or state is None or not state.button:
        raise NotAvailable(what, f"slot {slot.name}", cause="the slot has no attention button")
    step = PressButton(slot.name, port.name)
    title = f"press the button of slot {slot.name}"
    return _for_card(title, slot, slot.functions() if slot.power else [], step, ())


def _for_card(title: str, slot: Slot, functions: list[PciFunction], step: Step, notes: tuple[str, ...]) -> Plan:
    """A plan that takes all functions of a card: what speaks against any of them does against the plan."""
    plans = [plan_for(title, one, [step]) for one in functions if not _is_bridge(one)]
    if not plans:
        return Plan(title, (slot.name,), (step,), notes, sysfs=slot.sysfs)
    return Plan(
        title,
        tuple(plan.obj for plan in plans),
        (step,),
        tuple(dict.fromkeys((*notes, *(note for plan in plans for note in plan.notes)))),
        tuple(finding for plan in plans for finding in plan.findings),
        tuple(fact for plan in plans for fact in plan.facts),
        slot.sysfs,
        tuple(look for plan in plans for look in plan.looked),
        min(plan.made for plan in plans),
    )


def _is_bridge(function: PciFunction) -> bool:
    return function.class_code >> 16 == 0x06


def _nodes(function: PciFunction) -> tuple[str, ...]:
    with contextlib.suppress(PyvfioError):
        return vfio_nodes(function)
    return ()


def _notes(slot: Slot) -> tuple[str, ...]:
    port = slot.port
    real = beyond(slot.sysfs.backend, "press_button") is None
    if real and port is not None and (port.vendor_id, port.device_id) == _QEMU_PORT:
        return ("In a QEMU guest the card is unplugged for good when its slot is off",)
    return ()
