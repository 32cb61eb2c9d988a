"""A frozen endpoint: after any sequence of errors nothing moves into or out of it, and the others go on untouched.

The rule is that of the architecture: loads give ones, stores are lost, DMA is refused until software lets it go
(``Documentation/arch/powerpc/eeh-pci-error-recovery.rst`` of Linux 6.12); messages are DMA.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, reject, settings
from hypothesis import strategies as st
from ioda_rig import M32_BASE, M32_BUS, M32_SIZE, MEMORY_SIZE, PAGES, PE_A, PE_B, IodaRig, rig

from pyvfio.abi import opal as api
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.eeh import EehErrorFunction, EehErrorType
from pyvfio.abi.opal import OpalFreezeAction, OpalFreezeState, OpalReset
from pyvfio.abi.pci_regs import ExpressType
from pyvfio.ioda.message import message_64
from pyvfio.ioda.routing import RidMatch
from pyvfio.ioda.segments import Segments
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.hardware.ioda.injection import FUNCTIONS
from pyvfio_backends.software.hardware.ioda.model import P7IOC, PHB3, PHB4, PhbModel
from pyvfio_backends.software.hardware.ioda.phb import Phb
from pyvfio_backends.software.hardware.ioda.placement import apertures, arrange
from pyvfio_backends.software.hardware.ioda.port import phb_port
from pyvfio_backends.software.hardware.pci.bar import Bar
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.pcie.block import Memory
from pyvfio_backends.software.hardware.pcie.express import Express
from pyvfio_backends.software.hardware.pcie.firmware import Firmware
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.remapping import NOTHING
from pyvfio_backends.software.hardware.pcie.reporting import ErrorMessage, Severity
from pyvfio_backends.software.hardware.pcie.request import AddressType, Request, Space

ONES = 0xFFFFFFFF
MODELS = st.sampled_from([P7IOC, PHB3, PHB4])


def attempt(work: Callable[[], object]) -> None:
    """Do what may be refused."""
    try:
        work()
    except DmaFault:
        return


def send(function: Function, request: Request) -> None:
    function.send(request)


# what can go wrong, each for endpoint A only

ERRORS: dict[str, Callable[[IodaRig], None]] = {
    "DMA write to a page that is not mapped": lambda r: attempt(lambda: r.a.dma_write(r.dma(PE_A) + 0x20000, b"x")),
    "DMA read of a page that is not mapped": lambda r: attempt(lambda: r.a.dma_read(r.dma(PE_A) + 0x20000, 8)),
    "DMA beyond the window": lambda r: attempt(lambda: r.a.dma_read(1 << 33, 8)),
    "DMA to the other window": lambda r: attempt(lambda: r.a.dma_write(1 << 59, b"x")),
    "DMA to an address that nothing has": lambda r: attempt(lambda: r.a.dma_read(1 << 61, 8)),
    "DMA that runs off the mapped pages": lambda r: attempt(lambda: r.a.dma_write(r.dma(PE_A) + 0xFFFC, b"12345678")),
    "poisoned DMA": lambda r: send(r.a, _poisoned(0x40)),
    "a translated address": lambda r: send(r.a, _translated(0x40)),
    "I/O from a device": lambda r: send(r.a, Request.store(0x40, b"abcd", space=Space.IO)),
    "a message of nobody": lambda r: r.a.send_message(*message_64(77)),
    "a message of the other endpoint": lambda r: r.a.send_message(*message_64(40)),
    "a message with the wrong data": lambda r: r.a.send_message(message_64(32)[0], 0x4000),
    "a message of two bytes": lambda r: send(r.a, Request.store(message_64(32)[0], b"ab")),
    "a read of where messages go": lambda r: attempt(lambda: r.a.dma_read(1 << 60, 4)),
    "a load that nobody answers": lambda r: _void(r.phb.load(r.at(r.a) + 0x100000, 4)),
    "a store that nobody answers": lambda r: r.phb.store(r.at(r.a) + 0x100000, 4, 1),
    "a poisoned store": lambda r: _void(r.phb.transfer(_poisoned(r.at(r.a)))),
    "configuration of a function that is not there": lambda r: _void(r.phb.config_read(0, r.a.rid + 1, 0, 4)),
    "a configuration write there": lambda r: r.phb.config_write(0, r.a.rid + 1, 0, 4, 0),
    "a device that hangs": lambda r: _hang(r),
    "a fatal message": lambda r: r.a.report(ErrorMessage(Severity.FATAL, r.a.rid)),
    "a load in which the device reports": lambda r: _report_in_load(r),
    "a non-fatal message": lambda r: r.a.report(ErrorMessage(Severity.NONFATAL, r.a.rid)),
    "parity": lambda r: r.phb.parity(PE_A),
    "an injected load": lambda r: _injected(r, EehErrorFunction.LD_MEM_DATA),
    "an injected store": lambda r: _injected(r, EehErrorFunction.ST_MEM_ADDR),
    "an injected configuration read": lambda r: _injected(r, EehErrorFunction.LD_CFG_ADDR),
    "an injected configuration write": lambda r: _injected(r, EehErrorFunction.ST_CFG_DATA),
    "an injected DMA read": lambda r: _injected(r, EehErrorFunction.DMA_RD_DATA),
    "an injected DMA write": lambda r: _injected(r, EehErrorFunction.DMA_WR_TARGET),
    "software": lambda r: _void(r.opal.pci_eeh_freeze_set(0, PE_A, OpalFreezeAction.ALL)),
}


def _void(_: object) -> None:
    return


def _poisoned(address: int) -> Request:
    request = Request.store(address, b"bad!")
    request.poisoned = True
    return request


def _translated(address: int) -> Request:
    request = Request.store(address, b"bad!")
    request.address_type = AddressType.TRANSLATED
    return request


def _hang(r: IodaRig) -> None:
    r.a.hung = True
    r.phb.load(r.at(r.a), 4)
    r.a.hung = False


def _report_in_load(r: IodaRig) -> None:
    """The answer, which comes after the freeze, is lost."""
    block = r.a.bars[0].registers
    read = block.read

    def reporting(offset: int, length: int) -> int:
        r.a.report(ErrorMessage(Severity.FATAL, r.a.rid))
        return read(offset, length)

    block.write(0, 4, 0x600D)
    block.read = reporting  # type: ignore[method-assign]
    assert r.phb.load(r.at(r.a), 4) == ONES
    block.read = read  # type: ignore[method-assign]


def _injected(r: IodaRig, function: EehErrorFunction) -> None:
    if FUNCTIONS[function].kind not in r.phb.model.injectable:
        reject()
    code = r.opal.pci_err_inject(0, PE_A, EehErrorType.BITS_32, function, 0, 0)
    assert code == api.OPAL_SUCCESS
    touch(r, r.a)


def touch(r: IodaRig, function: Function) -> None:
    """Use everything that a function has, whether or not it works."""
    r.phb.store(r.at(function) + 0x20, 4, 0x12345678)
    r.phb.load(r.at(function) + 0x20, 4)
    r.phb.config_write(0, function.rid, regs.PCI_CACHE_LINE_SIZE, 1, 0x10)
    r.phb.config_read(0, function.rid, 0, 4)
    start = r.dma(r.pe(function))
    attempt(lambda: function.dma_write(start + 0x30, b"touched"))
    attempt(lambda: function.dma_read(start + 0x30, 7))


def messages(r: IodaRig) -> None:
    """Interrupts 32 to 35 are A's, 40 is B's."""
    for interrupt in range(32, 36):
        assert not r.opal.pci_set_xive_pe(0, PE_A, interrupt)
    assert not r.opal.pci_set_xive_pe(0, PE_B, 40)


class Snapshot:
    """All bytes of an endpoint, in the device and in memory, and its interrupts so far."""

    def __init__(self, r: IodaRig, function: Function, pe: int) -> None:
        block = function.bars[0].registers
        self.device = block.read(0x20, 8), block.read(0, 8)
        self.memory = r.memory.read(r.real(pe), 0x10000)
        self.config = bytes(function.config.data[regs.PCI_CACHE_LINE_SIZE : regs.PCI_STD_HEADER_SIZEOF])
        self.interrupts = [one for one in r.interrupts if one[0] == function.rid]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


def works(r: IodaRig, function: Function, pe: int, interrupt: int, value: int) -> None:
    """Everything that an endpoint has does what it should."""
    assert r.phb.endpoints[pe].state == OpalFreezeState.NOT_FROZEN
    r.phb.store(r.at(function) + 8, 4, value)
    assert r.phb.load(r.at(function) + 8, 4) == value
    assert r.config(function) == 0x56781234
    data, start = value.to_bytes(4, "little") * 300, r.dma(pe)
    function.dma_write(start + 0xFF0, data)
    assert function.dma_read(start + 0xFF0, len(data)) == data
    assert r.memory.read(r.real(pe) + 0xFF0, len(data)) == data
    before = len(r.interrupts)
    function.send_message(*message_64(interrupt))
    assert r.interrupts[before:] == [(function.rid, interrupt)]


def is_dead(r: IodaRig, function: Function, pe: int) -> None:
    """Nothing of it can be moved, in or out; configuration is frozen on P7IOC only (``eeh_powernv_init``)."""
    config = ONES if r.phb.model.freezes_config else 0x56781234
    r.phb.config_write(0, function.rid, regs.PCI_CACHE_LINE_SIZE, 1, 0x10)  # as `touch` does
    before = Snapshot(r, function, pe)
    assert r.phb.load(r.at(function) + 0x20, 4) == ONES
    assert r.phb.load(r.at(function) + 0x20, 8) == (1 << 64) - 1
    assert r.phb.config_read(0, function.rid, 0, 4) == config
    touch(r, function)
    function.send_message(*message_64(32))
    start = r.dma(pe)
    for work in (lambda: function.dma_read(start, 4), lambda: function.dma_copy(start + 0x100, start, 64)):
        try:
            work()
        except DmaFault:
            continue
        raise AssertionError("DMA of a stopped endpoint got through")
    assert Snapshot(r, function, pe) == before


@settings(max_examples=60, deadline=None)
@given(MODELS, st.lists(st.sampled_from(sorted(ERRORS)), min_size=1, max_size=6), st.data())
def test_nothing_moves_and_others_go_on(model: PhbModel, errors: list[str], data: st.DataObject) -> None:
    r = rig(model)
    messages(r)
    works(r, r.a, PE_A, 32, 0x1111)
    works(r, r.b, PE_B, 40, 0x2222)
    outside = r.memory.read(0, PAGES)
    for step, error in enumerate(errors):
        ERRORS[error](r)
        assert r.phb.endpoints[PE_A].state == OpalFreezeState.MMIO_DMA_FREEZE, error
        is_dead(r, r.a, PE_A)
        works(r, r.b, PE_B, 40, 0x3333 + step)
        works(r, r.c, PE_B, 40, 0x4444 + step)
        if data.draw(st.booleans()):
            assert not r.opal.pci_reset(0, OpalReset.PHB_ERROR, api.OPAL_ASSERT_RESET)  # one may still wait
            assert not r.opal.pci_eeh_freeze_clear(0, PE_A, OpalFreezeAction.ALL)
            works(r, r.a, PE_A, 32, 0x5555 + step)
    assert r.memory.read(0, PAGES) == outside
    end = PAGES + 0x20000
    assert not any(r.memory.read(end, MEMORY_SIZE - end))


@settings(max_examples=40, deadline=None)
@given(MODELS, st.sampled_from(sorted(ERRORS)), st.sampled_from([OpalFreezeAction.MMIO, OpalFreezeAction.DMA]))
def test_each_half_goes_again_by_itself(model: PhbModel, error: str, half: OpalFreezeAction) -> None:
    r = rig(model)
    messages(r)
    r.a.bars[0].registers.write(8, 4, 0xCAFE)
    ERRORS[error](r)
    assert not r.opal.pci_eeh_freeze_clear(0, PE_A, half)
    memory = r.memory.read(r.real(PE_A), 0x10000)
    r.a.send_message(*message_64(32))
    attempt(lambda: r.a.dma_write(r.dma(PE_A) + 0x100, b"half"))
    if half is OpalFreezeAction.MMIO:
        assert r.phb.endpoints[PE_A].state == OpalFreezeState.DMA_FREEZE
        assert r.phb.load(r.at(r.a) + 8, 4) == 0xCAFE
        assert r.memory.read(r.real(PE_A), 0x10000) == memory
        assert not r.interrupts
    else:
        assert r.phb.endpoints[PE_A].state == OpalFreezeState.MMIO_FREEZE
        assert r.phb.load(r.at(r.a) + 8, 4) == ONES
        assert r.memory.read(r.real(PE_A) + 0x100, 4) == b"half"
        assert r.interrupts == [(r.a.rid, 32)]


def test_what_spans_two_segments_goes_in_pieces() -> None:
    """Each has to be let through by the endpoint of its segment."""
    port = phb_port(PHB4)
    phb = Phb(PHB4, NOTHING, port, Segments(M32_BASE, M32_BUS, M32_SIZE, PHB4.segments))
    segment = phb.windows.m32.size
    config = ConfigSpace(Identity(0x1234, 0x5678, 0x1234, 1, 0xFF0000, 1))
    function = Function(config, [Bar(0, 2 * segment, regs.PCI_BASE_ADDRESS_SPACE_MEMORY, Memory(2 * segment))])
    function.add(Express(ExpressType.ENDPOINT))
    port.plug(function)
    with phb.probing():
        Firmware(apertures(phb), arrange=arrange(phb)).set_up(phb)
    phb.map_rids(3, RidMatch.of_buses(1))
    phb.windows.m32.owners[0], phb.windows.m32.owners[1] = 3, 4
    boundary = M32_BASE + segment
    phb.store(boundary - 4, 8, 0x1122334455667788)
    assert phb.load(boundary - 4, 8) == 0x1122334455667788
    phb.endpoints.set(4, frozen=True)
    assert phb.load(boundary - 4, 8) == (1 << 64) - 1
    assert phb.load(boundary - 4, 4) == 0x55667788
    phb.store(boundary - 4, 8, 0)
    phb.endpoints.clear(4)
    assert phb.load(boundary, 4) == 0x11223344  # what is frozen was not written
    assert not phb.endpoints.troubled()
