"""Steps that make errors in an endpoint of POWER and recover it, by VFIO or by sysfs.  Nothing takes them back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyvfio.abi.eeh import EehErrorFunction
from pyvfio.abi.vfio_spapr import EehState
from pyvfio.address import PciAddress
from pyvfio.binding.step import Step, journaled
from pyvfio.devices import PciFunction
from pyvfio.errors import KernelRefused, NotAvailable
from pyvfio.ioda.status import read_status
from pyvfio.sysfs import Sysfs

if TYPE_CHECKING:
    from pyvfio.ioda.pe import Pe

__all__ = ["InjectByDebugfs", "InjectEndpointError", "RecoverEndpoint", "UnfreezeEndpoint", "injection_file"]


def injection_file(name: str) -> str:
    """The file of debugfs by which root has the host bridge of a function make errors (``pnv_eeh_ei_write``)."""
    return f"/sys/kernel/debug/powerpc/PCI{PciAddress.parse(name).domain:04x}/err_injct"


def _function(sysfs: Sysfs, name: str) -> PciFunction:
    return PciFunction(sysfs, PciAddress.parse(name))


@contextmanager
def _endpoint(sysfs: Sysfs, name: str) -> Iterator[Pe]:
    """The endpoint of a function that VFIO has, by its group; no device is opened."""
    from pyvfio.host import Host
    from pyvfio.ioda.pe import Pe
    from pyvfio.vfio.container import Container
    from pyvfio.vfio.group import Group

    group = _function(sysfs, name).group
    if group is None:
        raise NotAvailable("use the endpoint", name, cause="it has no IOMMU group")
    host = Host(sysfs.backend)
    with Container(host) as container, Group(host, group.number) as opened:
        container.attach(opened)
        container.set_iommu()
        yield Pe(container)


class _Endpoint(Step):
    """What all have in common."""

    __slots__ = ()

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        return "nothing takes it back"

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`: there is nothing to undo."""


@journaled("eeh-inject")
@dataclass(frozen=True, slots=True)
class InjectEndpointError(_Endpoint):
    """Have the host bridge make an error of `device`'s endpoint; `bits` is 0 for 32 bits of address, 1 for 64."""

    device: str
    function: int
    bits: int
    address: int
    mask: int

    @property
    def text(self) -> str:
        """See `Step.text`."""
        where = f" at {self.address:#x} under mask {self.mask:#x}" if self.mask else ""
        return f"have the next {EehErrorFunction(self.function).name} of {self.device}'s endpoint fail{where}"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return ("/dev/vfio/vfio",)

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        with _endpoint(sysfs, self.device) as pe:
            pe.inject(self.function, type=self.bits, address=self.address, mask=self.mask)

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`: it strikes when somebody makes such an access."""
        return ""


@journaled("eeh-inject-debugfs")
@dataclass(frozen=True, slots=True)
class InjectByDebugfs(_Endpoint):
    """As `InjectEndpointError`, by the kernel's file for that: whoever has `device`, its driver or a program."""

    device: str
    function: int
    bits: int
    address: int
    mask: int

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return InjectEndpointError(self.device, self.function, self.bits, self.address, self.mask).text

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (injection_file(self.device),)

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        from pyvfio.ioda.pe import injection_refused

        found = read_status(_function(sysfs, self.device))
        if found is None or found.endpoint is None:
            raise NotAvailable("inject an error", self.device, cause="it has no endpoint under EEH now")
        values = (found.endpoint, self.bits, self.function, self.address, self.mask)
        try:
            sysfs.write_text(injection_file(self.device), ":".join(f"{value:x}" for value in values))
        except KernelRefused as error:
            why = injection_refused(error.errno or 0, self.bits, self.function)
            if why is not None:
                error.cause, error.next_step = why[0], why[1] or error.next_step
            raise

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`: it strikes when somebody makes such an access."""
        return ""


@journaled("eeh-recover")
@dataclass(frozen=True, slots=True)
class RecoverEndpoint(_Endpoint):
    """Reset `device`'s endpoint by VFIO, `how` being ``hot`` or ``fundamental``, or only unfreeze it (``unfreeze``).

    A run that is killed may leave a reset that was begun: to undo it is to end that.
    """

    device: str
    how: str

    @property
    def text(self) -> str:
        """See `Step.text`."""
        if self.how == "unfreeze":
            return f"unfreeze the endpoint of {self.device}"
        return f"reset the endpoint of {self.device} ({self.how}) and configure it"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return ("/dev/vfio/vfio",)

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        with _endpoint(sysfs, self.device) as pe:
            if self.how != "unfreeze":
                pe.unfreeze_io()
                pe.reset(self.how)
            elif _held(sysfs, self.device):
                pe.deactivate_reset()
            else:
                pe.unfreeze_io()
                pe.unfreeze_dma()
            pe.configure()

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        return "end a reset that was begun; nothing else takes it back"

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`."""
        if _held(sysfs, self.device):
            with _endpoint(sysfs, self.device) as pe:
                pe.deactivate_reset()

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        return _not_well(sysfs, self.device)


@journaled("eeh-unfreeze")
@dataclass(frozen=True, slots=True)
class UnfreezeEndpoint(_Endpoint):
    """Unfreeze the endpoint of `device` by sysfs: of one that the kernel's driver has."""

    device: str

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return f"unfreeze the endpoint of {self.device}"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (f"/sys/bus/pci/devices/{self.device}/eeh_pe_state",)

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        _function(sysfs, self.device).write("eeh_pe_state", "1")

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        return _not_well(sysfs, self.device)


def _held(sysfs: Sysfs, name: str) -> bool:
    found = read_status(_function(sysfs, name))
    return found is not None and found.held


def _not_well(sysfs: Sysfs, name: str) -> str:
    found = read_status(_function(sysfs, name))
    if found is not None and found.held:
        return f"the endpoint of {name} is still held in reset"
    state = None if found is None else found.state
    return "" if state in (None, EehState.NORMAL) else f"the endpoint of {name} is still {state.name}"
