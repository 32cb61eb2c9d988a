"""What differs between channel subsystems: choices of the model, and facts of virtual ones.

The Principles of Operation leave some answers to the model, and the virtual channel subsystem of a hypervisor leaves
some facilities out.  A machine names the model it has; the engine asks it at these points and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyvfio.css.chsc import ChscCommand
from pyvfio.css.chsc_machine import CallCharacteristic, Characteristic, Characteristics

__all__ = ["MAINFRAME", "VIRTUAL", "CssModel"]

_VIRTUAL_COMMANDS: Final = frozenset(
    (
        ChscCommand.STORE_CHANNEL_PATHS,
        ChscCommand.STORE_EVENT_INFORMATION,
        ChscCommand.STORE_CHARACTERISTICS,
        ChscCommand.SET_DOMAIN_ATTRIBUTES,
    )
)
_MAINFRAME_COMMANDS: Final = _VIRTUAL_COMMANDS | {
    ChscCommand.STORE_SUBCHANNELS,
    ChscCommand.SET_CHANNEL_MEASUREMENT,
    ChscCommand.STORE_MEASUREMENT_CHARACTERISTICS,
    ChscCommand.STORE_SUBCHANNEL_QDIO,
    ChscCommand.STORE_DOMAIN_ATTRIBUTES,
    ChscCommand.INITIATE_LOGGING,
}
#: Bits that a hypervisor sets without a name in Linux (QEMU): general 6, 7, 47 and 51, of CHSC 1 and 109.
_VIRTUAL_CHARACTERISTICS: Final = Characteristics.of(
    (
        6,
        7,
        47,
        51,
        Characteristic.MULTIPLE_IMAGES,
        Characteristic.FIBRE_CHANNEL,
        Characteristic.EXTENDED_MEASUREMENT_BLOCK,
        Characteristic.ALTERNATE_STORE_SUBCHANNEL,
    ),
    (1, 109),
)
_MAINFRAME_CHARACTERISTICS: Final = Characteristics.of(
    _VIRTUAL_CHARACTERISTICS.general | {Characteristic.DYNAMIC_IO, Characteristic.UTILITY_STRING},
    _VIRTUAL_CHARACTERISTICS.calls
    | {CallCharacteristic.SET_CHANNEL_MEASUREMENT, CallCharacteristic.STORE_MEASUREMENT_CHARACTERISTICS},
)


@dataclass(frozen=True, slots=True)
class CssModel:
    """One model of channel subsystem.

    ``reports_controls``            the SCSW repeats the ORB's controls (of prefetch, suspension, ...)
    ``no_path_is_cc3``              SSCH with a path mask without an available path gives condition code 3 at once;
                                    otherwise 0, and an alert status with deferred condition code 3 follows
    ``start_replaces_lpm``          the ORB's path mask becomes the one of the SCHIB
    ``start_notes_path``            a start notes its path as last used in the SCHIB and the clear function forgets it;
                                    otherwise only halt and clear note theirs
    ``pci_interruptions``           the PCI flag of a CCW makes an intermediate status
    ``initial_status_interruptions``  the ORB's initial-status control makes one when the first command is accepted
    ``mida``                        there are MIDAWs
    ``sense_id_size``               SENSE ID brings at least so many bytes, zeros behind the device's own
    ``checks_immediate_length``     in format 1, incorrect length is indicated of commands that move no data
    ``suspended_interruptions``     suspending makes an intermediate status unless the ORB suppresses it
    ``idle_halt_keeps_status``      halting an idle subchannel leaves the device status of the last program;
                                    otherwise the device reports device end
    ``clear_keeps_start_fields``    the clear function leaves the SCSW fields valid for start functions as they were
    ``path_configuration``          there are service calls to configure channel paths
    ``commands``                    the commands of CHSC that are provided
    ``characteristics``             what CHSC tells of the facilities
    """

    name: str
    reports_controls: bool = True
    no_path_is_cc3: bool = False
    start_replaces_lpm: bool = True
    start_notes_path: bool = True
    pci_interruptions: bool = True
    initial_status_interruptions: bool = True
    mida: bool = True
    sense_id_size: int = 0
    checks_immediate_length: bool = True
    suspended_interruptions: bool = True
    idle_halt_keeps_status: bool = False
    clear_keeps_start_fields: bool = False
    path_configuration: bool = True
    commands: frozenset[ChscCommand] = _MAINFRAME_COMMANDS
    characteristics: Characteristics = _MAINFRAME_CHARACTERISTICS

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
    initial_status_interruptions=False,
    mida=False,
    sense_id_size=256,
    checks_immediate_length=False,
    suspended_interruptions=False,
    clear_keeps_start_fields=True,
    path_configuration=False,
    commands=_VIRTUAL_COMMANDS,
    characteristics=_VIRTUAL_CHARACTERISTICS,
)
