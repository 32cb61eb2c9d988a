"""The software backend: a whole machine in this process, with the Linux kernel's half on top.

`open_backend` is what ``pyvfio.open_backend("software", ...)`` calls.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from pyvfio.backend import Backend
from pyvfio.errors import Misuse
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import MachineSpec
from pyvfio_backends.software.loader import find_machine, load_machine
from pyvfio_backends.software.machine import Machine

__all__ = ["Machine", "MachineSpec", "SoftwareBackend", "open_backend", "software_of"]


def open_backend(
    *,
    machine: str | os.PathLike[str] | MachineSpec = "z15-lpar",
    seed: int = 0,
    paced: bool = False,
    log: str | os.PathLike[str] | None = None,
    devices: Sequence[str] = (),
) -> SoftwareBackend:
    """Boot a machine and answer for it.

    `machine` is the name of a fixture machine (``z15-lpar``, ``lab-s390x``), a path to a machine file, or a
    `MachineSpec`.  `seed` decides every free choice of the machine.  With ``paced=True`` devices answer after their
    latency, on a thread; otherwise all work is done inside the call that caused it.

    `devices` are further PCI devices in the words of QEMU's ``-device``, each after its ``zpci`` if it has one:
    ``["zpci,uid=8,fid=2,target=dev1", "virtio-rng-pci,id=dev1"]`` (docs/machines.md).

    `log` is a file that keeps what programs change: all that name it work with one and the same machine (`call_log`).

    Raise `BadMachine` for a machine that cannot be read, `Misuse` for devices that it cannot have, and what `CallLog`
    raises.
    """
    spec = machine if isinstance(machine, MachineSpec) else load_machine(find_machine(os.fspath(machine)))
    if devices:
        spec = dataclasses.replace(spec, devices=(*spec.devices, *devices))
    booted = Machine(spec, seed=seed, paced=paced)
    if log is None:
        return SoftwareBackend(booted)
    from pyvfio_backends.software.call_log import CallLog  # only a sandbox needs it

    with booted.lock:
        return SoftwareBackend(booted, CallLog(os.fspath(log), booted, seed))


def software_of(backend: Backend) -> SoftwareBackend:
    """A backend as the software backend that it is, with its ``machine`` and its ``faults``.

    Raise `Misuse` for any other: there is no machine to look into.
    """
    if not isinstance(backend, SoftwareBackend):
        raise Misuse("look into the machine", cause="it is no software machine")
    return backend
