"""SCLP for PCI functions: blocks that are too short or wrong, codes for each state, and the layout.

Sources: ``drivers/s390/char/sclp_pci.c`` and ``sclp.h`` of Linux (layout), ``hw/s390x/s390-pci-bus.c`` and
``include/hw/s390x/sclp.h`` of QEMU (codes).
"""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvfio.passthrough import GuestMemory, GuestPci
from pyvfio.zpci import sclp
from pyvfio.zpci.event_code import ErrorCode
from pyvfio.zpci.function import FunctionState
from pyvfio.zpci.sclp import AdapterSccb, ErrorNotification, ErrorReport, SclpCode, SclpCommand
from pyvfio_backends.software.description import FunctionSpec
from pyvfio_backends.software.hardware.zpci import ZpciFunction
from pyvfio_backends.software.hardware.zpci.facility import ZpciEvent, ZpciFacility
from pyvfio_backends.software.hardware.zpci.models import build_function

STATES = ("configured", "standby", "reserved")


def facility() -> ZpciFacility:
    return ZpciFacility(FunctionSpec(uid=n, fid=n, model="virtio-bell", state=state) for n, state in enumerate(STATES))


def guest() -> GuestPci:
    found = GuestPci(GuestMemory(0x1000))
    found.add(build_function(FunctionSpec(uid=9, fid=0, model="virtio-bell"), 0))
    found.add(build_function(FunctionSpec(uid=1, fid=1, model="virtio-bell"), 1))
    found.deconfigure(1)
    return found


def code_of(adapters: sclp.Adapters, command: int, block: bytes) -> int:
    answer = sclp.call(adapters, command, block)
    assert answer[:6] + answer[8:] == block[:6] + block[8:]
    return int.from_bytes(answer[6:8], "big")


class SccbHeader(ctypes.BigEndianStructure):
    _pack_ = 1
    _fields_ = [
        ("length", ctypes.c_uint16),
        ("function", ctypes.c_uint8),
        ("control", ctypes.c_uint8 * 3),
        ("code", ctypes.c_uint16),
    ]


class PciCfgSccb(ctypes.BigEndianStructure):
    """``struct pci_cfg_sccb``: header, u8 atype, u8 reserved1, u16 reserved2, u32 aid."""

    _pack_ = 1
    _fields_ = [
        ("header", SccbHeader),
        ("type", ctypes.c_uint8),
        ("reserved1", ctypes.c_uint8),
        ("reserved2", ctypes.c_uint16),
        ("fid", ctypes.c_uint32),
    ]


class ErrNotifySccb(ctypes.BigEndianStructure):
    """``struct err_notify_sccb``: header; u16 length, u8 type, u8 flags, u16; u8 action, u8 atype, u32 fh, u32 fid."""

    _pack_ = 1
    _fields_ = [
        ("header", SccbHeader),
        ("event_length", ctypes.c_uint16),
        ("event_type", ctypes.c_uint8),
        ("flags", ctypes.c_uint8),
        ("reserved", ctypes.c_uint16),
        ("action", ctypes.c_uint8),
        ("type", ctypes.c_uint8),
        ("fh", ctypes.c_uint32),
        ("fid", ctypes.c_uint32),
    ]


@pytest.mark.parametrize(("block", "layout"), [(AdapterSccb, PciCfgSccb), (ErrorNotification, ErrNotifySccb)])
@given(data=st.data())
def test_the_layout_is_the_kernels(block: type, layout: type, data: st.DataObject) -> None:
    size = ctypes.sizeof(layout)
    assert size == block.SIZE  # type: ignore[attr-defined]
    raw = data.draw(st.binary(min_size=size, max_size=size))
    found, expected = block.from_bytes(raw), layout.from_buffer_copy(raw)  # type: ignore[attr-defined]
    for name in ("type", "fid", "fh", "action", "event_length", "event_type", "flags"):
        assert getattr(found, name, None) == getattr(expected, name, None)
    assert (found.length, found.function, found.code) == (
        expected.header.length, expected.header.function, expected.header.code,
    )  # fmt: skip


def adapter(fid: int, **values: int) -> bytes:
    return AdapterSccb(**{"length": 4096, "type": sclp.ADAPTER_PCI, "fid": fid, **values}).to_bytes()


