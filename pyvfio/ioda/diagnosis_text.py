"""The error log of a host bridge as Linux prints it: lines of the kernel's log back into a `Diagnosis`.

::

    PHB4 PHB#2 Diag-data (Version: 1)
    RootSts:    00000020 00402000 e0000008 00100107 00000000
    PE[0fd] A/B: 8480002b00000000 8000000000000000

Groups of registers that are 0 are not printed.  Source: ``pnv_pci_dump_phb3_diag_data``, ``..._phb4_diag_data`` and
``pnv_pci_dump_pest`` in ``arch/powerpc/platforms/powernv/pci.c`` (Linux 6.12); the log of a P7IOC is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from pyvfio.abi.opal_diag import OPAL_PHB_ERROR_DATA_TYPE_PHB3, OPAL_PHB_ERROR_DATA_TYPE_PHB4
from pyvfio.ioda.diagnosis import Diagnosis

__all__ = ["parse_messages"]

_KINDS: Final = {"3": OPAL_PHB_ERROR_DATA_TYPE_PHB3, "4": OPAL_PHB_ERROR_DATA_TYPE_PHB4}
_BEGIN: Final = re.compile(r"PHB(?:(3) PHB#([0-9a-f]{1,8})|(4) PHB#([0-9]{1,10})) Diag-data")
"""The number of a bridge is in hexadecimal, of later ones in decimal."""
_PE: Final = re.compile(r"PE\[(\.\.)?([0-9a-f]{3})\] A/B: (?:as above|([0-9a-f]{16}) ([0-9a-f]{16}))")
_LINE: Final = re.compile(r"(\w+): +([0-9a-f ]+)$")
_BOTH: Final = {
    "brdgCtl": "brdgCtl",
    "RootSts": "deviceStatus slotStatus linkStatus devCmdStatus devSecStatus",
    "RootErrSts": "rootErrorStatus uncorrErrorStatus corrErrorStatus",
    "RootErrLog": "tlpHdr1 tlpHdr2 tlpHdr3 tlpHdr4",
    "nFir": "nFir nFirMask nFirWOF",
    "PhbSts": "phbPlssr phbCsr",
    "Lem": "lemFir lemErrorMask lemWOF",
    "PhbErr": "phbErrorStatus phbFirstErrorStatus phbErrorLog0 phbErrorLog1",
}


def _errors(label: str, stem: str) -> dict[str, str]:
    return {label: f"{stem}ErrorStatus {stem}FirstErrorStatus {stem}ErrorLog0 {stem}ErrorLog1"}


_LABELS: Final = {
    "3": {
        **_BOTH,
        "UtlSts": "portStatusReg rootCmplxStatus busAgentStatus",
        "RootErrLog1": "sourceId errorClass correlator",
        **_errors("OutErr", "mmio"),
        **_errors("InAErr", "dma0"),
        **_errors("InBErr", "dma1"),
    },
    "4": {
        **_BOTH,
        "sourceId": "sourceId",
        "PcieDlp": "phbPcieDlpErrorLog1 phbPcieDlpErrorLog2 phbPcieDlpErrorStatus",
        **_errors("PhbTxeErr", "phbTxe"),
        **_errors("RxeArbErr", "phbRxeArb"),
        **_errors("RxeMrgErr", "phbRxeMrg"),
        **_errors("RxeTceErr", "phbRxeTce"),
        **_errors("PblErr", "phbPbl"),
        **_errors("RegbErr", "phbRegb"),
    },
}


def parse_messages(lines: Iterable[str]) -> list[tuple[int, Diagnosis]]:
    """The logs in messages of the kernel: of which host bridge (its domain's number), and what."""
    found: list[tuple[int, Diagnosis]] = []
    generation = ""
    registers: dict[str, int] = {}
    endpoints: dict[int, tuple[int, int]] = {}
    for line in lines:
        text = line.strip()
        if begin := _BEGIN.search(text):
            generation = begin[1] or begin[3]
            registers, endpoints = {}, {}
            domain = int(begin[2], 16) if begin[1] else int(begin[4])
            found.append((domain, Diagnosis(_KINDS[generation], registers, endpoints)))
        elif "Diag-data" in text:  # of a P7IOC
            generation = ""
        elif generation and (pe := _PE.search(text)):
            _note_endpoint(endpoints, int(pe[2], 16), pe[3], pe[4])
        elif generation and (match := _LINE.search(text)):
            names = _LABELS[generation].get(match[1], "").split()
            values = [int(word, 16) for word in match[2].split()]
            if len(names) == len(values):
                registers.update({name: value for name, value in zip(names, values, strict=True) if value})
    return found


def _note_endpoint(endpoints: dict[int, tuple[int, int]], number: int, a: str | None, b: str | None) -> None:
    if a is not None and b is not None:
        endpoints[number] = (int(a, 16), int(b, 16))
    elif endpoints:  # all from the last one on are the same
        last = max(endpoints)
        endpoints.update(dict.fromkeys(range(last + 1, number + 1), endpoints[last]))
