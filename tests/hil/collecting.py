"""What a run says while it collects tests; laid beside them as their conftest.

An emulated processor takes minutes to read all modules, and a guest that says nothing for so long counts as hung.
"""

from __future__ import annotations

import pytest


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Name each module when it is read."""
    reporter = collector.config.pluginmanager.get_plugin("terminalreporter")
    if isinstance(collector, pytest.Module) and reporter is not None:
        reporter.write(f"\ncollecting {collector.name} ... ", flush=True)
