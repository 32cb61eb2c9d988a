"""Random errors, answers of drivers, programs and switches: the tree of endpoints holds together, nobody is left over.

What holds is from ``arch/powerpc/kernel/eeh_pe.c`` and ``eeh_driver.c`` of Linux 6.12.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from eeh_rig import DEBUG, DOWNSTREAM, EDU, LEFT, NET, OTHER, RIGHT, RIGHT1, UPSTREAM, EehRig
from hypothesis import given, settings
from hypothesis import strategies as st
from pci_fixture import BUS, Device

from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_spapr as spapr
from pyvfio.abi.eeh_state import EehDevMode, EehPeFlag
from pyvfio_backends.software.linux.eeh_pe import EehPe, PeType
from pyvfio_backends.software.linux.pci_driver import Recovery

BUSY = EehPeFlag.RESET | EehPeFlag.KEEP
"""Not RECOVERING: an event of people's that another one purges leaves it behind (``eeh_remove_event``)."""
ANSWERS = [Recovery.CAN_RECOVER, Recovery.NEED_RESET, Recovery.DISCONNECT, Recovery.NONE]
TARGETS = [LEFT, RIGHT, RIGHT1, OTHER, EDU, UPSTREAM, DOWNSTREAM]


class Story:
    """The machine, and the programs that have functions open."""

    def __init__(self) -> None:
        self.rig = EehRig()
        self.open: dict[str, Device] = {}

    def there(self, name: str) -> bool:
        return self.rig.there(name) and self.rig.eeh.by_device.get(self.rig.device(name)) is not None

    def parity(self, name: str) -> None:
        with self.rig.machine.lock:
            self.rig.phb(int(name[:4], 16)).parity(self.rig.dev(name).address)

    def strike(self, name: str) -> None:
        if self.there(name) and name not in (UPSTREAM, DOWNSTREAM):
            with contextlib.suppress(OSError):  # recovery, which begins with the next call, may take it away
                self.rig.strike(name)

    def fence(self, name: str) -> None:
        with self.rig.machine.lock:
            self.rig.phb(int(name[:4], 16)).fence()

    def program(self, name: str) -> None:
        """Open a function, or close it."""
        if name in self.open:
            self.open.pop(name).close()
        elif self.rig.eeh.worker is None and self.there(name) and name not in (UPSTREAM, DOWNSTREAM):
            with contextlib.suppress(OSError):
                self.open[name] = self.rig.open(name, iommu=abi.VFIO_SPAPR_TCE_v2_IOMMU)

    def operate(self, name: str, operation: int) -> None:
        if name in self.open:
            with contextlib.suppress(OSError):
                request = spapr.EehPeOp.sized(op=operation)
                self.rig.host.ioctl(self.open[name].container, spapr.VFIO_EEH_PE_OP, request)

    def thaw(self, name: str) -> None:
        with contextlib.suppress(OSError):
            self.rig.write(f"{BUS}/devices/{name}/eeh_pe_state", "1")

    def force(self, name: str) -> None:
        with contextlib.suppress(OSError):
            self.rig.write(f"{DEBUG}/eeh_force_recover", f"{name[:4]}:{self.rig.dev(name).address:x}")

    def answer(self, name: str, said: Recovery) -> None:
        self.rig.answers.said[name, "error_detected"] = said

    # what holds

    def check(self) -> None:
        """The tree is one, and functions are where they say they are."""
        eeh = self.rig.eeh
        for host in eeh.hosts:
            seen: set[EehPe] = set()
            for pe in host.pe.walk():
                assert pe not in seen
                seen.add(pe)
                assert all(child.parent is pe for child in pe.children)
                assert all(dev.pe is pe and dev.host is host for dev in pe.devs)
            addresses = [pe.address for pe in seen if not pe.type & PeType.PHB]
            assert len(set(addresses)) == len(addresses)
            for dev in host.devs.values():
                assert dev.pe is None or dev.pe in seen
                assert dev.pdev is None or eeh.by_device[dev.pdev] is dev

    def check_rest(self) -> None:
        """Nothing is under way: what is left marked was given up, or is a program's."""
        assert self.rig.eeh.worker is None
        for host in self.rig.eeh.hosts:
            for pe in host.pe.walk():
                for one in pe.devs:
                    if one.pdev is not None and not one.mode & EehDevMode.REMOVED:
                        assert not pe.flags & BUSY or pe.flags & EehPeFlag.REMOVED, (pe.name, pe.flags)


ACTS: dict[str, Callable[[Story, str], None]] = {
    "parity": Story.parity,
    "strike": Story.strike,
    "fence": Story.fence,
    "program": Story.program,
    "thaw": Story.thaw,
    "force": Story.force,
    **{f"answer {said.name}": (lambda story, name, said=said: story.answer(name, said)) for said in ANSWERS},
    **{
        f"operation {number}": (lambda story, name, number=number: story.operate(name, number))
        for number in range(spapr.VFIO_EEH_PE_CONFIGURE + 1)
    },
    "a moment": lambda story, name: story.rig.wait(1.5),
    "a minute": lambda story, name: story.rig.wait(60),
    "an hour": lambda story, name: story.rig.wait(3700),
    "rescan": lambda story, name: void(story.rig.write("/sys/bus/pci/rescan", "1")) if rests(story) else None,
}


def void(_: object) -> None:
    return


def rests(story: Story) -> bool:
    """Whether nobody holds the list of devices: a rescan would wait for him."""
    return story.rig.eeh.worker is None


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(sorted(ACTS)), st.sampled_from(TARGETS)), min_size=1, max_size=12))
def test_whatever_happens(acts: list[tuple[str, str]]) -> None:
    story = Story()
    rig = story.rig
    with rig.host:
        for act, name in acts:
            ACTS[act](story, name)
            story.check()
        for device in story.open.values():
            device.close()
        rig.wait(600)
        story.check()
        story.check_rest()
        kinds = ("parity", "strike", "fence", "force", "operation")
        hurt = {name[:4] for act, name in acts if act.startswith(kinds)}
        for name in NET:
            if name[:4] not in hurt and rig.there(name):
                assert not rig.eeh_pe(name).flags & ~EehPeFlag.PRI_BUS
