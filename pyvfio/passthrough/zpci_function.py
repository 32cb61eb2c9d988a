"""A PCI function that a guest was given: an open VFIO device, as the instructions see a function.

The hypervisor carries out its loads and stores here (`zpci_interpreted`: the host's machine does).  What CLP tells of
it is in `zpci_facts`.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from typing import Final

from pyvfio.abi import pci_regs as regs
from pyvfio.abi.vfio import DeviceFlags, PciIrq
from pyvfio.css.instructions import Storage
from pyvfio.errors import Misuse, NotModelled, PyvfioError
from pyvfio.passthrough.memory import GuestStorage
from pyvfio.passthrough.msix import GuestMsix, MsixPlace, Send
from pyvfio.passthrough.shadow import ShadowMappings
from pyvfio.passthrough.signals import HostNews, HostSignals
from pyvfio.passthrough.zpci_facts import DEFAULT_GROUP, describe_function, describe_group
from pyvfio.vfio.device import Device
from pyvfio.vfio.irq import Irq
from pyvfio.zpci.clp import FunctionResponse, GroupResponse, HandleEntry
from pyvfio.zpci.function import Counts, FunctionState, InsufficientMappings, OnFault
from pyvfio.zpci.handle import FH_ENABLED, FunctionHandle, Sharing
from pyvfio.zpci.instructions import CONFIG_SPACE, OperandException, Refused, Status
from pyvfio.zpci.table import Iota, TranslationFault

__all__ = ["GuestFunction"]

_CONFIG_LENGTHS: Final = (1, 2, 4)
_BAR_LENGTHS: Final = (1, 2, 4, 8)
_UNUSABLE: Final = (FunctionState.RESERVED, FunctionState.STANDBY, FunctionState.DISABLED)


class GuestFunction:
    """The function of the open `device`, with the guest's `index`, `uid` and `fid`, for a guest with `storage`.

    `lost` is called once when the host's device stops answering.  `interpreted` says whether the host's machine carries
    out its loads and stores (and `why` why it does not), `forwarding_assist` whether it sends its interruptions without
    the host's kernel.  `group` is its group in the guest.  Closing it closes the device.  Raise `Misuse` for a device
    that is no PCI function.
    """

    interpreted = False
    forwarding_assist = False
    why = ""

    def __init__(
        self,
        device: Device,
        storage: GuestStorage,
        index: int,
        uid: int,
        fid: int,
        lost: Callable[[GuestFunction], None],
    ) -> None:
        if device.kind != "pci":
            raise Misuse("give a guest a PCI function", device.name, cause=f"it is a {device.kind} device")
        self.device = device
        self.state = FunctionState.DISABLED
        self.on_reset: Callable[[], None] | None = None
        self.counts = Counts()
        self.uid = uid
        self._fid = fid
        self._handle = FunctionHandle(sharing=Sharing.PASSED_THROUGH, index=index).to_word()
        self._storage = storage
        self._lost = lost
        self._space: ShadowMappings | None = None
        self._config = device.config
        self._facts = device.zpci
        self.group = DEFAULT_GROUP
        self._ids = self._config.device_id, self._config.vendor_id
        self._bars = self._config.read(regs.PCI_BASE_ADDRESS_0, regs.PCI_STD_NUM_BARS * 4)
        self._regions = [device.bar(number) for number in range(regs.PCI_STD_NUM_BARS)]
        self._sizes = [region.size for region in self._regions]
        self._irq: Irq | None = None
        self.msix: GuestMsix | None = None
        self._make_msix()
        self._signals = HostSignals(device)

    def _make_msix(self) -> None:
        place = MsixPlace.of(self._config)
        if place is not None:
            self._irq = self.device.irq(PciIrq.MSIX)
            self.msix = GuestMsix(place, self._switch)

    # names and facts

    @property
    def fid(self) -> int:
        """The function identifier in the guest."""
        return self._fid

    @property
    def fh(self) -> int:
        """The handle now."""
        return self._handle if self.is_disabled else self._handle | FH_ENABLED

    @property
    def is_disabled(self) -> bool:
        """Whether the guest has not enabled it."""
        return self.state in _UNUSABLE

    @property
    def space(self) -> ShadowMappings | None:
        """The mappings that follow the guest's tables, None while it has registered none."""
        return self._space

    def entry(self) -> HandleEntry:
        """What LIST PCI tells of it."""
        configured = self.state not in (FunctionState.RESERVED, FunctionState.STANDBY)
        return HandleEntry(*self._ids, int(configured), self._fid, self.fh)

    def query(self) -> FunctionResponse:
        """What QUERY PCI FUNCTION tells of it; of a device that does not answer any more, what was known last."""
        with contextlib.suppress(Refused):
            self._bars = self._read_config(regs.PCI_BASE_ADDRESS_0, regs.PCI_STD_NUM_BARS * 4)
        return describe_function(
            self.device,
            self._facts,
            uid=self.uid,
            fid=self._fid,
            group=self.group,
            bars=self._bars,
            sizes=self._sizes,
        )

    def query_group(self) -> GroupResponse:
        """What QUERY PCI FUNCTION GROUP tells of its group."""
        return describe_group(self._facts, interpreted=self.interpreted)

    # CLP SET PCI FUNCTION

    def enable(self) -> int:
        """Enable it; its new handle.  Raise `Refused`."""
        if self.state is not FunctionState.DISABLED:
            raise Refused(1, Status.FUNCTION_ALREADY_ENABLED)
        self.state = FunctionState.ENABLED
        return self.fh

    def disable(self) -> int:
        """Disable and reset it; its new handle.  Raise `Refused`."""
        if self.state in _UNUSABLE:
            raise Refused(1, Status.ALREADY_IN_REQUESTED_STATE)
        self.reset()
        self.state = FunctionState.DISABLED
        return self.fh

    def reset(self) -> None:
        """Stop DMA and interrupts, forget all controls, reset the device at the host if that is possible."""
        with self._answering():
            if self.device.info.flags & DeviceFlags.RESET:
                self.device.reset()
            else:
                self._config.write_u16(regs.PCI_COMMAND, 0)
        if self.msix is not None:
            with contextlib.suppress(PyvfioError):
                self.msix.reset()
        if self.on_reset is not None:
            self.on_reset()

    def close(self) -> None:
        """Take it from the guest and close the device."""
        self.state = FunctionState.RESERVED
        if self._space is not None:
            self._space.close()
            self._space = None
        self.device.close()

    # loads and stores

    def has_bar(self, number: int) -> bool:
        """Whether there is a base address register of this number."""
        return 0 <= number < len(self._sizes) and bool(self._sizes[number])

    def load(self, space: int, offset: int, length: int) -> int:
        """Load a little-endian number.  Raise `Refused` or `OperandException`."""
        self._check(space, offset, length)
        if space == CONFIG_SPACE:
            return int.from_bytes(self._read_config(offset, length), "little")
        if self.msix is not None and self.msix.holds(space, offset, length):
            return self.msix.read(space, offset, length)
        try:
            return int.from_bytes(self._regions[space].read(offset, length), "little")
        except PyvfioError as error:
            if error.errno == errno.EIO:
                return (1 << 8 * length) - 1
            raise self._ending(error) from None

    def store(self, space: int, offset: int, length: int, value: int) -> None:
        """Store a little-endian number.  Raise `Refused` or `OperandException`."""
        self._check(space, offset, length)
        msix = self.msix
        if space == CONFIG_SPACE:
            self._write_config(offset, length, value)
        elif msix is not None and msix.holds(space, offset, length):
            msix.write(space, offset, length, value)
        else:
            try:
                self._regions[space].write(offset, value.to_bytes(length, "little"))
            except PyvfioError as error:
                if error.errno != errno.EIO:
                    raise self._ending(error) from None

    def check_block(self, space: int, offset: int, length: int) -> None:
        """Whether the block can be stored.  Raise `Refused` or `OperandException`.

        VFIO takes doublewords anywhere in a region, so they need only be inside.
        """
        self._check(space, offset + length - 8, 8)

    def _check(self, space: int, offset: int, length: int) -> None:
        if self.state in (FunctionState.ERROR, FunctionState.PERMANENT_ERROR):
            raise Refused(1, Status.BLOCKED)
        if self.state in _UNUSABLE:
            raise Refused(3)
        if space == CONFIG_SPACE:
            if length not in _CONFIG_LENGTHS or offset % 4 + length > 4 or not 0 <= offset < self._config.size:
                raise OperandException(f"configuration access of {length} bytes at {offset:#x}", self.device.name)
            return
        if not self.has_bar(space):
            raise Refused(1, Status.INVALID_ADDRESS_SPACE)
        if length not in _BAR_LENGTHS or offset % 8 + length > 8 or not 0 <= offset <= self._sizes[space] - length:
            raise OperandException(f"access of {length} bytes at {offset:#x} of BAR {space}", self.device.name)

    def _read_config(self, offset: int, length: int) -> bytes:
        try:
            data = self._config.read(offset, length)
        except PyvfioError as error:
            raise self._ending(error) from None
        if self.msix is not None:
            flags = self.msix.place.flags
            if offset < flags + 2 and flags < offset + length:
                # Its other bits never change, and are those of the vectors.
                word = self.msix.place.vectors - 1
                shown = self.msix.read_flags(word).to_bytes(2, "little")
                merged = bytearray(data)
                for place in range(2):
                    if offset <= flags + place < offset + length:
                        merged[flags + place - offset] = shown[place]
                data = bytes(merged)
        return data

    def _write_config(self, offset: int, length: int, value: int) -> None:
        raw = value.to_bytes(length, "little")
        with self._answering():
            self._config.write(offset, raw)
            if self.msix is not None:
                flags = self.msix.place.flags
                if offset < flags + 2 and flags < offset + length:
                    word = bytearray(self.msix.read_flags(0).to_bytes(2, "little"))
                    for place in range(2):
                        if offset <= flags + place < offset + length:
                            word[place] = raw[flags + place - offset]
                    self.msix.write_flags(int.from_bytes(word, "little"))
            return
        raise Refused(1, Status.BLOCKED)

    def _ending(self, error: PyvfioError) -> Exception:
        """How a load or a store ends that the host refused: it has given the device up, unless it says what it lacks.

        The one refusal that says nothing of the device is EIO, for a BAR while the guest has memory decoding off: then
        loads give ones and stores nothing, as a bus on which nobody answers.
        """
        if isinstance(error, NotModelled):
            return error
        self.fail()
        return Refused(1, Status.BLOCKED)

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        """What the host's device does not do any more puts the function into the permanent error state."""
        try:
            yield
        except NotModelled:
            raise
        except PyvfioError:
            self.fail()

    # interrupts

    def register_interrupts(self, send: Send | None) -> None:
        """Where messages go; None: nowhere."""
        if self.msix is not None:
            self.msix.send = send
            self.msix.deliver()

    def _switch(self, on: bool) -> None:
        if self._irq is None:
            return
        if on and not self._irq.enabled:
            self._irq.enable()
        elif not on:
            self._irq.disable()

    def filenos(self) -> list[int]:
        """The descriptors that can be read when an interrupt or a signal came."""
        interrupts = [event.fileno() for event in self._irq.eventfds] if self._irq is not None else []
        return interrupts + self._signals.filenos()

    def poll(self) -> HostNews:
        """Take in the interrupts that came; what else the host tells."""
        if self._irq is not None and self.msix is not None:
            for vector, event in enumerate(self._irq.eventfds):
                if event.read():
                    self.msix.fire(vector)
        return self._signals.take()

    def fail(self) -> None:
        """The host has given the device up: nothing but deconfiguring helps, and the guest is told once."""
        if self.state is not FunctionState.PERMANENT_ERROR:
            self.state = FunctionState.PERMANENT_ERROR
            self._lost(self)

    # DMA

    def make_space(self, storage: Storage, iota: Iota, pba: int, pal: int, on_fault: OnFault) -> ShadowMappings:
        """Follow the guest's tables.  What they map already is mapped now, as far as they are right.

        What is wrong in them is an error event when it is refreshed, as on the machine.  Raise `InsufficientMappings`.
        """
        old, self._space = self._space, None
        if old is not None:
            old.close()
        with self._answering():
            self._space = ShadowMappings(self.device.space, self._storage, iota, pba, pal, answering=self._answering)
        space = self._space
        if space is None:
            raise InsufficientMappings
        try:
            with contextlib.suppress(TranslationFault):
                space.refresh(pba, pal + 1 - pba)
        except InsufficientMappings:
            space.close()
            self._space = old
            if old is not None:
                with contextlib.suppress(TranslationFault, InsufficientMappings):
                    old.refresh(old.pba, old.pal + 1 - old.pba)
            raise
        return space

    def without_space(self, on_fault: OnFault) -> None:
        """The function has no address space: the host has no mapping of it, so it faults there."""
        if self._space is not None:
            self._space.close()
            self._space = None
