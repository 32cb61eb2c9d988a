"""``pyvfio slot``: hot-plug slots: what is in them, power, buttons, and what happens there."""

from __future__ import annotations

import json
import math
import time

import click

from pyvfio.binding.slot_power import plan_button, plan_slot_power
from pyvfio.errors import PyvfioError
from pyvfio.host import Host
from pyvfio.pci.classes import class_name, is_bridge
from pyvfio.pci.slot import Slot, find_slot, slots
from pyvfio.pci.slot_state import Indicator
from pyvfio.pci.slot_watch import SlotChange, SlotWatch
from pyvfio_tools.acting import Acting, acting_options
from pyvfio_tools.commands import Commands
from pyvfio_tools.complete import complete_slot
from pyvfio_tools.options import host_options
from pyvfio_tools.output import print_json, print_table

__all__ = ["slot"]

_HEADINGS = ("SLOT", "PORT", "CARD", "POWER", "INDICATOR", "ATTENTION", "LATCH", "LOCK", "LINK", "FUNCTIONS")
_SETTLED, _PATIENCE = 1.5, 15.0
"""Seconds: how long nothing happens before a slot counts as settled, and how long that is waited for."""
_NAME = click.argument("name", metavar="SLOT", shell_complete=complete_slot)


@click.group(cls=Commands)
def slot() -> None:
    """Hot-plug slots of PCI Express ports, and of the functions of IBM Z.

    SLOT is the name that /sys/bus/pci/slots has for it (9, 00000021), the address of its port, or of a function in it.

    \b
    Examples:
      pyvfio slot list --machine lab-x86
      pyvfio slot power 4 off --dry-run --machine lab-x86
      pyvfio slot watch --json
    """


def _switch(value: bool | None, on: str, off: str) -> str:
    return "-" if value is None else on if value else off


def _document(one: Slot) -> dict[str, object]:
    state, port = one.state(), one.port
    functions = one.functions()
    registers = {
        "button": None if state is None else state.button,
        "surprise": None if state is None else state.surprise,
        "indicator": None if state is None or state.indicator is None else str(state.indicator),
        "interlock": None if state is None else state.interlock,
        "link": None if state is None else state.link,
        "fault": None if state is None else state.fault,
    }
    attention = one.attention
    return {
        "slot": one.name,
        "address": one.address,
        "port": None if port is None else port.name,
        "fid": one.fid,
        "adapter": one.adapter,
        "power": one.power,
        "attention": None if attention is None else str(attention),
        "latch_open": one.latch_open,
        **registers,
        "registers": state is not None,
        "current_speed": one.current_speed,
        "most_speed": one.most_speed,
        "functions": [
            {"device": each.name, "what": class_name(each.class_code), "driver": each.driver} for each in functions
        ],
    }


def _row(one: Slot) -> tuple[str, ...]:
    state, port, attention = one.state(), one.port, one.attention
    inside = [each for each in one.functions() if not is_bridge(each.class_code)]
    indicator: Indicator | None = None if state is None else state.indicator
    return (
        one.name,
        "-" if port is None else port.name,
        _switch(one.adapter, "present", "empty"),
        _switch(one.power, "on", "off") + (" (fault)" if state is not None and state.fault else ""),
        "-" if indicator is None else str(indicator),
        "-" if attention is None else str(attention),
        _switch(one.latch_open, "open", "closed"),
        _switch(None if state is None else state.interlock, "engaged", "released"),
        _switch(None if state is None else state.link, "up", "down"),
        ", ".join(f"{each.name} ({each.driver or 'no driver'})" for each in inside) or "-",
    )


@slot.command("list")
@click.argument("names", metavar="[SLOT]...", nargs=-1, shell_complete=complete_slot)
@host_options
def list_(host: Host, as_json: bool, names: tuple[str, ...]) -> None:
    """Show the slots: port, card, power, both indicators, latch, interlock, link, and the functions that are in it.

    INDICATOR is the power indicator. It, the interlock and the link stand in registers of the port that ordinary
    users cannot read; "-" is what a slot does not have, or does not tell.

    \b
    Examples:
      pyvfio slot list --machine lab-x86
      pyvfio slot list --machine z15-lpar
      pyvfio slot list 9 --json
    """
    found = [find_slot(host.sysfs, name) for name in names] or slots(host.sysfs)
    if as_json:
        print_json([_document(one) for one in found])
        return
    print_table(_HEADINGS, map(_row, found), empty="no slots: no driver for hot-plug has found one")
    blind = [one.name for one in found if one.port is not None and not one.conventional and one.state() is None]
    if blind:
        click.echo(f"the registers of {', '.join(blind)} cannot be read: indicators are known to root", err=True)


