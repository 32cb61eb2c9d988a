"""What is wrong with a device rather than with a program: it gives back other data, or its tables are damaged."""

from __future__ import annotations

from pyvfio.errors import MalformedAnswer, PyvfioError

__all__ = ["DamagedVolume", "DeviceWrong", "VerifyFailed"]


class DeviceWrong(PyvfioError):
    """A device that was tested does not do what it is for."""

    exit_code = 8


class VerifyFailed(PyvfioError):
    """What was written came back as something else; `place` is the block or track."""

    exit_code = 8

    def __init__(self, operation: str, obj: str, what: str, place: int) -> None:
        super().__init__(
            operation,
            obj,
            cause=f"{what} {place} is not what was written",
            next_step="write it again; if it stays so, the medium or a path to it is bad",
        )
        self.place = place


class DamagedVolume(MalformedAnswer):
    """The label or the table of contents of a volume says what cannot be."""

    def __init__(self, operation: str, obj: str, detail: str) -> None:
        super().__init__(operation, obj, detail)
        self.next_step = f"pyvfio dasd read {obj} --tracks 0-1 --records shows what is there"
