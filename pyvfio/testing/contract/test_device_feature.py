"""VFIO_DEVICE_FEATURE."""

from __future__ import annotations

from errno import EFAULT, EINVAL, ENOTTY

import pytest

from pyvfio.abi import vfio, vfio_feature
from pyvfio.backend import Backend
from pyvfio.testing import requests
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import OpenDevice

GET, SET, PROBE = vfio.VFIO_DEVICE_FEATURE_GET, vfio.VFIO_DEVICE_FEATURE_SET, vfio.VFIO_DEVICE_FEATURE_PROBE
TOKEN = vfio_feature.VFIO_DEVICE_FEATURE_PCI_VF_TOKEN
MIGRATION = vfio_feature.VFIO_DEVICE_FEATURE_MIGRATION
LOW_POWER = vfio_feature.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY
LOW_POWER_EXIT = vfio_feature.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT


@pytest.mark.parametrize("argsz", [0, 7])
def test_too_small(backend: Backend, opened: OpenDevice, argsz: int) -> None:
    with fails(EINVAL):
        requests.feature(backend, opened.fd, PROBE | GET | MIGRATION, argsz=argsz)


@pytest.mark.parametrize("flags", [0, GET | SET, 1 << 19, 1 << 31 | GET], ids=["none", "get-set", "bit-19", "bit-31"])
def test_wrong_flags(backend: Backend, opened: OpenDevice, flags: int) -> None:
    with fails(EINVAL):
        requests.feature(backend, opened.fd, flags | LOW_POWER)


def test_a_wild_address(backend: Backend, opened: OpenDevice, wild: int) -> None:
    with fails(EFAULT):
        backend.ioctl(opened.fd, vfio.VFIO_DEVICE_FEATURE, wild)


@pytest.mark.parametrize("number", [999, 0xFFFF])
@pytest.mark.parametrize("flags", [GET, SET, PROBE | GET, PROBE | SET | GET], ids=["get", "set", "probe-get", "probe"])
def test_a_feature_that_is_none(backend: Backend, opened: OpenDevice, number: int, flags: int) -> None:
    with fails(ENOTTY):
        requests.feature(backend, opened.fd, flags | number)


@pytest.mark.parametrize(
    "number",
    [
        TOKEN,
        MIGRATION,
        vfio_feature.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
        vfio_feature.VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
        vfio_feature.VFIO_DEVICE_FEATURE_MIG_DATA_SIZE,
        vfio_feature.VFIO_DEVICE_FEATURE_BUS_MASTER,
    ],
)
def test_what_this_function_has_not(backend: Backend, opened: OpenDevice, number: int) -> None:
    for flags in (PROBE | GET, PROBE | SET, GET, SET):
        with fails(ENOTTY):
            requests.feature(backend, opened.fd, flags | number, bytes(64))


def test_low_power_is_known(backend: Backend, opened: OpenDevice) -> None:
    requests.feature(backend, opened.fd, PROBE | SET | LOW_POWER)
    requests.feature(backend, opened.fd, PROBE | SET | LOW_POWER_EXIT)


def test_low_power_cannot_be_asked(backend: Backend, opened: OpenDevice) -> None:
    with fails(EINVAL):
        requests.feature(backend, opened.fd, GET | LOW_POWER)
    with fails(EINVAL):
        requests.feature(backend, opened.fd, PROBE | GET | LOW_POWER)


def test_low_power_twice(backend: Backend, opened: OpenDevice) -> None:
    requests.feature(backend, opened.fd, SET | LOW_POWER)
    with fails(EINVAL):
        requests.feature(backend, opened.fd, SET | LOW_POWER)
    requests.feature(backend, opened.fd, SET | LOW_POWER_EXIT)
    requests.feature(backend, opened.fd, SET | LOW_POWER_EXIT)
