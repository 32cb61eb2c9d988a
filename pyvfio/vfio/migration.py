"""Migration of a device, version 2: stop it, take its state out as a stream, and put that into another one like it.

The states are those of ``enum vfio_device_mig_state`` (`pyvfio.abi.vfio_feature.MigrationState`), which
``include/uapi/linux/vfio.h`` explains; the kernel goes through the states in between by itself.  What a device's stream
holds is its driver's business.  It is not all that makes a device: who resumes it maps the same memory at the same
IOVAs, sets up interrupts and configuration space as they were, and then lets it run.

    with device.migration.saving() as stream:   # the device still works (where it can: PRE_COPY)
        while part := stream.read():
            send(part)
        stream.stop()                           # now it does not
        while part := stream.read():
            send(part)

    other.migration.resume(parts)               # stopped, in the state of the first
    other.migration.run()
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Self

from pyvfio.abi import vfio_feature as abi
from pyvfio.abi.vfio_feature import MigrationState
from pyvfio.call import Call
from pyvfio.errors import KernelRefused, Misuse, NotAvailable, PyvfioError, explained

if TYPE_CHECKING:
    from pyvfio.vfio.device import Device

__all__ = ["Migration", "MigrationState", "MigrationStream", "SavingStream"]

_PART = 1 << 20
_BYTES = (bytes, bytearray, memoryview)


class MigrationStream:
    """The data file of a migration: `read` it while saving, `write` it while resuming.  A context manager.

    It has a `fileno` for select and poll.  The kernel ends it when the state it belongs to is left (ENODEV).
    """

    def __init__(self, device: Device, fd: int) -> None:
        self._backend = device.backend
        self._name = f"{device.name} migration data"
        self._call = Call(device.backend, fd, self._name)

    def fileno(self) -> int:
        """The descriptor (-1 after `close`)."""
        return self._call.fd

    def read(self, count: int = _PART) -> bytes:
        """Up to `count` bytes; empty at the end (in PRE_COPY: for now).  Raise the class for the errno."""
        with explained("read migration data", self._name):
            return self._backend.read(self._open(), count)

    def write(self, data: bytes) -> None:
        """Write all of `data`.  Raise the class for the errno: the stream is none for this device (mostly EINVAL)."""
        view = memoryview(data)
        while view:
            with explained("write migration data", self._name):
                done = self._backend.write(self._open(), bytes(view[:_PART]))
            view = view[done:]

    def precopy_info(self) -> tuple[int, int]:
        """Estimates of the bytes that are still to be read while the device works: initial ones, and changed since.

        Raise the class for the errno (EINVAL: it does not work any more).
        """
        info = abi.PrecopyInfo.sized()
        self._call("read precopy info", abi.VFIO_MIG_GET_PRECOPY_INFO, info)
        return int(info.initial_bytes), int(info.dirty_bytes)

    def close(self) -> None:
        """Close the descriptor; a second call does nothing.  The device stays in its state."""
        self._call.close()

    def _open(self) -> int:
        if self._call.fd < 0:
            raise Misuse("use migration data", self._name, cause="it was closed")
        return self._call.fd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class SavingStream(MigrationStream):
    """What `Migration.saving` gives: read what there is while the device works, `stop` it, and read the rest.

    Leaving the block without `stop` lets the device go on as if nothing had been, in the state of before; after it, the
    device is stopped.  `works` is whether it still works.
    """

    def __init__(self, migration: Migration, device: Device, fd: int, *, works: bool, before: MigrationState) -> None:
        super().__init__(device, fd)
        self._migration = migration
        self._before = before
        self.works = works

    def stop(self) -> None:
        """Stop the device; what is read from now on is the rest, and its end is the end of all."""
        if self.works:
            self._migration.set_state(MigrationState.STOP_COPY)
            self.works = False

    def close(self) -> None:
        """See `MigrationStream.close`; then the device works again, or is stopped."""
        if self.fileno() < 0:
            return
        super().close()
        if self._migration.state is not MigrationState.ERROR:
            self._migration.set_state(self._before if self.works else MigrationState.STOP)


class Migration:
    """The migration of `device`.  Made by `Device.migration`; `flags` are what its driver supports.

    Raise `NotAvailable` when its driver cannot migrate it (ENOTTY), which plain vfio-pci never can.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        try:
            answer = device.feature.get(abi.VFIO_DEVICE_FEATURE_MIGRATION, 8)
        except PyvfioError as error:
            if error.errno != errno.ENOTTY:
                raise
            raise NotAvailable(
                "migrate device",
                device.name,
                errno=error.errno,
                cause="the driver that has it cannot migrate it",
                next_step="bind it to the VFIO driver that its maker has for it, if there is one",
            ) from error
        self.flags = int(abi.DeviceFeatureMigration.from_buffer_copy(answer).flags)

    @property
    def pre_copy(self) -> bool:
        """Whether part of the state can be read while the device works."""
        return bool(self.flags & abi.VFIO_MIGRATION_PRE_COPY)

    @property
    def p2p(self) -> bool:
        """Whether it can be kept from using other devices first, so that several are stopped at one moment."""
        return bool(self.flags & abi.VFIO_MIGRATION_P2P)

    @property
    def state(self) -> MigrationState:
        """The device's state now."""
        return MigrationState(self._ask_state().device_state)

    def _ask_state(self) -> abi.DeviceFeatureMigState:
        answer = self._device.feature.get(abi.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, 8)
        return abi.DeviceFeatureMigState.from_buffer_copy(answer)

    @property
    def data_size(self) -> int:
        """How many bytes are to be copied while the device is stopped, as far as the kernel can say."""
        answer = self._device.feature.get(abi.VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, 8)
        return int(abi.DeviceFeatureMigDataSize.from_buffer_copy(answer).stop_copy_length)

    def set_state(self, state: MigrationState) -> MigrationStream | None:
        """Bring the device into a state; the data file, if this gave one.

        Raise the class for the errno: EINVAL for a state that the driver does not have, or that cannot be reached
        (ERROR is left by a reset alone).  The device is in the state of before, in one on the way, or in ERROR then:
        the cause says in which.
        """
        wanted = abi.DeviceFeatureMigState(device_state=state, data_fd=-1)
        try:
            answer = self._device.feature.set(abi.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, bytes(wanted))
        except PyvfioError as error:
            raise self._refused(error, state) from error
        fd = int(abi.DeviceFeatureMigState.from_buffer_copy(answer).data_fd)
        return None if fd < 0 else MigrationStream(self._device, fd)

    def _refused(self, error: PyvfioError, wanted: MigrationState) -> PyvfioError:
        if error.errno is None:
            return error
        now = self.state
        step = "reset the device" if now in (MigrationState.ERROR, MigrationState.RESUMING) else ""
        return type(error)(
            f"bring device into state {wanted.name}",
            self._device.name,
            errno=error.errno,
            cause=f"it is in state {now.name}",
            next_step=step,
        )

    # what is done with them

    def stop(self) -> None:
        """Stop the device: its state does not change any more."""
        self.set_state(MigrationState.STOP)

    def run(self) -> None:
        """Let it work, again or for the first time in the state that it was given."""
        self.set_state(MigrationState.RUNNING)

    def quiesce(self) -> None:
        """Keep it from beginning DMA, while what others write to it is still taken.  Raise `Misuse` without `p2p`."""
        if not self.p2p:
            raise Misuse("quiesce device", self._device.name, cause="its driver does not support RUNNING_P2P")
        self.set_state(MigrationState.RUNNING_P2P)

    def saving(self) -> SavingStream:
        """Begin to take the state out: while the device works if it can (`pre_copy`), else it is stopped at once."""
        now = self.state
        works = self.pre_copy and now in (MigrationState.RUNNING, MigrationState.RUNNING_P2P)
        if works:
            target = MigrationState.PRE_COPY if now is MigrationState.RUNNING else MigrationState.PRE_COPY_P2P
        else:
            target = MigrationState.STOP_COPY
        stream = self.set_state(target)
        if stream is None:
            raise KernelRefused("save device", self._device.name, cause=f"state {target.name} gave no data file")
        return SavingStream(self, self._device, stream.fileno(), works=works, before=now)

    def save(self) -> bytes:
        """Stop the device and take its state out; it is in state STOP then.  Errors as `set_state`, and of the data."""
        parts: list[bytes] = []
        with self.saving() as stream:
            for last in (False, True):
                while part := stream.read():
                    parts.append(part)
                if not last:
                    stream.stop()
        return b"".join(parts)

    def resume(self, data: bytes | Iterable[bytes]) -> None:
        """Put a state in that `save` took out of a device like this one; it is in state STOP then, for `run`.

        Raise `Misuse` for what is no bytes and no parts of them (with the device as it was, unless they come from an
        iterator), and the class for the errno when the stream is none of such a device, or not all of it.  What the
        device was doing before is lost then; it is in state RESUMING or ERROR, and a reset makes it run.
        """
        parts = self._parts(data)
        if self.state is MigrationState.RESUMING:
            cause = "a stream for it was begun that is not to be had any more"
            raise Misuse("resume device", self._device.name, cause=cause, next_step="reset the device")
        stream = self.set_state(MigrationState.RESUMING)
        if stream is None:
            raise KernelRefused("resume device", self._device.name, cause="state RESUMING gave no data file")
        with stream:
            for part in parts:
                if not isinstance(part, _BYTES):
                    raise self._no_stream(part)
                stream.write(part)
            self.stop()

    def _parts(self, data: bytes | Iterable[bytes]) -> Iterable[bytes]:
        """The parts of a stream: looked at before the first of them, unless they can be had only once."""
        if isinstance(data, _BYTES):
            return (bytes(data),)
        if not isinstance(data, Iterable):
            raise self._no_stream(data)
        for part in data if isinstance(data, Sequence) else ():
            if not isinstance(part, _BYTES):
                raise self._no_stream(part)
        return data

    def _no_stream(self, what: object) -> Misuse:
        cause = f"a stream is bytes, or parts that are bytes, not {type(what).__name__}"
        return Misuse("resume device", self._device.name, cause=cause)
