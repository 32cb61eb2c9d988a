"""What happens to the devices of a host, in words: uevents read as changes of drivers, devices, nodes and children.

A uevent says little: that of an unbind does not name the driver that left, a bind that follows is another event, and a
network interface only names the path of its device.  A `Watch` knows which driver has each device, puts an unbind and
the bind that follows it together, and finds the device that an event is about.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import errno
import posixpath
import re
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from pyvfio.devices import BUSES
from pyvfio.errors import PyvfioError, from_oserror
from pyvfio.sysfs import Sysfs
from pyvfio.uevent import Uevent, UeventStream

if TYPE_CHECKING:
    from pyvfio.host import Host

__all__ = ["Change", "Watch", "device_in", "read_event"]

TOGETHER = 0.25
"""Seconds that an unbind waits for the bind that may follow it."""
_DEVICE = re.compile(
    r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"  # pci
    r"|[0-9a-f]{1,2}\.[0-9a-f]\.[0-9a-f]{4}"  # css, ccw
    r"|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"  # mdev
)
_VERBS = {"add": "appeared", "remove": "gone", "change": "changed", "online": "online", "offline": "offline"}
_MDEV_STATES = {"registered": "takes mediated devices", "unregistered": "takes no mediated devices"}


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that happened.

    `kind` is ``driver``, ``device``, ``mdev``, ``net``, ``block``, ``vfio`` (a node) or ``event`` (anything else);
    `device` the address that it is about (empty: none on a bus of this library); `text` says it in words.  Of a driver,
    `before` and `after` are the names.  `events` are what it was read from.
    """

    kind: str
    device: str
    text: str
    before: str | None = None
    after: str | None = None
    events: tuple[Uevent, ...] = field(default=(), repr=False)

    @property
    def seqnum(self) -> int:
        """The serial number of the last event."""
        return self.events[-1].seqnum if self.events else 0

    def as_dict(self) -> dict[str, object]:
        """As plain data; `events` are the variables of each."""
        return {
            "kind": self.kind,
            "device": self.device,
            "text": self.text,
            "before": self.before,
            "after": self.after,
            "seqnum": self.seqnum,
            "events": [dict(event.properties) for event in self.events],
        }

    def __str__(self) -> str:
        return self.text


def device_in(devpath: str) -> str:
    """The device that a path below ``/sys`` belongs to: its last part that is an address; empty without one."""
    return next((part for part in reversed(devpath.split("/")) if _DEVICE.fullmatch(part)), "")


class _Reader:
    """Reads events as changes; `drivers` are those of now, by bus and device."""

    def __init__(self, sysfs: Sysfs) -> None:
        self.sysfs = sysfs
        self.drivers: dict[tuple[str, str], str] = {}
        for bus in BUSES:
            for driver in self._names(f"/sys/bus/{bus}/drivers"):
                for name in self._names(f"/sys/bus/{bus}/drivers/{driver}"):
                    if _DEVICE.fullmatch(name):
                        self.drivers[bus, name] = driver

    def _names(self, path: str) -> list[str]:
        try:
            return self.sysfs.names(path)
        except PyvfioError:
            return []

    def read(self, event: Uevent) -> Change:
        if event.subsystem in BUSES and _DEVICE.fullmatch(event.name):
            change = self._on_bus(event)
        else:
            change = _beside(event)
        return dataclasses.replace(change, events=(event,))

    def _on_bus(self, event: Uevent) -> Change:
        bus, name = event.subsystem, event.name
        if event.action in ("bind", "unbind"):
            before = self.drivers.pop((bus, name), None)
            after = event.properties.get("DRIVER") if event.action == "bind" else None
            if after is not None:
                self.drivers[bus, name] = after
            # the same driver before and after: it was bound between the first event and the look at the drivers
            return _driver_change(name, None if before == after else before, after)
        if event.action == "remove":
            self.drivers.pop((bus, name), None)
        if bus == "mdev" and event.action in ("add", "remove"):
            parent = device_in(posixpath.dirname(event.devpath))
            on = f" {'on' if event.action == 'add' else 'from'} {parent}" if parent else ""
            return Change("mdev", name, f"{name} mdev {'created' if event.action == 'add' else 'removed'}{on}")
        state = _MDEV_STATES.get(event.properties.get("MDEV_STATE", ""))
        return Change("device", name, f"{name} {state or _VERBS.get(event.action, event.action)}")


def _driver_change(device: str, before: str | None, after: str | None) -> Change:
    """A device has another driver."""
    return Change("driver", device, f"{device} driver {before or 'none'} -> {after or 'none'}", before, after)


