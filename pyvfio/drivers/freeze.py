"""A freeze of an endpoint, from its being noticed to its end, as one object: for who watches, and for logs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from pyvfio.errors import PyvfioError
from pyvfio.ioda.pest import PestEntry
from pyvfio.pci.aer import AerRegisters
from pyvfio.pci.config import ConfigSpace

if TYPE_CHECKING:
    from pyvfio.abi.vfio_spapr import EehState

__all__ = ["Freeze", "FunctionLog", "Stage", "look_at_function"]


class Stage(StrEnum):
    """How far a recovery has come."""

    NOTICED = "noticed"
    """The endpoint is frozen; the driver sends nothing any more."""
    LOGGED = "logged"
    """Loads and stores go again, and what the registers say was noted."""
    RESET = "reset"
    """The endpoint was reset (or only unfrozen, where the driver wants no reset)."""
    CONFIGURED = "configured"
    """The kernel has set up the bridges."""
    RESTORED = "restored"
    """Configuration space and interrupts are as they were."""
    RESUMED = "resumed"
    """All is well: the driver can begin anew."""
    FAILED = "failed"
    """It is given up; nothing goes any more."""


@dataclass(frozen=True, slots=True)
class FunctionLog:
    """What a function said between freeze and reset: whether it `answers`, command, status, AER."""

    name: str
    answers: bool
    command: int = 0
    status: int = 0
    registers: AerRegisters | None = None

    def as_dict(self) -> dict[str, object]:
        """As plain data."""
        return {
            "device": self.name,
            "answers": self.answers,
            "command": self.command,
            "status": self.status,
            "registers": None if self.registers is None else self.registers.as_dict(),
        }

    def __str__(self) -> str:
        if not self.answers:
            return f"{self.name} does not answer"
        found = [] if self.registers is None else [*self.registers.uncorrectable, *self.registers.correctable]
        return f"{self.name} noted {', '.join(map(str, found)) or 'no error'}"


def look_at_function(config: ConfigSpace) -> FunctionLog:
    """A function's registers now; what cannot be read is left out."""
    try:
        if config.vendor_id == 0xFFFF:
            return FunctionLog(config.name, answers=False)
        command, status = int(config.command), int(config.status)
    except PyvfioError:
        return FunctionLog(config.name, answers=False)
    try:
        registers = AerRegisters.read(config)
    except PyvfioError:
        registers = None
    return FunctionLog(config.name, True, command, status, registers)


@dataclass(slots=True)
class Freeze:
    """A freeze: its `number` in the recovery, how it was noticed, the endpoint's `state` then, and what came of it.

    `stages` are pairs of a stage and when it was reached (`time.monotonic`); `functions` is what the functions said,
    `messages` what the kernel did, `causes` what the host bridge noted of endpoints by their numbers, where that can be
    seen.  `resets` counts the resets that were tried, `error` is why it failed.
    """

    number: int
    reason: str
    state: EehState
    stages: list[tuple[Stage, float]] = field(default_factory=list)
    functions: tuple[FunctionLog, ...] = ()
    messages: tuple[str, ...] = ()
    causes: dict[int, PestEntry] = field(default_factory=dict)
    resets: int = 0
    error: str = ""

    @property
    def stage(self) -> Stage:
        """How far it has come."""
        return self.stages[-1][0] if self.stages else Stage.NOTICED

    @property
    def seconds(self) -> float:
        """How long it took, so far."""
        return self.stages[-1][1] - self.stages[0][1] if self.stages else 0.0

    def as_dict(self) -> dict[str, object]:
        """As plain data, for logs and ``--json``."""
        first = self.stages[0][1] if self.stages else 0.0
        return {
            "number": self.number,
            "reason": self.reason,
            "state": self.state.name,
            "stage": str(self.stage),
            "stages": {str(stage): round(at - first, 6) for stage, at in self.stages},
            "functions": [one.as_dict() for one in self.functions],
            "messages": list(self.messages),
            "causes": {str(number): _cause_dict(entry) for number, entry in self.causes.items()},
            "resets": self.resets,
            "error": self.error,
        }

    def __str__(self) -> str:
        parts = [f"freeze {self.number} ({self.state.name}): {self.reason}", *map(str, self.functions)]
        parts += [f"endpoint {number:#x}: {_cause_words([entry])}" for number, entry in self.causes.items()]
        return "; ".join(parts) + f"; {self.stage}" + (f": {self.error}" if self.error else "")


def _cause_words(entries: Iterable[PestEntry]) -> str:
    return ", ".join(f"{one.transfer.name} {one.causes.name or 'NONE'} at {one.address:#x}" for one in entries)


def _cause_dict(entry: PestEntry) -> dict[str, object]:
    return {
        "transfer": entry.transfer.name,
        "causes": entry.causes.name or "NONE",
        "rid": entry.rid,
        "address": entry.address,
    }
