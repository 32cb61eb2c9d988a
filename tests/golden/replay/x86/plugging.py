"""Replay of ``hotplug``: a card that comes and goes, slots without power, a function removed and found again."""

from __future__ import annotations

import struct
from functools import partial
from typing import Any

from pyvfio.abi import vfio
from pyvfio.process import EventFd
from pyvfio_backends.software.hardware.pcie.peripherals import nvme
from pyvfio_backends.software.hardware.pcie.port import DownstreamPort
from pyvfio_backends.software.hardware.pcie.slot import HotplugSlot
from pyvfio_backends.software.linux.kernel_log import kernel_log
from replay.seam import Blocked

from .edu import Edu
from .facts import Keys
from .lab import DEVICES, SLOTS, Answers, Lab, attempt
from .opened import Opened
from .trees import slots

__all__ = ["hotplug"]

_PORT, _CARD = 0x0060, "0000:0b:00.0"  # 00:0c.0, an empty port
_SLOT = "9"
_EDU, _TEST = "0000:00:06.0", "0000:0a:02.0"
_OFF_SLOT, _OFF_CARD = "4", "0000:04:00.0"
_REQ, _ERR = vfio.VFIO_PCI_REQ_IRQ_INDEX, vfio.VFIO_PCI_ERR_IRQ_INDEX
_EVENTFD = vfio.VFIO_IRQ_SET_DATA_EVENTFD | vfio.VFIO_IRQ_SET_ACTION_TRIGGER
_STEP = 0.1
_LONG = 20.0


def hotplug(lab: Lab, questions: Keys) -> Answers:
    """The script in the recorder's order."""
    run = _Run(lab)
    for part in (run.plug, run.hold, run.pull, run.unbind, run.power, run.remove):
        failed = attempt(part)
        if failed is not None:
            run.answers[f"stopped in {part.__name__}"] = failed
    return run.answers


def _table(event: list[str]) -> dict[str, str]:
    """An event as the recorder wrote it."""
    header, *lines = event
    return {"header": header, **dict(line.split("=", 1) for line in lines)}


