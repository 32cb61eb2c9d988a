"""What a subchannel shows in its directory (``drivers/s390/cio/css.c``, ``chsc.c``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.subchannel import SubchannelDevice

__all__ = ["COMMON_FILES", "IO_FILES"]

_FIRST_PATH: Final = 0x80


def _modalias(sch: SubchannelDevice) -> str:
    return f"css:t{sch.st:01X}\n"


def _type(sch: SubchannelDevice) -> str:
    return f"{sch.st:01x}\n"


def _chpids(sch: SubchannelDevice) -> str:
    pmcw = sch.pmcw
    return _installed(pmcw.pim, pmcw.chpid)


def _pimpampom(sch: SubchannelDevice) -> str:
    pmcw = sch.pmcw
    return f"{pmcw.pim:02x} {pmcw.pam:02x} {pmcw.pom:02x}\n"


def _dev_busid(sch: SubchannelDevice) -> str:
    return f"0.{sch.schid.ssid:x}.{sch.devno:04x}\n" if sch.pmcw.dnv else "none\n"


@lru_cache(maxsize=256)
def _installed(pim: int, chpids: bytes) -> str:
    """The text of ``chpids``: two digits and a blank for each of eight, zeros for a path that is not installed."""
    shown = bytes(chpid if pim & _FIRST_PATH >> position else 0 for position, chpid in enumerate(chpids))
    return f"{shown.hex(' ')} \n"


COMMON_FILES: Final[Mapping[str, Callable[[SubchannelDevice], str]]] = {"modalias": _modalias, "type": _type}
"""What every subchannel shows, by the name of the file."""
IO_FILES: Final[Mapping[str, Callable[[SubchannelDevice], str]]] = {
    "chpids": _chpids,
    "dev_busid": _dev_busid,
    "pimpampom": _pimpampom,
}
"""What one for I/O shows besides."""
