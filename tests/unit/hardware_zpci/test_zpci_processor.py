"""The PCI instructions: codes, exceptions, and what functions do in between; on the machine and in a guest.

`GUEST` says which tests differ in a guest, and why.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from zpci_rig import (
    BASE,
    FMB,
    SUMMARY,
    TABLES,
    VECTOR,
    GuestRig,
    HostForwardingRig,
    InterpretedRig,
    MachineRig,
    NestedInterpretedRig,
    NestedRig,
    Rig,
)

from pyvfio.pci import bell
from pyvfio.zpci import clp
from pyvfio.zpci.clp import ClpCode, SetOperation
from pyvfio.zpci.event import ErrorCode
from pyvfio.zpci.fib import Fib, FunctionControl
from pyvfio.zpci.fmb import Fmb
from pyvfio.zpci.instructions import CONFIG_SPACE, Answer, FunctionOperation, OperandException, Request, Status
from pyvfio.zpci.sic import SicOperation
from pyvfio.zpci.table import Designation, Iota
from pyvfio_backends.software.hardware.zpci.function import FunctionState

_HOST_FAULTS = "the host's IOMMU refuses the access; vfio tells the guest nothing of it"
GUEST = {
    "test_bad_dma_is_an_error_event_and_recovery_works": _HOST_FAULTS,
    "test_dma_without_an_address_space_is_an_error_event": _HOST_FAULTS,
}


_HOST_TOLD = "the machine tells the host's kernel of the error, which tells the guest nothing (6.12)"
INTERPRETED = {
    "test_a_vector_that_was_not_registered_is_an_error_event": _HOST_TOLD,
    "test_a_vector_outside_storage_is_an_error_event": "the host pins the vector when it is registered",
}
RIGS = {
    "machine": (MachineRig, {}),
    "guest": (GuestRig, GUEST),
    "interpreted": (InterpretedRig, GUEST | INTERPRETED),
    "host-forwards": (HostForwardingRig, GUEST | INTERPRETED),
    "nested": (NestedRig, GUEST),
    "nested-interpreted": (NestedInterpretedRig, GUEST),
}


@pytest.fixture(params=RIGS)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    kind, differences = RIGS[request.param]
    if request.node.originalname in differences:
        pytest.skip(differences[request.node.originalname])
    one = kind()
    yield one
    one.close()


@pytest.fixture
def on(rig: Rig) -> Rig:
    rig.enable()
    return rig


# ---- the call logical processor ----------------------------------------------------------------------------------


def test_list_tells_all_functions(rig: Rig) -> None:
    answer = rig.list()
    assert [(entry.fid, entry.configured, entry.vendor) for entry in answer.entries] == [
        (0x100, 1, bell.VENDOR_ID),
        (0x101, 1, bell.VENDOR_ID),
    ]
    assert (answer.resume_token, answer.uid_checking) == (0, True)


@pytest.mark.parametrize("kind", [MachineRig, GuestRig])
def test_list_goes_on_where_it_ended(kind: type[MachineRig]) -> None:
    rig = kind(functions=7)
    seen, token, rounds = [], 0, 0
    while True:
        answer = rig.list(token, room=32 + 2 * 16)
        seen += [entry.fid for entry in answer.entries]
        token, rounds = answer.resume_token, rounds + 1
        if not token:
            break
    assert seen == list(range(0x100, 0x107))
    assert rounds == 4
    rig.close()


@pytest.mark.parametrize(
    ("request_bytes", "room", "code"),
    [
        (clp.ListRequest(resume_token=99).to_bytes(), 4096, ClpCode.RESUME_TOKEN),
        (clp.ListRequest(fmt=1).to_bytes(), 4096, ClpCode.FORMAT),
        (clp.ListRequest(reserved=1).to_bytes(), 4096, ClpCode.RESERVED_NOT_ZERO),
        (clp.ListRequest(reserved2=1).to_bytes(), 4096, ClpCode.RESERVED_NOT_ZERO),
        (clp.ListRequest().to_bytes(), 40, ClpCode.NEEDS_8K),
        (clp.ListRequest().to_bytes(), 56, ClpCode.LENGTH),
        (clp.ListRequest(length=24).to_bytes()[:24], 4096, ClpCode.LENGTH),
        (clp.ListRequest(command=9).to_bytes(), 4096, ClpCode.COMMAND),
        (clp.QueryRequest(handle=0x20005).to_bytes(), 384, ClpCode.INVALID_HANDLE),
        (clp.QueryRequest(command=4, handle=0x55).to_bytes(), 64, ClpCode.UNKNOWN_GROUP),
    ],
)
def test_what_clp_refuses(rig: Rig, request_bytes: bytes, room: int, code: ClpCode) -> None:
    cc, answer = rig.cpu.clp(request_bytes, room)
    assert cc == (3 if room == 56 else 0)
    assert int.from_bytes(answer[2:4], "big") == code


@pytest.mark.parametrize(
    ("request_bytes", "room"),
    [(b"", 64), (bytes(15), 64), (bytes(32), 64), (clp.ListRequest().to_bytes(), 0), (clp.ListRequest().to_bytes(), 9),
     (clp.ListRequest(length=40).to_bytes(), 64), (clp.ListRequest().to_bytes(), 8192)],
)  # fmt: skip
def test_lengths_that_no_clp_has(rig: Rig, request_bytes: bytes, room: int) -> None:
    with pytest.raises(OperandException):
        rig.cpu.clp(request_bytes, room)


def test_query_tells_what_the_function_is(rig: Rig) -> None:
    fh = rig.list().entries[1].fh
    answer = clp.FunctionResponse.from_bytes(rig.cpu.clp(clp.QueryRequest(handle=fh).to_bytes(), 384)[1])
    assert (answer.fid, answer.uid, answer.pfgid) == (0x101, 0x61, 0xFF)
    assert tuple(answer.bar_sizes) == (12, 12, 0, 0, 0, 0)
    assert answer.sdma == BASE
    assert answer.edma > BASE + 0x1FFFFFFF  # a guest's is what its host's Linux uses
    group = rig.cpu.clp(clp.QueryRequest(command=4, handle=answer.pfgid).to_bytes(), 64)[1]
    assert (clp.GroupResponse.from_bytes(group).maxstbl, clp.GroupResponse.from_bytes(group).noi) == (128, 128)


def test_a_short_room_cuts_a_query(rig: Rig) -> None:
    fh = rig.list().entries[0].fh
    raw = rig.cpu.clp(clp.QueryRequest(handle=fh).to_bytes(), 64)[1]
    assert len(raw) == 64
    assert raw[:4] == b"\0\x40\0\x10"


def test_enable_and_disable(rig: Rig) -> None:
    fh = rig.list().entries[0].fh
    assert rig.set(fh, SetOperation.ENABLE, spaces=0)[0] == ClpCode.INVALID_DMA_SPACES
    assert rig.set(fh, SetOperation.ENABLE, spaces=2)[0] == ClpCode.INSUFFICIENT_RESOURCES
    assert rig.set(fh, SetOperation.DISABLE)[0] == ClpCode.HANDLE_NOT_FOR_OPERATION
    assert rig.set(fh, 77)[0] == ClpCode.HANDLE_NOT_FOR_OPERATION
    code, enabled = rig.set(fh, SetOperation.ENABLE)
    assert (code, enabled) == (ClpCode.OK, fh | 0x80000000)
    assert rig.set(fh, SetOperation.ENABLE)[0] == ClpCode.INVALID_HANDLE
    assert rig.set(enabled, SetOperation.ENABLE)[0] == ClpCode.HANDLE_NOT_FOR_OPERATION
    assert rig.set(enabled, SetOperation.DISABLE) == (ClpCode.OK, fh)


# ---- loads and stores --------------------------------------------------------------------------------------------


def test_bytes_come_in_the_order_in_which_they_lie(on: Rig) -> None:
    raw = (bell.DEVICE_ID << 16 | bell.VENDOR_ID).to_bytes(4, "little")
    assert on.cpu.pcilg(Request(on.fh, CONFIG_SPACE, 4), 0) == Answer(data=int.from_bytes(raw, "big"))
    on.store(0, bell.SOURCE, 8, 0x1122334455667788)
    assert on.cpu.pcilg(Request(on.fh, 0, 8), bell.SOURCE) == Answer(data=0x8877665544332211)
    assert on.load(0, bell.SOURCE, 4) == 0x55667788


@pytest.mark.parametrize("fh", [0, 0x80000077, 0x80020099, 0xFFFFFFFF])
def test_handles_that_name_nothing(on: Rig, fh: int) -> None:
    for answer in (
        on.cpu.pcilg(Request(fh, 15, 4), 0),
        on.cpu.pcistg(0, Request(fh, 15, 4), 0),
        on.cpu.pcistb(bytes(16), Request(fh, 0, 16), 0),
        on.cpu.mpcifc(fh, 0, 4, Fib()),
        on.cpu.rpcit(fh, BASE, 4096),
    ):
        assert answer == Answer(3)


def test_a_disabled_function_answers_nothing(on: Rig) -> None:
    enabled = on.fh
    disabled = on.set(enabled, SetOperation.DISABLE)[1]
    for fh in (enabled, disabled):
        assert on.cpu.pcilg(Request(fh, 15, 4), 0) == Answer(3)
    assert on.cpu.stpcifc(disabled, 0) == (Answer(), Fib())
    assert on.cpu.stpcifc(enabled, 0)[0] == Answer(3)


@pytest.mark.parametrize("space", [2, 5, 6, 14])
def test_spaces_that_are_not_there(on: Rig, space: int) -> None:
    assert on.cpu.pcilg(Request(on.fh, space, 4), 0) == Answer(1, Status.INVALID_ADDRESS_SPACE)
    assert on.cpu.pcistb(bytes(16), Request(on.fh, space, 16), 0) == Answer(1, Status.INVALID_ADDRESS_SPACE)


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 0), (0, 4), (0, 8), (0, 12), (4, 16), (0, 136), (0xFF8, 16), (1 << 20, 16)]
)
def test_store_blocks_that_are_wrong(on: Rig, offset: int, length: int) -> None:
    with pytest.raises(OperandException):
        on.cpu.pcistb(bytes(length), Request(on.fh, 0, length & 0xFF), offset)


def test_a_store_block_stores(on: Rig) -> None:
    block = (0x1234).to_bytes(8, "little") + (0x5678).to_bytes(8, "little")
    assert on.cpu.pcistb(block, Request(on.fh, 0, 16), bell.SOURCE) == Answer()
    assert (on.load(0, bell.SOURCE, 8), on.load(0, bell.TARGET, 8)) == (0x1234, 0x5678)


@pytest.mark.parametrize(("space", "length"), [(0, 24), (1, 72)])
def test_a_store_block_that_ends_where_nothing_answers_stores_nothing(space: int, length: int) -> None:
    """QEMU, too, looks at the whole block first (``hw/s390x/s390-pci-inst.c``, pcistb_service_call).

    VFIO drops what no register takes, so there is nothing of it in a guest.
    """
    rig = MachineRig()
    rig.enable()
    before = rig.load(space, 0, 8)
    with pytest.raises(OperandException):
        rig.cpu.pcistb(b"\x55" * length, Request(rig.fh, space, length), 0)
    assert rig.load(space, 0, 8) == before
    assert rig.cpu.pcistb(b"\x55" * (length - 8), Request(rig.fh, space, length - 8), 0) == Answer()


# ---- interruptions -----------------------------------------------------------------------------------------------


def bits(rig: Rig, address: int) -> list[int]:
    raw = int.from_bytes(rig.memory.read(address, 8), "big")
    return [bit for bit in range(64) if raw >> 63 - bit & 1]


def test_a_message_sets_its_bits_and_interrupts(on: Rig) -> None:
    on.interrupts_on()
    on.signal(2)
    assert (bits(on, VECTOR), bits(on, SUMMARY), on.interrupts) == ([8 + 2], [5], [3])


def test_without_a_summary_only_the_vector_is_set(on: Rig) -> None:
    on.interrupts_on(sum=0)
    on.signal(0)
    assert (bits(on, VECTOR), bits(on, SUMMARY), on.interrupts) == ([8], [], [3])


def test_single_mode_makes_one_and_loses_no_bit(on: Rig) -> None:
    on.interrupts_on()
    on.cpu.sic(SicOperation.SINGLE, 3)
    for vector in (0, 1, 3):
        on.signal(vector)
    assert on.interrupts == [3]
    assert bits(on, VECTOR) == [8, 9, 11]
    assert on.cpu.interruptions.suppressed[3] == 2
    on.cpu.sic(SicOperation.SINGLE, 3)
    on.signal(2)
    on.cpu.sic(SicOperation.ALL, 3)
    on.signal(2)
    on.signal(2)
    assert on.interrupts == [3] * 4


@pytest.mark.parametrize(("operation", "isc"), [(0, 8), (0, -1), (3, 0), (99, 0), (SicOperation.DIRECT, 0)])
def test_what_sic_refuses(on: Rig, operation: int, isc: int) -> None:
    with pytest.raises(OperandException):
        on.cpu.sic(operation, isc)


def test_registering_twice_is_out_of_sequence(on: Rig) -> None:
    on.interrupts_on()
    operation = FunctionOperation.REGISTER_INTERRUPTS
    assert on.cpu.mpcifc(on.fh, 0, operation, Fib(noi=1)) == Answer(1, Status.FUNCTION_ALREADY_ENABLED)
    assert on.cpu.mpcifc(on.fh, 0, FunctionOperation.DEREGISTER_INTERRUPTS, Fib()) == Answer()
    on.signal(0)
    assert on.interrupts == []
    assert on.cpu.mpcifc(on.fh, 0, FunctionOperation.DEREGISTER_INTERRUPTS, Fib()).cc == 1
    assert on.cpu.mpcifc(on.fh, 0, operation, Fib(noi=4000)) == Answer(1, Status.RESOURCE_NOT_AVAILABLE)


def test_a_vector_that_was_not_registered_is_an_error_event(on: Rig) -> None:
    on.interrupts_on(noi=2)
    on.signal(3)
    assert [(event.pec, event.vector) for event in on.errors] == [(ErrorCode.NO_MESSAGE_VECTOR, 3)]
    assert on.function().state is FunctionState.ERROR


def test_a_vector_outside_storage_is_an_error_event(on: Rig) -> None:
    on.interrupts_on(aibv=1 << 40)
    on.signal(0)
    assert [event.pec for event in on.errors] == [ErrorCode.BIT_VECTOR_ACCESS]
    assert on.interrupts == []


# ---- translation -------------------------------------------------------------------------------------------------


def test_dma_goes_through_the_tables(on: Rig) -> None:
    on.dma_on()
    on.map(0, 0x10000)
    on.map(1, 0x40000)
    on.map(5, 0x20000)
    on.memory.write(0x10FF0, bytes(range(16)))
    on.memory.write(0x40000, bytes(range(16, 32)))
    assert on.ring(BASE + 0xFF0, BASE + 0x5100, 32) == bell.BellStatus.DONE
    assert on.memory.read(0x20100, 32) == bytes(range(32))


def test_a_stale_entry_is_used_until_it_is_refreshed(on: Rig) -> None:
    on.dma_on()
    on.map(0, 0x10000)
    on.map(1, 0x11000)
    on.memory.write(0x10000, b"old page")
    on.memory.write(0x12000, b"new page")
    on.ring(BASE, BASE + 0x1000, 8)
    on.map(0, 0x12000, refresh=False)
    on.ring(BASE, BASE + 0x1000, 8)
    assert on.memory.read(0x11000, 8) == b"old page"
    assert on.cpu.rpcit(on.fh, BASE, 4096) == Answer()
    on.ring(BASE, BASE + 0x1000, 8)
    assert on.memory.read(0x11000, 8) == b"new page"


@pytest.mark.parametrize(
    ("source", "target", "code", "write"),
    [
        (BASE + 0x9000, BASE + 0x1000, ErrorCode.INVALID_TABLE_ENTRY, 0),
        (BASE, BASE + 0x2000, ErrorCode.TABLE_PROTECTED, 1),
        (BASE - 0x1000, BASE + 0x1000, ErrorCode.OUT_OF_RANGE, 0),
        (BASE, BASE + 0x100000, ErrorCode.OUT_OF_RANGE, 1),
        (BASE + 0x3000, BASE + 0x1000, ErrorCode.ADDRESS_PROTECTED, 0),
    ],
)
def test_bad_dma_is_an_error_event_and_recovery_works(
    on: Rig, source: int, target: int, code: ErrorCode, write: int
) -> None:
    on.dma_on()
    on.map(0, 0x10000)
    on.map(1, 0x11000)
    on.map(2, 0x12000, protected=True)
    on.map(3, 1 << 40)
    on.ring(source, target, 8)
    function = on.function()
    assert function.state is FunctionState.ERROR
    failing = target if write else source
    assert [(event.pec, event.write, event.address, event.fid) for event in on.errors] == [
        (code, write, failing, 0x100)
    ]
    assert on.cpu.pcilg(Request(on.fh, 15, 4), 0) == Answer(1, Status.BLOCKED)
    assert on.cpu.rpcit(on.fh, BASE, 4096) == Answer(1, Status.FUNCTION_NOT_AVAILABLE)
    stored = on.cpu.stpcifc(on.fh, 0)[1]
    assert stored.fc == (
        FunctionControl.ENABLED | FunctionControl.ERROR | FunctionControl.BLOCKED | FunctionControl.DMA_REGISTERED
    )
    assert on.cpu.mpcifc(on.fh, 0, FunctionOperation.RESET_BLOCK, Fib()) == Answer()
    assert on.load(15, 0, 2) == bell.VENDOR_ID
    assert on.cpu.stpcifc(on.fh, 0)[1].fc & FunctionControl.BLOCKED == 0
    assert on.cpu.mpcifc(on.fh, 0, FunctionOperation.RESET_BLOCK, Fib()).cc == 1
    assert on.cpu.mpcifc(on.fh, 0, FunctionOperation.RESET_ERROR, Fib()) == Answer()
    assert on.cpu.mpcifc(on.fh, 0, FunctionOperation.RESET_ERROR, Fib()).cc == 1
    assert on.ring(BASE, BASE + 0x1000, 8) == bell.BellStatus.DONE


def test_dma_without_an_address_space_is_an_error_event(on: Rig) -> None:
    on.store(CONFIG_SPACE, 4, 2, 6)
    on.ring(BASE, BASE, 8)
    assert [event.pec for event in on.errors] == [ErrorCode.INVALID_ADDRESS_SPACE]


@pytest.mark.parametrize(
    "fib",
    [
        Fib(pba=BASE, pal=BASE + (1 << 60), iota=Iota(TABLES).to_word()),
        Fib(pba=0, pal=BASE, iota=Iota(TABLES).to_word()),
        Fib(pba=BASE + 0x2000, pal=BASE, iota=Iota(TABLES).to_word()),
        Fib(pba=BASE, pal=BASE + 0xFFF, iota=Iota(TABLES, Designation.REGION_FIRST).to_word()),
        Fib(pba=BASE, pal=BASE + 0xFFF, iota=0),
        Fib(fmt=1, pba=BASE, pal=BASE + 0xFFF, iota=Iota(TABLES).to_word()),
    ],
)
def test_address_spaces_that_cannot_be(on: Rig, fib: Fib) -> None:
    with pytest.raises(OperandException):
        on.cpu.mpcifc(on.fh, 0, FunctionOperation.REGISTER_TRANSLATION, fib)
    assert on.cpu.stpcifc(on.fh, 0)[1].iota == 0


def test_registering_and_replacing_an_address_space(on: Rig) -> None:
    fib = Fib(pba=BASE, pal=BASE + 0xFFF, iota=Iota(TABLES).to_word())
    replace, register = FunctionOperation.REREGISTER_TRANSLATION, FunctionOperation.REGISTER_TRANSLATION
    assert on.cpu.mpcifc(on.fh, 1, register, fib) == Answer(1, Status.DMA_SPACE_NOT_ENABLED)
    assert on.cpu.mpcifc(on.fh, 0, replace, fib).cc == 1
    assert on.cpu.mpcifc(on.fh, 0, FunctionOperation.DEREGISTER_TRANSLATION, fib).cc == 1
    on.dma_on()
    assert on.cpu.mpcifc(on.fh, 0, register, fib).cc == 1
    with pytest.raises(OperandException):
        on.cpu.mpcifc(on.fh, 0, replace, Fib(pba=0, iota=fib.iota))
    assert on.cpu.stpcifc(on.fh, 0)[1].pal == BASE + 0xFFFFF
    assert on.cpu.mpcifc(on.fh, 0, replace, fib) == Answer()
    assert on.cpu.stpcifc(on.fh, 0)[1].pal == BASE + 0xFFF
    assert on.cpu.mpcifc(on.fh, 0, FunctionOperation.DEREGISTER_TRANSLATION, fib) == Answer()
    assert on.cpu.stpcifc(on.fh, 0)[1] == Fib(fc=FunctionControl.ENABLED)


@pytest.mark.parametrize("rest", [0, 0x3000, 0x600, 0x1E3])
def test_the_stored_anchor_is_the_one_that_was_registered(on: Rig, rest: int) -> None:
    """Also in bits that say nothing, as QEMU keeps it (``stpcifc_service_call``); the limits are whole pages."""
    on.tables()
    anchor = Iota(TABLES).to_word() | rest
    fib = Fib(pba=BASE + 5, pal=BASE + 0x1005, iota=anchor)
    assert on.cpu.mpcifc(on.fh, 0, FunctionOperation.REGISTER_TRANSLATION, fib) == Answer()
    stored = on.cpu.stpcifc(on.fh, 0)[1]
    assert isinstance(stored, Fib)
    assert (stored.iota, stored.pba, stored.pal) == (anchor, BASE, BASE + 0x1FFF)


@pytest.mark.parametrize(("start", "length"), [(0, 4096), (BASE + 0x100000, 4096), (1 << 63, 1 << 62)])
def test_a_refresh_outside_the_space_is_an_error_event(on: Rig, start: int, length: int) -> None:
    on.dma_on()
    assert on.cpu.rpcit(on.fh, start, length) == Answer(1, Status.FUNCTION_IN_ERROR)
    assert [event.pec for event in on.errors] == [ErrorCode.OUT_OF_RANGE]


def test_a_huge_refresh_takes_no_time(on: Rig) -> None:
    on.dma_on()
    on.map(0, 0x10000)
    on.ring(BASE, BASE, 8)
    assert on.cpu.rpcit(on.fh, BASE, (1 << 64) - 1 - BASE) == Answer()


def test_unknown_operations(on: Rig) -> None:
    for operation in (0, 1, 8, 11, 16, 255):
        with pytest.raises(OperandException):
            on.cpu.mpcifc(on.fh, 0, operation, Fib())


# ---- measurement -------------------------------------------------------------------------------------------------


def block(rig: Rig) -> Fmb:
    return Fmb.from_bytes(rig.memory.read(FMB, 128))


def measure(rig: Rig, address: int) -> Answer:
    return rig.cpu.mpcifc(rig.fh, 0, FunctionOperation.SET_MEASUREMENT, Fib(fmb=address))


def test_counters_come_once_an_interval(on: Rig) -> None:
    assert measure(on, FMB) == Answer()
    on.load(15, 0, 4)
    on.load(15, 4, 4)
    on.store(15, 4, 2, 6)
    assert block(on) == Fmb()
    assert on.work[-1][0] == pytest.approx(4.0)
    on.tick()
    now = block(on)
    assert (now.samples, now.loads, now.stores, now.updated & 1) == (1, 2, 1, 0)
    on.tick()
    assert block(on).samples == 2
    assert block(on).updated > now.updated
    assert measure(on, 0) == Answer()
    on.tick()
    assert block(on).samples == 2


def test_a_group_without_an_interval_has_its_blocks_never_updated() -> None:
    """Not at once, again and again: that would never end."""
    rig = MachineRig()
    rig.facility.functions[0x100].group = replace(rig.facility.functions[0x100].group, frame_update=0)
    rig.enable()
    assert measure(rig, FMB) == Answer()
    assert rig.work == []
    assert rig.cpu.stpcifc(rig.fh, 0)[1].fmb == FMB


@pytest.mark.parametrize(("address", "cc", "code"), [(1 << 40, 0, ErrorCode.MEASUREMENT_ADDRESS),
                                                      (FMB | 3, 1, ErrorCode.MEASUREMENT_PROTECTED)])  # fmt: skip
def test_a_block_that_cannot_be_is_reported_and_the_function_goes_on(
    on: Rig, address: int, cc: int, code: ErrorCode
) -> None:
    assert measure(on, address).cc == cc
    on.tick()
    assert [event.pec for event in on.errors] == [code]
    assert on.function().state is FunctionState.ENABLED
    assert on.work == []


# ---- a reset forgets everything ----------------------------------------------------------------------------------


def test_disabling_forgets_all_controls(on: Rig) -> None:
    on.interrupts_on()
    on.dma_on()
    measure(on, FMB)
    disabled = on.set(on.fh, SetOperation.DISABLE)[1]
    on.fh = on.set(disabled, SetOperation.ENABLE)[1]
    assert on.cpu.stpcifc(on.fh, 0) == (Answer(), Fib(fc=FunctionControl.ENABLED))
    on.tick()
    assert block(on) == Fmb()


def test_a_permanent_error(on: Rig) -> None:
    on.function().state = FunctionState.PERMANENT_ERROR
    assert on.cpu.pcilg(Request(on.fh, 15, 4), 0) == Answer(1, Status.BLOCKED)
    assert on.cpu.mpcifc(on.fh, 0, FunctionOperation.RESET_ERROR, Fib()) == Answer(3)
    assert on.cpu.stpcifc(on.fh, 0)[0] == Answer(1, Status.FUNCTION_IN_ERROR)
    assert on.set(on.fh, SetOperation.DISABLE)[0] == ClpCode.PERMANENT_ERROR


def test_a_function_taken_away(on: Rig) -> None:
    on.dma_on()
    on.unplug()
    nothing: Any = Answer(3)
    assert on.cpu.pcilg(Request(on.fh, 15, 4), 0) == nothing
    assert on.cpu.rpcit(on.fh, BASE, 4096) == nothing
    assert on.cpu.stpcifc(on.fh, 0)[0] == nothing
    assert [entry.fid for entry in on.list().entries] == [0x101]
