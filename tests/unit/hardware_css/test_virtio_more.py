"""Virtio devices of more kinds: without a legacy interface, with configurations that drivers write; majors of ports."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from test_css_devices import DONE, REJECT, Virtio

from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.devices.virtio_ccw import VirtioCcw
from pyvfio_backends.software.hardware.devices.virtio_input import virtio_keyboard
from pyvfio_backends.software.hardware.devices.virtio_models import (
    virtio_balloon,
    virtio_console,
    virtio_crypto,
    virtio_gpu,
    virtio_net,
    virtio_scsi,
)
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.majors import release_major, take_major, vfio_majors
from pyvfio_backends.software.linux.subsystems import Subsystems


@pytest.mark.parametrize("make", [virtio_gpu, virtio_crypto, virtio_keyboard])
def test_a_modern_device_does_nothing_without_a_revision(make: type[VirtioCcw]) -> None:
    device = Virtio(make(), revision=None)
    assert device.do("22", "00") == REJECT
    assert device.do("83", "00000000") == REJECT  # it has no revision 0
    assert device.do("83", "00010000") == DONE
    assert device.do("22", "00") == DONE


def test_a_keyboard_answers_what_is_selected() -> None:
    device = Virtio(virtio_keyboard())
    assert device.do("21", "0100") == DONE
    assert device.do("22", "00" * 37) == DONE
    assert bytes.fromhex(device.data(37))[8:29] == b"QEMU Virtio Keyboard\0"
    assert device.do("21", "7f00") == DONE  # it does not know this
    assert device.do("22", "00" * 37) == DONE
    assert device.data(37) == "00" * 37


def test_a_reset_brings_the_configuration_back() -> None:
    device = Virtio(virtio_net("52:54:00:00:00:01"))
    assert device.do("21", "0a") == DONE
    assert device.do("22", "00" * 6) == DONE
    assert device.data(6) == "0a5400000001"
    assert device.do("33") == DONE
    assert device.do("22", "00" * 6) == DONE
    assert device.data(6) == "525400000001"


def test_a_driver_of_version_1_does_not_write_the_hardware_address() -> None:
    device = Virtio(virtio_net("52:54:00:00:00:01"))
    assert device.do("11", "0100000001") == DONE
    assert device.do("21", "0a") == DONE
    assert device.do("22", "00" * 6) == DONE
    assert device.data(6) == "525400000001"


def test_a_balloon_keeps_its_size() -> None:
    device = Virtio(virtio_balloon())
    assert device.do("21", "55" * 4 + "01000000") == DONE
    assert device.do("33") == DONE
    assert device.do("22", "00" * 16) == DONE
    assert device.data(16) == "00" * 4 + "01000000" + "00" * 8


def test_scsi_takes_new_sizes_of_sense_and_command_only() -> None:
    device = Virtio(virtio_scsi())
    assert device.do("21", "ff" * 36) == DONE
    assert device.do("22", "00" * 36) == DONE
    assert device.data(36)[40:56] == "ff" * 8
    assert device.data(36)[:8] == "00000001"


def test_a_console_has_so_many_ports() -> None:
    console = virtio_console(4)
    assert console.config.hex() == "000000000000000400000000"
    assert [queue.size for queue in console.queues] == [128, 128, 32, 32, *[128] * 6]
    with pytest.raises(Misuse):
        virtio_console(32)


def test_majors() -> None:
    kernel = cast(Kernel, SimpleNamespace(subsystems=Subsystems()))
    assert (take_major(kernel), take_major(kernel)) == (254, 253)
    assert vfio_majors(kernel, 2) == vfio_majors(kernel) == (252, 251)
    release_major(kernel, 253)
    assert (take_major(kernel), take_major(kernel)) == (253, 250)