def _beside(event: Uevent) -> Change:
    """An event of something that is no device of a bus: a child, a node, anything."""
    owner, verb = device_in(event.devpath), _VERBS.get(event.action, event.action)
    prefix = f"{owner} " if owner else ""
    kind = event.subsystem
    if kind == "net" and event.action == "move":
        old = posixpath.basename(event.properties.get("DEVPATH_OLD", "?"))
        return Change("net", owner, f"{prefix}net {old} renamed to {event.name}")
    if kind in ("net", "block"):
        return Change(kind, owner, f"{prefix}{kind} {event.name} {verb}")
    if kind in ("vfio", "vfio-dev"):
        node = event.properties.get("DEVNAME", "").removeprefix("/dev/")
        folder = "vfio/devices" if kind == "vfio-dev" else "vfio"
        return Change("vfio", owner, f"{prefix}node /dev/{node or f'{folder}/{event.name}'} {verb}")
    return Change("event", owner, f"{prefix}{kind} {event.name} {verb}")


def read_event(stream: UeventStream, timeout: float | None) -> Uevent | None:
    """The next event of a stream, as `UeventStream.read` gives it.

    Raise the class for the errno; ENOBUFS says that events are lost, because they came faster than they were read.
    """
    try:
        return stream.read(timeout)
    except OSError as error:
        lost = error.errno == errno.ENOBUFS
        raise from_oserror(
            error,
            "read uevents",
            cause="they came faster than they were read: some are lost" if lost else "",
            next_step="begin again, and look at what is there now" if lost else "",
        ) from error


class Watch:
    """Changes as they happen, from now on.  A context manager.

    `devices` keeps only what is about these addresses, which need not be there yet; `subsystems` only events of these;
    without either all changes are read.  `stream` is another source of events than the host's own; it is closed with
    the watch.
    """

    def __init__(
        self,
        host: Host,
        *,
        devices: Collection[str] = (),
        subsystems: Sequence[str] = (),
        stream: UeventStream | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wanted = frozenset(devices)
        self._clock = clock
        self._stream = host.uevents(subsystems) if stream is None else stream
        self._reader = _Reader(host.sysfs)  # after the stream was opened: nothing is missed
        self._sysfs = host.sysfs
        self._groups = self._groups_now()
        self._ready: collections.deque[Change] = collections.deque()
        self._unbound: dict[tuple[str, str], tuple[Change, float]] = {}

    def _groups_now(self) -> set[str]:
        """The IOMMU groups of the wanted devices: the events of a group's node name no device."""
        found = set()
        for name in self._wanted:
            for bus in BUSES:
                with contextlib.suppress(PyvfioError):
                    group = self._sysfs.link_name(f"/sys/bus/{bus}/devices/{name}/iommu_group")
                    found |= {group} if group is not None else set()
        return found

    def read(self, timeout: float | None = 0.0) -> Change | None:
        """The next change; wait up to `timeout` seconds (None: for ever).  None when none came.

        An unbind is kept back for a moment, and becomes one change with the bind that follows.  Raise as `read_event`.
        """
        deadline = None if timeout is None else self._clock() + timeout
        while True:
            now = self._clock()
            self._let_go(now)
            if self._ready:
                return self._ready.popleft()
            moments = [due for _, due in self._unbound.values()]
            if deadline is not None:
                moments.append(deadline)
            left = max(0.0, min(moments) - now) if moments else None
            event = read_event(self._stream, left)
            if event is not None:
                self._take(event)
            elif deadline is not None and self._clock() >= deadline:
                self._let_go(self._clock())
                return self._ready.popleft() if self._ready else None

    def rest(self) -> Iterable[Change]:
        """What is still kept back, at the end."""
        for change, _ in self._unbound.values():
            self._add(change)
        self._unbound.clear()
        while self._ready:
            yield self._ready.popleft()

    def fileno(self) -> int:
        """Readable while an event waits: for `select`.  Changes that are kept back need `read` with a timeout."""
        return self._stream.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # inside

    def _take(self, event: Uevent) -> None:
        change = self._reader.read(event)
        key = event.subsystem, change.device
        kept = self._unbound.pop(key, None)
        if kept is not None:
            earlier, _ = kept
            if change.kind == "driver" and event.action == "bind":
                both = _driver_change(change.device, earlier.before, change.after)
                self._add(dataclasses.replace(both, events=(*earlier.events, *change.events)))
                return
            self._add(earlier)
        if change.kind == "driver" and event.action == "unbind":
            self._unbound[key] = change, self._clock() + TOGETHER
            return
        self._add(change)

    def _add(self, change: Change) -> None:
        if not self._wanted or change.device in self._wanted or self._is_near(change):
            self._ready.append(change)

    def _is_near(self, change: Change) -> bool:
        """Whether a wanted device is above the event's, or it is the node of its group."""
        event = change.events[-1]
        if self._wanted & set(event.devpath.split("/")):
            return True
        if event.subsystem != "vfio":
            return False
        if event.name not in self._groups:
            try:
                members = self._sysfs.names(f"/sys/kernel/iommu_groups/{event.name}/devices")
            except PyvfioError:
                return False
            self._groups |= {event.name} if self._wanted & set(members) else set()
        return event.name in self._groups

    def _let_go(self, now: float) -> None:
        for key, (change, due) in tuple(self._unbound.items()):
            if due <= now:
                del self._unbound[key]
                self._add(change)
