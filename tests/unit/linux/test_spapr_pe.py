"""`pyvfio.ioda.Pe` at the seam: which request each operation is, and what each answer of the kernel becomes."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

import pytest
from spapr_rig import SpaprLab

import pyvfio
from pyvfio.abi import vfio_spapr as abi
from pyvfio.abi.eeh import EehErrorFunction, EehErrorType
from pyvfio.abi.vfio_spapr import EehState
from pyvfio.errors import KernelRefused, Misuse, NotAvailable, PyvfioError
from pyvfio.host import Host
from pyvfio.ioda import Pe
from pyvfio.vfio.container import Container
from pyvfio.vfio.group import Group
from pyvfio_backends.software.linux.iommu_group import IommuGroup
from pyvfio_backends.software.linux.uaccess import Argument


class Eeh:
    """The kernel's half: it notes operations, and answers by `answers` (an OSError is raised), else 0."""

    enabled = True

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.errors: list[tuple[int, int, int, int]] = []
        self.answers: dict[int, int | OSError] = {}

    def pe_op(self, group: IommuGroup, argument: Argument) -> int:
        request = abi.EehPeOp.from_buffer_copy(argument.read(0, len(bytes(abi.EehPeOp()))))
        assert (request.argsz, request.flags) == (len(bytes(request)), 0)
        self.asked.append(request.op)
        if request.op == abi.VFIO_EEH_PE_INJECT_ERR:
            err = request.err
            self.errors.append((err.type, err.func, err.addr, err.mask))
        answer = self.answers.get(request.op, 0)
        if isinstance(answer, OSError):
            raise answer
        return answer


@pytest.fixture
def eeh() -> Eeh:
    return Eeh()


@pytest.fixture
def container(eeh: Eeh) -> Iterator[Container]:
    lab = SpaprLab()
    lab.core.eeh = eeh
    with lab.host:
        host = Host(lab.host)
        with Container(host) as container, Group(host, lab.number("p0")) as group:
            container.attach(group)
            container.set_iommu()
            yield container


@pytest.mark.parametrize(
    ("call", "operations"),
    [
        (Pe.enable, [abi.VFIO_EEH_PE_ENABLE]),
        (Pe.disable, [abi.VFIO_EEH_PE_DISABLE]),
        (Pe.unfreeze_io, [abi.VFIO_EEH_PE_UNFREEZE_IO]),
        (Pe.unfreeze_dma, [abi.VFIO_EEH_PE_UNFREEZE_DMA]),
        (Pe.assert_reset, [abi.VFIO_EEH_PE_RESET_HOT]),
        (Pe.deactivate_reset, [abi.VFIO_EEH_PE_RESET_DEACTIVATE]),
        (Pe.reset, [abi.VFIO_EEH_PE_RESET_HOT, abi.VFIO_EEH_PE_RESET_DEACTIVATE]),
        (lambda pe: pe.reset("fundamental"), [abi.VFIO_EEH_PE_RESET_FUNDAMENTAL, abi.VFIO_EEH_PE_RESET_DEACTIVATE]),
        (Pe.configure, [abi.VFIO_EEH_PE_CONFIGURE]),
    ],
)
def test_operations(container: Container, eeh: Eeh, call: Callable[[Pe], None], operations: list[int]) -> None:
    """Each is the request of ``vfio.h`` with its structure whole, flags 0."""
    call(Pe(container))
    assert eeh.asked == operations


@pytest.mark.parametrize("state", EehState)
def test_states(container: Container, eeh: Eeh, state: EehState) -> None:
    eeh.answers[abi.VFIO_EEH_PE_GET_STATE] = int(state)
    pe = Pe(container)
    assert (pe.state, pe.frozen) == (state, state is not EehState.NORMAL)


def test_a_state_that_nobody_knows(container: Container, eeh: Eeh) -> None:
    eeh.answers[abi.VFIO_EEH_PE_GET_STATE] = 3
    with pytest.raises(KernelRefused, match="says 3"):
        _ = Pe(container).state


