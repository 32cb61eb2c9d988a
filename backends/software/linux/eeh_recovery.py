"""Recovery from a frozen endpoint, by the drivers or by taking devices out (``arch/powerpc/kernel/eeh_driver.c``).

::

    too often in an hour, or no device is there -----------------------------------------> failed
    error_detected (frozen), of all drivers
        nobody has a say: devices out, reset, devices in ---------------------+
        all can recover:  loads go again, mmio_enabled, DMA goes again -------+
        somebody needs a reset, or the bridge is fenced:                      |
            devices without a handler out, reset, those in, slot_reset -------+--> resume
        somebody gives up ---------------------------------------------------------------> failed
    failed: error_detected (permanent failure), all devices out, and nobody may look there again

Events are handled one at a time, the newest first, by the kernel's thread ``eehd``; a program that causes one does not
wait for it.  Linux 6.12.107 locks the list of devices twice when it takes out only some of an endpoint, and hangs; here
it is locked once.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyvfio.abi.eeh_state import EehDevMode, EehPeFlag, EehPlatformState
from pyvfio_backends.software.linux.eeh import THAW_DMA, THAW_MMIO
from pyvfio_backends.software.linux.eeh_events import EehEvents
from pyvfio_backends.software.linux.eeh_log import device_log, phb_log
from pyvfio_backends.software.linux.eeh_pe import EehDev, EehPe, PeType
from pyvfio_backends.software.linux.eeh_pins import switch_pins
from pyvfio_backends.software.linux.eeh_report import EehReport
from pyvfio_backends.software.linux.kernel_log import ERROR, INFO, WARNING
from pyvfio_backends.software.linux.pci import PCI
from pyvfio_backends.software.linux.pci_device import ErrorState
from pyvfio_backends.software.linux.pci_driver import PciDriver, Recovery
from pyvfio_backends.software.linux.pnv_eeh_errors import ErrorKind

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.eeh import Eeh
    from pyvfio_backends.software.linux.pci import PciBus
    from pyvfio_backends.software.linux.pcie_bus import PcieBus

__all__ = ["EehRecovery"]

_PATIENCE = 300.0  # MAX_WAIT_FOR_RECOVERY
_SCRIPTS = 5.0
"""Seconds for programs to go away from devices that are taken out."""
_TRIES = 3


class EehRecovery(EehEvents):
    """Who handles the events."""

    def __init__(self, eeh: Eeh) -> None:
        super().__init__(eeh)
        self._drivers = EehReport(eeh)
        self._virtuals: list[EehDev] = []
        """Virtual functions that are to come back when their physical one has recovered (``removed_vf_list``)."""

    @property
    def _bus(self) -> PciBus:
        return self.eeh.kernel.subsystems[PCI]

    @contextmanager
    def _unchanging(self) -> Iterator[None]:
        with self._bus.rescan_remove():
            yield

    # an endpoint

    def handle(self, pe: EehPe) -> None:
        """Recover an endpoint, or give it up (``eeh_handle_normal_event``)."""
        with self._unchanging():
            bus = pe.top()
            if bus is None:
                self.eeh.kernel_line(ERROR, f"eeh_handle_normal_event: Cannot find PCI bus for {pe.name}")
                return
            if not self._recover(pe, bus):
                self._give_up(pe)
                if not pe.type & PeType.VF:
                    return
            pe.clean()
            pe.clear(EehPeFlag.RECOVERING, passed=True)

    def _recover(self, pe: EehPe, bus: PcieBus) -> bool:
        """Whether it worked."""
        eeh, say = self.eeh, self.eeh.say
        self._virtuals = []
        if not any(dev.pdev is not None and dev.pdev.error_state is not ErrorState.LOST for dev in pe.every()):
            say(WARNING, f"Frozen {pe.name} is empty!")
            return False
        if pe.type & PeType.PHB:
            say(ERROR, f"Recovering PHB#{pe.host.number:x}, location: N/A")
        else:
            say(ERROR, f"Recovering {pe.name}")
            say(ERROR, "PE location: N/A, PHB location: N/A")
        for dev in pe.every():
            dev.mode &= ~EehDevMode.NO_HANDLER
        pe.count(eeh.kernel.clock.now)
        if pe.freezes > eeh.max_freezes:
            text = f"{pe.name} has failed {pe.freezes} times in the last hour and has been permanently disabled."
            say(ERROR, text)
            return False
        text = f"This PCI device has failed {pe.freezes} times in the last hour and will be permanently disabled after"
        say(WARNING, f"{text} {eeh.max_freezes} failures.")
        say(INFO, "Notify device drivers to shutdown")
        pe.set_state(ErrorState.FROZEN)
        switch_pins(pe, on=False)
        result = self._drivers.ask("error_detected(IO frozen)", pe, self._drivers.error)
        if result is Recovery.DISCONNECT:
            return False
        if pe.type & PeType.PHB and result is not Recovery.NONE:
            result = Recovery.NEED_RESET
        if eeh.wait_state(pe, _PATIENCE) == EehPlatformState.NOT_SUPPORT:
            say(WARNING, "Permanent failure")
            return False
        say(INFO, "Collect temporary log")
        self._log(pe, permanent=False)
        if result is Recovery.NONE:
            say(INFO, "Reset with hotplug activity")
            code = self._reset_device(pe, bus, aware=False)
            if code:
                eeh.kernel_line(WARNING, f"eeh_handle_normal_event: Unable to reset, err={code}")
                return False
        if result is Recovery.CAN_RECOVER:
            result = self._thaw(pe)
        if result is Recovery.NEED_RESET:
            say(INFO, "Reset without hotplug activity")
            code = self._reset_device(pe, bus, aware=True)
            if code:
                eeh.kernel_line(WARNING, f"eeh_handle_normal_event: Cannot reset, err={code}")
                return False
            pe.set_state(ErrorState.NORMAL)
            switch_pins(pe, on=True)
            result = self._drivers.ask("slot_reset", pe, self._drivers.slot_reset)
        if result not in (Recovery.RECOVERED, Recovery.NONE):
            return False
        self._add_virtual(self._virtuals)
        self._virtuals = []
        say(INFO, "Notify device driver to resume")
        pe.set_state(ErrorState.NORMAL)
        switch_pins(pe, on=True)
        self._drivers.tell("resume", pe, self._drivers.resume)
        for dev in pe.every():
            dev.mode &= ~EehDevMode.NO_HANDLER
            dev.in_error = False
        say(INFO, "Recovery successful.")
        return True

    def _thaw(self, pe: EehPe) -> Recovery:
        """Let loads and stores go, ask who needs more, then DMA."""
        eeh = self.eeh
        eeh.say(INFO, "Enable I/O for affected devices")
        if eeh.switch(pe, THAW_MMIO):
            return Recovery.DISCONNECT
        eeh.say(INFO, "Notify device drivers to resume I/O")
        result = self._drivers.ask("mmio_enabled", pe, self._drivers.mmio, Recovery.CAN_RECOVER)
        if result is not Recovery.CAN_RECOVER:
            return result
        eeh.say(INFO, "Enabled DMA for affected devices")
        if eeh.switch(pe, THAW_DMA):
            return Recovery.DISCONNECT
        pe.clear(EehPeFlag.ISOLATED, passed=True)
        return Recovery.RECOVERED

    def _log(self, pe: EehPe, *, permanent: bool) -> None:
        """Write down what there is of the error (``eeh_slot_error_detail``)."""
        eeh = self.eeh
        if not pe.type & PeType.PHB:
            blocks = eeh.platform.opal.phbs[pe.host.opal_id].model.freezes_config
            if permanent or blocks:
                eeh.switch(pe, THAW_MMIO)
            if not pe.flags & EehPeFlag.CFG_BLOCKED:
                eeh.platform.restore_bars(pe)
                device_log(eeh.platform, pe)
        if not eeh.early_log:
            phb_log(eeh.kernel, pe.host.number, pe.log)

    def _give_up(self, pe: EehPe) -> None:
        """Nothing more is done with it: devices go, and nobody may look there again."""
        eeh = self.eeh
        eeh.say(ERROR, f"Unable to recover from failure from {pe.name}.\nPlease try reseating or replacing it")
        self._log(pe, permanent=True)
        switch_pins(pe, on=False)
        self._drivers.tell("error_detected(permanent failure)", pe, self._drivers.failure)
        pe.set_state(ErrorState.LOST)
        pe.mark(EehPeFlag.REMOVED)
        if pe.type & PeType.VF:
            for dev in pe.every():
                self._remove(dev, aware=False)
            self._mark_removed(pe)
            return
        pe.clear(EehPeFlag.PRI_BUS, passed=True)
        self._mark_removed(pe)
        bus = pe.top()
        if bus is None:
            eeh.kernel_line(ERROR, f"eeh_handle_normal_event: PCI bus for {pe.name} disappeared")
        else:
            self._remove_all(bus)

    @staticmethod
    def _mark_removed(pe: EehPe) -> None:
        for dev in pe.every():
            dev.mode |= EehDevMode.REMOVED

    # devices out and in

    def _remove_all(self, bus: PcieBus) -> None:
        """``pci_hp_remove_devices``."""
        for pdev in reversed(bus.devices()):
            self._bus.remove_device(pdev)

    def _remove(self, dev: EehDev, *, aware: bool) -> bool:
        """Take a device out, but no bridge, and with `aware` none whose driver takes part (``eeh_rmv_device``)."""
        pdev = dev.pdev
        if pdev is None or not dev.actionable or pdev.is_bridge:
            return False
        driver = pdev.driver
        if aware and isinstance(driver, PciDriver) and driver.detects_errors and driver.resets_slots:
            return False
        self.eeh.say(INFO, f"Removing {pdev.name} without EEH sensitive driver")
        dev.mode |= EehDevMode.DISCONNECTED
        if dev.physfn is not None:
            dev.physfn.sysdata.remove_virtual(dev.vf_index)
            dev.pdev = None
        else:
            self._bus.remove_device(pdev)
        return True

    def _detach(self, pe: EehPe) -> None:
        """Those that went leave their endpoints, and can come back (``eeh_pe_detach_dev``)."""
        for dev in pe.every():
            if dev.mode & EehDevMode.DISCONNECTED:
                dev.mode &= ~(EehDevMode.DISCONNECTED | EehDevMode.IRQ_DISABLED)
                dev.host.remove(dev)

    def _reset_device(self, pe: EehPe, bus: PcieBus, *, aware: bool) -> int:
        """Reset an endpoint, without the devices that cannot take it: those of all drivers unless they are `aware`.

        0 or a negative errno (``eeh_reset_device``).
        """
        eeh = self.eeh
        passed = any(one.passed for one in pe.walk())
        virtual = bool(pe.type & PeType.VF)
        pe.mark(EehPeFlag.KEEP)
        gone: list[EehDev] = []
        if passed or aware or virtual:
            gone = [dev for dev in pe.every() if self._remove(dev, aware=aware)]
        else:
            self._remove_all(bus)
        code = eeh.resets.full(pe, passed=False)
        if code:
            return code
        eeh.platform.restore_bars(pe)
        code = self._clear_frozen(pe, passed=False)
        if code:
            return code
        if not aware or gone:
            eeh.say(INFO, f"Sleep 5s ahead of {'partial' if aware else 'complete'} hotplug")
            eeh.sleep(_SCRIPTS)
            virtuals = [dev for dev in gone if dev.physfn is not None]
            self._detach(pe)
            if virtual:
                self._add_virtual(virtuals)
            else:
                self._virtuals = virtuals if aware else []
                if not aware:
                    pe.clear(EehPeFlag.PRI_BUS, passed=True)
                bus.rescan()
        pe.clear(EehPeFlag.KEEP, passed=True)
        return 0

    @staticmethod
    def _add_virtual(devs: list[EehDev]) -> None:
        """``eeh_add_virt_device``."""
        for dev in devs:
            if dev.physfn is not None and not dev.physfn.dead:
                with contextlib.suppress(OSError):  # the kernel goes on without
                    dev.physfn.sysdata.add_virtual(dev.vf_index)

    def _clear_frozen(self, root: EehPe, *, passed: bool) -> int:
        """``eeh_clear_pe_frozen_state``."""
        for pe in root.walk():
            if (passed or not pe.passed) and all(self.eeh.unfreeze(pe) for _ in range(_TRIES)):
                return -errno.EIO
        root.clear(EehPeFlag.ISOLATED, passed=passed)
        return 0

    def reset_and_recover(self, pe: EehPe) -> int:
        """Reset an endpoint for its new owner (``eeh_pe_reset_and_recover``)."""
        if pe.flags & EehPeFlag.RECOVERING:
            return 0
        pe.mark(EehPeFlag.RECOVERING)
        saved = {dev: dev.pdev.save_state() for dev in pe.every() if dev.pdev is not None and not _restricted(dev)}
        code = self.eeh.resets.full(pe, passed=True) or self._clear_frozen(pe, passed=True)
        if not code:
            for dev in pe.every():
                if dev in saved and dev.pdev is not None:
                    dev.pdev.restore_state(saved[dev])
                elif _restricted(dev) and dev.pe is not None and dev is dev.pe.devs[-1]:
                    self.eeh.platform.restore_bars(dev.pe)
        pe.clear(EehPeFlag.RECOVERING, passed=True)
        return code

    # the firmware's errors

    def handle_special(self) -> None:
        """Ask the firmware what there is until there is nothing (``eeh_handle_special_event``)."""
        while True:
            with self._unchanging():
                self.forget(None, force=False)
                found = self.eeh.platform.errors.next()
                pe = found.pe
                if found.kind is ErrorKind.NONE or pe is None:
                    if self.eeh.enabled:
                        self.unmask()
                    return
                self.forget(pe, force=True)
                if found.kind is ErrorKind.DEAD_PHB:
                    pe.isolate()
                    self._bury(pe)
                    continue
                pe.mark(EehPeFlag.RECOVERING)
                pe.isolate()
            self.handle(pe)

    def _bury(self, pe: EehPe) -> None:
        """A bridge is dead: so is everything behind it."""
        for dev in pe.every():
            dev.mode &= ~EehDevMode.NO_HANDLER
        pe.clear(EehPeFlag.PRI_BUS, passed=True)
        self._drivers.tell("error_detected(permanent failure)", pe, self._drivers.failure)
        pe.set_state(ErrorState.LOST)
        for host in self.eeh.hosts:
            if host.pe.flags & EehPeFlag.ISOLATED and not host.pe.flags & EehPeFlag.RECOVERING:
                self._remove_all(host.bus)


def _restricted(dev: EehDev) -> bool:
    """Whether its configuration is out of reach while it is frozen: what was found at first is restored then."""
    return dev.pe is not None and bool(dev.pe.flags & EehPeFlag.CFG_RESTRICTED)
