"""The partitionable endpoint of a device that is open, for the program that has it: EEH through VFIO.

::

    with pyvfio.open_device(host, "0002:01:00.0") as device, Pe(device) as pe:
        if pe.state is not EehState.NORMAL:
            pe.unfreeze_io()          # now registers can be read, for a log
            pe.reset()                # hot, and its end
            pe.configure()

While a program has the device, Linux neither looks for freezes of its endpoint nor recovers it: that is the program's
part (`pyvfio.drivers.Recovery` does it).  Nothing tells of a freeze, but that registers read as ones, work does not
come to an end, and `Pe.state`.

The operations are requests of the *container*, and the kernel does them for every group in it, the newest first, until
one answers other than 0.  So the state is that of the first group that is not NORMAL.  The kernel refuses little:
unfreezing what is not frozen and configuring what is healthy are no errors.

Source: ``vfio.h`` (``VFIO_EEH_PE_OP``), ``vfio_spapr_ioctl_eeh_pe_op`` in ``drivers/vfio/vfio_iommu_spapr_tce.c``,
``arch/powerpc/kernel/eeh.c`` (Linux 6.12), "EEH" in ``Documentation/driver-api/vfio.rst``.
"""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING, Final, Self

from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_spapr as spapr
from pyvfio.abi.eeh import EEH_ERR_FUNC_MAX, EehErrorFunction, EehErrorType
from pyvfio.abi.vfio_spapr import EehState
from pyvfio.errors import KernelRefused, Misuse, NotAvailable, PyvfioError
from pyvfio.ioda.operations import PeOperation
from pyvfio.sysfs import Sysfs

if TYPE_CHECKING:
    from pyvfio.vfio.container import Container
    from pyvfio.vfio.device import Device

__all__ = ["STATE_WORDS", "Pe", "injection_refused"]

STATE_WORDS: Final = {
    EehState.NORMAL: "loads, stores and DMA go",
    EehState.RESET: "the hypervisor holds it in reset",
    EehState.STOPPED: "frozen: loads and stores and DMA are stopped",
    EehState.STOPPED_DMA: "loads and stores go, DMA is stopped",
    EehState.UNAVAIL: "loads and stores are frozen and DMA goes, or the kernel recovers a bridge above",
}
"""What each state means."""

_WORDS: Final = {
    PeOperation.DISABLE: "disable EEH",
    PeOperation.ENABLE: "enable EEH",
    PeOperation.UNFREEZE_IO: "let loads and stores go again",
    PeOperation.UNFREEZE_DMA: "let DMA go again",
    PeOperation.GET_STATE: "read the endpoint's state",
    PeOperation.RESET_DEACTIVATE: "end the endpoint's reset",
    PeOperation.RESET_HOT: "reset the endpoint (hot)",
    PeOperation.RESET_FUNDAMENTAL: "reset the endpoint (fundamental)",
    PeOperation.CONFIGURE: "configure the endpoint's bridges",
    PeOperation.INJECT_ERR: "inject an error",
}
_RESETS: Final = {"hot": PeOperation.RESET_HOT, "fundamental": PeOperation.RESET_FUNDAMENTAL}
_SUPPORT: Final = "/proc/powerpc/eeh"
_WORD_END: Final = 1 << 64


