"""EEH, Linux' handling of frozen endpoints: who notices, and what can be done with one (``arch/powerpc/kernel/eeh.c``).

::

    a read gave all ones --> frozen? --> isolated --> event --> recovery (`EehRecovery`)
    the bridge interrupts ---------------------------> event --> the firmware's next error, then the same

An endpoint of which a program has a function open is not recovered here: that is the program's task, by
``VFIO_EEH_PE_OP`` (`pe_op`).  What the platform does it does through `PnvEeh`.  As of Linux 6.12.
"""

from __future__ import annotations

import errno
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from pyvfio.abi import eeh as abi
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.eeh_state import EehDevMode, EehPeFlag, EehPlatformState
from pyvfio_backends.software.linux.eeh_pe import EehDev, EehHost, EehPe, PeType, is_active
from pyvfio_backends.software.linux.kernel_log import ERROR, WARNING, kernel_log, say
from pyvfio_backends.software.linux.pci_device import ROM, ErrorState, PciDevice
from pyvfio_backends.software.linux.resource import ResourceFlag
from pyvfio_backends.software.linux.subsystems import Key
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.eeh_recovery import EehRecovery
    from pyvfio_backends.software.linux.eeh_reset import EehReset
    from pyvfio_backends.software.linux.iommu_group import IommuGroup
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.pnv_eeh import PnvEeh
    from pyvfio_backends.software.linux.uaccess import Argument

__all__ = ["DISABLE", "EEH", "ENABLE", "FREEZE", "THAW_DMA", "THAW_MMIO", "Eeh", "EehStats", "ResetKind"]

EEH: Final[Key[Eeh]] = Key("eeh")
"""EEH of a kernel that has it."""
DISABLE, ENABLE, THAW_MMIO, THAW_DMA, FREEZE = range(5)
"""``EEH_OPT_*``."""
_MOST_IGNORED = 2100000  # EEH_MAX_FAILS
_RESET_WAIT = 300.0  # PCI_BUS_RESET_WAIT_MSEC


class ResetKind:
    """``EEH_RESET_*``."""

    DEACTIVATE = 0
    HOT = 1
    FUNDAMENTAL = 3


class _ResetId(NamedTuple):
    vendor: int
    device: int


_RESET_FIRST: Final = {_ResetId(0x19A2, 0x0710), _ResetId(0x10DF, 0xE220), _ResetId(0x14E4, 0x1657)}
"""Adapters (Emulex BE and Lancer, Broadcom BCM5719) whose endpoint is reset for a new owner (``eeh_reset_ids``)."""


@dataclass
class EehStats:
    """What ``/proc/powerpc/eeh`` counts (``struct eeh_stats``)."""

    no_device: int = 0
    no_dn: int = 0
    no_cfg_addr: int = 0
    ignored_check: int = 0
    total_mmio_ffs: int = 0
    false_positives: int = 0
    slot_resets: int = 0


