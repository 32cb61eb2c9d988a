"""The arcs between migration states for drivers that support less than all, which no lab has.

What a driver must be able to do is the list in the comment of ``vfio_mig_get_next_state()`` in
``drivers/vfio/vfio_main.c`` (6.12).  With all options the arcs are in the contract (``test_migration``).
"""

from __future__ import annotations

import errno

import pytest

from pyvfio.abi.vfio_feature import VFIO_MIGRATION_P2P as P2P
from pyvfio.abi.vfio_feature import VFIO_MIGRATION_PRE_COPY as PRE_COPY
from pyvfio.abi.vfio_feature import VFIO_MIGRATION_STOP_COPY as STOP_COPY
from pyvfio.abi.vfio_feature import MigrationState as S
from pyvfio_backends.software.linux.vfio_migration import next_state

ALWAYS = {(S.RESUMING, S.STOP), (S.STOP, S.RESUMING), (S.STOP, S.STOP_COPY), (S.STOP_COPY, S.STOP)}
WITHOUT_P2P = {(S.RUNNING, S.STOP), (S.STOP, S.RUNNING)}
WITH_P2P = {
    (S.RUNNING, S.RUNNING_P2P),
    (S.RUNNING_P2P, S.RUNNING),
    (S.RUNNING_P2P, S.STOP),
    (S.STOP, S.RUNNING_P2P),
}
PRE_COPY_ALONE = {(S.RUNNING, S.PRE_COPY), (S.PRE_COPY, S.RUNNING), (S.PRE_COPY, S.STOP_COPY)}
PRE_COPY_WITH_P2P = {
    (S.PRE_COPY, S.RUNNING),
    (S.PRE_COPY, S.PRE_COPY_P2P),
    (S.PRE_COPY_P2P, S.PRE_COPY),
    (S.PRE_COPY_P2P, S.RUNNING_P2P),
    (S.PRE_COPY_P2P, S.STOP_COPY),
    (S.RUNNING, S.PRE_COPY),
    (S.RUNNING_P2P, S.PRE_COPY_P2P),
}
DRIVERS = {
    STOP_COPY: ALWAYS | WITHOUT_P2P,
    STOP_COPY | P2P: ALWAYS | WITH_P2P,
    STOP_COPY | PRE_COPY: ALWAYS | WITHOUT_P2P | PRE_COPY_ALONE,
    STOP_COPY | P2P | PRE_COPY: ALWAYS | WITH_P2P | PRE_COPY_WITH_P2P,
}


@pytest.mark.parametrize("flags", DRIVERS)
def test_states_that_the_driver_has_not(flags: int) -> None:
    states = {state for arc in DRIVERS[flags] for state in arc}
    for state in states:
        for wanted in (set(S) - states) | {8, 1 << 31}:
            with pytest.raises(OSError, match="Invalid") as caught:
                next_state(state, wanted, flags)
            assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("flags", DRIVERS)
def test_every_way_is_made_of_the_drivers_arcs(flags: int) -> None:
    arcs = DRIVERS[flags]
    states = {state for arc in arcs for state in arc}
    for old in states:
        for new in states:
            if old is S.STOP_COPY and new in (S.PRE_COPY, S.PRE_COPY_P2P):
                with pytest.raises(OSError, match="Invalid"):
                    next_state(old, new, flags)
                continue
            way = [old]
            while way[-1] is not new:
                way.append(next_state(way[-1], new, flags))
                assert (way[-2], way[-1]) in arcs, way
                assert len(way) <= 6, way


def test_nothing_leads_out_of_an_error() -> None:
    for new in S:
        with pytest.raises(OSError, match="Invalid"):
            next_state(S.ERROR, new, STOP_COPY | P2P | PRE_COPY)
