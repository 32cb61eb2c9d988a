"""Whether a function is this system's."""

from __future__ import annotations

from enum import Enum

__all__ = ["ZpciState"]


class ZpciState(Enum):
    """``enum zpci_state``."""

    CONFIGURED = "configured"
    STANDBY = "standby"
    RESERVED = "reserved"