class Eeh:
    """EEH of a kernel whose host bridges are `hosts`; `platform` asks the firmware.

    `max_freezes` freezes of an endpoint in an hour are recovered from.  `no_recover`: nobody recovers (debugfs).
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.hosts: list[EehHost] = []
        self.stats = EehStats()
        self.max_freezes = 5
        self.no_recover = False
        self.found = False
        """Whether a function is under EEH (``EEH_ENABLED``)."""
        self.disabled = "eeh=off" in kernel.cmdline.split()
        """Whether people have switched it off (``EEH_FORCE_DISABLED``)."""
        self.early_log = "eeh=early_log" in kernel.cmdline.split()
        self.by_device: dict[PciDevice, EehDev] = {}
        self.resets: EehReset
        self.platform: PnvEeh
        self.recovery: EehRecovery
        self.worker: threading.Thread | None = None
        """Who recovers now (``eehd``)."""

    @property
    def enabled(self) -> bool:
        """Whether EEH is on (``eeh_enabled``)."""
        return self.found and not self.disabled

    def say(self, level: int, text: str) -> None:
        """Write to the kernel's log."""
        self.kernel_line(level, f"EEH: {text}")

    def kernel_line(self, level: int, text: str) -> None:
        """Write to it without saying who does."""
        kernel_log(self.kernel).add(level, text)

    def sleep(self, seconds: float) -> None:
        """Sleep in the kernel: recovery lets others go on meanwhile, whoever called the kernel waits for it."""
        clock = self.kernel.clock
        if threading.current_thread() is self.worker:
            clock.sleep(seconds)
            return
        end = clock.now + seconds
        clock.schedule(seconds, clock.notify)
        clock.run_until(lambda: clock.now >= end)

    # functions

    def probe_device(self, pdev: PciDevice) -> None:
        """A device is added: find or make what EEH has of it (``eeh_probe_device``)."""
        dev = self.platform.probe(pdev)
        if dev is None:
            return
        if dev.pdev is not None and dev.pdev is not pdev:
            dev.host.remove(dev)
            self.by_device.pop(dev.pdev, None)
            dev.mode |= EehDevMode.NO_HANDLER
        dev.pdev = pdev
        self.by_device[pdev] = dev
        if self.enabled:
            dev.mode |= EehDevMode.SYSFS

    def remove_device(self, pdev: PciDevice) -> None:
        """A device is removed; recovery keeps what it needs to set it up again (``eeh_remove_device``)."""
        dev = self.by_device.get(pdev)
        if not self.enabled or dev is None or dev.pe is None:
            return
        dev.pdev = None
        dev.mode = dev.mode & ~EehDevMode.SYSFS | EehDevMode.NO_HANDLER
        dev.in_error = False
        del self.by_device[pdev]
        if dev.pe.flags & EehPeFlag.KEEP:
            dev.mode |= EehDevMode.DISCONNECTED
        else:
            dev.host.remove(dev)

    # noticing

    def check_read(self, pdev: PciDevice, value: int, size: int) -> None:
        """Look at what a load from a device gave: all ones may mean that it is frozen (``eeh_check_failure``)."""
        if value != (1 << 8 * size) - 1 or not self.enabled:
            return
        dev = self.by_device.get(pdev)
        if dev is None:
            self.stats.no_device += 1
        else:
            self.check_failure(dev)

    def _bridge_failed(self, pe: EehPe) -> bool:
        """Whether the host bridge is fenced or dead, which was not known (``eeh_phb_check_failure``)."""
        phb = pe.host.pe
        if phb.flags & EehPeFlag.ISOLATED:
            return False
        state = self.platform.state(phb)
        if state == EehPlatformState.NOT_SUPPORT or is_active(state):
            return False
        phb.isolate()
        self.recovery.send(phb)
        return True

    def check_failure(self, dev: EehDev | None) -> bool:
        """Ask the firmware whether a function is frozen; if so, it is isolated (``eeh_dev_check_failure``)."""
        stats = self.stats
        stats.total_mmio_ffs += 1
        if not self.enabled:
            return False
        if dev is None:
            stats.no_dn += 1
            return False
        pe = dev.pe
        if pe is None:
            stats.ignored_check += 1
            return False
        if self._bridge_failed(pe):
            return True
        if pe.passed:
            return False
        if pe.flags & EehPeFlag.ISOLATED:
            pe.checks += 1
            if pe.checks == _MOST_IGNORED:
                owner = None if dev.pdev is None else dev.pdev.driver
                driver = "<null>" if dev.pdev is None else owner.name if owner is not None else "pci"
                text = f"{pe.checks} reads ignored for recovering device at location=unknown driver={driver}"
                self.tell(dev, ERROR, text)
                self.tell(dev, ERROR, f"Might be infinite loop in {driver} driver")
            return True
        state = self.platform.state(pe)
        lost = dev.pdev is not None and dev.pdev.error_state is ErrorState.LOST
        if (state == EehPlatformState.NOT_SUPPORT and lost) or is_active(state):
            stats.false_positives += 1
            pe.false_positives += 1
            return False
        above = pe.parent
        while above is not None and not above.type & PeType.PHB:
            state = self.platform.state(above)
            if state > 0 and not is_active(state):
                pe = above
                text = f"Failure of {pe.name} will be handled at parent {above.name}."
                self.say(ERROR, text)
            above = above.parent
        stats.slot_resets += 1
        pe.isolate()
        self.recovery.send(pe)
        return True

    def tell(self, dev: EehDev, level: int, text: str) -> None:
        """Write about a function (``eeh_edev_*``)."""
        number = dev.address if dev.pe is not None else 0xFFFF
        kernel_log(self.kernel).add(level, f"PCI {dev.name}#{number:04x}: EEH: {text}")

    # what is done with an endpoint; answers are 0, or a negative errno

    def wait_state(self, pe: EehPe, seconds: float) -> EehPlatformState:
        """Its state, once it is known (``eeh_wait_state``)."""
        while (state := self.platform.state(pe)) == EehPlatformState.UNAVAILABLE:
            if seconds <= 0:
                text = f"eeh_wait_state: Timeout when getting PE's state ({int(1000 * seconds)})"
                self.kernel_line(WARNING, text)
                return EehPlatformState.NOT_SUPPORT
            self.sleep(min(1.0, seconds))
            seconds -= 1.0
        return state

    def switch(self, pe: EehPe, option: int) -> int:
        """Thaw or freeze it, if it is not so already (``eeh_pci_enable``)."""
        wanted = {
            THAW_MMIO: EehPlatformState.MMIO_ACTIVE | EehPlatformState.MMIO_ENABLED,
            THAW_DMA: EehPlatformState.DMA_ACTIVE,
        }.get(option, EehPlatformState(0))
        if wanted:
            state = self.platform.state(pe)
            if state == EehPlatformState.NOT_SUPPORT or state & wanted:
                return 0
        code = self.platform.set_option(pe, option)
        if code:
            self.kernel_line(WARNING, f"eeh_pci_enable: Unexpected state change {option} on {pe.name}, err={code}")
        if wanted:
            return 0 if self.wait_state(pe, _RESET_WAIT) & wanted else -errno.EIO
        return code

    def unfreeze(self, pe: EehPe) -> int:
        """Thaw loads and stores, then DMA (``eeh_unfreeze_pe``)."""
        for option, what in ((THAW_MMIO, "IO"), (THAW_DMA, "DMA")):
            code = self.switch(pe, option)
            if code:
                self.kernel_line(WARNING, f"eeh_unfreeze_pe: Failure {code} enabling {what} on {pe.name}")
                return code
        return 0

    def set_option(self, pe: EehPe, option: int) -> int:
        """``eeh_pe_set_option``."""
        if option == ENABLE:
            return self.change_owner(pe) if self.enabled else -errno.EIO
        if option == DISABLE:
            return 0
        return self.switch(pe, option) if option in (THAW_MMIO, THAW_DMA, FREEZE) else -errno.EINVAL

    def get_state(self, pe: EehPe) -> int:
        """``EEH_PE_STATE_*`` (``eeh_pe_get_state``); not known while the kernel recovers the one above it."""
        above = pe.parent
        if (
            above is not None
            and not pe.flags & EehPeFlag.REMOVED
            and above.flags & (EehPeFlag.ISOLATED | EehPeFlag.RECOVERING)
        ):
            return abi.EEH_PE_STATE_UNAVAIL
        state = self.platform.state(pe)
        if state & EehPlatformState.RESET_ACTIVE:
            return abi.EEH_PE_STATE_RESET
        mmio, dma = bool(state & EehPlatformState.MMIO_ENABLED), bool(state & EehPlatformState.DMA_ENABLED)
        if mmio and dma:
            return abi.EEH_PE_STATE_NORMAL
        if not mmio and not dma:
            return abi.EEH_PE_STATE_STOPPED_IO_DMA
        return abi.EEH_PE_STATE_STOPPED_DMA if mmio else abi.EEH_PE_STATE_UNAVAIL

    def inject(self, pe: EehPe, type_: int, function: int, address: int, mask: int) -> int:
        """``eeh_pe_inject_err``."""
        if not abi.EEH_ERR_FUNC_MIN <= function <= abi.EEH_ERR_FUNC_MAX:
            return -errno.EINVAL
        return self.platform.inject(pe, type_, function, address, mask)

    # programs

    def change_owner(self, pe: EehPe) -> int:
        """Somebody else has it now, to whom it is no use frozen (``eeh_pe_change_owner``)."""
        state = self.platform.state(pe)
        if state == EehPlatformState.NOT_SUPPORT or is_active(state):
            return 0
        for dev in pe.devs:
            if dev.pdev is not None and _ResetId(dev.pdev.vendor, dev.pdev.device_id) in _RESET_FIRST:
                return self.recovery.reset_and_recover(pe)
        code = self.unfreeze(pe)
        if not code:
            pe.clear(EehPeFlag.ISOLATED, passed=True)
        return code

    def open(self, pdev: PciDevice) -> None:
        """A program has opened a function: recovery of its endpoint is the program's (``eeh_dev_open``)."""
        dev = self.by_device.get(pdev)
        if dev is not None and dev.pe is not None and not self.change_owner(dev.pe):
            dev.pe.passed += 1

    def release(self, pdev: PciDevice) -> None:
        """It has closed it (``eeh_dev_release``)."""
        dev = self.by_device.get(pdev)
        if dev is not None and dev.pe is not None and dev.pe.passed:
            dev.pe.passed -= 1
            self.change_owner(dev.pe)

    def pe_of(self, group: IommuGroup) -> EehPe | None:
        """The endpoint of a group (``eeh_iommu_group_to_pe``)."""
        first = next(iter(group.devices.values()), None)
        dev = self.by_device.get(first) if isinstance(first, PciDevice) else None
        return None if dev is None else dev.pe

    def pe_op(self, group: IommuGroup, argument: Argument) -> int:
        """See `EehService.pe_op`."""
        pe = self.pe_of(group)
        if pe is None:
            raise fail(errno.ENODEV)
        from pyvfio_backends.software.linux.eeh_vfio import operate

        return operate(self, pe, argument)

    # on purpose

    def break_device(self, pdev: PciDevice) -> None:
        """Have a function's endpoint freeze, by a load while it does not decode memory (``eeh_break_device``).

        Of a virtual function it is the physical one that stops decoding its virtual ones' memory.
        Raise OSError ENXIO for one without memory.
        """
        memory = (
            index
            for index, one in enumerate(pdev.resources[:ROM])
            if one.start and one.flags & ResourceFlag.MEM and (one.claimed or pdev.is_virtual)
        )
        index = next(memory, None)
        if index is None:
            say(pdev, ERROR, "Unable to find Memory BAR to cause EEH with")
            raise fail(errno.ENXIO)
        say(pdev, ERROR, f"Going to break: {pdev.resources[index]}")
        physical, register, bit = pdev, regs.PCI_COMMAND, regs.PCI_COMMAND_MEMORY
        if pdev.physfn is not None:
            physical = pdev.physfn
            register = physical.find_extended_capability(regs.PCI_EXT_CAP_ID_SRIOV) + regs.PCI_SRIOV_CTRL
            bit = regs.PCI_SRIOV_CTRL_MSE
        old = physical.read_config(register, 2)
        physical.write_config(register, 2, old & ~bit)
        self.platform.load(pdev, index)
        physical.write_config(register, 2, old)

    def lookup(self, address: str) -> PciDevice | None:
        """The device with an address."""
        found = self.kernel.buses["pci"].devices.get(address)
        return found if isinstance(found, PciDevice) else None
