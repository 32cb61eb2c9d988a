"""What goes wrong with NVMe commands, in words.  Source of codes: NVM Express 1.4, 4.6.1."""

from __future__ import annotations

from typing import Final

from pyvfio.errors import PyvfioError
from pyvfio.nvme.commands import AdminOpcode, Command, Completion, IoOpcode
from pyvfio.nvme.status import Status

__all__ = ["NvmeError", "NvmeInterrupted", "command_words", "status_words"]

_TYPES: Final = ("generic", "command specific", "media and data integrity", "path related")
_VENDOR: Final = 7
_WORDS: Final = {
    Status.PRP_OFFSET_INVALID: "PRP offset invalid",
    Status.LBA_OUT_OF_RANGE: "LBA out of range",
    Status.INVALID_QUEUE_ID: "invalid queue identifier",
    Status.UNRECOVERED_READ: "unrecovered read error",
}
_HINTS: Final[dict[int, str]] = {
    Status.INVALID_OPCODE: "the controller does not have this command: Nvme.identity.optional says which it has",
    Status.DATA_TRANSFER_ERROR: "the controller could not reach memory: dmesg has the fault of the IOMMU",
    Status.ABORT_REQUESTED: "it was aborted; send it again",
    Status.INVALID_NAMESPACE: "pyvfio nvme identify DEV lists the namespaces",
    Status.WRITE_PROTECTED: "the namespace is read-only",
    Status.LBA_OUT_OF_RANGE: "pyvfio nvme identify DEV says how many blocks the namespace has",
    Status.CAPACITY_EXCEEDED: "the namespace is thin, and full",
    Status.NAMESPACE_NOT_READY: "wait, and send it again",
    Status.INVALID_FIELD: "the controller's error log may say which field: pyvfio nvme log DEV",
    Status.WRITE_FAULT: "the medium could not be written: pyvfio nvme log DEV",
    Status.UNRECOVERED_READ: "the medium could not be read: pyvfio nvme log DEV",
}


def command_words(command: Command, *, admin: bool) -> str:
    """What a command was for."""
    kinds: type[AdminOpcode] | type[IoOpcode] = AdminOpcode if admin else IoOpcode
    try:
        words = kinds(command.opcode).name.lower().replace("_", " ")
    except ValueError:
        words = f"command {command.opcode:#04x}"
    if not admin and command.opcode in (IoOpcode.READ, IoOpcode.WRITE, IoOpcode.WRITE_ZEROES, IoOpcode.COMPARE):
        words += f" of {command.blocks} blocks from {command.lba} on"
    return words


def status_words(status: int) -> str:
    """Type and code in words: ``LBA out of range (generic status 0x080)``."""
    kind, code = status >> 8, status & 0xFF
    try:
        known = Status(status)
    except ValueError:
        name = f"code {code:#04x}"
    else:
        name = _WORDS.get(known, known.name.lower().replace("_", " "))
    words = "vendor specific" if kind == _VENDOR else _TYPES[kind] if kind < len(_TYPES) else "reserved"
    return f"{name} ({words} status {status:#05x})"


class NvmeError(PyvfioError):
    """A controller ended a command with an error.

    `command` and `completion` are what was sent and what came; `status` is type and code as `pyvfio.nvme.Status` has
    them, `status_type` and `code` its parts, `name` the code in words; `final` says that the same command would fail
    again.
    """

    exit_code = 8

    def __init__(self, obj: str, command: Command, completion: Completion, *, admin: bool) -> None:
        self.command = command
        self.completion = completion
        self.status = completion.code
        self.status_type, self.code = self.status >> 8, self.status & 0xFF
        self.final = completion.final
        words = status_words(self.status)
        self.name = words.split(" (")[0]
        again = "it would fail again" if self.final else "it may succeed when it is sent again"
        place = f" of namespace {command.nsid:#x}" if command.nsid and not admin else ""
        super().__init__(
            command_words(command, admin=admin) + place,
            obj,
            cause=f"{words}; {again}",
            next_step=_HINTS.get(self.status, ""),
        )

    def as_dict(self) -> dict[str, object]:
        """See `PyvfioError.as_dict`; the status is added."""
        return {**super().as_dict(), "status_type": self.status_type, "status_code": self.code, "status": self.name}


class NvmeInterrupted(PyvfioError):
    """A freeze of the endpoint came while a command was under way that is not sent again: it was done, or was not."""

    exit_code = 8

    def __init__(self, obj: str, command: Command, *, admin: bool) -> None:
        self.command = command
        super().__init__(
            command_words(command, admin=admin),
            obj,
            cause="the endpoint froze while it was under way; it may have been done or not, and was not sent again",
            next_step="look what is there, and send it again if it is needed",
        )
