"""Compare two JUnit files, test by test, and print one table."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

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
    """One test and its outcomes; an outcome is None if the test did not run there."""

    name: str
    software: Outcome | None
    kernel: Outcome | None

    @property
    def differs(self) -> bool:
        """Whether the outcomes are not of one kind; skips are of one kind if their reasons are the same."""
        one, other = self.software, self.kernel
        if one is None or other is None:
            return True
        if one.result == other.result == "skipped":
            return one.reason != other.reason
        return one.result != other.result

    @property
    def failed(self) -> bool:
        """Whether the test failed on either side."""
        return any(side is not None and side.result in ("failed", "error") for side in (self.software, self.kernel))

    @property
    def verdict(self) -> str:
        """Say it in words, with the reasons of skips and failures."""
        reasons = list(dict.fromkeys(side.reason for side in (self.software, self.kernel) if side and side.reason))
        head = "DIFFERS" if self.differs else "FAILED" if self.failed else "same"
        return f"{head}: {' | '.join(reasons)}" if reasons else head


@dataclass
class Report:
    """The table and what is wrong with it; `problems` is empty if the run is good."""

    rows: list[Row]
    at_least: int
    problems: list[str] = field(default_factory=list)
    big_endian: int | None = None

    def __post_init__(self) -> None:
        """Find what is wrong."""
        differing = sum(row.differs for row in self.rows)
        failing = sum(row.failed for row in self.rows)
        ran = self.ran
        if differing:
            self.problems.append(f"{differing} test(s) differ between the software machine and the kernel")
        if failing:
            self.problems.append(f"{failing} test(s) failed")
        if ran == 0:
            self.problems.append("nothing ran on the kernel")
        elif ran < self.at_least:
            self.problems.append(f"only {ran} test(s) ran on the kernel, at least {self.at_least} must")

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
        width = max([len(row.name) for row in self.rows] + [len("test")])
        lines = [f"{'test':<{width}}  {'software':<8}  {'kernel':<8}  verdict"]
        lines.append(f"{'-' * width}  {'-' * 8}  {'-' * 8}  -------")
        for row in self.rows:
            software, kernel = (str(side or "not run") for side in (row.software, row.kernel))
            lines.append(f"{row.name:<{width}}  {software:<8}  {kernel:<8}  {row.verdict}")
        lines.append("")
        for title in ("software", "kernel"):
            sides: list[Outcome | None] = [getattr(row, title) for row in self.rows]
            counts = Counter(str(side or "not run") for side in sides)
            lines.append(f"{title:<8}  " + ", ".join(f"{counts[kind]} {kind}" for kind in sorted(counts)))
        lines.append(f"same      {sum(not row.differs for row in self.rows)} of {len(self.rows)}")
        if self.big_endian is not None:
            lines.append(f"big-endian  {self.big_endian} tests end on the software machine in the s390x guest as here")
        lines += [f"PROBLEM   {problem}" for problem in self.problems]
        return lines

    def closing_line(self) -> str:
        """Count for the kernel, a difference being a failure: `N passed, N failed, N skipped`."""
        bad = sum(row.differs or row.failed for row in self.rows)
        skipped = sum(
            row.kernel is not None and row.kernel.result == "skipped" and not row.differs for row in self.rows
        )
        return f"hil: {len(self.rows) - bad - skipped} passed, {bad} failed, {skipped} skipped"


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


def compare(software: dict[str, Outcome], kernel: dict[str, Outcome], at_least: int) -> Report:
    """Put both sides into one report, in the order of the software run."""
    names = list(dict.fromkeys([*software, *kernel]))
    return Report([Row(name, software.get(name), kernel.get(name)) for name in names], at_least)


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
