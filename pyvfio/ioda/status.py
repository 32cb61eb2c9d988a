"""What sysfs tells of endpoints: which one a function is in, and whether that is frozen.

=======================  =================================================================================
file of the function     what it has
=======================  =================================================================================
``eeh_pe_config_addr``   the number of its endpoint, within its domain
``eeh_pe_state``         what firmware says of the endpoint now, and what Linux notes (`EehPlatformState`,
                         `EehPeFlag`); writing to it unfreezes an endpoint that Linux notes as isolated
``eeh_mode``             what Linux notes of the function (`EehDevMode`)
=======================  =================================================================================

Anybody may read them, and reading changes nothing.  Source: ``arch/powerpc/kernel/eeh_sysfs.c`` and ``proc_eeh_show``
in ``eeh.c`` (Linux 6.12); ``eeh_pe_get_state`` for the meaning of firmware's bits.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pyvfio.abi.eeh_state import EehDevMode, EehPeFlag, EehPlatformState
from pyvfio.abi.vfio_spapr import EehState
from pyvfio.errors import NotAvailable, PyvfioError

if TYPE_CHECKING:
    from pyvfio.devices import PciFunction
    from pyvfio.host import Host
    from pyvfio.sysfs import Sysfs

__all__ = ["EndpointStatus", "HostStatus", "asked_by_vfio", "host_status", "no_endpoint", "read_status"]

_SUPPORT: Final = "/proc/powerpc/eeh"


@dataclass(frozen=True, slots=True)
class HostStatus:
    """Whether Linux has EEH `enabled`, and its counters by their names in ``/proc/powerpc/eeh``."""

    enabled: bool
    counters: dict[str, int]


def host_status(sysfs: Sysfs) -> HostStatus | None:
    """EEH of a whole host; None on one without it, which is any that is not POWER."""
    text = sysfs.attribute(_SUPPORT)
    if text is None:
        return None
    first, *lines = text.splitlines() or [""]
    pairs = (line.partition("=") for line in lines)
    counters = {name.strip(): int(value) for name, _, value in pairs if value.strip().isdecimal()}
    return HostStatus("disabled" not in first, counters)


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """A function and its `endpoint` (None when there is none), at one moment."""

    device: str
    driver: str | None
    group: int | None
    endpoint: int | None
    mode: EehDevMode
    platform: EehPlatformState | None
    flags: EehPeFlag

    @property
    def state(self) -> EehState | None:
        """The state as VFIO would say it; None without an endpoint, or when firmware says nothing."""
        found = self.platform
        if found is None or found & EehPlatformState.NOT_SUPPORT:
            return None
        if found & EehPlatformState.RESET_ACTIVE:
            return EehState.RESET
        loads, dma = bool(found & EehPlatformState.MMIO_ENABLED), bool(found & EehPlatformState.DMA_ENABLED)
        if loads:
            return EehState.NORMAL if dma else EehState.STOPPED_DMA
        return EehState.UNAVAIL if dma else EehState.STOPPED

    @property
    def held(self) -> bool:
        """Whether a reset was begun that nobody ends: its program was killed.  Configuration space is blocked then.

        It is also while Linux is at it, and while an adapter is frozen that is not to be looked at then.
        """
        frozen = EehPeFlag.CFG_RESTRICTED | EehPeFlag.ISOLATED
        at_work = bool(self.flags & (EehPeFlag.RECOVERING | EehPeFlag.RESET)) or self.flags & frozen == frozen
        return bool(self.flags & EehPeFlag.CFG_BLOCKED) and not at_work

    def as_dict(self) -> dict[str, object]:
        """As plain data."""
        return {
            "device": self.device,
            "driver": self.driver,
            "group": self.group,
            "endpoint": self.endpoint,
            "state": None if self.state is None else self.state.name,
            "platform": None if self.platform is None else _names(self.platform),
            "flags": _names(self.flags),
            "mode": _names(self.mode),
        }


def _names(value: EehPlatformState | EehPeFlag | EehDevMode) -> list[str]:
    return [one.name or hex(one) for one in value]


def _number(text: str | None) -> int | None:
    try:
        return None if text is None else int(text, 16)
    except ValueError:
        return None


def read_status(function: PciFunction) -> EndpointStatus | None:
    """A function's status; None when Linux has no EEH of it (no file ``eeh_mode``).  Raise the class for the errno."""
    mode = _number(function.attribute("eeh_mode"))
    if mode is None:
        return None
    group = function.group
    try:
        words = (function.attribute("eeh_pe_state") or "").split()
    except PyvfioError as error:
        if error.errno != errno.ENODEV:  # which says that the function has no endpoint
            raise
        words = []
    platform, flags = (_number(words[0]), _number(words[1])) if len(words) > 1 else (None, None)
    return EndpointStatus(
        function.name,
        function.driver,
        None if group is None else group.number,
        None if platform is None else _number(function.attribute("eeh_pe_config_addr")),
        EehDevMode(mode),
        None if platform is None else EehPlatformState(platform & int(sum(EehPlatformState))),
        EehPeFlag(flags or 0),
    )


def no_endpoint(function: PciFunction) -> str:
    """Why Linux has no EEH of a function (`read_status` is None)."""
    support = host_status(function.sysfs)
    if support is None:
        return "this kernel has no EEH; only POWER has"
    if support.enabled:
        return "Linux has no EEH of it"
    return "EEH is not enabled here: it was switched off (eeh=off), or the hypervisor gives its guests none"


def asked_by_vfio(host: Host, function: PciFunction) -> EehState:
    """The state as VFIO says it, by the function's group; no device is opened, so nothing is unfrozen.

    Raise `NotAvailable` when VFIO does not have it, or what `Container`, `Group` and `Pe` raise (`DeviceBusy`: another
    program has the group).
    """
    from pyvfio.ioda.pe import Pe
    from pyvfio.vfio.container import Container
    from pyvfio.vfio.group import Group

    group = function.group
    if group is None or not function.has_vfio_driver:
        raise NotAvailable(
            "read the endpoint's state by VFIO",
            function.name,
            cause=f"no VFIO driver has it (driver: {function.driver or 'none'})",
            next_step=f"pyvfio bind {function}",
        )
    with Container(host) as container, Group(host, group.number) as opened:
        container.attach(opened)
        container.set_iommu()
        return Pe(container).state
