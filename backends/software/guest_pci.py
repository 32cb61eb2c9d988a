"""PCI functions of the host in a software machine that is a guest: its Linux reaches them by instructions only.

::

    guest's Linux    vfio-pci, virtio-pci         s390-iommu             pci_irq
         |           loads and stores             tables, refreshes      vectors, summary bits
    PassedFunction   PCILG, PCISTG, CLP           MPCIFC, RPCIT          MPCIFC
         |
    GuestPci         pyvfio.passthrough, over vfio-pci of any host

Source: ``arch/s390/pci`` (`pci_insn.c`, `pci_irq.c`, `pci_clp.c`), ``drivers/iommu/s390-iommu.c``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pyvfio.abi import pci_regs as regs
from pyvfio.errors import MalformedAnswer
from pyvfio.zpci import clp
from pyvfio.zpci.fib import Fib
from pyvfio.zpci.function import FunctionState, InstructedFunction
from pyvfio.zpci.instructions import CONFIG_SPACE, FunctionOperation, Refused, Request, ZpciInstructions
from pyvfio.zpci.interruptions import StorageBits
from pyvfio.zpci.vector import clear_bits
from pyvfio_backends.software.guest_iommu import GuestIommu, KernelStorage
from pyvfio_backends.software.hardware.dma import DmaSpace
from pyvfio_backends.software.hardware.pci.bar import Bar, Unmapped
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.zpci.clp import FunctionFacts, GroupFacts
from pyvfio_backends.software.hardware.zpci.function import ZpciFunction
from pyvfio_backends.software.linux.dma_domain import DmaDomain

__all__ = ["PCI_ISC", "PassedFunction"]

PCI_ISC: Final = 2
"""The subclass of Linux's PCI interruptions (``arch/s390/include/asm/isc.h``)."""

_SUMMARY_BIT: Final = 0

Send = Callable[[int, int], None]


class _Behind:
    """Registers of a BAR that are reached by instructions only."""

    def read(self, offset: int, length: int) -> int:
        """See `Registers.read`."""
        raise Unmapped

    def takes(self, offset: int, length: int) -> bool:
        """See `Registers.takes`."""
        return True  # the machine below looks

    def write(self, offset: int, length: int, value: int) -> None:
        """See `Registers.write`."""
        raise Unmapped

    def reset(self) -> None:
        """See `Registers.reset`."""


def _ask(cpu: ZpciInstructions, request: bytes, room: int) -> bytes:
    _, answer = cpu.clp(request, room)
    code = int.from_bytes(answer[2:4], "big")
    if code != clp.ClpCode.OK:
        raise MalformedAnswer("call the logical processor", "", clp.response_name(code))
    return answer.ljust(room, b"\0")


def _facts(cpu: ZpciInstructions, fh: int) -> tuple[FunctionFacts, GroupFacts]:
    told = clp.FunctionResponse.from_bytes(
        _ask(cpu, clp.QueryRequest(handle=fh).to_bytes(), clp.FunctionResponse.SIZE)[: clp.FunctionResponse.SIZE]
    )
    request = clp.QueryRequest(command=clp.ClpCommand.QUERY_PCI_FUNCTION_GROUP, handle=told.pfgid)
    group = clp.GroupResponse.from_bytes(
        _ask(cpu, request.to_bytes(), clp.GroupResponse.SIZE)[: clp.GroupResponse.SIZE]
    )
    values = [int.from_bytes(told.bars[4 * bar : 4 * bar + 4], "little") for bar in range(regs.PCI_STD_NUM_BARS)]
    s0, s1, s2, s3, s4, s5 = told.bar_sizes
    v0, v1, v2, v3, v4, v5 = values
    facts = FunctionFacts(
        fid=told.fid,
        uid=told.uid,
        pchid=told.pchid,
        pfgid=told.pfgid,
        pft=told.pft,
        vfn=told.vfn,
        port=told.port,
        bar_sizes=(s0, s1, s2, s3, s4, s5),
        bar_values=(v0, v1, v2, v3, v4, v5),
        start_dma=told.sdma,
        end_dma=told.edma,
        pfip=told.pfip,
        util_str=told.utility if told.utility_available else b"",
        fmb_words=told.fmb_length,
        fidparm=told.fidparm,
        rid=told.rid if told.rid_available else None,
        is_physfn=bool(told.physical),
    )
    return facts, GroupFacts(
        told.pfgid,
        dma_mask=group.dasm,
        msi_address=group.msia,
        refresh=bool(group.refresh),
        frame_update=group.mui,
        max_interrupts=group.noi,
        max_store=group.maxstbl,
        version=group.version,
    )


