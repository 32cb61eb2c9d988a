"""What only a guest's PCI functions have: devices lost or asked for, emulated ones beside, limits of the host."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from pyvfio.binding import bind
from pyvfio.errors import Misuse, NoSuchDevice, NotModelled
from pyvfio.host import Host
from pyvfio.passthrough.zpci_facts import describe_function
from pyvfio.pci import bell
from pyvfio.vfio import Device
from pyvfio.vfio.opening import open_device
from pyvfio.zpci import clp
from pyvfio.zpci.event import AvailabilityCode, AvailabilityEvent, ErrorCode
from pyvfio.zpci.facts import ZpciBase, ZpciFacts
from pyvfio.zpci.fib import Fib
from pyvfio.zpci.instructions import Answer, FunctionOperation, Request, Status
from pyvfio.zpci.table import Iota, page_entry
from pyvfio_backends.software import software_of
from pyvfio_backends.software.description import FunctionSpec, MachineSpec
from pyvfio_backends.software.hardware.zpci.models import build_function

sys.path.insert(0, str(Path(__file__).parents[1] / "hardware_zpci"))
from zpci_rig import BASE, TABLES, GuestRig


@pytest.fixture
def on() -> Iterator[GuestRig]:
    rig = GuestRig()
    rig.enable()
    yield rig
    rig.close()


def test_interrupts_come_through_eventfds_without_a_call(on: GuestRig) -> None:
    on.interrupts_on()
    with on.guest.serve():
        software_of(on.host.backend).machine.zpci.functions[0x20].signal(1)
        for _ in range(500):
            if on.interrupts:
                break
            on.guest.wait(0.01)
    assert on.interrupts == [3]


def test_a_masked_vector_waits(on: GuestRig) -> None:
    on.interrupts_on()
    on.store(1, 16 * 2 + 12, 4, 1)
    on.signal(2)
    assert on.interrupts == []
    assert on.load(1, 0x800, 8) == 1 << 2
    on.store(1, 16 * 2 + 12, 4, 0)
    assert on.interrupts == [3]
    assert on.load(1, 0x800, 8) == 0


def test_the_guests_table_is_its_own(on: GuestRig) -> None:
    on.store(1, 0, 8, 0x1122334455667788)
    assert on.load(1, 0, 4) == 0x55667788
    assert on.load(15, 0x42, 2) & 0xC000 == 0
    on.store(15, 0x42, 2, 0xC000)
    assert on.load(15, 0x40, 4) >> 16 & 0xC000 == 0xC000
    assert on.load(15, 0x43, 1) & 0xC0 == 0xC0


def test_disabling_resets_the_hosts_device(on: GuestRig) -> None:
    on.interrupts_on()
    on.store(0, bell.SOURCE, 8, 0x1234)
    disabled = on.set(on.fh, clp.SetOperation.DISABLE)[1]
    on.fh = on.set(disabled, clp.SetOperation.ENABLE)[1]
    assert on.load(0, bell.SOURCE, 8) == 0
    assert on.load(15, 0x42, 2) & 0x8000 == 0
    on.signal(0)
    assert on.interrupts == []


def test_one_map_call_for_what_is_mapped_at_once(on: GuestRig) -> None:
    on.dma_on()
    for page in range(128):
        entry = page_entry(0x40000 + page * 0x1000).to_bytes(8, "big")
        on.memory.write(TABLES + 0x8000 + page * 8, entry)
    function = on.function()
    space = function.space  # type: ignore[attr-defined]
    before = space.calls
    assert on.cpu.rpcit(on.fh, BASE, 128 * 0x1000) == Answer()
    assert space.calls == before + 1
    assert on.ring(BASE, BASE + 100 * 0x1000, 64) == bell.BellStatus.DONE


def test_dma_outside_what_is_mapped_fails_at_the_device(on: GuestRig) -> None:
    on.dma_on()
    on.map(0, 0x10000)
    assert on.ring(BASE, BASE + 0x5000, 8) & bell.BellStatus.ERROR


def test_exhausted_mappings_are_the_architectures_status() -> None:
    rig = GuestRig(entry_limit=2)
    rig.enable()
    rig.dma_on()
    for page in (0, 2):
        rig.map(page, 0x10000 + page * 0x2000)
    entry = page_entry(0x30000).to_bytes(8, "big")
    rig.memory.write(TABLES + 0x8000 + 5 * 8, entry)
    assert rig.cpu.rpcit(rig.fh, BASE + 5 * 0x1000, 0x1000) == Answer(1, Status.INSUFFICIENT_RESOURCES)
    rig.memory.write(TABLES + 0x8000, page_entry(0, valid=False).to_bytes(8, "big"))
    assert rig.cpu.rpcit(rig.fh, BASE, 6 * 0x1000) == Answer()
    rig.close()


def test_a_device_that_does_not_answer_is_a_permanent_error(on: GuestRig) -> None:
    software_of(on.host.backend).machine.zpci.unplug(0x20, surprise=True)
    on.function().device.close()  # type: ignore[attr-defined]
    assert on.cpu.pcilg(Request(on.fh, 15, 4), 0) == Answer(1, Status.BLOCKED)
    assert [event.pec for event in on.errors] == [ErrorCode.PERMANENT_ERROR]
    assert on.cpu.rpcit(on.fh, BASE, 4096) == Answer(3)
    assert on.cpu.pcistg(0, Request(on.fh, 0, 4), 0) == Answer(1, Status.BLOCKED)


def test_a_device_that_does_not_answer_is_listed_still(on: GuestRig) -> None:
    """The instructions go on: nothing but an operand exception comes out of them."""
    before = on.list().entries[0]
    query = clp.QueryRequest(handle=on.fh).to_bytes()
    known = on.cpu.clp(query, 4096)
    software_of(on.host.backend).machine.zpci.unplug(0x20, surprise=True)
    on.function().device.close()  # type: ignore[attr-defined]
    assert on.list().entries[0] == before
    assert on.cpu.clp(query, 4096) == known
    fib = Fib(pba=BASE, pal=BASE + 0xFFFFF, iota=Iota(TABLES).to_word())
    assert on.cpu.mpcifc(on.fh, 0, FunctionOperation.REGISTER_TRANSLATION, fib).cc in (1, 3)


def test_asking_the_guest_for_a_function() -> None:
    rig = GuestRig()
    events: list[AvailabilityEvent] = []
    rig.guest._on_availability = events.append
    rig.guest.request(0x100)
    rig.guest.request(0x100)
    rig.enable()
    rig.guest.deconfigure(0x100)  # it is reset, though it was enabled
    codes = [AvailabilityCode(event.pec) for event in events]
    assert codes == [AvailabilityCode.DECONFIGURE_REQUESTED, AvailabilityCode.RESERVED]
    assert [entry.fid for entry in rig.list().entries] == [0x101]
    with pytest.raises(NoSuchDevice):
        rig.guest.request(0x100)
    rig.close()


def test_asking_for_a_function_in_standby(on: GuestRig) -> None:
    """It goes at once (``s390_pcihost_unplug_request()`` in ``hw/s390x/s390-pci-bus.c`` of QEMU)."""
    on.guest.deconfigure(0x100)
    on.guest.request(0x100)
    assert [entry.fid for entry in on.list().entries] == [0x101]


def test_standby_and_back(on: GuestRig) -> None:
    on.set(on.fh, clp.SetOperation.DISABLE)
    on.guest.deconfigure(0x100)
    assert on.list().entries[0].configured == 0
    assert on.set(on.list().entries[0].fh, clp.SetOperation.ENABLE)[0] == clp.ClpCode.INVALID_HANDLE
    on.guest.configure(0x100)
    assert on.enable()


def test_an_emulated_function_beside_the_passed_one(on: GuestRig) -> None:
    on.guest.add(build_function(FunctionSpec(uid=0x99, fid=0x900, model="virtio-bell"), 7))
    entry = next(one for one in on.list().entries if one.fid == 0x900)
    assert entry.fh == 0x00020007
    assert on.list().entries[0].fh == 0x80010000
    assert on.enable(2) == 0x80020007
    assert on.load(15, 0, 2) == bell.VENDOR_ID
    with pytest.raises(Misuse, match="uid 0x99"):
        on.guest.add(build_function(FunctionSpec(uid=0x99, fid=0x901, model="virtio-bell"), 8))
    with pytest.raises(Misuse, match="taken"):
        on.guest.add(build_function(FunctionSpec(uid=0x98, fid=0x901, model="virtio-bell"), 7))


@pytest.mark.parametrize(("uid", "fid"), [(0x60, 5), (5, 0x100), (-1, 5), (0x10000, 5), (5, 1 << 32)])
def test_names_that_are_taken_or_impossible(on: GuestRig, uid: int, fid: int) -> None:
    device = on.function().device  # type: ignore[attr-defined]
    before = list(on.guest.identifiers)
    with pytest.raises(Misuse, match=r"in use already|is between"):
        on.guest.attach(device, uid=uid, fid=fid)
    assert list(on.guest.identifiers) == before


def test_no_address_space_on_a_device_that_was_closed(on: GuestRig) -> None:
    on.function().device.close()  # type: ignore[attr-defined]
    on.tables()
    fib = Fib(pba=BASE, pal=BASE + 0xFFFF, iota=Iota(TABLES).to_word())
    answer = on.cpu.mpcifc(on.fh, 0, FunctionOperation.REGISTER_TRANSLATION, fib)
    assert answer == Answer(1, Status.INSUFFICIENT_RESOURCES)


def test_the_measurement_block_is_told_in_words() -> None:
    """``clp_store_query_pci_fn`` multiplies by four, and Linux measures nothing when its block is too small."""
    base = ZpciBase(0x1000, 0xFFFF, 0x100, 0, 80, 0, 1, None)
    facts = ZpciFacts(base, None, None, b"", None)
    device = cast(Device, None)  # the facts say it all
    told = describe_function(device, facts, uid=1, fid=2, group=3, bars=bytes(24), sizes=[0] * 6)
    assert told.fmb_length == 20


def test_memory_decoding_off_is_no_failure_of_the_device(on: GuestRig) -> None:
    """vfio-pci answers EIO then (``vfio_pci_rdwr.c``); QEMU gives its guest ones."""
    on.store(0, bell.SOURCE, 8, 0x1234)
    on.store(15, 4, 2, 0)
    assert on.load(0, bell.SOURCE, 4) == 0xFFFFFFFF
    on.store(0, bell.SOURCE, 8, 0x5678)
    on.store(15, 4, 2, 2)
    assert on.load(0, bell.SOURCE, 8) == 0x1234
    assert on.errors == []


def test_what_is_not_modelled_says_so_and_is_no_failure_of_the_device(on: GuestRig) -> None:
    spec = FunctionSpec(uid=0x50, fid=0x50, model="ism")
    with Host("software", machine=MachineSpec("shared-memory", functions=[spec])) as host:
        bind(host.device("0050:00:00.0"))
        function = on.guest.attach(open_device(host, "0050:00:00.0"), uid=9, fid=9)
        fh = function.enable()
        for _ in range(2):
            with pytest.raises(NotModelled, match="ISM"):
                on.cpu.pcilg(Request(fh, 2, 4), 0)
            with pytest.raises(NotModelled, match="ISM"):
                on.cpu.pcistg(0, Request(fh, 2, 4), 0)
        on.guest.detach(9)
