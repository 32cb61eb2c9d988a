"""Steps for channel paths: vary (use or not) and configure (have or not).

Source: ``drivers/s390/cio/chp.c``.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyvfio.binding.step import Step, journaled
from pyvfio.channel_paths import ChannelPathId, read_channel_path
from pyvfio.errors import KernelRefused
from pyvfio.sysfs import Sysfs

__all__ = ["ConfigurePath", "VaryPath"]


def _word(on: bool) -> str:
    return "online" if on else "offline"


@journaled("chp-vary")
@dataclass(frozen=True, slots=True)
class VaryPath(Step):
    """Have the host use a channel path or not; before, it was the other way."""

    name: str
    online: bool

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return f"vary channel path {self.name} {_word(self.online)}"

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        return f"vary it {_word(not self.online)}"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (f"{ChannelPathId.parse(self.name).path}/status",)

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        sysfs.write_text(self.paths[0], _word(self.online))

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        now = sysfs.read_text(self.paths[0])
        return "" if now == _word(self.online) else f"it is {now}"

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`."""
        if sysfs.exists(self.paths[0]) and sysfs.read_text(self.paths[0]) != _word(not self.online):
            sysfs.write_text(self.paths[0], _word(not self.online))


@journaled("chp-configure")
@dataclass(frozen=True, slots=True)
class ConfigurePath(Step):
    """Get a channel path from the machine, or give it back; before, it was the other way."""

    name: str
    configured: bool

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return f"{'configure' if self.configured else 'deconfigure'} channel path {self.name}"

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        return "give it back" if self.configured else "get it again"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (f"{ChannelPathId.parse(self.name).path}/configure",)

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        sysfs.write_text(self.paths[0], f"{int(self.configured)}")
        if self.verify(sysfs):
            raise KernelRefused(
                "configure channel path", self.name, path=self.paths[0], cause="the machine did not do it"
            )

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        facts = read_channel_path(sysfs, ChannelPathId.parse(self.name))
        now = None if facts is None else facts.configured
        return "" if now == int(self.configured) else f"its configure attribute shows {now}"

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`."""
        facts = read_channel_path(sysfs, ChannelPathId.parse(self.name))
        if facts is not None and facts.configured == int(self.configured):
            sysfs.write_text(self.paths[0], f"{int(not self.configured)}")
