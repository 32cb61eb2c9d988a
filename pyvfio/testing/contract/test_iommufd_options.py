"""Options of iommufd, and the requests with which it speaks for a container."""

from __future__ import annotations

from collections.abc import Callable
from errno import EBUSY, EINVAL, ENODEV, EOPNOTSUPP

import pytest

from pyvfio.abi import iommufd, vfio
from pyvfio.backend import Backend
from pyvfio.process import AnonymousMemory
from pyvfio.testing import requests
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import IOMMU

pytestmark = pytest.mark.usefixtures("iommufd")

Memory = Callable[[int], AnonymousMemory]


@pytest.fixture
def iommu(files: OpenFiles) -> int:
    return files.open(IOMMU)


@pytest.fixture
def ioas(backend: Backend, iommu: int) -> int:
    return requests.ioas_alloc(backend, iommu)


def option(backend: Backend, iommu: int, **fields: int) -> int:
    argument = iommufd.Option.sized(**fields)
    backend.ioctl(iommu, iommufd.IOMMU_OPTION, argument)
    return int(argument.val64)


def test_an_option_that_is_none(backend: Backend, iommu: int) -> None:
    with fails(EOPNOTSUPP):
        option(backend, iommu, option_id=99)


@pytest.mark.parametrize("value", [2, 1 << 40])
def test_an_option_with_a_wrong_value(backend: Backend, iommu: int, ioas: int, value: int) -> None:
    with fails(EINVAL):
        option(
            backend,
            iommu,
            option_id=iommufd.IOMMU_OPTION_HUGE_PAGES,
            op=iommufd.IOMMU_OPTION_OP_SET,
            object_id=ioas,
            val64=value,
        )


def test_huge_pages(backend: Backend, iommu: int, ioas: int) -> None:
    which = {"option_id": iommufd.IOMMU_OPTION_HUGE_PAGES, "object_id": ioas}
    assert option(backend, iommu, op=iommufd.IOMMU_OPTION_OP_GET, **which) == 1
    option(backend, iommu, op=iommufd.IOMMU_OPTION_OP_SET, val64=0, **which)
    assert option(backend, iommu, op=iommufd.IOMMU_OPTION_OP_GET, **which) == 0


def test_the_accounting_mode(backend: Backend, iommu: int) -> None:
    which = {"option_id": iommufd.IOMMU_OPTION_RLIMIT_MODE}
    assert option(backend, iommu, op=iommufd.IOMMU_OPTION_OP_GET, **which) == 0
    option(backend, iommu, op=iommufd.IOMMU_OPTION_OP_SET, val64=1, **which)
    assert option(backend, iommu, op=iommufd.IOMMU_OPTION_OP_GET, **which) == 1


def test_the_accounting_mode_is_chosen_first(backend: Backend, iommu: int, ioas: int) -> None:
    with fails(EBUSY):
        option(
            backend,
            iommu,
            option_id=iommufd.IOMMU_OPTION_RLIMIT_MODE,
            op=iommufd.IOMMU_OPTION_OP_SET,
            val64=1,
        )


def vfio_ioas(backend: Backend, iommu: int, op: int, ioas: int = 0) -> int:
    argument = iommufd.VfioIoas.sized(op=op, ioas_id=ioas)
    backend.ioctl(iommu, iommufd.IOMMU_VFIO_IOAS, argument)
    return int(argument.ioas_id)


def test_no_compatibility_ioas_at_first(backend: Backend, iommu: int) -> None:
    with fails(ENODEV):
        vfio_ioas(backend, iommu, iommufd.IOMMU_VFIO_IOAS_GET)


@pytest.mark.parametrize("op", [3, 0xFFFF])
def test_compatibility_with_an_operation_that_is_none(backend: Backend, iommu: int, ioas: int, op: int) -> None:
    with fails(EOPNOTSUPP):
        vfio_ioas(backend, iommu, op, ioas)


def test_the_compatibility_ioas(backend: Backend, iommu: int, ioas: int) -> None:
    vfio_ioas(backend, iommu, iommufd.IOMMU_VFIO_IOAS_SET, ioas)
    assert vfio_ioas(backend, iommu, iommufd.IOMMU_VFIO_IOAS_GET) == ioas
    vfio_ioas(backend, iommu, iommufd.IOMMU_VFIO_IOAS_CLEAR)
    with fails(ENODEV):
        vfio_ioas(backend, iommu, iommufd.IOMMU_VFIO_IOAS_GET)


def test_it_speaks_for_a_container(backend: Backend, iommu: int) -> None:
    assert backend.ioctl(iommu, vfio.VFIO_GET_API_VERSION) == vfio.VFIO_API_VERSION
    assert requests.check_extension(backend, iommu, vfio.VFIO_TYPE1v2_IOMMU) == 1
    assert requests.check_extension(backend, iommu, vfio.VFIO_UPDATE_VADDR) == 0


@pytest.mark.parametrize("kind", [vfio.VFIO_TYPE1_IOMMU, vfio.VFIO_TYPE1v2_IOMMU])
def test_set_iommu_without_a_compatibility_ioas(backend: Backend, iommu: int, kind: int) -> None:
    with fails(ENODEV):
        backend.ioctl(iommu, vfio.VFIO_SET_IOMMU, kind)
