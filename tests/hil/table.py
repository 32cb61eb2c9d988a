"""Compare two JUnit files, test by test, and print one table."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from .differences import Difference, Kind, find
from .skips import Skip, allowed

SUITE = "pyvfio.testing.contract."
# Worst first: a test that passes and whose clean-up fails stands twice in the file.
_RANK = ("error", "failed", "skipped", "passed")
_REASON_LIMIT = 70


@dataclass(frozen=True)
class Outcome:
    """What a test came to: passed, failed, error or skipped, and for the last three a reason in one line."""

    result: str
    reason: str = ""

    def __str__(self) -> str:
        return self.result


@dataclass(frozen=True)
class Row:
    """One test and its outcomes; an outcome is None if the test did not run there.

    `lacking` is why only the software machine skips it.  `known` says that the emulated hardware of the `guest` is
    known to be wrong there.  `alone` says that there is no software machine to compare with.  `listed` is False for a
    skip that must be in a list, and is not.
    """

    name: str
    software: Outcome | None
    kernel: Outcome | None
    guest: str = ""
    known: Difference | None = None
    alone: bool = False
    listed: bool = True
    lacking: Skip | None = None

    @property
    def differs(self) -> bool:
        """Whether the outcomes are not of one kind; skips are of one kind if their reasons are the same.

        A known difference is none, but one that is not to be seen any more is.
        """
        if not self.listed:
            return True
        if self.alone:
            return False
        if self.lacking is not None:
            return self.kernel is None or self.kernel.result == "skipped"
        if self.known is None:
            return self._unlike
        if self.software is None or self.software.result != "passed":
            return True
        if self.known.kind is Kind.HANGS:
            return self.kernel is not None
        return self.kernel is None or (self.known.kind is Kind.DIFFERS and self.kernel.result == "passed")

    @property
    def _unlike(self) -> bool:
        one, other = self.software, self.kernel
        if one is None or other is None:
            return True
        if one.result == other.result == "skipped":
            return one.reason != other.reason
        return one.result != other.result

    @property
    def failed(self) -> bool:
        """Whether the test failed on either side; on the kernel's not, if that is known."""
        if self.known is not None:
            return self.software is not None and self.software.result in ("failed", "error")
        return any(side is not None and side.result in ("failed", "error") for side in (self.software, self.kernel))

    @property
    def verdict(self) -> str:
        """Say it in words, with the reasons of skips and failures."""
        if self.known is not None:
            state = "is said to differ, and does not" if self.differs else "known"
            return f"{state}: {self.guest} {self.known.kind.value}: {self.known.reason}"
        reasons = list(dict.fromkeys(side.reason for side in (self.software, self.kernel) if side and side.reason))
        if self.alone or not self.listed:
            head = "NOT LISTED" if not self.listed else "FAILED" if self.failed else "kernel only"
            return f"{head}: {' | '.join(reasons)}" if reasons else head
        if self.lacking is not None and not self.differs:
            return f"kernel only: {self.lacking.reason}"
        head = "DIFFERS" if self.differs else "FAILED" if self.failed else "same"
        return f"{head}: {' | '.join(reasons)}" if reasons else head


