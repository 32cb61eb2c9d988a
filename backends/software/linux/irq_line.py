"""An interrupt line that several devices share, and those who handle it (``kernel/irq``, level triggered).

While the line is asserted its handlers are called, all of them, again and again; if none says that the interrupt was
its own, the kernel gives the line up ("nobody cared").
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.interrupts import InterruptCounts

__all__ = ["IrqAction", "IrqLine"]

_UNHANDLED = 100_000
"""After so many interrupts, nearly all unhandled, the kernel gives up (``note_interrupt``)."""


@dataclass(eq=False)
class IrqAction:
    """Somebody who handles a line: `handler` says whether the interrupt was its own."""

    handler: Callable[[], bool]
    name: str
    shared: bool


class IrqLine:
    """Line `number` of the I/O interrupt controller; `given_up` after nobody cared."""

    def __init__(self, counts: InterruptCounts, number: int, chip: str, source: str) -> None:
        self._counts = counts
        self.number = number
        self._chip = chip
        self._source = source
        self._actions: list[IrqAction] = []
        self._asserting: set[object] = set()
        self._depth = 0
        self._cpu = 0
        self._running = False
        self.given_up = False

    def request(
        self, handler: Callable[[], bool], name: str, *, shared: bool = True, enabled: bool = True
    ) -> IrqAction:
        """Handle the line (``request_irq``).  Raise OSError EBUSY: somebody does not want to share it."""
        if self._actions and not (shared and all(action.shared for action in self._actions)):
            raise fail(errno.EBUSY)
        action = IrqAction(handler, name, shared)
        if not self._actions:
            self._depth = 0 if enabled else 1
            line = self._counts.add(self.number, self._chip)
            line.source, line.move, self._cpu = self._source, self._move, 0
        self.given_up = False
        self._actions.append(action)
        self._name()
        self._run()
        return action

    def free(self, action: IrqAction) -> None:
        """Handle it no more (``free_irq``)."""
        self._actions.remove(action)
        self._name()
        if not self._actions:
            self._counts.remove(self.number)

    def _name(self) -> None:
        self._counts.lines[self.number].name = ", ".join(action.name for action in self._actions)

    def _move(self, cpu: int) -> None:
        self._cpu = cpu

    @property
    def handled(self) -> bool:
        """Whether anybody handles the line (``irq_has_action``)."""
        return bool(self._actions)

    @property
    def off(self) -> bool:
        """Whether somebody has switched it off (``irqd_irq_disabled``)."""
        return bool(self._depth)

    def disable(self) -> None:
        """No interrupts, until as many `enable` (``disable_irq_nosync``)."""
        self._depth += 1

    def enable(self) -> None:
        """Undo one `disable`; an asserted line interrupts at once."""
        self._depth -= 1
        self._run()

    def set(self, source: object, asserted: bool) -> None:
        """A device asserts the line, or asserts it no more."""
        (self._asserting.add if asserted else self._asserting.discard)(source)
        self._run()

    @property
    def _due(self) -> bool:
        return bool(self._asserting) and bool(self._actions) and not self._depth and not self.given_up

    def _run(self) -> None:
        if self._running:
            return
        self._running = True
        try:
            while self._due:
                counts = self._counts.lines[self.number].counts
                counts[self._cpu] += 1
                handled = [action.handler() for action in tuple(self._actions)]
                if not any(handled) and self._due:
                    counts[self._cpu] += _UNHANDLED - 1
                    self.given_up = True
        finally:
            self._running = False
