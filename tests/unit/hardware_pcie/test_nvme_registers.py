"""The registers of the NVMe controller: NVM Express 1.4, chapters 3 and 7."""

from __future__ import annotations

from dataclasses import replace

import pytest
from nvme_rig import READY, NvmeHost, running

from pyvfio.abi import pci_regs as pci
from pyvfio.nvme import registers as regs
from pyvfio.nvme.commands import AdminOpcode, Command, IoOpcode
from pyvfio.nvme.registers import Capabilities, Configuration, Shutdown

FATAL, IS_READY = 2, 1


def test_what_can_be_read_before_it_is_enabled() -> None:
    host = NvmeHost()
    assert Capabilities.parse(host.load(regs.CAP, 8)) == Capabilities()
    assert host.load(regs.CAP + 4) << 32 | host.load(regs.CAP) == Capabilities().value
    assert (host.load(regs.VS), host.load(regs.CSTS), host.load(regs.CC)) == (regs.VERSION_1_4, 0, 0)
    assert host.load(regs.CAP, 2) == 0xFFFF, "an access of 2 bytes is an unsupported request"
    host.store(regs.CAP, 0, 8)
    host.store(regs.CSTS, 0xFF)
    assert (host.load(regs.CAP, 8), host.load(regs.CSTS)) == (Capabilities().value, 0)


def test_bits_that_stay_as_they_are() -> None:
    host = NvmeHost()
    for register, width, kept in ((regs.AQA, 4, 0x0FFF0FFF), (regs.ASQ, 8, -0x1000 & (1 << 64) - 1)):
        host.store(register, (1 << 8 * width) - 1, width)
        assert host.load(register, width) == kept
    host.store(regs.ASQ + 4, 5)
    assert host.load(regs.ASQ, 8) == 5 << 32 | 0xFFFFF000
    host.store(regs.INTMS, 0xF0)
    host.store(regs.INTMC, 0x30)
    assert host.load(regs.INTMS) == host.load(regs.INTMC) == 0xC0


@pytest.mark.parametrize(
    "wrong",
    [
        replace(READY, page=17),
        replace(READY, command_set=1),
        replace(READY, arbitration=1),
    ],
)
def test_a_configuration_that_it_cannot_have_is_fatal(wrong: Configuration) -> None:
    host = NvmeHost()
    assert host.enable(wrong) == FATAL
    host.put(0, Command(AdminOpcode.IDENTIFY, cdw10=1, prp1=0))
    assert host.take(0) == []
    host.store(regs.CC, 0)
    assert host.load(regs.CSTS) == 0
    assert host.enable() == IS_READY


@pytest.mark.parametrize(
    ("register", "value", "page"),
    [(regs.AQA, 7, 12), (regs.AQA, 7 << 16, 12), (regs.ASQ, 0, 12), (regs.ACQ, 0, 12), (regs.ACQ, 0x5000, 14)],
)
def test_admin_queues_that_cannot_be_are_fatal(register: int, value: int, page: int) -> None:
    host = NvmeHost()
    for at, good, width in ((regs.AQA, 7 << 16 | 7, 4), (regs.ASQ, 0x4000, 8), (regs.ACQ, 0x8000, 8)):
        host.store(at, value if at == register else good, width)
    host.store(regs.CC, replace(READY, page=page).value)
    assert host.load(regs.CSTS) == FATAL
    host.store(regs.CC, 0)
    for at, good, width in ((regs.AQA, 7 << 16 | 7, 4), (regs.ASQ, 0x4000, 8), (regs.ACQ, 0x8000, 8)):
        host.store(at, good, width)
    host.store(regs.CC, replace(READY, page=page).value)
    assert host.load(regs.CSTS) == IS_READY


