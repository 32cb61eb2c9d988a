"""The probes on devices that no machine here has: NVMe, SCSI adapters, USB, serial ports, IPL devices, ZFS."""

from __future__ import annotations

from pathlib import Path

import pytest
from probe_tree import Tree
from probe_trees import TREES, Case
from test_probe_table import seen

import pyvfio
from pyvfio.binding.probes import look


@pytest.mark.parametrize("row", TREES, ids=lambda row: row.name)
def test_tree(row: Case, tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    row.build(tree)
    bus, _, address = row.device.rpartition(" ")
    outlook = look(pyvfio.Host(tree.backend).device(address, bus=bus or None))
    assert seen(outlook) == row.found
    assert outlook.blind == row.blind
