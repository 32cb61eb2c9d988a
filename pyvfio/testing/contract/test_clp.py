"""``/dev/clp``: what the logical processor tells, beside sysfs; and each thing that the kernel refuses."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from pyvfio.abi import clp as abi
from pyvfio.backend import Backend
from pyvfio.process import AnonymousMemory
from pyvfio.testing.attributes import Attributes
from pyvfio.zpci import clp

FUNCTIONS = "/sys/bus/pci/devices"
QUERY, GROUP = clp.ClpCommand.QUERY_PCI_FUNCTION, clp.ClpCommand.QUERY_PCI_FUNCTION_GROUP


@pytest.fixture
def node(backend: Backend) -> Iterator[int]:
    try:
        fd = backend.open("/dev/clp", os.O_RDWR)
    except FileNotFoundError:
        pytest.skip("this host has no /dev/clp")
    yield fd
    backend.close(fd)


@pytest.fixture
def page() -> Iterator[AnonymousMemory]:
    with AnonymousMemory(abi.CLP_PAGE) as memory:
        yield memory


class Asker:
    def __init__(self, backend: Backend, node: int, page: AnonymousMemory) -> None:
        self.backend, self.node, self.page = backend, node, page

    def ask(
        self, request: bytes, *, room: int | None = None, first: int = abi.LPS_PCI, place: int | None = None
    ) -> bytes:
        """The response to a request, in `room` bytes; `first` and `place` go into the call's own block."""
        view = self.page.view
        view[:] = bytes(len(view))
        view[: len(request)] = request
        room = len(view) - len(request) if room is None else room
        view[len(request) : len(request) + 2] = room.to_bytes(2, "big")
        block = abi.CLP_REQ.pack(first, 0, 0, 0, self.page.address if place is None else place)
        self.backend.ioctl(self.node, abi.CLP_SYNC, bytearray(block))
        return bytes(view[len(request) :])

    def refused(self, request: bytes, **how: int) -> int | None:
        with pytest.raises(OSError) as caught:
            self.ask(request, **how)
        return caught.value.errno

    def code(self, request: bytes, **how: int) -> int:
        return int.from_bytes(self.ask(request, **how)[2:4], "big")

    def entries(self) -> tuple[clp.HandleEntry, ...]:
        return clp.ListResponse.from_bytes(self.ask(clp.ListRequest().to_bytes())).entries


@pytest.fixture
def asker(backend: Backend, node: int, page: AnonymousMemory) -> Asker:
    return Asker(backend, node, page)


@pytest.fixture
def entry(asker: Asker) -> clp.HandleEntry:
    found = [entry for entry in asker.entries() if entry.configured]
    if not found:
        pytest.skip("this host has no configured function")
    return found[0]


def by_fid(backend: Backend, sysfs: Attributes) -> dict[int, str]:
    paths = [f"{FUNCTIONS}/{name}" for name in backend.listdir(FUNCTIONS)]
    return {int(sysfs.read(f"{path}/function_id"), 16): path for path in paths}


def test_list_has_the_functions_of_sysfs(backend: Backend, sysfs: Attributes, asker: Asker) -> None:
    known = by_fid(backend, sysfs)
    configured = {entry.fid: entry for entry in asker.entries() if entry.configured}
    assert set(configured) == set(known)
    for fid, path in known.items():
        entry = configured[fid]
        assert entry.fh == int(sysfs.read(f"{path}/function_handle"), 16)
        assert entry.vendor == int(sysfs.read(f"{path}/vendor"), 16)
        assert entry.device == int(sysfs.read(f"{path}/device"), 16)


def test_list_says_how_long_it_is(asker: Asker) -> None:
    answer = asker.ask(clp.ListRequest().to_bytes())
    length = int.from_bytes(answer[:2], "big")
    assert (length - 32) % 16 == 0
    assert answer[31] == 16
    assert not any(answer[length:])


