"""All that a host tells of its PCI functions of IBM Z: sysfs, their slots, the logical processor, debugfs.

A function in standby has no device and only the slot and the logical processor know it.  Who may not read a source, or
has none, gets the rest and the reason (`Known.missing`).

Sources: ``arch/s390/pci/pci_sysfs.c``, ``drivers/pci/hotplug/s390_pci_hpc.c``, ``Documentation/arch/s390/pci.rst``;
``libzpci/pci_list.c`` of s390-tools (the names of types).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pyvfio.address import PciAddress
from pyvfio.devices import PciFunction
from pyvfio.errors import BadAddress, Misuse, NoSuchDevice, PyvfioError, WrongBus
from pyvfio.zpci.handle import FH_ENABLED, FunctionHandle
from pyvfio.zpci.node import CLP_NODE, ClpNode
from pyvfio.zpci.statistics import Statistics, find_statistics, read_statistics

if TYPE_CHECKING:
    from pyvfio.host import Host
    from pyvfio.sysfs import Sysfs
    from pyvfio.zpci.clp import FunctionResponse, HandleEntry

__all__ = ["SLOTS", "Known", "KnownFunction", "device_with", "find_functions", "known_functions", "type_name"]

SLOTS: Final = "/sys/bus/pci/slots"
_MEASUREMENTS: Final = "/sys/kernel/debug/pci"
_SEGMENTS: Final = 4
_SHOW: Final = "pyvfio zpci show lists all functions, also those in standby"
_EBCDIC: Final = "cp037"
_FID_DIGITS: Final = 8
_GONE: Final = b"\xff" * 4
_TYPES: Final = {
    0x00: "unclassified",
    0x02: "RoCE Express",
    0x05: "ISM",
    0x0A: "RoCE Express2",
    0x0B: "NVMe",
    0x0C: "Network Express Hybrid",
    0x0D: "Cloud Network Adapter",
    0x0F: "Network Express Dedicated",
}


def type_name(pft: int) -> str:
    """The name of a PCI function type."""
    return _TYPES.get(pft, "unknown")


@dataclass(frozen=True, slots=True)
class KnownFunction:
    """One function.  What no source told is None (or empty).

    `state` is ``configured`` or ``standby``; `fh` the handle now, `device` its address in Linux, `power` the slot's.
    `answers` says whether its configuration space can be read: a function in error gives ones.  `first_dma` and
    `last_dma` are the addresses for DMA, `bars` the bytes by number, `pfip` the internal path in four segments, `util`
    the utility string (from EBCDIC), `fidparm` the parameter of the function's definition (Linux 6.14), `reports`
    whether Linux takes error reports of it.
    """

    fid: int
    state: str
    fh: int | None = None
    device: str = ""
    uid: int | None = None
    uid_is_unique: bool | None = None
    vendor: int | None = None
    device_id: int | None = None
    driver: str | None = None
    power: bool | None = None
    pchid: int | None = None
    pfgid: int | None = None
    pft: int | None = None
    vfn: int | None = None
    port: int | None = None
    rid: int | None = None
    pfip: tuple[int, ...] = ()
    util: str = ""
    fidparm: int | None = None
    mio: bool | None = None
    first_dma: int | None = None
    last_dma: int | None = None
    bars: dict[int, int] = field(default_factory=dict)
    answers: bool | None = None
    reports: bool | None = None
    statistics: Statistics | None = None

    @property
    def name(self) -> str:
        """What to call it: its address, or its FID while it has no device."""
        return self.device or f"fid {self.fid:08x}"

    @property
    def enabled(self) -> bool | None:
        """Whether its handle is one of an enabled function."""
        return None if self.fh is None else bool(self.fh & FH_ENABLED)

    @property
    def handle(self) -> FunctionHandle | None:
        """The handle by its parts."""
        return None if self.fh is None else FunctionHandle.from_word(self.fh)

    @property
    def type(self) -> str:
        """The function type by name."""
        return "" if self.pft is None else type_name(self.pft)

    @property
    def slot(self) -> str:
        """The directory of its slot."""
        return f"{SLOTS}/{self.fid:0{_FID_DIGITS}x}"


@dataclass(frozen=True, slots=True)
class Known:
    """The functions by FID, and why something is `missing`, by source."""

    functions: tuple[KnownFunction, ...]
    missing: dict[str, str] = field(default_factory=dict)


def device_with(sysfs: Sysfs, fid: int) -> PciFunction | None:
    """The device of the function with this FID; None while it has none."""
    slot = sysfs.attribute(f"{SLOTS}/{fid:0{_FID_DIGITS}x}/address")
    domain = "" if slot is None else slot.split(":")[0] + ":"
    for name in sysfs.names("/sys/bus/pci/devices"):
        if name.startswith(domain) and sysfs.attribute(f"/sys/bus/pci/devices/{name}/function_id") is not None:
            device = PciFunction(sysfs, PciAddress.parse(name))
            if device.fid == fid:
                return device
    return None


def _number(text: str | None, base: int = 16) -> int | None:
    try:
        return None if text is None else int(text, base)
    except ValueError:
        return None


class _Reader:
    def __init__(self, host: Host) -> None:
        self.host = host
        self.missing: dict[str, str] = {}
        self.devices = {fid: one for one in host.functions() if (fid := one.fid) is not None}
        self.slots: dict[int, bool | None] = {}
        for name in host.sysfs.names(SLOTS):
            fid = _number(name) if len(name) == _FID_DIGITS else None
            if fid is not None:
                power = host.sysfs.attribute(f"{SLOTS}/{name}/power")
                self.slots[fid] = None if power is None else power == "1"
        if not self.slots:
            self.missing[SLOTS] = "there are no hotplug slots: functions in standby are not known to Linux"
        self.entries: dict[int, HandleEntry] = {}
        self.answers: dict[int, FunctionResponse] = {}

    def ask(self, wants: Callable[[int], bool]) -> None:
        """Ask the logical processor which functions there are, and for all that it knows of those that are wanted."""
        try:
            with ClpNode(self.host.backend) as node:
                for entry in node.listing().entries:
                    self.entries[entry.fid] = entry
                    if wants(entry.fid):
                        with contextlib.suppress(PyvfioError):  # a handle may have changed since
                            self.answers[entry.fid] = node.function(entry.fh)
        except PyvfioError as error:
            self.missing[CLP_NODE] = str(error.cause or error).splitlines()[0]

    @functools.cached_property
    def has_debugfs(self) -> bool:
        """Whether Linux shows measurements at all, though not of a function that nobody has enabled."""
        return self.host.sysfs.exists(_MEASUREMENTS)

    def names(self, fid: int) -> tuple[int | None, int | None]:
        """UID and handle of a function; sysfs tells them of each that has a device."""
        device, entry, answer = self.devices.get(fid), self.entries.get(fid), self.answers.get(fid)
        if device is not None:
            return device.uid, device.fh
        return None if answer is None else answer.uid, None if entry is None else entry.fh

    def fids(self) -> list[int]:
        return sorted({*self.devices, *self.entries, *(self.slots if self._is_z() else ())})

    def _is_z(self) -> bool:
        return bool(self.devices or self.entries)

    def one(self, fid: int) -> KnownFunction:
        device, entry, answer = self.devices.get(fid), self.entries.get(fid), self.answers.get(fid)
        power = self.slots.get(fid)
        configured = bool(entry.configured) if entry is not None else power if power is not None else device is not None
        found: dict[str, Any] = {}
        if entry is not None:
            found |= {"fh": entry.fh, "vendor": entry.vendor, "device_id": entry.device}
        if answer is not None:
            found |= {
                **{name: getattr(answer, name) for name in ("uid", "pchid", "pfgid", "pft", "vfn", "port", "fidparm")},
                "rid": answer.rid if answer.rid_available else None,
                "pfip": tuple(answer.pfip),
                "util": answer.utility_text,
                "first_dma": answer.sdma,
                "last_dma": answer.edma,
                "bars": {number: 1 << order for number, order in enumerate(answer.bar_sizes) if order},
            }
        if device is not None:
            with contextlib.suppress(NoSuchDevice):  # it went meanwhile
                told = self._device(device) | (self._identity(device) if answer is None else {})
                found |= {name: value for name, value in told.items() if value not in (None, ())}
        return KnownFunction(fid, "configured" if configured else "standby", power=power, **found)

    def _device(self, device: PciFunction) -> dict[str, object]:
        """What Linux alone tells."""
        sysfs, path, driver = self.host.sysfs, device.path, device.driver
        mio = device.attribute("mio_enabled")
        answers = None
        with contextlib.suppress(PyvfioError):
            answers = sysfs.read_bytes(f"{path}/config", len(_GONE)) != _GONE
        return {
            "device": device.name,
            "fh": device.fh,
            "uid_is_unique": device.uid_is_unique,
            "driver": driver,
            "mio": None if mio is None else mio == "1",
            "answers": answers,
            "reports": sysfs.exists(f"{path}/report_error"),
            "statistics": self._statistics(device, driver),
        }

    def _identity(self, device: PciFunction) -> dict[str, object]:
        """What Linux has from the logical processor, for those who cannot ask that: each is a file to be read."""
        segments = [_number(device.attribute(f"pfip/segment{n}")) for n in range(_SEGMENTS)]
        utility = None
        with contextlib.suppress(PyvfioError):
            utility = self.host.sysfs.read_bytes(f"{device.path}/util_string").decode(_EBCDIC).rstrip("\0 ")
        return {
            "uid": device.uid,
            "vendor": device.vendor_id,
            "device_id": device.device_id,
            "pchid": device.pchid,
            "pfgid": device.pfgid,
            "pft": device.pft,
            "vfn": device.vfn,
            "port": device.port,
            "pfip": tuple(one for one in segments if one is not None),
            "util": utility,
            "fidparm": _number(device.attribute("fidparm")),
        }

    def _statistics(self, device: PciFunction, driver: str | None) -> Statistics | None:
        try:
            found = find_statistics(device)
            if found is None and driver is not None and not self.has_debugfs:
                return read_statistics(device)  # which says why there are none
            return found
        except PyvfioError as error:
            if driver is not None:
                self.missing.setdefault(_MEASUREMENTS, str(error.cause or error).splitlines()[0])
            return None


def known_functions(host: Host, fids: Sequence[int] | None = None) -> Known:
    """All functions, or those with these FIDs.  Raise `NoSuchDevice` for a FID that no source has."""
    reader = _Reader(host)
    wanted = None if fids is None else set(fids)
    reader.ask(lambda fid: wanted is None or fid in wanted)
    there = reader.fids()
    for fid in fids or ():
        if fid not in there:
            raise _none(f"{fid:x}", there)
    return Known(tuple(reader.one(fid) for fid in there if wanted is None or fid in wanted), reader.missing)


def _none(text: str, there: Sequence[int]) -> NoSuchDevice:
    known = ", ".join(f"{fid:x}" for fid in there) or "none: this is no host of IBM Z, or it has no PCI"
    return NoSuchDevice(
        "find PCI function",
        text,
        cause=f"no function has this FID, UID or handle (FIDs: {known})",
        next_step=_SHOW,
    )


def find_functions(host: Host, names: Sequence[str]) -> list[int]:
    """The FIDs that people mean by `names`, each once.

    A name is a device in any spelling, or a hexadecimal number: a FID, a UID or a handle; ``fid=22``, ``uid=40`` and
    ``fh=80020003`` leave no doubt.  Raise `NoSuchDevice`, `WrongBus` (a device that is no such function), `Misuse` for
    a number that stands for several functions.
    """
    reader = _Reader(host)
    reader.ask(lambda fid: fid not in reader.devices)
    every = {fid: reader.names(fid) for fid in reader.fids()}
    return list(dict.fromkeys(_find(host, every, name) for name in names))


def _find(host: Host, every: dict[int, tuple[int | None, int | None]], name: str) -> int:
    """The FID that is meant; `every` has UID and handle by FID."""
    kind, equals, rest = name.strip().partition("=")
    kind = kind.lower() if equals else ""
    text = rest if equals else name.strip()
    number = _number(text) if all(letter in "0123456789abcdefxABCDEFX" for letter in text) else None
    if equals and (kind not in ("fid", "uid", "fh") or number is None):
        raise BadAddress(name, "it is fid=, uid= or fh= with a hexadecimal number", _SHOW)
    if number is not None:
        meant = {
            fid
            for fid, (uid, fh) in every.items()
            if (kind in ("", "fid") and fid == number)
            or (kind in ("", "uid") and uid == number and number)
            or (kind in ("", "fh") and fh == number)
        }
        if len(meant) > 1:
            raise Misuse(
                "find PCI function",
                name,
                cause=f"it stands for the functions {', '.join(f'{fid:08x}' for fid in sorted(meant))}",
                next_step=f"say fid={number:x} or uid={number:x}",
            )
        if meant:
            return meant.pop()
        if equals or text.lower().startswith("0x") or len(text) > 4:
            raise _none(name, list(every))
    try:
        device = host.device(text)
    except BadAddress as error:
        raise BadAddress(name, f"{error.cause}, a FID, a UID or a handle (hexadecimal)", _SHOW) from error
    except NoSuchDevice as error:
        if number is None:
            _add_standby(error, every, text)
            raise
        raise _none(name, list(every)) from error
    fid = device.fid if isinstance(device, PciFunction) else None
    if fid is None:
        cause = "it is no function of IBM Z: it has no FID"
        raise WrongBus("find PCI function", device.name, cause=cause, next_step=_SHOW)
    return fid


def _add_standby(error: NoSuchDevice, every: dict[int, tuple[int | None, int | None]], text: str) -> None:
    """Say of an address which function may have had it: one in standby has none, and the UID is mostly its domain."""
    domain, _, rest = text.partition(":")
    number = _number(domain) if rest else None
    for fid, (uid, fh) in every.items():
        if number and uid == number and fh is not None and not fh & FH_ENABLED:
            error.cause = f"{error.cause}; function {fid:08x} with UID {uid:x} is not enabled, so it has no address"
            error.next_step = f"pyvfio zpci show fid={fid:x} shows it, pyvfio zpci enable fid={fid:x} configures it"
