"""``pyvfio ccw take``: what it says of a device that vfio_ccw will refuse."""

from __future__ import annotations

import pytest

from pyvfio_tools.cli import run


@pytest.mark.parametrize(("device", "kind"), [("0.0.1220", "1731/01"), ("0.0.1700", "1731/03")])
def test_a_device_with_queues_is_told_before_it_is_tried(
    capsys: pytest.CaptureFixture[str], device: str, kind: str
) -> None:
    assert run(["ccw", "take", device, "--dry-run", "--machine", "z15-lpar"]) == 0
    out = capsys.readouterr().out
    assert f"note: {device} works with queues (QDIO, control unit {kind}); vfio_ccw does not take such a device" in out


def test_others_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ccw", "take", "0.0.013f", "--dry-run", "--machine", "z15-lpar"]) == 0
    assert "queues" not in capsys.readouterr().out
