"""What a journal may hold can be read by the run that restores it, which has not made the plan."""

from __future__ import annotations

from pathlib import Path

from pyvfio.binding.step import STEP_MODULES

BINDING = Path(__file__).resolve().parents[2] / "pyvfio" / "binding"


def test_every_module_with_steps_is_known() -> None:
    found = {f"pyvfio.binding.{path.stem}" for path in BINDING.glob("*.py") if "\n@journaled(" in path.read_text()}
    assert found == set(STEP_MODULES)
