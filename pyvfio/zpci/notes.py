"""What the kernel notes of PCI functions: ``/sys/kernel/debug/s390dbf/pci_msg/sprintf``.

Only these notes have the event codes of the machine, and say when a handle changed.  A line is the area, the time in
seconds since 1970, the level, a mark, the processor, the caller and the text::

    00 01795269058:031242 3 - 0000 000003ffe0108922  deconf fid:22, rc:0

Numbers in texts are hexadecimal, return codes decimal.  The log is a ring: it forgets its oldest lines.

Sources: ``arch/s390/kernel/debug.c`` (the line), ``arch/s390/pci`` (``zpci_dbg``: the texts).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from pyvfio.errors import PyvfioError
from pyvfio.sysfs import Sysfs
from pyvfio.zpci.event_code import event_name
from pyvfio.zpci.statistics import DEBUGFS

__all__ = ["NOTES", "Note", "NoteReader"]

NOTES: Final = f"{DEBUGFS}/s390dbf/pci_msg/sprintf"
_LINE: Final = re.compile(r"\d\d (\d+):(\d+) (\d) . [0-9a-f]+ [0-9a-f]+ +(.*)\Z")
_FIELD: Final = re.compile(r"(\w+):(-?[0-9a-f]+)")
_DECIMAL: Final = ("rc", "cc", "status")
_WORDS: Final = {
    "avl": ("availability", ""),
    "err": ("error", ""),
    "add": ("function", "known to Linux"),
    "rem": ("function", "forgotten"),
    "rsv": ("function", "reserved by another"),
    "rea": ("function", "there again"),
    "ena": ("state", "enabled"),
    "dis": ("state", "disabled"),
    "conf": ("state", "configured"),
    "deconf": ("state", "deconfigured"),
    "rst": ("state", "to be reset"),
}


@dataclass(frozen=True, slots=True)
class Note:
    """A line: `time` (seconds since 1970), `text`, its first word as `verb` and its `fields` as numbers."""

    time: float
    text: str
    verb: str = ""
    fields: dict[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, line: str) -> Note | None:
        """Read a line; None when it is none."""
        match = _LINE.match(line.rstrip("\n"))
        if match is None:
            return None
        text = match[4].strip()
        fields = {name: int(value, 10 if name in _DECIMAL else 16) for name, value in _numbers(text)}
        return cls(int(match[1]) + int(match[2]) / 1_000_000, text, text.split(" ")[0], fields)

    @property
    def fid(self) -> int | None:
        """The function that it is about."""
        return self.fields.get("fid")

    @property
    def kind(self) -> str:
        """``availability`` and ``error`` (events of the machine), ``function``, ``state``, or ``note``."""
        return _WORDS.get(self.verb, ("note", ""))[0]

    @property
    def words(self) -> str:
        """What happened, in words."""
        pec = self.fields.get("pec")
        if pec is not None:
            return f"{self.kind} event {pec:#06x}: {event_name(pec)}"
        words = _WORDS.get(self.verb, ("", ""))[1] or self.text
        rc = self.fields.get("rc", 0)
        return words if not rc else f"not {words}: {rc}"


def _numbers(text: str) -> list[tuple[str, str]]:
    found = []
    for name, value in _FIELD.findall(text):
        try:
            int(value, 10 if name in _DECIMAL else 16)
        except ValueError:
            continue
        found.append((name, value))
    return found


class NoteReader:
    """The notes that come from now on.  Raise the class for the errno (no debugfs, not root) when it is made."""

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs
        self._seen = set(self._lines())

    def _lines(self) -> list[str]:
        return self._sysfs.read_bytes(NOTES).decode("utf-8", "replace").splitlines()

    def new(self) -> list[Note]:
        """What was noted since the last call; nothing when the log cannot be read any more."""
        try:
            lines = self._lines()
        except PyvfioError:
            return []
        # The kernel prints the ring as it lies in storage: once it is full, the newest lines are before the oldest.
        seen, self._seen = self._seen, set(lines)
        found = [note for line in lines if line not in seen and (note := Note.parse(line)) is not None]
        return sorted(found, key=lambda note: note.time)
