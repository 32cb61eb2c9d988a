"""What is logged of errors, who else is frozen by them, fences, injected errors, and the calls about all this.

Sources, where a test names no other: ``hw/phb4.c`` of skiboot (phb4_eeh_freeze_status, _clear, _set,
phb4_eeh_next_error, phb4_get_diag_data, phb4_err_inject) and the PEST of ``phb4-regs.h``.
"""

from __future__ import annotations

import doctest

import pytest
from ioda_rig import INSIDE, PE_A, PE_B, ROOT, UP, IodaRig, rig
from test_ioda_isolation import ERRORS, messages

from pyvfio.abi import opal as api
from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.eeh import EehErrorFunction, EehErrorType
from pyvfio.abi.opal import OpalErrorType, OpalFreezeAction, OpalFreezeState, OpalSeverity
from pyvfio.abi.pci_regs import ExpressType
from pyvfio.ioda.diagnosis import Diagnosis
from pyvfio.ioda.message import message_64
from pyvfio.ioda.pest import Cause, Transfer
from pyvfio.ioda.routing import RidMatch
from pyvfio_backends.software.hardware import ioda
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.hardware.ioda.injection import config_address
from pyvfio_backends.software.hardware.ioda.model import P7IOC, PHB3, PHB4, Injectable, PhbModel
from pyvfio_backends.software.hardware.pci.bar import Bar
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.pcie.block import Memory
from pyvfio_backends.software.hardware.pcie.express import Express
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.reporting import ErrorMessage, Severity
from pyvfio_backends.software.hardware.pcie.sriov import Sriov, VfBar, VirtualFunction, VirtualFunctions

MOST = 100_000


def test_the_example() -> None:
    assert doctest.testmod(ioda).failed == 0


@pytest.mark.parametrize(
    ("error", "transfer", "cause"),
    [
        ("DMA write to a page that is not mapped", Transfer.DMA_WRITE, Cause.PAGE_FAULT),
        ("DMA read of a page that is not mapped", Transfer.DMA_READ, Cause.PAGE_FAULT),
        ("DMA beyond the window", Transfer.DMA_READ, Cause.WINDOW),
        ("poisoned DMA", Transfer.DMA_WRITE, Cause.PARITY),
        ("a message of nobody", Transfer.MESSAGE, Cause.WINDOW),
        ("a load that nobody answers", Transfer.LOAD, Cause.MMIO | Cause.UNSUPPORTED_REQUEST),
        ("a device that hangs", Transfer.LOAD, Cause.MMIO | Cause.TIMEOUT),
        ("configuration of a function that is not there", Transfer.LOAD, Cause.CONFIG_READ | Cause.UNSUPPORTED_REQUEST),
        ("a configuration write there", Transfer.STORE, Cause.CONFIG_WRITE | Cause.UNSUPPORTED_REQUEST),
        ("a fatal message", Transfer.OTHER, Cause.FATAL_MESSAGE),
        ("a non-fatal message", Transfer.OTHER, Cause.NONFATAL_MESSAGE),
        ("parity", Transfer.OTHER, Cause.PARITY),
        ("an injected load", Transfer.LOAD, Cause.MMIO | Cause.PARITY),
        ("an injected DMA write", Transfer.DMA_WRITE, Cause.COMPLETER_ABORT),
    ],
)
def test_the_first_error_is_in_the_log(error: str, transfer: Transfer, cause: Cause) -> None:
    r = rig(PHB3)
    messages(r)
    ERRORS[error](r)
    ERRORS["parity"](r)
    code, data = r.opal.pci_get_phb_diag_data(0, MOST)
    assert code == api.OPAL_SUCCESS
    log = Diagnosis.parse(data)
    assert list(log.causes) == [PE_A]
    assert (log.causes[PE_A].transfer, log.causes[PE_A].causes) == (transfer, cause)
    assert r.phb.endpoints[PE_A].freezes == 1
    assert r.told


def test_the_log_tells_whose_and_where() -> None:
    r = rig(PHB3)
    messages(r)
    address, data = message_64(40)
    r.a.send_message(address, data)
    entry = r.phb.endpoints[PE_A].entry
    assert entry is not None
    assert (entry.rid, entry.address, entry.data) == (r.a.rid, address, data)


def test_freezes_are_counted() -> None:
    r = rig()
    for count in range(1, 4):
        r.phb.parity(PE_A)
        r.phb.parity(PE_A)
        assert r.phb.endpoints[PE_A].freezes == count
        r.phb.endpoints.clear(PE_A)


