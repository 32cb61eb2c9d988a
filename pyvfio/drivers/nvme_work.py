"""All that an NVMe driver does, as generators (see `pyvfio.drivers.nvme_waiting`): identify, logs, blocks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pyvfio.drivers.nvme_healing import NvmeHealing
from pyvfio.drivers.nvme_memory import Slot, Slots
from pyvfio.drivers.nvme_queue import Pending, Queue
from pyvfio.drivers.nvme_waiting import Options, Work
from pyvfio.drivers.work import Progress
from pyvfio.errors import Misuse, NotAvailable, PyvfioError
from pyvfio.nvme.commands import (
    DEALLOCATE,
    AdminOpcode,
    Command,
    Completion,
    IoOpcode,
    pack_ranges,
)
from pyvfio.nvme.features import Feature
from pyvfio.nvme.identity import (
    IDENTIFY_SIZE,
    ControllerIdentity,
    Identify,
    NamespaceIdentity,
    OptionalCommand,
    parse_namespace_list,
)
from pyvfio.nvme.logs import ErrorEntry, Health, LogPage
from pyvfio.vfio.device import Device

if TYPE_CHECKING:
    from pyvfio.drivers.recovery import Recovery

__all__ = ["NvmeWork", "Piece"]

_MOST_BLOCKS: Final = 1 << 16
_MOST_RANGES: Final = 256
_HEALTH_SIZE, _ERROR_SIZE = 512, 64
_WHOLE: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Piece:
    """`count` blocks from `lba` on: what one command is for."""

    lba: int
    count: int


class NvmeWork(NvmeHealing):
    """The operations of one controller, and what is known of it: `identity` and `namespaces` (by their numbers)."""

    namespaces: dict[int, NamespaceIdentity]
    transfer = 0
    """Bytes of one command's data, at most."""

    def __init__(self, device: Device, options: Options, recovery: Recovery | None = None) -> None:
        super().__init__(device, options, recovery)
        self.namespaces = {}

    # -- the start and the end -----------------------------------------------------------------------------------

    def start(self) -> Work[None]:
        """Enable the controller, ask what it is, and have I/O queues.  Raise as `enable`, and `NvmeError`."""
        while True:
            try:
                yield from self._start()
                break
            except PyvfioError:
                if self.recovery is None or self.recovery.failed is not None or not self.recovery.frozen:
                    raise
            self.release()
            yield from self.recover_endpoint("its start did not end")
        self.started = True

    def _start(self) -> Work[None]:
        self.note_recoveries()
        yield from self.enable()
        self.namespaces = {}
        self.identity = ControllerIdentity.parse((yield from self._identify(Identify.CONTROLLER, 0)))
        limit = self.options.transfer
        if self.identity.transfer:
            limit = min(limit, self.page << self.identity.transfer)
        self.transfer = max(limit // self.page, 1) * self.page
        yield from self._make_queues()
        for nsid in (yield from self._list()):
            found = NamespaceIdentity.parse((yield from self._identify(Identify.NAMESPACE, nsid)))
            if found is not None:
                self.namespaces[nsid] = found

    def stop(self) -> Work[None]:
        """Delete the I/O queues, shut the controller down.  Raise as `shut_down`; `release` is to be called after."""
        for queue in reversed(self.queues[1:]):
            for opcode in (AdminOpcode.DELETE_SQ, AdminOpcode.DELETE_CQ):
                yield from self.admin(Command(opcode, cdw10=queue.number))
        yield from self.shut_down()

    def _identify(self, what: Identify, nsid: int) -> Work[bytes]:
        command = Command(AdminOpcode.IDENTIFY, nsid=nsid, cdw10=what)
        return (yield from self.admin(command, IDENTIFY_SIZE))[1]

    def _list(self) -> Work[list[int]]:
        found: list[int] = []
        while True:
            more = parse_namespace_list((yield from self._identify(Identify.NAMESPACES, found[-1] if found else 0)))
            found += more
            if len(more) < IDENTIFY_SIZE // 4:
                return found

    def _make_queues(self) -> Work[None]:
        wanted = self.options.queues - 1
        asked = Command(AdminOpcode.SET_FEATURES, cdw10=Feature.QUEUES, cdw11=wanted << 16 | wanted)
        completion, _ = yield from self.admin(asked)
        given = min(completion.result & 0xFFFF, completion.result >> 16) + 1
        number = min(given, self.options.queues)
        size = max(min(self.options.depth + 1, self.capabilities.entries), 2)
        self.slots = Slots(self.device.space, number * (size - 1), self.transfer, self.page)
        for _ in range(number):
            for command in self.creation(self.add_queue(size)):
                yield from self._create(command)

    def _create(self, command: Command) -> Work[None]:
        pending = self.put(self.queues[0], command)
        yield from self.finish(pending)

    # -- what it tells -------------------------------------------------------------------------------------------

    def health(self) -> Work[Health]:
        """The SMART / health log of the controller."""
        return Health.parse((yield from self._log(LogPage.HEALTH, _HEALTH_SIZE)))

    def errors(self) -> Work[list[ErrorEntry]]:
        """The error log, the newest first."""
        entries = min(self._known.errors, self.page // _ERROR_SIZE)
        data = yield from self._log(LogPage.ERROR, entries * _ERROR_SIZE)
        found = [ErrorEntry.parse(data[at : at + _ERROR_SIZE]) for at in range(0, len(data), _ERROR_SIZE)]
        return [entry for entry in found if entry.count]

    def _log(self, page: LogPage, size: int) -> Work[bytes]:
        dwords = size // 4 - 1
        command = Command(AdminOpcode.GET_LOG_PAGE, nsid=_WHOLE, cdw10=dwords << 16 | page)
        return (yield from self.admin(command, size))[1]

    @property
    def _known(self) -> ControllerIdentity:
        if self.identity is None or not self.queues:
            raise self._stopped()
        return self.identity

    def namespace(self, nsid: int | None) -> tuple[int, NamespaceIdentity]:
        """A namespace by its number, None: the first.  Raise `Misuse`, `NotAvailable` (none that is of use)."""
        _ = self._known
        if nsid is None:
            nsid = min(self.namespaces, default=0)
        found = self.namespaces.get(nsid)
        if found is None:
            there = ", ".join(map(str, self.namespaces))
            if not there:
                raise NotAvailable("use namespace", self.device.name, cause="the controller has no active namespace")
            raise Misuse("use namespace", self.device.name, cause=f"there is no namespace {nsid}; there is {there}")
        if found.metadata:
            raise NotAvailable(
                "use namespace",
                self.device.name,
                cause=f"namespace {nsid} has {found.metadata} bytes of metadata in each block; the driver uses none",
                next_step="nvme format (of nvme-cli) gives it blocks without metadata; what is on it is gone then",
            )
        if 1 << found.order > self.transfer:
            raise NotAvailable(
                "use namespace",
                self.device.name,
                cause=f"a block of namespace {nsid} has {1 << found.order} bytes, one command moves {self.transfer}",
                next_step="let `transfer` of the driver be larger, if the controller does not set that limit",
            )
        return nsid, found

    def check(self, space: NamespaceIdentity, lba: int, count: int) -> None:
        """Raise `Misuse` for blocks that are not there."""
        if lba < 0 or count < 0 or lba + count > space.blocks:
            cause = f"{count} blocks from {lba} on: the namespace has 0 to {space.blocks - 1}"
            raise Misuse("use blocks", self.device.name, cause=cause)

    # -- blocks --------------------------------------------------------------------------------------------------

    def _queue(self) -> Queue:
        if len(self.queues) < 2:
            raise self._stopped()
        return min(self.queues[1:], key=lambda queue: len(queue.under_way))

    def pieces(self, space: NamespaceIdentity, lba: int, count: int) -> Iterator[Piece]:
        """Blocks cut into what one command takes."""
        step = min(self.transfer >> space.order, _MOST_BLOCKS)
        for at in range(lba, lba + count, step):
            yield Piece(at, min(step, lba + count - at))

    def move(
        self,
        opcode: IoOpcode,
        nsid: int,
        order: int,
        pieces: Iterable[Piece],
        each: Callable[[int, Piece, Slot], None] | None,
        fill: Callable[[int, Piece, Slot], None] | None,
        flags: int = 0,
    ) -> Work[None]:
        """Do a command for each piece, as many at once as the queue takes.

        `fill` puts the data of a piece into its slot, `each` is called with each that ended, in order.
        """
        queue = self._queue()
        depth = queue.size - 1
        under_way: deque[tuple[int, Piece, Pending]] = deque()
        try:
            for number, piece in enumerate(pieces):
                if len(under_way) >= depth:
                    yield from self._oldest(under_way, each)
                slot = yield from self.slot(queue)
                if fill is not None:
                    fill(number, piece, slot)
                prp1, prp2 = slot.prps(piece.count << order)
                command = Command(opcode, nsid=nsid, prp1=prp1, prp2=prp2, cdw12=piece.count - 1 | flags)
                command.cdw10, command.cdw11 = piece.lba & _WHOLE, piece.lba >> 32
                under_way.append((number, piece, self.put(queue, command, slot)))
            while under_way:
                yield from self._oldest(under_way, each)
        finally:
            for _, _, pending in under_way:
                self.done(pending)

    def _oldest(
        self,
        under_way: deque[tuple[int, Piece, Pending]],
        each: Callable[[int, Piece, Slot], None] | None,
    ) -> Work[None]:
        """Wait for the oldest command; take those after it, too, that have ended."""
        yield from self.finish(under_way[0][2])
        while under_way and under_way[0][2].ended:
            number, piece, pending = under_way[0]
            yield from self.finish(pending)
            if each is not None and pending.slot is not None:
                each(number, piece, pending.slot)
            under_way.popleft()
            self.done(pending)

    def read(self, lba: int, count: int, nsid: int | None, progress: Progress) -> Work[bytes]:
        """Blocks as bytes."""
        number, space = self.namespace(nsid)
        self.check(space, lba, count)
        data = bytearray(count << space.order)

        def take(_: int, piece: Piece, slot: Slot) -> None:
            at, size = piece.lba - lba << space.order, piece.count << space.order
            data[at : at + size] = slot.view[:size]
            progress(piece.count)

        yield from self.move(IoOpcode.READ, number, space.order, self.pieces(space, lba, count), take, None)
        return bytes(data)

    def read_many(self, places: Sequence[tuple[int, int]], nsid: int | None) -> Work[list[bytes]]:
        """The blocks at each of many places, each at most what one command takes; many at once."""
        number, space = self.namespace(nsid)
        most = min(self.transfer >> space.order, _MOST_BLOCKS)
        for lba, count in places:
            self.check(space, lba, count)
            if not 0 < count <= most:
                cause = f"one command reads 1 to {most} blocks here, not {count}"
                raise Misuse("read blocks", self.device.name, cause=cause, next_step="use read")
        found = [b""] * len(places)

        def take(index: int, piece: Piece, slot: Slot) -> None:
            found[index] = bytes(slot.view[: piece.count << space.order])

        pieces = (Piece(lba, count) for lba, count in places)
        yield from self.move(IoOpcode.READ, number, space.order, pieces, take, None)
        return found

    def write(self, lba: int, data: bytes | bytearray | memoryview, nsid: int | None, progress: Progress) -> Work[None]:
        """Write whole blocks."""
        number, space = self.namespace(nsid)
        view = memoryview(data).cast("B")
        if len(view) % (1 << space.order):
            cause = f"{len(view)} bytes are not whole blocks of {1 << space.order}"
            raise Misuse("write blocks", self.device.name, cause=cause)
        count = len(view) >> space.order
        self.check(space, lba, count)

        def fill(_: int, piece: Piece, slot: Slot) -> None:
            at, size = piece.lba - lba << space.order, piece.count << space.order
            slot.view[:size] = view[at : at + size]

        pieces = self.pieces(space, lba, count)
        yield from self.move(
            IoOpcode.WRITE, number, space.order, pieces, lambda _, piece, slot: progress(piece.count), fill
        )

    def flush(self, nsid: int | None) -> Work[None]:
        """Have everything that was written outlast a loss of power."""
        number, _ = self.namespace(nsid)
        yield from self.io(Command(IoOpcode.FLUSH, nsid=number), b"", 0)

    def write_zeroes(self, lba: int, count: int, nsid: int | None) -> Work[None]:
        """Zeros without data; where the controller has no such command, zeros are written."""
        number, space = self.namespace(nsid)
        self.check(space, lba, count)
        if not self._known.optional & OptionalCommand.WRITE_ZEROES:
            yield from self.write(lba, bytes(count << space.order), number, lambda done: None)
            return
        for at in range(lba, lba + count, _MOST_BLOCKS):
            blocks = min(_MOST_BLOCKS, lba + count - at)
            command = Command(IoOpcode.WRITE_ZEROES, nsid=number, cdw12=blocks - 1)
            command.cdw10, command.cdw11 = at & _WHOLE, at >> 32
            yield from self.io(command, b"", 0)

    def deallocate(self, ranges: Sequence[tuple[int, int]], nsid: int | None) -> Work[None]:
        """Tell that the blocks (first, number) of each range are not needed any more."""
        number, space = self.namespace(nsid)
        for lba, count in ranges:
            self.check(space, lba, count)
        if not self._known.optional & OptionalCommand.DATASET_MANAGEMENT:
            raise NotAvailable("deallocate blocks", self.device.name, cause="the controller has no dataset management")
        for at in range(0, len(ranges), _MOST_RANGES):
            some = list(ranges[at : at + _MOST_RANGES])
            command = Command(IoOpcode.DATASET_MANAGEMENT, nsid=number, cdw10=len(some) - 1, cdw11=DEALLOCATE)
            yield from self.io(command, pack_ranges(some), 0)

    def io(self, command: Command, data: bytes, count: int) -> Work[tuple[Completion, bytes]]:
        """Any I/O command, with `data` that it brings, or `count` bytes that it gives.  Raise `Misuse` for too many.

        Without either, its PRPs are sent as they are.
        """
        size = len(data) or count
        if size > self.transfer or (data and count):
            cause = f"a command brings or gives up to {self.transfer} bytes, not {len(data)} and {count}"
            raise Misuse("send NVMe command", self.device.name, cause=cause)
        queue = self._queue()
        slot = yield from self.slot(queue)  # also one without data has one, so that there is room for all
        slot.view[: len(data)] = data
        if size:
            command.prp1, command.prp2 = slot.prps(size)
        pending = self.put(queue, command, slot)
        try:
            completion = yield from self.finish(pending)
            return completion, bytes(slot.view[:count])
        finally:
            self.done(pending)