@dataclass
class Report:
    """The table and what is wrong with it; `problems` is empty if the run is good."""

    rows: list[Row]
    at_least: int
    problems: list[str] = field(default_factory=list)
    big_endian: int | None = None
    guest: str = ""

    def __post_init__(self) -> None:
        """Find what is wrong."""
        differing = sum(row.differs for row in self.rows)
        failing = sum(row.failed for row in self.rows)
        ran = self.ran
        where = f"the kernel under {self.guest}" if self.guest else "the kernel"
        unlisted = sum(not row.listed for row in self.rows)
        differing -= unlisted
        if unlisted:
            self.problems.append(f"{unlisted} test(s) are skipped on {where} for no listed reason")
        if differing:
            self.problems.append(f"{differing} test(s) differ between the software machine and {where}")
        if failing:
            self.problems.append(f"{failing} test(s) failed" + (f" under {self.guest}" if self.guest else ""))
        if ran == 0:
            self.problems.append(f"nothing ran on {where}")
        elif ran < self.at_least:
            self.problems.append(f"only {ran} test(s) ran on {where}, at least {self.at_least} must")

    def add(self, other: Report) -> None:
        """Put the rows and problems of another guest behind these."""
        self.rows += other.rows
        self.problems += other.problems

    def add_big_endian(self, outcomes: dict[str, Outcome]) -> None:
        """Hold the software machine in the big-endian guest to the one here: every test must come to the same."""
        differing = [
            row.name
            for row in self.rows
            if row.software and Row(row.name, row.software, outcomes.get(row.name)).differs
        ]
        self.big_endian = sum(row.software is not None for row in self.rows) - len(differing)
        if differing:
            self.problems.append(
                f"{len(differing)} test(s) differ on the software machine between this host and the big-endian guest: "
                + ", ".join(differing[:10])
            )

    @property
    def ran(self) -> int:
        """Count the tests that ran on the kernel; a skip is no run."""
        return sum(row.kernel is not None and row.kernel.result != "skipped" for row in self.rows)

    def lines(self) -> list[str]:
        """Give the table, the totals of each side, and the verdict."""
        names = [f"{row.guest + ':':<10}{row.name}" if row.guest else row.name for row in self.rows]
        width = max([len(name) for name in names] + [len("test")])
        lines = [f"{'test':<{width}}  {'software':<8}  {'kernel':<8}  verdict"]
        lines.append(f"{'-' * width}  {'-' * 8}  {'-' * 8}  -------")
        for name, row in zip(names, self.rows, strict=True):
            software, kernel = (str(side or "not run") for side in (row.software, row.kernel))
            software = "-" if row.alone else software
            lines.append(f"{name:<{width}}  {software:<8}  {kernel:<8}  {row.verdict}")
        lines.append("")
        for guest in dict.fromkeys(row.guest for row in self.rows):
            lines += self._totals(guest)
        if self.big_endian is not None:
            lines.append(f"big-endian  {self.big_endian} tests end on the software machine in the s390x guest as here")
        lines += [f"PROBLEM   {problem}" for problem in self.problems]
        return lines

    def _totals(self, guest: str) -> list[str]:
        rows = [row for row in self.rows if row.guest == guest]
        lines = [f"{guest}:"] if guest else []
        alone = any(row.alone for row in rows)
        for title in ("kernel",) if alone else ("software", "kernel"):
            sides: list[Outcome | None] = [getattr(row, title) for row in rows]
            counts = Counter(str(side or "not run") for side in sides)
            lines.append(f"{title:<8}  " + ", ".join(f"{counts[kind]} {kind}" for kind in sorted(counts)))
        if alone:
            return [*lines, "kernel only: there is no software machine of this guest to compare with yet"]
        known = sum(row.known is not None and not row.differs for row in rows)
        same = sum(not row.differs for row in rows) - known
        lines.append(f"same      {same} of {len(rows)}" + (f", {known} differ for a known reason" if known else ""))
        return lines

    def closing_line(self) -> str:
        """Count for the kernel, a difference being a failure: `N passed, N failed, N skipped`."""
        bad = sum(row.differs or row.failed for row in self.rows)
        good = [row for row in self.rows if not (row.differs or row.failed)]
        known = sum(row.known is not None for row in good)
        skipped = sum(row.known is None and row.kernel is not None and row.kernel.result == "skipped" for row in good)
        line = f"hil: {len(good) - known - skipped} passed, {bad} failed, {skipped} skipped"
        return line + (f", {known} known to differ" if known else "")


