"""What a driver needs of a channel device: programs started and ended, and memory that the device sees.

`VfioChannel` gives it to whom a device was opened through vfio-ccw; `pyvfio.drivers.guest_channel` to a guest, whose
devices answer to the instructions of a channel subsystem.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pyvfio.ccw import CcwDevice
from pyvfio.channel_program import ChannelCommand, ProgramResult
from pyvfio.css.schib import Schib
from pyvfio.iommu import DmaBuffer

__all__ = ["Channel", "VfioChannel", "as_channel"]

_BELOW = 1 << 31


class Channel(Protocol):
    """One subchannel."""

    @property
    def name(self) -> str:
        """What errors call the device."""
        ...

    def prepare(self, size: int) -> None:
        """Have memory for programs of `size` bytes with their data until `finish`; again: nothing."""
        ...

    def finish(self) -> None:
        """Free that memory; a second call does nothing."""
        ...

    @property
    def is_prepared(self) -> bool:
        """Whether there is memory."""
        ...

    def run(self, commands: Sequence[ChannelCommand], timeout: float, lpm: int) -> ProgramResult:
        """Run a program on paths of `lpm`, whatever its status.  Raise `Timeout` when it was stopped."""
        ...

    async def run_async(self, commands: Sequence[ChannelCommand], timeout: float, lpm: int) -> ProgramResult:
        """As `run`, without blocking the event loop."""
        ...

    def schib(self) -> Schib:
        """The subchannel-information block.  Raise `NotAvailable` when it cannot be had."""
        ...


class VfioChannel:
    """A device that was opened through vfio-ccw; it stays the caller's to close."""

    def __init__(self, device: CcwDevice) -> None:
        self.device = device
        self._memory: DmaBuffer | None = None

    @property
    def name(self) -> str:
        """See `Channel.name`."""
        return self.device.device.name

    def prepare(self, size: int) -> None:
        """See `Channel.prepare`."""
        if self._memory is None:
            self._memory = self.device.device.space.buffer(size, below=_BELOW)

    def finish(self) -> None:
        """See `Channel.finish`."""
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.close()

    @property
    def is_prepared(self) -> bool:
        """See `Channel.is_prepared`."""
        return self._memory is not None

    def run(self, commands: Sequence[ChannelCommand], timeout: float, lpm: int) -> ProgramResult:
        """See `Channel.run`."""
        return self.device.run(commands, timeout=timeout, check=False, memory=self._memory, lpm=lpm)

    async def run_async(self, commands: Sequence[ChannelCommand], timeout: float, lpm: int) -> ProgramResult:
        """See `Channel.run_async`."""
        return await self.device.run_async(commands, timeout=timeout, check=False, memory=self._memory, lpm=lpm)

    def schib(self) -> Schib:
        """See `Channel.schib`."""
        return self.device.schib()


def as_channel(device: CcwDevice | Channel) -> Channel:
    """The channel of a device."""
    return VfioChannel(device) if isinstance(device, CcwDevice) else device
