"""What differs between channel subsystems: choices of the model, and facts of virtual ones.

The Principles of Operation leave some answers to the model, and the virtual channel subsystem of a hypervisor leaves
some facilities out.  A machine names the model it has; the engine asks it at these points and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["MAINFRAME", "VIRTUAL", "CssModel"]


@dataclass(frozen=True, slots=True)
class CssModel:
    """One model of channel subsystem.

    ``reports_controls``            the SCSW repeats the ORB's prefetch and suspend controls
    ``no_path_is_cc3``              SSCH with a path mask without an available path gives condition code 3 at once;
                                    otherwise 0, and an alert status with deferred condition code 3 follows
    ``start_replaces_lpm``          the ORB's path mask becomes the one of the SCHIB
    ``start_notes_path``            a start notes its path as last used in the SCHIB and the clear function forgets it;
                                    otherwise only halt and clear note theirs
    ``pci_interruptions``           the PCI flag of a CCW makes an intermediate status
    ``suspended_interruptions``     suspending makes an intermediate status unless the ORB suppresses it
    ``idle_halt_keeps_status``      halting an idle subchannel leaves the device status of the last program;
                                    otherwise the device reports device end
    ``clear_keeps_start_fields``    the clear function leaves the SCSW fields valid for start functions as they were
    ``path_configuration``          there are service calls to configure channel paths
    """

    name: str
    reports_controls: bool = True
    no_path_is_cc3: bool = False
    start_replaces_lpm: bool = True
    start_notes_path: bool = True
    pci_interruptions: bool = True
    suspended_interruptions: bool = True
    idle_halt_keeps_status: bool = False
    clear_keeps_start_fields: bool = False
    path_configuration: bool = True

    def __str__(self) -> str:
        return f"channel subsystem model {self.name}"


#: Follows the architecture wherever it is definite; what a 3390 answered (golden dasd-3390.jsonl) where it is not.
MAINFRAME: Final = CssModel("mainframe", no_path_is_cc3=True, idle_halt_keeps_status=True)

#: A hypervisor's virtual channel subsystem (CSS image fe), from QEMU's answers (golden ccw-blk.json).
VIRTUAL: Final = CssModel(
    "virtual",
    reports_controls=False,
    start_replaces_lpm=False,
    start_notes_path=False,
    pci_interruptions=False,
    suspended_interruptions=False,
    clear_keeps_start_fields=True,
    path_configuration=False,
)
