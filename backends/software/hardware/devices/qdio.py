"""Devices that are driven through queues (QDIO): OSA network adapters and FCP adapters.

On the channel they identify themselves; their queues are not modelled, so every command but NOP, SENSE and SENSE ID
is a command reject.  Their subchannels have the QDIO bit, which is why vfio_ccw leaves them alone.
"""

from __future__ import annotations

from typing import Final

from pyvfio.css.senseid import SenseId
from pyvfio_backends.software.hardware.css.controlunit import ControlUnit

__all__ = ["QdioAdapter", "fcp", "osa"]

_CU: Final = 0x1731
_DEVICE: Final = 0x1732


class QdioAdapter(ControlUnit):
    """A QDIO adapter of control-unit and device model `model`; `kind` is what people call it."""

    def __init__(self, kind: str, model: int) -> None:
        super().__init__(SenseId(_CU, model, _DEVICE, model))
        self.kind = kind

    def __str__(self) -> str:
        return f"{self.kind} {self.sense_id}, queues not modelled"


def osa() -> QdioAdapter:
    """One of the three devices of an OSA-Express adapter in QDIO mode: 1731/01, 1732/01."""
    return QdioAdapter("OSA", 0x01)


def fcp() -> QdioAdapter:
    """An FCP adapter: 1731/03, 1732/03."""
    return QdioAdapter("FCP", 0x03)
