"""What became of a command: status codes.  Source: NVM Express 1.4, 4.6.1; ``include/linux/nvme.h``.

A `Status` holds type and code as Linux does: ``type << 8 | code``.  In a completion there are also "do not retry" (bit
14) and "more" (bit 13: the error log tells more).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = ["DO_NOT_RETRY", "MORE", "STATUS_MASK", "Status"]

STATUS_MASK: Final = 0x7FF
MORE: Final = 1 << 13
DO_NOT_RETRY: Final = 1 << 14


class Status(IntEnum):
    """Generic (0xx), of a command (1xx), of the media (2xx)."""

    SUCCESS = 0x000
    INVALID_OPCODE = 0x001
    INVALID_FIELD = 0x002
    ID_CONFLICT = 0x003
    DATA_TRANSFER_ERROR = 0x004
    INTERNAL_ERROR = 0x006
    ABORT_REQUESTED = 0x007
    QUEUE_DELETED = 0x008
    INVALID_NAMESPACE = 0x00B
    SEQUENCE_ERROR = 0x00C
    PRP_OFFSET_INVALID = 0x013
    WRITE_PROTECTED = 0x020
    LBA_OUT_OF_RANGE = 0x080
    CAPACITY_EXCEEDED = 0x081
    NAMESPACE_NOT_READY = 0x082
    COMPLETION_QUEUE_INVALID = 0x100
    INVALID_QUEUE_ID = 0x101
    INVALID_QUEUE_SIZE = 0x102
    ABORT_LIMIT = 0x103
    ASYNC_EVENT_LIMIT = 0x105
    INVALID_VECTOR = 0x108
    INVALID_LOG_PAGE = 0x109
    INVALID_FORMAT = 0x10A
    INVALID_QUEUE_DELETION = 0x10C
    FEATURE_NOT_SAVEABLE = 0x10D
    FEATURE_NOT_CHANGEABLE = 0x10E
    FEATURE_NOT_OF_NAMESPACE = 0x10F
    WRITE_FAULT = 0x280
    UNRECOVERED_READ = 0x281
    COMPARE_FAILURE = 0x285

    @property
    def transient(self) -> bool:
        """Whether the same command may succeed when it is sent again."""
        return self in _TRANSIENT


_TRANSIENT: Final = {
    Status.DATA_TRANSFER_ERROR,
    Status.INTERNAL_ERROR,
    Status.ABORT_REQUESTED,
    Status.QUEUE_DELETED,
    Status.ABORT_LIMIT,
    Status.NAMESPACE_NOT_READY,
    Status.WRITE_FAULT,
    Status.UNRECOVERED_READ,
}
