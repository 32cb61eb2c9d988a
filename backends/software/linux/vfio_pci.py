"""vfio-pci: a PCI function for a program (``drivers/vfio/pci/vfio_pci.c`` and ``vfio_pci_core.c``, 6.12, on s390).

Regions are read and written: a zPCI function is reached by instructions, not by addresses.  From 6.15 on the kernel
maps BARs all the same, except ISM's (`PciDevice.maps_bars`).
"""

from __future__ import annotations

import contextlib
import errno
import mmap
from collections.abc import Callable

from pyvfio.abi import pci_ids, vfio_feature
from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio.abi.vfio_later import VFIO_DEVICE_FEATURE_DMA_BUF
from pyvfio_backends.software.linux import vfio_pci_info, vfio_pci_reset, vfio_pci_vga
from pyvfio_backends.software.linux.kernel_log import NOTICE, WARNING, say
from pyvfio_backends.software.linux.pci_device import ROM, PciDevice, SavedState
from pyvfio_backends.software.linux.pci_power import D0
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfio_core import VfioDevice
from pyvfio_backends.software.linux.vfio_pci_bars import Bars
from pyvfio_backends.software.linux.vfio_pci_config import VirtualConfig
from pyvfio_backends.software.linux.vfio_pci_dmabuf import DmaBufs
from pyvfio_backends.software.linux.vfio_pci_info import OFFSET_SHIFT
from pyvfio_backends.software.linux.vfio_pci_ioeventfd import IoEventFds
from pyvfio_backends.software.linux.vfio_pci_irqs import Interrupts
from pyvfio_backends.software.linux.vfio_pci_power import LowPower
from pyvfio_backends.software.linux.vfio_pci_token import VfTokens, read_token
from pyvfio_backends.software.linux.vfs import fail

__all__ = ["VfioPciDevice"]

_OFFSET_MASK = (1 << OFFSET_SHIFT) - 1
_CONFIG = abi.VFIO_PCI_CONFIG_REGION_INDEX
_TOLD_EVERY = 10  # requests to give it back
_VGA = abi.VFIO_PCI_VGA_REGION_INDEX


