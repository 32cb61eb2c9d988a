"""What the DASD driver does when programs fail: tries again, asks for sense, halts, clears, leaves bad paths alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from dasd_machine import NUMBER, channel, disk

from pyvfio import CcwDevice, Control, Tic
from pyvfio.channel_regions import ChannelRegions
from pyvfio.css.irb import Irb
from pyvfio.css.scsw import Actl, Fctl
from pyvfio.drivers import AsyncDasd, Dasd, DasdFailed
from pyvfio.drivers.operations import Request
from pyvfio.errors import NotAvailable, Timeout
from pyvfio_backends.software.hardware.css.controlunit import Channel, Ending, unit_check
from pyvfio_backends.software.hardware.devices.dasd import Dasd3390

SIZE = 4 * 1024
NOP, READ_TRACK, CONFIGURATION, READ_DATA = 0x03, 0xDE, 0xFA, 0x86
FOR_EVER = [Control(NOP), Tic(0)]


def failing(monkeypatch: pytest.MonkeyPatch, code: int, times: int, *sense: int) -> Callable[[], int]:
    """Let the disk answer a command with a unit check so many times; how often it was given."""
    given = 0
    whole = Dasd3390.command

    def command(self: Dasd3390, command_code: int, path: Channel) -> Ending:
        nonlocal given
        if command_code == code:
            given += 1
            if given <= times:
                return unit_check(*sense)
        return whole(self, command_code, path)

    monkeypatch.setattr(Dasd3390, "command", command)
    return lambda: given


@pytest.mark.parametrize("sense", [(0x10,), (0x08,), (0x20,), (0x04,), (0x00, 0x00, 0x10)])
def test_what_passes_is_tried_again(monkeypatch: pytest.MonkeyPatch, sense: tuple[int, ...]) -> None:
    with disk() as found:
        found.write_blocks(30, b"a" * SIZE)
        times = failing(monkeypatch, READ_DATA, 3, *sense)
        assert found.read_blocks(30) == b"a" * SIZE
        assert times() == 4


def test_it_is_given_up_after_the_last_try(monkeypatch: pytest.MonkeyPatch) -> None:
    with disk() as found:
        times = failing(monkeypatch, READ_DATA, 100, 0x10)
        with pytest.raises(DasdFailed, match=r"equipment check.*\(tried 6 times\)") as caught:
            found.read_blocks(30)
        assert times() == 6
        assert caught.value.operation == "read blocks 30 to 30"


@pytest.mark.parametrize(("sense", "words"), [((0x10, 0x02), "write inhibited"), ((0x10, 0x80), "permanent error")])
def test_what_stays_is_not(monkeypatch: pytest.MonkeyPatch, sense: tuple[int, ...], words: str) -> None:
    with disk() as found:
        times = failing(monkeypatch, READ_DATA, 100, *sense)
        with pytest.raises(DasdFailed, match=words):
            found.read_blocks(30)
        assert times() == 1


def test_a_drive_that_is_not_ready_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with disk() as found:
        times = failing(monkeypatch, READ_DATA, 2, 0x40)
        assert found.read_blocks(30) == bytes(SIZE)
        assert times() == 3
        failing(monkeypatch, READ_DATA, 1000, 0x40)
        began = time.monotonic()
        with pytest.raises(DasdFailed, match="intervention required") as caught:
            found.read_blocks(30)
        assert time.monotonic() - began < 5
        assert "make the drive ready" in caught.value.next_step


def test_sense_that_does_not_come_with_the_status_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dasd3390, "concurrent_sense", False)
    with disk(readonly=True) as found, pytest.raises(DasdFailed, match="write inhibited"):
        found.write_blocks(30, bytes(SIZE))


def test_a_path_that_fails_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, CONFIGURATION, 1, 0x80)
    with disk() as found:
        assert found.paths == 0x40
        assert found.read_blocks(30) == bytes(SIZE)


def test_without_a_path_it_does_not_go_online(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, CONFIGURATION, 9, 0x80)
    with channel() as opened:
        with pytest.raises(NotAvailable, match=r"none of its paths \(c0\) works"), Dasd(opened):
            pass
        assert opened.device.space.mappings() == []


def test_a_program_that_does_not_end_is_halted_and_the_next_one_runs() -> None:
    with disk() as found:
        found.timeout = 0.1
        with pytest.raises(Timeout, match="was halted"):
            found._perform(Request(FOR_EVER, "wait"))
        found.timeout = 10
        assert found.read_blocks(30) == bytes(SIZE)


def test_it_is_cleared_when_it_is_active_still_after_a_halt(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the emulated mainframe of the golden file dasd-3390.jsonl ends HALT SUBCHANNEL."""
    plain = ChannelRegions.irb

    def active(self: ChannelRegions) -> Irb:
        irb = plain(self)
        if not irb.scsw.fctl & Fctl.HALT:
            return irb
        return replace(irb, scsw=replace(irb.scsw, actl=Actl.SUBCHANNEL_ACTIVE | Actl.DEVICE_ACTIVE))

    monkeypatch.setattr(ChannelRegions, "irb", active)
    with disk() as found:
        found.timeout = 0.1
        with pytest.raises(Timeout, match="was cleared"):
            found._perform(Request(FOR_EVER, "wait"))
        found.timeout = 10
        assert found.read_blocks(30) == bytes(SIZE)


def test_a_cancelled_task_halts_its_program() -> None:
    async def work(opened: CcwDevice) -> None:
        async with AsyncDasd(opened, name=NUMBER) as found:
            task = asyncio.create_task(found._perform(Request(FOR_EVER, "wait")))
            await asyncio.sleep(0.05)
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - began < 5
            assert await found.read_blocks(30) == bytes(SIZE)

    with channel() as opened:
        asyncio.run(work(opened))
        assert opened.device.space.mappings() == []
