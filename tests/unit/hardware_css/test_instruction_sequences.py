"""Random sequences of instructions, with paths, devices and time: what always holds, whatever the program does.

Only `OperandException` is raised, and condition codes and status are consistent (z/Architecture Principles of
Operation, chapters "I/O Instructions" and "I/O Interruptions").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from css_rig import DATA, PROGRAM, SCHID, Bench
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyvfio.address import SubchannelId
from pyvfio.css import Actl, Configure, Crw, Fctl, OperandException, Orb, Pmcw, Schib, Sei, Stctl
from pyvfio.css.chsc_machine import EnableFacility, Facility, StoreEvents
from pyvfio.css.measurement import ChannelMonitor
from pyvfio_backends.software.hardware.css import ChannelPath, SubchannelConfig
from pyvfio_backends.software.hardware.devices.echo import Echo

OTHER = SubchannelId(0, 2, 7)
FAR = SubchannelId(1, 0, 0)
NOBODY = SubchannelId(0, 0, 0x99)
SCHIDS = st.sampled_from([SCHID] * 12 + [OTHER] * 6 + [FAR, NOBODY])
CHPIDS = st.sampled_from([0x44, 0x45, 0x46, 0x99])

#: At PROGRAM, 0x100 apart: sense, unknown command, endless, suspended, PCI, a bad TIC, a write, a wrong address.
PROGRAMS = (
    "e420000700020000",
    "6f20000100020000",
    "0360000100020000 0800000000011200",
    "0362000100020000 e420000700020000",
    "0368000100020000 e420000700020000",
    "0800000000011500",
    "0140000400020000 0220000400020000",
    "0120000470000000",
)
BASES = [PROGRAM + 0x100 * at for at in range(len(PROGRAMS))]

ORBS = st.builds(
    Orb,
    intparm=st.integers(0, 3),
    spnd=st.booleans(),
    pfch=st.booleans(),
    ssic=st.booleans(),
    isic=st.booleans(),
    c64=st.booleans(),
    tm=st.sampled_from([False] * 30 + [True]),
    zero=st.sampled_from([0] * 30 + [1]),
    lpm=st.sampled_from([0xFF] * 6 + [0x80, 0x40, 0x3F, 0]),
    cpa=st.sampled_from([*BASES * 4, BASES[0] + 4, 1 << 31]),
)
PMCWS = st.builds(
    Pmcw,
    intparm=st.integers(0, 3),
    isc=st.integers(0, 7),
    ena=st.sampled_from([True] * 9 + [False]),
    res5=st.sampled_from([0] * 9 + [1]),
    mme=st.integers(0, 3),
    mp=st.booleans(),
    lpm=st.sampled_from([0xFF, 0x80]),
    pom=st.sampled_from([0xFF, 0x80]),
    mbi=st.integers(0, 4),
    mbfc=st.booleans(),
    csense=st.booleans(),
)
ORIGINS = st.sampled_from([0x40000, 0x40010, 1 << 40])
MONITORS = st.builds(ChannelMonitor, update=st.booleans(), connect_time=st.booleans(), origin=ORIGINS)
REQUESTS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            StoreEvents.of(0, 2).request().to_bytes(),
            EnableFacility(Facility.IMAGES).request().to_bytes(),
            *(bytes((0, 16, 0, code)) + bytes(12) for code in range(0x50)),
        ]
    ),
)

Step = tuple[str, tuple[Any, ...]]


def _step(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.tuples(st.just(name), st.tuples(*arguments))


STEPS = st.one_of(
    _step("ssch", SCHIDS, ORBS),
    _step("ssch", SCHIDS, ORBS),
    _step("settle"),
    _step("tsch", SCHIDS),
    _step("tsch", SCHIDS),
    _step("hsch", SCHIDS),
    _step("csch", SCHIDS),
    _step("xsch", SCHIDS),
    _step("rsch", SCHIDS),
    _step("stsch", SCHIDS),
    _step("msch", SCHIDS, st.builds(Schib, PMCWS, mba=st.sampled_from([0, 0x40040, 0x40020]))),
    _step("tpi", st.integers(0, 255)),
    _step("stcrw"),
    _step("rchp", st.integers(0, 2), CHPIDS),
    _step("schm", MONITORS),
    _step("chsc", REQUESTS),
    _step("advance", st.sampled_from([0.001, 0.1, 10.0])),
    _step("online", CHPIDS, st.booleans()),
    _step("breaks", CHPIDS, st.booleans()),
    _step("silent", st.booleans()),
    _step("attention", SCHIDS, st.sampled_from([0x80, 0x85, 0x04, 0x20])),
    _step("unplug", st.booleans()),
    _step("operator", CHPIDS),
)


class Machine:
    """A bench with two subchannels, and one in an image that is not enabled."""

    def __init__(self) -> None:
        chpids = (0x44, 0x45, 0, 0, 0, 0, 0, 0)
        self.bench = bench = Bench(Echo(), chpids=chpids, pim=0xC0, pam=0xC0)
        self.css = css = bench.css
        for chpid in (0x44, 0x45, 0x46):
            css.add_path(ChannelPath(chpid, online=chpid != 0x46))
        self.other = SubchannelConfig(OTHER, 2, device=Echo(), chpids=chpids, pim=0xC0, pam=0xC0)
        css.add_subchannel(self.other)
        css.add_subchannel(SubchannelConfig(FAR, 3, device=Echo()))
        css.msch(OTHER, Schib(Pmcw(ena=True, isc=5, lpm=0xFF, pom=0xFF)))
        for at, text in zip(BASES, PROGRAMS, strict=True):
            bench.put(at, text)

    def do(self, name: str, arguments: tuple[Any, ...]) -> None:
        own: dict[str, Callable[..., None]] = {
            "settle": self.bench.clock.settle,
            "advance": self.bench.clock.advance,
            "online": self._online,
            "breaks": self._breaks,
            "silent": self._silent,
            "attention": self.css.present_status,
            "unplug": self._unplug,
            "operator": self._operator,
        }
        if name in own:
            own[name](*arguments)
            return
        before = self.state(arguments[0]) if arguments and isinstance(arguments[0], SubchannelId) else None
        try:
            answer = getattr(self.css, name)(*arguments)
        except OperandException:
            assert name in ("ssch", "msch", "rchp", "schm", "chsc")
            return
        self.check_answer(name, arguments, before, answer)

    def state(self, schid: SubchannelId) -> Schib | None:
        return self.css.stsch(schid)[1]

    def check_answer(self, name: str, arguments: tuple[Any, ...], before: Schib | None, answer: Any) -> None:
        if name in ("tpi", "stcrw", "schm"):
            return
        cc = answer[0] if isinstance(answer, tuple) else answer
        assert cc in (0, 1, 2, 3)
        if before is None:
            assert cc == 3 or name in ("rchp", "chsc")
            return
        pending = bool(before.scsw.stctl & Stctl.PENDING)
        operational = before.pmcw.ena and before.pmcw.dnv
        if name in ("ssch", "tsch", "hsch", "csch", "xsch", "rsch") and not operational:
            assert cc == 3
        elif name == "tsch":
            assert cc == (0 if pending else 1)
        elif name in ("ssch", "xsch", "rsch"):
            assert (cc == 1) == pending
        elif name == "csch":
            assert cc == 0
        elif name == "hsch":
            assert cc != 3

    # what is always so

    def check(self) -> None:
        for schid in (SCHID, OTHER):
            subchannel = self.css.looked_at(schid)
            if subchannel is None:
                continue
            schib = subchannel.schib()
            assert Schib.from_bytes(schib.to_bytes()) == schib
            pmcw, scsw = schib.pmcw, schib.scsw
            assert not pmcw.pam & ~pmcw.pim
            assert not pmcw.pnom & ~pmcw.pim
            under_way = Actl.START_PENDING | Actl.HALT_PENDING | Actl.CLEAR_PENDING | Actl.SUSPENDED
            if not scsw.fctl:
                assert not scsw.actl & (under_way | Actl.RESUME_PENDING | Actl.SUBCHANNEL_ACTIVE)
            if scsw.actl & Actl.START_PENDING:
                assert scsw.fctl & Fctl.START
            if scsw.stctl & (Stctl.PRIMARY | Stctl.SECONDARY | Stctl.ALERT):
                assert scsw.stctl & Stctl.PENDING
            if not pmcw.ena:
                assert not scsw.fctl
        for request in list(self.css._interruptions._requests.values()):
            subchannel = self.css.looked_at(request.schid)
            assert subchannel is not None
            assert subchannel.pending
            assert (request.isc, request.intparm) == (subchannel.pmcw.isc, subchannel.pmcw.intparm)

    def check_end(self) -> None:
        """Whatever happened, the clear function brings a subchannel back to rest."""
        for schid in (SCHID, OTHER):
            schib = self.state(schid)
            if schib is None or not schib.pmcw.ena or not schib.pmcw.dnv:
                continue
            assert self.css.csch(schid) == 0
            self.bench.clock.settle()
            cc, irb = self.css.tsch(schid)
            assert (cc, irb.scsw.fctl) == (0, Fctl.CLEAR)
            after = self.state(schid)
            assert after is not None
            assert (after.scsw.fctl, after.scsw.actl) == (0, 0)
        assert self.bench.memory.read(DATA + 0x100, 64) == bytes(64)

    # what happens around the program

    def _online(self, chpid: int, online: bool) -> None:
        if self.css.path(0, chpid) is not None:
            self.css.set_path_online(0, chpid, online)

    def _breaks(self, chpid: int, works: bool) -> None:
        if self.css.path(0, chpid) is not None:
            (self.css.repair_path if works else self.css.break_path)(0, chpid)

    def _silent(self, silent: bool) -> None:
        (self.css.remove_device if silent else self.css.restore_device)(SCHID)

    def _unplug(self, gone: bool) -> None:
        there = self.css.looked_at(OTHER) is not None
        if gone and there:
            self.css.remove_subchannel(OTHER)
        elif not gone and not there:
            self.css.add_subchannel(replace(self.other, device=Echo()), report=True)

    def _operator(self, chpid: int) -> None:
        self.css.inject_report(Crw(rsc=4, erc=2, rsid=chpid))
        self.css.inject_event(Sei(2, rs=4, rsid=chpid))
        if self.css.path(0, chpid) is not None:
            self.css.request_path(0, chpid, Configure.CONFIGURE)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=1, max_size=40))
def test_what_always_holds(steps: list[Step]) -> None:
    machine = Machine()
    for name, arguments in steps:
        machine.do(name, arguments)
        machine.check()
    machine.check_end()
