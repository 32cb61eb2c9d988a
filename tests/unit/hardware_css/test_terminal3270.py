"""A 3270: what it refuses, what a program writes to its screen, and what a person's keys send back."""

from __future__ import annotations

import doctest
import struct

import pytest
from css_rig import DATA, SCHID, Bench
from hypothesis import given, settings
from hypothesis import strategies as st

from pyvfio.css import Dstat, Irb, Schib
from pyvfio.errors import Misuse
from pyvfio_backends.software.description import ChannelPathSpec, MachineSpec, SubchannelSpec
from pyvfio_backends.software.hardware.devices import terminal3270
from pyvfio_backends.software.hardware.devices.screen3270 import AIDS
from pyvfio_backends.software.hardware.devices.stream3270 import decode_address, encode_address
from pyvfio_backends.software.hardware.devices.terminal3270 import Terminal3270
from pyvfio_backends.software.machine import Machine

ENDED = Dstat.CHANNEL_END | Dstat.DEVICE_END
CHECKED = ENDED | Dstat.UNIT_CHECK
SBA, SF, IC = "11", "1d", "13"
UNPROTECTED, PROTECTED, SKIP, HIDDEN, NUMERIC = "40", "60", "f0", "4c", "50"


def at(row: int, column: int, columns: int = 80) -> str:
    return encode_address((row - 1) * columns + column - 1).hex()


def ebcdic(text: str) -> str:
    return text.encode("cp037").hex()


class Station:
    """A terminal on the bench; `do` runs one command."""

    def __init__(self, model: int = 2) -> None:
        self.terminal = Terminal3270(model=model)
        self.bench = Bench(self.terminal)
        self.terminal.present = lambda dstat: self.bench.css.present_status(SCHID, int(dstat))

    def do(self, code: int, data: str = "", count: int | None = None) -> Irb:
        text = data.replace(" ", "")
        self.bench.put(DATA, text)
        return self.bench.start(f"{code:02x}20{len(text) // 2 if count is None else count:04x}{DATA:08x}")

    def write(self, data: str, code: int = 0x05) -> None:
        assert self.do(code, data).scsw.ok

    def read(self, code: int = 0x06, most: int = 4000) -> str:
        irb = self.do(code, count=most)
        assert irb.scsw.ok
        return self.bench.data(most - irb.scsw.count)

    def press(self, key: str) -> None:
        self.terminal.press(key)
        self.bench.clock.settle()
        assert self.bench.irb().scsw.dstat == Dstat.ATTENTION


@pytest.mark.parametrize(
    "stream",
    [
        "02 11",  # an order without its address
        "02 115d7f f1 11ffff",  # an address beyond the screen
        "02 3c5d7f",  # what to repeat is missing
        "02 3cffff40",
        "02 1d",
        "02 2902c0",
        "02 2c01c0f0",  # no field to modify here
        "02 28",
        "02 12",
    ],
)
def test_a_stream_that_cannot_be_followed(stream: str) -> None:
    irb = Station().do(0x05, stream)
    assert (irb.scsw.dstat, irb.sense[:1].hex()) == (CHECKED, "01")


@pytest.mark.parametrize(
    "field", ["000201", "0009030000", "00050100ff", "000501ff77", "000501ff03", "00047700", "00ff"]
)
def test_structured_fields_that_are_none(field: str) -> None:
    irb = Station().do(0x11, field)
    assert (irb.scsw.dstat, irb.sense[:1].hex()) == (CHECKED, "01")


def test_nobody_is_connected() -> None:
    bench = Bench(Terminal3270(connected=False))
    assert bench.start("0120000400020000").sense[:1].hex() == "40"
    assert bench.start("9920000400020000").sense[:1].hex() == "40"
    assert bench.start("e420000700020000").scsw.ok
    assert bench.start("0320000100020000").scsw.ok


def test_other_commands_and_models_are_refused() -> None:
    assert Station().do(0x99, "00").sense[:1].hex() == "80"
    with pytest.raises(Misuse, match="no model 7"):
        Terminal3270(model=7)


