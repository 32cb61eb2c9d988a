"""What is known of a disk that is online."""

from __future__ import annotations

from pyvfio.css.senseid import SenseId
from pyvfio.drivers.characteristics import Characteristics, Configuration
from pyvfio.drivers.features import Features
from pyvfio.drivers.label import VolumeLabel
from pyvfio.drivers.layout import DiskLayout
from pyvfio.errors import Misuse

__all__ = ["DiskState"]


class DiskState:
    """The facts of one disk.  `name` is what errors call it.

    `paths` is the mask of the paths that lead to it and work, `grouped` says whether they are one path group;
    `features` are those of the storage control.  `layout` is None for a disk that is not formatted as Linux does it
    (`trouble` then says what Linux says), `label` when it has none.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.sense_id = SenseId(0)
        self.configuration: Configuration | None = None
        self.features = Features()
        self.paths = 0
        self.grouped = False
        self.layout: DiskLayout | None = None
        self.trouble = ""
        self.label: VolumeLabel | None = None
        self._disk: Characteristics | None = None

    @property
    def disk(self) -> Characteristics:
        """The geometry.  Raise `Misuse` before `online`."""
        if self._disk is None:
            raise Misuse("use DASD", self.name, cause="it is not online", next_step="call online(), or use it in with")
        return self._disk

    def formatted(self) -> DiskLayout:
        """The layout.  Raise `Misuse` when the disk has none."""
        disk = self.disk
        if self.layout is None:
            raise Misuse(
                "use blocks of DASD",
                self.name,
                cause="it is not formatted in blocks (neither the compatible nor the Linux disk layout)",
                next_step=f"pyvfio dasd format {self.name}, or use its {disk.tracks} tracks (--tracks ... --records)",
            )
        return self.layout

    def _within(self, what: str, first: int, count: int, *, least: int = 0) -> None:
        """Raise `Misuse` for tracks that are not all on the disk."""
        if first < 0 or count < least or first + count > self.disk.tracks:
            cause = f"tracks {first} to {first + count - 1} are not all on it; it has 0 to {self.disk.tracks - 1}"
            raise Misuse(what, self.name, cause=cause)