def test_an_error_of_a_bridge_takes_along_what_is_below() -> None:
    """pnv_ioda_set_peltv: the vectors of the endpoints of all bridges above name an endpoint."""
    r = rig()
    r.phb.parity(ROOT)
    assert r.phb.endpoints.frozen == {ROOT, UP, INSIDE, PE_A, PE_B}
    r = rig()
    r.phb.parity(PE_B)
    assert r.phb.endpoints.frozen == {PE_B}


def test_the_link_going_down_is_an_error_of_the_port() -> None:
    r = rig()
    r.phb.port.unplug()
    assert r.phb.endpoints.frozen == {ROOT, UP, INSIDE, PE_A, PE_B}
    assert r.phb.config_read(0, 0, 0, 4) == 0x03DC1014


def test_correctable_errors_freeze_nothing() -> None:
    r = rig()
    r.a.report(ErrorMessage(Severity.CORRECTABLE, r.a.rid))
    assert not r.phb.endpoints.troubled()
    assert r.opal.pci_next_error(0)[2:] == (OpalErrorType.PHB_ERROR, OpalSeverity.INF)
    assert r.opal.pci_get_phb_diag_data(0, MOST)[0] == 0
    assert r.opal.pci_next_error(0)[2:] == (OpalErrorType.NO_ERROR, OpalSeverity.NO_ERROR)


def test_bad_data_of_a_load_does_not_get_through() -> None:
    """A device whose register makes it do DMA that fails: the answer came while the endpoint froze."""
    r = rig()

    class Trap:
        def read(self, offset: int, length: int) -> int:
            try:
                r.a.dma_read(1 << 40, 8)
            except DmaFault:
                return 0xBAD
            return 0

        def write(self, offset: int, length: int, value: int) -> None: ...

        def reset(self) -> None: ...

    r.a.bars[0].registers = Trap()  # type: ignore[assignment]
    assert r.phb.load(r.at(r.a), 4) == 0xFFFFFFFF
    assert r.phb.endpoints[PE_A].state == OpalFreezeState.MMIO_DMA_FREEZE


def everything_is_off(r: IodaRig) -> None:
    r.a.bars[0].registers.write(0, 4, 5)
    memory = bytes(r.memory.data)
    assert r.phb.load(r.at(r.a), 4) == r.config(r.a) == r.config(r.b) == 0xFFFFFFFF
    r.phb.store(r.at(r.b), 4, 6)
    assert r.b.bars[0].registers.read(0, 4) == 0
    for function in (r.a, r.b):
        with pytest.raises(Exception, match="not mapped"):
            function.dma_read(0, 4)
        function.dma_write(0, b"x")
        function.send_message(*message_64(0))
    assert bytes(r.memory.data) == memory
    assert not r.interrupts


def test_a_fenced_bridge_lets_nothing_through() -> None:
    r = rig()
    r.phb.parity()
    everything_is_off(r)
    status = r.opal.pci_eeh_freeze_status(0, PE_A)
    assert status == (0, OpalFreezeState.MMIO_DMA_FREEZE, OpalErrorType.PHB_ERROR, OpalSeverity.PHB_FENCED)
    assert r.opal.pci_next_error(0)[2:] == (OpalErrorType.PHB_ERROR, OpalSeverity.PHB_FENCED)
    assert r.opal.pci_eeh_freeze_clear(0, PE_A, OpalFreezeAction.ALL) == api.OPAL_HARDWARE
    assert r.opal.pci_config_read(0, r.a.rid, 0, 4) == (api.OPAL_HARDWARE, 0xFFFFFFFF)
    assert r.opal.pci_config_read(0, 0, 0, 2) == (api.OPAL_HARDWARE, 0xFFFF)


def test_a_broken_bridge_stays_so() -> None:
    r = rig()
    r.phb.kill()
    everything_is_off(r)
    assert r.opal.pci_eeh_freeze_status(0, PE_A).code == api.OPAL_HARDWARE
    assert r.opal.pci_next_error(0)[2:] == (OpalErrorType.PHB_ERROR, OpalSeverity.PHB_DEAD)
    assert r.opal.pci_get_phb_diag_data(0, MOST) == (api.OPAL_HARDWARE, b"")
    assert r.opal.pci_eeh_freeze_set(0, PE_A, 3) == api.OPAL_HARDWARE
    assert r.opal.pci_reset(0, api.OpalReset.PHB_COMPLETE, api.OPAL_ASSERT_RESET) == api.OPAL_HARDWARE


# injected errors


