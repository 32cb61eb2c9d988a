"""``VFIO_EEH_PE_OP`` on an endpoint that works: which operations there are, and what they answer.

Errors that strike and resets are not here: no emulator freezes an endpoint, and its firmware does not always reset one.
"""

from __future__ import annotations

import ctypes
from errno import EFAULT, EINVAL, ERANGE

import pytest

from pyvfio.abi import eeh, vfio
from pyvfio.abi import vfio_spapr as abi
from pyvfio.backend import Backend
from pyvfio.testing import requests
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import CONTAINER
from pyvfio.testing.spapr import BOTH, TceContainer, add_group, open_tce, require_tce

HEAD = ctypes.sizeof(ctypes.c_uint32) * 3
"""The size of an operation without an error to inject."""
ON_A_WORKING_ONE = {
    "disable": abi.VFIO_EEH_PE_DISABLE,
    "enable": abi.VFIO_EEH_PE_ENABLE,
    "unfreeze-io": abi.VFIO_EEH_PE_UNFREEZE_IO,
    "unfreeze-dma": abi.VFIO_EEH_PE_UNFREEZE_DMA,
    "get-state": abi.VFIO_EEH_PE_GET_STATE,
    "configure": abi.VFIO_EEH_PE_CONFIGURE,
}
EACH = pytest.mark.parametrize("op", ON_A_WORKING_ONE.values(), ids=ON_A_WORKING_ONE)
BAD_TYPES, BAD_FUNCTIONS = (2, 99, 1 << 31), (20, 99, 1 << 31, (1 << 32) - 1)


@pytest.fixture(params=BOTH, ids=["v1", "v2"])
def container(
    request: pytest.FixtureRequest, backend: Backend, files: OpenFiles, function: BoundFunction
) -> TceContainer:
    require_tce(backend)
    opened = open_tce(backend, files, function, request.param)
    if not opened.extension(vfio.VFIO_EEH):
        pytest.skip("this kernel has no adapter under EEH")
    return opened


def state(container: TceContainer) -> int:
    return container.eeh(abi.VFIO_EEH_PE_GET_STATE)


def test_it_works(container: TceContainer) -> None:
    assert state(container) == abi.VFIO_EEH_PE_STATE_NORMAL


@EACH
def test_an_operation(container: TceContainer, op: int) -> None:
    assert container.eeh(op) == 0
    assert state(container) == abi.VFIO_EEH_PE_STATE_NORMAL
    assert container.extension(vfio.VFIO_EEH) == 1


@EACH
def test_an_operation_while_the_device_is_open(
    backend: Backend, files: OpenFiles, function: BoundFunction, container: TceContainer, op: int
) -> None:
    fd = files.adopt(requests.device_fd(backend, container.group, function.address))
    assert container.eeh(op) == container.eeh(op) == 0
    config = requests.region_info(backend, fd, vfio.VFIO_PCI_CONFIG_REGION_INDEX)[0]
    assert backend.pread(fd, 4, config.offset) not in (b"\xff" * 4, bytes(4))


@pytest.mark.parametrize("op", [10, 11, 99, 1 << 31, (1 << 32) - 1])
def test_an_operation_that_is_none(container: TceContainer, op: int) -> None:
    with fails(EINVAL):
        container.eeh(op)
    assert state(container) == abi.VFIO_EEH_PE_STATE_NORMAL


@EACH
@pytest.mark.parametrize("flags", [1, 1 << 31])
def test_flags(container: TceContainer, op: int, flags: int) -> None:
    with fails(EINVAL):
        container.eeh(op, flags=flags)


@EACH
@pytest.mark.parametrize("argsz", [0, 8, HEAD - 1])
def test_too_small_a_structure(container: TceContainer, op: int, argsz: int) -> None:
    with fails(EINVAL):
        container.eeh(op, argsz=argsz)


@EACH
@pytest.mark.parametrize("argsz", [HEAD, HEAD + 4, 1 << 20])
def test_a_structure_with_room(container: TceContainer, op: int, argsz: int) -> None:
    assert container.eeh(op, argsz=argsz) == 0


def test_a_wild_structure(backend: Backend, container: TceContainer, wild: int) -> None:
    with fails(EFAULT):
        backend.ioctl(container.fd, abi.VFIO_EEH_PE_OP, wild)


@pytest.mark.parametrize("argsz", [HEAD, HEAD + 24, ctypes.sizeof(abi.EehPeOp) - 1])
def test_an_error_in_too_small_a_structure(container: TceContainer, argsz: int) -> None:
    with fails(EINVAL):
        container.eeh(abi.VFIO_EEH_PE_INJECT_ERR, argsz=argsz)


@pytest.mark.parametrize("kind", BAD_TYPES)
@pytest.mark.parametrize("what", [eeh.EEH_ERR_FUNC_LD_MEM_ADDR, eeh.EEH_ERR_FUNC_DMA_WR_TARGET])
def test_an_error_of_no_type(container: TceContainer, kind: int, what: int) -> None:
    with fails(ERANGE):
        container.eeh(abi.VFIO_EEH_PE_INJECT_ERR, error=(kind, what, 0, 0))
    assert state(container) == abi.VFIO_EEH_PE_STATE_NORMAL


@pytest.mark.parametrize("what", BAD_FUNCTIONS)
@pytest.mark.parametrize("kind", [eeh.EEH_ERR_TYPE_32, eeh.EEH_ERR_TYPE_64, *BAD_TYPES])
def test_an_error_that_strikes_nothing(container: TceContainer, kind: int, what: int) -> None:
    """The core of EEH looks at the function before the platform looks at the type."""
    with fails(EINVAL):
        container.eeh(abi.VFIO_EEH_PE_INJECT_ERR, error=(kind, what, 0, 0))
    assert state(container) == abi.VFIO_EEH_PE_STATE_NORMAL


def test_before_there_is_an_iommu(backend: Backend, files: OpenFiles, function: BoundFunction) -> None:
    require_tce(backend)
    empty = TceContainer(backend, files.open(CONTAINER))
    with fails(EINVAL):
        state(empty)
    add_group(backend, files, empty.fd, function)
    with fails(EINVAL):
        state(empty)


def test_all_groups_are_asked(
    backend: Backend, files: OpenFiles, function: BoundFunction, function2: BoundFunction
) -> None:
    require_tce(backend)
    opened = open_tce(backend, files, function, BOTH[1])
    if not opened.extension(vfio.VFIO_EEH):
        pytest.skip("this kernel has no adapter under EEH")
    other = add_group(backend, files, opened.fd, function2)
    for op in ON_A_WORKING_ONE.values():
        assert opened.eeh(op) == 0
    backend.ioctl(other, vfio.VFIO_GROUP_UNSET_CONTAINER)
    assert state(opened) == abi.VFIO_EEH_PE_STATE_NORMAL
