"""Channel programs laid out, run and taken apart by `CcwDevice`, against the DASD and the echo unit of z15-lpar."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from small_machine import machine_of

import pyvfio
from pyvfio import CcwDevice, Control, Read, Tic, Write
from pyvfio.channel_program import LaidProgram
from pyvfio.css.ccw import CcwFlag, Command
from pyvfio.css.scsw import Dstat
from pyvfio.errors import ChannelProgramFailed, KernelRefused, Misuse, NotAvailable, PyvfioError, Timeout

DASD, ECHO, BELL = "0.0.013f", "0.0.0e00", "0060:00:00.0"
LABEL = bytes.fromhex("e5d6d3f1")  # VOL1, EBCDIC

Opener = Callable[..., CcwDevice]


@pytest.fixture
def channel(host: pyvfio.Host) -> Iterator[Opener]:
    """A function that takes a channel device and opens it."""
    with ExitStack() as stack:

        def take(number: str = ECHO, **options: object) -> CcwDevice:
            pyvfio.ccw_take(host, number)
            device = stack.enter_context(pyvfio.open_device(host, number))
            return stack.enter_context(CcwDevice(device, **options))  # type: ignore[arg-type]

        yield take


# refusals


def test_a_device_of_another_kind(host: pyvfio.Host) -> None:
    pyvfio.bind(host.function(BELL))
    with pyvfio.open_device(host, BELL) as device, pytest.raises(Misuse, match="it is a pci device"):
        CcwDevice(device)


@pytest.mark.parametrize(
    ("commands", "words"),
    [
        ([], "0 commands"),
        ([Control(3)] * 257, "257 commands"),
        ([Read(2, 1 << 16)], "65535 bytes"),
        ([Write(1, bytes(1 << 16))], "65535 bytes"),
        ([Control(3), Tic(2)], "TIC to command 2 of 2"),
        ([Tic(-1)], "TIC to command -1"),
    ],
)
def test_a_program_that_cannot_be(channel: Opener, commands: list[object], words: str) -> None:
    echo = channel()
    with pytest.raises(Misuse, match=words):
        echo.run(commands)  # type: ignore[arg-type]
    assert len(echo.device.space.mappings()) <= 1  # the scratch memory
    assert echo.run([Control(Command.NOP)]).scsw.ok


def test_an_unusual_end_is_decoded(channel: Opener) -> None:
    echo = channel()
    with pytest.raises(ChannelProgramFailed) as caught:
        echo.run([Control(0x77)])
    assert "unit check, sense 80" in caught.value.cause
    assert len(echo.device.space.mappings()) == 1  # the scratch memory
    result = echo.run([Control(0x77)], check=False)
    assert result.scsw.dstat & Dstat.UNIT_CHECK
    assert result.sense[0] & 0x80


def test_a_read_that_is_too_long_needs_sli(channel: Opener) -> None:
    echo = channel()
    echo.write(b"short")
    with pytest.raises(ChannelProgramFailed):
        echo.run([Read(2, 100)])
    result = echo.run([Read(2, 100, CcwFlag.SLI)])
    assert (result.data, result.residual) == (b"short", 95)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "path mask"),
        (errno.EAGAIN, "busy with another request"),
        (errno.EBUSY, "a start is under way"),
        (errno.EFAULT, "not there any more"),
        (errno.ENODEV, "not operational"),
    ],
)
def test_a_start_that_is_refused_says_why(host: pyvfio.Host, channel: Opener, number: int, words: str) -> None:
    echo = channel()
    machine_of(host).faults.fail("pwrite", number)
    with pytest.raises(PyvfioError) as caught:
        echo.run([Control(Command.NOP)])
    assert caught.value.errno == number
    assert words in caught.value.cause
    assert caught.value.operation == "start channel program"
    assert echo.run([Control(Command.NOP)]).scsw.ok


def test_a_kernel_without_the_asynchronous_region(channel: Opener) -> None:
    echo = channel()
    echo.device.find_region = lambda kind, subtype: None  # type: ignore[method-assign]
    echo._regions._found.clear()
    for call, what in ((echo.halt, "halt"), (echo.clear, "clear"), (echo.schib, "store"), (echo.crw, "store")):
        with pytest.raises(NotAvailable, match=f"{what} .*\n.*no such region"):
            call()


def test_a_program_that_does_not_end_is_stopped(channel: Opener) -> None:
    echo = channel()
    with pytest.raises(Timeout) as caught:
        echo.run([Control(Command.NOP), Tic(0)], timeout=0.01)
    assert "did not end within 0.01 s and was halted" in caught.value.cause
    assert "longer timeout" in caught.value.next_step
    assert echo.run([Control(Command.NOP)]).scsw.ok


# what works


@pytest.mark.parametrize("data", [b"x", bytes(range(256)), bytes(8), b"\xff" * 65535], ids=len)
def test_what_is_written_is_read(channel: Opener, data: bytes) -> None:
    echo = channel()
    assert echo.write(data).residual == 0
    assert echo.read(len(data)) == data


def test_reads_of_a_chain_are_kept_apart(channel: Opener) -> None:
    echo = channel()
    result = echo.run([Write(1, b"abc"), Read(2, 3), Write(1, b"defgh"), Read(2, 8, CcwFlag.SLI)])
    assert result.parts == (b"abc", b"defgh")
    assert result.data == b"abcdefgh"


def test_a_search_that_loops(channel: Opener) -> None:
    # DEFINE-less read of record 3 of track 0, the volume label: seek, search, back to the search, read
    dasd = channel(DASD)
    result = dasd.run(
        [
            Control(0x07, bytes(6)),
            Control(0x31, bytes.fromhex("0000000003")),
            Tic(1),
            Read(0x06, 80, CcwFlag.SLI),
        ]
    )
    assert result.data[:4] == LABEL
    assert result.data[4:10].decode("cp037") == "0X3F3F"


def test_asyncio(channel: Opener) -> None:
    echo = channel()

    async def both() -> bytes:
        await echo.run_async([Write(1, b"later")])
        return (await echo.run_async([Read(2, 5)])).data

    assert asyncio.run(both()) == b"later"


def test_sense_id(channel: Opener) -> None:
    identity = channel(DASD).sense_id()
    assert (identity.cu_type, identity.dev_type) == (0x3990, 0x3390)


def test_the_steps_by_name(channel: Opener) -> None:
    steps: list[str] = []
    echo = channel(trace=lambda step: steps.append(step.name))
    echo.run([Control(Command.NOP)])
    assert steps == ["Q1", "Q2", "Q3", "Q4", "Q5", "Q6", "Q7"]


def test_programs_lie_below_2_gib(channel: Opener) -> None:
    echo = channel()
    with LaidProgram(echo.device.space, "echo", [Read(2, 40000), Write(1, bytes(40000))]) as laid:
        assert laid.memory.iova + laid.memory.length <= 1 << 31
        first, second = laid.program
        start = laid.orb.cpa
    assert echo.device.space.mappings() == []
    assert first.flags & CcwFlag.CC
    assert not second.flags & CcwFlag.CC
    assert second.cda - first.cda >= 40000
    assert first.cda - start >= 2048  # the kernel copies 2 KiB from the first CCW on


def test_closing_disables_the_interrupt(host: pyvfio.Host) -> None:
    pyvfio.ccw_take(host, ECHO)
    with pyvfio.open_device(host, ECHO) as device:
        with CcwDevice(device) as echo:
            assert echo.irq.enabled
        assert not echo.irq.enabled
        with CcwDevice(device) as again:
            again.run([Control(Command.NOP)])


def test_kernel_refusals_are_pyvfio_errors(channel: Opener) -> None:
    echo = channel()
    from pyvfio.css.orb import Orb

    with pytest.raises(KernelRefused, match="not mapped"):
        echo.start(Orb(fmt=1, pfch=True, c64=True, lpm=0xFF, cpa=0x7000_0000))
