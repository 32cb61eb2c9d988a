"""Channel programs for people: one line for each CCW, and a listing with data areas and the ways between CCWs.

`disassemble` needs bytes only.  `listing` follows the program through storage::

    0x11000       SEEK  07 CC count=6 @0x20000
    0x11008 >     SEARCH ID EQ  31 CC count=5 @0x20008
    0x11010       TIC  08 -> 0x11008
    0x11018 +     READ DATA  06 CC SLI count=4096 @0x12000      + reached by status modifier
            IDAW 0: 0x21000                                     > a TIC leads here
    0x11020 |     READ DATA  06 count=80 @0x22000               | goes on with the data of the CCW before

Source: z/Architecture Principles of Operation, "Channel-Command Word".
"""

from __future__ import annotations

from dataclasses import replace

from pyvfio.css.ccw import CCW_SIZE, Ccw, CcwFlag
from pyvfio.css.checker import Limits, Reached, walk
from pyvfio.css.commands import Direction, Language
from pyvfio.css.dataarea import DataArea
from pyvfio.css.instructions import Storage
from pyvfio.css.layout import BytesLike
from pyvfio.css.orb import Orb

__all__ = ["disassemble", "listing"]

_MOST = 1024


def disassemble(data: BytesLike, address: int = 0, fmt: int = 1, language: Language = Language.DASD) -> list[str]:
    """Print CCWs, one line each, up to the last that chaining reaches without following a TIC.

    A TIC that jumps back into the lines already printed is passed over, as after a search; any other ends the list.
    An incomplete CCW at the end is shown as bytes.  `language` is whose command names to use.
    """
    raw = bytes(data)
    lines: list[str] = []
    for offset in range(0, len(raw), CCW_SIZE):
        piece = raw[offset : offset + CCW_SIZE]
        here = f"{address + offset:#x}: "
        if len(piece) < CCW_SIZE:
            lines.append(f"{here}incomplete: {piece.hex()}")
            break
        ccw = Ccw.from_bytes(piece, fmt)
        lines.append(f"{here}{ccw.text(language)}")
        if ccw.is_tic:
            if not address <= ccw.cda <= address + offset:
                break
        elif not ccw.chained:
            break
    return lines


def listing(
    orb: Orb, storage: Storage, language: Language = Language.DASD, limits: Limits | None = None, most: int = _MOST
) -> list[str]:
    """Print the whole program that `orb` starts, by addresses, with lists of IDAWs, and violations marked ``!!``.

    At most `most` CCWs are printed.  An ORB that SSCH refuses is printed with the reason.
    """
    lines = [str(orb)]
    if orb.problem or orb.tm:
        return [*lines, f"!! {orb.problem or 'a transport-mode ORB has no CCWs'}"]
    reached: dict[int, Reached] = {}
    for one in walk(orb, storage, limits):
        first = reached.setdefault(one.address, one)
        # a CCW can be good when it is reached one way, and wrong another
        known = {wrong.rule for wrong in first.violations}
        more = tuple(wrong for wrong in one.violations if wrong.rule not in known)
        if first is not one and more:
            reached[one.address] = replace(first, violations=first.violations + more)
        if len(reached) > most:
            break
    targets = {one.ccw.cda for one in reached.values() if one.ccw is not None and one.ccw.is_tic}
    width = max((len(f"{address:#x}") for address in reached), default=0)
    before = orb.cpa
    for address in sorted(reached)[:most]:
        if address not in (before, orb.cpa):
            lines.append("...")
        lines += _lines(reached[address], orb, storage, language, width, is_target=address in targets)
        before = address + CCW_SIZE
    return lines


def _lines(one: Reached, orb: Orb, storage: Storage, language: Language, width: int, *, is_target: bool) -> list[str]:
    """The lines of one CCW."""
    mark = "|" if one.in_chain else ""
    mark += ">" if is_target else ""
    mark += "+" if one.skipped else ""
    head = f"{one.address:#x}".ljust(width) + f" {mark:<4}"
    if one.ccw is None:
        return [f"{head}(nothing)", *(f"{'':<{width}}   !! {wrong.rule}: {wrong.words}" for wrong in one.violations)]
    text = one.ccw.text(language)
    if one.in_chain and not one.ccw.is_tic:
        text = f"(data) {text}"
    lines = [f"{head}{text}"]
    if one.ccw.flags & (CcwFlag.IDA | CcwFlag.MIDA) and not one.ccw.is_tic:
        area = DataArea(one.ccw, orb, storage, backward=one.direction == Direction.BACKWARD)
        lines += [f"{'':<{width}}       {line}" for line in area.words_in_lines()]
    lines += [f"{'':<{width}}    !! {wrong.rule}: {wrong.words}" for wrong in one.violations]
    return lines