def test_an_injected_error_strikes_once_and_at_its_address() -> None:
    r = rig(PHB3)
    address = r.at(r.a) + 0x100
    mask = (1 << 64) - 0x10
    code = r.opal.pci_err_inject(0, PE_A, EehErrorType.BITS_32, EehErrorFunction.ST_MEM_DATA, address, mask)
    assert code == api.OPAL_SUCCESS
    r.phb.store(address + 0x10, 4, 1)
    r.phb.load(address, 4)
    r.phb.store(r.at(r.b) + 0x100, 4, 1)
    assert not r.phb.endpoints.troubled()
    r.phb.store(address + 8, 4, 2)
    assert r.phb.endpoints.frozen == {PE_A}
    assert r.a.bars[0].registers.read(0x108, 4) == 0
    r.phb.endpoints.clear(PE_A)
    r.phb.store(address + 8, 4, 2)
    assert r.phb.load(address + 8, 4) == 2


def test_an_injected_error_in_configuration_space() -> None:
    """phb4_err_inject_cfg; the same on PHB4 (`lab` facts: functions 4 and 10 are taken, others EIO)."""
    r = rig(PHB4)
    own = config_address(r.c.rid)
    code = r.opal.pci_err_inject(0, PE_B, 0, EehErrorFunction.LD_CFG_ADDR, own, config_address(0xFFFF))
    assert code == api.OPAL_SUCCESS
    assert r.config(r.b) != 0xFFFFFFFF
    assert r.config(r.c) == 0xFFFFFFFF
    assert r.phb.endpoints.frozen == {PE_B}


@pytest.mark.parametrize("function", EehErrorFunction)
def test_what_a_phb4_can_inject(function: EehErrorFunction) -> None:
    """phb4_err_inject, and what a kernel on it was told: -1 for I/O, -7 for memory and DMA."""
    r = rig(PHB4)
    name = function.name
    wanted = api.OPAL_SUCCESS if "CFG" in name else api.OPAL_PARAMETER if "IO" in name else api.OPAL_UNSUPPORTED
    for type_ in EehErrorType:
        assert r.opal.pci_err_inject(0, PE_A, type_, function, 0, 0) == wanted


def test_p7ioc_injects_into_io_space() -> None:
    r = rig(P7IOC)
    assert Injectable.IO in P7IOC.injectable
    assert r.opal.pci_map_pe_mmio_window(0, PE_A, api.OpalWindow.IO, 0, 3) == api.OPAL_SUCCESS
    assert r.opal.pci_err_inject(0, PE_A, 0, EehErrorFunction.ST_IO_ADDR, 0, 0) == api.OPAL_SUCCESS
    assert r.opal.pci_err_inject(0, PE_B, 0, EehErrorFunction.ST_IO_ADDR, 0, 0) == api.OPAL_PARAMETER


def test_an_error_of_64_bit_memory_is_in_the_window_of_all() -> None:
    """phb3_err_inject_mem64: of what is on a bus; windows for virtual functions are for these."""
    r, size = rig(PHB3), 1 << 30
    r.phb.map_rids(33, RidMatch(r.c.rid))
    for number in (3, 15):
        assert not r.opal.pci_set_phb_mem_window(0, api.OpalWindow.M64, number, number * size, 0, size)
        assert not r.opal.pci_phb_mmio_enable(0, api.OpalWindow.M64, number, api.OpalM64Action.SPLIT)
    for endpoint, number in ((PE_A, 15), (33, 3)):
        code = r.opal.pci_err_inject(0, endpoint, EehErrorType.BITS_64, EehErrorFunction.LD_MEM_ADDR, 0, 0)
        assert code == api.OPAL_SUCCESS
        assert r.phb.injector.armed is not None
        assert r.phb.injector.armed.address == number * size + endpoint * size // 256


def test_error_injection_that_is_refused() -> None:
    r = rig(PHB3)
    inject = r.opal.pci_err_inject
    load, dma = EehErrorFunction.LD_MEM_ADDR, EehErrorFunction.DMA_RD_ADDR
    assert inject(0, PE_A, 2, load, 0, 0) == api.OPAL_PARAMETER
    assert inject(0, PE_A, 0, 20, 0, 0) == api.OPAL_PARAMETER
    assert inject(0, PHB3.reserved, 0, load, 0, 0) == api.OPAL_PARAMETER
    assert inject(0, PHB3.endpoints, 0, load, 0, 0) == api.OPAL_PARAMETER
    assert inject(1, PE_A, 0, load, 0, 0) == api.OPAL_PARAMETER
    assert inject(0, PE_A, EehErrorType.BITS_64, load, 0, 0) == api.OPAL_PARAMETER  # it has no such segments
    assert inject(0, 99, 0, EehErrorFunction.LD_CFG_ADDR, 0, 0) == api.OPAL_PARAMETER
    assert inject(0, PE_A, EehErrorType.BITS_64, dma, 0, 0) == api.OPAL_UNSUPPORTED  # it has no such window
    assert r.phb.injector.armed is None


# from one function to another


