"""The copier's registers for its owner, at the hardware: any access, and what a pause and an image mean."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pyvfio.pci import copier_control as control
from pyvfio.pci.copier import CONTROL, ENTRIES, RING, RUN, STATUS, TAIL, CopierStatus
from pyvfio_backends.software.hardware.devices.copier import Copier
from pyvfio_backends.software.hardware.pci.bar import Unmapped

PLACES = (*range(0, 0x30, 4), *range(control.PAUSE, 0x8F0, 4))
VALUES = st.one_of(st.integers(0, 3), st.sampled_from([12, 1 << 12, 1 << 30, (1 << 64) - 1]), st.integers(0, 1 << 64))


def test_reset_values_and_what_cannot_be_written() -> None:
    copier = Copier()
    assert [copier.read(at, 4) for at in (control.PAUSE, control.LENGTH, control.LOADED, control.LOG)] == [0, 48, 0, 0]
    copier.write(control.LENGTH, 4, 7)
    copier.write(control.IMAGE, 4, 64)  # not paused
    copier.write(control.LOAD, 4, 1)
    assert (copier.read(control.LENGTH, 4), copier.read(RING, 8), copier.read(control.LOADED, 4)) == (48, 0, 0)


def test_a_half_of_the_pause_loads_nothing() -> None:
    copier = Copier()
    for pause in (control.NO_WORK, control.FROZEN):
        copier.write(control.PAUSE, 4, pause)
        copier.write(control.IMAGE, 8, 64)
        copier.write(control.LOAD, 4, 1)
        assert copier.read(RING, 8) == 0


def test_what_was_written_of_an_image_is_forgotten_with_the_pause() -> None:
    copier = Copier()
    both = control.NO_WORK | control.FROZEN
    copier.write(control.PAUSE, 4, both)
    copier.write(control.IMAGE, 8, 64)
    assert copier.read(control.IMAGE, 8) == 64
    copier.write(control.PAUSE, 4, 0)
    copier.write(control.PAUSE, 4, both)
    copier.write(control.LOAD, 4, 1)
    assert (copier.read(RING, 8), copier.read(control.LOADED, 4)) == (0, 0)
    copier.write(control.IMAGE, 8, 64)
    copier.write(control.LOAD, 4, 1)
    assert (copier.read(RING, 8), copier.read(control.LOADED, 4)) == (64, control.LOADED_GOOD)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from([4, 8]), VALUES, st.booleans()), max_size=60))
def test_any_access(accesses: list[tuple[int, int, int, bool]]) -> None:
    """Nothing but `Unmapped` for what is no register, and no state that no copier can be in."""
    copier = Copier()
    for offset, length, value, store in accesses:
        assert copier.takes(offset, length) in (True, False)
        try:
            if store:
                copier.write(offset, length, value & (1 << 8 * length) - 1)
            else:
                assert 0 <= copier.read(offset, length) < 1 << 8 * length
        except Unmapped:
            assert not copier.takes(offset, length)
        assert copier.image().possible or copier.read(STATUS, 4) == CopierStatus.FAILED
        assert copier.read(control.PAUSE, 4) <= control.NO_WORK | control.FROZEN


def test_doorbells_are_heard_while_no_work_is_begun() -> None:
    copier = Copier()
    copier.write(ENTRIES, 4, 8)
    copier.write(CONTROL, 4, RUN)
    copier.write(control.PAUSE, 4, control.NO_WORK)
    copier.write(TAIL, 4, 3)
    assert copier.read(TAIL, 4) == 3
    copier.write(control.PAUSE, 4, control.NO_WORK | control.FROZEN)
    copier.write(TAIL, 4, 5)
    assert copier.read(TAIL, 4) == 3
