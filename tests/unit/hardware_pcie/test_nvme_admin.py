"""Admin commands: NVM Express 1.4, chapter 5.  What is refused first, then what works."""

from __future__ import annotations

import pytest
from nvme_rig import DATA, NvmeHost, running

from pyvfio.nvme.commands import AdminOpcode, Command, IoOpcode
from pyvfio.nvme.features import Feature
from pyvfio.nvme.identity import ControllerIdentity, NamespaceIdentity, OptionalCommand, parse_namespace_list
from pyvfio.nvme.logs import ErrorEntry, Health
from pyvfio.nvme.status import Status
from pyvfio_backends.software.hardware.devices.nvme.controller import NvmeController
from pyvfio_backends.software.hardware.devices.nvme.storage import MemoryStorage, Namespace

PAIRS = 64


def three() -> NvmeHost:
    """Namespaces 1 and 3 of three."""
    disk = Namespace(MemoryStorage(0x8000), order=12, eui64=b"\x52\x54\x00\x12\x34\x56\x78\x9a", uuid=bytes(range(16)))
    host = NvmeHost(NvmeController([disk, None, Namespace(MemoryStorage(0x8000))], serial="LAB0001"))
    host.enable()
    return host


def refused(host: NvmeHost, command: Command, status: Status, queue: int = 0) -> None:
    one = host.do(command, queue)
    assert one.code == status, Status(one.code)
    assert one.final is not status.transient


def test_what_is_no_command() -> None:
    host = running()
    for opcode in (0x7F, 0x0D, 0x80, 0xC0, 0xFF):
        refused(host, Command(opcode), Status.INVALID_OPCODE)
        refused(host, Command(opcode, nsid=1), Status.INVALID_OPCODE, 1)
    refused(host, Command(AdminOpcode.IDENTIFY, prp1=DATA, cdw10=1, sgl=1), Status.INVALID_FIELD)
    refused(host, Command(IoOpcode.FLUSH, nsid=1, fused=1), Status.INVALID_FIELD, 1)


@pytest.mark.parametrize(
    ("opcode", "cdw10", "cdw11", "prp1", "status"),
    [
        (AdminOpcode.CREATE_CQ, 3 << 16, 1, 0x8000, Status.INVALID_QUEUE_ID),
        (AdminOpcode.CREATE_CQ, 3 << 16 | 1, 1, 0x8000, Status.INVALID_QUEUE_ID),
        (AdminOpcode.CREATE_CQ, 3 << 16 | PAIRS + 1, 1, 0x8000, Status.INVALID_QUEUE_ID),
        (AdminOpcode.CREATE_CQ, 2, 1, 0x8000, Status.INVALID_QUEUE_SIZE),
        (AdminOpcode.CREATE_CQ, 2048 << 16 | 2, 1, 0x8000, Status.INVALID_QUEUE_SIZE),
        (AdminOpcode.CREATE_CQ, 3 << 16 | 2, 1, 0x8010, Status.PRP_OFFSET_INVALID),
        (AdminOpcode.CREATE_CQ, 3 << 16 | 2, 0, 0x8000, Status.INVALID_FIELD),
        (AdminOpcode.CREATE_CQ, 3 << 16 | 2, PAIRS + 1 << 16 | 1, 0x8000, Status.INVALID_VECTOR),
        (AdminOpcode.CREATE_CQ, 3 << 16 | 2, 1 << 16 | 1, 0x8000, Status.INVALID_VECTOR),
        (AdminOpcode.CREATE_SQ, 3 << 16 | 1, 1 << 16 | 1, 0x8000, Status.INVALID_QUEUE_ID),
        (AdminOpcode.CREATE_SQ, 3 << 16 | 2, 2 << 16 | 1, 0x8000, Status.COMPLETION_QUEUE_INVALID),
        (AdminOpcode.CREATE_SQ, 3 << 16 | 2, 1, 0x8000, Status.INVALID_QUEUE_ID),
        (AdminOpcode.CREATE_SQ, 3 << 16 | 2, 1 << 16, 0x8000, Status.INVALID_FIELD),
        (AdminOpcode.CREATE_SQ, 3 << 16 | 2, 1 << 16 | 1, 0x8004, Status.PRP_OFFSET_INVALID),
        (AdminOpcode.DELETE_SQ, 0, 0, 0, Status.INVALID_QUEUE_ID),
        (AdminOpcode.DELETE_SQ, 2, 0, 0, Status.INVALID_QUEUE_ID),
        (AdminOpcode.DELETE_CQ, 0, 0, 0, Status.INVALID_QUEUE_ID),
        (AdminOpcode.DELETE_CQ, 2, 0, 0, Status.INVALID_QUEUE_ID),
        (AdminOpcode.DELETE_CQ, 1, 0, 0, Status.INVALID_QUEUE_DELETION),
    ],
)
def test_queues_that_cannot_be(opcode: int, cdw10: int, cdw11: int, prp1: int, status: Status) -> None:
    host = running()
    refused(host, Command(opcode, cdw10=cdw10, cdw11=cdw11, prp1=prp1), status)
    assert (sorted(host.device.submissions), sorted(host.device.completions)) == ([0, 1], [0, 1])


