"""What CLP tells a guest of a passed function: from each capability of the host, in each version, and without it.

Source of the defaults and of what is not passed on: ``hw/s390x/s390-pci-vfio.c`` and ``s390-pci-bus.c`` of QEMU.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import pyvfio
from pyvfio.errors import NotModelled
from pyvfio.iommu.address_space import IovaRange
from pyvfio.passthrough import GuestMemory, GuestPci, PairedDevices
from pyvfio.passthrough.zpci_facts import DEFAULT_GROUP, SimulatedGroups, describe_function, describe_group
from pyvfio.pci import bell
from pyvfio.zpci import clp
from pyvfio.zpci.facts import ZpciBase, ZpciFacts, ZpciGroup
from pyvfio_backends.software.description import FunctionSpec, MachineSpec
from pyvfio_backends.software.hardware.zpci.models import build_function

sys.path.insert(0, str(Path(__file__).parents[1] / "hardware_zpci"))
from zpci_rig import BASE, GuestRig, InterpretedRig

BASIC = ZpciBase(0x1000, 0xFFFFF, 0x108, 3, 128, 5, 0x12, 0x80000003)
GROUP = ZpciGroup(0x7F, 0xFE00000000000040, False, 500, 1024, 1024, 2, 512)
FACTS = ZpciFacts(BASIC, GROUP, "NIC", b"\xd5\xc9\xc3".ljust(64, b"\0"), b"\x01\x02\x03\x04")
NONE = ZpciFacts(None, None, None, b"", None)


def function(facts: ZpciFacts | None, group: int = 0xF0) -> clp.FunctionResponse:
    space = SimpleNamespace(ranges=lambda: [IovaRange(0, 0xFFF), IovaRange(0x10000, 0xFFFFFFFF)])
    device: Any = SimpleNamespace(space=space)
    return describe_function(
        device, facts, uid=7, fid=9, group=group, bars=bytes(24), sizes=[0x1000, 0, 0, 0, 0x4000, 0]
    )


# ---- what is missing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("facts", [None, NONE])
def test_a_host_that_tells_nothing(facts: ZpciFacts | None) -> None:
    answer = function(facts, DEFAULT_GROUP)
    assert (answer.sdma, answer.edma) == (0x10000, 0xFFFFFFFF)  # the widest range that the host maps
    assert (answer.pchid, answer.vfn, answer.pft, answer.fmb_length, answer.pfgid) == (0, 0, 0, 0, 0xFF)
    assert (answer.uid, answer.fid, answer.bar_sizes) == (7, 9, bytes((12, 0, 0, 0, 14, 0)))
    assert (answer.utility_available, answer.utility, answer.pfip) == (0, bytes(64), bytes(4))
    group = describe_group(facts, interpreted=False)
    assert (group.noi, group.maxstbl, group.mui, group.dtsm, group.refresh, group.dasm) == (128, 128, 4000, 0x40, 1, 0)
    assert group.msia == 0xFE00000000000000


@pytest.mark.parametrize("size", [65, 200])
def test_a_utility_string_that_is_too_long(size: int) -> None:
    answer = function(replace(FACTS, util_raw=b"\xc1" * size))
    assert (answer.utility_available, answer.utility) == (0, bytes(64))


def test_a_path_that_is_too_long() -> None:
    assert function(replace(FACTS, pfip=b"\x01" * 5)).pfip == bytes(4)
    assert function(replace(FACTS, pfip=b"\x09")).pfip == b"\x09\0\0\0"


def test_a_group_of_version_one_has_no_length_for_interpretation() -> None:
    old = replace(FACTS, group=replace(GROUP, imaxstbl=None, maxstbl=64))
    assert describe_group(old, interpreted=True).maxstbl == 64
    assert describe_group(old, interpreted=False).maxstbl == 64


# ---- what is passed on -------------------------------------------------------------------------------------------


def test_the_hosts_facts_and_the_guests_names() -> None:
    answer = function(FACTS)
    assert (answer.sdma, answer.edma, answer.pchid, answer.vfn, answer.pft) == (0x1000, 0xFFFFF, 0x108, 3, 5)
    assert (answer.uid, answer.fid, answer.pfgid, answer.pfip) == (7, 9, 0xF0, b"\x01\x02\x03\x04")
    assert (answer.utility_available, answer.utility[:3]) == (1, b"\xd5\xc9\xc3")


def test_limits_of_a_group_are_of_who_carries_out_the_instructions() -> None:
    kernel, machine = (describe_group(FACTS, interpreted=one) for one in (False, True))
    assert (kernel.maxstbl, machine.maxstbl) == (128, 512)
    for answer in (kernel, machine):
        assert (answer.noi, answer.version, answer.mui, answer.dasm) == (1024, 2, 500, 0x7F)
        assert (answer.msia, answer.dtsm) == (0xFE00000000000040, 0x40)
        assert answer.refresh == 1  # mappings follow refreshes, whatever the host's IOMMU wants


def test_groups_in_the_guest() -> None:
    groups = SimulatedGroups()
    assert groups.number(FACTS, interpreted=True) == 0x12
    assert groups.number(FACTS, interpreted=False) == 0xF0
    other = replace(FACTS, base=replace(BASIC, gid=0x13))
    assert groups.number(other, interpreted=False) == 0xF1
    assert groups.number(FACTS, interpreted=False) == 0xF0
    for facts in (None, NONE, replace(FACTS, group=None), replace(FACTS, base=replace(BASIC, gid=0xF3))):
        assert groups.number(facts, interpreted=False) == groups.number(facts, interpreted=True) == 0xFF


def test_groups_run_out() -> None:
    groups = SimulatedGroups()
    found = [groups.number(replace(FACTS, base=replace(BASIC, gid=n)), interpreted=False) for n in range(20)]
    assert found == [*range(0xF0, 0xFF), *[0xFF] * 5]


# ---- in a guest --------------------------------------------------------------------------------------------------


def test_functions_of_one_group_in_both_ways() -> None:
    spec = MachineSpec(
        "two",
        interpretation=True,
        functions=[FunctionSpec(uid=n, fid=n, model="virtio-bell", pfgid=0x12) for n in (1, 2)],
    )
    with pyvfio.Host("software", machine=spec) as host, GuestMemory(0x1000) as memory, GuestPci(memory) as guest:
        for n in (1, 2):
            pyvfio.bind(host.device(f"{n:04x}:00:00.0"))
        first = guest.attach(pyvfio.open_device(host, "0001:00:00.0"))
        second = guest.attach(pyvfio.open_device(host, "0002:00:00.0"), interpret=False)
        assert (first.query().pfgid, second.query().pfgid) == (0x12, 0xF0)
        for number in (0x12, 0xF0):
            request = clp.QueryRequest(command=4, handle=number).to_bytes()
            assert int.from_bytes(guest.clp(request, 64)[1][2:4], "big") == clp.ClpCode.OK


@pytest.mark.parametrize("kind", [GuestRig, InterpretedRig])
def test_an_emulated_function_works_beside_a_passed_one(kind: type[GuestRig]) -> None:
    """The same DMA addresses, by what each had refreshed; interruptions into the same summary bits."""
    rig = kind()
    rig.enable()
    rig.interrupts_on()
    rig.dma_on()
    rig.map(0, 0x10000)
    rig.map(1, 0x11000)
    rig.guest.add(build_function(FunctionSpec(uid=0x99, fid=0x900, model="virtio-bell"), 7))
    emulated = next(one for one in rig.guest.all_functions() if one.fid == 0x900)
    rig.memory.write(0x10000, b"passed")
    assert rig.ring(BASE, BASE + 0x1000, 6, vector=0) & bell.BellStatus.DONE
    rig.guest.poll()
    rig.enable(2)
    rig.interrupts_on(aibv=0x2200, aisbo=9)
    rig.store(15, 4, 2, 6)
    rig.dma_on()
    rig.map(0, 0x20000)
    rig.map(1, 0x21000)
    rig.memory.write(0x20000, b"emulated")
    rig.function = lambda: emulated  # type: ignore[method-assign]
    assert rig.ring(BASE, BASE + 0x1000, 8, vector=1) & bell.BellStatus.DONE
    assert (rig.memory.read(0x11000, 6), rig.memory.read(0x21000, 8)) == (b"passed", b"emulated")
    assert rig.interrupts == [3, 3]
    assert rig.memory.read(0x2100, 2) == b"\x04\x40"
    rig.close()


def test_relaxed_translation_is_not_there() -> None:
    with pyvfio.Host("software", machine="z15-lpar") as host, GuestMemory(0x1000) as memory, GuestPci(memory) as guest:
        devices = PairedDevices(guest, host)
        with pytest.raises(NotModelled, match="relaxed translation"):
            devices.plug("zpci,uid=8,fid=2,target=one,relaxed-translation=on")
        assert devices.plug("zpci,uid=8,fid=2,target=one,relaxed-translation=off") == []


def test_the_switches_in_qemus_words() -> None:
    with pyvfio.Host("software", machine="z15-lpar") as host, GuestMemory(0x1000) as memory, GuestPci(memory) as guest:
        pyvfio.bind(host.device("0060:00:00.0"))
        devices = PairedDevices(guest, host)
        for words, expected in (
            ("", (True, True)),
            (",forwarding-assist=off", (True, False)),
            (",interpret=off", (False, False)),
        ):
            (given,) = devices.plug(f"zpci,fid=2,target=one{words}", "vfio-pci,host=0060:00:00.0,id=one")
            function: Any = given
            assert (function.interpreted, function.forwarding_assist) == expected
            devices.unplug("one", surprise=True)
