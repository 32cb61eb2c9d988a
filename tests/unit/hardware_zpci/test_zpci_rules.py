"""The rules of each PCI instruction as tables: lengths, spaces, boundaries, states, sequences, and how it ends.

What is expected is QEMU's ``hw/s390x/s390-pci-inst.c`` and ``hw/s390x/css.c`` (css_do_sic), with the codes of
``arch/s390/include/asm/pci_insn.h``.  Where they differ from that:

- A BAR takes 1, 2, 4 or 8 bytes, which is what Linux uses (``arch/s390/pci/pci_mmio.c``); QEMU lets others pass and
  does something else with them.
- Configuration space ends in an operand exception; QEMU gives ones behind it.
- Registers wider than their field in QEMU (address space, length) are looked at as a whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from zpci_rig import BASE, FMB, SUMMARY, TABLES, VECTOR, GuestRig, HostForwardingRig, InterpretedRig, MachineRig, Rig

from pyvfio.pci import bell
from pyvfio.zpci import clp
from pyvfio.zpci.clp import ClpCode, SetOperation
from pyvfio.zpci.event import ErrorCode
from pyvfio.zpci.fib import DirectedFib, Fib, FunctionControl, read_fib
from pyvfio.zpci.function import FunctionState
from pyvfio.zpci.instructions import (
    CONFIG_SPACE,
    Answer,
    FunctionOperation,
    OperandException,
    Request,
    SpecificationException,
    Status,
)
from pyvfio.zpci.table import Iota

GONE = Answer(3)
NO_SPACE = Answer(1, Status.INVALID_ADDRESS_SPACE)
SEQUENCE = Answer(1, Status.FUNCTION_ALREADY_ENABLED)
BLOCKED = Answer(1, Status.BLOCKED)
ENABLED = 0x80000000
OPERATION = FunctionOperation
SPACE = Fib(pba=BASE, pal=BASE + 0xFFF, iota=Iota(TABLES).to_word())
INTERRUPTS = Fib(isc=3, noi=4, aibv=VECTOR, aibvo=8, sum=1, aisb=SUMMARY, aisbo=5)


@pytest.fixture(params=[MachineRig, GuestRig, InterpretedRig, HostForwardingRig], ids=lambda kind: str(kind.level))
def on(request: pytest.FixtureRequest) -> Iterator[Rig]:
    rig = request.param()
    rig.enable()
    yield rig
    rig.close()


# ---- the operand that names a function ---------------------------------------------------------------------------


def test_the_register_has_a_length_of_two_bytes() -> None:
    """ZPCI_CREATE_REQ: handle, space and length; the status that an instruction leaves is between."""
    assert Request(0x80020001, 15, 0x1230).to_word() == 0x80020001_000F1230
    assert Request.from_word(0x80020001_2C0F1230) == Request(0x80020001, 15, 0x1230)


# ---- PCI LOAD and PCI STORE --------------------------------------------------------------------------------------


def refused(on: Rig, space: int, offset: int, length: int) -> None:
    for work in (
        lambda: on.cpu.pcilg(Request(on.fh, space, length), offset),
        lambda: on.cpu.pcistg(0, Request(on.fh, space, length), offset),
    ):
        with pytest.raises(OperandException):
            work()


def test_configuration_accesses_lie_in_a_word(on: Rig) -> None:
    for offset, length in itertools.product(range(4), (1, 2, 4)):
        if offset + length > 4:
            refused(on, CONFIG_SPACE, offset, length)
        else:
            request = Request(on.fh, CONFIG_SPACE, length)
            assert on.cpu.pcilg(request, offset).cc == 0
            assert on.cpu.pcistg(0, request, offset + 0x10) == Answer()


@pytest.mark.parametrize("space", [CONFIG_SPACE, 0, 1])
def test_lengths_that_there_are_not(on: Rig, space: int) -> None:
    """Never 3, and no more than a register has; 8 bytes only of a BAR."""
    for length in (0, 3, 5, 6, 7, 9, 15, 16, 0x104, 0xFFFF, *((8,) if space == CONFIG_SPACE else ())):
        refused(on, space, 0, length)


def test_bar_accesses_lie_in_a_doubleword(on: Rig) -> None:
    for offset, length in itertools.product(range(8), (1, 2, 4, 8)):
        if offset + length > 8:
            refused(on, 1, offset, length)
        else:
            assert on.cpu.pcilg(Request(on.fh, 1, length), offset).cc == 0, (offset, length)
            assert on.cpu.pcistg(0, Request(on.fh, 1, length), offset) == Answer()


def test_spaces_without_a_bar(on: Rig) -> None:
    for space in (2, 3, 4, 5, 6, 7, 14, 16, 0x1F, 0xFF):
        assert on.cpu.pcilg(Request(on.fh, space, 4), 0) == NO_SPACE
        assert on.cpu.pcistg(0, Request(on.fh, space, 4), 0) == NO_SPACE
        assert on.cpu.pcistb(bytes(16), Request(on.fh, space, 16), 0) == NO_SPACE


def test_offsets_behind_a_bar(on: Rig) -> None:
    for offset in (0x1000, 0xFF9, 1 << 32, -8):
        refused(on, 0, offset, 8)


def test_a_register_has_the_bytes_as_they_lie(on: Rig) -> None:
    """Both spaces are little-endian; what else is in the register of PCI STORE is not looked at."""
    for length in (1, 2, 4, 8):
        data = bytes(range(0xA1, 0xA1 + length))
        request, garbage = Request(on.fh, 1, length), bytes((0xEE,)) * (8 - length)
        register = int.from_bytes(data, "big")
        assert on.cpu.pcistg(int.from_bytes(garbage + data, "big"), request, 0) == Answer()
        assert on.cpu.pcilg(request, 0) == Answer(data=register)
        assert on.load(1, 0, length) == int.from_bytes(data, "little")
    assert on.cpu.pcistg(0xEEEE060700, Request(on.fh, CONFIG_SPACE, 2), 4) == Answer()
    assert on.load(CONFIG_SPACE, 4, 2) == 0x0007
    assert on.cpu.pcilg(Request(on.fh, CONFIG_SPACE, 2), 4) == Answer(data=0x0700)


# ---- PCI STORE BLOCK ---------------------------------------------------------------------------------------------


def test_blocks_that_are_no_operand(on: Rig) -> None:
    """Not at a doubleword, of 8 bytes or less, no multiple of 8, longer than the group has, over a 4 KiB boundary."""
    for offset, length in (
        *((0, 0), (0, 8), (0, 12), (0, 15), (4, 16), (1, 16)),
        *((0, 136), (0, 0x1000), (0xFF8, 16), (0xF88, 128)),
    ):
        with pytest.raises(SpecificationException):
            on.cpu.pcistb(bytes(length), Request(on.fh, 0, length), offset)


def test_a_configuration_space_takes_no_block(on: Rig) -> None:
    assert on.cpu.pcistb(bytes(16), Request(on.fh, CONFIG_SPACE, 16), 0) == NO_SPACE


def test_the_longest_block(on: Rig) -> None:
    """As long as the group says, to a table of messages; each doubleword is little-endian."""
    most = clp.GroupResponse.from_bytes(on.cpu.clp(clp.QueryRequest(command=4, handle=0xFF).to_bytes(), 64)[1]).maxstbl
    assert most == 128
    block = b"".join(n.to_bytes(8, "little") for n in range(8))
    assert on.cpu.pcistb(block, Request(on.fh, 1, 64), 0) == Answer()
    assert [on.load(1, 8 * n, 8) & 0xFFFFFFFF for n in (0, 2, 4, 6)] == [0, 2, 4, 6]


# ---- states ------------------------------------------------------------------------------------------------------

STATES: dict[FunctionState, tuple[Answer, Answer, int, Answer]] = {
    #                               loads    MPCIFC    STPCIFC    RPCIT
    FunctionState.ENABLED: (Answer(), Answer(), 0x80, Answer()),
    FunctionState.BLOCKED: (Answer(), Answer(), 0xC0, Answer()),
    FunctionState.ERROR: (BLOCKED, Answer(), 0xE0, Answer(1, Status.FUNCTION_NOT_AVAILABLE)),
    FunctionState.PERMANENT_ERROR: (BLOCKED, GONE, -1, GONE),
    FunctionState.DISABLED: (GONE, GONE, -3, GONE),
    FunctionState.STANDBY: (GONE, GONE, -3, GONE),
    FunctionState.RESERVED: (GONE, GONE, -3, GONE),
}


@pytest.mark.parametrize("state", STATES)
def test_every_state(on: Rig, state: FunctionState) -> None:
    loads, modified, controls, refreshed = STATES[state]
    on.dma_on()
    function = on.function()
    function.state = state
    assert on.cpu.pcilg(Request(on.fh, CONFIG_SPACE, 2), 0)[:2] == loads[:2]
    assert on.cpu.pcistg(0, Request(on.fh, 0, 8), bell.SOURCE) == loads
    assert on.cpu.pcistb(bytes(16), Request(on.fh, 0, 16), bell.SOURCE) == loads
    assert on.cpu.mpcifc(on.fh, 0, OPERATION.SET_MEASUREMENT, Fib()) == modified
    answer, fib = on.cpu.stpcifc(on.fh, 0)
    if controls < 0:
        assert (answer.cc, fib) == (-controls, Fib())
        assert answer.status == (Status.FUNCTION_IN_ERROR if controls == -1 else Status.NONE)
    else:
        assert (answer, fib.fc) == (Answer(), controls | FunctionControl.DMA_REGISTERED)
    assert on.cpu.rpcit(on.fh, BASE, 4096) == refreshed
    function.state = FunctionState.ENABLED


# ---- MODIFY PCI FUNCTION CONTROLS --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "operation", "fib"),
    [
        ([], OPERATION.DEREGISTER_INTERRUPTS, Fib()),
        ([], OPERATION.DEREGISTER_TRANSLATION, Fib()),
        ([], OPERATION.REREGISTER_TRANSLATION, SPACE),
        ([], OPERATION.RESET_ERROR, Fib()),
        ([], OPERATION.RESET_BLOCK, Fib()),
        ([(OPERATION.REGISTER_INTERRUPTS, INTERRUPTS)], OPERATION.REGISTER_INTERRUPTS, INTERRUPTS),
        ([(OPERATION.REGISTER_TRANSLATION, SPACE)], OPERATION.REGISTER_TRANSLATION, SPACE),
    ],
)
def test_what_is_out_of_sequence(on: Rig, before: list[Any], operation: int, fib: Fib) -> None:
    on.tables()
    for each in before:
        assert on.cpu.mpcifc(on.fh, 0, *each) == Answer()
    assert on.cpu.mpcifc(on.fh, 0, operation, fib) == SEQUENCE


@pytest.mark.parametrize(
    ("state", "operation", "then"),
    [
        (FunctionState.ERROR, OPERATION.RESET_ERROR, FunctionState.ENABLED),
        (FunctionState.BLOCKED, OPERATION.RESET_ERROR, FunctionState.ENABLED),
        (FunctionState.ERROR, OPERATION.RESET_BLOCK, FunctionState.BLOCKED),
        (FunctionState.BLOCKED, OPERATION.RESET_BLOCK, None),
    ],
)
def test_recovery(on: Rig, state: FunctionState, operation: int, then: FunctionState | None) -> None:
    function = on.function()
    function.state = state
    assert on.cpu.mpcifc(on.fh, 0, operation, Fib()) == (SEQUENCE if then is None else Answer())
    assert function.state is (then or state)
    function.state = FunctionState.ENABLED


@pytest.mark.parametrize("operation", [4, 5, 6])
def test_there_is_one_address_space_for_dma(on: Rig, operation: int) -> None:
    assert on.cpu.mpcifc(on.fh, 1, operation, SPACE) == Answer(1, Status.DMA_SPACE_NOT_ENABLED)


@pytest.mark.parametrize(
    ("operation", "fib"),
    [
        *((operation, Fib()) for operation in (0, 1, 8, 11, 15, 16, 17, 18, 255)),
        (OPERATION.REGISTER_INTERRUPTS, Fib(fmt=1, noi=1)),
        (OPERATION.REGISTER_INTERRUPTS, Fib(fmt=255, noi=1)),
        (OPERATION.REGISTER_DIRECTED, DirectedFib(noi=1)),
        (OPERATION.SET_MEASUREMENT, DirectedFib()),
    ],
)
def test_what_is_not_installed(on: Rig, operation: int, fib: Fib | DirectedFib) -> None:
    before = on.cpu.stpcifc(on.fh, 0)
    with pytest.raises(OperandException):
        on.cpu.mpcifc(on.fh, 0, operation, fib)
    assert on.cpu.stpcifc(on.fh, 0) == before


@pytest.mark.parametrize("noi", [0, 129, 0xFFF])
def test_numbers_of_interrupts_that_the_group_has_not(on: Rig, noi: int) -> None:
    fib = Fib(noi=noi, aibv=VECTOR)
    assert on.cpu.mpcifc(on.fh, 0, OPERATION.REGISTER_INTERRUPTS, fib) == Answer(1, Status.RESOURCE_NOT_AVAILABLE)


# ---- STORE PCI FUNCTION CONTROLS ---------------------------------------------------------------------------------


def test_everything_that_was_registered_is_stored(on: Rig) -> None:
    on.tables()
    fib = Fib(
        pba=BASE, pal=BASE + 0xFFF, iota=SPACE.iota, isc=5, noi=7, aibvo=8, sum=1, aisbo=33, aibv=VECTOR, aisb=SUMMARY
    )
    assert on.cpu.mpcifc(on.fh, 0, OPERATION.REGISTER_TRANSLATION, fib) == Answer()
    assert on.cpu.mpcifc(on.fh, 0, OPERATION.REGISTER_INTERRUPTS, fib) == Answer()
    assert on.cpu.mpcifc(on.fh, 0, OPERATION.SET_MEASUREMENT, Fib(fmb=FMB)) == Answer()
    answer, stored = on.cpu.stpcifc(on.fh, 0)
    assert answer == Answer()
    raw = stored.to_bytes()
    assert raw[8] == FunctionControl.ENABLED | FunctionControl.DMA_REGISTERED
    assert raw[16:64] == fib.to_bytes()[16:64]
    assert int.from_bytes(raw[64:72], "big") == FMB
    assert read_fib(raw) == stored


def test_a_handle_without_its_enabled_bit_is_given_back_with_it(on: Rig) -> None:
    answer, fib = on.cpu.stpcifc(on.fh & ~ENABLED, 0)
    assert (answer, fib.fc) == (Answer(data=on.fh), FunctionControl.ENABLED)


@pytest.mark.parametrize("space", [1, 15, 255])
def test_other_address_spaces_are_refused_before_the_handle_is_looked_at(on: Rig, space: int) -> None:
    for fh in (on.fh, 0xFFFFFFFF):
        assert on.cpu.stpcifc(fh, space) == (Answer(1, Status.DMA_SPACE_NOT_ENABLED), Fib())


# ---- REFRESH PCI TRANSLATIONS ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "length", "good"),
    [
        (BASE, 0, True),
        (BASE, 0x1000, True),
        (BASE + 0xFF000, 0x1000, True),
        (BASE - 0x1000, 0x1000, True),  # it ends where the space begins
        (BASE - 0x2000, 0x1000, False),
        (BASE + 0x100000, 0x1000, False),
        (0, 0x1000, False),
    ],
)
def test_a_refresh_must_touch_the_space(on: Rig, start: int, length: int, good: bool) -> None:
    on.dma_on()
    assert on.cpu.rpcit(on.fh, start, length) == (Answer() if good else Answer(1, Status.FUNCTION_IN_ERROR))
    assert [event.pec for event in on.errors] == ([] if good else [ErrorCode.OUT_OF_RANGE])
    assert on.function().state is (FunctionState.ENABLED if good else FunctionState.ERROR)


def test_a_refresh_without_a_space(on: Rig) -> None:
    assert on.cpu.rpcit(on.fh, BASE, 0x1000) == Answer(1, Status.FUNCTION_IN_ERROR)
    assert [event.pec for event in on.errors] == [ErrorCode.INVALID_ADDRESS_SPACE]


# ---- SET INTERRUPTION CONTROLS -----------------------------------------------------------------------------------


def test_operations_of_sic_that_are_not_installed(on: Rig) -> None:
    for operation in (2, 3, 4, 5, 15, 16, 17, 18, 19, 0xFFFF):
        with pytest.raises(OperandException):
            on.cpu.sic(operation, 3, bytes(40))


def test_each_subclass_can_be_controlled(on: Rig) -> None:
    for operation, isc in itertools.product((0, 1), range(8)):
        on.cpu.sic(operation, isc)


# ---- CALL LOGICAL PROCESSOR --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "room"), [(8, 64), (20, 64), (8184, 8), (32, 0), (32, 4), (32, 12), (32, 8184), (32, 8168), (4096, 4104)]
)
def test_blocks_that_are_no_operand_of_clp(on: Rig, length: int, room: int) -> None:
    """Lengths: request 16 to 8184, response 8 to 8176, multiples of 8, together 8 KiB."""
    request = length.to_bytes(2, "big") + bytes(max(length, 16) - 2)
    if length + room <= 8192 and length >= 16 and length % 8 == 0 and 8 <= room <= 8176 and room % 8 == 0:
        assert on.cpu.clp(request, room)[1][2:4] == (ClpCode.LENGTH if length != 32 else ClpCode.COMMAND).to_bytes(
            2, "big"
        )
        return
    with pytest.raises(OperandException):
        on.cpu.clp(request, room)


@pytest.mark.parametrize(
    ("operation", "spaces", "code"),
    [
        (SetOperation.ENABLE, 0, ClpCode.INVALID_DMA_SPACES),
        (SetOperation.ENABLE, 2, ClpCode.INSUFFICIENT_RESOURCES),
        (SetOperation.ENABLE, 1, ClpCode.HANDLE_NOT_FOR_OPERATION),
        (SetOperation.ENABLE_MIO, 1, ClpCode.HANDLE_NOT_FOR_OPERATION),
        (SetOperation.DISABLE_MIO, 1, ClpCode.HANDLE_NOT_FOR_OPERATION),
        (4, 1, ClpCode.HANDLE_NOT_FOR_OPERATION),
        (255, 0, ClpCode.HANDLE_NOT_FOR_OPERATION),
        (SetOperation.DISABLE, 0, ClpCode.OK),
    ],
)
def test_set_pci_function_of_an_enabled_one(on: Rig, operation: int, spaces: int, code: ClpCode) -> None:
    assert on.set(on.fh, operation, spaces)[0] == code


@pytest.mark.parametrize("token", [1 << 16, 1 << 63, 3])
def test_tokens_that_list_did_not_give(on: Rig, token: int) -> None:
    answer = on.cpu.clp(clp.ListRequest(resume_token=token).to_bytes(), 4096)[1]
    assert int.from_bytes(answer[2:4], "big") == ClpCode.RESUME_TOKEN
