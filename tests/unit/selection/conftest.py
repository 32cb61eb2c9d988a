"""The host that is laid out as files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from laid_out_host import lay_out

from pyvfio.host import Host


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    root: Path = tmp_path_factory.mktemp("host")
    with lay_out(root).host() as host:
        yield host
