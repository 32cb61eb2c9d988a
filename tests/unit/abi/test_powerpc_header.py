"""`pyvfio.abi.eeh` against ``asm/eeh.h`` of powerpc, which only a cross compiler's headers have."""

from __future__ import annotations

from pathlib import Path

import headerprobe
import pytest

from pyvfio.abi import eeh

INCLUDE = Path("/usr/powerpc64le-linux-gnu/include")
HEADER = "asm/eeh.h"


def test_errors_and_states_agree_with_the_header() -> None:
    if not (INCLUDE / HEADER).exists():
        pytest.skip(f"no {HEADER} (Debian: linux-libc-dev-ppc64el-cross)")
    facts = [headerprobe.constant_fact(name, value) for name, value in headerprobe.constants(eeh).items()]
    verdict = headerprobe.ask("cc", HEADER, facts, INCLUDE)
    assert verdict.has_header
    assert not verdict.wrong
    assert not verdict.absent
    assert len(verdict.checked) == len(facts) > 20
    assert set(headerprobe.names_in_header("cc", HEADER, INCLUDE)) <= set(headerprobe.constants(eeh))