def read(path: Path) -> dict[str, Outcome]:
    """Read a JUnit file that pytest wrote: outcome by test id. An absent file gives no tests."""
    if not path.exists():
        return {}
    outcomes: dict[str, Outcome] = {}
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        module = case.get("classname", "").removeprefix(SUITE)
        name = f"{module}::{case.get('name', '')}" if module else case.get("name", "").removeprefix(SUITE)
        found = _outcome(case)
        known = outcomes.get(name)
        if known is None or _RANK.index(found.result) < _RANK.index(known.result):
            outcomes[name] = found
    return outcomes


def compare(
    software: dict[str, Outcome],
    kernel: dict[str, Outcome],
    at_least: int,
    guest: str = "",
    known: dict[str, Difference] | None = None,
    skips: tuple[Skip, ...] | None = None,
    whole: bool = False,
    lacking: tuple[Skip, ...] = (),
) -> Report:
    """Put both sides into one report, in the order of the software run.

    Tests that `lacking` names may be skipped on the software machine alone.  With `skips` a test may be skipped on the
    kernel only for a reason in it, and of a `whole` run each must have been of use.
    """
    names = list(dict.fromkeys([*software, *kernel]))
    used: set[Skip] = set()
    rows = [
        Row(
            name,
            software.get(name),
            kernel.get(name),
            guest,
            find(name, known or {}),
            listed=_listed(name, kernel.get(name), skips, used),
            lacking=_lacking(name, software.get(name), kernel.get(name), lacking),
        )
        for name in names
    ]
    used |= {row.lacking for row in rows if row.lacking is not None}
    return _with_unused(Report(rows, at_least, guest=guest), (*(skips or ()), *lacking), used, whole)


def _lacking(name: str, software: Outcome | None, kernel: Outcome | None, lacking: tuple[Skip, ...]) -> Skip | None:
    """Why the software machine alone skips a test."""
    if software is None or kernel is None or software.result != "skipped" or kernel.result == "skipped":
        return None
    return allowed(name, software.reason, lacking)


def alone(kernel: dict[str, Outcome], at_least: int, guest: str, skips: tuple[Skip, ...], whole: bool) -> Report:
    """Report of a kernel that is compared with nothing: no test may fail, or be skipped for a reason not in `skips`.

    Of a `whole` run each of `skips` must have been of use.
    """
    used: set[Skip] = set()
    rows = [
        Row(name, None, outcome, guest, alone=True, listed=_listed(name, outcome, skips, used))
        for name, outcome in kernel.items()
    ]
    return _with_unused(Report(rows, at_least, guest=guest), skips, used, whole)


def _listed(name: str, outcome: Outcome | None, skips: tuple[Skip, ...] | None, used: set[Skip]) -> bool:
    """Whether a test that was skipped may be; the entry that allows it is `used` then."""
    if skips is None or outcome is None or outcome.result != "skipped":
        return True
    found = allowed(name, outcome.reason, skips)
    used |= {found} if found else set()
    return found is not None


def _with_unused(report: Report, skips: tuple[Skip, ...], used: set[Skip], whole: bool) -> Report:
    unused = [one for one in skips if one.whole and one not in used] if whole else []
    if unused:
        shown = "; ".join(f"{one.tests}: {one.reason}" for one in unused)
        report.problems.append(f"{len(unused)} skip(s) are listed for {report.guest} and did not happen: {shown}")
    return report


def _outcome(case: ElementTree.Element) -> Outcome:
    for tag, result in (("error", "error"), ("failure", "failed"), ("skipped", "skipped")):
        element = case.find(tag)
        if element is not None:
            return Outcome(result, _one_line(element.get("message") or element.text or ""))
    return Outcome("passed")


def _one_line(text: str) -> str:
    """Shorten a message to one line without what differs from run to run (addresses)."""
    line = re.sub(r"0x[0-9a-f]{8,}", "0x...", " ".join(text.split()))
    return line if len(line) <= _REASON_LIMIT else line[: _REASON_LIMIT - 3] + "..."
