"""The kernel's steps of one START SUBCHANNEL through vfio-ccw, as values that can be printed.

====  ============================================================================
name  what the kernel does
====  ============================================================================
K1    copies the channel program from the guest's memory
K2    translates its addresses; the data pages are pinned
K3    issues the translated program to the device
K4    returns the condition code of START SUBCHANNEL
K5    takes the interrupt and the interruption-response block
K6    turns the addresses in the block back into the guest's
K7    signals the eventfd
====  ============================================================================

The names are those of "VFIO based Channel I/O passthrough on IBM z Systems", slide "SSCH Handling Process".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyvfio.css.ccw import Ccw
from pyvfio.css.irb import Irb
from pyvfio.css.orb import Orb

__all__ = ["KernelStep", "ProgramLine", "StepListener"]


@dataclass(frozen=True, slots=True)
class ProgramLine:
    """A CCW at its `address`; `idaws` are the words of its indirect address list, empty for a direct address."""

    address: int
    ccw: Ccw
    idaws: tuple[int, ...] = ()

    def __str__(self) -> str:
        words = " IDAWs " + " ".join(f"{word:#x}" for word in self.idaws) if self.idaws else ""
        return f"{self.address:#x}: {self.ccw}{words}"


@dataclass(frozen=True, slots=True)
class KernelStep:
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


StepListener = Callable[[KernelStep], None]
"""Called for each step as it happens, under the machine's lock; it must not call the backend."""