def test_it_is_disabled_at_the_end(container: Container, eeh: Eeh) -> None:
    with Pe(container) as pe:
        assert pe.enabled
    pe.close()
    assert eeh.asked == [abi.VFIO_EEH_PE_ENABLE, abi.VFIO_EEH_PE_DISABLE]
    with Pe(container) as pe:
        container.detach(container.groups[0])
    assert eeh.asked == [abi.VFIO_EEH_PE_ENABLE, abi.VFIO_EEH_PE_DISABLE, abi.VFIO_EEH_PE_ENABLE]


def test_a_reset_that_fails_is_ended(container: Container, eeh: Eeh) -> None:
    """``eeh_pe_reset`` blocks configuration space before firmware is asked; only DEACTIVATE lets it go."""
    eeh.answers[abi.VFIO_EEH_PE_RESET_HOT] = OSError(errno.EIO, "no")
    eeh.answers[abi.VFIO_EEH_PE_GET_STATE] = int(EehState.NORMAL)
    with pytest.raises(KernelRefused, match="the endpoint is NORMAL"):
        Pe(container).reset()
    assert eeh.asked[-1] == abi.VFIO_EEH_PE_RESET_DEACTIVATE


def test_injection(container: Container, eeh: Eeh) -> None:
    pe, function = Pe(container), EehErrorFunction.LD_MEM_ADDR
    pe.inject(function)
    pe.inject(function, address=1 << 40, mask=~0 & (1 << 64) - 1)
    pe.inject(7, type=EehErrorType.BITS_64, address=0x80000000)
    assert eeh.errors == [(0, 0, 0, 0), (1, 0, 1 << 40, (1 << 64) - 1), (1, 7, 0x80000000, 0)]
    for wrong in ({"address": 1 << 64}, {"mask": -1}, {"type": 1 << 32}):
        with pytest.raises(Misuse, match="no room"):
            pe.inject(function, **wrong)
    assert len(eeh.errors) == 3


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EINVAL, "functions 0 to 19"),
        (errno.ERANGE, "types 0"),
        (errno.EIO, "firmware refused"),
        (errno.ENXIO, "firmware injects no"),
        (errno.ENOENT, "platform injects no"),
        (errno.ENODEV, "no endpoint under EEH"),
    ],
)
def test_refused_injections(container: Container, eeh: Eeh, number: int, words: str) -> None:
    """The errors of ``eeh_pe_inject_err`` and ``pnv_eeh_err_inject``, and ENODEV of a group without an endpoint."""
    eeh.answers[abi.VFIO_EEH_PE_INJECT_ERR] = OSError(number, "no")
    with pytest.raises(PyvfioError, match=words) as caught:
        Pe(container).inject(99)
    assert caught.value.errno == number
    assert isinstance(caught.value, NotAvailable if number == errno.ENODEV else PyvfioError)


def test_unfreezing_in_reset(container: Container, eeh: Eeh) -> None:
    """``eeh_pci_enable`` waits for the endpoint, and is EIO when it stays as it was."""
    eeh.answers = {abi.VFIO_EEH_PE_UNFREEZE_IO: OSError(errno.EIO, ""), abi.VFIO_EEH_PE_GET_STATE: 1}
    with pytest.raises(KernelRefused, match="RESET") as caught:
        Pe(container).unfreeze_io()
    assert "deactivate_reset" in caught.value.next_step


def test_a_reset_of_another_kind(container: Container, eeh: Eeh) -> None:
    with pytest.raises(Misuse, match="hot or fundamental"):
        Pe(container).reset("warm")
    assert not [one for one in eeh.asked if one != abi.VFIO_EEH_PE_RESET_DEACTIVATE]


def test_a_kernel_without_eeh(container: Container, eeh: Eeh) -> None:
    eeh.enabled = False
    with pytest.raises(NotAvailable, match="VFIO_CHECK_EXTENSION says 0"):
        Pe(container)


def test_other_iommus_have_none() -> None:
    with pyvfio.Host("software", machine="x86-copiers") as host:
        name = "0000:03:00.0"
        pyvfio.bind(host.device(name))
        with pyvfio.open_device(host, name) as device, pytest.raises(Misuse, match="opened by iommufd"):
            Pe(device)
        with pyvfio.open_device(host, name, way="group") as device, pytest.raises(NotAvailable, match="type1v2"):
            Pe(device)
        with Container(host) as container, pytest.raises(NotAvailable, match="none yet"):
            Pe(container)
