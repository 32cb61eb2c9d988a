"""Records what sysfs shows of functions in the pseries guest: the walk of `replay.ppc64.tree`, on a real kernel.

    python -m tests.hil boot --arch ppc64 --profile pseries-contract --src TREE --out OUT -- \\
        'modprobe virtio-rng; python3 -m replay.record_pseries /out/pseries.json'

TREE has this package beside pyvfio's.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

from pyvfio.backend import open_backend

from .ppc64.tree import read_tree


def main(out: Path) -> None:
    """Write the recording."""
    with open_backend("kernel") as host:
        found = {"_kernel": platform.release(), **read_tree(host)}
    out.write_text(json.dumps(found, indent=0, sort_keys=True) + "\n")
    print(len(found), "facts")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
