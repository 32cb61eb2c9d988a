"""What the registers of a PCI Express port say about the slot below it, and how one look differs from the next.

::

    slot capabilities (at 14 of the PCI Express capability)   number 19..31, what the slot has 0..6, 17, 18
    slot control      (18)   power indicator 8..9, attention indicator 6..7: 1 on, 2 blinks, 3 off; power controller 10
    slot status       (1a)   power fault 1, latch open 5, card present 6, interlock engaged 7
    link status       (12)   data link layer active 13, where link capabilities (0c) have bit 20

Source: PCI Express Base Specification, 6.0, 7.5.3.9 to 11, 7.5.3.6, 7.5.3.8.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum

from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_regs as regs

__all__ = ["Indicator", "SlotEvent", "SlotState", "changes"]

_ATTENTION_SHIFT, _POWER_SHIFT, _INDICATOR = 6, 8, 3


class Indicator(Enum):
    """What an indicator of a slot does.  `RESERVED` is a value that no software may write."""

    RESERVED = 0
    ON = 1
    BLINK = 2
    OFF = 3

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class SlotEvent:
    """Something that happened at a slot: `what` changed from `before` to `after`, in words.

    `what` is one of ``presence`` (empty, present), ``power`` (off, on), ``attention`` and ``indicator`` (on, blink,
    off: the attention and the power indicator), ``latch`` (closed, open), ``interlock`` (released, engaged), ``link``
    (down, up), ``fault`` (clear, fault) and ``button`` (released, pressed).
    """

    what: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.what} {self.before} -> {self.after}"


@dataclass(frozen=True, slots=True)
class SlotState:
    """A slot at one moment; None is what the slot does not have, or cannot tell.

    Of a port that does not report its link (no Data Link Layer Link Active Reporting) `link` is known when the port
    says that it is up all the same, and when there can be none: without a card or without power.

    `number` is the physical one, `hotplug` whether cards come and go while the machine runs, `surprise` whether one may
    go without a word, `button` whether there is an attention button.
    """

    number: int
    hotplug: bool
    surprise: bool
    button: bool
    present: bool
    power: bool | None
    attention: Indicator | None
    indicator: Indicator | None
    latch_open: bool | None
    interlock: bool | None
    link: bool | None
    fault: bool | None

    @classmethod
    def decode(
        cls, capabilities: int, control: int, status: int, link_capabilities: int, link_status: int
    ) -> SlotState:
        """Read the registers: slot capabilities (32 bits), control and status, link capabilities (32 bits), status."""

        def has(feature: int) -> bool:
            return bool(capabilities & feature)

        attention = Indicator(control >> _ATTENTION_SHIFT & _INDICATOR)
        indicator = Indicator(control >> _POWER_SHIFT & _INDICATOR)
        controller = has(express.PCI_EXP_SLTCAP_PCP)
        power = not control & express.PCI_EXP_SLTCTL_PCC if controller else None
        present = bool(status & express.PCI_EXP_SLTSTA_PDS)
        link: bool | None = bool(link_status & express.PCI_EXP_LNKSTA_DLLLA)
        if not link and not link_capabilities & express.PCI_EXP_LNKCAP_DLLLARC and present and power is not False:
            link = None  # the bit need not mean anything, and a link can be up
        return cls(
            number=capabilities >> 19,
            hotplug=has(express.PCI_EXP_SLTCAP_HPC),
            surprise=has(express.PCI_EXP_SLTCAP_HPS),
            button=has(express.PCI_EXP_SLTCAP_ABP),
            present=present,
            power=power,
            attention=attention if has(express.PCI_EXP_SLTCAP_AIP) else None,
            indicator=indicator if has(express.PCI_EXP_SLTCAP_PIP) else None,
            latch_open=bool(status & express.PCI_EXP_SLTSTA_MRLSS) if has(express.PCI_EXP_SLTCAP_MRLSP) else None,
            interlock=bool(status & express.PCI_EXP_SLTSTA_EIS) if has(express.PCI_EXP_SLTCAP_EIP) else None,
            link=link,
            fault=bool(status & express.PCI_EXP_SLTSTA_PFD) if controller else None,
        )

    @classmethod
    def of_capability(cls, data: bytes) -> SlotState | None:
        """As `decode`, of the bytes of a PCI Express capability from its id on.  None: it has no slot."""

        def read(at: int, width: int) -> int:
            return int.from_bytes(data[at : at + width], "little")

        if not read(regs.PCI_EXP_FLAGS, 2) & regs.PCI_EXP_FLAGS_SLOT or len(data) < express.PCI_EXP_SLTSTA + 2:
            return None
        return cls.decode(
            read(express.PCI_EXP_SLTCAP, 4),
            read(express.PCI_EXP_SLTCTL, 2),
            read(express.PCI_EXP_SLTSTA, 2),
            read(regs.PCI_EXP_LNKCAP, 4),
            read(regs.PCI_EXP_LNKSTA, 2),
        )


_WORDS = {
    "present": ("presence", "empty", "present"),
    "power": ("power", "off", "on"),
    "latch_open": ("latch", "closed", "open"),
    "interlock": ("interlock", "released", "engaged"),
    "link": ("link", "down", "up"),
    "fault": ("fault", "clear", "fault"),
}


def changes(before: SlotState, after: SlotState) -> list[SlotEvent]:
    """What happened between two looks at one slot, in the order of the fields."""
    found: list[SlotEvent] = []
    for field in fields(SlotState):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if old == new or old is None or new is None:
            continue
        if isinstance(old, Indicator):
            found.append(SlotEvent(field.name, str(old), str(new)))
        elif field.name in _WORDS:
            what, off, on = _WORDS[field.name]
            found.append(SlotEvent(what, on if old else off, on if new else off))
    return found
