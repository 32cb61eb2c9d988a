"""The facility: lists, configuring and deconfiguring, plugging and unplugging, and the events of it."""

from __future__ import annotations

import pytest

from pyvfio.errors import Misuse, NoSuchDevice
from pyvfio.zpci.event_code import AvailabilityCode, ErrorCode
from pyvfio_backends.software.description import FunctionSpec
from pyvfio_backends.software.hardware.zpci import FunctionState, Refused
from pyvfio_backends.software.hardware.zpci.facility import ZpciFacility


def spec(fid: int, state: str = "configured") -> FunctionSpec:
    return FunctionSpec(uid=fid, fid=fid, model="virtio-rng", state=state)


class Rig:
    def __init__(self) -> None:
        self.facility = ZpciFacility([spec(1), spec(2, "standby"), spec(3, "reserved")])
        self.codes: list[int] = []
        self.facility.on_event = lambda event: self.codes.append(event.code)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_unknown_functions_and_wrong_states_are_refused(rig: Rig) -> None:
    with pytest.raises(NoSuchDevice):
        rig.facility.unplug(9)
    with pytest.raises(Misuse, match="with this identifier"):
        rig.facility.plug(spec(1))
    for fid in (3, 9):
        with pytest.raises(Refused):
            rig.facility.configure(fid)
        with pytest.raises(Refused):
            rig.facility.deconfigure(fid)
    with pytest.raises(Misuse, match="disabled, not enabled"):
        rig.facility.fail(1)
    assert rig.codes == []


def test_the_list_has_all_but_reserved_functions(rig: Rig) -> None:
    entries = [function.entry() for function in rig.facility.listed()]
    assert [(e.fid, e.fh, e.configured, e.device) for e in entries] == [
        (1, 0x20000, 1, 0x1044),
        (2, 0x20001, 0, 0x1044),
    ]


def test_a_function_goes_between_standby_and_configured(rig: Rig) -> None:
    rig.facility.function(1).enable()
    rig.facility.deconfigure(1)  # it is reset, as QEMU has it
    assert rig.facility.function(1).state is FunctionState.STANDBY
    rig.facility.configure(2)
    assert rig.facility.function(2).state is FunctionState.DISABLED
    rig.facility.deconfigure(2)
    assert rig.facility.function(2).state is FunctionState.STANDBY


def test_plugging_tells_whether_it_is_configured(rig: Rig) -> None:
    function = rig.facility.plug(spec(8))
    rig.facility.plug(spec(9, "standby"))
    assert rig.codes == [AvailabilityCode.CONFIGURED, AvailabilityCode.STANDBY]
    assert function.fh == 0x20003  # never a number that was used before


def test_unplugging_asks_first_and_leaves_when_the_function_is_deconfigured(rig: Rig) -> None:
    rig.facility.unplug(1)
    assert rig.codes == [AvailabilityCode.DECONFIGURE_REQUESTED]
    assert 1 in rig.facility.functions
    rig.facility.deconfigure(1)
    assert rig.codes[1:] == [AvailabilityCode.RESERVED]
    assert 1 not in rig.facility.functions


def test_a_function_in_standby_leaves_at_once(rig: Rig) -> None:
    rig.facility.unplug(2)
    assert rig.codes == [AvailabilityCode.RESERVED]


def test_a_surprise_is_one(rig: Rig) -> None:
    function = rig.facility.function(1)
    function.enable()
    rig.facility.unplug(1, surprise=True)
    assert rig.codes == [AvailabilityCode.DECONFIGURED]
    with pytest.raises(Refused):
        function.load(15, 0, 4)


def test_an_error_is_told(rig: Rig) -> None:
    rig.facility.function(1).enable()
    rig.facility.fail(1)
    assert rig.codes == [ErrorCode.SERVICE_ACTION]
    assert rig.facility.function(1).state is FunctionState.ERROR


def physical() -> FunctionSpec:
    options = {"total_vfs": 2, "vf_fid": 0x100, "vf_uid": 0x20}
    return FunctionSpec(uid=0x10, fid=0x10, model="roce-express2", options=options)


def virtual_functions(facility: ZpciFacility, count: int) -> None:
    sriov = facility.function(0x10).sriov
    assert sriov is not None
    assert sriov.on_enable is not None
    sriov.on_enable(count)


def test_a_function_whose_virtual_ones_cannot_be_there_is_refused_whole() -> None:
    facility = ZpciFacility([spec(0x101)])
    with pytest.raises(Misuse, match="with this identifier"):
        facility.plug(physical())
    assert list(facility.functions) == [0x101]
    assert facility.plug(spec(1)).number == 1


def test_a_surprise_ends_the_wait_for_a_function(rig: Rig) -> None:
    rig.facility.unplug(1)
    rig.facility.unplug(1, surprise=True)
    rig.facility.plug(spec(1))
    rig.facility.deconfigure(1)
    assert rig.facility.function(1).state is FunctionState.STANDBY


def test_a_virtual_function_that_is_taken_away_ends_the_wait_for_it() -> None:
    facility = ZpciFacility([physical()])
    virtual_functions(facility, 1)
    facility.unplug(0x100)
    for count in (0, 1):
        virtual_functions(facility, count)
    facility.deconfigure(0x100)
    assert facility.function(0x100).state is FunctionState.STANDBY


@pytest.mark.parametrize("surprise", [False, True])
def test_a_physical_function_goes_after_one_of_its_virtual_ones(surprise: bool) -> None:
    facility = ZpciFacility([physical()])
    virtual_functions(facility, 2)
    facility.unplug(0x100, surprise=True)
    virtual_functions(facility, 0)
    virtual_functions(facility, 2)
    assert sorted(facility.functions) == [0x10, 0x101]
    facility.unplug(0x10, surprise=surprise)
    if not surprise:
        facility.deconfigure(0x10)
    assert not facility.functions
