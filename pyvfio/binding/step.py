"""Steps of a plan: each knows how to do, to check and to undo itself.

A step is plain data: its fields are text, numbers and truth values, what was before among them.  So it can be written
to the journal before the host is touched, read by another process, and undone there.
"""

from __future__ import annotations

import dataclasses
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, TypeVar

from pyvfio.errors import MalformedAnswer
from pyvfio.sysfs import Sysfs
from pyvfio.sysfs_device import SysfsDevice

__all__ = ["Event", "Phase", "Progress", "Step", "journaled", "step_from_dict"]

STEP_MODULES: tuple[str, ...] = (
    "pyvfio.binding.steps",
    "pyvfio.binding.steps_access",
    "pyvfio.binding.steps_aer",
    "pyvfio.binding.steps_ccw",
    "pyvfio.binding.steps_chp",
    "pyvfio.binding.steps_eeh",
    "pyvfio.binding.steps_files",
    "pyvfio.binding.steps_mdev",
    "pyvfio.binding.steps_online",
    "pyvfio.binding.steps_reset",
    "pyvfio.binding.steps_slot",
    "pyvfio.binding.steps_sriov",
    "pyvfio.binding.steps_zpci",
)
"""The modules whose steps a journal may name."""

_KINDS: dict[str, type[Step]] = {}
_S = TypeVar("_S", bound="type[Step]")


class Step(ABC):
    """One change to the host, as a frozen dataclass of plain values.

    Fields are str, int, bool, None or tuples of str.  `text` and `undo_text` say in words what it and its inverse do;
    `paths` are the files that are written.  All three actions get the `Sysfs` of the host and raise `PyvfioError`.
    """

    __slots__ = ()
    kind: ClassVar[str] = ""
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]
    survives_boot: ClassVar[bool] = False
    """Whether what it changes is still so after the next boot (a file is, a driver is not)."""

    @property
    @abstractmethod
    def text(self) -> str:
        """What it does, in words."""

    @property
    @abstractmethod
    def undo_text(self) -> str:
        """What its inverse does, in words."""

    @property
    @abstractmethod
    def paths(self) -> tuple[str, ...]:
        """The files it writes."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes whose holders the kernel may wait for while it makes the change."""
        return ()

    def changed(self, sysfs: Sysfs) -> str:
        """What is not as it was when the plan was made, so that the inverse would not restore it; else empty."""
        return ""

    def takes_back(self, sysfs: Sysfs) -> list[SysfsDevice]:
        """The devices that `undo` would take now from whoever uses them."""
        return []

    @abstractmethod
    def do(self, sysfs: Sysfs) -> None:
        """Make the change."""

    @abstractmethod
    def verify(self, sysfs: Sysfs) -> str:
        """Read it back: what is wrong, an empty string when it is right."""

    @abstractmethod
    def undo(self, sysfs: Sysfs) -> None:
        """Restore what was before; right whether or not `do` was called or got to its end, and a second time."""

    def as_dict(self) -> dict[str, object]:
        """The step for the journal: its kind and its fields."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {"step": self.kind, **fields}

    def __str__(self) -> str:
        return self.text


def journaled(kind: str) -> Callable[[_S], _S]:
    """Register a step under the name by which the journal calls it."""

    def register(cls: _S) -> _S:
        cls.kind = kind
        _KINDS[kind] = cls
        return cls

    return register


def step_from_dict(data: Mapping[str, Any]) -> Step:
    """The step of a journal.  Raise `MalformedAnswer` when it is none."""
    for module in STEP_MODULES:
        importlib.import_module(module)
    try:
        fields = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
        kind = str(fields.pop("step", ""))
    except AttributeError as error:
        raise MalformedAnswer("read journal", str(data)[:80], "not a step") from error
    try:
        step = _KINDS[kind](**fields)
        for field in dataclasses.fields(step):
            if not _fits(getattr(step, field.name), str(field.type)):
                raise TypeError(f"{field.name} is {getattr(step, field.name)!r}")
        return step
    except (KeyError, TypeError) as error:
        raise MalformedAnswer("read journal", kind, f"not a step of this version: {error}") from error


def _fits(value: object, annotation: str) -> bool:
    """Whether a value read from a journal is of the type of a step's field, as in ``str | None``."""
    if isinstance(value, tuple):
        return "tuple" in annotation and all(isinstance(part, str) for part in value)
    name = "None" if value is None else type(value).__name__
    return name in annotation.replace("tuple[str, ...]", "").split(" | ")


class Phase(Enum):
    """Where a step is."""

    START = "start"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    UNDOING = "undoing"
    UNDONE = "undone"
    UNDO_FAILED = "undo failed"


@dataclass(frozen=True, slots=True)
class Event:
    """Progress of a plan: `step` number `index` (from 0) of `total` entered `phase`; `error` says why it failed or
    what it waits for.
    """

    step: Step
    phase: Phase
    index: int
    total: int
    error: str = ""


Progress = Callable[[Event], None]