def test_list_in_pieces(asker: Asker) -> None:
    whole, token = asker.entries(), 0
    seen: list[clp.HandleEntry] = []
    while True:
        piece = clp.ListResponse.from_bytes(asker.ask(clp.ListRequest(resume_token=token).to_bytes(), room=48))
        assert len(piece.entries) == 1
        seen += piece.entries
        token = piece.resume_token
        if not token:
            break
    assert tuple(seen) == whole


def test_uid_checking_is_that_of_sysfs(
    sysfs: Attributes, backend: Backend, asker: Asker, entry: clp.HandleEntry
) -> None:
    answer = clp.ListResponse.from_bytes(asker.ask(clp.ListRequest().to_bytes()))
    path = by_fid(backend, sysfs)[entry.fid]
    assert answer.uid_checking == bool(int(sysfs.read(f"{path}/uid_is_unique")))


def test_query_is_what_sysfs_says(backend: Backend, sysfs: Attributes, asker: Asker, entry: clp.HandleEntry) -> None:
    raw = asker.ask(clp.QueryRequest(handle=entry.fh).to_bytes())
    answer = clp.FunctionResponse.from_bytes(raw[: clp.FunctionResponse.SIZE])
    path = by_fid(backend, sysfs)[entry.fid]
    assert answer.code == clp.ClpCode.OK
    for name in ("pchid", "pfgid", "pft", "vfn", "uid"):
        assert getattr(answer, name) == int(sysfs.read(f"{path}/{name}"), 16), name
    assert answer.fid == entry.fid
    assert list(answer.pfip) == [int(sysfs.read(f"{path}/pfip/segment{n}"), 16) for n in range(4)]


def test_query_has_the_sizes_of_the_bars(
    backend: Backend, sysfs: Attributes, asker: Asker, entry: clp.HandleEntry
) -> None:
    raw = asker.ask(clp.QueryRequest(handle=entry.fh).to_bytes())
    answer = clp.FunctionResponse.from_bytes(raw[: clp.FunctionResponse.SIZE])
    path = by_fid(backend, sysfs)[entry.fid]
    for order, line in zip(answer.bar_sizes, sysfs.read(f"{path}/resource").splitlines(), strict=False):
        start, end, _flags = (int(word, 16) for word in line.split())
        if end:  # Linux gives a BAR in I/O space no addresses
            assert 1 << order == end - start + 1


def test_linux_takes_a_part_of_the_dma_addresses(
    backend: Backend, sysfs: Attributes, asker: Asker, entry: clp.HandleEntry
) -> None:
    """The hardware tells more than the host has storage for; what Linux does not use is reserved for its group."""
    raw = asker.ask(clp.QueryRequest(handle=entry.fh).to_bytes())
    answer = clp.FunctionResponse.from_bytes(raw[: clp.FunctionResponse.SIZE])
    regions = sysfs.read(f"{by_fid(backend, sysfs)[entry.fid]}/iommu_group/reserved_regions").splitlines()
    below, above = ([int(word, 16) for word in line.split()[:2]] for line in regions)
    assert below == [0, answer.sdma - 1]
    assert answer.sdma < above[0] - 1 <= answer.edma


def test_group(asker: Asker, backend: Backend, sysfs: Attributes, entry: clp.HandleEntry) -> None:
    pfgid = int(sysfs.read(f"{by_fid(backend, sysfs)[entry.fid]}/pfgid"), 16)
    raw = asker.ask(clp.QueryRequest(command=GROUP, handle=pfgid).to_bytes())
    answer = clp.GroupResponse.from_bytes(raw[: clp.GroupResponse.SIZE])
    assert answer.code == clp.ClpCode.OK
    assert answer.noi > 0
    assert answer.maxstbl >= 64
    assert answer.dtsm & 0x40


