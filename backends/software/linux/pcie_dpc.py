"""The service of a port that contains errors: what it does when the hardware has taken the link down (DPC).

::

    interrupt:  "interrupt" cleared; triggered? --> thread
    thread:     surprise removal? only forgotten
                else why, said --> recovery (`pcie_recovery`), whose reset is: link is down already, clear "triggered"

Linux lets fatal errors trigger it only, at ports where messages of errors end; with ``pcie_ports=dpc-native`` on its
command line at those of a switch, too.  Source: ``drivers/pci/pcie/dpc.c``, 6.12.
"""

from __future__ import annotations

from typing import Final

from pyvfio.abi import pci_express_regs as express_regs
from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.pci.aer import Severity
from pyvfio.pci.tlp import rid_text
from pyvfio_backends.software.linux.kernel_log import INFO, WARNING, say
from pyvfio_backends.software.linux.pci_device import ErrorState, PciDevice
from pyvfio_backends.software.linux.pcie_aer import ErrorInfo, print_error, read_error
from pyvfio_backends.software.linux.pcie_recovery import recover, walk

__all__ = ["ContainmentService", "contains"]

_ENABLES: Final = extended.PCI_EXP_DPC_CTL_EN_FATAL | extended.PCI_EXP_DPC_CTL_EN_NONFATAL
_ONES: Final = 0xFFFF
_PATIENCE: Final = 60.0
"""Seconds that a device may take to answer after a reset (``PCIE_RESET_READY_POLL_MS``)."""


_EVERYWHERE: Final = "pcie_ports=dpc-native"


def contains(port: PciDevice) -> bool:
    """Whether a port has the service (``get_port_device_capability``)."""
    if not port.find_extended_capability(extended.PCI_EXT_CAP_ID_DPC):
        return False
    told = any(option.startswith(_EVERYWHERE) for option in port.kernel.cmdline.split())
    return told or (port.aer is not None and port.aer.root)


