"""The steps of one START SUBCHANNEL through vfio-ccw, as values that can be printed.

====  ============================================================================
name  what is done
====  ============================================================================
Q1    the user asks for the I/O region
Q2    the user sets up the eventfd for I/O completion
Q3    START SUBCHANNEL is requested (by a guest, or by the program itself)
Q4    the user writes the ORB to the I/O region
Q5    the user takes the condition code
Q6    the user gets the event and reads the IRB from the I/O region
Q7    the interrupt is handed on to who requested the start
K1    the kernel copies the channel program from the guest's memory
K2    it translates its addresses; the data pages are pinned
K3    it issues the translated program to the device
K4    it returns the condition code of START SUBCHANNEL
K5    it takes the interrupt and the interruption-response block
K6    it turns the addresses in the block back into the guest's
K7    it signals the eventfd
====  ============================================================================

Q steps are told by `pyvfio.css.Subchannel` and by `pyvfio.passthrough.GuestChannelSubsystem`, K steps by a software
machine (``machine.ccw_trace``); `Translation.steps` gives K1 and K2 of a program without any machine.  `Trace` keeps
what it is told.  The names are those of "VFIO based Channel I/O passthrough on IBM z Systems", slide "SSCH Handling
Process".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypedDict

from pyvfio.css.ccw import Ccw
from pyvfio.css.irb import Irb
from pyvfio.css.orb import Orb

__all__ = ["ProgramLine", "Step", "StepDetails", "StepListener", "Trace"]


@dataclass(frozen=True, slots=True)
class ProgramLine:
    """A CCW at its `address`; `idaws` are the words of its indirect address list, empty for a direct address."""

    address: int
    ccw: Ccw
    idaws: tuple[int, ...] = ()

    def __str__(self) -> str:
        words = " IDAWs " + " ".join(f"{word:#x}" for word in self.idaws) if self.idaws else ""
        return f"{self.address:#x}: {self.ccw}{words}"


class StepDetails(TypedDict, total=False):
    """What a step can have besides its name, device and text; see `Step`."""

    orb: Orb
    program: tuple[ProgramLine, ...]
    condition_code: int
    result: int
    irb: Irb


@dataclass(frozen=True, slots=True)
class Step:
    """One step.  `device` is the subchannel (``0.0.0005``), `text` a sentence; what a step has not is None or empty.

    `orb` and `program` are the guest's in K1 and the translated ones in K2 and K3; `condition_code` belongs to K3 and
    K4, `result` (0 or a negative errno) to K4, `irb` to K5 (with the host's addresses) and K6 (with the guest's).
    """

    name: str
    device: str
    text: str
    orb: Orb | None = None
    program: tuple[ProgramLine, ...] = ()
    condition_code: int | None = None
    result: int | None = None
    irb: Irb | None = None

    def lines(self) -> list[str]:
        """The step for people: the sentence, then what belongs to it, indented."""
        lines = [f"{self.name} {self.text}"]
        if self.orb is not None:
            lines.append(f"   {self.orb}")
        lines += [f"   {line}" for line in self.program]
        if self.irb is not None:
            lines.append(f"   {self.irb}")
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())


StepListener = Callable[[Step], None]
"""Called for each step as it happens, under the machine's lock; it must not call the backend."""


class Trace:
    """A listener that keeps the `steps` it is told; it prints them all, each with what belongs to it.

    >>> trace = Trace()
    >>> trace(Step("Q5", "0.0.0005", "the condition code is 0", condition_code=0))
    >>> print(trace.names, trace, sep="\\n")
    ['Q5']
    Q5 the condition code is 0
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def __call__(self, step: Step) -> None:
        """Keep a step."""
        self.steps.append(step)

    @property
    def names(self) -> list[str]:
        """The steps by name, in their order."""
        return [step.name for step in self.steps]

    def of(self, *names: str) -> list[Step]:
        """The steps with these names."""
        return [step for step in self.steps if step.name in names]

    def clear(self) -> None:
        """Forget all steps."""
        self.steps.clear()

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(list(self.steps))

    def __str__(self) -> str:
        return "\n".join(map(str, self.steps))
