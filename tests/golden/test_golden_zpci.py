"""How much of what a real kernel answered about PCI functions (`zpci-*`, `sysfs-zpci-*`) the machine answers alike."""

from __future__ import annotations

import pytest
from replay.facts import FILES, load_facts, load_list, load_patterns
from replay.results import fact_verdicts, snapshot_ids, tree_verdicts

REQUIRED = 0.98
ZPCI = [file for file in FILES if file.startswith("zpci-")]


def test_the_share_that_agrees_of_all_that_was_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    """Excluded facts count as not agreeing; whatever does not agree has a reason in one of the lists."""
    reasons = {**load_list("excluded"), **load_list("disagreeing")}
    facts = {fact.id: fact_verdicts(file)[fact.id] for file in ZPCI for fact in load_facts(file)}
    trees = {name: tree_verdicts(file)[name] for file in ZPCI for name in snapshot_ids(file)}
    shares = {}
    with capsys.disabled():
        for what, verdicts in (("facts", facts), ("areas of the tree", trees), ("all", {**facts, **trees})):
            rest = [name for name, one in verdicts.items() if not one.agrees]
            shares[what] = 1 - len(rest) / len(verdicts)
            print(f"\nPCI functions, {what}: {len(verdicts) - len(rest)} of {len(verdicts)} agree ({shares[what]:.2%})")
            if what == "all":
                for name in rest:
                    print(f"  {name}: {reasons.get(name, 'no reason')}")
    assert [name for name, one in {**facts, **trees}.items() if not one.agrees and name not in reasons] == []
    assert {what: share for what, share in shares.items() if share < REQUIRED} == {}


def test_what_is_left_out_of_the_tree_is_no_matter_of_pci_functions() -> None:
    """Patterns leave out paths of drivers that the recorder loaded for devices of other guests, and of modules."""
    left_out = [path for path, _ in load_patterns() if "pci" in path.pattern]
    assert [path.pattern for path in left_out] == ["/sys/bus/pci/drivers/(nvme|igb|e1000e)(/.*)?"]
