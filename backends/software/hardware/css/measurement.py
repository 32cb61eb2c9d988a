"""The channel monitor: keeps the measurement blocks of subchannels up to date in storage.

A subchannel is measured while the monitor is on and its measurement mode says so (`Pmcw.mme` has the update bit)::

    SSCH or RSCH accepted         first command            program ends or suspends
    |<- function pending time ---->|<- device connect time ->|
    count + 1                                                sample + 1 (at its end only), block written

The times that control units queue, that devices are disconnected, active alone or busy are not modelled and stay as
they are in storage.  Times are those of the machine's clock.

A block that storage cannot take (an addressing exception) ends the measuring of this subchannel: its measurement mode
becomes zero.  Source: z/Architecture Principles of Operation, "Channel-Subsystem Monitoring".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from pyvfio.address import SubchannelId
from pyvfio.css.instructions import Storage, StorageError
from pyvfio.css.measurement import MEASUREMENT_UNIT, ChannelMonitor, ExtendedMeasurementBlock, MeasurementBlock
from pyvfio_backends.software.hardware.css.subchannel import Subchannel

__all__ = ["Monitor"]

_UPDATE: Final = 2
_Block: TypeAlias = type[MeasurementBlock] | type[ExtendedMeasurementBlock]


@dataclass(slots=True)
class _Times:
    """One start function: when it was accepted and began, and the sums so far, in seconds."""

    accepted: float
    began: float | None = None
    pending: float = 0.0
    connected: float = 0.0


class Monitor:
    """Updates measurement blocks; `now` is the machine's clock in seconds."""

    def __init__(self, storage: Storage, now: Callable[[], float]) -> None:
        self._storage = storage
        self._now = now
        self._times: dict[SubchannelId, _Times] = {}
        self.control = ChannelMonitor()

    def set(self, control: ChannelMonitor) -> None:
        """Turn it on or off, as SCHM says."""
        self.control = control
        if not control.update:
            self._times.clear()

    def accepted(self, subchannel: Subchannel) -> None:
        """Note a start or resume function that was accepted."""
        if not self._measured(subchannel):
            return
        if self._add(subchannel, ssch_rsch_count=1):
            times = self._times.setdefault(subchannel.schid, _Times(0.0))
            times.accepted, times.began = self._now(), None

    def began(self, subchannel: Subchannel) -> None:
        """Note that the function has become active."""
        times = self._times.get(subchannel.schid)
        if times is not None and times.began is None:
            times.began = self._now()
            times.pending += times.began - times.accepted

    def stopped(self, subchannel: Subchannel, *, over: bool) -> None:
        """Note that the program is suspended, or over."""
        times = self._times.get(subchannel.schid)
        if times is None:
            return
        if times.began is not None:
            times.connected += self._now() - times.began
            times.began = None
        if over:
            del self._times[subchannel.schid]
            if self._measured(subchannel):
                self._add(
                    subchannel,
                    sample_count=1,
                    function_pending_time=round(times.pending / MEASUREMENT_UNIT),
                    device_connect_time=round(times.connected / MEASUREMENT_UNIT),
                )

    def forget(self, subchannel: Subchannel) -> None:
        """Note that a function ended without a sample: it was cancelled, halted or cleared."""
        self._times.pop(subchannel.schid, None)

    def _measured(self, subchannel: Subchannel) -> bool:
        return self.control.update and bool(subchannel.pmcw.mme & _UPDATE)

    def _add(self, subchannel: Subchannel, **amounts: int) -> bool:
        """Add to fields of the subchannel's block; whether storage took it."""
        kind: _Block
        if subchannel.pmcw.mbfc:
            kind, address = ExtendedMeasurementBlock, subchannel.mba
        else:
            kind, address = MeasurementBlock, self.control.origin + MeasurementBlock.SIZE * subchannel.pmcw.mbi
        try:
            block = kind.from_bytes(self._storage.read(address, kind.SIZE))
            sums = {name: getattr(block, name) + amount for name, amount in amounts.items()}
            self._storage.write(address, replace(block, **sums).to_bytes())
        except StorageError:
            subchannel.pmcw = replace(subchannel.pmcw, mme=0)
            self._times.pop(subchannel.schid, None)
            return False
        return True
