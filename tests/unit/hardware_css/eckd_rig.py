"""A 3390 on the bench: programs as lists of commands, and the parameters of the usual ones."""

from __future__ import annotations

import struct

from css_rig import DATA, Bench

from pyvfio.css import Dstat, Irb
from pyvfio_backends.software.hardware.devices.dasd import Dasd3390
from pyvfio_backends.software.hardware.devices.eckd_volume import EmptyVolume

ENDED = Dstat.CHANNEL_END | Dstat.DEVICE_END
CHECKED = ENDED | Dstat.UNIT_CHECK
SEEK_0_1 = "000000000001"


def disk(**options: object) -> Dasd3390:
    volume = EmptyVolume("TEST01", 20, readonly=False)
    return Dasd3390(volume, **options)  # type: ignore[arg-type]


class Programs:
    """Lays commands with their data out one after the other, and runs them chained."""

    def __init__(self, device: Dasd3390) -> None:
        self.device = device
        self.bench = Bench(device)

    def run(self, *commands: tuple[int, str] | tuple[int, int]) -> tuple[Irb, list[str]]:
        """Each command is (code, data in hex) or (code, bytes to read); searches are followed by a TIC *-8."""
        at, here, program, reads = DATA, 0x11000, [], []
        for number, (code, what) in enumerate(commands):
            size = what if isinstance(what, int) else len(bytes.fromhex(what))
            if isinstance(what, int):
                reads.append((at, size))
            else:
                self.bench.put(at, what)
            chained = 0x40 if number + 1 < len(commands) else 0
            program.append(f"{code:02x}{chained | 0x20:02x}{size:04x}{at:08x}")
            here += 8
            if code & 0x1F in (0x11, 0x09, 0x19) and code & 0x60 and code not in (0x69 + 256,):
                program.append(f"08000000{here - 8:08x}")
                here += 8
            at += size + 8 & ~7
        self.bench.put(DATA + 0x40000, "")
        irb = self.bench.start("".join(program))
        return irb, [self.bench.data(size, place) for place, size in reads]

    def refused(self, *commands: tuple[int, str] | tuple[int, int]) -> str:
        irb, _ = self.run(*commands)
        assert irb.scsw.dstat == CHECKED
        return irb.sense[:8].hex()


def extent(mask: int, first: tuple[int, int], last: tuple[int, int], block: int = 0) -> tuple[int, str]:
    return 0x63, struct.pack(">BBHIHHHH", mask, 0xC0, block, 0, *first, *last).hex()


def locate(op: int, count: int, track: tuple[int, int], record: int, length: int | None = None) -> tuple[int, str]:
    aux = 0 if length is None else 0x80
    return 0x47, struct.pack(">BBBBHHHHBBH", op, aux, 0, count, *track, *track, record, 0xFF, length or 0).hex()


def ckd(track: tuple[int, int], record: int, key: bytes, data: bytes) -> str:
    return (struct.pack(">HHBBH", *track, record, len(key), len(data)) + key + data).hex()
