"""Recovery of a frozen endpoint, for drivers in programs: what Linux does for its own drivers, and not for these.

::

    with pyvfio.open_device(host, "0002:01:00.0") as device, Recovery(device) as recovery:
        value = device.bar(0).read_u32(0)
        if recovery.noticed(value):      # all ones, and the kernel says that it is frozen
            recovery.run()               # log, reset, configure, restore
            ...                          # set the device up again: it was reset

    noticed -> logged -> reset -> configured -> restored -> resumed
        \\_________________________________________________\\-> failed

A freeze is noticed by a read of all ones (`noticed`), by work that takes too long (`frozen`), or by looking again and
again (`wait`, which also wakes at the error interrupt: AER fires that, EEH does not for a device that a program has).
An endpoint that freezes again during its recovery is another freeze.  With more than `most` of them `within` so many
seconds it is given up for good, as Linux does (``eeh_max_freezes``, 5 in an hour), and so it is when resets do not
help.

`work` is the same as a generator, for drivers that wait in a way of their own: it yields seconds to wait, or a
`Blocking` to be run.  Source: "EEH" in ``Documentation/driver-api/vfio.rst``; ``eeh_handle_normal_event`` in
``arch/powerpc/kernel/eeh_driver.c`` and ``eeh_pe_reset_full`` in ``eeh.c`` (Linux 6.12).

When the kernel itself recovers a bridge above (a fenced host bridge), the endpoint is UNAVAIL; that is waited for.  It
leaves the endpoint frozen, whose recovery is the program's then.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Final, Self

from pyvfio.abi.eeh_state import EehPeFlag
from pyvfio.abi.vfio_spapr import EehState
from pyvfio.drivers.blocking import Blocking
from pyvfio.drivers.freeze import Freeze, Stage, look_at_function
from pyvfio.errors import Misuse, NotAvailable, PyvfioError
from pyvfio.ioda.diagnosis import Diagnosis
from pyvfio.ioda.diagnosis_text import parse_messages
from pyvfio.ioda.pe import STATE_WORDS, Pe
from pyvfio.pci.kernel_messages import KernelMessages
from pyvfio.pci.saved_state import SavedState
from pyvfio.sysfs import Sysfs
from pyvfio.vfio.device import Device
from pyvfio.vfio.irq import Irq

__all__ = ["Blocking", "EndpointFailed", "Recovery"]

RESETS: Final = ("hot", "fundamental", "none")
_LOOK: Final = 0.01
_TRIES: Final = 3
_SETTLE: Final = 0.05
Told = Callable[[Freeze, Stage], None]


class EndpointFailed(NotAvailable):
    """An endpoint was given up: it froze too often, or no reset helped.  `freeze` is the last one."""

    def __init__(self, obj: str, freeze: Freeze, cause: str) -> None:
        step = "replace the device, or look for what it does wrong: the freezes are in Recovery.history"
        super().__init__("recover the endpoint", obj, cause=cause, next_step=step)
        self.freeze = freeze


Work = Generator[float | Blocking, None, Freeze]


class Recovery:
    """The recovery of the endpoint of `device`, and of `others` in the same container.  A context manager.

    `reset` is ``hot``, ``fundamental``, or ``none`` (unfreeze alone: for a device that is known to be at rest).
    `told` is called at each stage; `history` has all freezes; `diagnosis` gives the host bridge's error log
    (``lambda: read_bridge_log(device.backend, domain)`` of `pyvfio.ioda.bridge_log`, for root).  `patience` is how long
    a kernel is waited for that recovers a bridge above.

    Registers of configuration space are saved at the beginning (`save` does it again).  Raise what `Pe` and `Pe.enable`
    raise.
    """

    def __init__(
        self,
        device: Device,
        *others: Device,
        pe: Pe | None = None,
        reset: str = "hot",
        most: int = 5,
        within: float = 3600.0,
        patience: float = 60.0,
        told: Told | None = None,
        diagnosis: Callable[[], Diagnosis | bytes | None] | None = None,
    ) -> None:
        if reset not in RESETS:
            raise Misuse("recover the endpoint", device.name, cause=f"reset is {', '.join(RESETS)}, not {reset!r}")
        if most < 0 or not within > 0:
            raise Misuse("recover the endpoint", device.name, cause="most is 0 or more, within more than 0 seconds")
        self.devices: tuple[Device, ...] = (device, *others)
        self.history: list[Freeze] = []
        self.failed: EndpointFailed | None = None
        """Why it was given up for good."""
        self._own = pe is None
        self.pe = Pe(device) if pe is None else pe
        self._how, self._most, self._within, self._patience = reset, most, within, patience
        self._told, self._diagnosis = told, diagnosis
        self._times: deque[float] = deque()
        self._saved: dict[str, SavedState] = {}
        self._errors: Irq | None = None
        self._messages: KernelMessages | None = None
        self._running = False
        if not self.pe.enabled:
            self.pe.enable()
        try:
            self.save()
        except BaseException:
            self.close()
            raise
        self._messages = KernelMessages(device.backend)

    # -- what there is -------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The first device's address."""
        return self.devices[0].name

    @property
    def freezes(self) -> int:
        """How often the endpoint has frozen within the time that counts."""
        self._prune()
        return len(self._times)

    @property
    def stage(self) -> Stage | None:
        """How far the recovery has come that is going on; None while there is none."""
        return self.history[-1].stage if self._running and self.history else None

    def save(self, devices: Sequence[Device] | None = None) -> None:
        """Note what is set up in configuration space now; a recovery brings it back.  Not while it is frozen.

        Raise `MalformedAnswer` for a function that does not answer.
        """
        for device in self.devices if devices is None else devices:
            self._saved[device.name] = SavedState.take(device.config)

    # -- noticing ------------------------------------------------------------------------------------------------

    @property
    def frozen(self) -> bool:
        """Whether the endpoint is frozen, as the kernel says."""
        return self.pe.frozen

    def noticed(self, value: int, width: int = 4) -> bool:
        """Whether a value that was read is of a frozen endpoint: all ones, and then the kernel is asked."""
        return value == (1 << 8 * width) - 1 and self.frozen

    def wait(self, timeout: float | None = None, every: float = 0.1) -> bool:
        """Wait until the endpoint is frozen, at most so many seconds (None: for ever); whether it is.

        It is looked at each `every` seconds, and at once when the error interrupt fires.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        errors = self._error_interrupt()
        while not self.frozen:
            left = every if deadline is None else min(every, deadline - time.monotonic())
            if left <= 0:
                return False
            if errors is None:
                time.sleep(left)
            else:
                with contextlib.suppress(PyvfioError):
                    errors.wait(left)
        return True

    async def wait_async(self, timeout: float | None = None, every: float = 0.1) -> bool:
        """As `wait`, without blocking the event loop."""
        deadline = None if timeout is None else time.monotonic() + timeout
        errors = self._error_interrupt()
        while not self.frozen:
            left = every if deadline is None else min(every, deadline - time.monotonic())
            if left <= 0:
                return False
            if errors is None:
                await asyncio.sleep(left)
            else:
                with contextlib.suppress(PyvfioError):
                    await errors.wait_async(left)
        return True

    def _error_interrupt(self) -> Irq | None:
        """The error interrupt, enabled; None when there is none, or somebody else waits for it."""
        if self._errors is None:
            irq = self.devices[0].error
            if irq is not None and not irq.enabled:
                irq.enable()
                self._errors = irq
        return self._errors

    # -- recovering ----------------------------------------------------------------------------------------------

    def run(self, reason: str = "a register read as ones") -> Freeze:
        """Recover now.  Raise `EndpointFailed` when it is given up, now or before, `Misuse` when it is under way."""
        work = self.work(reason)
        try:
            step = next(work)
            while True:
                if isinstance(step, Blocking):
                    step.run()
                else:
                    time.sleep(step)
                step = work.send(None)
        except StopIteration as stop:
            freeze: Freeze = stop.value
            return freeze
        finally:
            work.close()

    async def run_async(self, reason: str = "a register read as ones") -> Freeze:
        """As `run`, without blocking the event loop."""
        work = self.work(reason)
        try:
            step = next(work)
            while True:
                if isinstance(step, Blocking):
                    await step.run_async()
                else:
                    await asyncio.sleep(step)
                step = work.send(None)
        except StopIteration as stop:
            freeze: Freeze = stop.value
            return freeze
        finally:
            work.close()

    def work(self, reason: str = "a register read as ones") -> Work:
        """The recovery as a generator; see the module.  Raise as `run`."""
        if self._running:
            raise Misuse("recover the endpoint", self.name, cause="it is being recovered")
        if self.failed is not None:
            raise self.failed
        self._running = True
        try:
            while True:
                freeze = self._begin(reason)
                try:
                    yield from self._recover(freeze)
                    if not self.frozen:
                        self._reach(freeze, Stage.RESUMED)
                        return freeze
                    freeze.error = "it froze again before the end"
                except EndpointFailed:
                    raise
                except PyvfioError as error:
                    if not self._frozen_now():
                        self._give_up(freeze, f"{error.operation}: {error.cause or error.errno_name}", error)
                    freeze.error = f"{error.operation}: {error.cause or error.errno_name}"
                reason = "it froze again during its recovery"
        finally:
            self._running = False

    def _begin(self, reason: str) -> Freeze:
        freeze = Freeze(len(self.history) + 1, reason, self.pe.state)
        self.history.append(freeze)
        self._times.append(time.monotonic())
        self._reach(freeze, Stage.NOTICED)
        self._prune()
        if len(self._times) > self._most:
            self._give_up(
                freeze, f"it has frozen {len(self._times)} times within {self._within:g} s, {self._most} are allowed"
            )
        return freeze

    def _recover(self, freeze: Freeze) -> Generator[float | Blocking, None, None]:
        deadline = time.monotonic() + self._patience
        while self.pe.state in (EehState.UNAVAIL, EehState.RESET) and time.monotonic() < deadline:
            yield _LOOK  # the kernel recovers a bridge above, and a reset of everything below is its part
        if self._kernel_recovers():
            self._give_up(freeze, f"the kernel has not recovered a bridge above within {self._patience:g} s")
        self._log(freeze)
        self._reach(freeze, Stage.LOGGED)
        if self._how == "none":
            yield from self._blocking(self.pe.unfreeze_io)
            yield from self._blocking(self.pe.unfreeze_dma)
        else:
            yield from self._reset(freeze)
        self._reach(freeze, Stage.RESET)
        yield from self._blocking(self.pe.configure)
        self._reach(freeze, Stage.CONFIGURED)
        for device in self.devices:
            self._saved[device.name].restore(device.config)
            device.renew_interrupts()
        self._reach(freeze, Stage.RESTORED)

    def _kernel_recovers(self) -> bool:
        """Whether Linux is at it, by what sysfs says."""
        if self.pe.state is not EehState.UNAVAIL:
            return False
        text = Sysfs(self.devices[0].backend).attribute(f"/sys/bus/pci/devices/{self.name}/eeh_pe_state") or ""
        flags = text.split()[1:2]
        return bool(flags) and bool(int(flags[0], 16) & EehPeFlag.RECOVERING)

    def _log(self, freeze: Freeze) -> None:
        """Note what there is to see.  Nothing of it is needed, so nothing fails here."""
        found: list[Diagnosis] = []
        with contextlib.suppress(PyvfioError):  # before anything is unfrozen: that clears what the bridge has noted
            data = None if self._diagnosis is None else self._diagnosis()
            if data is not None:
                found.append(Diagnosis.parse(data) if isinstance(data, bytes) else data)
        with contextlib.suppress(PyvfioError):
            self.pe.unfreeze_io()
            freeze.functions = tuple(look_at_function(device.config) for device in self.devices)
        messages = [] if self._messages is None else self._messages.new()
        freeze.messages = tuple(messages)
        for log in (*(log for _, log in parse_messages(messages)), *found):
            freeze.causes.update(log.causes)

    def _reset(self, freeze: Freeze) -> Generator[float | Blocking, None, None]:
        """Reset it until it is well, at most three times, the last time in the deepest way (``eeh_pe_reset_full``)."""
        state: EehState | None = None
        refused: PyvfioError | None = None
        for number in range(_TRIES):
            kind = "fundamental" if number == _TRIES - 1 else self._how
            freeze.resets += 1
            try:
                yield from self._blocking(partial(self.pe.reset, kind))
            except PyvfioError as error:
                refused = error
                yield _SETTLE
                continue
            state = self.pe.state
            if state is EehState.NORMAL:
                return
            yield _SETTLE
        words = f"it is {state.name}: {STATE_WORDS[state]}" if state is not None else ""
        if refused is not None:
            words = words or refused.cause or refused.errno_name
        self._give_up(freeze, f"{freeze.resets} resets did not help; {words}", refused)

    @staticmethod
    def _blocking(call: Callable[[], None]) -> Generator[Blocking, None, None]:
        one = Blocking(call)
        yield one
        one.result()

    def _frozen_now(self) -> bool:
        try:
            return self.frozen
        except PyvfioError:
            return False

    def _give_up(self, freeze: Freeze, cause: str, error: PyvfioError | None = None) -> None:
        """Stop for good.  The endpoint stays as it is; nothing of the program reaches the device any more."""
        freeze.error = cause
        self._reach(freeze, Stage.FAILED)
        self.failed = EndpointFailed(self.name, freeze, cause)
        raise self.failed from error

    def _reach(self, freeze: Freeze, stage: Stage) -> None:
        freeze.stages.append((stage, time.monotonic()))
        if self._told is not None:
            self._told(freeze, stage)

    def _prune(self) -> None:
        limit = time.monotonic() - self._within
        while self._times and self._times[0] < limit:
            self._times.popleft()

    # -- the end -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let the endpoint alone; a second call does nothing."""
        errors, self._errors = self._errors, None
        if errors is not None:
            with contextlib.suppress(PyvfioError):
                errors.disable()
        messages, self._messages = self._messages, None
        if messages is not None:
            messages.close()
        if self._own:
            self.pe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Recovery of {self.name}, {len(self.history)} freezes{', given up' if self.failed else ''}>"
