"""The kernel asks for a device back: the request interrupt, watched on a thread of its own.

When a driver is unbound, or a mediated device removed, while a program has the device open, the kernel waits, and fires
this interrupt at once and then every ten seconds (``vfio_unregister_group_dev()``, ``drivers/vfio/vfio_main.c``).  A
program that then closes the device ends the wait.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from pyvfio.process import EventFd

if TYPE_CHECKING:
    from pyvfio.vfio.device import Device
    from pyvfio.vfio.irq import Irq

__all__ = ["RequestWatch"]


class RequestWatch:
    """Calls `callback` with the device each time the kernel asks for it.  Made by `Device.on_request`.

    The call is made on the watch's thread.  `count` says how often the kernel has asked.  A context manager; `close`
    ends it, and so does closing the device, on whichever thread that happens.
    """

    def __init__(self, device: Device, irq: Irq, callback: Callable[[Device], None]) -> None:
        self.count = 0
        self._device = device
        self._irq = irq
        self._callback = callback
        self._stop = EventFd()
        self._stopping = False
        self._lock = threading.Lock()
        try:
            irq.enable()
        except BaseException:
            self._stop.close()
            raise
        self._thread = threading.Thread(target=self._watch, name=f"pyvfio-request-{device.name}", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        asked = self._irq.eventfds[0]
        poller = select.poll()
        poller.register(asked.fileno(), select.POLLIN)
        poller.register(self._stop.fileno(), select.POLLIN)
        try:
            while not self._stopping:
                poller.poll()
                if not self._stopping and (times := asked.read()):
                    self.count += times
                    self._callback(self._device)
        finally:
            with self._lock:
                self._stop.close()

    @property
    def is_here(self) -> bool:
        """Whether the caller runs on the watch's thread, inside the callback."""
        return threading.current_thread() is self._thread

    def stop(self) -> None:
        """End the thread and wait for it, unless this is it.  The interrupt stays enabled: see `close`."""
        if self._stopping:
            return
        self._stopping = True
        if self.is_here:
            return
        with self._lock:
            if self._stop.fileno() >= 0:
                self._stop.signal()
        self._thread.join()

    def close(self) -> None:
        """End the thread and disable the interrupt; a second call does nothing."""
        self.stop()
        self._irq.disable()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