def test_the_keyboard_refuses() -> None:
    station = Station()
    screen = station.terminal.screen
    station.write(f"02 {SBA}{at(1, 1)} {SF}{PROTECTED}{ebcdic('NAME')} {SF}{NUMERIC} {SBA}{at(2, 1)}{SF}{PROTECTED}")
    for act, cause in (
        (lambda: screen.press("PF25"), "no key"),
        (lambda: screen.move(25, 1), "no row 25"),
        (lambda: screen.type("X"), "protected"),
        (lambda: (screen.tab(), screen.type("A")), "not numeric"),
        (lambda: screen.type("1\u4e2d"), "not numeric"),
        (lambda: (screen.press("ENTER"), screen.press("PF1")), "locked"),
        (lambda: screen.type("1"), "locked"),
    ):
        with pytest.raises(Misuse, match=cause):
            act()
    unformatted = Terminal3270().screen
    with pytest.raises(Misuse, match="not on the keyboard"):
        unformatted.type("\u4e2d")


def test_a_form_is_filled_in_and_read() -> None:
    station = Station()
    screen = station.terminal.screen
    station.write(
        f"02 {SBA}{at(1, 1)} {SF}{SKIP}{ebcdic('NAME')} {SF}{UNPROTECTED}{IC} {SBA}{at(1, 20)} {SF}{SKIP}"
        f"{SBA}{at(2, 1)} {SF}{SKIP}{ebcdic('PASSWORD')} {SF}{HIDDEN} {SBA}{at(2, 20)} {SF}{SKIP}"
    )
    assert screen.text == " NAME\n PASSWORD"
    screen.type("ADA")
    screen.tab()
    screen.type("SECRET")
    assert screen.text == " NAME ADA\n PASSWORD"
    station.press("ENTER")
    assert screen.locked
    cursor = at(2, 17)
    fields = f"11{at(1, 7)}{ebcdic('ADA')} 11{at(2, 11)}{ebcdic('SECRET')}".replace(" ", "")
    assert station.read() == f"7d{cursor}{fields}"
    assert station.read(0x0E) == f"7d{cursor}{fields}"
    station.write("03", 0x01)  # restore the keyboard, reset the modified bits
    assert not screen.locked
    assert station.read() == f"60{cursor}"
    station.press("PA1")
    assert station.read() == "6c", "only the key"
    assert station.read(0x0E) == f"6c{cursor}"
    station.write("02", 0x01)
    station.press("CLEAR")
    assert (screen.text, station.read()) == ("", "6d")


def test_erase_all_unprotected_leaves_the_form() -> None:
    station = Station()
    screen = station.terminal.screen
    station.write(
        f"02 {SBA}{at(3, 1)} {SF}{PROTECTED}{ebcdic('X')} {SF}{UNPROTECTED}{IC} {SBA}{at(4, 1)}{SF}{PROTECTED}"
    )
    screen.type("GONE")
    station.press("PF3")
    assert station.read()[:2] == f"{AIDS['PF3']:02x}"
    assert station.do(0x0F).scsw.ok
    assert (screen.text, screen.cursor, screen.locked) == ("\n\n X", 163, False)
    assert station.read() == f"60{at(3, 4)}"


def test_orders() -> None:
    station = Station()
    screen = station.terminal.screen
    station.write(f"06 {SBA}{at(1, 1)} 3c{at(1, 11)}{ebcdic('-')} 08{ebcdic('+')} {IC} 2841f1 {ebcdic('END')}")
    assert (screen.text, screen.cursor) == ("-" * 10 + "+END", 11)
    assert station.terminal.stream.alarms == 1
    station.write(f"02 {SBA}{at(1, 3)} 12{at(1, 6)} {SBA}{at(1, 14)} 2902 c020 41f4", 0x01)
    assert screen.text == "--   -----+EN"
    station.write(f"02 {SBA}{at(1, 14)} 2c01c000 {ebcdic('OPEN')}", 0x01)
    assert screen.attributes == {13: 0}
    station.write(f"02 {SBA}{at(1, 15)} {ebcdic('O')} 05 {ebcdic('!')}", 0x01)
    assert screen.text.startswith("!"), "the rest of the field is cleared; no field follows"


def test_read_buffer_brings_all_of_it() -> None:
    station = Station()
    station.write(f"02 {SBA}{at(1, 1)} {SF}{UNPROTECTED}{ebcdic('AB')}")
    buffer = bytes.fromhex(station.read(0x02))
    assert len(buffer) == 3 + 1920 + 1
    assert buffer[3:8].hex() == "1d40c1c200"


def test_sizes_follow_the_command() -> None:
    station = Station(model=5)
    station.write("02", 0x0D)
    assert (station.terminal.screen.rows, station.terminal.screen.columns) == (27, 132)
    station.write("02", 0x05)
    assert (station.terminal.screen.rows, station.terminal.screen.columns) == (24, 80)
    assert station.do(0x0B).scsw.ok


