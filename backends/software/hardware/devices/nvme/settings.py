"""Features: what Set Features changes and Get Features tells.  Source: NVM Express 1.4, 5.9, 5.21.1.

Nothing is saved over a reset; what is not changeable has one value.  Interrupt coalescing, power and the error recovery
limits are kept and told, and change nothing that the controller does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyvfio.nvme.commands import ALL_NAMESPACES, Command
from pyvfio.nvme.features import SAVE, Feature, Select
from pyvfio.nvme.status import Status
from pyvfio_backends.software.hardware.devices.nvme.prp import CommandError

__all__ = ["Settings"]

_CHANGEABLE, _PER_NAMESPACE = 1 << 2, 1 << 1
_TEMPERATURE_LOW, _NO_COALESCING, _VECTOR_MASK = 1 << 20, 1 << 16, 0xFFFF
_NO_COUNT = 0xFFFF


@dataclass(frozen=True, slots=True)
class _Rule:
    """The bits that a feature has, its default, and whether each namespace has its own."""

    mask: int
    default: int = 0
    per_namespace: bool = False


class Settings:
    """The features of a controller with `queues` I/O queue pairs, `vectors` and the ids of its `namespaces`.

    `warning` is the temperature that it warns at, in kelvins.
    """

    def __init__(self, queues: int, vectors: int, namespaces: frozenset[int], warning: int) -> None:
        self._vectors = vectors
        self._namespaces = namespaces
        count = queues - 1
        self._queues: Final = count << 16 | count
        self._rules: Final = {
            Feature.ARBITRATION: _Rule(0xFFFFFF07, 0x7),
            Feature.POWER: _Rule(0xE0),
            Feature.TEMPERATURE: _Rule(0x003FFFFF, warning),
            Feature.ERROR_RECOVERY: _Rule(0x0000FFFF, per_namespace=True),
            Feature.WRITE_CACHE: _Rule(0x1, 0x1),
            Feature.QUEUES: _Rule(0, self._queues),
            Feature.COALESCING: _Rule(0xFFFF),
            Feature.VECTOR: _Rule(_NO_COALESCING),
            Feature.ATOMICITY: _Rule(0x1),
            Feature.EVENTS: _Rule(0x0000FFFF),
        }
        self._values: dict[tuple[Feature, int], int] = {}

    def reset(self) -> None:
        """Everything as at the start."""
        self._values.clear()

    @property
    def write_cache(self) -> bool:
        """Whether writes may wait in a cache until they are flushed."""
        return bool(self._current(Feature.WRITE_CACHE, 0))

    def _rule(self, command: Command) -> tuple[Feature, _Rule]:
        try:
            feature = Feature(command.cdw10 & 0xFF)
        except ValueError:
            raise CommandError(Status.INVALID_FIELD) from None
        return feature, self._rules[feature]

    def _default(self, feature: Feature, which: int) -> int:
        if feature is Feature.VECTOR:
            return which if which else _NO_COALESCING  # those of the admin queue are not held back
        if feature is Feature.TEMPERATURE and which:
            return 0 if which & _TEMPERATURE_LOW >> 16 else 0xFFFF
        return self._rules[feature].default

    def _current(self, feature: Feature, which: int) -> int:
        value = self._values.get((feature, which))
        return self._default(feature, which) if value is None else value

    def _which(self, feature: Feature, command: Command) -> int:
        """What a feature is one of several of: the namespace, the vector, the threshold; else 0."""
        if feature is Feature.VECTOR:
            vector = command.cdw11 & _VECTOR_MASK
            if vector >= self._vectors:
                raise CommandError(Status.INVALID_FIELD)
            return vector
        if feature is Feature.TEMPERATURE:
            return command.cdw11 >> 16 & 0x3F  # the sensor, and whether it is the lower threshold
        if self._rules[feature].per_namespace:
            if command.nsid not in self._namespaces:
                raise CommandError(Status.INVALID_NAMESPACE)
            return command.nsid
        return 0

    def get(self, command: Command) -> int:
        """The value that Get Features asks for.  Raise `CommandError`."""
        feature, rule = self._rule(command)
        try:
            select = Select(command.cdw10 >> 8 & 7)
        except ValueError:
            raise CommandError(Status.INVALID_FIELD) from None
        if select is Select.CAPABILITIES:
            changeable = _CHANGEABLE if rule.mask or feature is Feature.QUEUES else 0
            return changeable | (_PER_NAMESPACE if rule.per_namespace else 0)
        which = self._which(feature, command)
        return self._current(feature, which) if select is Select.CURRENT else self._default(feature, which)

    def set(self, command: Command, *, queues_exist: bool) -> int:
        """Do Set Features; the result.  Raise `CommandError`: nothing changes then."""
        feature, rule = self._rule(command)
        if command.cdw10 & SAVE:
            raise CommandError(Status.FEATURE_NOT_SAVEABLE)
        value = command.cdw11
        if feature is Feature.QUEUES:
            if queues_exist:
                raise CommandError(Status.SEQUENCE_ERROR)
            if value & 0xFFFF == _NO_COUNT or value >> 16 == _NO_COUNT:
                raise CommandError(Status.INVALID_FIELD)
            return self._queues
        if rule.per_namespace and command.nsid == ALL_NAMESPACES:
            for nsid in self._namespaces:
                self._values[feature, nsid] = value & rule.mask
            return 0
        if not rule.per_namespace and command.nsid not in (0, ALL_NAMESPACES):
            known = command.nsid in self._namespaces
            raise CommandError(Status.FEATURE_NOT_OF_NAMESPACE if known else Status.INVALID_NAMESPACE)
        if feature is Feature.POWER and value & 0x1F:
            raise CommandError(Status.INVALID_FIELD)  # there is one power state
        which = self._which(feature, command)
        kept = which if feature is Feature.VECTOR else 0
        self._values[feature, which] = value & rule.mask | kept
        return 0