class PassedFunction(ZpciFunction):
    """A function of the host as the guest's Linux has it: `given` among the functions of `cpu`.

    `touched` is called after each instruction at which the device may have done something.
    """

    def __init__(
        self,
        cpu: ZpciInstructions,
        given: InstructedFunction,
        storage: KernelStorage,
        touched: Callable[[], None],
    ) -> None:
        self._cpu = cpu
        self._given = given
        self._storage = storage
        self._touched = touched
        self._iommu: GuestIommu | None = None
        self._domain: DmaSpace | None = None
        self._send: Send | None = None
        self._vector = 0
        facts, group = _facts(cpu, given.fh)
        bars = [
            Bar(number, 1 << size, facts.bar_values[number] & 0xF, _Behind())
            for number, size in enumerate(facts.bar_sizes)
            if size
        ]
        config = ConfigSpace(Identity(0, 0, 0, 0, 0))
        super().__init__(facts, group, config, bars, number=given.fh)
        enabled = given.state is FunctionState.ENABLED
        if not enabled:
            self.enable()
        for at in range(0, len(config.data), 4):
            config.data[at : at + 4] = self.load(CONFIG_SPACE, at, 4).to_bytes(4, "little")
        config.live = (0, len(config.data))  # it is the device that knows
        if not enabled:
            self.disable()

    # what the machine keeps

    @property
    def state(self) -> FunctionState:
        """The state that the hypervisor knows."""
        return self._given.state

    @state.setter
    def state(self, state: FunctionState) -> None:
        now = self._given.state
        configured = now is FunctionState.STANDBY and state is FunctionState.DISABLED
        if configured or (state is not now and state in (FunctionState.STANDBY, FunctionState.RESERVED)):
            self._given.state = state

    @property
    def fh(self) -> int:
        """The handle now."""
        return self._given.fh

    def query(self) -> clp.FunctionResponse:
        """See `ZpciFunction.query`."""
        return self._given.query()

    def query_group(self) -> clp.GroupResponse:
        """See `ZpciFunction.query_group`."""
        return self._given.query_group()

    # CLP

    def _set(self, operation: int) -> int:
        request = clp.SetRequest(handle=self.fh, operation=operation, dma_spaces=1)
        _, answer = self._cpu.clp(request.to_bytes(), clp.SetResponse.SIZE)
        if int.from_bytes(answer[2:4], "big") != clp.ClpCode.OK:
            raise Refused(3)
        return self.fh

    def enable(self) -> int:
        """See `ZpciFunction.enable`."""
        return self._set(clp.SetOperation.ENABLE)

    def disable(self) -> int:
        """See `ZpciFunction.disable`."""
        self._leave_space()
        self._forget_vector()
        if self.on_reset is not None:
            self.on_reset()
        self.counts.clear()
        return self._set(clp.SetOperation.DISABLE)

    def reset(self) -> None:
        """See `ZpciFunction.reset`; the hypervisor does it when the function is disabled."""

    # loads and stores

    def load(self, space: int, offset: int, length: int) -> int:
        """PCI LOAD."""
        answer = self._cpu.pcilg(Request(self.fh, space, length), offset)
        if answer.cc:
            raise Refused(answer.cc, answer.status)
        self._touched()
        return int.from_bytes(answer.data.to_bytes(length, "big"), "little")

    def store(self, space: int, offset: int, length: int, value: int) -> None:
        """PCI STORE."""
        data = int.from_bytes((value & (1 << 8 * length) - 1).to_bytes(length, "little"), "big")
        answer = self._cpu.pcistg(data, Request(self.fh, space, length), offset)
        if answer.cc:
            raise Refused(answer.cc, answer.status)
        self._touched()

    # interruptions (pci_irq.c, floating)

    def register_interrupts(self, send: Send | None) -> None:
        """Have messages sent to Linux's handlers, or to nobody."""
        self._forget_vector()
        if send is None:
            return
        vectors = self.group.max_interrupts
        size = -(-vectors // 64) * 8
        self._vector = self._storage.allocate(size + 8)
        fib = Fib(isc=PCI_ISC, noi=vectors, aibv=self._vector, sum=1, aisb=self._vector + size, aisbo=_SUMMARY_BIT)
        if self._cpu.mpcifc(self.fh, 0, FunctionOperation.REGISTER_INTERRUPTS, fib).cc:
            self._storage.free(self._vector)
            self._vector = 0
            return
        self._send = send

    def _forget_vector(self) -> None:
        if self._send is not None:
            self._cpu.mpcifc(self.fh, 0, FunctionOperation.DEREGISTER_INTERRUPTS, Fib())
            self._storage.free(self._vector)
            self._send = None
            self._vector = 0

    def scan(self) -> None:
        """An adapter interruption came: look at the summary bit, then at the vector (``zpci_floating_irq_handler``)."""
        if self._send is None:
            return
        bits = StorageBits(self._storage)
        vectors = self.group.max_interrupts
        summary = self._vector + -(-vectors // 64) * 8
        if not list(clear_bits(bits, summary, _SUMMARY_BIT, 1)):
            return
        for vector in clear_bits(bits, self._vector, 0, vectors):
            if self._send is not None:
                self._send(self.group.msi_address, vector)

    # DMA (s390-iommu.c)

    @property
    def dma(self) -> DmaSpace | None:
        """The address space that Linux has given the function."""
        return self._domain

    @dma.setter
    def dma(self, space: DmaSpace | None) -> None:
        self._leave_space()
        self._domain = space
        if isinstance(space, DmaDomain):
            facts = self.facts
            iommu = GuestIommu(self._cpu, self._storage, self.fh, facts.start_dma, facts.end_dma)
            try:
                space.watch(iommu)
            except OSError:
                iommu.close()
                raise
            self._iommu = iommu

    def _leave_space(self) -> None:
        if self._iommu is not None and isinstance(self._domain, DmaDomain):
            self._domain.unwatch(self._iommu)
            self._iommu.close()
        self._iommu = None
        self._domain = None
