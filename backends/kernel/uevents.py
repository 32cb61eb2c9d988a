"""Uevents of the running kernel: by pyudev where udev runs, else by pyroute2's raw netlink socket.

udev's events come after its rules have run and carry its properties too; the kernel's own come at once and are all
there is in an initramfs or a container.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any, Self

from pyvfio.uevent import Uevent, UeventStream

__all__ = ["KernelUevents", "UdevUevents", "open_stream", "udev_runs"]

_UDEV_CONTROL = "/run/udev/control"
_RECEIVE_BUFFER = 8 << 20
_LARGEST = 1 << 16


def udev_runs() -> bool:
    """Whether a udev daemon is there to forward events."""
    return os.path.exists(_UDEV_CONTROL)


def open_stream(source: str, subsystems: Sequence[str]) -> UeventStream:
    """A stream from `source`: ``udev``, ``netlink``, or ``auto``, which is udev where it runs and can be used.

    Raise OSError: ENOPKG without libudev (with ``auto`` the kernel's own events are taken then), EPERM and the like
    for the socket.
    """
    if source == "udev" or (source == "auto" and udev_runs()):
        try:
            return UdevUevents(subsystems)
        except ImportError as error:  # pyudev's word for a missing libudev
            if source == "udev":
                raise OSError(errno.ENOPKG, f"{os.strerror(errno.ENOPKG)}: {error}") from error
    return KernelUevents(subsystems)


class _Stream:
    """What both sources share: waiting with a deadline, filtering, iteration."""

    def __init__(self, subsystems: Sequence[str]) -> None:
        self._subsystems = frozenset(subsystems)

    def fileno(self) -> int:
        raise OSError("closed")

    def close(self) -> None:
        """Stop listening."""

    def _receive(self) -> Uevent | None:
        return None

    def read(self, timeout: float | None = 0.0) -> Uevent | None:
        """See `UeventStream.read`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        poller = select.poll()
        poller.register(self.fileno(), select.POLLIN)
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not poller.poll(None if left is None else left * 1000):
                return None
            event = self._receive()
            if event is not None and (not self._subsystems or event.subsystem in self._subsystems):
                return event

    def __iter__(self) -> Iterator[Uevent]:
        while (event := self.read(0)) is not None:
            yield event

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class KernelUevents(_Stream):
    """The kernel's multicast group, parsed by pyroute2.

    The socket is our own: pyroute2's `UeventSocket` reads ahead on its event loop, so `select` on it misses events
    that it holds already (seen with 0.9.7).
    """

    def __init__(self, subsystems: Sequence[str] = ()) -> None:
        super().__init__(subsystems)
        from pyroute2.netlink import NETLINK_KOBJECT_UEVENT
        from pyroute2.netlink.uevent import MONITOR_GROUP_KERNEL, MarshalUevent

        self._marshal: Any = MarshalUevent()
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            self._socket.bind((0, MONITOR_GROUP_KERNEL))
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """The socket; -1 after `close`."""
        return self._socket.fileno()

    def _receive(self) -> Uevent | None:
        try:
            payload, (sender, _) = self._socket.recvfrom(_LARGEST)
        except BlockingIOError:
            return None
        if sender != 0:
            return None  # only the kernel itself is believed
        for message in self._marshal.parse(payload):
            action, at, devpath = message["header"]["message"].partition("@")
            if at:
                pairs = {key: str(message[key]) for key in message if key not in ("header", "attrs")}
                return Uevent(action, devpath, pairs)
        return None

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class UdevUevents(_Stream):
    """udev's events, by pyudev's monitor (no thread of its own is used)."""

    def __init__(self, subsystems: Sequence[str] = ()) -> None:
        super().__init__(subsystems)
        import pyudev

        self._monitor: Any = pyudev.Monitor.from_netlink(pyudev.Context())
        for subsystem in subsystems:
            self._monitor.filter_by(subsystem)
        self._monitor.start()

    def fileno(self) -> int:
        """The monitor's socket; -1 after `close`."""
        return -1 if self._monitor is None else int(self._monitor.fileno())

    def _receive(self) -> Uevent | None:
        device = self._monitor.poll(timeout=0)
        if device is None:
            return None
        properties = {key: device.properties[key] for key in device.properties}
        return Uevent(device.action or "", properties.get("DEVPATH", device.device_path), properties)

    def close(self) -> None:
        """Drop the monitor; pyudev closes its socket with it."""
        self._monitor = None