WRONG = {
    "no header": (SclpCommand.CONFIGURE_ADAPTER, adapter(1)[:15], SclpCode.TOO_SHORT),
    "short by its length": (SclpCommand.CONFIGURE_ADAPTER, adapter(1, length=15), SclpCode.TOO_SHORT),
    "another type": (SclpCommand.CONFIGURE_ADAPTER, adapter(1, type=3), SclpCode.UNKNOWN_ADAPTER_TYPE),
    "no such adapter": (SclpCommand.DECONFIGURE_ADAPTER, adapter(9), SclpCode.UNKNOWN_ADAPTER),
    "another command": (0x00020001, adapter(1), SclpCode.INVALID_COMMAND),
    "an event without a header": (SclpCommand.WRITE_EVENT_DATA, bytes(13), SclpCode.TOO_SHORT),
    "another event": (SclpCommand.WRITE_EVENT_DATA, bytes(24), SclpCode.INVALID_FUNCTION),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("make", [facility, guest])
def test_blocks_that_are_wrong(name: str, make: type) -> None:
    command, block, code = WRONG[name]
    adapters = make()
    assert code_of(adapters, command, block) == code
    assert adapters.adapter_state(1) is FunctionState.STANDBY


def test_a_block_without_room_for_a_code() -> None:
    assert sclp.call(facility(), SclpCommand.CONFIGURE_ADAPTER, b"1234567") == b"1234567"


CODES = {
    (SclpCommand.CONFIGURE_ADAPTER, 0): SclpCode.NOTHING_TO_DO,
    (SclpCommand.CONFIGURE_ADAPTER, 1): SclpCode.COMPLETED,
    (SclpCommand.CONFIGURE_ADAPTER, 2): SclpCode.ADAPTER_RESERVED,
    (SclpCommand.DECONFIGURE_ADAPTER, 0): SclpCode.COMPLETED,
    (SclpCommand.DECONFIGURE_ADAPTER, 1): SclpCode.NOTHING_TO_DO,
    (SclpCommand.DECONFIGURE_ADAPTER, 2): SclpCode.ADAPTER_RESERVED,
}


@pytest.mark.parametrize(("command", "fid"), CODES)
def test_codes_in_each_state(command: SclpCommand, fid: int) -> None:
    machine = facility()
    assert code_of(machine, command, adapter(fid)) == CODES[command, fid]


def test_a_guest_configures_by_sclp() -> None:
    found = guest()
    assert found.sclp(SclpCommand.CONFIGURE_ADAPTER, adapter(1))[6:8] == b"\x00\x20"
    assert found.adapter_state(1) is FunctionState.DISABLED
    function = found.function(1)
    assert isinstance(function, ZpciFunction)
    function.enable()
    assert found.sclp(SclpCommand.DECONFIGURE_ADAPTER, adapter(1))[6:8] == b"\x00\x20"
    assert found.adapter_state(1) is FunctionState.STANDBY


def report(data: bytes, **values: int) -> bytes:
    head = ErrorReport(1, sclp.ReportAction.INFORMATION, len(data)).notification(0x20000, 0)
    block = head.to_bytes() + data
    return block if not values else ErrorNotification(**{**_fields(head), **values}).to_bytes() + data


def _fields(head: ErrorNotification) -> dict[str, int]:
    return {name: getattr(head, name) for name in head.__dataclass_fields__}


def test_a_machine_that_takes_reports() -> None:
    machine = facility()
    assert code_of(machine, SclpCommand.WRITE_EVENT_DATA, report(b"words")) == SclpCode.INVALID_FUNCTION
    machine.takes_reports = True
    assert code_of(machine, SclpCommand.WRITE_EVENT_DATA, report(b"words")) == SclpCode.COMPLETED
    ((head, data),) = machine.reports
    assert (head.action, head.fh, head.fid, data) == (2, 0x20000, 0, b"words")
    for values, code in (
        ({"length": 23}, SclpCode.INCONSISTENT_LENGTHS),
        ({"length": 30}, SclpCode.INCONSISTENT_LENGTHS),
        ({"event_length": 5}, SclpCode.INCONSISTENT_LENGTHS),
        ({"type": 7}, SclpCode.UNKNOWN_ADAPTER_TYPE),
        ({"fid": 9}, SclpCode.UNKNOWN_ADAPTER),
        ({"fid": 2}, SclpCode.UNKNOWN_ADAPTER),
    ):
        assert code_of(machine, SclpCommand.WRITE_EVENT_DATA, report(b"words", **values)) == code
    assert len(machine.reports) == 1


def test_a_machine_that_is_asked_to_reset_a_function() -> None:
    machine = facility()
    machine.takes_reports = True
    events: list[ZpciEvent] = []
    machine.on_event = events.append
    fid = next(iter(machine.functions))
    function = machine.functions[fid]
    function.state = FunctionState.ENABLED
    for action, state in (
        (sclp.ReportAction.INFORMATION, FunctionState.ENABLED),
        (sclp.ReportAction.RESET, FunctionState.ERROR),
        (sclp.ReportAction.RESET, FunctionState.ERROR),  # it is in error already
    ):
        block = ErrorReport(1, action, 0).notification(function.fh, fid).to_bytes()
        assert code_of(machine, SclpCommand.WRITE_EVENT_DATA, block) == SclpCode.COMPLETED
        assert function.state is state
    assert [(event.code, event.fid) for event in events] == [(ErrorCode.SERVICE_ACTION, fid)]


@given(st.sampled_from([*SclpCommand, 0]), st.binary(max_size=64), st.booleans())
def test_whatever_a_guest_gives_it_gets_a_block_back(command: int, block: bytes, reports: bool) -> None:
    machine = facility()
    machine.takes_reports = reports
    answer = sclp.call(machine, command, block)
    assert len(answer) == len(block)
    assert len(block) < 8 or int.from_bytes(answer[6:8], "big") in tuple(SclpCode)
