"""What a machine file has happen to channel paths and devices, and what the host makes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ccw_fixture import CcwHost

from pyvfio import Host, Write, ccw_take, open_backend
from pyvfio.address import SubchannelId
from pyvfio.css import Dstat, Orb, Subchannel
from pyvfio_backends.software.loader import load_machine

HEAD = """
[machine]
name = "m"
[[css.path]]
chpid = 0x44
[[css.path]]
chpid = 0x45
[[css.subchannel]]
schid = "0.0.0000"
device = "0.0.1000"
unit = "echo"
chpids = [0x44, 0x45]
pim = 0xC0
pam = 0xC0
[[css.subchannel]]
schid = "0.0.0001"
device = "0.0.1001"
unit = "echo"
chpids = [0x44]
"""


def boot(tmp_path: Path, events: str) -> CcwHost:
    file = tmp_path / "m.toml"
    file.write_text(HEAD + events)
    return CcwHost(load_machine(file))


def test_paths_go_and_come_with_time(tmp_path: Path) -> None:
    off = '[[css.event]]\naction = "path-off"\npath = 0x44\nafter = 100\n'
    on = '[[css.event]]\naction = "path-on"\npath = 0x44\nafter = 300\n'
    with boot(tmp_path, on + off) as host:
        assert host.read("0.0.0000/pimpampom") == "c0 c0 ff\n"
        host.machine.clock.advance(0.2)
        host.settle()
        assert host.read("0.0.0000/pimpampom") == "c0 40 ff\n"
        host.machine.clock.advance(0.2)
        host.settle()
        assert host.read("0.0.0000/pimpampom") == "c0 c0 ff\n"


def test_a_subchannel_goes(tmp_path: Path) -> None:
    with boot(tmp_path, '[[css.event]]\naction = "unplug"\nschid = "0.0.0001"\nafter = 5\n') as host:
        assert host.read("0.0.0001/type") == "0\n"
        host.machine.clock.advance(1)
        host.settle()
        assert "remove css0/0.0.0001" in host.heard()


@pytest.mark.parametrize(
    "event",
    [
        'action = "unplug"\nschid = "0.0.0007"',
        'action = "silence"\nschid = "0.0.0007"',
        'action = "attention"\nschid = "0.0.0007"\ndstat = 0x85',
        'action = "report"\nwords = ["14040007", "04000000"]',
        'action = "event"\nsei = "0000000000000402000000440000000000000000"',
        'action = "ask-configure"\npath = 0x44',
        'action = "ask-cancel"\npath = 0x44',
    ],
)
def test_what_changes_nothing_is_taken(tmp_path: Path, event: str) -> None:
    with boot(tmp_path, f"[[css.event]]\n{event}\n") as host:
        host.settle()
        assert host.read("0.0.0000/pimpampom") == "c0 c0 ff\n"


def test_with_a_start(tmp_path: Path) -> None:
    events = "".join(
        f'[[css.event]]\naction = "{action}"\npath = 0x44\nof = "0.0.0001"\nstarts = 2\nafter = {after}\n'
        for action, after in (("break-path", 0), ("repair-path", 500))
    )
    with boot(tmp_path, events) as host:
        css, clock = host.machine.css, host.machine.clock
        host.read("0.0.0000/0.0.1000/online")
        schid = next(schid for schid in css.schids() if schid.number == 1)
        address = host.machine.memory.allocate(64)
        host.machine.memory.write(address, bytes.fromhex("0320000100000000"))
        schib = css.stsch(schid)[1]
        assert schib is not None
        codes = []
        css._on_io_interrupt = lambda one: codes.append(css.tsch(one)[1].scsw.cc)
        with host.machine.lock:
            css.msch(schid, replace(schib, pmcw=replace(schib.pmcw, ena=True)))
            for _ in range(3):
                assert css.ssch(schid, Orb(cpa=address)) == 0
                clock.settle()
            clock.advance(1)
            assert css.ssch(schid, Orb(cpa=address)) == 0
            clock.settle()
        assert codes == [0, 3, 3, 0]


@pytest.mark.parametrize("paced", [False, True])
def test_a_key_that_a_program_presses_gets_to_the_host(paced: bool, tmp_path: Path) -> None:
    path = tmp_path / "machine.toml"
    path.write_text(
        '[machine]\nname = "m"\n[[css.path]]\nchpid = 1\n[[css.subchannel]]\n'
        'schid = "0.0.0001"\ndevice = "0.0.0300"\nunit = "3270"\nchpids = [1]\n'
    )
    with open_backend("software", machine=str(path), paced=paced) as backend:
        host, machine = Host(backend), backend.machine
        ccw_take(host, "0.0.0300")
        with Subchannel.open(host, "0.0.0300") as subchannel:
            subchannel.run([Write(0x05, bytes.fromhex("c3114040"))])  # ERASE/WRITE restores the keyboard
            machine.css.config(SubchannelId(0, 0, 1)).device.press("PF3")
            machine.clock.settle()
            assert subchannel.attention(timeout=10).scsw.dstat == Dstat.ATTENTION
