"""The scriptable control unit, and what the channel makes of its answers."""

from __future__ import annotations

import doctest

import pytest
from css_rig import DATA, SCHID, Bench

from pyvfio.css import Cstat, Dstat, SenseId
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.devices import scripted
from pyvfio_backends.software.hardware.devices.scripted import (
    Answer,
    Scripted,
    busy,
    control_unit_busy,
    make_scripted,
    retried,
    split,
    unit_checked,
    working,
)

ENDED = Dstat.CHANNEL_END | Dstat.DEVICE_END


@pytest.mark.parametrize(
    "script",
    [
        {"00": "data 00"},
        {"100": "data 00"},
        {"xy": ""},
        {"02": "data xy"},
        {"02": "bring 00"},
        {"02": "take many"},
        {"02": "after -1"},
        {"02": "after nan"},
        {"02": "later"},
        {"02": "channel zz"},
    ],
)
def test_scripts_that_cannot_be_read(script: dict[str, str]) -> None:
    with pytest.raises(Misuse, match="answer to command"):
        make_scripted(script)


def test_an_empty_script_rejects() -> None:
    unit = Scripted()
    bench = Bench(unit)
    assert bench.start(f"02200010{DATA:08x}").sense[:1].hex() == "80"
    assert bench.start(f"e4200007{DATA:08x}").scsw.ok
    assert [done.code for done in unit.log] == [0x02, 0xE4]


def test_data_both_ways_and_the_log() -> None:
    unit = Scripted(SenseId(0x1234, 1, 0x5678, 2))
    unit.on(0x02, Answer(data=b"hello"))
    unit.on(0x01, Answer(takes=-1))
    bench = Bench(unit)
    bench.put(DATA, "c1c2c3")
    irb = bench.start(f"01600003{DATA:08x} 0220000a{DATA + 16:08x}")
    assert (irb.scsw.dstat, irb.scsw.count) == (ENDED, 5)
    assert bench.data(5, DATA + 16) == b"hello".hex()
    assert [(done.code, done.took.hex()) for done in unit.log] == [(1, "c1c2c3"), (2, "")]
    assert unit.starts == 1


def test_queued_answers_come_first_and_once() -> None:
    unit = Scripted()
    unit.on(0x02, Answer(data=b"x"))
    unit.queue(busy(), unit_checked(0x40, 0x01), Answer(dstat=ENDED | Dstat.UNIT_EXCEPTION))
    bench = Bench(unit)
    read = f"02200001{DATA:08x}"
    assert bench.start(read).scsw.dstat == Dstat.BUSY
    assert bench.start(read).sense[:2].hex() == "4001"
    assert bench.start(read).scsw.dstat == ENDED | Dstat.UNIT_EXCEPTION
    assert bench.start(read).scsw.ok


def test_a_channel_check_and_a_status_modifier() -> None:
    unit = Scripted()
    unit.on(0x07, Answer(cstat=Cstat.INTERFACE_CONTROL_CHECK))
    unit.on(0x31, Answer(takes=1, dstat=ENDED | Dstat.STATUS_MODIFIER))
    unit.on(0x06, Answer(data=b"ok"))
    bench = Bench(unit)
    assert bench.start(f"07200001{DATA:08x}").scsw.cstat == Cstat.INTERFACE_CONTROL_CHECK
    irb = bench.start(f"31600001{DATA:08x} 0800000000011000 06200002{DATA + 8:08x}")
    assert irb.scsw.ok
    assert bench.data(2, DATA + 8) == b"ok".hex()


def test_delays_and_attention_afterwards() -> None:
    unit = Scripted(latency=0.5)
    bench = Bench(unit)
    unit.on(0x07, Answer(then=lambda took: bench.css.present_status(SCHID, int(Dstat.ATTENTION))))
    bench.put(0x11000, f"07200001{DATA:08x}")
    assert bench.ssch() == 0
    bench.clock.settle()
    assert unit.starts == 0
    bench.clock.advance(0.5)
    assert bench.irb().scsw.ok
    bench.clock.settle()
    assert bench.irb().scsw.dstat == Dstat.ATTENTION