@pytest.mark.parametrize(
    ("request_block", "code"),
    [
        (clp.ListRequest(resume_token=0x7FFF), clp.ClpCode.RESUME_TOKEN),
        (clp.QueryRequest(handle=0x7FFF), clp.ClpCode.INVALID_HANDLE),
        (clp.QueryRequest(handle=0), clp.ClpCode.INVALID_HANDLE),
        (clp.QueryRequest(command=GROUP, handle=0x7E), clp.ClpCode.UNKNOWN_GROUP),
    ],
    ids=["token", "handle", "handle 0", "group"],
)
def test_what_is_not_there(asker: Asker, request_block: clp.ListRequest | clp.QueryRequest, code: int) -> None:
    assert asker.code(request_block.to_bytes()) == code


@pytest.mark.parametrize(("room", "code"), [(40, clp.ClpCode.NEEDS_8K), (16, clp.ClpCode.NEEDS_8K)])
def test_a_list_needs_room(asker: Asker, room: int, code: int) -> None:
    assert asker.code(clp.ListRequest().to_bytes(), room=room) == code


@pytest.mark.parametrize("room", [0, 4, 41, 56])
def test_rooms_that_the_instruction_does_not_take(asker: Asker, room: int) -> None:
    assert asker.refused(clp.ListRequest().to_bytes(), room=room) == errno.EOPNOTSUPP


@pytest.mark.parametrize(
    "request_bytes",
    [
        clp.SetRequest(handle=0x80020000, operation=1, dma_spaces=1).to_bytes(),
        clp.ListRequest(command=9).to_bytes(),
        clp.ListRequest(length=40).to_bytes(),
        clp.ListRequest(length=0).to_bytes(),
        clp.ListRequest(fmt=1).to_bytes(),
        clp.ListRequest(reserved=1).to_bytes(),
        clp.ListRequest(reserved2=1).to_bytes(),
        clp.ListRequest().to_bytes()[:24] + b"\1" * 8,
        clp.QueryRequest().to_bytes()[:20] + b"\1" * 12,
        clp.QueryRequest(command=GROUP, handle=0x100).to_bytes(),
    ],
    ids=["set", "unknown", "length 40", "length 0", "format", "reserved", "reserved 2", "list's", "query's", "group's"],
)
def test_requests_that_the_kernel_does_not_pass_on(asker: Asker, request_bytes: bytes) -> None:
    assert asker.refused(request_bytes) == errno.EINVAL


def test_a_room_beyond_the_page(asker: Asker) -> None:
    assert asker.refused(clp.ListRequest().to_bytes(), room=abi.CLP_PAGE - 31) == errno.EINVAL


@pytest.mark.parametrize("first", [1, 3, 0x3F, abi.RESERVED | abi.LPS_PCI, 0], ids=["1", "3", "63", "r", "base"])
def test_processors_that_cannot_list(asker: Asker, first: int) -> None:
    assert asker.refused(clp.ListRequest().to_bytes(), first=first) == errno.EINVAL


@pytest.mark.parametrize("place", [0, 1, 0xFFFF_FFFF_FFFF_F000])
def test_a_wild_address(asker: Asker, place: int) -> None:
    assert asker.refused(clp.ListRequest().to_bytes(), place=place) == errno.EFAULT


@pytest.mark.parametrize("request_number", [0, abi.CLP_SYNC + 1, abi.CLP_SYNC & 0xFFFF, 0x3B64])
def test_other_requests(backend: Backend, node: int, request_number: int) -> None:
    with pytest.raises(OSError) as caught:
        backend.ioctl(node, request_number, 0)
    assert caught.value.errno == errno.EINVAL


def test_reading_and_writing_the_node(backend: Backend, node: int) -> None:
    for call in (lambda: backend.read(node, 8), lambda: backend.write(node, b"x")):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EINVAL


def test_where_the_node_is(backend: Backend, sysfs: Attributes, node: int) -> None:
    status = backend.stat("/dev/clp")
    assert os.major(status.st_rdev) == 10
    assert f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}" == sysfs.read("/sys/class/misc/clp/dev").strip()
