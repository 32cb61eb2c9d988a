"""An edu whose endpoint freezes: recovered, set up again, and what was under way done again.

A frozen endpoint reads as ones and moves nothing, and none of the device's operations leaves a trace when it is done
twice.  So an operation counts when it has ended and the endpoint has been well since it began; otherwise it is done
anew, after the recovery.  Then the device's buffer has what was put there: the driver keeps a copy (after a `transfer`
of yours into the buffer it fetches one), and puts it back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from pyvfio.drivers.edu_work import EduIdentity, EduWork, Work
from pyvfio.drivers.pci_registers import GONE
from pyvfio.errors import NotAvailable, PyvfioError
from pyvfio.pci.edu import BUFFER_SIZE, COMMAND, STATUS, EduDma, EduStatus
from pyvfio.vfio.device import Device

if TYPE_CHECKING:
    from pyvfio.drivers.recovery import Recovery

__all__ = ["EduHealing"]

T = TypeVar("T")
_LOOK: Final = 0.02
"""After how many seconds without a sign of it the device is looked at."""


class EduHealing(EduWork):
    """The operations of `EduWork`, which outlive freezes when there is a `recovery`."""

    def __init__(
        self,
        device: Device,
        recovery: Recovery | None,
        *,
        interrupts: str,
        access: str,
        dma_mask: int,
        timeout: float,
    ) -> None:
        super().__init__(device, interrupts=interrupts, access=access, dma_mask=dma_mask, timeout=timeout)
        self.recovery = recovery
        self._copy = bytearray(BUFFER_SIZE)
        self._known = bytearray(BUFFER_SIZE)
        """One for each byte of the buffer that the copy has."""
        self._seen = 0
        """How many freezes the recovery had when the device was set up."""

    def start(self) -> EduIdentity:
        """See `EduWork.start`; the buffer is taken for unknown."""
        self._seen = self._freezes
        self._known = bytearray(BUFFER_SIZE)
        return super().start()

    # -- noticing ------------------------------------------------------------------------------------------------

    @property
    def _freezes(self) -> int:
        return 0 if self.recovery is None else len(self.recovery.history)

    def frozen(self) -> bool:
        """Whether there is something to recover from: the endpoint is frozen, or somebody else has recovered it."""
        return self.recovery is not None and (self._freezes != self._seen or self.recovery.frozen)

    def alive(self) -> bool:
        """See `EduWork.alive`; nothing is recovered by looking."""
        try:
            return super().alive()
        except NotAvailable:
            return False

    def _read(self, offset: int) -> int:
        value = super()._read(offset)
        if value == GONE and self.frozen():
            raise NotAvailable("drive edu", self.device.name, cause="its endpoint is frozen: its registers are ones")
        return value

    def _pause(self, seconds: float) -> float:
        return seconds if self.recovery is None else min(seconds, _LOOK)

    # -- recovering ----------------------------------------------------------------------------------------------

    def _whole(self, begin: Callable[[], Work[T]], words: str) -> Work[T]:
        """Do an operation until it was done without a freeze.  Raise `EndpointFailed`, and what the operation does."""
        if self.frozen():
            yield from self._heal(f"it was frozen before: {words}")
        while True:
            try:
                result = yield from begin()
            except PyvfioError:
                if not self.frozen():
                    raise
            else:
                if not self.frozen():
                    return result
            yield from self._heal(words)

    def _heal(self, reason: str) -> Work[None]:
        while True:
            yield from self._recover(reason)
            self._seen = self._freezes
            try:
                yield from self._set_up_again()
            except PyvfioError:
                if not self.frozen():
                    raise
            if not self.frozen():
                return
            reason = "it froze again while the device was set up"

    def _recover(self, reason: str) -> Work[None]:
        recovery = self.recovery
        while recovery is not None and recovery.stage is not None:
            yield _LOOK  # somebody else is at it
        if recovery is None or not recovery.frozen:
            return
        work = recovery.work(reason)
        try:
            while True:
                yield next(work)
        except StopIteration:
            return
        finally:
            work.close()

    def _set_up_again(self) -> Work[None]:
        """The device as it was: interrupts on, work of before over, what is known of the buffer in it."""
        self.identity()
        self._switch_on()
        yield from self._until(lambda: not self._read(STATUS) & EduStatus.COMPUTING, "end what was computed")
        yield from self._until(lambda: not self._read(COMMAND) & EduDma.RUN, "end what was transferred")
        self._switch_on()  # what that has raised
        first = self._known.find(1)
        while first >= 0:
            end = self._known.find(0, first)
            end = BUFFER_SIZE if end < 0 else end
            yield from super().put(bytes(self._copy[first:end]), first)
            first = self._known.find(1, end)

    def _note(self, data: bytes, offset: int) -> None:
        self._copy[offset : offset + len(data)] = data
        self._known[offset : offset + len(data)] = bytes([1]) * len(data)

    # -- operations ----------------------------------------------------------------------------------------------

    def factorial(self, number: int) -> Work[int]:
        """See `EduWork.factorial`."""
        return (yield from self._whole(partial(super().factorial, number), f"computing the factorial of {number}"))

    def interrupt(self, bits: int) -> Work[int]:
        """See `EduWork.interrupt`."""
        return (yield from self._whole(partial(super().interrupt, bits), "raising an interrupt"))

    def put(self, data: bytes, offset: int) -> Work[None]:
        """See `EduWork.put`."""
        yield from self._whole(partial(super().put, data, offset), f"putting {len(data)} bytes")
        self._note(data, offset)

    def get(self, count: int, offset: int) -> Work[bytes]:
        """See `EduWork.get`."""
        return (yield from self._whole(partial(super().get, count, offset), f"getting {count} bytes"))

    def transfer(self, iova: int, count: int, offset: int, *, out: bool) -> Work[None]:
        """See `EduWork.transfer`; with a recovery, what came into the buffer is fetched once more, for the copy."""
        move, get = super().transfer, super().get

        def both() -> Work[bytes]:
            yield from move(iova, count, offset, out=out)
            if out or self.recovery is None:
                return b""
            return (yield from get(count, offset))

        self._note((yield from self._whole(both, f"transferring {count} bytes")), offset)
