"""Device features: what ``VFIO_DEVICE_FEATURE`` can probe, get and set."""

from __future__ import annotations

import ctypes

from pyvfio.abi import vfio as abi
from pyvfio.call import Call
from pyvfio.errors import PyvfioError

__all__ = ["Features"]


class Features:
    """The features of one device; numbers are ``VFIO_DEVICE_FEATURE_*`` of `pyvfio.abi.vfio_feature`."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def probe(self, number: int, *, get: bool = False, set: bool = False) -> bool:
        """Whether the device has the feature, and can `get` or `set` it if that is asked."""
        flags = number | abi.VFIO_DEVICE_FEATURE_PROBE
        flags |= get * abi.VFIO_DEVICE_FEATURE_GET | set * abi.VFIO_DEVICE_FEATURE_SET
        try:
            self._ask("probe feature", flags, b"")
        except PyvfioError as error:
            if error.errno is None:
                raise
            return False
        return True

    def get(self, number: int, size: int) -> bytes:
        """Read the `size` bytes of a feature's structure.  Raise the class for the errno (ENOTTY: no such feature)."""
        return self._ask(f"get feature {number}", number | abi.VFIO_DEVICE_FEATURE_GET, bytes(size))

    def ask(self, number: int, payload: bytes) -> bytes:
        """Read a feature whose question is in its structure; returns that as the kernel left it.  Errors as `get`."""
        return self._ask(f"get feature {number}", number | abi.VFIO_DEVICE_FEATURE_GET, payload)

    def make(self, number: int, payload: bytes) -> int:
        """Have the kernel make something, which is what the call returns (a descriptor).  Errors as `get`."""
        flags = number | abi.VFIO_DEVICE_FEATURE_GET
        return self._call(f"get feature {number}", abi.VFIO_DEVICE_FEATURE, self._argument(flags, payload))

    def set(self, number: int, payload: bytes = b"") -> bytes:
        """Set a feature; returns its structure as the kernel left it (some answer in it)."""
        return self._ask(f"set feature {number}", number | abi.VFIO_DEVICE_FEATURE_SET, payload)

    def _ask(self, operation: str, flags: int, payload: bytes) -> bytes:
        buffer = self._argument(flags, payload)
        self._call(operation, abi.VFIO_DEVICE_FEATURE, buffer)
        return bytes(buffer[ctypes.sizeof(abi.DeviceFeature) :])

    @staticmethod
    def _argument(flags: int, payload: bytes) -> bytearray:
        size = ctypes.sizeof(abi.DeviceFeature)
        return bytearray(bytes(abi.DeviceFeature(argsz=size + len(payload), flags=flags))[:size] + payload)
