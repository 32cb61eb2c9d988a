"""Storage that is there and yet not for every access: read-only storage, and storage keys.

Source: z/Architecture Principles of Operation, "Key-Controlled Protection", "Protection Check" under "Subchannel
Status".
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from pyvfio.css.instructions import Storage, StorageError
from pyvfio.errors import PyvfioError

__all__ = ["KeyedStorage", "StorageProtected"]


class StorageProtected(StorageError):
    """Storage is there, but not for this access.  A channel answers with a protection check."""

    def __init__(self, address: int, count: int, access: str = "store") -> None:
        where = f"{address:#x}"
        PyvfioError.__init__(self, f"{access} {count} bytes of storage", where, cause="the storage is protected")
        self.address = address
        self.count = count


@runtime_checkable
class KeyedStorage(Storage, Protocol):
    """Storage with storage keys; any other has key 0 without fetch protection everywhere."""

    def permits(self, address: int, count: int, key: int, store: bool) -> bool:
        """Whether an access with `key` is allowed to all of `count` bytes; it is not asked for key 0, which may all.

        It is when the storage has this key, and for fetches when the storage has no fetch protection.
        """
        ...
