"""The kernel asks for a device back: the request interrupt, watched on a thread of its own.

When a driver is unbound, or a mediated device removed, while a program has the device open, the kernel waits, and fires
this interrupt at once and then every ten seconds (``vfio_unregister_group_dev()``, ``drivers/vfio/vfio_main.c``).  A
program that then closes the device ends the wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from pyvfio.vfio.watch_thread import WatchThread

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
        (asked,) = irq.enable()
        try:
            self._thread = WatchThread(asked, self._asked, f"pyvfio-request-{device.name}")
        except BaseException:
            irq.disable()
            raise

    def _asked(self, times: int) -> None:
        self.count += times
        self._callback(self._device)

    @property
    def is_here(self) -> bool:
        """Whether the caller runs on the watch's thread, inside the callback."""
        return self._thread.is_here

    def stop(self) -> None:
        """End the thread and wait for it, unless this is it.  The interrupt stays enabled: see `close`."""
        self._thread.stop()

    def close(self) -> None:
        """End the thread and disable the interrupt; a second call does nothing."""
        self.stop()
        self._irq.disable()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
