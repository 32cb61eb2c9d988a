"""What drivers are asked and told in a recovery from a frozen endpoint (``arch/powerpc/kernel/eeh_driver.c``, 6.12)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pyvfio.abi.eeh_state import EehDevMode
from pyvfio_backends.software.linux.eeh_pe import EehDev, EehPe
from pyvfio_backends.software.linux.kernel_log import INFO
from pyvfio_backends.software.linux.pci_device import ErrorState, PciDevice
from pyvfio_backends.software.linux.pci_driver import PciDriver, Recovery
from pyvfio_backends.software.linux.pci_error_events import tell_recovery

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.eeh import Eeh

__all__ = ["EehReport", "merge"]

_PRIORITY: Final = (
    *(Recovery.NONE, Recovery.NO_DRIVER, Recovery.RECOVERED),
    *(Recovery.CAN_RECOVER, Recovery.DISCONNECT, Recovery.NEED_RESET),
)
_NAMES: Final = {
    Recovery.NONE: "none",
    Recovery.CAN_RECOVER: "can recover",
    Recovery.NEED_RESET: "need reset",
    Recovery.DISCONNECT: "disconnect",
    Recovery.RECOVERED: "recovered",
    Recovery.NO_DRIVER: "no AER driver",
}
_Ask = Callable[[EehDev, PciDevice, PciDriver], Recovery]


def merge(before: Recovery, said: Recovery) -> Recovery:
    """What all have said so far, with one more (``pci_ers_merge_result`` of EEH)."""
    return max(before, said, key=_PRIORITY.index)


def _resumes(driver: PciDriver) -> bool:
    return type(driver).resume is not PciDriver.resume


class EehReport:
    """The questions, and who is asked."""

    def __init__(self, eeh: Eeh) -> None:
        self._eeh = eeh

    def ask(self, name: str, root: EehPe, ask: _Ask, result: Recovery = Recovery.NONE) -> Recovery:
        """Ask the drivers of all functions; what comes of it (``eeh_pe_report``)."""
        result = self._ask_all(name, root, ask, result)
        self._eeh.say(INFO, f"Finished:'{name}' with aggregate recovery state:'{_NAMES[result]}'")
        return result

    def tell(self, name: str, root: EehPe, ask: _Ask) -> None:
        """As `ask`, where nothing depends on what they say.

        Linux 6.12 notes that a function has no device any more nevertheless, by a pointer that is not there, and dies.
        """
        self._ask_all(name, root, ask, Recovery.NONE)
        self._eeh.say(INFO, f"Finished:'{name}'")

    def _ask_all(self, name: str, root: EehPe, ask: _Ask, result: Recovery) -> Recovery:
        self._eeh.say(INFO, f"Beginning: '{name}'")
        for dev in root.every():
            result = self._ask_one(dev, ask, result)
        return result

    def _ask_one(self, dev: EehDev, ask: _Ask, result: Recovery) -> Recovery:
        """``eeh_pe_report_edev``."""
        tell, pdev = self._eeh.tell, dev.pdev
        if pdev is None:
            tell(dev, INFO, "no device")
            return Recovery.DISCONNECT
        with pdev.pci_bus.hold(pdev):
            driver = pdev.driver
            if not dev.actionable:
                tell(dev, INFO, f"not actionable (1,{int(not dev.mode & EehDevMode.REMOVED)},{int(not dev.passed)})")
            elif not isinstance(driver, PciDriver):
                tell(dev, INFO, "no driver")
            elif not driver.detects_errors and not driver.resets_slots:
                tell(dev, INFO, "driver not EEH aware")
            elif dev.mode & EehDevMode.NO_HANDLER:
                tell(dev, INFO, "driver bound too late")
            else:
                said = ask(dev, pdev, driver)
                tell(dev, INFO, f"{driver.name} driver reports: '{_NAMES[said]}'")
                return merge(result, said)
        return result

    def _invoke(self, dev: EehDev, driver: PciDriver, what: str) -> None:
        self._eeh.tell(dev, INFO, f"Invoking {driver.name}->{what}")

    def error(self, dev: EehDev, pdev: PciDevice, driver: PciDriver) -> Recovery:
        """It is frozen (``eeh_report_error``)."""
        if not driver.detects_errors:
            return Recovery.NONE
        self._invoke(dev, driver, "error_detected(IO frozen)")
        said = driver.error_detected(pdev)
        dev.in_error = True
        tell_recovery(pdev, said)
        return said

    def mmio(self, dev: EehDev, pdev: PciDevice, driver: PciDriver) -> Recovery:
        """Loads and stores go again (``eeh_report_mmio_enabled``)."""
        if type(driver).mmio_enabled is PciDriver.mmio_enabled:
            return Recovery.NONE
        self._invoke(dev, driver, "mmio_enabled()")
        return driver.mmio_enabled(pdev) or Recovery.NONE

    def slot_reset(self, dev: EehDev, pdev: PciDevice, driver: PciDriver) -> Recovery:
        """It was reset (``eeh_report_reset``)."""
        if not driver.resets_slots or not dev.in_error:
            return Recovery.NONE
        self._invoke(dev, driver, "slot_reset()")
        return driver.slot_reset(pdev)

    def resume(self, dev: EehDev, pdev: PciDevice, driver: PciDriver) -> Recovery:
        """All is well (``eeh_report_resume``)."""
        if _resumes(driver) and dev.in_error:
            self._invoke(dev, driver, "resume()")
            driver.resume(pdev)
            tell_recovery(pdev, Recovery.RECOVERED)
        return Recovery.NONE

    def failure(self, dev: EehDev, pdev: PciDevice, driver: PciDriver) -> Recovery:
        """It is given up (``eeh_report_failure``)."""
        if not driver.detects_errors:
            return Recovery.NONE
        self._invoke(dev, driver, "error_detected(permanent failure)")
        state, pdev.error_state = pdev.error_state, ErrorState.LOST
        try:
            said = driver.error_detected(pdev)  # told by an argument, the function is still what it is
        finally:
            pdev.error_state = state
        tell_recovery(pdev, Recovery.DISCONNECT)
        return said