def test_requests_to_another_endpoint_that_are_sent_up_are_errors() -> None:
    """With access control services the switch sends them to the bridge, where they are DMA of a window that is not."""
    r = rig()
    for port in r.down:
        at = port.offset(regs.PCI_EXT_CAP_ID_ACS, extended=True)
        assert at is not None
        port.config.write(at + regs.PCI_ACS_CTRL, 2, regs.PCI_ACS_RR | regs.PCI_ACS_CR | regs.PCI_ACS_UF)
    r.a.dma_write(r.b.address(r.b.bars[0]), b"peer")
    assert r.b.bars[0].registers.read(0, 4) == 0
    assert r.phb.endpoints.frozen == {PE_A}


def test_virtual_functions_are_endpoints_of_their_own() -> None:
    """pnv_ioda_setup_vf_PE: matched by bus, device and function, with a 64-bit window each."""
    r = rig(PHB4)
    config = ConfigSpace(Identity(0x1234, 0x9999, class_code=0xFF0000))
    physical = Function(config, name="pf")
    physical.add(Express(ExpressType.ENDPOINT, flr=True))
    size = 1 << 20
    prefetch = regs.PCI_BASE_ADDRESS_MEM_TYPE_64 | regs.PCI_BASE_ADDRESS_MEM_PREFETCH
    declared = Sriov(4, 0x999A, bars=(VfBar(0, size, prefetch),))

    def make(number: int) -> VirtualFunction:
        own = ConfigSpace(Identity(0x1234, 0x999A, class_code=0xFF0000))
        return VirtualFunction(own, [Bar(0, size, prefetch, Memory(size))], name=f"vf{number}")

    virtual = VirtualFunctions(physical, declared, make)
    r.down[0].unplug()
    r.down[0].plug(physical)
    r.phb.endpoints.clear_all()
    base = 0x6000000000000
    control = virtual.offset
    physical.config.write(control + regs.PCI_SRIOV_BAR, 4, base & 0xFFFFFFFF)
    physical.config.write(control + regs.PCI_SRIOV_BAR + 4, 4, base >> 32)
    physical.config.write(control + regs.PCI_SRIOV_NUM_VF, 2, 4)
    physical.config.write(control + regs.PCI_SRIOV_CTRL, 2, regs.PCI_SRIOV_CTRL_VFE | regs.PCI_SRIOV_CTRL_MSE)
    for port in (r.phb.port, r.phb.port.secondary.functions[0], r.down[0]):
        port.config.write(bridge_regs.PCI_PREF_MEMORY_BASE, 4, 0x01F10001)
        port.config.write(bridge_regs.PCI_PREF_BASE_UPPER32, 4, base >> 32)
        port.config.write(bridge_regs.PCI_PREF_LIMIT_UPPER32, 4, base >> 32)
    for number, function in enumerate(virtual.active):
        match = RidMatch(function.rid)
        code = r.opal.pci_set_pe(0, 100 + number, match.rid, match.bus, 1, 1, api.OPAL_MAP_PE)
        assert code == api.OPAL_SUCCESS
        first = base + number * size
        assert not r.opal.pci_set_phb_mem_window(0, api.OpalWindow.M64, 1 + number, first, 0, size)
        assert not r.opal.pci_map_pe_mmio_window(0, 100 + number, api.OpalWindow.M64, 1 + number, 0)
        assert not r.opal.pci_phb_mmio_enable(0, api.OpalWindow.M64, 1 + number, api.OpalM64Action.NON_SPLIT)
        r.phb.store(first, 4, number)
    assert not r.phb.endpoints.troubled()
    r.phb.parity(102)
    assert [r.phb.load(base + number * size, 4) for number in range(4)] == [0, 1, 0xFFFFFFFF, 3]
    before = r.phb.config_read(0, virtual.active[1].rid, 8, 4)
    assert r.phb.config_read(0, virtual.active[2].rid, 8, 4) == before  # configuration goes on, but on P7IOC
    assert r.phb.endpoints.frozen == {102}


@pytest.mark.parametrize(("model", "there"), [(P7IOC, False), (PHB3, True), (PHB4, True)])
def test_only_the_first_bridges_freeze_configuration(model: PhbModel, there: bool) -> None:
    """``eeh_powernv_init``: P7IOC blocks accesses to a frozen endpoint, later bridges do not."""
    r = rig(model)
    assert not r.opal.pci_eeh_freeze_set(0, PE_A, api.OpalFreezeAction.ALL)
    r.phb.config_write(0, r.a.rid, regs.PCI_CACHE_LINE_SIZE, 1, 0x10)
    assert (r.config(r.a) == 0x56781234) is there
    assert (r.a.config.data[regs.PCI_CACHE_LINE_SIZE] == 0x10) is there
    assert r.config(r.b) == 0x56781234
    assert r.phb.load(r.at(r.a), 4) == 0xFFFFFFFF