class _Run:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.answers = Answers()
        # what the recorder had at vfio-pci before
        for address in ("0000:0a:01.0", _TEST):
            attempt(partial(lab.take, address))
        self.answers["slots_before"] = slots(lab)
        lab.events()

    @property
    def slot(self) -> HotplugSlot:
        port = self.lab.seam.machine.pcie.function(0, _PORT)
        assert isinstance(port, DownstreamPort)
        assert port.slot is not None
        return port.slot

    def said(self) -> list[str]:
        """What the kernel's log has got since the last look."""
        log = kernel_log(self.lab.seam.machine.kernel)
        lines = list(log.lines)
        log.records.clear()
        return lines

    def tables(self) -> list[dict[str, str]]:
        return [_table(event) for event in self.lab.events()]

    def until(self, done: Any) -> float:
        """Let time pass until something is so; how long it took."""
        began = self.lab.seam.machine.clock.now
        while not done() and self.lab.seam.machine.clock.now < began + _LONG:
            self.lab.wait(_STEP)
        return self.lab.seam.machine.clock.now - began

    def plug(self) -> None:
        lab, answers = self.lab, self.answers
        before = set(lab.seam.listing(DEVICES))
        self.slot.ejects = True

        def add() -> str:
            with lab.seam.machine.lock:
                self.slot.insert({0: nvme(name="hot0").function})
                self.slot.press()
            lab.seam.settle()
            return ""

        answers.ask("device_add", add)
        answers["appeared_after_s"] = self.until(lambda: lab.seam.exists(f"{DEVICES}/{_CARD}"))
        lab.wait(1.0)
        answers["new"] = sorted(set(lab.seam.listing(DEVICES)) - before)
        answers["add_uevents"] = self.tables()
        group = lab.group(_CARD)
        answers["group"] = {"n": group, "members": lab.members(group)}
        attempt(partial(lab.take, _CARD))
        answers["bind_uevents"] = self.tables()

    def hold(self) -> None:
        """Ask for the card while a program has it."""
        lab, answers = self.lab, self.answers
        self.said()
        self.opened = Opened(lab, _CARD)
        request, error = lab.seam.eventfd(), lab.seam.eventfd()
        for index, signal in ((_REQ, request), (_ERR, error)):
            number = struct.pack("=i", signal.fileno())
            attempt(partial(lab.seam.set_irqs, self.opened.fd, index, _EVENTFD, 0, 1, number))
        answers.ask("device_del", self._press)
        answers["req_eventfd_fired"] = self._firings(request)
        answers["err_fired"] = error.read()
        answers["in_use_dmesg"] = self.said()
        answers["still_in_sysfs"] = lab.seam.exists(f"{DEVICES}/{_CARD}")
        answers["driver_link_while_removing"] = lab.driver(_CARD)
        answers.ask("cfg_while_removing", lambda: self.opened.config(0, 4).hex())
        answers.ask("new_device_fd_while_removing", partial(lab.seam.device_fd, self.opened.group, _CARD))
        names = ("power", "attention", "latch", "adapter")
        answers["slot_while_removing"] = {name: attempt(partial(lab.text, f"{SLOTS}/{_SLOT}/{name}")) for name in names}

    def _press(self) -> str:
        with self.lab.seam.machine.lock:
            self.slot.press()
        self.lab.seam.settle()
        return ""

    def _firings(self, signal: EventFd) -> list[list[float]]:
        """When it was signalled within 16 s, and how often."""
        found, began = [], self.lab.seam.machine.clock.now
        while self.lab.seam.machine.clock.now < began + 16:
            self.lab.wait(_STEP)
            count = signal.read()
            if count:
                found.append([round(self.lab.seam.machine.clock.now - began, 1), count])
        return found

    def pull(self) -> None:
        lab, answers = self.lab, self.answers
        self.said()
        self.opened.close()
        answers["gone_after_close_s"] = self.until(lambda: not lab.seam.exists(f"{DEVICES}/{_CARD}"))
        lab.wait(1.0)
        answers["del_uevents"] = self.tables()
        answers["del_dmesg"] = self.said()
        answers["query_pci_empty"] = not self.slot.port.secondary.functions

    def unbind(self) -> None:
        """A driver's unbind waits for the program."""
        lab = self.lab
        attempt(partial(lab.take, _EDU))
        opened = Opened(lab, _EDU)
        signal = lab.seam.eventfd()
        number = struct.pack("=i", signal.fileno())
        lab.seam.set_irqs(opened.fd, _REQ, _EVENTFD, 0, 1, number)
        edu = Edu(lab, opened.fd)
        edu.enable()
        found = self.answers["unbind_while_open"] = Answers()
        began = lab.seam.machine.clock.now
        writer = Blocked(lab.seam.machine.clock, partial(lab.unbind, "vfio-pci", _EDU))
        found["req_fired"] = signal.read()
        found["after_s"] = lab.seam.machine.clock.now - began
        found["writer_done"] = bool(writer.results)
        lab.wait(2.0)
        found["writer_done_2s_later"] = bool(writer.results)
        found.ask("device_still_works", lambda: hex(edu.load(0)))
        lab.wait(12.0)
        found["req_again_in_12s"] = signal.read()
        opened.close()
        writer.settle()
        found["result"] = writer.results[0][0] if writer.results else None
        found["driver"] = lab.driver(_EDU)

    def power(self) -> None:
        """A slot without power.  QEMU unplugs its card for good then."""
        lab, path = self.lab, f"{SLOTS}/{_OFF_SLOT}"
        found = self.answers["slot_power"] = Answers()
        found["slot"] = _OFF_SLOT
        port = lab.seam.machine.pcie.function(0, 0x0049)
        assert isinstance(port, DownstreamPort)
        assert port.slot is not None
        port.slot.ejects = True
        lab.events()
        attempt(partial(lab.take, _OFF_CARD, "pci-stub"))
        attempt(partial(lab.unbind, "pci-stub", _OFF_CARD))
        lab.events()
        found.ask("address", partial(lab.text, f"{path}/address"))

        def write(value: str) -> int:
            done = lab.seam.write(f"{path}/power", value)
            lab.wait(2.0)
            return done

        def present() -> list[str]:
            return [name for name in lab.seam.listing(DEVICES) if name == _OFF_CARD]

        self.said()
        found.ask("off", partial(write, "0"))
        found.ask("power", partial(lab.text, f"{path}/power"))
        found.ask("off_again", partial(write, "0"))
        found["off_dmesg"] = self.said()
        found["present_after_off"] = present()
        found.ask("adapter_after_off", partial(lab.text, f"{path}/adapter"))
        found.ask("on", partial(write, "1"))
        found["present_after_on"] = present()
        found["on_dmesg"] = self.said()
        found.ask("bad_value", partial(write, "x"))
        found.ask("value_2", partial(write, "2"))
        found["uevents"] = [event[0] for event in lab.events()]

    def remove(self) -> None:
        """Taken out of the tree and found again."""
        lab, answers = self.lab, self.answers
        lab.events()
        answers.ask("remove", partial(lab.seam.write, f"{DEVICES}/{_TEST}/remove", "1"))
        answers["removed"] = not lab.seam.exists(f"{DEVICES}/{_TEST}")
        answers["remove_uevents"] = self.tables()
        answers.ask("rescan", partial(lab.seam.write, "/sys/bus/pci/rescan", "1"))
        answers["rescanned"] = lab.seam.exists(f"{DEVICES}/{_TEST}")
        answers["rescan_uevents"] = [event[0] for event in lab.events()]
