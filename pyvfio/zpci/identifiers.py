"""Who has which UID and FID: each PCI device is paired with one ``zpci`` device, as in QEMU.

A ``zpci`` device names the PCI device that it is for (`target`) and its identifiers.  What it does not name is the
lowest that is free: a UID from 1 on, a FID from 0 on.  A PCI device that no ``zpci`` waits for gets one with both.  So
the order counts: a ``zpci`` comes before its PCI device, and an identifier that was given away by itself is taken.

Source: ``hw/s390x/s390-pci-bus.c`` of QEMU (realizing a ``zpci`` device, plugging a PCI device),
``docs/system/s390x/pcidevices.rst``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pyvfio.errors import Misuse

__all__ = ["FID_LIMIT", "UID_LIMIT", "ZPCI", "Identifiers", "Pair"]

ZPCI: Final = "zpci"
"""The driver of the devices that give identifiers, in the words of QEMU's ``-device``."""

UID_LIMIT: Final = 1 << 16
"""One more than the greatest UID.  0 is none: Linux shows no such domain while UIDs are checked."""

FID_LIMIT: Final = 1 << 32
"""One more than the greatest FID; 0 is one."""

_PAIR: Final = "pair with a zpci device"


@dataclass(frozen=True, slots=True)
class Pair:
    """The identifiers of a PCI device: `uid` (16 bits), `fid` (32 bits), and its name `target`."""

    uid: int
    fid: int
    target: str

    def __str__(self) -> str:
        return f"zpci,uid={self.uid:#x},fid={self.fid:#x},target={self.target}"


class Identifiers:
    """The identifiers in use, by the PCI device that has them or that they wait for."""

    def __init__(self) -> None:
        self._pairs: dict[str, Pair] = {}
        self._uids: dict[int, str] = {}
        self._fids: dict[int, str] = {}
        self._joined: set[str] = set()
        self._first_uid, self._first_fid = 1, 0  # below them nothing is free

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._pairs.values())

    def define(self, target: str, uid: int | None = None, fid: int | None = None) -> Pair:
        """A ``zpci`` device for the PCI device `target`.  A UID of 0 is none, as None is.

        Raise `Misuse` without a target, for a target that has one, and for an identifier that is taken or too large.
        """
        words = self._words(target, uid, fid)
        if not target:
            raise Misuse(_PAIR, words, cause="target must be defined", next_step="target=ID names the PCI device")
        if target in self._pairs:
            cause = f"target {target} has a zpci device already: {self._pairs[target]}"
            raise Misuse(_PAIR, words, cause=cause, next_step="a zpci stands before its PCI device, and once")
        uid = self._choose("uid", uid or None, self._uids, self._first_uid, UID_LIMIT, words)
        fid = self._choose("fid", fid, self._fids, self._first_fid, FID_LIMIT, words)
        return self._keep(Pair(uid, fid, target))

    def join(self, target: str) -> Pair:
        """The pair of a PCI device that comes now: the one that waits for it, else a new one.

        Raise `Misuse` for a name that is taken, and when nothing is free.
        """
        if target in self._joined:
            raise Misuse("add PCI device", target, cause="there is a PCI device of this name")
        pair = self._pairs.get(target) or self.define(target)
        self._joined.add(target)
        return pair

    def hold(self, target: str, uid: int, fid: int) -> Pair:
        """Note a PCI device that has its identifiers already, whoever else has them, too."""
        self._joined.add(target)
        return self._keep(Pair(uid, fid, target))

    def leave(self, target: str) -> None:
        """The PCI device is not there any more; its pair waits for another one."""
        self._joined.discard(target)

    def release(self, target: str) -> None:
        """Both devices are gone; their identifiers are free again.  Nothing happens for an unknown name."""
        pair = self._pairs.pop(target, None)
        self._joined.discard(target)
        if pair is None:
            return
        if self._uids.get(pair.uid) == target:
            del self._uids[pair.uid]
            self._first_uid = min(self._first_uid, max(pair.uid, 1))
        if self._fids.get(pair.fid) == target:
            del self._fids[pair.fid]
            self._first_fid = min(self._first_fid, pair.fid)

    def waiting(self) -> list[Pair]:
        """The pairs whose PCI device has not come."""
        return [pair for pair in self._pairs.values() if pair.target not in self._joined]

    def _keep(self, pair: Pair) -> Pair:
        self._pairs[pair.target] = pair
        if pair.uid:
            self._uids.setdefault(pair.uid, pair.target)
        self._fids.setdefault(pair.fid, pair.target)
        self._first_uid = _next_free(self._first_uid, self._uids)
        self._first_fid = _next_free(self._first_fid, self._fids)
        return pair

    def _choose(self, what: str, number: int | None, taken: dict[int, str], first: int, limit: int, words: str) -> int:
        if number is None:
            if first >= limit:
                raise Misuse(_PAIR, words, cause=f"no free {what} could be found")
            return first
        if not 0 <= number < limit:
            raise Misuse(_PAIR, words, cause=f"a {what} is between 0 and {limit - 1:#x}, not {number:#x}")
        if number in taken:
            raise Misuse(
                _PAIR,
                words,
                cause=f"{what} {number:#x} is in use already: {taken[number]} has it",
                next_step=f"choose another {what}, or leave it out: the lowest free one is taken",
            )
        return number

    @staticmethod
    def _words(target: str, uid: int | None, fid: int | None) -> str:
        given = {"uid": uid or None, "fid": fid}
        words = [f"{name}={value:#x}" for name, value in given.items() if value is not None]
        return ",".join(["zpci", *words, *([f"target={target}"] if target else [])])


def _next_free(first: int, taken: dict[int, str]) -> int:
    return next(number for number in itertools.count(first) if number not in taken)