def test_the_clear_function_is_seen() -> None:
    unit = Scripted()
    bench = Bench(unit)
    assert bench.css.csch(SCHID) == 0
    bench.clock.settle()
    assert unit.cleared_times == 1


def test_the_words_of_a_machine_file() -> None:
    unit = make_scripted({"02": "data 68690a", "01": "take 2, status 0d", "07": "sense 8002", "0b": "take all"})
    bench = Bench(unit)
    assert bench.start(f"02200003{DATA:08x}").scsw.ok
    assert bench.data(3) == "68690a"
    assert bench.start(f"01200002{DATA:08x}").scsw.dstat == ENDED | Dstat.UNIT_EXCEPTION
    assert bench.start(f"07200002{DATA:08x}").sense[:2].hex() == "8002"
    assert bench.start(f"0b200003{DATA:08x}").scsw.ok
    assert unit.log[-1].took == bytes.fromhex("68690a")
    assert "4 commands" in str(unit)


def test_the_example() -> None:
    assert doctest.testmod(scripted).failed == 0


def begun(bench: Bench, program: str) -> None:
    bench.put(0x11000, program)
    assert bench.ssch() == 0
    bench.clock.settle()


READ = f"02200004{DATA:08x}"


@pytest.mark.parametrize("answer", [busy(after=0.5), control_unit_busy(after=0.5), retried(after=0.5)])
def test_a_device_that_is_not_ready_yet(answer: Answer) -> None:
    unit = Scripted()
    unit.on(0x02, Answer(data=b"late"))
    unit.queue(answer)
    bench = Bench(unit)
    begun(bench, READ)
    assert bench.css.tsch(SCHID)[0] == 1, "no status yet"
    bench.clock.advance(0.4)
    assert bench.css.tsch(SCHID)[0] == 1
    bench.clock.advance(0.2)
    assert bench.irb().scsw.ok
    assert bytes.fromhex(bench.data(4)) == b"late"
    assert [done.code for done in unit.log] == [2, 2]


def test_a_command_that_is_given_again_at_once() -> None:
    unit = Scripted()
    unit.on(0x02, Answer(data=b"done"))
    unit.queue(retried(), retried())
    bench = Bench(unit)
    assert bench.start(READ).scsw.ok
    assert len(unit.log) == 3
    assert bench.start(READ).scsw.ok


def test_a_command_that_takes_its_time() -> None:
    unit = Scripted()
    unit.on(0x02, working(2.0, b"slow"))
    bench = Bench(unit)
    begun(bench, READ)
    bench.clock.advance(1.9)
    assert bench.css.tsch(SCHID)[0] == 1
    bench.clock.advance(0.2)
    assert bench.irb().scsw.dstat == ENDED


def test_channel_end_before_device_end() -> None:
    unit = Scripted()
    unit.on(0x07, split(1.0))
    bench = Bench(unit)
    begun(bench, "0720000100020000")
    assert bench.irb().scsw.dstat == Dstat.CHANNEL_END
    bench.clock.advance(1.1)
    assert bench.irb().scsw.dstat == Dstat.DEVICE_END


def test_busy_without_a_word_of_when() -> None:
    unit = Scripted()
    unit.queue(control_unit_busy())
    assert Bench(unit).start(READ).scsw.dstat == Dstat.BUSY | Dstat.STATUS_MODIFIER


def test_a_script_with_times() -> None:
    unit = make_scripted({"07": "status 08, later 04, after 0.5", "02": "channel 08"})
    bench = Bench(unit)
    assert bench.start(READ).scsw.cstat == Cstat.CHANNEL_DATA_CHECK
    begun(bench, "0720000100020000")
    assert bench.irb().scsw.dstat == Dstat.CHANNEL_END
    bench.clock.advance(0.6)
    assert bench.irb().scsw.dstat == Dstat.DEVICE_END
