"""`pyvfio.css.Subchannel` on every kernel: first what fails and what is given up, then everything in both manners."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

import pyvfio
from pyvfio.channel_errors import ProgramFault, UnitCheck
from pyvfio.channel_program import Control, Read
from pyvfio.css import CcwFlag, Command, Fctl, Orb, Program, Subchannel
from pyvfio.errors import DeviceBusy, KernelRefused, Misuse, PyvfioError, Timeout
from pyvfio.host import Host
from pyvfio.testing.devices import BoundFunction, BoundMdev, BoundSubchannel

SLI = CcwFlag.SLI
NOP = Control(Command.NOP, flags=SLI)
SENSE_ID = Read(Command.SENSE_ID, 64, SLI)
LONG = 20.0


@pytest.fixture
def opened(host: Host, mdev: BoundMdev, way: str) -> Iterator[Subchannel]:
    """The channel device, opened by its mediated device in each way."""
    with Subchannel.open(host, host.mdev(mdev.uuid), way=way) as subchannel:
        yield subchannel


def works(subchannel: Subchannel) -> bool:
    return subchannel.run([NOP, SENSE_ID]).data[0] == 0xFF


# -- what fails -------------------------------------------------------------------------------------------------------


def test_a_function_is_none(host: Host, function: BoundFunction) -> None:
    with pytest.raises(Misuse):
        Subchannel.open(host, function.address)
    with pyvfio.open_device(host, function.address) as device, pytest.raises(Misuse):
        Subchannel(device)


def test_only_one_has_its_interrupt(opened: Subchannel) -> None:
    with pytest.raises(Misuse):
        Subchannel(opened.device)
    assert works(opened)


def test_a_unit_check(opened: Subchannel) -> None:
    with pytest.raises(UnitCheck) as caught:
        opened.run([Control(0x6F, flags=SLI)])
    error = caught.value
    assert error.sense[0] & 0x80
    assert (error.obj, error.path, error.operation) == (opened.name, opened.path, "run channel program")
    assert "command reject" in error.cause
    assert error.next_step
    assert works(opened)


def test_a_program_check(opened: Subchannel) -> None:
    with opened.buffer(0x2000) as memory:
        program = Program(memory.iova).nop().sli.then.add(0x00, SLI, 1, memory.iova)
        with pytest.raises(ProgramFault, match="command-code"):
            opened.start(program)
    assert works(opened)


def test_an_address_that_is_not_mapped(opened: Subchannel) -> None:
    with pytest.raises(KernelRefused) as caught:
        opened.start(Orb(cpa=0x7000_0000, pfch=True))
    error = caught.value
    assert error.errno_name in ("EINVAL", "ENOENT")
    assert "not mapped" in error.cause
    assert "check" in error.next_step
    assert (error.obj, error.path) == (opened.name, opened.path)
    assert works(opened)


def test_transport_mode(opened: Subchannel) -> None:
    with opened.buffer(0x2000) as memory, pytest.raises(KernelRefused) as caught:
        opened.start(Orb(cpa=memory.iova, tm=True))
    assert caught.value.errno_name in ("EOPNOTSUPP", "ENOTSUP")  # two names of one number
    assert "transport mode" in caught.value.cause


@pytest.mark.parametrize("what", ["attention", "report", "wanted"])
def test_nothing_comes(opened: Subchannel, what: str) -> None:
    with pytest.raises(Timeout):
        getattr(opened, what)(0.02)
    assert works(opened)


def test_closed(opened: Subchannel) -> None:
    opened.close()
    opened.close()
    for call in (lambda: opened.run([NOP]), opened.halt, lambda: opened.attention(1)):
        with pytest.raises(Misuse):
            call()
    assert opened.device.fileno() == -1


# -- giving up --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", range(6))
def test_a_cancelled_task(opened: Subchannel, steps: int) -> None:
    """Wherever it was, the next program runs and gets its own end."""

    async def work() -> None:
        task = asyncio.create_task(opened.run_async([NOP, SENSE_ID]))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (await opened.run_async([NOP, SENSE_ID])).data[0] == 0xFF

    asyncio.run(work())
    assert works(opened)


def test_a_timeout_of_zero(opened: Subchannel) -> None:
    """It ends, or is stopped; neither is in the way of the next program."""
    for _ in range(3):
        with suppress(Timeout, DeviceBusy):
            assert opened.run([NOP, SENSE_ID], timeout=0.0).scsw.ok
        assert works(opened)


def test_halt_while_programs_run(opened: Subchannel) -> None:
    """Whether a halt meets the program or its end: every program gets one end, and the last one runs."""
    wrong: list[PyvfioError] = []

    def halts() -> None:
        for _ in range(5):
            try:
                with suppress(DeviceBusy):
                    opened.halt(timeout=LONG)
            except PyvfioError as error:
                wrong.append(error)

    thread = threading.Thread(target=halts)
    thread.start()
    for _ in range(10):
        try:
            opened.run([NOP, SENSE_ID], timeout=LONG)
        except PyvfioError as error:
            if isinstance(error, Timeout):
                wrong.append(error)
    thread.join(LONG)
    assert wrong == []
    assert works(opened)


def test_closing_wakes_who_waits(opened: Subchannel) -> None:
    caught: list[PyvfioError] = []

    def waits(call: Callable[[], object]) -> None:
        try:
            call()
        except PyvfioError as error:
            caught.append(error)

    threads = [threading.Thread(target=waits, args=(call,)) for call in (opened.attention, opened.report)]
    for thread in threads:
        thread.start()
    opened.close()
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()
    assert [type(error) for error in caught] == [Misuse, Misuse]


# -- what works -------------------------------------------------------------------------------------------------------


def test_its_names(opened: Subchannel, subchannel: BoundSubchannel) -> None:
    assert (opened.name, str(opened.schid)) == (subchannel.device_number, subchannel.address)
    assert opened.path == f"/sys/bus/mdev/devices/{opened.device.name}"
    assert opened.features == {"halt-clear", "schib", "crw", "request"}


def test_by_its_device_number(host: Host, mdev: BoundMdev, subchannel: BoundSubchannel) -> None:
    with Subchannel.open(host, subchannel.device_number) as found:
        assert found.sense_id().cu == subchannel.cutype_before


def test_stop_when_idle(opened: Subchannel) -> None:
    assert opened.stop() == "it was idle"
    assert works(opened)


def test_the_last_status(opened: Subchannel) -> None:
    assert works(opened)
    assert opened.last is not None
    assert opened.last.scsw.ok
    assert opened.clear().scsw.fctl == Fctl.CLEAR
    assert opened.last.scsw.fctl == Fctl.CLEAR
    assert opened.take_attention() is None


def test_in_asyncio(opened: Subchannel, subchannel: BoundSubchannel) -> None:
    async def work() -> None:
        assert (await opened.sense_id_async()).cu == subchannel.cutype_before
        assert (await opened.halt_async()).scsw.fctl == Fctl.HALT
        assert (await opened.clear_async()).scsw.fctl == Fctl.CLEAR
        assert await opened.stop_async() == "it was idle"
        for waits in (opened.attention_async, opened.report_async, opened.wanted_async):
            with pytest.raises(Timeout):
                await waits(0.02)
        with opened.buffer(0x2000) as memory:
            assert (await opened.start_async(Program(memory.iova).nop().sli)).scsw.ok

    asyncio.run(work())


def test_many_at_once(opened: Subchannel) -> None:
    """Threads and tasks: each program gets its turn."""
    found: list[int] = []

    def thread() -> None:
        found.extend(opened.run([NOP, SENSE_ID], timeout=LONG).data[0] for _ in range(3))

    async def tasks() -> None:
        results = await asyncio.gather(*(opened.run_async([SENSE_ID], timeout=LONG) for _ in range(6)))
        found.extend(result.data[0] for result in results)

    threads = [threading.Thread(target=thread) for _ in range(2)]
    for one in threads:
        one.start()
    asyncio.run(tasks())
    for one in threads:
        one.join(LONG)
    assert found == [0xFF] * 12


def test_no_mapping_is_left(opened: Subchannel) -> None:
    assert works(opened)
    space = opened.device.space
    assert len(space.mappings()) == 1
    opened.close()
    assert space.mappings() == []
