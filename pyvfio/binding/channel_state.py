"""Where a channel device stands between its host and a guest, as facts and in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pyvfio.address import DeviceNumber
from pyvfio.binding.channel import DRIVER, OWN_DRIVER, find_channel
from pyvfio.binding.facts import facts
from pyvfio.binding.journal import DIRECTORY, Record, records
from pyvfio.binding.taken import was_online
from pyvfio.devices import ChannelDevice, Subchannel
from pyvfio.errors import PermissionDenied

if TYPE_CHECKING:
    from pyvfio.host import Host

__all__ = ["ChannelState", "channel_state", "channels_on_the_way"]


@dataclass(frozen=True, slots=True)
class ChannelState:
    """A channel device `device` and its `subchannel`, by name.

    `ccw_driver` and `online` are of the device while it is `registered`; `css_driver` and `override` of the subchannel;
    `mdevs` are its mediated devices and `holders` the programs that have one open.  `was_online` says that a take found
    the device online.  `interrupted` is the title of a run that was killed at work on it (empty: none), `alive` that
    it is still at work.
    """

    device: str
    subchannel: str
    registered: bool
    ccw_driver: str | None
    online: bool
    css_driver: str | None
    override: str | None
    mdevs: tuple[str, ...]
    holders: tuple[str, ...]
    was_online: bool
    interrupted: str = ""
    alive: bool = False

    @property
    def stage(self) -> str:
        """One of ``host``, ``half taken``, ``taken``, ``in use``, ``half given back``, ``other``."""
        if self.css_driver == DRIVER:
            return "in use" if self.holders else "taken" if self.mdevs else "half taken"
        if self.override == DRIVER:
            return "half taken"
        if self.override is not None or self.css_driver not in (None, OWN_DRIVER):
            return "other"
        if self.css_driver is None:
            return "half given back"
        return "half taken" if self.was_online and not self.online else "host"

    @property
    def words(self) -> str:
        """The stage in words."""
        if self.stage == "in use":
            return f"taken, open in {', '.join(self.holders)}"
        if self.stage == "taken":
            return "taken, not open"
        if self.stage == "half taken":
            return f"half taken: {self._missing}"
        if self.stage == "host":
            return f"the host's, {'online' if self.online else 'offline'}"
        if self.stage == "half given back":
            return "half given back: override cleared, driver none"
        return f"another driver's: driver {self.css_driver or 'none'}, override {self.override or 'none'}"

    @property
    def _missing(self) -> str:
        if self.css_driver == DRIVER:
            return f"{DRIVER} has the subchannel, no mediated device"
        if self.override is None:
            return f"set offline, {self.css_driver} still has the subchannel"
        if self.css_driver is None:
            return "override set, driver none"
        return f"override set, {self.css_driver} still has the subchannel"

    @property
    def next_step(self) -> str:
        """What can be done from here."""
        take, back = f"pyvfio ccw take {self.device}", f"pyvfio ccw give-back {self.device}"
        if self.interrupted:
            return "wait for its end" if self.alive else "pyvfio restore undoes the run that was killed"
        return {
            "in use": f"end that program; then {back}",
            "taken": f"{back} gives it back",
            "half taken": f"{take} goes on, {back} undoes",
            "host": f"{take} takes it",
            "half given back": f"{back} goes on, {take} takes it again",
            "other": f"{back} gives it to {OWN_DRIVER}, {take} takes it",
        }[self.stage]

    def as_dict(self) -> dict[str, object]:
        """As plain data."""
        return {**asdict(self), "stage": self.stage, "words": self.words, "next": self.next_step}


def channel_state(host: Host, device_number: str | DeviceNumber, *, journal: str = DIRECTORY) -> ChannelState:
    """The state of a channel device; `journal` is where runs leave theirs.  Raise `BadAddress`, `NoSuchDevice`."""
    device, subchannel = find_channel(host, device_number)
    return _state(host, device, subchannel, _records(host, journal))


def channels_on_the_way(host: Host, *, everything: bool = False, journal: str = DIRECTORY) -> Iterator[ChannelState]:
    """The devices that are not simply the host's (or all devices), in the order of their subchannels."""
    known = _records(host, journal)
    for subchannel in host.subchannels():
        number = subchannel.device_number
        if number is not None:
            state = _state(host, ChannelDevice(host.sysfs, number), subchannel, known)
            if everything or state.stage != "host" or state.interrupted:
                yield state


def _records(host: Host, journal: str) -> list[Record]:
    """The runs that did not end; an ordinary user may not see any."""
    try:
        return records(host.sysfs, journal)
    except PermissionDenied:
        return []


def _state(host: Host, device: ChannelDevice, subchannel: Subchannel, known: list[Record]) -> ChannelState:
    registered = device.exists
    driver = subchannel.driver
    # One whose removal waits for a program to let go has left its bus, but not its parent's directory.
    mdevs = [mdev for mdev in subchannel.mdevs if mdev.exists] if driver == DRIVER else []
    run = next((record for record in known if device.name in record.objects), None)
    return ChannelState(
        device.name,
        subchannel.name,
        registered,
        device.driver if registered else None,
        registered and device.online,
        driver,
        subchannel.override,
        tuple(mdev.name for mdev in mdevs),
        tuple(dict.fromkeys(str(holder) for mdev in mdevs for holder in facts(mdev).holders)),
        was_online(host.sysfs, device.name),
        "" if run is None else run.title,
        run is not None and run.alive(host.sysfs),
    )
