"""The questions of ``ccw-virtio``: for each device its way to vfio_ccw, its channel programs, and its way back."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from .facts import Question

__all__ = ["questions"]

_PROGRAM, _DATA = 0x11000, 0x20000
CD, CC, SLI, SKIP, PCI, IDA, SUSPEND = 0x80, 0x40, 0x20, 0x10, 0x08, 0x04, 0x02
_ORB = "0000000000c0ff0000011000"
_IDA_ORB = "0000000000c2ff0000011000"

#: devno, schid, kind, whether all programs are run or some
DEVICES = (
    ("0.0.2001", "0.0.0004", "net", True),
    ("0.0.2003", "0.0.0005", "console", False),
    ("0.0.2004", "0.0.0006", "rng", True),
    ("0.0.2005", "0.0.0007", "balloon", False),
    ("0.0.2008", "0.0.0008", "scsi", True),
    ("0.0.2009", "0.0.0009", "9p", False),
    ("0.0.2010", "0.0.000a", "gpu", False),
    ("0.0.2012", "0.0.000b", "keyboard", False),
    ("0.0.2013", "0.0.000c", "tablet", False),
    ("0.0.2014", "0.0.000d", "crypto", False),
    ("0.0.2002", "0.0.000e", "blk", False),
    ("0.0.000a", "0.0.000f", "3270", False),
    ("0.1.2004", "0.1.0000", "rng", False),
    ("0.1.ffff", "0.1.0001", "blk", False),
    ("0.2.0000", "0.2.0000", "net", False),
    ("0.3.abcd", "0.3.0000", "rng", False),
)
_QUEUES = {"net": 3, "console": 8, "rng": 1, "balloon": 3, "scsi": 3, "9p": 1, "gpu": 2, "keyboard": 2, "tablet": 2}
_QUEUES |= {"crypto": 2, "blk": 4}
_CONFIG = {"net": 8, "console": 12, "rng": 0, "balloon": 16, "scsi": 36, "9p": 7, "gpu": 16, "keyboard": 37}
_CONFIG |= {"tablet": 51, "crypto": 56, "blk": 57}


#: select and subsel: name, serial number, ids, properties, events of kinds 0 to 3, 11, 14 and 15, axes, nothing.
_SELECTS = (
    "0100",
    "0200",
    "0300",
    "1000",
    "1100",
    "1101",
    "1102",
    "1103",
    "1111",
    "1114",
    "1115",
    "1200",
    "1201",
    "7f00",
)


def ccw(code: int, flags: int = SLI, count: int = 0, address: int = _DATA) -> str:
    """A format-1 CCW in hexadecimal."""
    return struct.pack(">BBHI", code, flags, count, address).hex()


class _Programs:
    """The questions of one device."""

    def __init__(self, devno: str, schid: str, kind: str, everything: bool) -> None:
        self.section = f"{devno} {schid} programs"
        self.devno, self.schid = devno, schid
        self.kind = kind
        self.everything = everything
        self.questions: list[Question] = []

    def ask(self, what: str, program: str, look: int = 0, data: str = "", orb: str = _ORB, **memory: str) -> None:
        """One program: `data` lies at the data address, `look` bytes are read back; memory: ``at_12000="..."``."""
        places = {hex(_PROGRAM): program} if program else {}
        if data:
            places[hex(_DATA)] = data
        places |= {"0x" + name.removeprefix("at_"): content for name, content in memory.items()}
        request = {"orb": orb, "fctl": 4, "memory": places}
        looks = ((_DATA, look),) if look else ()
        self.questions.append(Question(what, "ccw-virtio", self.section, what, request, looks))

    def command(self, what: str, code: int, count: int, look: int = 0, data: str = "", flags: int = 0) -> None:
        """One CCW."""
        self.ask(what, ccw(code, flags, count), look, data)

    def bare(self, what: str, request: Any = None) -> None:
        """Something other than a program."""
        self.questions.append(Question(what, "ccw-virtio", self.section, what, request))

    def reset(self) -> None:
        """Back to the state where the revision is open."""
        self.bare("VFIO_DEVICE_RESET")

    def all(self) -> list[Question]:
        """Everything that is asked of this device."""
        self.bare("pread schib")
        self.identity()
        if self.everything:
            self.channel()
        if self.kind == "3270":
            self.terminal()
        else:
            self.virtio()
        self.reset()
        if (self.devno, self.schid) == DEVICES[-1][:2]:
            self.endings()
        return self.questions

    def identity(self) -> None:
        """SENSE ID, sense, NOP, commands that no device has."""
        self.command("SENSE ID, SLI, count 64", 0xE4, 64, 64, flags=SLI)
        self.command("BASIC SENSE at first", 0x04, 32, 32, flags=SLI)
        self.command("BASIC SENSE, count 1, SLI", 0x04, 1, 4, flags=SLI)
        self.command("BASIC SENSE, count 40, SLI", 0x04, 40, 40, flags=SLI)
        self.command("NOP", 0x03, 1, flags=SLI)
        for code in (0x05, 0x64, 0xFA, 0xFF):
            self.command(f"command {code:02x}", code, 4, 4, flags=SLI)
        self.command("BASIC SENSE after a reject", 0x04, 32, 32, flags=SLI)
        self.ask("NOP cc command ff cc NOP", ccw(3, CC | SLI, 1) + ccw(0xFF, CC | SLI, 4) + ccw(3, SLI, 1))

    def channel(self) -> None:
        """What is the channel's, whatever the device."""
        sense_id = ccw(0xE4, SLI, 64)
        for count in (0, 1, 3, 4, 7, 20, 255, 256, 257, 0xFFFF):
            self.command(f"SENSE ID, SLI, count {count}", 0xE4, count, 32, flags=SLI)
        for count in (256, 32):
            self.command(f"BASIC SENSE, count {count}, no SLI", 0x04, count, 32)
        self.command("SENSE ID, skip", 0xE4, 64, 8, flags=SLI | SKIP)
        for count in (0, 1, 8):
            self.command(f"NOP, count {count}, no SLI", 0x03, count)
        self.command("NOP, skip", 0x03, 1, flags=SLI | SKIP)
        nops = ccw(3, CC | SLI, 1)
        self.ask("NOP cc, the chain ends in zeros", nops + "0000000000000000")
        self.ask("NOP cc, next CCW has bit 0 of the address", nops + ccw(3, SLI, 1, 0x80020000))
        self.ask("NOP cc, next CCW has the reserved flag 01", nops + ccw(3, SLI | 1, 1))
        self.ask("format 0: SENSE ID", "e402000020000040", 32, orb="000000000040ff0000011000")
        self.ask("format 0: count 0", "e402000020000000", 32, orb="000000000040ff0000011000")
        self.ask("format 0: NOP cc TIC 18 SENSE ID", "0302000060000001" + "1801201000000000", 32,
                 orb="000000000040ff0000011000", at_12010="e402000020000040")  # fmt: skip
        self.ask("NOP cc TIC SENSE ID", nops + ccw(8, 0, 0, 0x12010), 32, at_12010=sense_id)
        self.ask("TIC to itself", nops + ccw(8, 0, 0, 0x11008))
        # A TIC back to the NOP is left out: this emulator runs programs inside SSCH and would never come back.
        self.ask("TIC with a count", nops + ccw(8, 0, 8, 0x12000), 32, at_12000=sense_id)
        self.ask("PCI in the last CCW", ccw(0xE4, SLI | PCI, 64), 32)
        self.ask("PCI, suspend flag, no suspend control", ccw(3, CC | SLI | PCI, 1) + ccw(0xE4, SLI | SUSPEND, 64), 32)
        self.ask("suspend control, nothing suspends", sense_id, 32, orb="0000000008c0ff0000011000")
        suspended = nops + ccw(0xE4, SLI | SUSPEND, 64)
        self.ask("suspends at the second CCW", suspended, 32, orb="0000000008c0ff0000011000")
        self.ask("start while suspended", sense_id, 32)
        self.bare("HSCH while suspended", {"command": 1})
        self.bare("CSCH while suspended", {"command": 2})
        self.ask("after it", sense_id, 32)
        self.ask("two words in a list", ccw(0xE4, SLI | IDA, 64, 0x12000), 32, orb=_IDA_ORB,
                 at_12000="00000000000200000000000000021000")  # fmt: skip
        self.ask("a list off its boundary", ccw(0xE4, SLI | IDA, 64, 0x12004), 32, orb=_IDA_ORB,
                 at_12000="00000000000000000002000000000000")  # fmt: skip
        self.ask("second word off its boundary", ccw(0xE4, SLI | IDA, 64, 0x12000), 32, orb=_IDA_ORB,
                 at_12000="0000000000020fe00000000000021800")  # fmt: skip
        self.ask("format 1 words, bit 0", ccw(0xE4, SLI | IDA, 64, 0x12000), 32, at_12000="80020000")
        self.ask("MIDA flag", ccw(0xE4, SLI | 1, 64), 32)
        self.ask("MIDA control in the ORB", ccw(0xE4, SLI | 1, 64, 0x12000), 32, orb="0000000000c0ff4000011000",
                 at_12000="00000000000000400000000000020000")  # fmt: skip
        self.ask("transport mode", sense_id, 32, orb="0000000000c4ff0000011000")
        self.ask("suppressed suspend interruption, address limit, first interruption", sense_id, 32,
                 orb="1234567800f8ff0000011000")  # fmt: skip
        self.ask("channel-program-type and reserved bits", sense_id, 32, orb="0000000005c0ff0000011000")
        self.ask("reserved bits of the ORB", sense_id, 32, orb="0000000000c0ff7f00011000")
        self.ask("MIDA control, no MIDA flag", sense_id, 32, orb="0000000000c0ff4000011000")
        self.ask("key 9", sense_id, 32, orb="0000000090c0ff0000011000")
        self.ask("incorrect length suppression", ccw(3, SLI, 1), 0, orb="0000000000c0ff8000011000")
        self.bare("HSCH when idle", {"command": 1})
        self.bare("CSCH when idle", {"command": 2})

    def feature(self, index: int, features: int = 0) -> str:
        """The area of READ_FEAT and WRITE_FEAT."""
        return struct.pack("<IB", features, index).hex()

    def virtio(self) -> None:
        """The commands of the virtio-ccw transport."""
        config = _CONFIG[self.kind]
        self.reset()
        self.command("READ_FEAT 0 before a revision", 0x12, 5, 8, self.feature(0))
        self.command("READ_FEAT 1 before a revision", 0x12, 5, 8, self.feature(1))
        self.command("READ_CONF before a revision", 0x22, config + 8, config + 8, flags=SLI)
        self.command("SET_VIRTIO_REV 1, too late", 0x83, 4, 0, "00010000")
        self.reset()
        if self.everything:
            for number, area, count, flags in (
                ("count 3", "00020000", 3, SLI), ("3", "00030000", 4, 0), ("2 with a length", "00020004", 8, 0),
                ("2, count 8, no SLI", "00020000", 8, 0),
            ):  # fmt: skip
                self.command(f"SET_VIRTIO_REV {number}", 0x83, count, 0, area, flags)
        self.command("SET_VIRTIO_REV 2, SLI, count 8", 0x83, 8, 0, "0002000000000000", SLI)
        self.command("SET_VIRTIO_REV 2 again", 0x83, 4, 0, "00020000")
        for index in (0, 1, 2):
            self.command(f"READ_FEAT {index}", 0x12, 5, 8, self.feature(index))
        if self.everything:
            self.command("READ_FEAT 255", 0x12, 5, 8, self.feature(255))
            self.command("READ_FEAT, count 4", 0x12, 4, 8, self.feature(0))
            self.command("READ_FEAT, count 6", 0x12, 6, 8, self.feature(0))
            self.command("READ_FEAT, count 6, SLI", 0x12, 6, 8, self.feature(0), SLI)
            self.command("READ_FEAT, count 4, SLI", 0x12, 4, 8, self.feature(0), SLI)
            self.command("READ_FEAT, skip", 0x12, 5, 8, self.feature(0), SLI | SKIP)
            self.command("WRITE_FEAT 3, not zero", 0x11, 5, 0, self.feature(3, 1))
            self.command("WRITE_FEAT, count 6", 0x11, 6, 0, self.feature(0))
            self.command("WRITE_FEAT, count 9, SLI", 0x11, 9, 0, self.feature(2), SLI)
            for count in (0, 1, 5):
                self.command(f"READ_CONF, count {count}", 0x22, count, 8)
            self.command("READ_CONF, skip", 0x22, config or 1, 8, flags=SLI | SKIP)
            self.ask("READ_CONF, chained data", ccw(0x22, CD, 4) + ccw(0, SLI, 8, _DATA + 0x100), 8)
            self.ask("READ_CONF by a list", ccw(0x22, SLI | IDA, 8, 0x12000), 8, orb=_IDA_ORB,
                     at_12000="0000000000020000")  # fmt: skip
        self.command("READ_CONF, whole", 0x22, config, config + 4)
        self.command("READ_CONF, one more, no SLI", 0x22, config + 1, config + 4)
        self.command("READ_CONF, one more, SLI", 0x22, config + 1, config + 4, flags=SLI)
        if self.kind in ("keyboard", "tablet"):
            for select in _SELECTS:
                self.command(f"WRITE_CONF select {select}", 0x21, 2, 0, select)
                self.command(f"READ_CONF of {select}", 0x22, config, config)
        self.command("WRITE_FEAT 0, all", 0x11, 5, 0, self.feature(0, 0xFFFFFFFF))
        self.command("WRITE_FEAT 1, all", 0x11, 5, 0, self.feature(1, 0xFFFFFFFF))
        self.command("READ_CONF with VERSION_1", 0x22, config, config + 4)
        for index in (*range(_QUEUES[self.kind] + 1), 63, 64, 1023, 1024, 0xFFFF):
            if self.everything or index in (0, 1, _QUEUES[self.kind]):
                self.command(f"READ_VQ_CONF {index}", 0x32, 4, 8, struct.pack(">HH", index, 0).hex())
        if self.everything:
            self.command("READ_VQ_CONF, count 3", 0x32, 3, 8, "00000000")
            self.command("READ_VQ_CONF, count 5", 0x32, 5, 8, "00000000")
            self.command("READ_VQ_CONF, count 5, SLI", 0x32, 5, 8, "00000000", SLI)
        self.command("WRITE_STATUS 03", 0x31, 1, 0, "03")
        self.command("READ_STATUS", 0x72, 1, 4)
        if self.everything:
            self.command("READ_STATUS, count 2", 0x72, 2, 4)
            self.command("READ_STATUS, count 2, SLI", 0x72, 2, 4, flags=SLI)
            self.command("READ_STATUS, count 0, SLI", 0x72, 0, 4, flags=SLI)
            self.command("WRITE_STATUS, count 2", 0x31, 2, 0, "0303")
            self.command("WRITE_STATUS, count 2, SLI", 0x31, 2, 0, "0303", SLI)
            self.command("WRITE_STATUS, count 0, SLI", 0x31, 0, 0, "03", SLI)
            self.command("WRITE_STATUS 0b", 0x31, 1, 0, "0b")
            self.command("WRITE_FEAT after FEATURES_OK", 0x11, 5, 0, self.feature(0, 0))
            block = struct.pack(">QIHHQQ", 0, 0, 0, 0, 0, 0).hex()
            self.command("SET_VQ 0, no ring", 0x13, 32, 0, block)
            self.command("SET_VQ, count 31", 0x13, 31, 0, block)
            self.command("SET_VQ, count 33, SLI", 0x13, 33, 0, block + "00", SLI)
            self.command("SET_VQ, count 33", 0x13, 33, 0, block + "00")
            self.command("SET_VQ, count 16", 0x13, 16, 0, block[:32])
            for index in (_QUEUES[self.kind], 63, 64, 1023, 1024):
                block = struct.pack(">QIHHQQ", 0, 0, index, 0, 0, 0).hex()
                self.command(f"SET_VQ {index}, no ring", 0x13, 32, 0, block)
            for name, code, area, length in (
                ("SET_IND", 0x43, "0000000000030000", 8), ("SET_CONF_IND", 0x53, "0000000000030008", 8),
            ):  # fmt: skip
                for count, flags in (
                    (length, 0),
                    (length - 1, 0),
                    (length + 1, 0),
                    (length + 1, SLI),
                    (length - 1, SLI),
                ):
                    words = ", SLI" if flags else ""
                    self.command(f"{name}, count {count}{words}", code, count, 0, area + "00", flags)
            adapter = struct.pack(">QQQB", 0x30010, 0x30018, 0, 1).hex()
            self.command("SET_IND_ADAPTER after SET_IND", 0x73, 25, 0, adapter)
            self.command("VDEV_RESET, count 4, SLI", 0x33, 4, flags=SLI)
            for count, flags in ((24, 0), (26, 0), (26, SLI), (25, 0)):
                words = ", SLI" if flags else ""
                self.command(f"SET_IND_ADAPTER, count {count}{words}", 0x73, count, 0, adapter + "00", flags)
            self.command("SET_IND after SET_IND_ADAPTER", 0x43, 8, 0, "0000000000030000")
        self.command("VDEV_RESET", 0x33, 0)
        self.command("READ_CONF after VDEV_RESET", 0x22, config, config + 4)
        if self.everything:
            self.command("SET_VIRTIO_REV after VDEV_RESET", 0x83, 4, 0, "00010000")
            self.command("SET_IND after VDEV_RESET", 0x43, 8, 0, "0000000000030000")
            self.command("WRITE_STATUS 80", 0x31, 1, 0, "80")
            self.command("WRITE_STATUS 00", 0x31, 1, 0, "00")
            self.command("NOP cc READ_FEAT", 0x03, 1, flags=SLI)
            self.ask("READ_FEAT cc READ_CONF", ccw(0x12, CC, 5) + ccw(0x22, SLI, 8, _DATA + 0x100), 8, self.feature(0))
            self.ask("bad READ_FEAT cc NOP", ccw(0x12, CC, 4) + ccw(3, SLI, 1), 8, self.feature(0))
            self.ask("READ_FEAT at the end of storage", ccw(0x12, 0, 5, 0x8FFFE), 0)
        if self.kind in ("net", "scsi", "blk", "balloon", "gpu", "crypto", "9p", "console") and config:
            self.command("WRITE_CONF, one more, no SLI", 0x21, config + 1, 0, "00" * (config + 1))
            self.command("WRITE_CONF, 0 bytes, SLI", 0x21, 0, 0, "", SLI)
            self.command("WRITE_CONF, 4 bytes", 0x21, 4, 0, "00000002")
            self.command("READ_CONF after WRITE_CONF", 0x22, config, config + 4)
            self.command("READ_FEAT after WRITE_CONF", 0x12, 5, 8, self.feature(0))

    def terminal(self) -> None:
        """A display station's commands."""
        for name, code in (("WRITE", 0x01), ("ERASE/WRITE", 0x05), ("ERASE/WRITE ALTERNATE", 0x0D)):
            for count in (0, 1, 4):
                self.command(f"{name}, count {count}", code, count, 0, "c3114040", SLI)
        self.command("WRITE STRUCTURED FIELD", 0x11, 7, 0, "000501ff02" + "0000", SLI)
        for name, code in (("READ BUFFER", 0x02), ("READ MODIFIED", 0x06), ("READ MODIFIED ALL", 0x0A)):
            self.command(f"{name}, count 64", code, 64, 16, flags=SLI)
            self.command(f"{name}, count 64, no SLI", code, 64, 16)
        for name, code in (("SELECT", 0x0B), ("ERASE ALL UNPROTECTED", 0x0F), ("SENSE", 0x04), ("CONTROL 13", 0x13)):
            self.command(name, code, 32, 32, flags=SLI)
            self.command(f"{name}, count 0", code, 0, 0, flags=SLI)
        self.command("WRITE, no SLI", 0x01, 4, 0, "c3114040")
        self.command("SENSE after all that", 0x04, 32, 32, flags=SLI)
        self.ask("WRITE cc READ MODIFIED", ccw(0x01, CC | SLI, 4) + ccw(0x06, SLI, 16, _DATA + 0x100), 4, "c3114040")

    def endings(self) -> None:
        """Last, and for the last device: condition code 3 sticks on this emulator."""
        self.command("NOP before the missing path", 0x03, 1, flags=SLI)
        self.ask("lpm 40, no such path", ccw(3, SLI, 1), orb="0000000000c0400000011000")
        self.ask("lpm 80 after it", ccw(0xE4, SLI, 64), 16, orb="0000000000c0800000011000")
        self.bare("pread schib")


def questions() -> Iterator[Question]:
    """All questions in their order."""
    for devno, schid, kind, everything in DEVICES:

        def ask(part: str, what: str, place: str = f"{devno} {schid}") -> Question:
            return Question(what, "ccw-virtio", f"{place} {part}", what)

        for what in ("before", "online <- 0", "driver_override <- vfio_ccw", "io_subchannel/unbind", "after unbind"):
            yield ask("take", what)
        for what in ("vfio_ccw/bind", "after bind", "create"):
            yield ask("take", what)
        if everything:
            for what in ("device info", *(f"region {n}" for n in range(5)), *(f"irq {n}" for n in range(4))):
                yield ask("open", what)
        for what in ("group status", "pread schib", "online <- 1 while it is open"):
            yield ask("open", what)
        yield from _Programs(devno, schid, kind, everything).all()
        if (devno, schid) == DEVICES[-1][:2]:
            return  # the kernel does not find this one any more
        for what in (
            "close and remove",
            "vfio_ccw/unbind",
            "driver_override <- ",
            "drivers_probe",
            "online <- 1",
            "after",
        ):
            yield ask("give back", what)
