"""Handles of PCI functions: what changes them, and what an old one is still good for.

Sources: ``arch/s390/pci/pci.c`` (`zpci_enable_device`, `zpci_disable_device`, `zpci_update_fh`), ``pci_clp.c``
(`clp_enable_fh`); ``hw/s390x/s390-pci-bus.c`` of QEMU (a handle has the index of a function and whether it is enabled).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pci_fixture import BUS, Pci

from pyvfio.errors import NotAvailable
from pyvfio.zpci.clp import ClpCode, SetOperation
from pyvfio.zpci.handle import FH_ENABLED
from pyvfio.zpci.logical import LogicalProcessor
from pyvfio.zpci.node import ClpNode
from pyvfio_backends.software.description import FunctionSpec
from pyvfio_backends.software.hardware.zpci import FunctionState
from pyvfio_backends.software.hardware.zpci.facility import ZpciFacility

RNG, SLOT = "0030:00:00.0", f"{BUS}/slots/00000021/power"


@pytest.fixture
def lab() -> Iterator[Pci]:
    one = Pci()
    with one.host:
        yield one


def handle(lab: Pci) -> int:
    with ClpNode(lab.host) as node:
        return next(entry.fh for entry in node.list() if entry.fid == 0x21)


def test_an_old_handle_names_nothing(lab: Pci) -> None:
    before = handle(lab)
    lab.write(SLOT, "0")
    with ClpNode(lab.host) as node, pytest.raises(NotAvailable, match="invalid handle"):
        node.function(before)


def test_power_takes_the_enabling_and_brings_it_back(lab: Pci) -> None:
    first = handle(lab)
    assert first & FH_ENABLED
    assert lab.attr(RNG, "function_handle") == f"{first:#010x}"
    lab.write(f"{BUS}/devices/{RNG}/reset", "1")
    assert handle(lab) == first
    lab.write(SLOT, "0")
    assert handle(lab) == first & ~FH_ENABLED
    lab.write(SLOT, "1")
    assert (handle(lab), lab.attr(RNG, "function_handle")) == (first, f"{first:#010x}")


def test_a_function_that_is_plugged_anew_has_another_handle_but_its_identifiers(lab: Pci) -> None:
    first = handle(lab)
    lab.machine.zpci.unplug(0x21, surprise=True)
    lab.machine.clock.settle()
    lab.machine.zpci.plug(FunctionSpec(0x30, 0x21, "virtio-rng"))
    lab.machine.clock.settle()
    assert handle(lab) != first
    assert (lab.attr(RNG, "uid"), lab.attr(RNG, "function_id")) == ("0x30", "0x00000021")


@pytest.mark.parametrize("mio", [False, True])
def test_memory_io_is_switched_by_the_handle_from_before_enabling(mio: bool) -> None:
    facility = ZpciFacility([FunctionSpec(1, 1, "virtio-bell"), FunctionSpec(2, 2, "ism")], mio=mio)
    clp = LogicalProcessor(facility)
    bell, ism = facility.function(1), facility.function(2)
    general = bell.fh
    refused = (ClpCode.HANDLE_NOT_FOR_OPERATION, 0)
    assert clp.set_function(general, SetOperation.ENABLE_MIO, 1) == refused  # not enabled yet
    assert clp.set_function(general, SetOperation.ENABLE, 1) == (ClpCode.OK, bell.fh)
    for fh in (general, bell.fh):
        for operation in (SetOperation.ENABLE_MIO, SetOperation.DISABLE_MIO):
            assert clp.set_function(fh, operation, 1) == ((ClpCode.OK, bell.fh) if mio else refused)
    assert clp.set_function(bell.fh ^ 0x01000000, SetOperation.ENABLE_MIO, 1) == (ClpCode.INVALID_HANDLE, 0)
    ism.enable()
    assert clp.set_function(ism.fh, SetOperation.ENABLE_MIO, 1) == refused


def test_each_state_takes_what_it_takes() -> None:
    """Reserved and standby functions have no handle for SET, nor has one in permanent error anything to gain."""
    facility = ZpciFacility([FunctionSpec(1, 1, "virtio-bell")])
    clp, function = LogicalProcessor(facility), facility.function(1)
    wanted = {
        FunctionState.RESERVED: ClpCode.INVALID_HANDLE,
        FunctionState.STANDBY: ClpCode.INVALID_HANDLE,
        FunctionState.ENABLED: ClpCode.HANDLE_NOT_FOR_OPERATION,
        FunctionState.BLOCKED: ClpCode.HANDLE_NOT_FOR_OPERATION,
        FunctionState.ERROR: ClpCode.HANDLE_NOT_FOR_OPERATION,
        FunctionState.PERMANENT_ERROR: ClpCode.PERMANENT_ERROR,
        FunctionState.DISABLED: ClpCode.OK,
    }
    for state, code in wanted.items():
        function.state = state
        assert clp.set_function(function.fh, SetOperation.ENABLE, 1)[0] == code, state
        assert (clp.query(function.fh) is None) == (state is FunctionState.RESERVED)
