"""The machine's time."""

from __future__ import annotations

import threading
import time

from pyvfio_backends.software.clock import Clock


def test_nothing_runs_inside_schedule_and_order_is_kept() -> None:
    clock = Clock(threading.RLock())
    done: list[int] = []
    clock.schedule(0, lambda: done.append(1))
    clock.schedule(0, lambda: done.append(2))
    assert done == []
    clock.settle()
    assert done == [1, 2]


def test_work_that_causes_work_is_done_too_but_not_the_future() -> None:
    clock = Clock(threading.RLock())
    done: list[str] = []

    def first() -> None:
        done.append("first")
        clock.schedule(0, lambda: done.append("second"))
        clock.schedule(1, lambda: done.append("later"))

    clock.schedule(0, first)
    clock.settle()
    assert done == ["first", "second"]
    clock.advance(0.5)
    assert "later" not in done
    clock.advance(0.5)
    assert done[-1] == "later"


def test_an_endless_job_does_not_hang() -> None:
    clock = Clock(threading.RLock())
    runs = 0

    def again() -> None:
        nonlocal runs
        runs += 1
        clock.schedule(0.001, again)

    clock.schedule(0, again)
    clock.settle()
    assert runs == 1
    clock.advance(0.0105)
    assert runs == 11


def test_paced_work_is_done_on_a_thread_that_ends() -> None:
    before = threading.active_count()
    clock = Clock(threading.RLock(), paced=True)
    done = threading.Event()
    with clock.condition:
        clock.schedule(0.01, done.set)
    assert done.wait(5)
    clock.close()
    assert threading.active_count() == before


def test_waiters_let_others_work() -> None:
    lock = threading.RLock()
    clock = Clock(lock)
    ready = False

    def other() -> None:
        nonlocal ready
        time.sleep(0.02)
        with lock:
            ready = True
            clock.notify()

    thread = threading.Thread(target=other)
    with lock:
        thread.start()
        clock.wait(lambda: ready)
    thread.join()
    assert ready
