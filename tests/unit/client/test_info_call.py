"""Info structures: asked again with more room, and answers that make no sense."""

from __future__ import annotations

import errno
import struct

import pytest
from client_fake import FakeHost

from pyvfio.abi import vfio as abi
from pyvfio.abi.layout import Capability, build_capability_chain
from pyvfio.call import Call, read_info
from pyvfio.errors import DeviceBusy, KernelRefused, MalformedAnswer, PermissionDenied

REQUEST = abi.VFIO_DEVICE_GET_INFO


@pytest.fixture
def fake() -> FakeHost:
    host = FakeHost()
    host.files["/dev/x"] = ""
    return host


def ask(fake: FakeHost) -> tuple[abi.DeviceInfo, list[Capability]]:
    call = Call(fake, fake.open("/dev/x", 0), "0011:00:00.0", "/dev/x")
    return read_info(call, "read device info", REQUEST, abi.DeviceInfo, "device info")


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.EINVAL, KernelRefused), (errno.EPERM, PermissionDenied), (errno.EBUSY, DeviceBusy)],
)
def test_a_refusal_is_the_class_for_its_errno(fake: FakeHost, number: int, kind: type[Exception]) -> None:
    def refuse(buffer: bytearray) -> int:
        raise OSError(number, "no")

    fake.answers[REQUEST] = refuse
    with pytest.raises(kind) as caught:
        ask(fake)
    error = caught.value
    assert isinstance(error, KernelRefused | PermissionDenied | DeviceBusy)
    assert (error.operation, error.obj, error.path) == ("read device info", "0011:00:00.0", "/dev/x")


def test_an_answer_that_asks_for_ever_more_room(fake: FakeHost) -> None:
    def grow(buffer: bytearray) -> int:
        struct.pack_into("=I", buffer, 0, len(buffer) + 8)
        return 0

    fake.answers[REQUEST] = grow
    with pytest.raises(MalformedAnswer, match="ever more room"):
        ask(fake)
    assert len([one for one in fake.calls if one[0] == "ioctl"]) <= 8


def test_an_answer_that_asks_for_a_gigabyte(fake: FakeHost) -> None:
    def grow(buffer: bytearray) -> int:
        struct.pack_into("=I", buffer, 0, 1 << 30)
        return 0

    fake.answers[REQUEST] = grow
    with pytest.raises(MalformedAnswer):
        ask(fake)
    assert len([one for one in fake.calls if one[0] == "ioctl"]) == 1


def test_a_chain_that_loops(fake: FakeHost) -> None:
    def answer(buffer: bytearray) -> int:
        struct.pack_into("=6I", buffer, 0, 40, abi.VFIO_DEVICE_FLAGS_CAPS, 1, 1, 24, 0)
        if len(buffer) >= 40:
            struct.pack_into("=HHIQ", buffer, 24, 1, 1, 24, 0)
        return 0

    fake.answers[REQUEST] = answer
    with pytest.raises(MalformedAnswer, match="loop"):
        ask(fake)


def test_the_room_that_is_needed_is_given(fake: FakeHost) -> None:
    chain = build_capability_chain([Capability(1, 2, b"12345678"), Capability(4, 1, b"abcd")], 24)

    def answer(buffer: bytearray) -> int:
        fits = len(buffer) >= 24 + len(chain)
        struct.pack_into("=6I", buffer, 0, 24 + len(chain), abi.VFIO_DEVICE_FLAGS_CAPS, 9, 5, 24 if fits else 0, 0)
        if fits:
            buffer[24:] = chain
        return 0

    fake.answers[REQUEST] = answer
    info, capabilities = ask(fake)
    assert (info.num_regions, info.num_irqs) == (9, 5)
    assert [(one.id, one.version, one.payload[:4]) for one in capabilities] == [(1, 2, b"1234"), (4, 1, b"abcd")]


def test_a_kernel_without_capabilities(fake: FakeHost) -> None:
    def answer(buffer: bytearray) -> int:
        struct.pack_into("=4I", buffer, 0, 16, abi.VFIO_DEVICE_FLAGS_PCI, 9, 5)
        return 0

    fake.answers[REQUEST] = answer
    info, capabilities = ask(fake)
    assert (info.flags, capabilities) == (abi.VFIO_DEVICE_FLAGS_PCI, [])
