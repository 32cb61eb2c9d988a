"""cocotbext-pcie, the peer that simulates packets: how often per second its root complex reads through a switch.

It needs a simulator and an interpreter with cocotb.  Icarus Verilog is this machine's, or is fetched with ``apt-get
download`` and unpacked; cocotb and cocotbext-pcie go into a virtual environment; all below ``build/bench``.  What is
simulated is in `simulator`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from peers import fetch

__all__ = ["Rates", "simulated"]

_PIP = ("cocotb==1.9.2", "cocotbext-pcie==0.2.16")
_HERE = Path(__file__).with_name("simulator")
_SECONDS = 600

Rates = dict[str, float]
"""Reads per second: ``config`` and ``bar``."""


def _run(command: list[str], **environment: str) -> str:
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=_SECONDS, env={**os.environ, **environment}
    )
    return done.stdout.strip()


def _icarus(folder: Path) -> tuple[list[str], list[str]]:
    """The commands of compiler and simulator, with where their parts are.  Raise OSError: there is none."""
    if shutil.which("iverilog") and shutil.which("vvp"):
        return ["iverilog"], ["vvp"]
    why = fetch(("iverilog",), folder)
    parts = next(folder.glob("usr/lib/*/ivl"), None)
    if parts is None:
        raise OSError(why or "iverilog has no ivl")
    programs = folder / "usr/bin"
    return [str(programs / "iverilog"), "-B", str(parts)], [str(programs / "vvp"), "-M", str(parts)]


def _environment(folder: Path) -> Path:
    """The directory of the programs of a virtual environment with cocotb."""
    programs = folder / "cocotb" / "bin"
    if not (programs / "cocotb-config").exists():
        _run([sys.executable, "-m", "venv", "--clear", str(programs.parent)])
        _run([str(programs / "python"), "-m", "pip", "install", "--quiet", *_PIP])
    return programs


def simulated(folder: Path) -> Rates | str:
    """What the peer does per second, with its messages off; or why it could not be run."""
    try:
        compiler, simulator = _icarus(folder)
        programs = _environment(folder)
        design, rates = folder / "empty.vvp", folder / "rates.json"
        rates.unlink(missing_ok=True)
        _run([*compiler, "-s", "empty", "-o", str(design), str(_HERE / "empty.v")])
        config = str(programs / "cocotb-config")
        library = _run([config, "--lib-dir"])
        _run(
            [*simulator, "-M", library, "-m", _run([config, "--lib-name", "vpi", "icarus"]), str(design)],
            MODULE="accesses",
            TOPLEVEL="empty",
            TOPLEVEL_LANG="verilog",
            LIBPYTHON_LOC=_run([config, "--libpython"]),
            PYTHONPATH=str(_HERE),
            VIRTUAL_ENV=str(programs.parent),
            PATH=f"{programs}{os.pathsep}{os.environ['PATH']}",
            COCOTB_LOG_LEVEL="WARNING",
            COCOTB_RESULTS_FILE=str(folder / "results.xml"),
            PYVFIO_RATES=str(rates),
        )
        found: Rates = json.loads(rates.read_text())
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        words = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        return f"cocotbext-pcie does not run here: {words[-1] if words else error}"
    return found
