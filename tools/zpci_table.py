"""How a PCI function of IBM Z is shown: a line of a table, details, plain data for ``--json``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from pyvfio.zpci.known import Known, KnownFunction
from pyvfio.zpci.statistics import Statistics

__all__ = ["HEADINGS", "details", "document", "measurements", "row"]

HEADINGS = ("FID", "UID", "DEVICE", "STATE", "HANDLE", "TYPE", "PCHID", "GROUP", "VF", "PORT", "DRIVER")
_NONE = "-"


def _hex(value: int | None, digits: int) -> str:
    return _NONE if value is None else f"{value:0{digits}x}"


def _plain(value: object) -> str:
    return _NONE if value is None or value == "" else str(value)


def _yes(value: bool | None, yes: str = "yes", no: str = "no") -> str:
    return "" if value is None else yes if value else no


def _state(one: KnownFunction) -> str:
    if one.answers is False:
        return "error"
    return "enabled" if one.state == "configured" and one.enabled else one.state


def row(one: KnownFunction) -> tuple[str, ...]:
    """A line of the table."""
    return (
        _hex(one.fid, 8),
        _hex(one.uid, 4),
        _plain(one.device),
        _state(one),
        _hex(one.fh, 8),
        _plain(one.type),
        _hex(one.pchid, 4),
        _hex(one.pfgid, 2),
        _plain(one.vfn or None),
        _plain(one.port),
        _plain(one.driver),
    )


def measurements(found: Statistics) -> Iterator[tuple[str, object]]:
    """The measurements as names and values."""
    yield "measured", f"every {found.interval} ms" if found.enabled else "no"
    if found.enabled:
        seconds = found.seconds
        yield "samples", found.samples
        yield "updated", "not yet" if seconds is None else f"at {seconds:.3f} s of the machine's clock"
        yield from {**found.counters, **found.software}.items()


def details(one: KnownFunction) -> Iterator[tuple[str, object]]:
    """All that is known of a function, for people."""
    unique = {True: " (unique)", False: " (not checked)", None: ""}[one.uid_is_unique]
    yield "function", f"{one.fid:08x}"
    yield "UID", "" if one.uid is None else f"{one.uid:04x}{unique}"
    yield "device", one.device or "none"
    yield "state", one.state
    yield "slot power", _yes(one.power, "on", "off")
    yield "handle", one.handle
    yield "answers", _yes(one.answers, no="no: its configuration space reads as ones, the function is in error")
    yield "driver", (one.driver or "none") if one.device else ""
    yield "id", "" if one.vendor is None else f"{one.vendor:04x}:{one.device_id or 0:04x}"
    yield "type", "" if one.pft is None else f"{one.pft:02x} ({one.type})"
    yield "channel", "" if one.pchid is None else f"{one.pchid:04x}"
    yield "group", "" if one.pfgid is None else f"{one.pfgid:02x}"
    yield "virtual function", one.vfn
    yield "port", one.port
    yield "routing id", "" if one.rid is None else f"{one.rid:04x}"
    yield "internal path", ".".join(f"{segment:02x}" for segment in one.pfip)
    yield "utility string", one.util
    yield "definition parameter", "" if one.fidparm is None else f"{one.fidparm:02x}"
    yield "MIO instructions", _yes(one.mio)
    yield "BARs", "\n".join(f"{number}: {size} bytes" for number, size in one.bars.items())
    yield "DMA addresses", "" if one.first_dma is None else f"{one.first_dma:#x} to {one.last_dma:#x}"
    yield "error reports", _yes(one.reports, "taken by Linux", "no")
    if one.statistics is not None:
        yield from measurements(one.statistics)


def document(known: Known) -> dict[str, object]:
    """The functions as plain data."""
    return {"functions": [_as_dict(one) for one in known.functions], "missing": known.missing}


def _as_dict(one: KnownFunction) -> dict[str, object]:
    handle = None if one.handle is None else {name: int(value) for name, value in asdict(one.handle).items()}
    return {
        **asdict(one),
        "handle": handle,
        "enabled": one.enabled,
        "type": one.type,
        "slot": one.slot if one.power is not None else None,
    }
