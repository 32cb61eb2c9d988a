"""The blocks of PCI on IBM Z: whatever fits survives bytes and back, what does not is refused, known bytes decode."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvfio.errors import Misuse
from pyvfio.zpci import clp, event, sclp, sic
from pyvfio.zpci.block import BigBlock
from pyvfio.zpci.fib import DirectedFib, Fib, FunctionControl
from pyvfio.zpci.fmb import DMA_COUNTERS_VALID, Fmb
from pyvfio.zpci.handle import FunctionHandle, Sharing
from pyvfio.zpci.instructions import Request
from pyvfio.zpci.table import Iota

#: Sizes that `sizeof` gives for the structures of arch/s390/include/asm/pci_insn.h and pci_clp.h.
SIZES: dict[type[BigBlock], int] = {
    FunctionHandle: 4,
    Fib: 80,
    DirectedFib: 80,
    Fmb: 128,
    Request: 8,
    clp.ClpRequest: 16,
    clp.ListRequest: 32,
    clp.QueryRequest: 32,
    clp.SetRequest: 32,
    clp.HandleEntry: 16,
    clp.FunctionResponse: 384,
    clp.GroupResponse: 64,
    clp.SetResponse: 160,
    event.ErrorEvent: 32,
    event.AvailabilityEvent: 32,
    sic.DirectedBlock: 32,
    sic.ProcessorBlock: 40,
    sic.ForwardingBlock: 24,
    sclp.AdapterSccb: 16,
    sclp.ErrorNotification: 24,
    sclp.ErrorReport: 4,
}


@pytest.mark.parametrize("kind", SIZES, ids=lambda kind: kind.__name__)
def test_size_is_the_headers(kind: type[BigBlock]) -> None:
    assert len(kind().to_bytes()) == kind.SIZE == SIZES[kind]
    with pytest.raises(Misuse, match=f"{kind.SIZE} bytes, not {kind.SIZE + 1}"):
        kind.from_bytes(bytes(kind.SIZE + 1))


@pytest.mark.parametrize("kind", SIZES, ids=lambda kind: kind.__name__)
def test_every_field_has_bits_of_its_own(kind: type[BigBlock]) -> None:
    seen = 0
    for field in fields(kind):
        place = field.metadata["place"]
        value: Any = (1 << place.width) - 1
        if place.make is bytes:
            value = b"\xff" * (place.width // 8)
        blank: dict[str, Any] = {
            other.name: bytes(other.metadata["place"].width // 8) if other.metadata["place"].make is bytes else 0
            for other in fields(kind)
        }
        bits = int.from_bytes(kind(**blank | {field.name: value}).to_bytes(), "big")
        assert bits.bit_count() == place.width
        assert bits & seen == 0, field.name
        seen |= bits


@pytest.mark.parametrize("kind", SIZES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_bytes_and_back(kind: type[BigBlock], data: st.DataObject) -> None:
    block = kind.from_bytes(data.draw(st.binary(min_size=kind.SIZE, max_size=kind.SIZE)))
    assert kind.from_bytes(block.to_bytes()) == block
    assert str(block)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Fib(isc=8),
        lambda: Fib(pba=-1),
        lambda: Fib(noi=1 << 12),
        lambda: FunctionHandle(index=1 << 16),
        lambda: clp.GroupResponse(maxstbl=1 << 13),
        lambda: clp.FunctionResponse(utility=b"short"),
        lambda: clp.FunctionResponse(bar_sizes=bytes(7)),
        lambda: Request(space=256),
    ],
)
def test_what_does_not_fit_is_refused(build: Any) -> None:
    with pytest.raises(Misuse):
        build().to_bytes()


def test_a_fib_as_the_kernel_registers_interrupts() -> None:
    """``zpci_set_airq`` puts these numbers there; the bytes are those of the s390x compiler for struct zpci_fib."""
    fib = Fib(isc=2, noi=8, aibvo=5, sum=1, aisbo=7, aibv=0x1234000, aisb=0x5678000)
    raw = fib.to_bytes()
    assert raw[40:44].hex() == "20080587"
    assert raw[48:64].hex() == "00000000012340000000000005678000"
    assert str(fib) == "FIB disabled; 8 interrupts of subclass 2 at 0x1234000 bit 5 summary 0x5678000 bit 7"


def test_a_fib_says_its_state() -> None:
    stored = Fib.from_bytes(bytes(8) + b"\xb0" + bytes(71))
    assert stored.fc == FunctionControl.ENABLED | FunctionControl.BLOCKED | FunctionControl.DMA_REGISTERED
    assert str(stored) == "FIB enabled, blocked, dma registered"
    measured = Fib(fmb=0x10000 | 3)
    assert (measured.fmb_address, measured.fmb_key) == (0x10000, 3)


def test_handles() -> None:
    handle = FunctionHandle.from_word(0x81020003)
    assert (handle.enabled, handle.instance, handle.sharing, handle.index) == (1, 1, Sharing.EMULATED, 3)
    assert handle.to_word() == 0x81020003
    assert str(handle) == "81020003 (enabled, emulated, instance 1, index 3)"


def test_a_request_is_the_register_of_pci_load() -> None:
    """``ZPCI_CREATE_REQ``: handle, address space and length."""
    assert Request(0x80020001, 15, 4).to_word() == 0x80020001_000F0004
    assert Request.from_word(0x80020001_28010008) == Request(0x80020001, 1, 8)


def test_a_list_with_its_entries() -> None:
    entries = (clp.HandleEntry(0x1001, 0x1AF4, 1, 0x102, 0x80020001), clp.HandleEntry(0x04ED, 0x1014, 0, 7, 0x20002))
    answer = clp.ListResponse(entries, resume_token=2, max_functions=64, uid_checking=True)
    raw = answer.to_bytes()
    assert len(raw) == 64
    assert raw[:2] == b"\0\x40"
    assert raw[30:32] == b"\x01\x10"
    assert raw[32:48].hex() == "10011af4800000000000010280020001"
    assert clp.ListResponse.from_bytes(raw + bytes(4000)) == answer


@pytest.mark.parametrize(
    "raw", [bytes(31), bytes.fromhex("00410010") + bytes(28), bytes.fromhex("00000010") + bytes(60)]
)
def test_a_list_that_contradicts_itself_is_refused(raw: bytes) -> None:
    with pytest.raises(Misuse):
        clp.ListResponse.from_bytes(raw)


def test_a_refused_list_has_its_code() -> None:
    raw = bytes.fromhex("0020010a") + bytes(28)
    assert clp.ListResponse.from_bytes(raw).code == clp.ClpCode.RESUME_TOKEN
    assert clp.response_name(0x010A) == "0x010a unknown resume token"
    assert clp.response_name(0x0108) == "0x0108 busy"
    assert clp.response_name(0x7777) == "response code 0x7777"


def test_bars_are_little_endian_and_the_utility_string_is_ebcdic() -> None:
    answer = clp.FunctionResponse(
        bars=bytes.fromhex("0c000000 00000080") + bytes(16),
        utility="PYVFIO".encode("cp037").ljust(64, b"\0"),
        utility_available=1,
    )
    assert answer.bar_values[:2] == (0x0C, 0x80000000)
    assert answer.utility_text == "PYVFIO"
    assert clp.FunctionResponse(utility=answer.utility).utility_text == ""


def test_counters_of_a_measurement_block() -> None:
    assert "DMA bytes read" not in Fmb(first=5).counters
    assert Fmb(indicators=DMA_COUNTERS_VALID, first=5, second=6).counters["DMA bytes written"] == 6
    assert Fmb(fmt=1, third=9).counters["bytes sent"] == 9
    assert list(Fmb(fmt=9).counters) == ["loads", "stores", "store blocks", "refreshes"]


def test_events_in_words() -> None:
    assert str(event.AvailabilityEvent(0x20001, 0x102, 0x0303)) == (
        "function 00000102 (handle 00020001): deconfiguration requested"
    )
    assert event.event_name(0x3B) == "permanent error"
    assert event.event_name(0x999) == "event 0x0999"
    error = event.ErrorEvent.from_bytes(bytes(12) + bytes.fromhex("1005ff03") + bytes(14) + b"\0\x07")
    assert (error.ett, error.vector, error.space, error.qualified, error.write) == (1, 5, 0xFF, 1, 1)


@given(st.integers(0, (1 << 64) - 1))
def test_an_anchor_survives(word: int) -> None:
    anchor = Iota.from_word(word)
    assert Iota.from_word(anchor.to_word()) == anchor


def test_the_anchor_that_linux_registers() -> None:
    anchor = Iota.from_word(0x12340000 | 0x800 | 1 << 2)
    assert (anchor.origin, anchor.designation, anchor.enabled, anchor.direct) == (0x12340000, 1, True, False)
    assert Iota.from_word(0).direct
    assert str(Iota.from_word(0)) == "no translation"
