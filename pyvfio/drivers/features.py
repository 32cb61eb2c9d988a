"""What a storage control can do: the feature codes that READ SUBSYSTEM DATA brings.

Source: ``drivers/s390/block/dasd_eckd.c`` (dasd_eckd_read_features, and where it asks for ``features.feature``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["FEATURES_SIZE", "Features"]

FEATURES_SIZE: Final = 256
_PREFIX: Final = 8, 0x01
_READ_TRACK_DATA: Final = 9, 0x20
_WRITE_TRACK_DATA: Final = 12, 0x40
_HOST_ACCESS: Final = 14, 0x80
_TRANSPORT: Final = 40, 0x80


@dataclass(frozen=True, slots=True)
class Features:
    """256 bytes of feature codes (`raw`); what is missing counts as zeros, so that nothing is available.

    >>> Features().prefix, Features(bytes(8) + b"\\x01").prefix
    (False, True)
    """

    raw: bytes = b""

    def _has(self, feature: tuple[int, int]) -> bool:
        byte, bit = feature
        return byte < len(self.raw) and bool(self.raw[byte] & bit)

    @property
    def prefix(self) -> bool:
        """PREFIX: extent and location in one command."""
        return self._has(_PREFIX)

    @property
    def read_track_data(self) -> bool:
        """READ TRACK DATA: the data of a whole track in one command."""
        return self._has(_READ_TRACK_DATA)

    @property
    def write_track_data(self) -> bool:
        """WRITE FULL TRACK and WRITE TRACK DATA."""
        return self._has(_WRITE_TRACK_DATA)

    @property
    def host_access(self) -> bool:
        """It can say which hosts have the device online."""
        return self._has(_HOST_ACCESS)

    @property
    def transport(self) -> bool:
        """Transport mode (which vfio-ccw does not pass on)."""
        return self._has(_TRANSPORT)

    @property
    def names(self) -> tuple[str, ...]:
        """Those that it has, as words of the command line."""
        known = ("prefix", "read_track_data", "write_track_data", "host_access", "transport")
        return tuple(name.replace("_", "-") for name in known if getattr(self, name))
