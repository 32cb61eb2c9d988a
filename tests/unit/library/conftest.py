"""Machines for the tests of the library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from small_machine import small_machine

import pyvfio


@pytest.fixture
def boot() -> Iterator[Callable[..., pyvfio.Host]]:
    """A function that boots a `small_machine`, with what it is given changed."""
    with ExitStack() as stack:

        def start(**changes: Any) -> pyvfio.Host:
            backend = small_machine(**changes)
            stack.callback(backend.close)
            return stack.enter_context(pyvfio.Host(backend))

        yield start


@pytest.fixture
def host() -> Iterator[pyvfio.Host]:
    """A fresh z15-lpar."""
    with pyvfio.Host("software", machine="z15-lpar") as opened:
        yield opened
