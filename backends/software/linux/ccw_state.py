"""The states of a ccw device, what its driver is told, and work on it that can wait (``drivers/s390/cio/device.h``)."""

from __future__ import annotations

from enum import Enum, IntEnum, auto
from typing import Final

__all__ = ["REQUESTING", "CcwState", "Notice", "Todo"]


class CcwState(Enum):
    """States of a ccw device (``enum dev_state``)."""

    NOT_OPERATIONAL = auto()
    SENSE_ID = auto()
    OFFLINE = auto()
    VERIFY = auto()
    ONLINE = auto()
    DISBAND = auto()
    BOXED = auto()
    TIMEOUT_KILL = auto()
    QUIESCE = auto()
    DISCONNECTED = auto()
    DISCONNECTED_SENSE_ID = auto()
    STEAL_LOCK = auto()

    @property
    def final(self) -> bool:
        """Whether it lasts (``dev_fsm_final_state``)."""
        return self in _FINAL


_FINAL: Final = frozenset({CcwState.NOT_OPERATIONAL, CcwState.OFFLINE, CcwState.ONLINE, CcwState.BOXED})
REQUESTING: Final = frozenset(
    {
        CcwState.SENSE_ID,
        CcwState.VERIFY,
        CcwState.DISBAND,
        CcwState.DISCONNECTED_SENSE_ID,
        CcwState.STEAL_LOCK,
    }
)


class Notice(Enum):
    """What a driver is told of its online device (``CIO_GONE`` ...)."""

    GONE = auto()
    NO_PATH = auto()
    OPERATIONAL = auto()
    BOXED = auto()


class Todo(IntEnum):
    """Work that waits; a higher one replaces a lower one (``enum cdev_todo``)."""

    NOTHING = 0
    ENABLE_CMF = 1
    REBIND = 2
    REGISTER = 3
    UNREGISTER = 4
    UNREGISTER_EVALUATE = 5
