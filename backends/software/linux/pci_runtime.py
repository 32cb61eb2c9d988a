"""Runtime power management of PCI functions (``drivers/base/power/runtime.c``, ``drivers/pci/pci-driver.c``, 6.12).

A function sleeps while nobody uses it (`users` is 0) and it may (``power/control`` is ``auto``).  Asleep, one with
power management that a driver has is in D3hot; any other stays in D0, and is only called suspended.  Its configuration
is kept, and comes back when it wakes.  A driver that manages power lets go of the use that it was probed with.  A
function that can raise power management events sleeps where it can, and they wake it (`pcie_pme`).
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.pci_power import D0, set_events, sleep_state
from pyvfio_backends.software.linux.vfs import Attribute, Node, StaticDirectory, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import PciDevice
    from pyvfio_backends.software.linux.pci_driver import PciDriver
    from pyvfio_backends.software.linux.pci_state import SavedState

__all__ = ["RuntimePower"]


class RuntimePower:
    """Whether a function sleeps, and what its directory ``power`` says (``dev_pm_info``)."""

    def __init__(self, device: PciDevice) -> None:
        self._device = device
        self.users = 0
        self.automatic = False
        self.suspended = False
        self._saved: SavedState | None = None
        self._told = self._listens = False
        self._since = device.kernel.clock.now
        self._active = self._asleep = 0.0

    def get(self) -> None:
        """Use the function: it wakes (``pm_runtime_get_sync``)."""
        self.users += 1
        self.wake()

    def put(self) -> None:
        """Do so no longer; it may fall asleep (``pm_runtime_put``)."""
        self.users -= 1
        self.settle()

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Keep it awake meanwhile."""
        self.get()
        try:
            yield
        finally:
            self.put()

    def allow(self, automatic: bool) -> None:
        """Let it sleep, or wake it and keep it awake (``pm_runtime_allow``, ``pm_runtime_forbid``)."""
        self.automatic = automatic
        if automatic:
            self.settle()
        else:
            self.wake()

    def settle(self) -> None:
        """Fall asleep if nothing keeps it awake."""
        device = self._device
        if self.suspended or self.users or not self.automatic or device.dead or not device.sysdata.runtime_power:
            return
        driver = self._driver
        if driver is not None:
            if not driver.manages_power:
                return
            driver.runtime_suspend(device)
            self._told = True
            self._saved = device.save_state()
            state, wakes = sleep_state(device)
            if wakes:
                set_events(device, on=True)
                self._listens = True
            if state:
                device.set_power_state(state)
        self._change(suspended=True)

    def wake(self) -> None:
        """Wake it, whoever uses it (``pm_runtime_resume``)."""
        if not self.suspended:
            return
        device = self._device
        self._change(suspended=False)
        if not self._told:
            return
        self._told = False
        device.set_power_state(D0)
        if self._saved is not None:
            device.restore_state(self._saved)
            self._saved = None
        if self._listens:
            self._listens = False
            set_events(device, on=False)
        driver = self._driver
        if driver is not None:
            driver.runtime_resume(device)

    def event(self) -> None:
        """It asked for attention: it wakes, and sleeps on if nobody has come to use it (``pm_request_resume``)."""
        self.wake()
        self.settle()

    def reset_asleep(self) -> None:
        """It is reset without being woken: what was kept is not brought back any more (``pci_dev.state_saved``)."""
        self._saved = None

    def driver_left(self) -> None:
        """Its driver is gone: nobody uses it, and it sleeps if it may (``pci_device_remove``)."""
        self.users = 0
        self.settle()

    @property
    def _driver(self) -> PciDriver | None:
        from pyvfio_backends.software.linux.pci_driver import PciDriver

        driver = self._device.driver
        return driver if isinstance(driver, PciDriver) else None

    def _change(self, *, suspended: bool) -> None:
        now = self._device.kernel.clock.now
        if self.suspended:
            self._asleep += now - self._since
        else:
            self._active += now - self._since
        self._since, self.suspended = now, suspended

    # sysfs (drivers/base/power/sysfs.c)

    def directory(self) -> StaticDirectory:
        """The directory ``power``."""
        entries: dict[str, Node] = {
            "autosuspend_delay_ms": Attribute(self._no_delay, self._store_delay),
            "control": Attribute(lambda: "auto\n" if self.automatic else "on\n", self._store_control),
            "runtime_active_time": Attribute(lambda: self._time(asleep=False)),
            "runtime_status": Attribute(lambda: "suspended\n" if self.suspended else "active\n"),
            "runtime_suspended_time": Attribute(lambda: self._time(asleep=True)),
        }
        return StaticDirectory(entries)

    @staticmethod
    def _no_delay() -> str:
        raise fail(errno.EIO)  # no driver here waits before it lets a function sleep

    def _store_delay(self, data: bytes) -> None:
        self._no_delay()

    def _store_control(self, data: bytes) -> None:
        word = data.decode(errors="replace").split("\0")[0].removesuffix("\n")
        if word not in ("auto", "on"):
            raise fail(errno.EINVAL)
        self.allow(word == "auto")

    def _time(self, *, asleep: bool) -> str:
        known = self._asleep if asleep else self._active
        if self.suspended is asleep:
            known += self._device.kernel.clock.now - self._since
        return f"{int(known * 1000)}\n"
