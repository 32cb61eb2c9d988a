"""An NVMe controller behind a host bridge of POWER that freezes, and as little of Linux as its driver needs.

The container and its TCEs are those of the software machine's Linux; configuration space, BARs and the operations of
EEH are done here with the firmware's calls.  The device is a stand-in for `pyvfio.vfio.Device` that polls.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from spapr_rig import PES, SpaprLab

from pyvfio.abi import opal as api
from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio_spapr as abi
from pyvfio.abi.opal import OpalFreezeAction, OpalReset, OpalWindow
from pyvfio.host import Host
from pyvfio.ioda.operations import pe_state
from pyvfio.ioda.pest import Cause, PestEntry, Transfer
from pyvfio.iommu import AddressSpace
from pyvfio.pci.config import ConfigSpace
from pyvfio.vfio.container import Container
from pyvfio.vfio.device import Device
from pyvfio.vfio.group import Group
from pyvfio_backends.software.hardware.devices.nvme.storage import MemoryStorage, Namespace
from pyvfio_backends.software.hardware.ioda.model import PHB4
from pyvfio_backends.software.hardware.pcie.peripherals import NvmeCard, nvme
from pyvfio_backends.software.linux.iommu_group import IommuGroup
from pyvfio_backends.software.linux.uaccess import Argument

ORDER = 9
BLOCKS = 4096
NAME = "p0"
PE = PES[NAME]
_WINDOW = 0x600C000000000


class Firmwared:
    """EEH's operations by the firmware's calls, in Linux' order (``eeh_pe_reset``, ``eeh_pe_reenable_devices``)."""

    enabled = True

    def __init__(self, lab: NvmeLab) -> None:
        self.lab = lab
        self.asked: list[int] = []
        self.fails = 0
        """So many resets to come are refused."""

    def pe_op(self, group: IommuGroup, argument: Argument) -> int:
        request = abi.EehPeOp.from_buffer_copy(argument.read(0, len(bytes(abi.EehPeOp()))))
        operation, opal = request.op, self.lab.opal
        self.asked.append(operation)
        if operation == abi.VFIO_EEH_PE_GET_STATE:
            return int(pe_state(opal.pci_eeh_freeze_status(0, PE).state))
        if operation == abi.VFIO_EEH_PE_UNFREEZE_IO:
            opal.pci_eeh_freeze_clear(0, PE, OpalFreezeAction.MMIO)
        elif operation in (abi.VFIO_EEH_PE_UNFREEZE_DMA, abi.VFIO_EEH_PE_ENABLE):
            opal.pci_eeh_freeze_clear(0, PE, OpalFreezeAction.ALL)
        elif operation in (abi.VFIO_EEH_PE_RESET_HOT, abi.VFIO_EEH_PE_RESET_FUNDAMENTAL):
            if self.fails:
                self.fails -= 1
                raise OSError(errno.EIO, "refused")
            self._reset(OpalReset.PCI_HOT)
        elif operation == abi.VFIO_EEH_PE_RESET_DEACTIVATE:
            self.lab.set_up()
            opal.pci_eeh_freeze_clear(0, PE, OpalFreezeAction.ALL)
        elif operation == abi.VFIO_EEH_PE_INJECT_ERR:
            err = request.err
            if opal.pci_err_inject(0, PE, err.type, err.func, err.addr, err.mask):
                raise OSError(errno.EIO, "refused")
        return 0

    def _reset(self, scope: OpalReset) -> None:
        opal = self.lab.opal
        opal.pci_eeh_freeze_set(0, PE, OpalFreezeAction.ALL)
        with self.lab.phb.probing():
            code = opal.pci_reset(0, scope, api.OPAL_ASSERT_RESET)
            while code > 0:
                code = opal.pci_poll(0)
        assert code == api.OPAL_SUCCESS


