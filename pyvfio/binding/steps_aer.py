"""The step that makes a host believe in errors of a function (``/dev/aer_inject``)."""

from __future__ import annotations

from dataclasses import dataclass

from pyvfio.abi.aer_inject import AER_INJECT_NODE
from pyvfio.address import PciAddress
from pyvfio.binding.step import Step, journaled
from pyvfio.pci.aer import find_error
from pyvfio.pci.aer_inject import inject_errors
from pyvfio.sysfs import Sysfs

__all__ = ["InjectErrors"]


@journaled("aer-inject")
@dataclass(frozen=True, slots=True)
class InjectErrors(Step):
    """Have `device` report `errors`, by Linux's names, with a `header` of hexadecimal words.

    What comes of it cannot be taken back: the counters have counted, and a link may have been reset.
    """

    device: str
    errors: tuple[str, ...]
    header: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return f"have {self.device} report {', '.join(self.errors)}"

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        return "nothing takes a report back"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (AER_INJECT_NODE,)

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        errors = [find_error(name) for name in self.errors]
        inject_errors(sysfs, PciAddress.parse(self.device), errors, [int(word, 16) for word in self.header])

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`: the kernel took it, and handles it when it does."""
        return ""

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`: there is nothing to do."""
