"""Migration, version 2: the states, the arcs between them, the streams, and the features that ask for them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from errno import E2BIG, EINVAL, ENODEV, ENOMEM, ENOTTY, EOVERFLOW, ESPIPE

import pytest

import pyvfio
from pyvfio.abi import vfio, vfio_feature
from pyvfio.abi.vfio_feature import MigrationState as S
from pyvfio.backend import Backend
from pyvfio.errors import KernelRefused, Misuse, NotAvailable, PyvfioError
from pyvfio.host import Host
from pyvfio.process import AnonymousMemory
from pyvfio.testing.expect import fails
from pyvfio.testing.migrating import Migrating, migrating
from pyvfio.testing.plugin import Lab
from pyvfio.vfio import Device
from pyvfio.vfio.dma_log import DmaLog
from pyvfio.vfio.migration import Migration, MigrationStream

STATES = [state for state in S if state is not S.ERROR]
PRE_COPY = (S.PRE_COPY, S.PRE_COPY_P2P)
GET, SET = vfio.VFIO_DEVICE_FEATURE_GET, vfio.VFIO_DEVICE_FEATURE_SET
PROBE = vfio.VFIO_DEVICE_FEATURE_PROBE
STATE, FLAGS = vfio_feature.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, vfio_feature.VFIO_DEVICE_FEATURE_MIGRATION
SIZE = vfio_feature.VFIO_DEVICE_FEATURE_MIG_DATA_SIZE
START, STOP = vfio_feature.VFIO_DEVICE_FEATURE_DMA_LOGGING_START, vfio_feature.VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP
REPORT = vfio_feature.VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT


@pytest.fixture(scope="module")
def backend(lab: Lab) -> Iterator[Backend]:
    """The backend under test, with a device that migrates."""
    with lab.open(migrating=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def kind(backend: Backend) -> Iterator[Migrating]:
    with migrating(backend) as found:
        if found is None:
            pytest.skip("this host has no device that migrates")
        yield found


@contextmanager
def opened_anew(host: Host, kind: Migrating) -> Iterator[Device]:
    """The device, running when it is opened and when it is closed.

    mtty keeps the state that it was closed in, but not its files, and Linux 6.12 does not survive what comes of that.
    """
    with pyvfio.open_device(host, kind.name) as opened:
        reset(opened)
        try:
            yield opened
        finally:
            reset(opened)


def reset(device: Device) -> None:
    """Without the library, which believes mtty that it cannot be reset."""
    device.backend.ioctl(device.fileno(), vfio.VFIO_DEVICE_RESET)


@pytest.fixture
def device(host: Host, kind: Migrating) -> Iterator[Device]:
    with opened_anew(host, kind) as opened:
        yield opened


@pytest.fixture
def migration(device: Device) -> Migration:
    return device.migration


def feature(device: Device, flags: int, data: bytes, argsz: int | None = None) -> bytes:
    """The raw call; the data as the kernel left them."""
    head = ctypes.sizeof(vfio.DeviceFeature)
    size = head + len(data) if argsz is None else argsz
    buffer = bytearray(bytes(vfio.DeviceFeature(argsz=size, flags=flags))[:head] + data)
    device.backend.ioctl(device.fileno(), vfio.VFIO_DEVICE_FEATURE, buffer)
    return bytes(buffer[head:])


def state_data(state: int) -> bytes:
    return bytes(vfio_feature.DeviceFeatureMigState(device_state=state, data_fd=-1))


def bring(migration: Migration, state: S, saved: bytes) -> MigrationStream | None:
    """Into a state from RUNNING; a device that is to resume has got all of a stream."""
    assert migration.state is S.RUNNING
    stream = migration.set_state(state) if state is not S.RUNNING else None
    if state is S.RESUMING and stream is not None:
        stream.write(saved)
    return stream


# the features' rules


@pytest.mark.parametrize(
    "flags", [STATE, FLAGS, SIZE, FLAGS | SET, SIZE | SET, STATE | GET | SET, FLAGS | GET | SET, FLAGS | GET | 1 << 20]
)
def test_what_a_feature_cannot(device: Device, flags: int) -> None:
    with fails(EINVAL):
        feature(device, flags, bytes(8))


@pytest.mark.parametrize("number", [STATE, FLAGS, SIZE])
def test_too_small_a_structure(device: Device, number: int) -> None:
    with fails(EINVAL):
        feature(device, number | GET, bytes(8), argsz=15)


@pytest.mark.parametrize("number", [STATE | GET, STATE | SET, STATE | GET | SET, FLAGS | GET, SIZE | GET])
def test_probing_changes_nothing(device: Device, migration: Migration, number: int) -> None:
    feature(device, number | PROBE, b"")
    assert migration.state is S.RUNNING


def test_what_it_supports(migration: Migration) -> None:
    assert migration.pre_copy
    assert migration.p2p
    assert migration.flags & vfio_feature.VFIO_MIGRATION_STOP_COPY
    assert migration.data_size > 0


# the arcs


@pytest.mark.parametrize("state", [S.ERROR, S.PRE_COPY_P2P + 1, 1 << 31])
@pytest.mark.parametrize("start", [S.RUNNING, S.STOP])
def test_a_state_that_cannot_be_asked_for(device: Device, migration: Migration, start: S, state: int) -> None:
    migration.set_state(start)
    with fails(EINVAL):
        feature(device, STATE | SET, state_data(state))
    assert migration.state is start


@pytest.mark.parametrize("new", STATES, ids=lambda state: state.name)
@pytest.mark.parametrize("old", STATES, ids=lambda state: state.name)
def test_an_arc(migration: Migration, old: S, new: S) -> None:
    saved = migration.save()
    migration.run()
    with_stream = bring(migration, old, saved)
    if old is S.STOP_COPY and new in PRE_COPY:
        with pytest.raises(KernelRefused) as caught:
            migration.set_state(new)
        assert (caught.value.errno, migration.state) == (EINVAL, S.STOP_COPY)
    else:
        stream = migration.set_state(new)
        assert migration.state is new
        assert (stream is not None) == (
            (new in PRE_COPY and old not in PRE_COPY)
            or (new is S.STOP_COPY and old not in (S.STOP_COPY, *PRE_COPY))
            or (new is S.RESUMING and old is not S.RESUMING)
        )
        if stream is not None:
            stream.close()
    if with_stream is not None:
        with_stream.close()


def test_the_data_descriptor_in_the_answer(device: Device, migration: Migration) -> None:
    answer = vfio_feature.DeviceFeatureMigState.from_buffer_copy(feature(device, STATE | SET, state_data(S.STOP)))
    assert (answer.device_state, answer.data_fd) == (S.STOP, -1)
    answer = vfio_feature.DeviceFeatureMigState.from_buffer_copy(feature(device, STATE | GET, state_data(0)))
    assert (answer.device_state, answer.data_fd) == (S.STOP, -1)
    answer = vfio_feature.DeviceFeatureMigState.from_buffer_copy(feature(device, STATE | SET, state_data(S.RESUMING)))
    assert answer.device_state == S.RESUMING
    assert answer.data_fd >= 0
    device.backend.close(answer.data_fd)


# streams


def test_a_stream_that_is_too_short(device: Device, migration: Migration) -> None:
    saved = migration.save()
    for part in (b"", saved[:4], saved[:-1]):
        with pytest.raises(KernelRefused) as caught:
            migration.resume(part)
        assert (caught.value.errno, migration.state) == (EINVAL, S.RESUMING)
        assert "RESUMING" in caught.value.cause
        with pytest.raises(Misuse, match="reset"):
            migration.resume(saved)
        reset(device)
    migration.resume(saved)


def test_a_stream_that_is_too_long(migration: Migration) -> None:
    saved = migration.save()
    with pytest.raises(KernelRefused) as caught:
        migration.resume([saved, b"\0"])
    assert caught.value.errno == ENOMEM


def test_a_stream_of_something_else(migration: Migration) -> None:
    saved = migration.save()
    with pytest.raises(PyvfioError) as caught:
        migration.resume(bytes(len(saved)))
    assert caught.value.errno_name in ("EINVAL", "EFAULT")  # which one is the driver's


def test_a_stream_ends_with_its_state(migration: Migration) -> None:
    stream = migration.set_state(S.STOP_COPY)
    assert stream is not None
    with stream:
        assert stream.read(4)
        migration.stop()
        with pytest.raises(KernelRefused) as caught:
            stream.read(4)
        assert caught.value.errno == ENODEV
    stream = migration.set_state(S.RESUMING)
    assert stream is not None
    with stream:
        with pytest.raises(KernelRefused):
            migration.stop()


def test_a_stream_has_no_places(device: Device, migration: Migration) -> None:
    stream = migration.set_state(S.STOP_COPY)
    assert stream is not None
    with stream:
        with fails(ESPIPE):
            device.backend.pread(stream.fileno(), 4, 0)
        with pytest.raises(PyvfioError):
            stream.write(b"data")  # it is for reading


def test_it_is_read_to_its_end_in_any_pieces(migration: Migration) -> None:
    whole = migration.save()
    assert 0 < len(whole) <= migration.data_size
    migration.run()
    with migration.saving() as stream:
        stream.stop()
        parts = []
        while part := stream.read(7):
            parts.append(part)
        assert stream.read(7) == b""
    assert b"".join(parts) == whole
    assert migration.state is S.STOP


def test_saving_that_is_given_up(migration: Migration) -> None:
    states = []
    with migration.saving() as stream:
        stream.read()
        states.append(migration.state)
    states.append(migration.state)
    assert states == [S.PRE_COPY, S.RUNNING]


def test_saving_that_is_given_up_in_a_quiet_device(migration: Migration) -> None:
    if not migration.pre_copy or not migration.p2p:
        pytest.skip("this device works on while it is saved, or cannot be quiet")
    migration.quiesce()
    states = [migration.state]
    with migration.saving() as stream:
        stream.read(1)
        states.append(migration.state)
    states.append(migration.state)
    assert states == [S.RUNNING_P2P, S.PRE_COPY_P2P, S.RUNNING_P2P]


def test_precopy_information(migration: Migration) -> None:
    with migration.saving() as stream:
        initial, dirty = stream.precopy_info()
        assert initial + dirty >= 0
        got = len(stream.read())
        assert got == initial
        assert stream.precopy_info()[0] == 0
        migration.set_state(S.PRE_COPY_P2P)
        stream.precopy_info()
        stream.stop()
        with pytest.raises(KernelRefused) as caught:
            stream.precopy_info()
        assert caught.value.errno == EINVAL


def test_requests_of_a_data_file(device: Device, migration: Migration) -> None:
    info = vfio_feature.VFIO_MIG_GET_PRECOPY_INFO
    with migration.saving() as stream:
        with fails(EINVAL):
            device.backend.ioctl(stream.fileno(), info, bytearray(bytes(vfio_feature.PrecopyInfo(argsz=23))))
        with fails(ENOTTY):
            device.backend.ioctl(stream.fileno(), vfio.VFIO_DEVICE_RESET)
    with fails(ENOTTY):
        device.backend.ioctl(device.fileno(), info, bytearray(bytes(vfio_feature.PrecopyInfo(argsz=24))))


# the device


def test_what_was_saved_comes_back(device: Device, migration: Migration, kind: Migrating) -> None:
    kind.put(device, 0x5A)
    saved = migration.save()
    assert migration.state is S.STOP
    migration.run()
    assert kind.get(device) == 0x5A
    kind.put(device, 0x33)
    migration.resume(saved)
    assert migration.state is S.STOP
    migration.run()
    assert kind.get(device) == 0x5A


def test_what_was_saved_goes_into_a_device_that_is_opened_anew(host: Host, kind: Migrating) -> None:
    with opened_anew(host, kind) as first:
        kind.put(first, 0x77)
        saved = first.migration.save()
    with opened_anew(host, kind) as second:
        assert second.migration.state is S.RUNNING
        kind.put(second, 0x11)
        second.migration.resume([saved[:5], saved[5:]])
        second.migration.run()
        assert kind.get(second) == 0x77


def test_a_change_while_it_is_precopied_is_saved(device: Device, migration: Migration, kind: Migrating) -> None:
    kind.put(device, 0x21)
    with migration.saving() as stream:
        parts = [stream.read()]
        kind.put(device, 0x42)
        stream.stop()
        while part := stream.read():
            parts.append(part)
    migration.resume(parts)
    migration.run()
    assert kind.get(device) == 0x42


def test_a_reset_makes_it_run(device: Device, migration: Migration) -> None:
    migration.set_state(S.RESUMING)
    reset(device)
    assert migration.state is S.RUNNING


# what it writes


def start(device: Device, ranges: list[tuple[int, int]], page: int, *, count: int | None = None) -> bytes:
    table = (vfio_feature.DeviceFeatureDmaLoggingRange * max(1, len(ranges)))(
        *(vfio_feature.DeviceFeatureDmaLoggingRange(iova=iova, length=length) for iova, length in ranges)
    )
    control = vfio_feature.DeviceFeatureDmaLoggingControl(
        page_size=page, num_ranges=len(ranges) if count is None else count, ranges=ctypes.addressof(table)
    )
    return feature(device, START | SET, bytes(control))


@pytest.mark.parametrize(
    ("ranges", "number"),
    [
        ([], EINVAL),
        ([(1, 0x1000)], EINVAL),
        ([(0, 0x1001)], EINVAL),
        ([(0, 0x2000), (0x1000, 0x1000)], EINVAL),
        ([((1 << 64) - 0x1000, 0x1000)], EOVERFLOW),
        ([((1 << 64) - 0x1000, 0x2000)], EOVERFLOW),
    ],
)
def test_ranges_that_cannot_be_logged(device: Device, ranges: list[tuple[int, int]], number: int) -> None:
    with fails(number):
        start(device, ranges, 0x1000)


def test_too_many_ranges(device: Device, page: int) -> None:
    most = page // ctypes.sizeof(vfio_feature.DeviceFeatureDmaLoggingRange)
    with fails(E2BIG):
        start(device, [], 0x1000, count=most + 1)


@pytest.mark.parametrize("flags", [START | GET, STOP | GET, REPORT | SET])
def test_what_a_log_cannot(device: Device, flags: int) -> None:
    with fails(EINVAL):
        feature(device, flags, bytes(32))


@pytest.mark.parametrize(("flags", "size"), [(START | SET, 23), (REPORT | GET, 31)])
def test_too_little_for_a_log(device: Device, flags: int, size: int) -> None:
    with fails(EINVAL):
        feature(device, flags, bytes(size))


def test_reports_that_cannot_be(device: Device) -> None:
    with device.log_dma([(0, 0x10000)], 0x1000), AnonymousMemory(0x1000) as memory:
        for iova, length, page, number in (
            (0, 0x10000, 0x800, EINVAL),
            (0, 0x10000, 0x3000, EINVAL),
            (0, 0x10000, 0, EINVAL),
            ((1 << 64) - 0x1000, 0x1000, 0x1000, EOVERFLOW),
        ):
            report = vfio_feature.DeviceFeatureDmaLoggingReport(
                iova=iova, length=length, page_size=page, bitmap=memory.address
            )
            with fails(number):
                feature(device, REPORT | GET, bytes(report))


def _tells(log: DmaLog) -> bool:
    """Whether this kernel can read logs; those of s390 have no CONFIG_IOMMUFD_DRIVER."""
    try:
        log.take(0, 0x1000)
    except NotAvailable:
        return False
    return True


def test_a_device_that_wrote_nothing(device: Device) -> None:
    with device.log_dma([(0, 0x10000), (0x20000, 0x10000)], 0x1000) as log:
        assert log.page_size >= 0x1000
        if not _tells(log):
            with pytest.raises(NotAvailable, match="CONFIG_IOMMUFD_DRIVER"):
                log.take(0, 0x10000)
            return
        bitmap = log.take(0, 0x10000, page_size=0x1000)
        assert (bool(bitmap), list(bitmap.ranges()), bitmap.pages) == (False, [], 16)
    with pytest.raises(Misuse):
        log.take(0, 0x10000)


def test_nothing_is_mapped(device: Device) -> None:
    with pytest.raises(Misuse, match="no range"):
        device.log_dma()


def test_other_devices_cannot(lab: Lab) -> None:
    """vfio-pci migrates nothing."""
    from pyvfio.testing.devices import BoundFunction

    with lab.open() as backend, Host(backend) as host:
        if not host.sysfs.exists(f"/sys/bus/pci/devices/{lab.pci}"):
            pytest.skip(f"this host has no pci device {lab.pci}")
        with BoundFunction(backend, lab.pci), pyvfio.open_device(host, lab.pci) as opened:
            for number in (STATE, FLAGS, SIZE, START, STOP, REPORT):
                with fails(ENOTTY):
                    feature(opened, number | GET, bytes(32))
            with pytest.raises(NotAvailable, match="cannot migrate"):
                _ = opened.migration
            with pytest.raises(NotAvailable, match="cannot log"):
                opened.log_dma([(0, 0x10000)], 0x1000)
