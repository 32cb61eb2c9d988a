"""A function's states and handles, and the rules of PCI LOAD and PCI STORE."""

from __future__ import annotations

import pytest

from pyvfio.errors import Misuse
from pyvfio_backends.software.description import FunctionSpec
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.hardware.zpci import (
    CONFIG_SPACE,
    FunctionState,
    OperandException,
    Refused,
    Status,
    ZpciFunction,
)
from pyvfio_backends.software.hardware.zpci.models import build_function


@pytest.fixture
def function() -> ZpciFunction:
    return build_function(FunctionSpec(uid=0x11, fid=0x10, model="virtio-net"), 3)


def refusal(call: object, *arguments: object) -> tuple[int, Status]:
    with pytest.raises(Refused) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value.cc, caught.value.status


def test_a_disabled_function_has_no_handle_for_loads_and_stores(function: ZpciFunction) -> None:
    assert function.fh == 0x00020003
    assert refusal(function.load, CONFIG_SPACE, 0, 4) == (3, Status.NONE)
    assert refusal(function.store, 4, 0, 4, 0) == (3, Status.NONE)
    assert refusal(function.disable) == (1, Status.ALREADY_IN_REQUESTED_STATE)


@pytest.mark.parametrize("state", [FunctionState.STANDBY, FunctionState.RESERVED])
def test_only_a_configured_function_can_be_enabled(function: ZpciFunction, state: FunctionState) -> None:
    function.state = state
    assert refusal(function.enable) == (3, Status.NONE)
    assert not function.configured


def test_enabling_gives_a_handle_and_disabling_takes_it_back(function: ZpciFunction) -> None:
    assert function.enable() == function.fh == 0x80020003
    assert refusal(function.enable) == (1, Status.FUNCTION_ALREADY_ENABLED)
    assert function.load(CONFIG_SPACE, 0, 4) == 0x10001AF4
    assert function.disable() == 0x00020003


@pytest.mark.parametrize("state", [FunctionState.ERROR, FunctionState.PERMANENT_ERROR])
def test_a_function_in_error_refuses(function: ZpciFunction, state: FunctionState) -> None:
    function.enable()
    function.state = state
    assert refusal(function.load, CONFIG_SPACE, 0, 4) == (1, Status.BLOCKED)
    assert function.fh == 0x80020003
    function.disable()
    function.enable()
    assert function.load(CONFIG_SPACE, 0, 2) == 0x1AF4


def test_a_blocked_function_can_be_looked_at(function: ZpciFunction) -> None:
    function.enable()
    function.state = FunctionState.BLOCKED
    assert function.load(CONFIG_SPACE, 0, 2) == 0x1AF4
    assert not function.usable


@pytest.mark.parametrize(
    ("space", "offset", "length"),
    [
        (CONFIG_SPACE, 0, 3),
        (CONFIG_SPACE, 0, 8),
        (CONFIG_SPACE, 2, 4),
        (CONFIG_SPACE, 3, 2),
        (CONFIG_SPACE, 256, 1),
        (4, 0, 3),
        (4, 4, 8),
        (4, 7, 2),
        (4, 0x4000, 1),
        (1, 0x40, 4),
    ],
)
def test_lengths_and_places_that_do_not_exist_are_operand_exceptions(
    function: ZpciFunction, space: int, offset: int, length: int
) -> None:
    function.enable()
    with pytest.raises(OperandException):
        function.load(space, offset, length)
    with pytest.raises(OperandException):
        function.store(space, offset, length, 0)


@pytest.mark.parametrize("space", [2, 6, 14, -1])
def test_an_address_space_that_is_not_there_is_refused(function: ZpciFunction, space: int) -> None:
    function.enable()
    assert refusal(function.load, space, 0, 4) == (1, Status.INVALID_ADDRESS_SPACE)


def test_disabling_resets_configuration_space_and_ends_dma(function: ZpciFunction) -> None:
    function.enable()
    function.store(CONFIG_SPACE, 4, 2, 6)
    function.dma = object()  # type: ignore[assignment]
    function.disable()
    assert function.dma is None
    function.enable()
    assert function.load(CONFIG_SPACE, 4, 2) == 0


def test_dma_needs_a_space_and_bus_mastering(function: ZpciFunction) -> None:
    function.enable()
    with pytest.raises(DmaFault):
        function.dma_read(0x1000, 4)
    function.dma = object()  # type: ignore[assignment]
    with pytest.raises(DmaFault, match="write of 1 bytes at 0x1000"):
        function.dma_write(0x1000, b"x")


@pytest.mark.parametrize(
    ("model", "options", "word"),
    [
        ("floppy", {}, "no model 'floppy'"),
        ("virtio-net", {"size": 1}, "no option 'size'"),
        ("virtio-net", {"mac": "52:54"}, "MAC address"),
        ("virtio-blk", {"size": 513}, "multiple of 512"),
        ("virtio-bell", {"legacy": True}, "no option 'legacy'"),
    ],
)
def test_a_description_that_makes_no_sense_is_named(model: str, options: dict[str, object], word: str) -> None:
    with pytest.raises(Misuse, match=word):
        build_function(FunctionSpec(uid=1, fid=2, model=model, options=options), 0)


def test_clp_tells_what_was_described() -> None:
    spec = FunctionSpec(
        uid=0x11, fid=0x10, model="virtio-blk", pchid=0x104, pft=2, vfn=1, port=3, options={"util_str": "c1c2"}
    )
    facts = build_function(spec, 0).facts
    assert (facts.uid, facts.fid, facts.pchid, facts.pft, facts.vfn, facts.port) == (0x11, 0x10, 0x104, 2, 1, 3)
    assert facts.bar_sizes == (7, 12, 0, 0, 14, 0)
    assert facts.bar_values == (1, 0, 0, 0, 0x0C, 0)
    assert facts.util_str == b"\xc1\xc2".ljust(64, b"\0")
    assert (facts.start_dma, facts.end_dma) == (0x1_0000_0000, 0x1FF_FFFF_FFFF_FFFF)
