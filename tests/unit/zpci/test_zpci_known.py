"""What is known of many functions: as much whoever tells it, and without asking for the same thing twice."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from pyvfio.backend import Backend, open_backend
from pyvfio.host import Host
from pyvfio.zpci.known import Known, KnownFunction, known_functions
from pyvfio_backends.software import software_of
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import FunctionSpec, MachineSpec

NOT_IN_SYSFS = ("bars", "first_dma", "last_dma", "rid", "fidparm")
"""What no file of Linux 6.12 tells."""


def machine(count: int) -> Backend:
    """`count` functions, every other one with a driver."""
    options = {"util_str": "NET-A".encode("cp037").hex(), "pfip": "01020304"}
    return open_backend(
        "software",
        machine=MachineSpec(
            "many",
            functions=[
                FunctionSpec(0x100 + n, 0x1000 + n, "virtio-net", driver="virtio-pci", port=1, pchid=n, options=options)
                if n % 2
                else FunctionSpec(0x100 + n, 0x1000 + n, "virtio-bell")
                for n in range(count)
            ],
        ),
    )


def test_linux_tells_the_same_as_the_logical_processor() -> None:
    with machine(4) as backend:
        host = Host(backend)
        whole = known_functions(host)
        software_of(backend).machine.kernel.remove_node("clp")
        without = known_functions(host)
    assert (whole.missing, list(without.missing)) == ({}, ["/dev/clp"])
    empty = {name: getattr(KnownFunction(0, ""), name) for name in NOT_IN_SYSFS}
    assert without.functions == tuple(dataclasses.replace(one, **empty) for one in whole.functions)
    assert whole.functions[1].util == "NET-A"
    assert whole.functions[1].pfip == (1, 2, 3, 4)


def calls_for(count: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Known, Counter[str]]:
    """What is known of so many functions, and how often each path was opened or looked up."""
    seen: Counter[str] = Counter()
    open_, stat = SoftwareBackend.open, SoftwareBackend.stat
    with machine(count) as backend, monkeypatch.context() as patch:
        host = Host(backend)
        patch.setattr(
            SoftwareBackend, "open", lambda self, path, *rest: (seen.update([path]), open_(self, path, *rest))[1]
        )
        patch.setattr(
            SoftwareBackend, "stat", lambda self, path, **more: (seen.update([path]), stat(self, path, **more))[1]
        )
        return known_functions(host), seen


def test_no_file_is_read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host may have hundreds of functions; each call of the kernel is a cost."""
    known, seen = calls_for(8, monkeypatch)
    assert len(known.functions) == 8
    assert {path: times for path, times in seen.items() if times > 1} == {}
    more = calls_for(16, monkeypatch)[1]
    assert more.total() - seen.total() <= 8 * 9
