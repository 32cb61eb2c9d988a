"""Eventfds and references to somebody else's."""

from __future__ import annotations

import errno
import os
import select

import pytest

from pyvfio.errors import Timeout
from pyvfio.process import EventFd, EventFdReference


def test_a_reference_to_a_closed_number_is_ebadf() -> None:
    fd = os.dup(0)
    os.close(fd)
    for number in (fd, -1, -2):
        with pytest.raises(OSError) as caught:
            EventFdReference(number)
        assert caught.value.errno == errno.EBADF


def test_a_reference_to_something_else_is_einval() -> None:
    read, write = os.pipe()
    with pytest.raises(OSError) as caught:
        EventFdReference(read)
    assert caught.value.errno == errno.EINVAL
    os.close(read)
    os.close(write)


def test_waiting_times_out() -> None:
    with EventFd() as event, pytest.raises(Timeout):
        event.wait(0.01)


def test_a_reference_outlives_the_number() -> None:
    event = EventFd()
    kept = os.dup(event.fileno())
    reference = EventFdReference(event.fileno())
    event.close()
    reference.signal()
    assert os.eventfd_read(kept) == 1
    reference.close()
    reference.close()
    os.close(kept)


def test_a_full_counter_does_not_block() -> None:
    with EventFd() as event:
        os.eventfd_write(event.fileno(), (1 << 64) - 2)
        reference = EventFdReference(event.fileno())
        reference.signal()
        assert event.read() == (1 << 64) - 2
        reference.close()


def test_count_and_select() -> None:
    with EventFd() as event:
        assert event.read() == 0
        assert select.select([event], [], [], 0)[0] == []
        event.signal()
        event.signal()
        assert select.select([event], [], [], 0)[0] == [event]
        assert event.wait(1) == 2
