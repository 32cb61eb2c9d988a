"""Commands of I/O queues: the NVM command set.  Source: NVM Express 1.4, chapter 6.

Dwords 10 and 11 are the first logical block, dword 12 has their number less 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyvfio.nvme.commands import ALL_NAMESPACES, DEALLOCATE, RANGE_SIZE, Command, IoOpcode, parse_ranges
from pyvfio.nvme.status import Status
from pyvfio_backends.software.hardware.devices.nvme.prp import CommandError
from pyvfio_backends.software.hardware.devices.nvme.storage import Namespace

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.devices.nvme.controller import NvmeController

__all__ = ["NvmCommands"]

_FORCE_ACCESS = 1 << 30


class NvmCommands:
    """Does the I/O commands of a controller."""

    def __init__(self, controller: NvmeController) -> None:
        self._controller = controller
        self._does = {
            IoOpcode.WRITE: self._write,
            IoOpcode.READ: self._read,
            IoOpcode.COMPARE: self._compare,
            IoOpcode.WRITE_ZEROES: self._write_zeroes,
            IoOpcode.DATASET_MANAGEMENT: self._manage,
        }

    def execute(self, command: Command) -> int:
        """Do a command; the result is 0.  Raise `CommandError`, `DmaFault`."""
        try:
            opcode = IoOpcode(command.opcode)
        except ValueError:
            raise CommandError(Status.INVALID_OPCODE) from None
        if opcode is IoOpcode.FLUSH:
            self._flush(command)
        else:
            self._does[opcode](self._namespace(command.nsid), command)
        return 0

    def _namespace(self, nsid: int) -> Namespace:
        controller = self._controller
        if not 0 < nsid <= controller.identity.namespaces:
            raise CommandError(Status.INVALID_NAMESPACE)
        there = controller.namespaces.get(nsid)
        if there is None:
            raise CommandError(Status.INVALID_FIELD)  # valid, but not active (6.1.5)
        return there

    @contextmanager
    def _medium(self, status: Status) -> Iterator[None]:
        """What the storage cannot do ends the command with a status."""
        try:
            yield
        except OSError:
            self._controller.health.media_errors += 1
            raise CommandError(status) from None

    def _extent(self, namespace: Namespace, command: Command) -> tuple[int, int]:
        """Where the blocks of a command begin, and how long they are, in bytes."""
        if command.lba + command.blocks > namespace.blocks:
            raise CommandError(Status.LBA_OUT_OF_RANGE)
        return command.lba << namespace.order, command.blocks << namespace.order

    def _flush(self, command: Command) -> None:
        if command.nsid == ALL_NAMESPACES:
            self.flush_all()
            return
        with self._medium(Status.WRITE_FAULT):
            self._namespace(command.nsid).storage.flush()

    def flush_all(self) -> None:
        """Flush every namespace.  Raise `CommandError`."""
        with self._medium(Status.WRITE_FAULT):
            for namespace in self._controller.namespaces.values():
                namespace.storage.flush()

    def _read(self, namespace: Namespace, command: Command) -> None:
        controller = self._controller
        controller.check_length(command.blocks << namespace.order)
        at, count = self._extent(namespace, command)
        with self._medium(Status.UNRECOVERED_READ):
            data = namespace.storage.read(at, count)
        controller.put(command, data, count)
        controller.health.reads += 1
        controller.health.bytes_read += count

    def _compare(self, namespace: Namespace, command: Command) -> None:
        controller = self._controller
        controller.check_length(command.blocks << namespace.order)
        at, count = self._extent(namespace, command)
        given = controller.get(command, count)
        with self._medium(Status.UNRECOVERED_READ):
            same = given == namespace.storage.read(at, count)
        controller.health.reads += 1
        if not same:
            raise CommandError(Status.COMPARE_FAILURE)

    def _write(self, namespace: Namespace, command: Command) -> None:
        controller = self._controller
        controller.check_length(command.blocks << namespace.order)
        at, count = self._extent(namespace, command)
        self._check_writable(namespace)
        data = controller.get(command, count)
        with self._medium(Status.WRITE_FAULT):
            namespace.storage.write(at, data)
        self._written(namespace, command)
        controller.health.bytes_written += count

    def _write_zeroes(self, namespace: Namespace, command: Command) -> None:
        at, count = self._extent(namespace, command)
        self._check_writable(namespace)
        with self._medium(Status.WRITE_FAULT):
            namespace.storage.zero(at, count)
        self._written(namespace, command)

    def _manage(self, namespace: Namespace, command: Command) -> None:
        """Deallocated blocks are zeros, as Identify says; what the ranges will be used for changes nothing."""
        data = self._controller.get(command, ((command.cdw10 & 0xFF) + 1) * RANGE_SIZE)
        ranges = parse_ranges(data)
        if any(lba + blocks > namespace.blocks for lba, blocks in ranges):
            raise CommandError(Status.LBA_OUT_OF_RANGE)
        if not command.cdw11 & DEALLOCATE:
            return
        self._check_writable(namespace)
        with self._medium(Status.WRITE_FAULT):
            for lba, blocks in ranges:
                namespace.storage.zero(lba << namespace.order, blocks << namespace.order)

    def _check_writable(self, namespace: Namespace) -> None:
        if namespace.storage.read_only:
            raise CommandError(Status.WRITE_PROTECTED)

    def _written(self, namespace: Namespace, command: Command) -> None:
        """With the write cache off, or forced unit access, the data is to outlast the program now."""
        controller = self._controller
        controller.health.writes += 1
        if command.cdw12 & _FORCE_ACCESS or not controller.settings.write_cache:
            with self._medium(Status.WRITE_FAULT):
                namespace.storage.flush()