@pytest.mark.parametrize(("model", "rows", "columns"), [(2, 24, 80), (3, 32, 80), (4, 43, 80), (5, 27, 132)])
def test_linux_asks_for_the_size(model: int, rows: int, columns: int) -> None:
    """The program of raw3270_size_device: reset, query, wait for attention, read."""
    station = Station(model)
    station.write("02", 0x0D)
    station.write("000701ff030081", 0x11)
    station.bench.clock.settle()
    assert station.bench.irb().scsw.dstat == Dstat.ATTENTION
    answer = bytes.fromhex(station.read())
    length, kind, code, flags, _, width, height = struct.unpack_from(">HBBBBHH", answer, 1)
    assert (answer[0], length, kind, code, flags & 0x0D) == (0x88, len(answer) - 1, 0x81, 0x81, 0x01)
    assert (height, width) == (rows, columns)
    assert station.read() == "604040", "a reply is read once"


def test_queries_and_fields() -> None:
    station = Station()
    stream = station.terminal.stream
    station.write("000501ff02", 0x11)
    assert stream.reply[:8].hex() == "8800088180808188"
    station.bench.clock.settle()
    station.bench.irb()
    station.read()
    station.write("000701ff030099", 0x11)
    station.bench.clock.settle()
    station.bench.irb()
    assert station.read() == "88000481ff"
    station.write(f"0000 40 00 f5 02 {ebcdic('FIELD')}", 0x11)
    assert station.terminal.screen.text == "FIELD"
    station.write("0005090000 0005 40 00 6f 00040380", 0x11)
    assert station.terminal.screen.text == ""


def test_an_emulation_that_answers_no_queries() -> None:
    terminal = Terminal3270(answers=False)
    assert not terminal.stream.write_structured(bytes.fromhex("000501ff02"))
    assert terminal.stream.read_modified().hex() == "604040"


def test_bytes_as_they_are() -> None:
    station = Station()
    station.terminal.key_in(bytes.fromhex("7d4040c8c9"))
    station.bench.clock.settle()
    assert station.bench.irb().scsw.dstat == Dstat.ATTENTION
    assert station.read() == "7d4040c8c9"
    assert station.read() == "604040"


def test_addresses_in_12_and_14_bits() -> None:
    assert [encode_address(value).hex() for value in (0, 79, 1919, 4096)] == ["4040", "c14f", "5d7f", "1000"]
    assert all(decode_address(encode_address(value)) == value for value in range(1 << 14))


def test_the_example() -> None:
    assert doctest.testmod(terminal3270).failed == 0


def test_a_machine_is_told_of_keys() -> None:
    rows = [SubchannelSpec("0.0.0005", "0.0.000a", "3270", chpids=(1,), options={"model": 3})]
    machine = Machine(MachineSpec("keys", paths=[ChannelPathSpec(1, 0x1A)], subchannels=rows))
    terminal = machine.css.config(SCHID).device
    assert isinstance(terminal, Terminal3270)
    with machine.lock:
        raw = bytearray(machine.css.stsch(SCHID)[1].to_bytes())  # type: ignore[union-attr]
        raw[5] |= 0x80
        assert machine.css.msch(SCHID, Schib.from_bytes(raw)) == 0
        terminal.press("PF7")
    machine.clock.settle()
    cc, irb = machine.css.tsch(SCHID)
    assert (cc, irb.scsw.dstat) == (1, Dstat.ATTENTION), "its kernel has taken the status already"


@given(st.lists(st.tuples(st.sampled_from([0x01, 0x05, 0x0D, 0x11, 0x0F, 0x06, 0x02, 0x0E]), st.binary(max_size=60))))
@settings(max_examples=100, deadline=None)
def test_no_stream_does_harm(commands: list[tuple[int, bytes]]) -> None:
    """Any bytes end with or without an operation check; the screen keeps its shape and can be read."""
    station = Station()
    screen = station.terminal.screen
    for code, data in commands:
        irb = station.do(code, data.hex() or "00")
        assert irb.scsw.dstat in (ENDED, CHECKED)
        station.bench.clock.settle()
        station.bench.css.tsch(SCHID)
        assert len(screen.characters) == screen.size == screen.rows * screen.columns
        assert all(0 <= position < screen.size for position in (*screen.attributes, screen.cursor))
        assert len(screen.lines) == screen.rows