def test_a_controller_reset_takes_the_queues_and_leaves_the_admin_registers() -> None:
    host = running()
    asq = host.load(regs.ASQ, 8)
    host.store(regs.CC, READY.value & ~1)
    assert (host.load(regs.CSTS), host.load(regs.ASQ, 8)) == (0, asq)
    host.put(1, Command(IoOpcode.FLUSH, nsid=1))
    assert host.enable() == IS_READY
    assert host.take(1) == []
    host.create_queue(1)
    assert host.io(IoOpcode.FLUSH, 0, 1).ok


def test_a_function_level_reset_takes_everything() -> None:
    host = running()
    at = host.function.offset(pci.PCI_CAP_ID_EXP)
    assert at is not None
    host.function.config.write(at + pci.PCI_EXP_DEVCTL, 2, pci.PCI_EXP_DEVCTL_BCR_FLR)
    for register in (regs.CC, regs.CSTS, regs.AQA, regs.ASQ, regs.ACQ):
        assert host.device.read(register, 4) == 0


def test_shutting_down() -> None:
    host = running()
    for how in (Shutdown.NORMAL, Shutdown.ABRUPT):
        host.store(regs.CC, replace(READY, shutdown=how).value)
        assert host.load(regs.CSTS) == 2 << 2 | IS_READY
        host.store(regs.CC, READY.value)
        assert host.load(regs.CSTS) == IS_READY


def test_a_queue_that_cannot_be_read_is_fatal() -> None:
    host = NvmeHost()
    host.enable()
    host.store(regs.CC, 0)
    host.store(regs.ASQ, 0x10000000, 8)
    host.store(regs.CC, READY.value)
    host.store(regs.DOORBELLS, 1)
    assert host.load(regs.CSTS) == IS_READY | FATAL
    other = running()
    command = other.function.config.command
    other.function.config.write(pci.PCI_COMMAND, 2, command & ~pci.PCI_COMMAND_MASTER)
    other.ring(0)
    assert other.load(regs.CSTS) == IS_READY, "nothing to fetch"
    other.store(regs.DOORBELLS, (other.tails[0] + 1) % 8)
    assert other.load(regs.CSTS) == IS_READY | FATAL


def test_the_pin_follows_the_completion_queue_and_the_mask() -> None:
    host = NvmeHost()
    host.enable()
    host.put(0, Command(AdminOpcode.GET_FEATURES, cdw10=7))
    assert host.pin
    host.store(regs.INTMS, 1)
    assert not host.pin
    host.store(regs.INTMC, 1)
    assert host.pin
    host.put(0, Command(AdminOpcode.GET_FEATURES, cdw10=7))
    assert len(host.take(0)) == 2
    assert not host.pin
    assert host.take_messages() == []


def test_messages_of_each_vector() -> None:
    host = NvmeHost()
    host.enable_msix(0x2000, 3)
    host.enable()
    host.create_queue(1, vector=2)
    assert host.take_messages() == [0, 0]
    assert host.io(IoOpcode.FLUSH, 0, 1).ok
    assert (host.take_messages(), host.pin) == ([2], False)


def test_doorbells_that_are_not_there_or_have_a_wrong_value_are_events() -> None:
    host = running()
    for _ in range(4):
        host.put(0, Command(AdminOpcode.ASYNC_EVENT))
    assert host.take(0) == []
    assert host.do(Command(AdminOpcode.ASYNC_EVENT)).code == 0x105
    host.store(regs.doorbell(9, completion=False), 1)
    host.store(regs.doorbell(1, completion=True), 4)
    assert [one.result for one in host.take(0)] == [0x10000], "one of a type, until the log is read"
    assert host.do(Command(AdminOpcode.GET_LOG_PAGE, prp1=0x40000, cdw10=15 << 16 | 1 << 15 | 1)).ok
    host.put(0, Command(AdminOpcode.GET_LOG_PAGE, prp1=0x40000, cdw10=15 << 16 | 1))
    assert sorted(one.result for one in host.take(0)) == [0, 0x10100]
    assert host.load(regs.doorbell(1, completion=False)) == 0
