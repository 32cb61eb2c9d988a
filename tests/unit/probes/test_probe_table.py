"""A table of machines shows each probe both ways: in use with its evidence, and merely present."""

from __future__ import annotations

from pathlib import Path

import pytest
from probe_machines import ROWS, Row

import pyvfio
from pyvfio.binding.probes import Outlook, look


def seen(outlook: Outlook) -> dict[str, list[str]]:
    return {finding.probe: [str(evidence) for evidence in finding.evidence] for finding in outlook.findings}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_machine(row: Row, tmp_path: Path) -> None:
    file = tmp_path / "machine.toml"
    file.write_text(row.text)
    bus, _, address = row.device.rpartition(" ")
    with pyvfio.Host("software", machine=str(file)) as host:
        row.prepare(host)
        outlook = look(host.device(address, bus=bus or None))
    assert seen(outlook) == row.found
    assert outlook.blind == row.blind
    assert all(finding.device == address for finding in outlook.findings)
