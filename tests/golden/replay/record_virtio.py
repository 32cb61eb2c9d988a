"""Records ``ccw-virtio`` in the guest of ``python -m tests.hil boot --profile virtio``: the replay, on a real kernel.

    python -m tests.hil boot --profile virtio --src TREE --out OUT -- 'python3 -m replay.record_virtio /out'

TREE has this package beside pyvfio's, and `excluded.toml` beside this package.  `virtio_programs` has the questions,
`ccw_virtio.CcwVirtioReplay` asks them.  The recording in the tree was made with the kernel of the other recordings,
which has a balloon driver.
"""

from __future__ import annotations

import json
import mmap
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pyvfio.backend import open_backend

from .ccw_programs import ChannelDevice
from .ccw_virtio import CcwVirtioReplay
from .facts import Question, load_patterns
from .seam import Seam
from .virtio_programs import questions


class KernelSeam(Seam):
    """The calls on a real kernel, where time is real."""

    def __init__(self) -> None:
        self.host = open_backend("kernel")  # type: ignore[assignment]
        self.machine = SimpleNamespace(page_size=mmap.PAGESIZE)  # type: ignore[assignment]
        self.events = self.host.uevents()
        self.memories, self.eventfds = [], []

    def advance(self, seconds: float) -> None:
        time.sleep(seconds)

    def settle(self) -> None:
        time.sleep(0.3)

    def new_events(self) -> list[list[str]]:
        time.sleep(0.2)
        return super().new_events()


class KernelDevice(ChannelDevice):
    patience = 0.3

    def _status(self, answer: dict[str, Any]) -> None:
        if isinstance(answer["pwrite"], int):
            deadline = time.monotonic() + self.patience
            while time.monotonic() < deadline and not self._come():
                time.sleep(0.001)
        super()._status(answer)

    def _come(self) -> bool:
        import select

        return bool(select.select([self.io.fileno()], [], [], 0)[0])


class _Recording(CcwVirtioReplay):
    device_class = KernelDevice

    def make_seam(self) -> Seam:
        return KernelSeam()

    def _hooks(self, kind: str, section: str) -> None:
        print(f"{time.monotonic():.1f}", kind, section, flush=True)
        super()._hooks(kind, section)

    def _answer(self, question: Question) -> Any:
        began = time.monotonic()
        print(f"{began:.2f}", question.what, flush=True)
        return super()._answer(question)


def main(folder: Path) -> None:
    """Write ``ccw-virtio.json`` and ``sysfs-ccw-virtio.json`` into `folder`."""
    recording = _Recording()
    facts = []
    asked = list(questions())
    for number, question in enumerate(asked):
        asked[number] = Question(f"{number}", *list(asdict(question).values())[1:])
    answers = recording.run(asked)
    for question in asked:
        entry: dict[str, Any] = {"section": question.section, "what": question.what}
        if question.request is not None:
            entry["request"] = question.request
        facts.append(entry | {"result": answers[question.id]})
    header = {"kernel": platform.release(), "machine": platform.machine(), "problems": recording.problems}
    lines = ",\n".join(json.dumps(fact) for fact in facts)
    (folder / "ccw-virtio.json").write_text(f'{{"header": {json.dumps(header)}, "facts": [\n{lines}\n]}}\n')
    steps = [
        {
            "step": step.name,
            "uevents": step.uevents,
            "diff": {"gone": step.gone, "new": step.new, "changed": step.changed},
        }
        for step in recording.steps
    ]
    patterns = [rule for rule, _ in load_patterns()]
    first = {
        path: entry
        for path, entry in recording.recorder.first.items()
        if not any(rule.fullmatch(path) for rule in patterns)
    }
    steps_text = ",\n".join(json.dumps(step, separators=(",", ":")) for step in steps)
    text = f'{{"first":{json.dumps(first, separators=(",", ":"))},\n"steps":[\n{steps_text}\n]}}\n'
    (folder / "sysfs-ccw-virtio.json").write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
