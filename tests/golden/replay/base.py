"""What the replays share: a machine restricted to what the recording's guest had, and snapshots of its tree."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, ClassVar

from pyvfio_backends.software import MachineSpec
from pyvfio_backends.software.loader import find_machine, load_machine

from .facts import Question
from .script import Script
from .seam import Seam
from .sysfs import Recorder, Step

__all__ = ["Replay"]


_LATER = 0x22  # a function that the lab has got after the recordings


class Replay(Script):
    """A replay on a machine of its own.  Subclasses say `file` and restrict the machine in `restrict`."""

    file: ClassVar[str] = ""
    finish_step: ClassVar[str] = ""
    RW: ClassVar[int] = os.O_RDWR | os.O_CLOEXEC

    def __init__(self) -> None:
        super().__init__()
        self.seam = self.make_seam()
        self.recorder = Recorder(self.seam)

    def make_seam(self) -> Seam:
        """The machine that answers."""
        return Seam(self.machine())

    def machine(self) -> MachineSpec:
        """What the recording's guest was made of."""
        spec = load_machine(find_machine("lab-s390x"))
        spec.functions[:] = [function for function in spec.functions if function.fid != _LATER]
        self.restrict(spec)
        return spec

    def restrict(self, spec: MachineSpec) -> None:
        """Take away what the recording's guest did not have."""

    def step(self, name: str) -> None:
        """The recording took a snapshot here."""
        self.recorder.step(name)

    @property
    def steps(self) -> list[Step]:
        """The snapshots so far."""
        return self.recorder.steps

    def run(self, questions: Iterable[Question]) -> dict[str, Any]:
        """See `Script.run`; ends the machine."""
        try:
            answers = super().run(questions)
            if self.finish_step:
                self.step(self.finish_step)
            return answers
        finally:
            self.seam.close()
