"""`pyvfio.abi.request`: numbers by architecture, and the names of a number."""

from __future__ import annotations

import pytest

from pyvfio.abi import iommufd, vfio, vfio_spapr, vfio_type1
from pyvfio.abi.request import VFIO_BASE, VFIO_TYPE, request, request_names


@pytest.mark.parametrize("number", [0, 0x3B63, 0x3B65 << 8, -1])
def test_a_number_of_nobody_has_no_name(number: int) -> None:
    assert request_names(number) == ()


@pytest.mark.parametrize(
    ("machine", "number"),
    [("s390x", 0x3B64), ("x86_64", 0x3B64), ("aarch64", 0x3B64), ("riscv64", 0x3B64), ("ppc64le", 0x20003B64)],
)
def test_the_number_of_an_architecture(machine: str, number: int) -> None:
    """``_IOC_NONE`` is 1, at bit 29, in arch/powerpc/include/uapi/asm/ioctl.h, and 0 in asm-generic/ioctl.h."""
    assert request(VFIO_TYPE, VFIO_BASE + 0, machine) == number


def test_one_number_has_several_names() -> None:
    assert vfio_type1.VFIO_IOMMU_MAP_DMA == vfio.VFIO_DEVICE_PCI_HOT_RESET
    assert vfio_spapr.VFIO_IOMMU_SPAPR_REGISTER_MEMORY == vfio.VFIO_DEVICE_FEATURE
    assert set(request_names(vfio.VFIO_DEVICE_FEATURE)) == {
        "VFIO_DEVICE_FEATURE",
        "VFIO_IOMMU_DIRTY_PAGES",
        "VFIO_IOMMU_SPAPR_REGISTER_MEMORY",
    }
    assert request_names(iommufd.IOMMU_IOAS_MAP) == ("IOMMU_IOAS_MAP",)


def test_every_number_in_use_has_a_name() -> None:
    """Base + 0 to base + 21 in vfio.h, 0x80 to 0x8e in iommufd.h."""
    numbers = [VFIO_BASE + step for step in range(22)] + list(range(0x80, 0x8F))
    assert all(request_names(request(VFIO_TYPE, number)) for number in numbers)
    assert not request_names(request(VFIO_TYPE, VFIO_BASE + 22))
    assert not request_names(request(VFIO_TYPE, 0x8F))
