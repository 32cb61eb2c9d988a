"""Features, and asynchronous events.  Source: NVM Express 1.4, 5.21.1, 5.9 and 5.2.

::

    get features  dword 10: | select 10:8 | feature 7:0 |
    set features  dword 10: | save 31 | feature 7:0 |       dword 11: the value
    queues        value: | completion queues 31:16 | submission queues 15:0 |, each less 1; the answer has what there is
    async event   result: | log page 23:16 | info 15:8 | type 2:0 |
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = ["SAVE", "ErrorEvent", "EventType", "Feature", "Select", "event_result"]

SAVE: Final = 1 << 31


class Feature(IntEnum):
    """Feature identifiers."""

    ARBITRATION = 0x01
    POWER = 0x02
    TEMPERATURE = 0x04
    ERROR_RECOVERY = 0x05
    WRITE_CACHE = 0x06
    QUEUES = 0x07
    COALESCING = 0x08
    VECTOR = 0x09
    ATOMICITY = 0x0A
    EVENTS = 0x0B


class Select(IntEnum):
    """Which value of a feature is asked for (5.9)."""

    CURRENT = 0
    DEFAULT = 1
    SAVED = 2
    CAPABILITIES = 3


class EventType(IntEnum):
    """Kinds of asynchronous events (5.2.1)."""

    ERROR = 0
    HEALTH = 1
    NOTICE = 2


class ErrorEvent(IntEnum):
    """What an event of type `ERROR` says."""

    NO_SUCH_DOORBELL = 0
    BAD_DOORBELL_VALUE = 1


def event_result(kind: EventType, info: int, log_page: int) -> int:
    """Dword 0 of the completion of an asynchronous event request."""
    return kind | info << 8 | log_page << 16
