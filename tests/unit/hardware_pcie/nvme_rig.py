"""A host for an NVMe controller: queues in memory, commands one by one.  It knows no more than the specification."""

from __future__ import annotations

from device_rig import Board

from pyvfio.nvme import registers as regs
from pyvfio.nvme.commands import COMMAND_SIZE, COMPLETION_SIZE, AdminOpcode, Command, Completion, IoOpcode
from pyvfio.nvme.registers import Configuration
from pyvfio_backends.software.hardware.devices.nvme.controller import NvmeController
from pyvfio_backends.software.hardware.devices.nvme.storage import MemoryStorage, Namespace
from pyvfio_backends.software.hardware.pcie.peripherals import nvme

ADMIN_ENTRIES, ENTRIES, VECTORS = 8, 4, 3
RINGS, DATA = 0x1000, 0x40000
READY = Configuration(True, submission_entry=6, completion_entry=4)


class NvmeHost(Board):
    """The submission ring of queue n is at `RINGS` + n * 0x4000, its completions 0x2000 later."""

    def __init__(self, device: NvmeController | None = None, *, blocks: int = 64, order: int = 9) -> None:
        self.storage = MemoryStorage(blocks << order)
        self.device = device or NvmeController([Namespace(self.storage, order=order)])
        super().__init__(nvme(device=self.device).function)
        self.sizes: dict[int, int] = {}
        self.tails: dict[int, int] = {}
        self.heads: dict[int, int] = {}
        self.phases: dict[int, int] = {}
        self.next_id = 0

    def rings(self, queue: int) -> tuple[int, int]:
        return RINGS + queue * 0x4000, RINGS + queue * 0x4000 + 0x2000

    def enable(self, configuration: Configuration = READY, *, entries: int = ADMIN_ENTRIES) -> int:
        """Set the admin queues up; CSTS."""
        submission, completion = self.rings(0)
        self.store(regs.AQA, entries - 1 << 16 | entries - 1)
        self.store(regs.ASQ, submission, 8)
        self.store(regs.ACQ, completion, 8)
        self.begin(0, entries)
        self.store(regs.CC, configuration.value)
        return self.load(regs.CSTS)

    def begin(self, queue: int, entries: int) -> None:
        _, completion = self.rings(queue)
        self.memory[completion : completion + entries * COMPLETION_SIZE] = bytes(entries * COMPLETION_SIZE)
        self.sizes[queue], self.tails[queue], self.heads[queue], self.phases[queue] = entries, 0, 0, 1

    def put(self, queue: int, command: Command, *, ring: bool = True) -> int:
        """Submit a command; its id."""
        self.next_id = command.id = self.next_id + 1 & 0xFFFF
        at = self.rings(queue)[0] + self.tails[queue] * COMMAND_SIZE
        self.memory[at : at + COMMAND_SIZE] = command.pack()
        self.tails[queue] = (self.tails[queue] + 1) % self.sizes[queue]
        if ring:
            self.ring(queue)
        return command.id

    def ring(self, queue: int) -> None:
        self.store(regs.doorbell(queue, completion=False), self.tails[queue])

    def take(self, queue: int, *, ring: bool = True) -> list[Completion]:
        """The completions that are there, by the phase bit."""
        found: list[Completion] = []
        while True:
            at = self.rings(queue)[1] + self.heads[queue] * COMPLETION_SIZE
            one = Completion.parse(bytes(self.memory[at : at + COMPLETION_SIZE]))
            if one.phase != self.phases[queue]:
                break
            found.append(one)
            self.heads[queue] += 1
            if self.heads[queue] == self.sizes[queue]:
                self.heads[queue], self.phases[queue] = 0, self.phases[queue] ^ 1
        if found and ring:
            self.store(regs.doorbell(queue, completion=True), self.heads[queue])
        return found

    def do(self, command: Command, queue: int = 0) -> Completion:
        """A command and its completion."""
        number = self.put(queue, command)
        (one,) = self.take(queue)
        assert (one.id, one.queue, one.head) == (number, queue, self.tails[queue])
        return one

    def create_queue(self, queue: int, *, entries: int = ENTRIES, vector: int = 0) -> None:
        """A pair of I/O queues."""
        submission, completion = self.rings(queue)
        self.begin(queue, entries)
        size = entries - 1 << 16 | queue
        made = Command(AdminOpcode.CREATE_CQ, prp1=completion, cdw10=size, cdw11=vector << 16 | 3)
        assert self.do(made).ok
        assert self.do(Command(AdminOpcode.CREATE_SQ, prp1=submission, cdw10=size, cdw11=queue << 16 | 1)).ok

    def io(
        self, opcode: IoOpcode, lba: int, blocks: int, *, prp1: int = DATA, prp2: int = 0, nsid: int = 1
    ) -> Completion:
        """A command of queue 1."""
        command = Command(opcode, nsid=nsid, prp1=prp1, prp2=prp2)
        command.cdw10, command.cdw11, command.cdw12 = lba & 0xFFFFFFFF, lba >> 32, blocks - 1
        return self.do(command, 1)


def running(**given: int) -> NvmeHost:
    """A controller that is ready, with one pair of I/O queues."""
    host = NvmeHost(**given)  # type: ignore[arg-type]
    assert host.enable() == 1
    host.create_queue(1)
    return host
