"""`pyvfio.abi.request`: numbers by architecture, and the names of a number."""

from __future__ import annotations

import os

import pytest

from pyvfio.abi import iommufd, vfio, vfio_feature, vfio_gfx, vfio_spapr, vfio_type1
from pyvfio.abi.request import VFIO_BASE, VFIO_TYPE, Request, as_here, request, request_names, same_requests


@pytest.mark.parametrize("number", [0, 0x3B63, 0x3B65 << 8, -1])
def test_a_number_of_nobody_has_no_name(number: int) -> None:
    assert request_names(number) == ()


@pytest.mark.parametrize(
    ("machine", "number"),
    [("s390x", 0x3B64), ("x86_64", 0x3B64), ("aarch64", 0x3B64), ("riscv64", 0x3B64), ("ppc64le", 0x20003B64)],
)
def test_the_number_of_an_architecture(machine: str, number: int) -> None:
    """``_IOC_NONE`` is 1, at bit 29, in arch/powerpc/include/uapi/asm/ioctl.h, and 0 in asm-generic/ioctl.h."""
    assert request(VFIO_TYPE, VFIO_BASE + 0).on(machine) == number


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
    """Base + 0 to base + 21 in vfio.h, 0x80 to 0x8f in iommufd.h."""
    numbers = [VFIO_BASE + step for step in range(22)] + list(range(0x80, 0x90))
    assert all(request_names(request(VFIO_TYPE, number)) for number in numbers)
    assert not request_names(request(VFIO_TYPE, VFIO_BASE + 22))
    assert not request_names(request(VFIO_TYPE, 0x90))


@pytest.mark.parametrize("machine", ["ppc64", "ppc64le", "mips64", "sparc64", "alpha"])
def test_a_machine_where_no_direction_is_a_bit(machine: str) -> None:
    """The same in arch/{powerpc,mips,sparc,alpha}/include/uapi/asm/ioctl.h, and for iommufd."""
    assert vfio_spapr.VFIO_EEH_PE_OP.on(machine) == 0x20003B79
    assert iommufd.IOMMU_IOAS_MAP.on(machine) == 0x20003B85
    assert iommufd.IOMMU_IOAS_MAP.on("parisc64") == 0x3B85


def test_all_requests_of_the_tables_are_requests() -> None:
    """So a machine of another architecture knows them by their type."""
    names = [
        name
        for module in (iommufd, vfio, vfio_feature, vfio_gfx, vfio_spapr, vfio_type1)
        for name, value in vars(module).items()
        if type(value) is int and 0x3B64 <= value & 0xFFFF < 0x3C00
    ]
    assert names == []
    assert isinstance(vfio.VFIO_GET_API_VERSION, Request)


@pytest.mark.parametrize("machine", ["x86_64", "s390x", "ppc64le"])
def test_what_a_program_of_another_machine_says(machine: str) -> None:
    start = vfio.VFIO_GET_API_VERSION
    assert as_here(start.on(machine), machine) == start
    foreign = start.on("s390x" if machine == "ppc64le" else "ppc64le")
    assert as_here(foreign, machine) != start
    assert request_names(start.on(machine), machine) == ("VFIO_GET_API_VERSION",)
    assert request_names(foreign, machine) == ()
    assert request_names(start, machine) == ("VFIO_GET_API_VERSION",)


@pytest.mark.parametrize("number", [0xC0A8630C, 0x40081272, 0x3B640000, 1 << 31])
def test_what_has_a_direction_or_a_size_stays(number: int) -> None:
    assert as_here(number, "ppc64le") == number


def test_a_number_has_32_bits() -> None:
    assert as_here(-1, "ppc64le") == 0xFFFFFFFF
    assert as_here((1 << 40) + vfio.VFIO_GET_API_VERSION.on("ppc64le"), "ppc64le") == vfio.VFIO_GET_API_VERSION


def test_machines_with_the_same_numbers() -> None:
    assert same_requests(os.uname().machine)
    assert same_requests("s390x") != same_requests("ppc64le")
    assert same_requests("s390x") == same_requests("x86_64")
