"""The scenarios of the channel subsystem's own tests are used here once more."""

from __future__ import annotations

import sys
from pathlib import Path

_UNIT = Path(__file__).parents[1]
for _folder in ("hardware_css", "linux"):
    if str(_UNIT / _folder) not in sys.path:
        sys.path.insert(0, str(_UNIT / _folder))
