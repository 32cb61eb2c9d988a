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


def test_who_ends_a_wait_lets_the_other_finish_first() -> None:
    lock = threading.RLock()
    clock = Clock(lock)
    state = {"open": True}
    done: list[str] = []

    def remover() -> None:
        with lock:
            clock.wait(lambda: not state["open"])
            done.append("removed")

    thread = threading.Thread(target=remover)
    with lock:
        clock.settle()
    thread.start()
    deadline = time.monotonic() + 5
    while not clock._blocked and time.monotonic() < deadline:
        time.sleep(0.001)
    with lock:
        state["open"] = False
        clock.settle()
        assert done == ["removed"]
    thread.join(5)


def test_time_goes_on_for_who_waited_before_the_worker_slept() -> None:
    """Two wait for what a worker has; it sleeps only after that, twice."""
    lock = threading.RLock()
    clock = Clock(lock)
    state = {"starts": False, "over": False}

    def work() -> None:
        clock.wait(lambda: state["starts"])
        for _ in range(2):
            clock.sleep(5)
        state["over"] = True
        clock.notify()

    def waiter() -> None:
        with lock:
            clock.wait(lambda: state["over"])

    threads = [threading.Thread(target=waiter, daemon=True) for _ in range(2)]
    with lock:
        clock.run_apart(work, "worker")
    for thread in threads:
        thread.start()
        while not clock.holds(thread):
            time.sleep(0.001)
    with lock:
        state["starts"] = True
        clock.notify()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert clock.now == 10


def test_work_done_for_who_waits_may_wait_too() -> None:
    """Work that comes due in a call that waits, and in which somebody has to wait for a worker."""
    lock = threading.RLock()
    clock = Clock(lock)
    done: list[str] = []

    def sleeper() -> None:
        clock.sleep(1)
        done.append("slept")
        clock.sleep(4)
        done.append("over")
        clock.notify()

    def due() -> None:
        clock.wait(lambda: "slept" in done)
        done.append("due")

    with lock:
        clock.run_apart(sleeper, "worker")
        clock.schedule(0.5, due)
        clock.wait(lambda: "over" in done)
    assert done == ["slept", "due", "over"]
    assert not clock._blocked


def test_background_work_is_not_waited_for() -> None:
    clock = Clock(threading.RLock())
    reminders: list[float] = []

    def remind() -> None:
        reminders.append(clock.now)
        clock.schedule(10, remind, background=True)

    remind()
    assert not clock.run_until(lambda: False)
    clock.advance(25)
    assert reminders == [0, 10, 20]


def test_workers_end_with_the_machine() -> None:
    lock = threading.RLock()
    clock = Clock(lock)
    before = threading.active_count()

    def work() -> None:
        clock.wait(lambda: False)
        time.sleep(0.05)

    with lock:
        clock.run_apart(work, "worker")
    assert threading.active_count() == before + 1
    clock.close()
    assert threading.active_count() == before
