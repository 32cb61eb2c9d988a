"""What a probe is, and what looking gives."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from pyvfio.binding.findings import Evidence, Finding

if TYPE_CHECKING:
    from pyvfio.binding.probes.subject import Subject

__all__ = ["Outlook", "Probe", "ProbeModule"]


@dataclass(frozen=True, slots=True)
class Outlook:
    """The `findings`, strongest first, and what could not be seen (`blind`: ``PROBE: what and why``)."""

    findings: tuple[Finding, ...] = ()
    blind: tuple[str, ...] = ()

    @property
    def free(self) -> bool:
        """Whether nothing was found.  What could not be seen may still be in use."""
        return not self.findings


class ProbeModule(Protocol):
    """A module of this package that is a probe."""

    SUMMARY: str
    """The finding in one sentence."""

    def look(self, subject: Subject) -> Iterator[Evidence]:
        """The evidence that the device is in use for this reason.  Raise what the seam raises."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A reason: the `name` for ``--force`` (and of its module), a `description` for people, and what `ends` that use.

    It applies to devices that have one of the subsystems `needs` at or below them (empty: to all).
    """

    name: str
    description: str
    ends: str
    needs: frozenset[str] = frozenset()

    def applies(self, kinds: frozenset[str]) -> bool:
        """Whether it can find anything on a device that has the subsystems `kinds` at or below it."""
        return not self.needs or bool(self.needs & kinds)

    def load(self) -> ProbeModule:
        """The module that looks; imported when it is first needed, so that planning starts quickly."""
        return cast("ProbeModule", importlib.import_module(f"pyvfio.binding.probes.{self.name}"))
