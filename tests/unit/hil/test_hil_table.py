"""The table of `make hil`: what counts as a difference, and when a run is bad."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hil.skips import Skip
from tests.hil.table import Outcome, alone, compare, read

PASSED = Outcome("passed")
SKIPPED = Outcome("skipped", "no DASD")
FAILED = Outcome("failed", "assert 1 == 2")

JUNIT = """<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest">
<testcase classname="pyvfio.testing.contract.test_group.TestOpen" name="test_busy[v1]" time="0.1"/>
<testcase classname="pyvfio.testing.contract.test_group" name="test_skip">
  <skipped type="pytest.skip" message="no
    DASD">/x/test_group.py:3: no DASD</skipped></testcase>
<testcase classname="pyvfio.testing.contract.test_group" name="test_bad">
  <failure message="AssertionError: at 0x00007f1234567890">trace</failure></testcase>
<testcase classname="pyvfio.testing.contract.test_group" name="test_leaks"/>
<testcase classname="pyvfio.testing.contract.test_group" name="test_leaks"><error message="teardown"/></testcase>
<testcase classname="" name="pyvfio.testing.contract.test_broken"><error message="collection failure"/></testcase>
</testsuite></testsuites>
"""


def test_nothing_on_the_kernel_is_a_problem() -> None:
    report = compare({"t::a": PASSED}, {}, at_least=1)
    assert "nothing ran on the kernel" in report.problems
    assert report.closing_line() == "hil: 0 passed, 1 failed, 0 skipped"


def test_only_skips_on_the_kernel_is_a_problem() -> None:
    assert compare({"t::a": SKIPPED}, {"t::a": SKIPPED}, at_least=0).problems == ["nothing ran on the kernel"]


def test_fewer_than_asked_is_a_problem() -> None:
    (problem,) = compare({"t::a": PASSED}, {"t::a": PASSED}, at_least=2).problems
    assert problem == "only 1 test(s) ran on the kernel, at least 2 must"


@pytest.mark.parametrize(
    ("software", "kernel"),
    [
        (PASSED, FAILED),
        (FAILED, PASSED),
        (PASSED, SKIPPED),
        (PASSED, None),
        (None, PASSED),
        (SKIPPED, Outcome("skipped", "no zPCI")),
        (FAILED, Outcome("error", "setup")),
    ],
)
def test_difference(software: Outcome | None, kernel: Outcome | None) -> None:
    sides = [{"t::same": PASSED} | ({"t::a": side} if side else {}) for side in (software, kernel)]
    report = compare(sides[0], sides[1], at_least=1)
    assert "1 test(s) differ between the software machine and the kernel" in report.problems
    assert [row.verdict.partition(":")[0] for row in report.rows] == ["same", "DIFFERS"]


def test_the_same_failure_is_no_difference_but_a_problem() -> None:
    report = compare({"t::a": FAILED}, {"t::a": FAILED}, at_least=1)
    assert report.problems == ["1 test(s) failed"]
    assert report.rows[0].verdict == "FAILED: assert 1 == 2"


def test_agreement() -> None:
    sides = {"t::a": PASSED, "t::b": SKIPPED}
    report = compare(sides, dict(sides), at_least=1)
    assert not report.problems
    assert report.ran == 1
    assert report.closing_line() == "hil: 1 passed, 0 failed, 1 skipped"
    assert report.lines() == [
        "test  software  kernel    verdict",
        "----  --------  --------  -------",
        "t::a  passed    passed    same",
        "t::b  skipped   skipped   same: no DASD",
        "",
        "software  1 passed, 1 skipped",
        "kernel    1 passed, 1 skipped",
        "same      2 of 2",
    ]


def test_read_junit(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    path.write_text(JUNIT)
    assert read(path) == {
        "test_group.TestOpen::test_busy[v1]": PASSED,
        "test_group::test_skip": SKIPPED,
        "test_group::test_bad": Outcome("failed", "AssertionError: at 0x..."),
        "test_group::test_leaks": Outcome("error", "teardown"),
        "test_broken": Outcome("error", "collection failure"),
    }


def test_an_absent_file_holds_no_tests(tmp_path: Path) -> None:
    assert read(tmp_path / "junit.xml") == {}


def test_the_big_endian_guest_is_held_to_this_host() -> None:
    passed, failed = Outcome("passed"), Outcome("failed", "why")
    good = compare({"a": passed, "b": passed}, {"a": passed, "b": passed}, 1)
    good.add_big_endian({"a": passed, "b": passed})
    assert good.problems == []
    assert any("2 tests end" in line for line in good.lines())
    for wrong in ({"a": passed, "b": failed}, {"a": passed}, {}):
        bad = compare({"a": passed, "b": passed}, {"a": passed, "b": passed}, 1)
        bad.add_big_endian(wrong)
        assert any("big-endian" in problem for problem in bad.problems)


# a kernel that is compared with nothing

SKIPS = (Skip("t::*", "no DASD"), Skip("u::*", "no disk", whole=False))


def test_a_kernel_alone() -> None:
    report = alone({"t::a": PASSED, "t::b": SKIPPED}, 1, "x86", SKIPS, whole=True)
    assert not report.problems
    assert report.closing_line() == "hil: 1 passed, 0 failed, 1 skipped"
    assert report.lines() == [
        "test            software  kernel    verdict",
        "--------------  --------  --------  -------",
        "x86:      t::a  -         passed    kernel only",
        "x86:      t::b  -         skipped   kernel only: no DASD",
        "",
        "x86:",
        "kernel    1 passed, 1 skipped",
        "kernel only: there is no software machine of this guest to compare with yet",
    ]


def test_a_kernel_alone_may_not_fail() -> None:
    report = alone({"t::a": PASSED, "t::b": FAILED, "t::c": SKIPPED}, 1, "x86", SKIPS, whole=True)
    assert report.problems == ["1 test(s) failed under x86"]
    assert report.rows[1].verdict == "FAILED: assert 1 == 2"


@pytest.mark.parametrize("name", ["other::a", "t::a"])
def test_a_skip_that_is_not_listed(name: str) -> None:
    reason = "no DASD" if name == "other::a" else "no reason"
    sides = {"t::b": SKIPPED, "t::c": PASSED, name: Outcome("skipped", reason)}
    report = alone(sides, 1, "x86", SKIPS, whole=True)
    assert report.problems == ["1 test(s) are skipped on the kernel under x86 for no listed reason"]
    assert report.rows[-1].verdict == f"NOT LISTED: {reason}"
    assert report.closing_line() == "hil: 1 passed, 1 failed, 1 skipped"


def test_a_listed_skip_that_does_not_happen() -> None:
    outcomes = {"t::a": PASSED}
    assert alone(outcomes, 1, "x86", SKIPS, whole=False).problems == []
    (problem,) = alone(outcomes, 1, "x86", SKIPS, whole=True).problems
    assert problem == "1 skip(s) are listed for x86 and did not happen: t::*: no DASD"


def test_nothing_ran_on_a_kernel_alone() -> None:
    assert "nothing ran on the kernel under x86" in alone({}, 1, "x86", (), whole=False).problems


def test_a_skip_on_both_sides_has_to_be_listed_where_there_is_a_list() -> None:
    sides = {"t::a": PASSED, "t::b": SKIPPED}
    assert compare(sides, dict(sides), 1, "x86", skips=(Skip("t::*", "no DASD"),), whole=True).problems == []
    report = compare(sides, dict(sides), 1, "x86", skips=(Skip("t::c", "no DASD"),), whole=True)
    assert [problem.partition(":")[0] for problem in report.problems] == [
        "1 test(s) are skipped on the kernel under x86 for no listed reason",
        "1 skip(s) are listed for x86 and did not happen",
    ]
    assert report.rows[1].verdict == "NOT LISTED: no DASD"
