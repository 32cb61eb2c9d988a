"""Recovery of a PCI function from an error, together with its driver (``arch/s390/pci/pci_event.c``, 6.12).

::

    error --> error_detected --can recover--> unblock, mmio_enabled --> reset error --> resume
                   |                                  |
                   +----------needs a reset-----------+--> reset, slot_reset ---------> resume

A driver that says "lost" at any step, or does not take part at all, loses the function: only ``recover`` helps then.
"""

from __future__ import annotations

from pyvfio_backends.software.hardware.zpci import FunctionState
from pyvfio_backends.software.linux.pci_device import ErrorState, PciDevice
from pyvfio_backends.software.linux.pci_driver import PciDriver, Recovery
from pyvfio_backends.software.linux.pci_error_events import tell_recovery
from pyvfio_backends.software.linux.zpci import to_zpci

__all__ = ["attempt_recovery", "report_loss"]


def attempt_recovery(device: PciDevice) -> bool:
    """Have the driver recover the function; whether it did (``zpci_event_attempt_error_recovery``)."""
    with device.pci_bus.hold(device):
        if device.disconnected:
            return False
        device.error_state = ErrorState.FROZEN
        driver = device.driver
        if to_zpci(device).kzdev is not None or not isinstance(driver, PciDriver) or not driver.recovers:
            return False
        said = driver.error_detected(device)
        tell_recovery(device, said)
        if said is Recovery.DISCONNECT:
            return False
        if said is Recovery.CAN_RECOVER:
            said = _clear(device, driver)
            if said is Recovery.DISCONNECT:
                return False
        if said is Recovery.NEED_RESET:
            said = _reset(device, driver)
            if said is Recovery.DISCONNECT:
                return False
        if said is not Recovery.RECOVERED:
            tell_recovery(device, Recovery.DISCONNECT)
            return False
        driver.resume(device)
        tell_recovery(device, Recovery.RECOVERED)
        return True


def report_loss(device: PciDevice) -> None:
    """The function is lost: its driver is told, but not of one that a guest uses (``zpci_event_io_failure``)."""
    with device.pci_bus.hold(device):
        device.error_state = ErrorState.LOST
        if isinstance(device.driver, PciDriver) and to_zpci(device).kzdev is None:
            device.driver.error_detected(device)


def _clear(device: PciDevice, driver: PciDriver) -> Recovery:
    """Unblock loads and stores for the driver to look, then DMA (``zpci_event_do_error_state_clear``)."""
    function = to_zpci(device).function
    if function.state is not FunctionState.ERROR:
        return Recovery.NEED_RESET
    function.state = FunctionState.BLOCKED
    said = driver.mmio_enabled(device)
    if said in (Recovery.DISCONNECT, Recovery.NEED_RESET):
        return said
    function.state = FunctionState.ENABLED
    device.error_state = ErrorState.NORMAL
    return (
        Recovery.DISCONNECT if said is None else said
    )  # as the kernel has it: the error is gone, and so is the device


def _reset(device: PciDevice, driver: PciDriver) -> Recovery:
    """Disable and enable the function (``zpci_event_do_reset``)."""
    try:
        to_zpci(device).hot_reset()
    except OSError:
        return Recovery.DISCONNECT
    device.error_state = ErrorState.NORMAL
    return driver.slot_reset(device)