def test_queues_come_and_go() -> None:
    host = running()
    for _ in range(3):
        assert host.do(Command(AdminOpcode.DELETE_SQ, cdw10=1)).ok
        assert host.do(Command(AdminOpcode.DELETE_CQ, cdw10=1)).ok
        host.create_queue(1)
        assert host.io(IoOpcode.FLUSH, 0, 1).ok


def test_identify() -> None:
    host = three()
    for what, nsid, status in (
        (0x00, 0, Status.INVALID_NAMESPACE),
        (0x00, 4, Status.INVALID_NAMESPACE),
        (0x00, 0xFFFFFFFF, Status.INVALID_NAMESPACE),
        (0x02, 0xFFFFFFFE, Status.INVALID_NAMESPACE),
        (0x03, 0, Status.INVALID_NAMESPACE),
        (0x03, 2, Status.INVALID_FIELD),
        (0x7F, 1, Status.INVALID_FIELD),
    ):
        refused(host, Command(AdminOpcode.IDENTIFY, nsid=nsid, cdw10=what, prp1=DATA), status)

    def ask(what: int, nsid: int = 0) -> bytes:
        assert host.do(Command(AdminOpcode.IDENTIFY, nsid=nsid, cdw10=what, prp1=DATA)).ok
        return bytes(host.memory[DATA : DATA + 0x1000])

    who = ControllerIdentity.parse(ask(1))
    assert (who.serial, who.namespaces, who.transfer, who.version) == ("LAB0001", 3, 7, 0x10400)
    assert who.optional == sum(OptionalCommand) - OptionalCommand.WRITE_UNCORRECTABLE
    assert parse_namespace_list(ask(2)) == [1, 3]
    assert parse_namespace_list(ask(2, 1)) == [3]
    disk = NamespaceIdentity.parse(ask(0, 1))
    assert disk == NamespaceIdentity(8, 12, b"\x52\x54\x00\x12\x34\x56\x78\x9a")
    assert NamespaceIdentity.parse(ask(0, 2)) is None
    assert ask(3, 1)[12:32] == b"\x03\x10\0\0" + bytes(range(16))


def get(host: NvmeHost, feature: int, select: int = 0, cdw11: int = 0, nsid: int = 0) -> int:
    one = host.do(Command(AdminOpcode.GET_FEATURES, nsid=nsid, cdw10=select << 8 | feature, cdw11=cdw11))
    assert one.ok
    return one.result


def test_features_that_cannot_be() -> None:
    host = three()
    given, asked = AdminOpcode.SET_FEATURES, AdminOpcode.GET_FEATURES
    for opcode, cdw10, cdw11, nsid, status in (
        (asked, 0x00, 0, 0, Status.INVALID_FIELD),
        (asked, 0x7F, 0, 0, Status.INVALID_FIELD),
        (asked, 4 << 8 | 6, 0, 0, Status.INVALID_FIELD),
        (asked, Feature.VECTOR, 65, 0, Status.INVALID_FIELD),
        (asked, Feature.ERROR_RECOVERY, 0, 2, Status.INVALID_NAMESPACE),
        (given, 0xC0, 0, 0, Status.INVALID_FIELD),
        (given, 1 << 31 | Feature.WRITE_CACHE, 0, 0, Status.FEATURE_NOT_SAVEABLE),
        (given, Feature.WRITE_CACHE, 0, 1, Status.FEATURE_NOT_OF_NAMESPACE),
        (given, Feature.WRITE_CACHE, 0, 2, Status.INVALID_NAMESPACE),
        (given, Feature.POWER, 1, 0, Status.INVALID_FIELD),
        (given, Feature.QUEUES, 0xFFFF, 0, Status.INVALID_FIELD),
        (given, Feature.QUEUES, 0xFFFF << 16, 0, Status.INVALID_FIELD),
    ):
        refused(host, Command(opcode, nsid=nsid, cdw10=cdw10, cdw11=cdw11), status)
    with_queues = running()
    refused(with_queues, Command(given, cdw10=Feature.QUEUES, cdw11=0), Status.SEQUENCE_ERROR)