class Pe:
    """The endpoint of `device`, which was opened by its group, or of a `Container` whose IOMMU is TCE.

    A context manager: `enable` at its beginning, `disable` at its end.  Making one asks the kernel whether it has EEH.
    Raise `Misuse` for a device without a container, `NotAvailable` when the container has another IOMMU or this kernel
    has no EEH.
    """

    def __init__(self, device: Device | Container) -> None:
        container = _container_of(device)
        name = getattr(device, "name", "container")
        if not container.has_space or not container.space.kind.startswith("tce"):
            kind = container.space.kind if container.has_space else "none yet"
            cause = f"EEH is a part of the TCE IOMMU of POWER, and the container's IOMMU is {kind}"
            raise NotAvailable("use EEH", name, cause=cause)
        self.name: str = name
        self.container = container
        self._opened = device
        self.enabled = False
        """Whether it was enabled here."""
        if not container.supports(abi.VFIO_EEH):
            said = (Sysfs(container.backend).attribute(_SUPPORT) or "").partition("\n")[0]
            raise NotAvailable(
                "use EEH",
                name,
                cause="the kernel has no EEH now (VFIO_CHECK_EXTENSION says 0)" + (f": {said}" if said else ""),
                next_step="a hypervisor must give it to its machines; on bare metal: eeh=off? dmesg | grep EEH",
            )

    # -- the operations ------------------------------------------------------------------------------------------

    def enable(self) -> None:
        """Have EEH for the endpoint, and an endpoint that is not frozen: the kernel unfreezes it, or resets it first.

        The first thing that a program does with an endpoint.  (The kernel does that once more when a device is opened,
        without being asked.)  Raise `NotAvailable` (ENODEV: the group has no endpoint), `KernelRefused` (EIO).
        """
        self._do(PeOperation.ENABLE)
        self.enabled = True

    def disable(self) -> None:
        """Say that EEH is not needed any more.  (Linux 6.12 does nothing then.)"""
        self._do(PeOperation.DISABLE)
        self.enabled = False

    @property
    def state(self) -> EehState:
        """Whether it is frozen, as firmware has it now.  Raise as the other operations."""
        answer = self._do(PeOperation.GET_STATE)
        try:
            return EehState(answer)
        except ValueError:
            cause = f"the kernel says {answer}, which is no state of an endpoint"
            raise KernelRefused(_WORDS[PeOperation.GET_STATE], self.name, cause=cause) from None

    @property
    def frozen(self) -> bool:
        """Whether anything is stopped: the state is not NORMAL."""
        return self.state is not EehState.NORMAL

    def unfreeze_io(self) -> None:
        """Let loads and stores go again, so that registers can be read for a log.  DMA stays stopped.

        What made the endpoint freeze may do so again at once.  Raise `KernelRefused` (EIO: it stays frozen).
        """
        self._do(PeOperation.UNFREEZE_IO)

    def unfreeze_dma(self) -> None:
        """Let DMA go again.  Without a reset before, a device may go on with what it was doing at the freeze."""
        self._do(PeOperation.UNFREEZE_DMA)

    def assert_reset(self, kind: str = "hot") -> None:
        """Begin a reset, ``hot`` or ``fundamental``: the endpoint is frozen, and its configuration space out of reach.

        It lasts until `deactivate_reset`; `state` is STOPPED meanwhile (RESET, where a hypervisor is the firmware).
        Raise `Misuse` for another kind, `KernelRefused` (EIO: firmware refused).
        """
        operation = _RESETS.get(kind)
        if operation is None:
            raise Misuse("reset the endpoint", self.name, cause=f"a reset is {' or '.join(_RESETS)}, not {kind!r}")
        self._do(operation)

    def deactivate_reset(self) -> None:
        """End a reset: the kernel sets up BARs, enables the devices' memory and unfreezes the endpoint.

        It takes a second or two on real hardware.  Raise `KernelRefused`; the endpoint is in reset still, or frozen.
        """
        self._do(PeOperation.RESET_DEACTIVATE)

    def reset(self, kind: str = "hot") -> None:
        """A whole reset; it is ended in any case.  As `assert_reset` and `deactivate_reset`."""
        try:
            self.assert_reset(kind)
        except BaseException:  # it may have begun: the kernel blocks configuration space before it asks firmware
            with contextlib.suppress(PyvfioError):
                self.deactivate_reset()
            raise
        self.deactivate_reset()

    def configure(self) -> None:
        """Have the kernel set up the bridges of the endpoint again, after a reset."""
        self._do(PeOperation.CONFIGURE)

    def inject(
        self,
        function: EehErrorFunction | int,
        *,
        type: EehErrorType | int | None = None,
        address: int = 0,
        mask: int = 0,
    ) -> None:
        """Have the host bridge make an error of the next transfer that is of this `function`.

        What `address` and `mask` are is in `pyvfio.ioda.injection`, which makes them of a register, a base address or
        a DMA address; 0, 0 is any of the endpoint.  `type` is the window that an address is in, None: it is looked up.
        The endpoint freezes with that transfer, not at once.
        Raise `Misuse` for numbers that are too large, `KernelRefused`: EINVAL (function) or ERANGE (type) for what the
        kernel does not know, EIO when firmware refuses, ENXIO when it cannot inject.
        """
        from pyvfio.ioda.injection import function_of, needed_type

        width = needed_type(function_of(self._opened), function, address) if type is None else type
        for words, value, end in (
            ("type", width, 1 << 32),
            ("function", function, 1 << 32),
            ("address", address, _WORD_END),
            ("mask", mask, _WORD_END),
        ):
            if not 0 <= value < end:
                raise Misuse("inject an error", self.name, cause=f"the {words} {value:#x} has no room in the request")
        argument = spapr.EehPeOp.sized(op=PeOperation.INJECT_ERR)
        argument.err.type, argument.err.func = int(width), int(function)
        argument.err.addr, argument.err.mask = address, mask
        self._do(PeOperation.INJECT_ERR, argument)

    # -- the beginning and the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """`disable`, if it was enabled here and the container is open still; a second call does nothing."""
        if not self.enabled:
            return
        self.enabled = False
        if self.container.fileno() >= 0 and self.container.groups:
            with contextlib.suppress(NotAvailable):  # its devices have left
                self._do(PeOperation.DISABLE)

    def __enter__(self) -> Self:
        self.enable()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Pe of {self.name}{', EEH enabled' if self.enabled else ''}>"

    # -- inside --------------------------------------------------------------------------------------------------

    def _do(self, operation: PeOperation, argument: spapr.EehPeOp | None = None) -> int:
        request = spapr.EehPeOp.sized(op=operation) if argument is None else argument
        try:
            return self.container.request(_WORDS[operation], spapr.VFIO_EEH_PE_OP, bytearray(bytes(request)))
        except PyvfioError as error:
            raise self._explained(operation, error, request) from error

    def _explained(self, operation: PeOperation, error: PyvfioError, request: spapr.EehPeOp) -> PyvfioError:
        if error.errno is None:
            return error
        cause, step = error.cause, error.next_step
        kind: type[PyvfioError] = type(error)
        if error.errno == errno.ENODEV:
            kind = NotAvailable
            cause = "a group of the container has no endpoint under EEH (on pseries the hypervisor gives none, or its"
            cause += " devices have left)"
            step = "pyvfio eeh status shows which functions have one"
        elif operation is PeOperation.INJECT_ERR:
            cause, step = injection_refused(error.errno, request.err.type, request.err.func) or (cause, step)
        elif error.errno == errno.EIO:
            state = self._state_now(operation)
            now = "" if state is None else f"; the endpoint is {state.name}: {STATE_WORDS[state]}"
            cause = f"firmware did not do it{now}"
            step = "deactivate_reset() ends the reset" if state is EehState.RESET else "reset('fundamental'), or dmesg"
        elif error.errno == errno.EPERM:
            cause = "another process set this container up (the kernel knows only the one that did)"
        return kind(_WORDS[operation], self.name, path=error.path, errno=error.errno, cause=cause, next_step=step)

    def _state_now(self, operation: PeOperation) -> EehState | None:
        if operation is PeOperation.GET_STATE:
            return None
        try:
            return self.state
        except PyvfioError:
            return None


