"""Channel measurement of a ccw device: ``cmb_enable`` and the group ``cmf`` (``drivers/s390/cio/cmf.c``).

The channel subsystem adds up counts and times in a block in storage; the files show what they come to for one sample.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from pyvfio.css.measurement import MEASUREMENT_UNIT, ChannelMonitor, ExtendedMeasurementBlock
from pyvfio_backends.software.linux.nodes import Attribute, Directory, Node, StaticDirectory, fail
from pyvfio_backends.software.linux.subsystems import Key

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.ccw import CcwDevice

__all__ = ["Measurement", "disable", "enable"]

_NANOSECONDS: Final = 10**9
_MEASURE: Final = 2
_TIMES: Final = (
    "device_connect_time",
    "function_pending_time",
    "device_disconnect_time",
    "control_unit_queuing_time",
    "device_active_only_time",
    "device_busy_time",
    "initial_command_response_time",
)
_USING: Final = ("device_connect_time", "function_pending_time", "device_disconnect_time")
_USERS: Final[Key[set[int]]] = Key("cmf")


class Measurement:
    """The block of a device that is measured, from its making to `close`."""

    def __init__(self, device: CcwDevice) -> None:
        self.device = device
        self.address = device.kernel.memory.allocate(ExtendedMeasurementBlock.SIZE)
        self._start = device.kernel.clock.now
        users = self._users()
        if not users:
            self._monitor(True)
        users.add(self.address)

    def _users(self) -> set[int]:
        return self.device.kernel.subsystems.get_or_make(_USERS, set)

    def _monitor(self, on: bool) -> None:
        self.device.ccw_bus.css.hardware.schm(ChannelMonitor(update=on))

    def reset(self) -> None:
        """Begin again with zeros."""
        self.device.kernel.memory.write(self.address, bytes(ExtendedMeasurementBlock.SIZE))
        self._start = self.device.kernel.clock.now

    def set(self, on: bool) -> int:
        """Have the subchannel measured or not: 0 or an errno (``set_schib_wait``)."""
        sch = self.device.subchannel
        if sch is None:
            return errno.ENODEV
        sch.config = replace(sch.config, mme=_MEASURE if on else 0, mbfc=True)
        sch.mba = self.address if on else 0
        code = sch.commit_config()
        if code == errno.EBUSY and self.device.online:
            # Its program has to end first.
            self.device.kernel.clock.run_until(lambda: not sch.update_schib() and not sch.schib.scsw.fctl)
            code = sch.commit_config()
        return 0 if code == errno.ENODEV and not on else code

    def close(self) -> None:
        """Give the block back."""
        self.device.kernel.memory.free(self.address)
        users = self._users()
        users.discard(self.address)
        if not users:
            self._monitor(False)

    # what the files show

    def _block(self) -> ExtendedMeasurementBlock:
        raw = self.device.kernel.memory.read(self.address, ExtendedMeasurementBlock.SIZE)
        return ExtendedMeasurementBlock.from_bytes(raw)

    def _elapsed(self) -> int:
        return int((self.device.kernel.clock.now - self._start) * _NANOSECONDS)

    def _count(self, name: str) -> str:
        return f"{getattr(self._block(), name)}\n"

    def _average(self, name: str) -> str:
        block = self._block()
        units: int = getattr(block, name)
        return f"{_nanoseconds(units) // block.sample_count if block.sample_count else 0}\n"

    def _interval(self) -> str:
        samples = self._block().sample_count
        return f"{self._elapsed() // samples if samples else -1}\n"

    def _utilization(self) -> str:
        """In tenths of a percent of the time since the start."""
        block = self._block()
        used = _nanoseconds(sum(getattr(block, name) for name in _USING))
        elapsed = self._elapsed() // 1000
        tenths = used // elapsed if elapsed else 0
        return f"{tenths // 10:02d}.{tenths % 10:d}%\n"

    def directory(self) -> Directory:
        """The group ``cmf``."""
        shows: dict[str, Callable[[], str]] = {
            "avg_sample_interval": self._interval,
            "avg_utilization": self._utilization,
            "ssch_rsch_count": partial(self._count, "ssch_rsch_count"),
            "sample_count": partial(self._count, "sample_count"),
            **{f"avg_{name}": partial(self._average, name) for name in _TIMES},
        }
        nodes: dict[str, Node] = {name: Attribute(show) for name, show in shows.items()}
        return StaticDirectory(dict(nodes))


def _nanoseconds(units: int) -> int:
    return int(units * MEASUREMENT_UNIT * _NANOSECONDS)


def enable(device: CcwDevice) -> None:
    """Measure a device, or begin again.  Raise OSError (``enable_cmf``)."""
    if device.measurement is not None:
        device.measurement.reset()
        return
    if device.subchannel is None:
        raise fail(errno.ENODEV)
    measurement = Measurement(device)
    code = measurement.set(True)
    if code:
        measurement.close()
        raise fail(code)
    device.measurement = measurement


def disable(device: CcwDevice) -> None:
    """Measure it no more.  Raise OSError EINVAL when it was not (``disable_cmf``)."""
    measurement = device.measurement
    if measurement is None:
        raise fail(errno.EINVAL)
    code = measurement.set(False)
    if code:
        raise fail(code)
    device.measurement = None
    measurement.close()
