"""The formats of NVM Express: places as ``include/linux/nvme.h`` has them, and there and back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyvfio.nvme.commands import COMMAND_SIZE, COMPLETION_SIZE, Command, Completion
from pyvfio.nvme.features import ErrorEvent, EventType, event_result
from pyvfio.nvme.identity import (
    IDENTIFY_SIZE,
    ControllerIdentity,
    NamespaceIdentity,
    OptionalCommand,
    namespace_descriptors,
    namespace_list,
    parse_namespace_list,
)
from pyvfio.nvme.logs import ErrorEntry, Health, firmware_log
from pyvfio.nvme.registers import Capabilities, Configuration, doorbell
from pyvfio.nvme.status import DO_NOT_RETRY, Status


def field(data: bytes, at: int, width: int) -> int:
    return int.from_bytes(data[at : at + width], "little")


@given(st.binary(min_size=COMMAND_SIZE, max_size=COMMAND_SIZE))
def test_commands_there_and_back(data: bytes) -> None:
    kept = data[:1] + bytes((data[1] & 0xC3,)) + data[2:8] + bytes(8) + data[16:]
    assert Command.parse(data).pack() == kept, "all but what is reserved"


def test_where_the_parts_of_a_command_are() -> None:
    data = Command(0x02, 0x1234, 7, 0x1000, 0x2000, 10, 11, 12, 13, 14, 15, fused=1, sgl=2, metadata=9).pack()
    assert len(data) == 64
    assert (data[0], data[1], field(data, 2, 2), field(data, 4, 4)) == (2, 0x81, 0x1234, 7)
    assert [field(data, at, 8) for at in (16, 24, 32)] == [9, 0x1000, 0x2000]
    assert [field(data, at, 4) for at in range(40, 64, 4)] == [10, 11, 12, 13, 14, 15]
    command = Command(2, cdw10=5, cdw11=1, cdw12=0xFF0007)
    assert (command.lba, command.blocks) == (1 << 32 | 5, 8)


@given(st.binary(min_size=COMPLETION_SIZE, max_size=COMPLETION_SIZE))
def test_completions_there_and_back(data: bytes) -> None:
    assert Completion.parse(data).pack() == data[:4] + bytes(4) + data[8:]


def test_where_the_parts_of_a_completion_are() -> None:
    data = Completion(0x1234, Status.LBA_OUT_OF_RANGE | DO_NOT_RETRY, 5, 3, 9, 1).pack()
    assert (field(data, 0, 4), field(data, 8, 2), field(data, 10, 2), field(data, 12, 2)) == (5, 9, 3, 0x1234)
    assert field(data, 14, 2) == (0x4080 << 1 | 1)
    one = Completion.parse(data)
    assert (one.ok, one.code, one.final) == (False, Status.LBA_OUT_OF_RANGE, True)


def test_registers() -> None:
    assert Capabilities().value == 0x0040_0020_0F01_07FF, "as QEMU's, of the NVM command set"
    assert Capabilities.parse(Capabilities(stride=2, most_page=12).value) == Capabilities(stride=2, most_page=12)
    assert Configuration(True, submission_entry=6, completion_entry=4).value == 0x00460001
    assert Configuration.parse(0x0046_4081) == Configuration(True, 0, 13, 0, 1, 6, 4)
    assert [doorbell(0, completion=False), doorbell(1, completion=True), doorbell(1, completion=False, stride=1)] == [
        0x1000,
        0x100C,
        0x1010,
    ]


def test_identities() -> None:
    who = ControllerIdentity(
        0x1B36, 0x1AF4, "LAB0001", "a disk", "1.0", "nqn.x", version=0x10400, optional=OptionalCommand.COMPARE
    )
    data = who.pack()
    assert (len(data), field(data, 0, 2), data[4:24]) == (IDENTIFY_SIZE, 0x1B36, b"LAB0001".ljust(20))
    assert (data[77], data[111], data[512], data[513], field(data, 516, 4)) == (7, 1, 0x66, 0x44, 1)
    assert ControllerIdentity.parse(data) == who
    space = NamespaceIdentity(0x1000, 9, b"\x52\x54\x00\x01\x02\x03\x04\x05")
    data = space.pack()
    assert ([field(data, at, 8) for at in (0, 8, 16)], field(data, 128, 4)) == ([0x1000] * 3, 9 << 16)
    assert NamespaceIdentity.parse(data) == space
    assert NamespaceIdentity.parse(bytes(IDENTIFY_SIZE)) is None


def test_lists() -> None:
    assert parse_namespace_list(namespace_list([3, 1, 2])) == [1, 2, 3]
    assert len(parse_namespace_list(namespace_list(list(range(1, 2000))))) == 1024
    data = namespace_descriptors(eui64=bytes(8), uuid=bytes(range(16)))
    assert data[:20] == b"\x03\x10\0\0" + bytes(range(16))
    assert len(data) == IDENTIFY_SIZE


def test_logs() -> None:
    entry = ErrorEntry(3, 1, 0x22, 0x4080, lba=5, nsid=1)
    assert (len(entry.pack()), ErrorEntry.parse(entry.pack())) == (64, entry)
    data = Health(bytes_read=512_001, reads=3, errors=9).pack()
    assert (len(data), field(data, 1, 2), field(data, 32, 16), field(data, 64, 16), field(data, 176, 16)) == (
        512,
        323,
        2,
        3,
        9,
    )
    assert Health.parse(data).bytes_read == 1_024_000
    assert firmware_log("1.0")[8:16] == b"1.0     "
    assert event_result(EventType.ERROR, ErrorEvent.BAD_DOORBELL_VALUE, 1) == 0x10100