class ContainmentService:
    """The service of `port`, whose capability is at `at` (``dpc_probe``).

    `recovered` is whether the last containment was: hotplug ignores the link going down and up then.
    """

    def __init__(self, port: PciDevice, at: int) -> None:
        self.port = port
        self.at = at
        self.recovered = False
        self._recovering = False

    def start(self) -> None:
        """Trigger on fatal errors, with an interrupt (``dpc_enable``)."""
        self._write(extended.PCI_EXP_DPC_STATUS, extended.PCI_EXP_DPC_STATUS_INTERRUPT)
        control = self._read(extended.PCI_EXP_DPC_CTL) & ~_ENABLES
        control |= extended.PCI_EXP_DPC_CTL_EN_FATAL | extended.PCI_EXP_DPC_CTL_INT_EN
        self._write(extended.PCI_EXP_DPC_CTL, control)

    def tell(self) -> None:
        """Say what the port can do of it (``dpc_probe``)."""
        capability = self._read(extended.PCI_EXP_DPC_CAP)
        flags = {
            "RPExt": extended.PCI_EXP_DPC_CAP_RP_EXT,
            "PoisonedTLP": extended.PCI_EXP_DPC_CAP_POISONED_TLP,
            "SwTrigger": extended.PCI_EXP_DPC_CAP_SW_TRIGGER,
        }
        able = " ".join(f"{name}{'+' if capability & bit else '-'}" for name, bit in flags.items())
        active = "+" if capability & extended.PCI_EXP_DPC_CAP_DL_ACTIVE else "-"
        number = capability & extended.PCI_EXP_DPC_IRQ
        say(
            self.port,
            INFO,
            f"DPC: error containment capabilities: Int Msg #{number}, {able} RP PIO Log 0, DL_ActiveErr{active}",
        )

    @property
    def busy(self) -> bool:
        """Whether there is a containment that was not handled yet, or is being recovered from."""
        return self._recovering or bool(self._read(extended.PCI_EXP_DPC_STATUS) & extended.PCI_EXP_DPC_STATUS_TRIGGER)

    def stop(self) -> None:
        """Trigger no more (``dpc_disable``)."""
        off = extended.PCI_EXP_DPC_CTL_EN_FATAL | extended.PCI_EXP_DPC_CTL_INT_EN
        self._write(extended.PCI_EXP_DPC_CTL, self._read(extended.PCI_EXP_DPC_CTL) & ~off)

    def _read(self, register: int) -> int:
        return self.port.read_config(self.at + register, 2)

    def _write(self, register: int, value: int) -> None:
        self.port.write_config(self.at + register, 2, value)

    # the interrupt and its thread

    def interrupt(self) -> bool:
        """The port interrupts (``dpc_irq``); whether that is for containment."""
        status = self._read(extended.PCI_EXP_DPC_STATUS)
        if status == _ONES or not status & extended.PCI_EXP_DPC_STATUS_INTERRUPT:
            return False
        self._write(extended.PCI_EXP_DPC_STATUS, extended.PCI_EXP_DPC_STATUS_INTERRUPT)
        if status & extended.PCI_EXP_DPC_STATUS_TRIGGER:
            self.port.kernel.clock.schedule(0, self._thread)
        return True

    def _thread(self) -> None:
        if any(device.locked for device in walk(self.port)):
            self.port.kernel.clock.run_apart(self._handle, f"irq-dpc-{self.port.name}")
        else:
            self._handle()

    def _handle(self) -> None:
        if not self._read(extended.PCI_EXP_DPC_STATUS) & extended.PCI_EXP_DPC_STATUS_TRIGGER:
            return
        if self._removed():
            self._forget()
            return
        self._tell()
        recover(self.port, ErrorState.FROZEN, self._release)

    def _removed(self) -> bool:
        """Whether the device was pulled out: its slot is for that, and the port has noted it."""
        port = self.port
        flags = port.read_config(port.express + regs.PCI_EXP_FLAGS, 2)
        slot = port.read_config(port.express + express_regs.PCI_EXP_SLTCAP, 4)
        hotplug = flags & regs.PCI_EXP_FLAGS_SLOT and slot & express_regs.PCI_EXP_SLTCAP_HPC
        noted = port.aer.read(extended.PCI_ERR_UNCOR_STATUS) if port.aer is not None else 0
        return bool(hotplug and noted & extended.PCI_ERR_UNC_SURPDN)

    def _forget(self) -> None:
        """``dpc_handle_surprise_removal``: that errors come of it is no news."""
        port = self.port
        if port.aer is not None:
            port.aer.clear()
        port.write_config(regs.PCI_STATUS, 2, _ONES)
        port.write_config(port.express + regs.PCI_EXP_DEVSTA, 2, regs.PCI_EXP_DEVSTA_FED)
        self._write(extended.PCI_EXP_DPC_STATUS, extended.PCI_EXP_DPC_STATUS_TRIGGER)
        self.recovered = False

    def _tell(self) -> None:
        """Say why (``dpc_process_error``); an error of the port itself is counted there and cleared."""
        port, status = self.port, self._read(extended.PCI_EXP_DPC_STATUS)
        begin = f"DPC: containment event, status:{status:#06x}"
        reason = status & extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN
        if reason == extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN_UNCOR:
            say(port, WARNING, f"{begin}: unmasked uncorrectable error detected")
            aer = port.aer
            noted = aer.read(extended.PCI_ERR_UNCOR_STATUS) & ~aer.read(extended.PCI_ERR_UNCOR_MASK) if aer else 0
            if aer is not None and noted:
                fatal = noted & aer.read(extended.PCI_ERR_UNCOR_SEVER)
                info = ErrorInfo(Severity.FATAL if fatal else Severity.NONFATAL)
                if read_error(port, info):
                    print_error(port, info)
                    aer.clear_severity(fatal=False)
                    aer.clear_severity(fatal=True)
        elif reason == extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN_IN_EXT:
            more = status & extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN_EXT
            words = {
                extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN_RP_PIO: "RP PIO error",
                extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN_SW_TRIGGER: "software trigger",
            }
            say(port, WARNING, f"{begin}: {words.get(more, 'reserved error')} detected")
        else:
            source = self._read(extended.PCI_EXP_DPC_SOURCE_ID)
            fatal = reason == extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN_FE
            where = f"{port.address.domain:04x}:{rid_text(source)}"
            say(port, WARNING, f"{begin}, {'ERR_FATAL' if fatal else 'ERR_NONFATAL'} received from {where}")

    def _release(self, bridge: PciDevice) -> bool:
        """Let the link come up again, and wait for that (``dpc_reset_link``); whether what is there answers."""
        clock, children = self.port.kernel.clock, bridge.sysdata.children()
        end = clock.now + _PATIENCE

        def answers() -> bool:
            return not children or children[0].read_config(regs.PCI_VENDOR_ID, 2) != _ONES

        self._recovering = True
        self._write(extended.PCI_EXP_DPC_STATUS, extended.PCI_EXP_DPC_STATUS_TRIGGER)
        clock.run_until(lambda: answers() or clock.now >= end)
        self._recovering, self.recovered = False, answers()
        clock.notify()
        return self.recovered
