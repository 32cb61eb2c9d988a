"""Where Hercules is not a machine: tests whose outcome there is known to be another, each with its reason.

The table shows the reason instead of a difference, and calls it a problem when such a test agrees after all, so that
nothing stays here for longer than it is true.  `HANGS` are not run there: they would take the guest with them, or
spoil the tests behind them.
"""

from __future__ import annotations

from enum import Enum
from fnmatch import fnmatchcase
from typing import NamedTuple


class Kind(Enum):
    """What happens there."""

    DIFFERS = "fails"
    HANGS = "is not run"
    VARIES = "fails now and then"


class Difference(NamedTuple):
    """A known difference."""

    kind: Kind
    reason: str


_HALT = "a halted program stays active, and its subchannel busy, until CLEAR SUBCHANNEL"
_IDLE = "once a suspended program was cleared, HALT SUBCHANNEL gives no interrupt any more"
_MEASURED = "measurement blocks have the basic format: Linux shows no busy and no response times"
_TIC = "a TIC at the start of a program is followed"
_PATHS = "channel paths cannot be asked for (CHSC): Linux has no objects of them"
_HEAD = "the extent's heads are not looked at"

HERCULES: dict[str, Difference] = {
    "test_channel_program_chains::test_a_tic_at_the_start": Difference(Kind.DIFFERS, _TIC),
    "test_channel_program_functions::test_halt_of_a_program_that_runs": Difference(Kind.DIFFERS, _HALT),
    "test_library_subchannel::test_halt_while_programs_run*": Difference(Kind.VARIES, _HALT),
    "test_passthrough_ccw::test_the_paths_have_the_types_of_the_host*": Difference(Kind.DIFFERS, _PATHS),
    "test_css_sysfs::test_every_installed_path_is_an_object": Difference(Kind.DIFFERS, _PATHS),
    "test_ccw_measurement::test_on": Difference(Kind.DIFFERS, _MEASURED),
    "test_ccw_measurement::test_nothing_measured_yet*_busy_time*": Difference(Kind.DIFFERS, _MEASURED),
    "test_ccw_measurement::test_nothing_measured_yet*_response_time*": Difference(Kind.DIFFERS, _MEASURED),
    "test_channel_program_records::test_extents_that_cannot_be*(0, 15)*": Difference(Kind.DIFFERS, _HEAD),
    "test_ccw_async::test_reset_of_a_suspended_program": Difference(Kind.HANGS, _HALT),
    "test_ccw_async::test_clear_of_a_suspended_program": Difference(Kind.HANGS, _IDLE),
}


def find(name: str, known: dict[str, Difference]) -> Difference | None:
    """The difference that is known of a test, by its name in the table."""
    return next((found for pattern, found in known.items() if name == pattern or fnmatchcase(name, pattern)), None)


def left_out(known: dict[str, Difference]) -> list[str]:
    """pytest's words for what is not run."""
    names = [name for name, found in known.items() if found.kind is Kind.HANGS]
    return [f"--deselect=pyvfio/testing/contract/{name.replace('::', '.py::', 1)}" for name in names]
