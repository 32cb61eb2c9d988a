"""What subsystems keep for the whole kernel."""

from __future__ import annotations

import pytest

from pyvfio_backends.software.linux.subsystems import Key, Subsystems

NUMBERS: Key[set[int]] = Key("numbers")


def test_nothing_is_kept_until_somebody_does() -> None:
    table = Subsystems()
    assert table.get(NUMBERS) is None
    with pytest.raises(KeyError, match="numbers"):
        table[NUMBERS]


def test_it_is_made_once() -> None:
    table = Subsystems()
    made = table.get_or_make(NUMBERS, set)
    made.add(1)
    assert table.get_or_make(NUMBERS, lambda: {2}) is table[NUMBERS] is table.get(NUMBERS) is made


def test_what_is_set_replaces_it() -> None:
    table = Subsystems()
    table.get_or_make(NUMBERS, set)
    table[NUMBERS] = {3}
    assert table[NUMBERS] == {3}


def test_keys_are_told_apart_by_what_they_are_not_by_their_names() -> None:
    table, other = Subsystems(), Key[int]("numbers")
    table[NUMBERS] = {4}
    assert table.get(other) is None
