"""Statuses of a start function, put together as the kernel's own driver does (device_status.c)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pyvfio.channel_status import decode, merge
from pyvfio.css import Actl, Cstat, Dstat, Fctl, Irb, Scsw, Stctl

CPA, RESIDUAL = 0x11008, 5
CHANNEL_END = Irb(
    Scsw(
        fctl=Fctl.START,
        actl=Actl.DEVICE_ACTIVE,
        stctl=Stctl.PRIMARY | Stctl.PENDING,
        cpa=CPA,
        dstat=Dstat.CHANNEL_END,
        count=RESIDUAL,
    )
)
DEVICE_END = Irb(Scsw(stctl=Stctl.SECONDARY | Stctl.PENDING, dstat=Dstat.DEVICE_END))
ATTENTION = Irb(Scsw(stctl=Stctl.ALERT | Stctl.PENDING, dstat=Dstat.ATTENTION))
WHOLE = Irb(replace(CHANNEL_END.scsw, actl=Actl(0), stctl=Stctl(7), dstat=Dstat.CHANNEL_END | Dstat.DEVICE_END))


def test_attention_is_no_end() -> None:
    assert merge(None, ATTENTION) == (None, False)
    assert merge(CHANNEL_END, ATTENTION) == (CHANNEL_END, False)


@pytest.mark.parametrize("stctl", [Stctl.PENDING, Stctl.INTERMEDIATE | Stctl.PENDING])
def test_a_status_in_between_is_no_end(stctl: Stctl) -> None:
    between = Irb(Scsw(fctl=Fctl.START, actl=Actl.SUBCHANNEL_ACTIVE | Actl.DEVICE_ACTIVE, stctl=stctl))
    assert merge(None, between) == (between, False)


def test_channel_end_alone_is_no_end() -> None:
    assert merge(None, CHANNEL_END) == (CHANNEL_END, False)


def test_device_end_keeps_address_and_count_of_channel_end() -> None:
    irb, ended = merge(CHANNEL_END, DEVICE_END)
    assert ended
    assert irb is not None
    assert (irb.scsw.cpa, irb.scsw.count) == (CPA, RESIDUAL)
    assert irb.scsw.dstat == Dstat.CHANNEL_END | Dstat.DEVICE_END
    assert irb.scsw.ok


def test_both_at_once() -> None:
    assert merge(None, WHOLE) == (WHOLE, True)
    assert merge(CHANNEL_END, WHOLE) == (WHOLE, True)


def test_an_error_in_the_channel_program_is_not_lost() -> None:
    wrong = replace(CHANNEL_END, scsw=replace(CHANNEL_END.scsw, cstat=Cstat.INCORRECT_LENGTH))
    irb, ended = merge(wrong, DEVICE_END)
    assert ended
    assert irb is not None
    assert not irb.scsw.ok


def test_a_deferred_condition_code_ends_it() -> None:
    refused = Irb(Scsw(fctl=Fctl.START, cc=3, stctl=Stctl.ALERT | Stctl.PENDING))
    assert merge(None, refused) == (refused, True)


def test_words() -> None:
    check = Irb(Scsw(stctl=Stctl(7), dstat=Dstat.UNIT_CHECK, cstat=Cstat.PROGRAM_CHECK))
    assert "unit check, sense not given: ask with BASIC SENSE" in decode(check)
    assert "a CCW before cpa breaks a rule" in decode(check)
