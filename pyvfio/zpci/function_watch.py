"""What happens to PCI functions of IBM Z, as it happens: from uevents, and from the kernel's notes in debugfs.

Uevents say what became of devices, drivers, slots and recoveries; the notes have the machine's event codes and the
handles.  Both come in the order in which they were seen.

Sources: ``arch/s390/pci/pci_event.c`` (what the kernel does with events of the machine), ``pci_uevent_ers`` in
``drivers/pci/pci-driver.c`` (recoveries).
"""

from __future__ import annotations

import collections
import contextlib
import re
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from pyvfio.errors import PyvfioError
from pyvfio.watch import Change, Watch
from pyvfio.zpci.notes import NOTES, Note, NoteReader

if TYPE_CHECKING:
    from pyvfio.host import Host
    from pyvfio.uevent import Uevent

__all__ = ["FunctionEvent", "FunctionWatch"]

_LOOK_EVERY: Final = 0.25
_SLOT: Final = re.compile(r"[0-9a-f]{8}\Z")
_ERS: Final = {
    "BEGIN_RECOVERY": "recovery begins",
    "SUCCESSFUL_RECOVERY": "recovered",
    "FAILED_RECOVERY": "not recovered",
}


@dataclass(frozen=True, slots=True)
class FunctionEvent:
    """One thing that happened.

    `kind` is ``availability`` or ``error`` (an event of the machine, with its code `pec`), ``state`` (enabled,
    disabled, configured, ...), ``function``, ``recovery``, ``driver``, ``device``, ``slot``, or another kind of change.
    `fid` is None where it is not known, `device` empty; `fh` is the handle then.  `events` are the uevents that it was
    read from.
    """

    kind: str
    text: str
    fid: int | None = None
    device: str = ""
    fh: int | None = None
    pec: int | None = None
    events: tuple[Uevent, ...] = field(default=(), repr=False)

    def as_dict(self) -> dict[str, object]:
        """As plain data."""
        return {
            "kind": self.kind,
            "fid": self.fid,
            "device": self.device,
            "fh": self.fh,
            "pec": self.pec,
            "text": self.text,
            "events": [dict(event.properties) for event in self.events],
        }

    def __str__(self) -> str:
        who = "" if self.fid is None else f"fid {self.fid:08x} "
        where = f"{self.device} " if self.device and self.device not in self.text else ""
        handle = "" if self.fh is None else f" (handle {self.fh:08x})"
        return f"{who}{where}{self.text}{handle}"


class FunctionWatch:
    """Events from now on, of all functions or of those with these FIDs.  A context manager.

    `missing` says which source cannot be read here, and why.
    """

    def __init__(self, host: Host, fids: Collection[int] = ()) -> None:
        self._host = host
        self._wanted = frozenset(fids)
        self.missing: list[str] = []
        self._names: dict[str, int] = {}
        self._watch = Watch(host, stream=host.uevents(("pci", "slots", "net", "block", "vfio", "vfio-dev")))
        self._ready: collections.deque[FunctionEvent] = collections.deque()
        self._learn()
        self._notes: NoteReader | None = None
        try:
            self._notes = NoteReader(host.sysfs)
        except PyvfioError as error:
            self.missing.append(f"the machine's event codes ({NOTES}): {error.cause or error}")

    def _learn(self) -> None:
        """Which device has which FID, also of those that go."""
        with contextlib.suppress(PyvfioError):
            for device in self._host.functions():
                fid = device.fid
                if fid is not None:
                    self._names[device.name] = fid

    def read(self, timeout: float | None = 0.0) -> FunctionEvent | None:
        """The next event; wait up to `timeout` seconds (None: for ever).  None when none came.

        Raise as `pyvfio.watch.read_event`.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if self._ready:
                return self._ready.popleft()
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            look = left if self._notes is None else _LOOK_EVERY if left is None else min(_LOOK_EVERY, left)
            change = self._watch.read(look)
            self._take_notes()
            if change is not None:
                self._take(change)
            elif not self._ready and deadline is not None and time.monotonic() >= deadline:
                return None

    def rest(self) -> list[FunctionEvent]:
        """What is still kept back, at the end (an unbind waits for the bind that may follow)."""
        for change in self._watch.rest():
            self._take(change)
        self._take_notes()
        left = list(self._ready)
        self._ready.clear()
        return left

    def _take_notes(self) -> None:
        if self._notes is not None:
            for note in self._notes.new():
                self._add(_noted(note, self._names))

    def _take(self, change: Change) -> None:
        event = change.events[-1]
        device = change.device
        if device and device not in self._names:
            self._learn()
        fid = self._names.get(device)
        ers = event.properties.get("ERROR_EVENT")
        if event.subsystem == "slots":
            if _SLOT.match(event.name):
                verb = {"add": "there", "remove": "gone"}.get(event.action, event.action)
                self._add(FunctionEvent("slot", f"slot {verb}", int(event.name, 16), events=change.events))
        elif ers is not None:
            self._add(FunctionEvent("recovery", _ERS.get(ers, ers), fid, device, events=change.events))
        elif fid is not None:
            self._add(FunctionEvent(change.kind, change.text, fid, device, events=change.events))

    def _add(self, event: FunctionEvent) -> None:
        if not self._wanted or event.fid in self._wanted:
            self._ready.append(event)

    def fileno(self) -> int:
        """Readable while a uevent waits; the notes come without one, so look from time to time."""
        return self._watch.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._watch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _noted(note: Note, names: dict[str, int]) -> FunctionEvent:
    device = next((name for name, fid in names.items() if fid == note.fid), "")
    return FunctionEvent(note.kind, note.words, note.fid, device, note.fields.get("fh"), note.fields.get("pec"))