class VfioPciDevice(VfioDevice):
    """A function under vfio-pci; `pdev` is its PCI device.  `config` and `interrupts` exist while it is open."""

    config: VirtualConfig
    interrupts: Interrupts
    _bars: Bars
    exports_memory = True
    """Whether the driver lets other devices reach the function's memory (``vfio_pci_device_ops.get_dmabuf_phys``)."""

    def __init__(self, pdev: PciDevice) -> None:
        super().__init__(pdev.kernel, pdev)
        self.pdev = pdev
        self.reset_works = False
        self.masks_lines: Callable[[], bool] = lambda: False
        """Whether INTx is to be masked at its line in any case (the parameter ``nointxmask``)."""
        self.config_size = pdev.config_size
        self.has_vga = pdev.pci_bus.has_vga_arbiter and pdev.class_code >> 8 == pci_ids.PCI_CLASS_DISPLAY_VGA
        """Whether it has the addresses of display adapters, too."""
        self.tokens = VfTokens(self)
        self.peers: list[VfioPciDevice] = [self]
        """The devices that are reset together with it, itself included (``vfio_device.dev_set``)."""
        self.needs_reset = False
        """Whether it was closed without a reset."""
        self.low_power = LowPower(self)
        self.dma_bufs = DmaBufs(self)
        self._saved: SavedState | None = None

    @property
    def cdev_opened(self) -> bool:
        """Whether the program came by ``/dev/vfio/devices``."""
        return self.group is not None and self.group.cdev_opened > 0 and self.iommufd is not None

    # opening and closing

    def open_device(self) -> None:
        """See `VfioDevice.open_device` (``vfio_pci_core_enable``).  Raise OSError EAGAIN."""
        pdev = self.pdev
        pdev.runtime.get()
        pdev.set_master(False)
        pdev.enable()
        try:
            pdev.try_reset()
            self.reset_works = True
        except OSError as error:
            if error.errno == errno.EAGAIN:
                pdev.disable()
                pdev.runtime.put()
                raise
            self.reset_works = False
        self._saved = pdev.save_state()
        self.interrupts = Interrupts(pdev, pci_2_3=not self.masks_lines() and pdev.intx_can_be_masked())
        if self.interrupts.pci_2_3:
            pdev.set_intx(True)
        self.config = VirtualConfig(
            pdev,
            self.interrupts.mask_intx,
            self.interrupts.unmask_intx,
            has_intx=pdev.sysdata.has_intx and pdev.sysdata.irq != 0,
            move_memory=self.dma_bufs.move,
        )
        self._bars = Bars(pdev, self.config)
        self._ioeventfds = IoEventFds(pdev, self._bars, self.config)
        pdev.sysdata.vfio_opened()
        self.tokens.opened(1)

    def close_device(self) -> None:
        """See `VfioDevice.close_device` (``vfio_pci_core_disable``)."""
        pdev = self.pdev
        self.dma_bufs.close()
        pdev.sysdata.vfio_closed()
        self.tokens.opened(-1)
        self.low_power.leave()
        pdev.runtime.wake()
        self.config.power.change(D0)
        pdev.set_master(False)
        self.interrupts.close(self.config)
        self._ioeventfds.close()
        pdev.write_config(regs.PCI_COMMAND, 2, regs.PCI_COMMAND_INTX_DISABLE)
        self.needs_reset = True
        if self.reset_works and not pdev.locked:
            with contextlib.suppress(OSError):  # the kernel goes on without
                pdev.reset_function_locked()
                self.needs_reset = False
        if self._saved is not None:
            pdev.restore_state(self._saved)
        pdev.disable()
        vfio_pci_reset.reset_after_close(self)
        pdev.runtime.put()
        self.interrupts.close_channels()

    def request(self, count: int) -> None:
        """See `VfioDevice.request`."""
        if self.open_count and self.interrupts.request is not None:
            if count % _TOLD_EVERY == 0:
                say(self.pdev, NOTICE, f"Relaying device request to user (#{count})")
            self.interrupts.request.signal()
        elif count == 0:
            say(self.pdev, WARNING, "No device request channel registered, blocked until released by user")

    def error_detected(self) -> None:
        """The device reported an error: the program is told (``vfio_pci_core_aer_err_detected``)."""
        if self.open_count and self.interrupts.error is not None:
            self.interrupts.error.signal()

    def match(self, name: str) -> bool:
        """See `VfioDevice.match`: a VF token may follow.  Raise OSError EINVAL or EACCES."""
        own = self.pdev.name
        if not name.startswith(own) or name[len(own) : len(own) + 1] not in ("", " "):
            return False
        self.tokens.check(read_token(name[len(own) :]))
        return True

    # regions

    def read(self, n: int, offset: int) -> bytes:
        """See `VfioDevice.read`."""
        index, runtime = offset >> OFFSET_SHIFT, self.pdev.runtime
        runtime.get()  # no context manager: registers are read and written often
        try:
            if index == _CONFIG:
                return self.config.read(n, offset & _OFFSET_MASK) if n else b""
            if index == _VGA and self.has_vga:
                return vfio_pci_vga.read(self.pdev, n, offset & _OFFSET_MASK) if n else b""
            return self._bars.read(n, index, offset & _OFFSET_MASK) if n else b""
        finally:
            runtime.put()

    def write(self, data: bytes, offset: int) -> int:
        """See `VfioDevice.write`."""
        index, runtime = offset >> OFFSET_SHIFT, self.pdev.runtime
        runtime.get()
        try:
            if index == _CONFIG:
                return self.config.write(data, offset & _OFFSET_MASK) if data else 0
            if index == _VGA and self.has_vga:
                return vfio_pci_vga.write(self.pdev, data, offset & _OFFSET_MASK) if data else 0
            return self._bars.write(data, index, offset & _OFFSET_MASK) if data else 0
        finally:
            runtime.put()

    def mmap(self, length: int, flags: int, prot: int, offset: int) -> mmap.mmap:
        """See `VfioDevice.mmap` (``vfio_pci_core_mmap``): BARs, shared, where the kernel maps any.

        Raise OSError EINVAL, `NotModelled` for registers of IBM Z.
        """
        pdev, page = self.pdev, self.kernel.page_size
        index, position = offset >> OFFSET_SHIFT, offset & _OFFSET_MASK
        if not flags & mmap.MAP_SHARED or index >= ROM or not pdev.bar_mappable(index):
            raise fail(errno.EINVAL)
        size = pdev.resources[index].size
        if not size or position + length > -(-size // page) * page:
            raise fail(errno.EINVAL)
        return pdev.map_bar(index, length, flags, prot, position, self._memory_works)

    def _memory_works(self) -> bool:
        """Whether a mapping reaches the function: it decodes memory, and does not sleep (``vfio_pci_mmap_fault``)."""
        return self.config.memory_enabled and not self.low_power.engaged

    # requests

    def ioctl(self, request: int, argument: Argument) -> int:
        """See `VfioDevice.ioctl`; the function is awake for it."""
        with self.pdev.runtime.awake():
            return self._answer(request, argument)

    def _answer(self, request: int, argument: Argument) -> int:
        if request == abi.VFIO_DEVICE_SET_IRQS:
            return self.interrupts.set(argument, self.config)
        if request == abi.VFIO_DEVICE_GET_INFO:
            return vfio_pci_info.device_info(self, argument)
        if request == abi.VFIO_DEVICE_GET_REGION_INFO:
            return vfio_pci_info.region_info(self, argument)
        if request == abi.VFIO_DEVICE_GET_IRQ_INFO:
            return vfio_pci_info.irq_info(self, argument)
        if request == abi.VFIO_DEVICE_RESET:
            return self._reset()
        if request == abi.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO:
            return vfio_pci_reset.hot_reset_info(self, argument)
        if request == abi.VFIO_DEVICE_PCI_HOT_RESET:
            return vfio_pci_reset.hot_reset(self, argument)
        if request == abi.VFIO_DEVICE_IOEVENTFD:
            return self._ioeventfds.set(argument)
        raise fail(errno.ENOTTY)

    def _reset(self) -> int:
        if not self.reset_works:
            raise fail(errno.EINVAL)
        self.config.power.change(D0)
        self.dma_bufs.move(True)
        try:
            self.pdev.try_reset()
        finally:
            self.dma_bufs.move(False)
        self.was_reset()
        return 0

    def was_reset(self) -> None:
        """The program has reset the device (``pci_error_handlers.reset_done``)."""

    def set_power_state(self, state: int) -> None:
        """Put the function into a state, keeping what it would lose while a program has it open."""
        if self.open_count:
            self.config.power.change(state)
        else:
            self.pdev.set_power_state(state)

    def feature(self, flags: int, argument: Argument, size: int) -> int:
        """See `VfioDevice.feature`: low power, the VF token, and dma-bufs where the kernel has them (6.19)."""
        number = flags & abi.VFIO_DEVICE_FEATURE_MASK
        with self.pdev.runtime.awake():
            if number == VFIO_DEVICE_FEATURE_DMA_BUF and self.kernel.dma_buf:
                return self.dma_bufs.feature(flags, argument, size)
            if number == vfio_feature.VFIO_DEVICE_FEATURE_PCI_VF_TOKEN:
                self.tokens.feature(flags, argument, size)
            else:
                self.low_power.feature(flags, argument, size)
        return 0