class NvmeLab(SpaprLab):
    """See above.  `strike` freezes the endpoint when the countdown of a kind of access comes to nothing."""

    def __init__(self) -> None:
        self.storage = MemoryStorage(BLOCKS << ORDER)
        self.card: NvmeCard = nvme([Namespace(self.storage, order=ORDER)])
        super().__init__(functions={NAME: self.card.function})
        self.core.eeh = self.firmwared = Firmwared(self)
        self.function = self.card.function
        segment = (self._bus_address - 0x80000000) // ((1 << 31) // PHB4.segments)
        assert not self.opal.pci_map_pe_mmio_window(0, PE, OpalWindow.M32, 0, segment)
        self.bars = [self.function.config.read(regs.PCI_BASE_ADDRESS_0 + 4 * n, 4) for n in range(6)]
        self.countdown: dict[str, int] = {}
        self.freezes = 0
        self._hook("upstream", "dma")
        self._hook("transfer", "mmio")
        self._hook("config_read", "config")

    @property
    def _bus_address(self) -> int:
        return self.function.config.read(regs.PCI_BASE_ADDRESS_0, 4) & ~0xF

    def _hook(self, name: str, kind: str) -> None:
        real: Callable[..., object] = getattr(self.phb, name)

        def hooked(*arguments: object) -> object:
            if kind in self.countdown:
                self.countdown[kind] -= 1
                if self.countdown[kind] < 0:
                    del self.countdown[kind]
                    self.freeze()
            return real(*arguments)

        setattr(self.phb, name, hooked)

    def freeze(self) -> None:
        """Freeze it now."""
        self.freezes += 1
        self.phb.strike(PE, PestEntry(Transfer.LOAD, Cause.TIMEOUT))

    def set_up(self) -> None:
        """As Linux after a reset: base addresses, and memory is decoded."""
        config = self.function.config
        for number, value in enumerate(self.bars):
            config.write(regs.PCI_BASE_ADDRESS_0 + 4 * number, 4, value)
        config.write(regs.PCI_COMMAND, 2, regs.PCI_COMMAND_MEMORY)

    # what the driver uses

    def load(self, offset: int, count: int) -> bytes:
        value = self.phb.load(_WINDOW + self._cpu + offset, count)
        return int(value).to_bytes(count, "little")

    def store(self, offset: int, data: bytes) -> None:
        self.phb.store(_WINDOW + self._cpu + offset, len(data), int.from_bytes(data, "little"))

    @property
    def _cpu(self) -> int:
        return (self.bars[0] & ~0xF) - 0x80000000


@dataclass
class Registers:
    """BAR 0."""

    lab: NvmeLab
    size: int = 0x4000
    access: str = "pread"
    access_note: str = ""

    def read(self, offset: int, count: int) -> bytes:
        return self.lab.load(offset, count)

    def write(self, offset: int, data: bytes) -> None:
        self.lab.store(offset, data)


class NoIrq:
    """There are no interrupts."""

    count = 0


class Polled:
    """The stand-in for a device."""

    kind, error, way = "pci", None, "group"

    def __init__(self, lab: NvmeLab, space: AddressSpace, group: Group) -> None:
        self.lab, self.space, self.group = lab, space, group
        self.name, self.backend = NAME, lab.host

    def bar(self, number: int) -> Registers:
        return Registers(self.lab)

    @property
    def config(self) -> ConfigSpace:
        phb, rid = self.lab.phb, self.lab.function.rid

        def read(offset: int, count: int) -> bytes:
            return bytes(phb.config_read(0, rid, offset + at, 1) for at in range(count))

        def write(offset: int, data: bytes) -> None:
            phb.config_write(0, rid, offset, len(data), int.from_bytes(data, "little"))

        return ConfigSpace(read, NAME, write=write)

    def irq(self, index: int) -> NoIrq:
        return NoIrq()

    def renew_interrupts(self) -> None:
        """There are none."""


@contextmanager
def polled() -> Iterator[tuple[NvmeLab, Device]]:
    """The laboratory and its device, open."""
    lab = NvmeLab()
    with lab.host:
        host = Host(lab.host)
        with Container(host) as container, Group(host, lab.number(NAME)) as group:
            container.attach(group)
            lab.set_up()
            yield lab, cast("Device", Polled(lab, container.set_iommu(), group))
