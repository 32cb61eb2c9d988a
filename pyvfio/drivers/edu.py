"""A driver for `edu`, QEMU's PCI device to learn on: what a driver on VFIO looks like, whole.

::

    with pyvfio.open_device(host, "0000:00:06.0") as device, Edu(device) as edu:
        print(edu.identity, edu.factorial(10))
        edu.put(b"hello", 16)
        assert edu.get(5, 16) == b"hello"

`AsyncEdu` has the same methods for asyncio.  Registers are drawn in `pyvfio.pci.edu`.

With a `recovery` (`pyvfio.drivers.Recovery`, POWER) the driver outlives freezes of the endpoint: what was under way is
done again, and what was put into the buffer is there again (`pyvfio.drivers.edu_healing`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self, TypeVar

from pyvfio.drivers.edu_healing import EduHealing
from pyvfio.drivers.edu_work import Blocking, EduIdentity, Work
from pyvfio.errors import PyvfioError
from pyvfio.pci.edu import DMA_MASK
from pyvfio.vfio.device import Device

if TYPE_CHECKING:
    from pyvfio.drivers.recovery import Recovery

__all__ = ["AsyncEdu", "Edu"]

T = TypeVar("T")
_TIMEOUT: Final = 5.0


class _EduFacts:
    """`interrupts` is ``auto``, ``msi``, ``intx`` or ``poll``; `access` to registers ``auto``, ``mmap`` or ``pread``.

    `dma_mask` is what the device reaches (28 bits, unless QEMU was told another), `timeout` in seconds.  With a
    `recovery` every operation outlives freezes, and raises `EndpointFailed` when the endpoint is given up.
    """

    def __init__(
        self,
        device: Device,
        *,
        interrupts: str = "auto",
        access: str = "auto",
        dma_mask: int = DMA_MASK,
        timeout: float = _TIMEOUT,
        recovery: Recovery | None = None,
    ) -> None:
        self.work = EduHealing(
            device, recovery, interrupts=interrupts, access=access, dma_mask=dma_mask, timeout=timeout
        )

    @property
    def identity(self) -> EduIdentity:
        """Its version, as the device says it."""
        return self.work.identity()

    @property
    def interrupts(self) -> str:
        """What tells of the end of work: ``msi``, ``intx``, or ``poll``: nothing does."""
        return self.work.lines.kind

    @property
    def access(self) -> str:
        """How registers are accessed: ``mmap`` or ``pread``."""
        return self.work.registers.access

    def alive(self) -> bool:
        """Whether the device answers as it should: with the complement of what it is given."""
        return self.work.alive()

    def _recovery_of_start(self) -> Recovery | None:
        """What recovers the endpoint, if that is why the start failed."""
        recovery, frozen = self.work.recovery, self.work.frozen()
        if recovery is None or not frozen:
            return None  # it may be that it has been started before, and goes on
        self.work.stop()
        return recovery

    def close(self) -> None:
        """No interrupts, no access to memory, memory free.  The device stays open; a second call does nothing."""
        self.work.stop()


class Edu(_EduFacts):
    """The device.  A context manager, which starts it.  Raise `Misuse` when it is no edu."""

    def start(self) -> EduIdentity:
        """Check what it is, let it use memory, have its interrupts on; a frozen endpoint is recovered first."""
        while True:
            try:
                return self.work.start()
            except PyvfioError:
                recovery = self._recovery_of_start()
                if recovery is None:
                    raise
                if recovery.frozen:
                    recovery.run("it froze while the driver started")

    def factorial(self, number: int) -> int:
        """The factorial modulo 2**32, which the device computes.  Raise `Misuse`, `Timeout`."""
        return self._run(self.work.factorial(number))

    def interrupt(self, bits: int = 1) -> int:
        """Have the device raise an interrupt with these reasons, and take it: the reasons.  Raise `Timeout`."""
        return self._run(self.work.interrupt(bits))

    def put(self, data: bytes, offset: int = 0) -> None:
        """By DMA, `data` into the device's buffer of 4 KiB.  Raise `Misuse` for what does not fit, `Timeout`."""
        self._run(self.work.put(data, offset))

    def get(self, count: int, offset: int = 0) -> bytes:
        """By DMA, `count` bytes out of the device's buffer.  Raise `Misuse` for what is not there, `Timeout`."""
        return self._run(self.work.get(count, offset))

    def transfer(self, iova: int, count: int, offset: int = 0, *, out: bool) -> None:
        """DMA between memory of yours at `iova` and the buffer; `out` of the buffer or into it."""
        self._run(self.work.transfer(iova, count, offset, out=out))

    def _run(self, work: Work[T]) -> T:
        try:
            step = next(work)
            while True:
                if isinstance(step, Blocking):
                    step.run()
                    step = work.send(False)
                else:
                    step = work.send(self.work.lines.wait(0, step))
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            work.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class AsyncEdu(_EduFacts):
    """As `Edu`: the same methods and arguments, one operation at a time."""

    async def start(self) -> EduIdentity:
        """See `Edu.start`."""
        while True:
            try:
                return self.work.start()
            except PyvfioError:
                recovery = self._recovery_of_start()
                if recovery is None:
                    raise
                if recovery.frozen:
                    await recovery.run_async("it froze while the driver started")

    async def factorial(self, number: int) -> int:
        """See `Edu.factorial`."""
        return await self._run(self.work.factorial(number))

    async def interrupt(self, bits: int = 1) -> int:
        """See `Edu.interrupt`."""
        return await self._run(self.work.interrupt(bits))

    async def put(self, data: bytes, offset: int = 0) -> None:
        """See `Edu.put`."""
        await self._run(self.work.put(data, offset))

    async def get(self, count: int, offset: int = 0) -> bytes:
        """See `Edu.get`."""
        return await self._run(self.work.get(count, offset))

    async def transfer(self, iova: int, count: int, offset: int = 0, *, out: bool) -> None:
        """See `Edu.transfer`."""
        await self._run(self.work.transfer(iova, count, offset, out=out))

    async def _run(self, work: Work[T]) -> T:
        try:
            step = next(work)
            while True:
                if isinstance(step, Blocking):
                    await step.run_async()
                    step = work.send(False)
                else:
                    step = work.send(await self.work.lines.wait_async(0, step))
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            work.close()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()
