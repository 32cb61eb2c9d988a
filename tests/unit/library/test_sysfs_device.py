"""What is said of a device whatever its bus."""

from __future__ import annotations

import pytest

from pyvfio.sysfs_device import is_vfio_name


@pytest.mark.parametrize(
    ("driver", "is_one"),
    [
        ("", False),
        ("virtio-pci", False),
        ("io_subchannel", False),
        ("nvfio", False),
        ("vfio-pci", True),
        ("vfio_ccw", True),
        ("vfio-platform", True),
        ("mlx5_vfio_pci", True),
        ("nvgrace-gpu-vfio-pci", True),
    ],
)
def test_names_of_vfio_drivers(driver: str, is_one: bool) -> None:
    assert is_vfio_name(driver) is is_one
