"""The addresses that lead to each root bus, as firmware tells an operating system (``_CRS`` of ACPI)."""

from __future__ import annotations

from collections.abc import Iterator

from pyvfio_backends.software.linux.resource import Resource, ResourceFlag

__all__ = ["root_windows"]


def root_windows(claims: dict[int, list[range]], io: range, memory: list[range]) -> dict[int, list[Resource]]:
    """The addresses that lead to each root bus of a segment, as firmware tells them: those of what is on it; and all
    others to the first root bus.

    `claims` are the ranges of what is on each root bus, by number, `io` below and `memory` from 64 KiB on.
    """
    first, *others = sorted(claims)
    windows: dict[int, list[Resource]] = {number: [] for number in claims}
    for number in others:
        windows[number] = [_window(one) for one in _joined(claims[number])]
    taken = _joined([one for number in others for one in claims[number]])
    for aperture in (io, *memory):
        windows[first] += [_window(one) for one in _without(aperture, taken)]
    return windows


def _window(addresses: range) -> Resource:
    flags = ResourceFlag.IO if addresses.stop <= 1 << 16 else ResourceFlag.MEM
    return Resource(addresses.start, addresses.stop - 1, flags, claimed=True)


def _joined(ranges: list[range]) -> list[range]:
    joined: list[range] = []
    for one in sorted(ranges, key=lambda one: one.start):
        if joined and one.start <= joined[-1].stop:
            joined[-1] = range(joined[-1].start, max(joined[-1].stop, one.stop))
        else:
            joined.append(one)
    return joined


def _without(aperture: range, taken: list[range]) -> Iterator[range]:
    start = aperture.start
    for one in taken:
        if aperture.start <= one.start < aperture.stop:
            if one.start > start:
                yield range(start, one.start)
            start = one.stop
    if start < aperture.stop:
        yield range(start, aperture.stop)
