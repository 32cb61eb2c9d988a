"""Who adds, removes and lets go devices while an endpoint is recovered comes to an end, in every order.

The recovery holds the lock of who changes the list of devices while it sleeps (``eeh_handle_normal_event``,
``eeh_reset_device`` of Linux 6.12); time of the machine is virtual, so somebody has to let it go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import permutations

import pytest
from eeh_rig import EDU, LEFT, RIGHT, RIGHT1, EehRig
from pci_fixture import BUS

from pyvfio.abi import vfio as abi
from pyvfio.abi.eeh_state import EehPeFlag
from pyvfio_backends.software.linux.eeh_pe import ACTIVE
from pyvfio_backends.software.linux.pci_driver import Recovery

PATIENCE = 20.0


class Story:
    """A machine; a program has LEFT open until it closes it.  What blocks goes on in a thread."""

    def __init__(self) -> None:
        self.rig = EehRig()
        self.rig.give_vfio(LEFT)
        self.program = self.rig.open(LEFT, iommu=abi.VFIO_SPAPR_TCE_v2_IOMMU)
        self.threads: list[threading.Thread] = []

    def begin(self, path: str, text: str) -> None:
        """Write a file, until it is done or blocks."""
        thread = threading.Thread(target=self._write, args=(path, text), daemon=True)
        self.threads.append(thread)
        thread.start()
        end = time.monotonic() + PATIENCE
        while thread.is_alive() and not self.rig.machine.clock.holds(thread):
            assert time.monotonic() < end
            time.sleep(0.0005)

    def _write(self, path: str, text: str) -> None:
        try:
            self.rig.write(path, text)
        except OSError:
            return  # it is gone, or has no driver any more

    def end(self) -> None:
        """All are done."""
        end = time.monotonic() + PATIENCE
        for thread in self.threads:
            thread.join(max(0.0, end - time.monotonic()))
            assert not thread.is_alive()


ACTS: dict[str, Callable[[Story], None]] = {
    "strike": lambda story: story.rig.strike(EDU),
    "rescan": lambda story: story.begin("/sys/bus/pci/rescan", "1"),
    "unbind": lambda story: story.begin(f"{BUS}/drivers/vfio-pci/unbind", LEFT),
    "remove it": lambda story: story.begin(f"{BUS}/devices/{LEFT}/remove", "1"),
    "close": lambda story: story.program.close(),
}


def play(acts: tuple[str, ...]) -> EehRig:
    story = Story()
    rig = story.rig
    with rig.host:
        for act in acts:
            ACTS[act](story)
        story.end()
        rig.wait(60)
        assert rig.eeh.worker is None
        assert rig.state(EDU) == (ACTIVE, EehPeFlag.PRI_BUS)
    return rig


@pytest.mark.parametrize("acts", list(permutations(["strike", "rescan", "unbind", "close"])), ids=" ".join)
def test_unbinding_what_a_program_has(acts: tuple[str, ...]) -> None:
    rig = play(acts)
    assert rig.there(LEFT)
    assert rig.device(LEFT).driver is None


@pytest.mark.parametrize("acts", list(permutations(["strike", "rescan", "remove it", "close"])), ids=" ".join)
def test_removing_what_a_program_has(acts: tuple[str, ...]) -> None:
    """Who removes it holds the lock until the program has closed it; then it is whoever gets it first."""
    play(acts)


@pytest.mark.parametrize("path", ["remove", "unbind"])
@pytest.mark.parametrize("first", [True, False])
def test_taking_away_what_is_recovered(path: str, first: bool) -> None:
    """Of two functions that need a reset, one that goes before the recovery begins or while it sleeps."""
    story = Story()
    rig = story.rig
    with rig.host:
        for name in (RIGHT, RIGHT1):
            rig.answers.said[name, "error_detected"] = Recovery.NEED_RESET
        where = (
            (f"{BUS}/devices/{RIGHT1}/remove", "1") if path == "remove" else (f"{BUS}/drivers/answers/unbind", RIGHT1)
        )
        if first:
            story.begin(*where)
        rig.strike(RIGHT)
        if not first:
            story.begin(*where)
        story.end()
        rig.wait(60)
        assert rig.eeh.worker is None
        assert rig.works(RIGHT)
        assert rig.there(RIGHT1) is (path == "unbind")
        story.program.close()