@slot.command()
@_NAME
@click.argument("what", metavar="on|off", type=click.Choice(["on", "off"]))
@acting_options
def power(host: Host, acting: Acting, name: str, what: str) -> None:
    """Switch a slot on or off, as power in its sysfs directory does; on IBM Z, configure a function or give it back.

    A card that is in use (a mounted disk, an interface with an address, a program that has a function through VFIO) is
    refused with the evidence. The inverse gives functions their drivers and overrides again.

    \b
    Examples:
      pyvfio slot power 4 off --machine lab-x86
      pyvfio slot power 9 on
      pyvfio slot power 4 off --dry-run --json
    """
    one = find_slot(host.sysfs, name)
    if acting.carry_out(plan_slot_power(host, one, what == "on")) and not acting.as_json:
        _show_now(one)


@slot.command()
@_NAME
@click.option("--no-wait", is_flag=True, help="End when the button is pressed; do not wait for what comes of it.")
@acting_options
def press(host: Host, acting: Acting, name: str, no_wait: bool) -> None:
    """Press the attention button of a slot of a software machine, and show what happens then.

    The power indicator blinks for 5 s, in which a second press takes the first one back. A card that is in use is
    refused with the evidence, as the kernel would take it away. On a host somebody has to press the button: there is
    no call that does.

    \b
    Examples:
      pyvfio slot press 10 --machine lab-x86
      pyvfio slot press 10 --no-wait
    """
    one = find_slot(host.sysfs, name)
    plan = plan_button(host, one)
    if no_wait or acting.dry_run:
        acting.carry_out(plan)
        return
    with SlotWatch(host, [one], drives=True) as watch:
        if acting.as_json:
            acting.do(plan)
            changes = [change.as_dict() for change in _until_settled(watch, one)]
            print_json({**plan.as_dict(), "done": True, "events": changes})
        elif acting.carry_out(plan):
            for change in _until_settled(watch, one):
                click.echo(_line(change, False))
            _show_now(one)


def _until_settled(watch: SlotWatch, one: Slot) -> list[SlotChange]:
    """What happens until the indicator does not blink any more, and nothing does for a while."""
    found: list[SlotChange] = []
    left = _PATIENCE
    while left > 0:
        change = watch.read(_SETTLED)
        if change is not None:
            found.append(change)
            continue
        left -= _SETTLED
        state = one.state()
        if state is None or state.indicator is not Indicator.BLINK:
            break
    return found


def _show_now(one: Slot) -> None:
    try:
        print_table(_HEADINGS, [_row(one)])
    except PyvfioError as error:  # it is done all the same
        click.echo(f"pyvfio: it cannot be listed: {error}", err=True)


def _line(change: SlotChange, as_json: bool) -> str:
    if as_json:
        return json.dumps(change.as_dict())
    return f"{change.seconds:9.2f}  slot {change.slot}  {change}"


@slot.command()
@click.argument("names", metavar="[SLOT]...", nargs=-1, shell_complete=complete_slot)
@click.option("--seconds", type=click.FloatRange(min=0), default=None, help="Stop after so many seconds.")
@click.option("--count", type=click.IntRange(min=1), default=None, help="Stop after so many events.")
@host_options
def watch(host: Host, as_json: bool, names: tuple[str, ...], seconds: float | None, count: int | None) -> None:
    """Print what happens at slots: presence, power, indicators, latch, link, and functions that come and go.

    A software machine tells each event of its hardware. A host tells of functions by uevents, and the registers of its
    ports are looked at four times a second: root is needed for that, and of a button nothing is seen. With --json each
    line is an object.

    \b
    Examples:
      pyvfio slot watch
      pyvfio slot watch 9 --json --seconds 60
    """
    if seconds is not None and math.isnan(seconds):
        raise click.BadParameter("'nan' is not a number of seconds.", param_hint="'--seconds'")
    chosen = [find_slot(host.sysfs, name) for name in names]
    deadline = None if seconds is None else time.monotonic() + seconds
    with SlotWatch(host, chosen) as events:
        if not as_json:
            click.echo("waiting for events (Ctrl-C ends)", err=True)
        seen = 0
        while count is None or seen < count:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            change = events.read(left)
            if change is not None:
                seen += 1
                click.echo(_line(change, as_json))
            elif deadline is not None and time.monotonic() >= deadline:
                break