def test_features() -> None:
    host = three()
    assert host.do(Command(AdminOpcode.SET_FEATURES, cdw10=Feature.QUEUES, cdw11=3 << 16 | 3)).result == 63 << 16 | 63
    assert get(host, Feature.WRITE_CACHE) == 1
    assert host.do(Command(AdminOpcode.SET_FEATURES, cdw10=Feature.WRITE_CACHE, cdw11=0)).ok
    assert [get(host, Feature.WRITE_CACHE, select) for select in range(4)] == [0, 1, 1, 4]
    assert [get(host, Feature.VECTOR, cdw11=vector) for vector in (0, 5)] == [1 << 16, 5]
    assert host.do(Command(AdminOpcode.SET_FEATURES, cdw10=Feature.VECTOR, cdw11=1 << 16 | 5)).ok
    assert get(host, Feature.VECTOR, cdw11=5) == 1 << 16 | 5
    assert [get(host, Feature.TEMPERATURE, cdw11=low << 20) for low in (0, 1)] == [343, 0]
    recovery = Command(AdminOpcode.SET_FEATURES, nsid=0xFFFFFFFF, cdw10=Feature.ERROR_RECOVERY, cdw11=9)
    assert host.do(recovery).ok
    assert [get(host, Feature.ERROR_RECOVERY, nsid=nsid) for nsid in (1, 3)] == [9, 9]
    host.store(0x14, 0)
    host.enable()
    assert get(host, Feature.WRITE_CACHE) == 1, "a controller reset brings them back"


def test_logs() -> None:
    host = running()
    log = AdminOpcode.GET_LOG_PAGE
    refused(host, Command(log, prp1=DATA, cdw10=0x7F), Status.INVALID_LOG_PAGE)
    refused(host, Command(log, prp1=DATA, cdw10=2, cdw12=2), Status.INVALID_FIELD)
    refused(host, Command(log, prp1=DATA, cdw10=2, cdw13=1), Status.INVALID_FIELD)
    refused(host, Command(log, nsid=1, prp1=DATA, cdw10=2), Status.INVALID_FIELD)
    last = host.next_id
    assert host.do(Command(log, prp1=DATA, cdw10=0xFF << 16 | 1)).ok
    entries = [ErrorEntry.parse(bytes(host.memory[DATA + at : DATA + at + 64])) for at in range(0, 256, 64)]
    assert [one.count for one in entries] == [4, 3, 2, 1]
    assert (entries[0].command, entries[0].queue, entries[0].nsid) == (last, 0, 1)
    assert host.io(IoOpcode.READ, 0, 3).ok
    assert host.do(Command(log, nsid=0xFFFFFFFF, prp1=DATA, cdw10=127 << 16 | 2)).ok
    health = Health.parse(bytes(host.memory[DATA : DATA + 512]))
    assert (health.reads, health.bytes_read, health.errors, health.temperature) == (1, 512_000, 4, 323)
    host.memory[DATA : DATA + 16] = b"x" * 16
    assert host.do(Command(log, prp1=DATA, cdw10=1 << 16 | 3, cdw12=8)).ok
    assert host.memory[DATA : DATA + 16] == b"1.0     xxxxxxxx"


def test_abort() -> None:
    host = running()
    waiting = host.put(0, Command(AdminOpcode.ASYNC_EVENT))
    assert host.do(Command(AdminOpcode.ABORT, cdw10=99 << 16)).result == 1
    assert host.do(Command(AdminOpcode.ABORT, cdw10=waiting << 16 | 1)).result == 1
    done = host.put(0, Command(AdminOpcode.ABORT, cdw10=waiting << 16))
    assert {one.id: (one.code, one.result) for one in host.take(0)} == {
        waiting: (Status.ABORT_REQUESTED, 0),
        done: (Status.SUCCESS, 0),
    }
