"""A driver for NVMe controllers on VFIO: the disk of a function that was taken from the kernel, in a program.

::

    with pyvfio.open_device(host, "0000:01:00.0") as device, Nvme(device) as disk:
        print(disk.identity, disk.namespaces)
        disk.write(0, bytes(4096))
        disk.flush()
        blocks = disk.read(0, 8)

It resets the controller and enables it, makes an admin queue and I/O queues, and places data by PRPs; completions are
told by MSI-X, MSI or the pin, or looked for.  A command that takes too long is aborted, and the controller is reset
when that does not help.  Formats are in `pyvfio.nvme`; source: NVM Express 1.4.  `AsyncNvme` has the same methods for
asyncio, and any number of them at once.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Self, TypeVar

from pyvfio.drivers.nvme_failures import NvmeError, NvmeInterrupted
from pyvfio.drivers.nvme_waiting import Blocking, Options, Pause, Request, Room, Until, Work
from pyvfio.drivers.nvme_work import NvmeWork
from pyvfio.drivers.work import Progress, untold
from pyvfio.errors import Misuse, PyvfioError
from pyvfio.nvme.commands import Command, Completion
from pyvfio.nvme.identity import ControllerIdentity, NamespaceIdentity
from pyvfio.nvme.logs import ErrorEntry, Health
from pyvfio.vfio.device import Device

if TYPE_CHECKING:
    from pyvfio.drivers.recovery import Recovery

__all__ = ["Nvme", "NvmeError", "NvmeFacts", "NvmeInterrupted"]

T = TypeVar("T")
_CHECK_EVERY: Final = 1.0
_CHECK_OFTEN: Final = 0.05


class NvmeFacts:
    """`interrupts` is ``auto``, ``msix``, ``msi``, ``intx`` or ``poll``; `access` ``auto``, ``mmap`` or ``pread``.

    `queues` pairs of I/O queues are asked for, with up to `depth` commands under way in each; one command moves up to
    `transfer` bytes.  `timeout` in seconds is for each command.

    With a `recovery` (`pyvfio.drivers.recovery`, POWER) the driver outlives freezes of the endpoint: the controller is
    started again, and commands that were under way are sent again where that is safe (`pyvfio.drivers.nvme_healing`);
    others end with `NvmeInterrupted`.
    """

    def __init__(
        self,
        device: Device,
        *,
        interrupts: str = "auto",
        access: str = "auto",
        queues: int = 1,
        depth: int = 32,
        transfer: int = 128 << 10,
        timeout: float = 30.0,
        recovery: Recovery | None = None,
    ) -> None:
        self.work = NvmeWork(device, Options(interrupts, access, queues, depth, transfer, timeout), recovery)
        self.look_every = _CHECK_EVERY if recovery is None else _CHECK_OFTEN
        """After how many seconds without a sign of it the controller is looked at."""

    @property
    def name(self) -> str:
        """The device's address."""
        return self.work.device.name

    @property
    def identity(self) -> ControllerIdentity:
        """What the controller is.  Raise `Misuse` before it was started."""
        if self.work.identity is None:
            raise Misuse("identify NVMe controller", self.name, cause="the driver is not started")
        return self.work.identity

    @property
    def namespaces(self) -> dict[int, NamespaceIdentity]:
        """The active namespaces by their numbers."""
        return dict(self.work.namespaces)

    @property
    def interrupts(self) -> str:
        """What tells of completions: ``msix``, ``msi``, ``intx``, or ``poll``: nothing does."""
        return self.work.lines.kind

    @property
    def access(self) -> str:
        """How registers and doorbells are accessed: ``mmap`` or ``pread``."""
        return self.work.registers.access

    @property
    def transfer(self) -> int:
        """The bytes that one command moves, at most."""
        return self.work.transfer


class Nvme(NvmeFacts):
    """The controller.  A context manager, which starts it; a namespace not named is the first one.

    Every method raises `NvmeError` with the decoded status of a command that failed, `Timeout`, `NotAvailable` when the
    controller has failed or is gone, and `Misuse` for what is not there.
    """

    # -- the start and the end -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Reset and enable the controller, ask what it is.  Raise `Misuse` when it is no NVMe controller."""
        self._run(self.work.start())

    def close(self) -> None:
        """Shut the controller down and free everything.  The device stays open; a second call does nothing."""
        try:
            if self.work.queues:
                with contextlib.suppress(PyvfioError):  # it may be gone
                    self._run(self.work.stop())
        finally:
            self.work.release()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.work.release()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- what it tells -------------------------------------------------------------------------------------------

    def health(self) -> Health:
        """The SMART / health log."""
        return self._run(self.work.health())

    def errors(self) -> list[ErrorEntry]:
        """The error log, the newest first."""
        return self._run(self.work.errors())

    def admin(self, command: Command, data: int = 0, timeout: float | None = None) -> tuple[Completion, bytes]:
        """Any admin command: its completion, and the `data` bytes (at most a page) that it gives."""
        return self._run(self.work.admin(command, data, timeout))

    def io(self, command: Command, data: bytes = b"", count: int = 0) -> tuple[Completion, bytes]:
        """Any I/O command: its completion, and the `count` bytes that it gives; `data` is what it brings."""
        return self._run(self.work.io(command, data, count))

    # -- blocks --------------------------------------------------------------------------------------------------

    def read(self, lba: int, count: int = 1, nsid: int | None = None, progress: Progress = untold) -> bytes:
        """`count` blocks from `lba` on."""
        return self._run(self.work.read(lba, count, nsid, progress))

    def read_many(self, places: Sequence[tuple[int, int]], nsid: int | None = None) -> list[bytes]:
        """The blocks (first, number) of each place, as many places at once as the queue takes."""
        return self._run(self.work.read_many(places, nsid))

    def write(
        self,
        lba: int,
        data: bytes | bytearray | memoryview,
        nsid: int | None = None,
        progress: Progress = untold,
    ) -> None:
        """Write `data`, whole blocks, from `lba` on."""
        self._run(self.work.write(lba, data, nsid, progress))

    def flush(self, nsid: int | None = None) -> None:
        """Have what was written outlast a loss of power."""
        self._run(self.work.flush(nsid))

    def write_zeroes(self, lba: int, count: int = 1, nsid: int | None = None) -> None:
        """Make blocks zeros, without sending any where the controller can."""
        self._run(self.work.write_zeroes(lba, count, nsid))

    def deallocate(self, ranges: Sequence[tuple[int, int]], nsid: int | None = None) -> None:
        """Tell that ranges of blocks (first, number) are not needed.  Raise `NotAvailable` without that command."""
        self._run(self.work.deallocate(ranges, nsid))

    # -- waiting -------------------------------------------------------------------------------------------------

    def _run(self, work: Work[T]) -> T:
        try:
            request = next(work)
            while True:
                request = work.send(self._wait(request))
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            work.close()

    def _wait(self, request: Request) -> bool:
        if isinstance(request, Pause):
            time.sleep(request.seconds)
            return True
        if isinstance(request, Blocking):
            request.run()
            return True
        pending = request.pending if isinstance(request, Until) else None
        core = self.work
        queue = request.pending.queue if isinstance(request, Until) else request.queue
        checked = time.monotonic()
        while True:
            core.collect()
            if isinstance(request, Room):
                if queue.has_room and core.slots is not None and core.slots.available:
                    return True
            elif request.pending.ended:
                return True
            now = time.monotonic()
            if now >= request.deadline:
                return False
            if now - checked >= self.look_every:
                if core.look(pending):
                    return False
                checked = now
            core.lines.wait(queue.vector, min(request.deadline - now, self.look_every))