def _container_of(device: Device | Container) -> Container:
    from pyvfio.vfio.container import Container

    if isinstance(device, Container):
        return device
    container = None if device.group is None else device.group.container
    if container is None:
        raise Misuse(
            "use EEH",
            device.name,
            cause=f"EEH operations are requests of a container, and the device was opened by {device.way}",
            next_step='open it with way="group"; with a descriptor that was handed over, its opener does them',
        )
    return container


def injection_refused(number: int, type: int, function: int) -> tuple[str, str] | None:
    """Cause and next step of a refused injection's errno (``eeh_pe_inject_err``, ``pnv_eeh_err_inject``)."""
    if number == errno.EINVAL:
        return f"there are functions 0 to {EEH_ERR_FUNC_MAX} (EehErrorFunction), not {function}", ""
    if number == errno.ERANGE:
        return f"there are types 0 (32 bits) and 1 (64 bits), not {type}", ""
    if number == errno.EIO:
        cause = "firmware refused: this host bridge cannot make that error, or an injection is waiting still"
        return cause, "a PHB4 makes errors of configuration space alone (LD_CFG_ADDR, ...); dmesg"
    if number == errno.ENXIO:
        return "this machine's firmware injects no errors", ""
    if number == errno.ENOENT:
        return "this platform injects no errors", ""
    return None
