"""Make the runner of `make hil` importable here; at the end of the path, so that the installed pyvfio stays first."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3]))
