"""A report of an error to the machine's service element, as ``report_error`` of a function takes it.

::

    byte  0         1        2                  4          12         20
         +---------+--------+------------------+----------+----------+------------
         | version | action | length of what   | time of  | log      | log data
         |    1    |        | follows          | the      | identi-  |
         |         |        |                  | report   | fication |
         +---------+--------+------------------+----------+----------+------------

Numbers are in the order of the host's processor, which is big-endian on a real one.  Some actions make the machine act:
after ``RESET`` the firmware resets the function and says so in an error event, which Linux recovers from; ``REPAIR``
takes the function from the partition.

Sources: ``arch/s390/include/asm/sclp.h`` (struct zpci_report_error_header), ``drivers/s390/char/sclp_pci.c``;
``libzpci/pci_sclp.c`` and ``zpcictl/zpcictl.c`` of s390-tools (what follows the header, who sends which action).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from pyvfio.errors import Misuse

__all__ = ["LOG_ZPCICTL", "ErrorReport", "ReportAction"]

LOG_ZPCICTL: Final = 0x4713
"""The log identification that ``zpcictl`` uses."""
_VERSION: Final = 1
_HEADER: Final = struct.Struct("=BBH")
_BODY: Final = struct.Struct("=QQ")
_LONGEST: Final = 4072
"""``SCLP_ERRNOTIFY``'s block shares a page with the report."""


class ReportAction(IntEnum):
    """What the machine shall do with it."""

    RESET = 0
    REPAIR = 1
    INFORM = 2


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """A report: `action`, the `time` in seconds since 1970, `log` (identification) and up to 4056 bytes of `data`."""

    action: ReportAction
    time: int = 0
    log: int = LOG_ZPCICTL
    data: bytes = b""

    def to_bytes(self) -> bytes:
        """The bytes to write, at once.  Raise `Misuse` when the data is too long."""
        body = _BODY.pack(self.time, self.log) + self.data
        if len(body) > _LONGEST:
            raise Misuse(
                "report an error", cause=f"{len(self.data)} bytes of data, at most {_LONGEST - _BODY.size} fit"
            )
        return _HEADER.pack(_VERSION, self.action, len(body)) + body
