"""The kernel's notes of PCI functions, and reports to the machine.

The lines are those of a real kernel (6.12 in the lab); the texts are ``zpci_dbg``'s in ``arch/s390/pci``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from pyvfio.errors import Misuse, PyvfioError
from pyvfio.host import Host
from pyvfio.zpci.event_code import AvailabilityCode
from pyvfio.zpci.function_watch import FunctionWatch
from pyvfio.zpci.notes import NOTES, Note, NoteReader
from pyvfio.zpci.report import LOG_ZPCICTL, ErrorReport, ReportAction
from pyvfio_backends.software import software_of
from pyvfio_backends.software.linux.zpci_host import zpci_host

HEAD = "00 01795269058:031242 3 - 0000 000003ffe0108922  "


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nonsense",
        "00 01795269058:031242 3 -",
        HEAD.replace(":", " "),
        "00 x:1 3 - 0000 000003ffe0108922  add fid:1",
    ],
)
def test_what_is_no_note(line: str) -> None:
    assert Note.parse(line) is None


@pytest.mark.parametrize(
    ("text", "kind", "fid", "words"),
    [
        ("uid checking:1", "note", None, "uid checking:1"),
        ("add fid:22, fh:20003, c:1", "function", 0x22, "known to Linux"),
        ("ena fid:22, fh:80020003, rc:0", "state", 0x22, "enabled"),
        ("dis fid:22, fh:20003, rc:0", "state", 0x22, "disabled"),
        ("deconf fid:22, rc:0", "state", 0x22, "deconfigured"),
        ("conf fid:22, rc:-5", "state", 0x22, "not configured: -5"),
        ("rst fid:22, fh:80020003", "state", 0x22, "to be reset"),
        ("avl fid:1000, fh:20001, pec:301", "availability", 0x1000, "reserved or standby -> configured"),
        ("avl fid:1000, fh:20001, pec:3ff", "availability", 0x1000, "event 0x03ff"),
        ("err fid:22, fh:80020003, pec:3a", "error", 0x22, "service action"),
        ("err fid:22, fh:80020003 (stale 20003)", "error", 0x22, "err fid:22, fh:80020003 (stale 20003)"),
        ("reg ioat fid:22, cc:1, status:10", "note", 0x22, "reg ioat fid:22, cc:1, status:10"),
    ],
)
def test_notes(text: str, kind: str, fid: int | None, words: str) -> None:
    note = Note.parse(HEAD + text + "\n")
    assert note is not None
    assert (note.kind, note.fid, note.text) == (kind, fid, text)
    assert words in note.words
    assert note.time == 1795269058.031242


def test_the_reader_gives_each_note_once() -> None:
    with Host("software", machine="lab-s390x") as host:
        reader = NoteReader(host.sysfs)
        assert reader.new() == []
        power = "/sys/bus/pci/slots/00000022/power"
        for _ in range(3):
            host.sysfs.write_text(power, "0")
            host.sysfs.write_text(power, "1")
        assert [note.verb for note in reader.new()] == ["dis", "deconf", "conf", "ena"] * 3
        assert reader.new() == []


def test_the_log_is_a_ring() -> None:
    with Host("software", machine="lab-s390x") as host:
        reader = NoteReader(host.sysfs)
        notes = zpci_host(host.backend.machine.kernel).notes
        for number in range(2000):
            notes.note(3, f"conf fid:{number:x}, rc:0")
        notes.note(4, "not important enough")
        found = reader.new()
        assert found[-1].fid == 1999
        assert len(found) == len(host.sysfs.read_text(NOTES).splitlines())


def test_a_full_ring_is_printed_as_it_lies() -> None:
    """``debug_next_entry()`` goes through the pages of storage: the newest lines are before the oldest then."""
    lines = [f"00 {1795269058 + n:011}:000000 3 - 0000 000003ffe0108922  conf fid:{n:x}, rc:0\n" for n in range(6)]

    class Ring:
        printed: ClassVar[list[str]] = lines[2:4] + lines[:2]

        def read_bytes(self, path: str) -> bytes:
            return "".join(self.printed).encode()

    ring: Any = Ring()
    reader = NoteReader(ring)
    Ring.printed = [lines[5], *lines[2:5]]
    assert [note.fid for note in reader.new()] == [4, 5]
    assert reader.new() == []


def test_without_debugfs() -> None:
    with Host("software", machine="lab-s390x") as host:
        del software_of(host.backend).machine.kernel.debug["s390dbf"]
        with pytest.raises(PyvfioError):
            NoteReader(host.sysfs)


def test_a_function_that_comes_and_goes_is_seen() -> None:
    """The machine's events with their codes, and what Linux makes of them."""
    from pyvfio_backends.software.description import FunctionSpec

    with Host("software", machine="lab-s390x") as host, FunctionWatch(host) as watch:
        machine = software_of(host.backend).machine.zpci
        machine.plug(FunctionSpec(0x77, 0x78, "virtio-rng"))
        machine.unplug(0x78)
        found = []
        while (event := watch.read(0.5)) is not None:
            found.append(event)
        codes = [event.pec for event in found if event.kind == "availability"]
        assert codes == [AvailabilityCode.CONFIGURED, AvailabilityCode.DECONFIGURE_REQUESTED, AvailabilityCode.RESERVED]
        assert [event.text for event in found if event.kind == "slot"] == ["slot there", "slot gone"]
        assert {event.fid for event in found} == {0x78}
        assert "there again" not in {event.text for event in found}
        assert "deconfigured" in {event.text for event in found}


# reports


def test_a_report_too_long() -> None:
    with pytest.raises(Misuse):
        ErrorReport(ReportAction.INFORM, data=bytes(4057)).to_bytes()


def test_a_report() -> None:
    """``libzpci/pci_sclp.c``: the length counts what follows the header, without the rest of the page."""
    data = ErrorReport(ReportAction.RESET, 0x0102, data=b"log").to_bytes()
    import sys

    assert data[:2] == b"\x01\x00"
    assert int.from_bytes(data[2:4], sys.byteorder) == len(data) - 4 == 19
    assert int.from_bytes(data[4:12], sys.byteorder) == 0x0102
    assert int.from_bytes(data[12:20], sys.byteorder) == LOG_ZPCICTL
    assert data[20:] == b"log"
    assert len(ErrorReport(ReportAction.INFORM, data=bytes(4056)).to_bytes()) == 4076
