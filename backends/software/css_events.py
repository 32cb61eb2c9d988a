"""What happens by itself to channel paths and subchannels while a machine runs: ``[[css.event]]`` of its file.

`plan` has the events happen on the machine's clock.  An event that the machine cannot have any more (its subchannel is
gone already) does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from pyvfio.address import SubchannelId
from pyvfio.css.crw import CRW_SIZE, Crw
from pyvfio.css.sei import Configure, Sei
from pyvfio.errors import BadAddress, Misuse
from pyvfio_backends.software.description import CSS_ACTIONS, CssEventSpec, MachineSpec
from pyvfio_backends.software.file_report import Report

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.css import ChannelSubsystemHardware
    from pyvfio_backends.software.machine import Machine

__all__ = ["check_css_events", "plan"]

_WHERE: Final = ("css", "event")
_MILLISECOND: Final = 0.001


def check_css_events(spec: MachineSpec, error: Report) -> None:
    """Raise what `error` makes of the first event that cannot be."""
    chpids = {path.chpid for path in spec.paths}
    for n, event in enumerate(spec.css_events):
        needed = CSS_ACTIONS.get(event.action)
        if needed is None:
            raise error(
                (*_WHERE, "action"), f"no action {event.action!r}; there is {', '.join(sorted(CSS_ACTIONS))}", n
            )
        if event.after < 0 or event.starts < 0:
            raise error((*_WHERE, "after" if event.after < 0 else "starts"), "must not be negative", n)
        if event.starts and not event.of:
            raise error((*_WHERE, "starts"), "'of' says of which subchannel", n)
        if needed == "path" and event.path not in chpids:
            raise error((*_WHERE, "path"), "names no channel path that is described by [[css.path]]", n)
        for key in ("of", "schid"):
            if getattr(event, key) or key == needed:
                try:
                    SubchannelId.parse(getattr(event, key))
                except BadAddress as problem:
                    raise error((*_WHERE, key), f"{problem.text!r}: {problem.cause}", n) from problem
        if not 0 <= event.dstat < 1 << 8:
            raise error((*_WHERE, "dstat"), "a device status has 8 bits", n)
        for key, read in (("words", _words), ("sei", _event)):
            if key == needed:
                try:
                    read(event)
                except (ValueError, Misuse) as problem:
                    raise error((*_WHERE, key), str(problem).splitlines()[0], n) from problem


def _words(event: CssEventSpec) -> list[Crw]:
    if not event.words:
        raise ValueError("a report has one or more words")
    return [Crw.from_bytes(bytes.fromhex(word).rjust(CRW_SIZE, b"\0")) for word in event.words]


def _event(event: CssEventSpec) -> Sei:
    return Sei.from_bytes(bytes.fromhex(event.sei))


def plan(machine: Machine) -> None:
    """Have the events of the machine's file happen."""
    css = machine.css
    for event in machine.spec.css_events:
        delay = event.after * _MILLISECOND
        work = partial(_do, _action(css, event))
        if event.starts:
            due = partial(machine.clock.schedule, delay, work, background=True)
            css.at_start(SubchannelId.parse(event.of), event.starts, due)
        else:
            machine.clock.schedule(delay, work, background=True)


def _do(act: Callable[[], object]) -> None:
    try:
        act()
    except Misuse:
        return  # what it is about is not there any more


def _action(css: ChannelSubsystemHardware, event: CssEventSpec) -> Callable[[], object]:
    path, action = event.path, event.action
    if action in ("path-off", "path-on"):
        return partial(css.set_path_online, 0, path, action == "path-on")
    if action == "break-path":
        return partial(css.break_path, 0, path)
    if action == "repair-path":
        return partial(css.repair_path, 0, path)
    if action.startswith("ask-"):
        wish = {"ask-configure": Configure.CONFIGURE, "ask-deconfigure": Configure.DECONFIGURE}
        return partial(css.request_path, 0, path, wish.get(action, Configure.CANCEL_DECONFIGURE))
    if action == "report":
        return partial(css.inject_report, *_words(event))
    if action == "event":
        return partial(css.inject_event, _event(event))
    schid = SubchannelId.parse(event.schid)
    if action == "attention":
        return partial(css.present_status, schid, event.dstat)
    subchannels: dict[str, Callable[[SubchannelId], None]] = {
        "unplug": css.remove_subchannel,
        "silence": css.remove_device,
        "answer": css.restore_device,
    }
    return partial(subchannels[action], schid)
