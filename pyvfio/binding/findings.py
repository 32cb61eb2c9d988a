"""Findings: reasons why a device should not be taken away now, each with its evidence."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["UNSEEN", "Evidence", "Finding"]

UNSEEN = "whether it is in use could not be seen"
"""The summary of a finding that is none: the probe could not look."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One fact that was seen: in words (`what`: ``mounted on /srv``, ``qemu (pid 12, fd 9)``) and at which `path`."""

    what: str
    path: str = ""

    def __str__(self) -> str:
        return f"{self.what} [{self.path}]" if self.path else self.what

    def as_dict(self) -> dict[str, str]:
        """As plain data."""
        return {"what": self.what, "path": self.path}


@dataclass(frozen=True, slots=True)
class Finding:
    """The probe called `probe` found `device` (its address) in use: a `summary` and the `evidence`.

    ``--force=PROBE`` overrides it by the probe's name.
    """

    probe: str
    device: str
    summary: str
    evidence: tuple[Evidence, ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"{self.device}: {self.probe}: {self.summary}", *(f"    {seen}" for seen in self.evidence)])

    def as_dict(self) -> dict[str, object]:
        """As plain data."""
        return {
            "probe": self.probe,
            "device": self.device,
            "summary": self.summary,
            "evidence": [seen.as_dict() for seen in self.evidence],
        }
