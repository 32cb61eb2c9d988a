"""Records ``dasd-3390-more`` in the guest under Hercules: the replay, on a real kernel.

python -m tests.hil boot --guest hercules --src TREE --out OUT -- 'python3 -m replay.record_dasd /out'
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .dasd_more import FILE, perform, take
from .eckd_programs import programs
from .record_virtio import KernelDevice, KernelSeam


def main(folder: Path) -> None:
    """Write ``dasd-3390-more.jsonl`` into `folder`."""
    device = take(KernelSeam(), KernelDevice)
    with open(folder / f"{FILE}.jsonl", "w", encoding="utf-8") as out:
        for line in programs():
            text = json.dumps(line | perform(device, line), separators=(",", ":"))
            print(text, file=out)
            print(text, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
