"""An error of the device reaches the program that has it open: the error interrupt, and what was behind it.

Linux signals it for non-fatal and fatal errors of PCI Express (also of another function below the same port), and on
IBM Z for errors of the function; correctable ones are only counted.  It comes when recovery begins, and says nothing
but that.  So the registers and counters of the tree below the root port are looked at when the watch begins, and again
when the kernel is done: it sends an event of the device then.

Source: ``vfio_pci_core_aer_err_detected()`` (Linux 6.12), `pcie_do_recovery()` in ``drivers/pci/pcie/err.c``.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Self

from pyvfio.errors import Misuse, PyvfioError
from pyvfio.pci.device_error import DeviceError, describe
from pyvfio.pci.error_state import TreeErrors
from pyvfio.pci.kernel_messages import KernelMessages
from pyvfio.sysfs import Sysfs
from pyvfio.vfio.watch_thread import WatchThread

if TYPE_CHECKING:
    from pyvfio.uevent import UeventStream
    from pyvfio.vfio.device import Device
    from pyvfio.vfio.irq import Irq

__all__ = ["ErrorWatch"]

_OUTCOMES = {"SUCCESSFUL_RECOVERY": "recovered", "FAILED_RECOVERY": "failed"}
_EVENT = "ERROR_EVENT"
_GLANCE = 0.1
"""Seconds after which it is looked whether the watch was closed."""


class ErrorWatch:
    """Tells of the errors of `device`, one `DeviceError` each time the kernel signals.  Made by `Device.errors`.

    After the signal it waits up to `patience` seconds for the kernel to come to an end with its recovery.  `count` says
    how often the kernel has signalled.  With a `callback` (`Device.on_error`) a thread waits, and calls it there.
    A context manager; `close` ends it, and so does closing the device.
    """

    def __init__(
        self,
        device: Device,
        irq: Irq,
        *,
        patience: float = 5.0,
        callback: Callable[[DeviceError], None] | None = None,
    ) -> None:
        self.count = 0
        self._device = device
        self._irq = irq
        self._patience = patience
        self._callback = callback
        self._sysfs = Sysfs(device.backend)
        self._looking = threading.Lock()
        path = self._sysfs.link(f"/sys/bus/pci/devices/{device.name}")
        if path is None:
            raise Misuse("watch for errors", device.name, cause="it is no PCI function of this host")
        self._path = path
        self._thread: WatchThread | None = None
        self._stopping = False
        self._events: UeventStream | None = None
        with contextlib.suppress(PyvfioError, OSError):  # without, it only is not known when the kernel is done
            self._events = device.backend.uevents(["pci"])
        self._messages = KernelMessages(device.backend)
        try:
            self._before = TreeErrors.look(self._sysfs, path)
            (signalled,) = irq.enable()
        except BaseException:
            self._release()
            raise
        if callback is None:
            return
        try:
            self._thread = WatchThread(signalled, self._signalled, f"pyvfio-errors-{device.name}")
        except BaseException:
            self.close()
            raise

    def _signalled(self, times: int) -> None:
        if self._callback is not None:
            self._callback(self._report(times))

    # pulling

    def fileno(self) -> int:
        """Readable when the kernel has signalled and nobody has taken that yet."""
        return self._irq.fileno()

    def poll(self) -> DeviceError | None:
        """The error if the kernel has signalled since the last look, else None; waits only for the recovery to end."""
        self._require_no_callback()
        times = self._irq.poll()
        return self._report(times) if times else None

    def wait(self, timeout: float | None = None) -> DeviceError:
        """Wait up to `timeout` seconds (None: for ever) for the next one.

        Raise `Timeout`, or `Misuse`: the watch was closed meanwhile.
        """
        self._require_no_callback()
        return self._report(self._irq.wait(timeout))

    async def wait_async(self, timeout: float | None = None) -> DeviceError:
        """As `wait`, without blocking the event loop; one task at a time."""
        self._require_no_callback()
        times = await self._irq.wait_async(timeout)
        return await asyncio.to_thread(self._report, times)

    def __iter__(self) -> Iterator[DeviceError]:
        """All errors as they come, until the watch is closed."""
        while not self._stopping:
            try:
                yield self.wait()
            except Misuse:
                return

    async def __aiter__(self) -> AsyncIterator[DeviceError]:
        """As `__iter__`, without blocking the event loop."""
        while not self._stopping:
            try:
                yield await self.wait_async()
            except Misuse:
                return

    def _require_no_callback(self) -> None:
        if self._callback is not None:
            raise Misuse("wait for an error", self._device.name, cause="the watch has a thread that waits")

    # what was behind it

    def _report(self, times: int) -> DeviceError:
        with self._looking:
            self.count += times
            outcome = self._outcome()
            after = TreeErrors.look(self._sysfs, self._path)
            found = describe(self._before, after, outcome=outcome, log=self._messages.new())
            self._before = after
            return found

    def _outcome(self) -> str | None:
        """Wait for the kernel to say how its recovery ended, of this function; None when it did not say."""
        events, deadline = self._events, time.monotonic() + self._patience
        outcome: str | None = None
        while events is not None and not self._stopping:
            left = deadline - time.monotonic() if outcome is None else 0.0
            event = events.read(min(max(0.0, left), _GLANCE))
            if event is None:
                if left <= 0:
                    break
                continue
            if event.properties.get("PCI_SLOT_NAME") == self._device.name and _EVENT in event.properties:
                outcome = _OUTCOMES.get(event.properties[_EVENT])  # None for one that begins
        return outcome

    # the end

    @property
    def is_here(self) -> bool:
        """Whether the caller runs on the watch's thread, inside the callback."""
        return self._thread is not None and self._thread.is_here

    def stop(self) -> None:
        """End the thread and wait for it, unless this is it; the interrupt stays enabled: see `close`."""
        if self._stopping:
            return
        self._stopping = True
        if self._thread is not None:
            self._thread.stop()
        self._release()

    def _release(self) -> None:
        with self._looking:  # nobody reads them now
            if self._events is not None:
                self._events.close()
            self._messages.close()

    def close(self) -> None:
        """End the watch and disable the interrupt; a second call does nothing."""
        self.stop()
        self._irq.disable()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
