"""Recovery of PCI Express functions from errors, step by step, with drivers that answer as they are told.

Source of each rule: ``drivers/pci/pcie/err.c``, ``aer.c``, ``dpc.c`` of Linux 6.12.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator

import pytest
from error_rig import (
    CONTAINED,
    CONTAINING,
    DOWNSTREAM,
    FIRST,
    LEFT,
    OTHER,
    PORT,
    RIGHT,
    SECOND,
    SWITCH,
    UPSTREAM,
    Errors,
)
from pci_fixture import BUS, errno_of
from pcie_fixture import Pcie

from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.aer_inject import AER_INJECT, AER_INJECT_NODE, AER_INJECT_WITHOUT_DOMAIN
from pyvfio.errors import Misuse, NoSuchDevice
from pyvfio.pci.aer import Severity
from pyvfio_backends.software.linux.kernel_log import kernel_log
from pyvfio_backends.software.linux.pci_device import ErrorState
from pyvfio_backends.software.linux.pci_driver import Recovery
from pyvfio_backends.software.linux.pcie_recovery import merge

BEGIN, SUCCESS, FAILED = "BEGIN_RECOVERY", "SUCCESSFUL_RECOVERY", "FAILED_RECOVERY"


@pytest.fixture
def made() -> Iterator[Errors]:
    rig = Errors()
    yield rig
    rig.host.close()


def test_all_that_is_below_ports_has_the_driver(made: Errors) -> None:
    functions = (FIRST, SECOND, CONTAINED, LEFT, RIGHT)
    assert {made.driver(name) for name in functions} == {"answers"}


def test_a_nonfatal_error_has_everybody_below_the_port_asked(made: Errors) -> None:
    made.inject(FIRST, "COMP_TIME")
    assert made.answers.asked == [
        (FIRST, "error_detected", "normal"),
        (SECOND, "error_detected", "normal"),
        (FIRST, "mmio_enabled", "normal"),
        (SECOND, "mmio_enabled", "normal"),
        (FIRST, "resume", "normal"),
        (SECOND, "resume", "normal"),
    ]
    assert made.told() == [(FIRST, BEGIN), (SECOND, BEGIN), (FIRST, SUCCESS), (SECOND, SUCCESS)]
    assert made.log[-1] == f"pcieport {PORT}: AER: device recovery successful"
    assert made.counters(FIRST, Severity.NONFATAL) == {"CmpltTO": 1}
    assert made.counters(SECOND, Severity.NONFATAL) == {}
    assert made.messages(PORT) == (0, 1, 0)


def test_a_fatal_error_has_the_link_reset_before_drivers_look(made: Errors) -> None:
    config = made.hardware(FIRST).config
    config.write(regs.PCI_INTERRUPT_LINE, 1, 0x77)
    made.inject(FIRST, "DLP")
    assert [(name, what, state) for name, what, state in made.answers.asked if name == FIRST] == [
        (FIRST, "error_detected", "frozen"),
        (FIRST, "mmio_enabled", "frozen"),
        (FIRST, "resume", "normal"),
    ]
    assert config.read(regs.PCI_INTERRUPT_LINE, 1) == 0
    assert config.command == 0
    assert made.device(FIRST).error_state is ErrorState.NORMAL
    assert f"pcieport {PORT}: AER: Root Port link has been reset (0)" in made.log
    assert made.counters(FIRST, Severity.FATAL) == {}
    assert made.messages(PORT) == (0, 0, 1)


def test_who_needs_a_reset_is_told_of_one(made: Errors) -> None:
    made.answers.said[SECOND, "error_detected"] = Recovery.NEED_RESET
    made.inject(FIRST, "COMP_TIME")
    assert [what for name, what, _ in made.answers.asked if name == FIRST] == ["error_detected", "slot_reset", "resume"]
    assert made.told()[-1] == (SECOND, SUCCESS)


def test_who_needs_a_reset_after_looking_gets_it(made: Errors) -> None:
    made.answers.said[FIRST, "mmio_enabled"] = Recovery.NEED_RESET
    made.inject(FIRST, "COMP_TIME")
    asked = [what for name, what, _ in made.answers.asked if name == FIRST]
    assert asked == ["error_detected", "mmio_enabled", "slot_reset", "resume"]


@pytest.mark.parametrize("question", ["error_detected", "mmio_enabled", "slot_reset"])
def test_who_gives_up_ends_it(made: Errors, question: str) -> None:
    if question == "slot_reset":
        made.answers.said[FIRST, "error_detected"] = Recovery.NEED_RESET
    made.answers.said[FIRST, question] = Recovery.DISCONNECT
    made.inject(FIRST, "COMP_TIME")
    assert "resume" not in [what for _, what, _ in made.answers.asked]
    assert made.told()[-2:] == [(FIRST, FAILED), (SECOND, FAILED)]
    assert made.log[-1] == f"pcieport {PORT}: AER: device recovery failed"


@pytest.mark.parametrize("driver", ["deaf", "nobody"])
def test_a_function_without_a_driver_that_takes_part_ends_it(made: Errors, driver: str) -> None:
    made.give(SECOND, driver)
    made.seen()
    made.inject(FIRST, "COMP_TIME")
    assert [what for _, what, _ in made.answers.asked] == ["error_detected"]
    assert made.told() == [(FIRST, BEGIN), (FIRST, FAILED), (SECOND, FAILED)]
    who = "deaf" if driver == "deaf" else "pci"
    assert f"{who} {SECOND}: AER: can't recover (no error_detected callback)" in made.log
    # what the error was stays noted: nobody has cleared it
    assert made.register(FIRST, extended.PCI_ERR_UNCOR_STATUS) == extended.PCI_ERR_UNC_COMP_TIME


def test_a_lost_function_gives_up(made: Errors) -> None:
    made.device(SECOND).error_state = ErrorState.LOST
    made.inject(FIRST, "COMP_TIME")
    assert made.told()[-2:] == [(FIRST, FAILED), (SECOND, FAILED)]
    assert made.device(SECOND).error_state is ErrorState.LOST


@pytest.mark.parametrize(
    ("before", "said", "after"),
    [
        (Recovery.CAN_RECOVER, Recovery.NEED_RESET, Recovery.NEED_RESET),
        (Recovery.NEED_RESET, Recovery.CAN_RECOVER, Recovery.NEED_RESET),
        (Recovery.RECOVERED, Recovery.DISCONNECT, Recovery.DISCONNECT),
        (Recovery.DISCONNECT, Recovery.RECOVERED, Recovery.DISCONNECT),
        (Recovery.DISCONNECT, Recovery.NEED_RESET, Recovery.NEED_RESET),
        (Recovery.NEED_RESET, Recovery.DISCONNECT, Recovery.NEED_RESET),
        (Recovery.CAN_RECOVER, Recovery.NONE, Recovery.CAN_RECOVER),
        (Recovery.DISCONNECT, Recovery.NO_DRIVER, Recovery.NO_DRIVER),
        (Recovery.NO_DRIVER, Recovery.RECOVERED, Recovery.NO_DRIVER),
    ],
)
def test_answers_are_merged(before: Recovery, said: Recovery, after: Recovery) -> None:
    assert merge(before, said) is after


# switches


def test_an_error_below_a_port_of_a_switch_is_not_the_others_concern(made: Errors) -> None:
    made.inject(LEFT, "DLP")
    assert {name for name, _, _ in made.answers.asked} == {LEFT}
    assert f"pcieport {DOWNSTREAM}: AER: Downstream Port link has been reset (0)" in made.log
    assert made.messages(SWITCH) == (0, 0, 1)


def test_a_fatal_error_of_the_switch_sets_it_up_again(made: Errors) -> None:
    """Its ports lose their bus numbers with the reset, and get them back: what is below can be reached."""
    made.inject(UPSTREAM, "DLP")
    assert {name for name, _, _ in made.answers.asked} == {LEFT, RIGHT}
    assert [what for name, what, _ in made.answers.asked if name == LEFT] == ["error_detected", "slot_reset", "resume"]
    assert {name for name, said in made.told() if said == SUCCESS} == {UPSTREAM, DOWNSTREAM, OTHER, LEFT, RIGHT}
    for name in (LEFT, RIGHT):
        assert made.device(name).read_config(regs.PCI_VENDOR_ID, 2) == 0x1AF4


def test_an_error_of_a_root_port_is_counted_there(made: Errors) -> None:
    made.inject(PORT, "COMP_TIME")
    assert made.counters(PORT, Severity.NONFATAL) == {"CmpltTO": 1}
    assert {name for name, _, _ in made.answers.asked} == {FIRST, SECOND}


# which, how bad, and who


def test_a_masked_error_is_noted_and_nothing_else(made: Errors) -> None:
    made.set_register(FIRST, extended.PCI_ERR_UNCOR_MASK, extended.PCI_ERR_UNC_COMP_TIME)
    made.set_register(FIRST, extended.PCI_ERR_COR_MASK, extended.PCI_ERR_COR_RCVR)
    made.inject(FIRST, "COMP_TIME", "RCVR")
    assert made.register(FIRST, extended.PCI_ERR_UNCOR_STATUS) == extended.PCI_ERR_UNC_COMP_TIME
    assert made.register(FIRST, extended.PCI_ERR_COR_STATUS) == extended.PCI_ERR_COR_RCVR
    assert (made.messages(PORT), made.answers.asked, made.log) == ((0, 0, 0), [], [])


def test_the_severity_register_decides(made: Errors) -> None:
    made.set_register(FIRST, extended.PCI_ERR_UNCOR_SEVER, extended.PCI_ERR_UNC_COMP_TIME)
    made.inject(FIRST, "COMP_TIME")
    made.inject(FIRST, "MALF_TLP")
    assert made.messages(PORT) == (0, 1, 1)


def test_an_advisory_error_is_correctable(made: Errors) -> None:
    """Linux leaves those masked that say so; unmasked, they are counted as what they are."""
    made.inject(FIRST, "UNSUP", advisory=True)
    assert made.messages(PORT) == (0, 0, 0)
    made.set_register(FIRST, extended.PCI_ERR_COR_MASK, 0)
    made.inject(FIRST, "UNSUP", advisory=True)
    assert made.messages(PORT) == (1, 0, 0)
    assert made.counters(FIRST, Severity.CORRECTABLE) == {"NonFatalErr": 1}


def test_several_functions_that_report_at_once_are_all_found(made: Errors) -> None:
    """While the port's interrupt is off, messages pile up: only the first one's sender is known then."""
    command = made.register(PORT, extended.PCI_ERR_ROOT_COMMAND)
    made.set_register(PORT, extended.PCI_ERR_ROOT_COMMAND, 0)
    made.inject(SECOND, "COMP_TIME")
    made.inject(FIRST, "UNX_COMP")
    assert made.register(PORT, extended.PCI_ERR_ROOT_ERR_SRC) >> 16 == 0x0101
    made.set_register(PORT, extended.PCI_ERR_ROOT_COMMAND, command)
    with made.machine.lock:
        made.machine.clock.settle()
    assert made.counters(FIRST, Severity.NONFATAL) == {"UnxCmplt": 1}
    assert made.counters(SECOND, Severity.NONFATAL) == {"CmpltTO": 1}
    assert made.messages(PORT) == (0, 1, 0)
    assert any("Multiple Uncorrectable (Non-Fatal) error message received from 0000:01:00.1" in it for it in made.log)
    assert f"answers {SECOND}: AER:   Error of this Agent is reported first" in made.log


def test_the_interrupt_is_a_message_of_the_port(made: Errors) -> None:
    def count() -> int:
        lines = [line for line in made.text("/proc/interrupts").splitlines() if f"-{PORT} " in line]
        assert "aerdrv" in lines[0]
        return int(lines[0].split()[1])

    before = count()
    made.inject(FIRST, "BAD_TLP")
    assert count() == before + 1


def test_a_port_without_its_driver_handles_nothing(made: Errors) -> None:
    made.write(f"{BUS}/drivers/pcieport/unbind", PORT)
    made.inject(FIRST, "COMP_TIME")
    assert (made.messages(PORT), made.answers.asked) == ((0, 0, 0), [])
    made.write(f"{BUS}/drivers/pcieport/bind", PORT)  # old errors are forgotten
    made.inject(FIRST, "UNX_COMP")
    assert made.messages(PORT) == (0, 1, 0)
    assert made.counters(FIRST, Severity.NONFATAL) == {"UnxCmplt": 1}


def test_recovery_waits_for_who_unbinds_a_function(made: Errors) -> None:
    """The error is handled by a thread of the kernel, which may wait for a lock; who caused it does not."""
    device = made.device(SECOND)
    with made.machine.lock:
        device.locked = True
    made.inject(FIRST, "COMP_TIME")
    assert [name for name, _, _ in made.answers.asked] == [FIRST]

    def let_go() -> None:
        with made.machine.lock:
            device.locked = False
            made.machine.clock.notify()

    thread = threading.Thread(target=let_go)
    thread.start()
    thread.join()
    deadline = time.monotonic() + 5
    while not made.log[-1:] or "successful" not in made.log[-1]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert made.answers.asked[-1] == (SECOND, "resume", "normal")


def test_nobody_sleeps_while_it_is_going_on(made: Errors, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that vfio-pci holds and nobody has open is in D3hot; it wakes, and falls asleep again."""
    made.give(FIRST, "vfio-pci")
    status = f"{BUS}/devices/{FIRST}/power/runtime_status"
    assert made.text(status) == "suspended\n"
    seen: list[bool] = []
    monkeypatch.setattr(made.answers, "resume", lambda device: seen.append(made.device(FIRST).runtime.suspended))
    made.inject(SECOND, "COMP_TIME")
    assert made.log[-1] == f"pcieport {PORT}: AER: device recovery successful"
    assert seen == [False]
    assert made.text(status) == "suspended\n"


# drivers of the host

E1000E, IGB = "0000:07:00.0", "0000:03:00.0"


@pytest.mark.parametrize(
    ("name", "error", "again"),
    [
        (E1000E, extended.PCI_ERR_UNC_COMP_TIME, True),
        (E1000E, extended.PCI_ERR_UNC_DLP, True),
        (IGB, extended.PCI_ERR_UNC_COMP_TIME, False),
        (IGB, extended.PCI_ERR_UNC_DLP, True),
    ],
)
def test_drivers_of_the_host_set_their_functions_up_again(name: str, error: int, again: bool) -> None:
    """e1000e after any error, igb only when the link was reset (``e1000_io_error_detected``, ``igb_...``).

    That it was set up again shows in the interrupt line, which goes back to what it was when the driver came.
    """
    lab = Pcie(modules=("vfio", "aer_inject", "e1000e", "igb", "nvme"))
    with lab.host:
        config = lab.hardware(name).config
        before = config.read(regs.PCI_INTERRUPT_LINE, 1), lab.device(name).command
        config.write(regs.PCI_INTERRUPT_LINE, 1, 0x77)
        bus, slot = int(name[5:7], 16), int(name[8:10], 16)
        fd = lab.host.open(AER_INJECT_NODE, os.O_WRONLY)
        lab.host.write(fd, AER_INJECT.pack(bus, slot, 0, error, 0, 0, 0, 0, 0, 0))
        lab.host.close(fd)
        assert kernel_log(lab.kernel).lines[-1].endswith("AER: device recovery successful")
        line = config.read(regs.PCI_INTERRUPT_LINE, 1)
        assert line == (before[0] if again else 0x77)
        assert lab.device(name).command == before[1]
        assert lab.attr(name, "enable") == "1"


# containment


def test_a_contained_error_goes_no_further(made: Errors) -> None:
    made.inject(CONTAINED, "DLP")
    assert made.messages(CONTAINING) == (0, 0, 0)
    assert made.answers.asked[0] == (CONTAINED, "error_detected", "frozen")
    assert made.told() == [(CONTAINED, BEGIN), (CONTAINED, SUCCESS)]
    assert (
        f"pcieport {CONTAINING}: DPC: containment event, status:0x0005, ERR_FATAL received from {CONTAINED}" in made.log
    )
    assert made.device(CONTAINED).read_config(regs.PCI_VENDOR_ID, 2) == 0x1AF4


def test_linux_lets_only_fatal_errors_be_contained(made: Errors) -> None:
    made.inject(CONTAINED, "COMP_TIME")
    assert made.messages(CONTAINING) == (0, 1, 0)
    assert made.answers.asked[0] == (CONTAINED, "error_detected", "normal")


def test_software_triggers_containment(made: Errors) -> None:
    made.machine.errors.trigger_containment(CONTAINING)
    assert made.told() == [(CONTAINED, BEGIN), (CONTAINED, SUCCESS)]
    assert any("software trigger detected" in line for line in made.log)


def test_the_ports_own_error_is_contained_and_counted(made: Errors) -> None:
    made.inject(CONTAINING, "DLP")
    assert made.counters(CONTAINING, Severity.FATAL) == {"DLP": 1}
    assert made.register(CONTAINING, extended.PCI_ERR_UNCOR_STATUS) == 0
    assert made.told() == [(CONTAINED, BEGIN), (CONTAINED, SUCCESS)]


# aer_inject, and bad input


def _request(uncorrectable: int, correctable: int, *, bus: int = 1, function: int = 0, domain: int = 0) -> bytes:
    return AER_INJECT.pack(bus, 0, function, uncorrectable, correctable, 1, 2, 3, 4, domain)


def test_aer_inject_has_errors_handled(made: Errors) -> None:
    both = _request(extended.PCI_ERR_UNC_COMP_TIME, extended.PCI_ERR_COR_RCVR, function=1)
    assert made.write_node(AER_INJECT_NODE, both) == AER_INJECT.size
    assert made.messages(PORT) == (1, 1, 0)
    assert made.counters(SECOND, Severity.NONFATAL) == {"CmpltTO": 1}
    assert made.counters(SECOND, Severity.CORRECTABLE) == {"RxErr": 1}
    assert made.write_node(AER_INJECT_NODE, _request(extended.PCI_ERR_UNC_DLP, 0)[:AER_INJECT_WITHOUT_DOMAIN])
    assert made.messages(PORT) == (1, 1, 1)


@pytest.mark.parametrize(
    ("request_", "number"),
    [
        (b"", errno.EINVAL),
        (bytes(AER_INJECT_WITHOUT_DOMAIN - 1), errno.EINVAL),
        (bytes(AER_INJECT.size + 1), errno.EINVAL),
        (_request(1 << 14, 0, bus=9), errno.ENODEV),
        (_request(1 << 14, 0, domain=1), errno.ENODEV),
        (_request(1 << 14, 0, domain=0x80000000), errno.ENODEV),
        (_request(1 << 14, 0, bus=0), errno.ENODEV),  # the host bridge is below no root port
        (_request(extended.PCI_ERR_UNC_INTN, 0), errno.EINVAL),  # masked
        (_request(0, extended.PCI_ERR_COR_INTERNAL), errno.EINVAL),
    ],
)
def test_aer_inject_refuses(made: Errors, request_: bytes, number: int) -> None:
    """A kernel 6.12.107 in the x86 lab gave the same answers to such requests."""
    assert errno_of(made.write_node, AER_INJECT_NODE, request_) == errno.errorcode[number]
    assert made.messages(PORT) == (0, 0, 0)


def test_aer_inject_refuses_a_function_without_aer() -> None:
    lab = Pcie()
    with lab.host:
        fd = lab.host.open(AER_INJECT_NODE, os.O_WRONLY)
        assert errno_of(lab.host.write, fd, _request(1 << 14, 0, bus=4)) == "EPROTONOSUPPORT"
        assert errno_of(lab.host.pwrite, fd, b"", 7) == "EINVAL"
        lab.host.close(fd)


def test_nothing_is_injected_by_a_bad_request(made: Errors) -> None:
    before = bytes(made.hardware(FIRST).config.data)
    for wrong in (("no-such-error",), (), ("PCRC_CHECK",)):
        with pytest.raises(Misuse):
            made.inject(FIRST, *wrong)
    with pytest.raises(Misuse, match="four words"):
        made.inject(FIRST, "COMP_TIME", header=(1, 2))
    with pytest.raises(Misuse, match="32 bits"):
        made.inject(FIRST, "COMP_TIME", header=(1, 2, 3, 1 << 32))
    with pytest.raises(Misuse, match="conventional"):
        made.inject("0000:00:00.0", "COMP_TIME")
    with pytest.raises(NoSuchDevice):
        made.inject("0000:07:00.0", "COMP_TIME")
    with pytest.raises(Misuse, match="no downstream port containment"):
        made.machine.errors.trigger_containment(PORT)
    assert bytes(made.hardware(FIRST).config.data) == before


def test_a_reset_forgets_what_was_noted(made: Errors) -> None:
    """Error registers outlive a reset, and Linux clears them after one (``pci_restore_state`` in ``pci.c``)."""
    made.set_register(CONTAINED, extended.PCI_ERR_COR_MASK, 0xFFFFFFFF)
    made.inject(CONTAINED, "BAD_TLP")
    assert made.register(CONTAINED, extended.PCI_ERR_COR_STATUS) == extended.PCI_ERR_COR_BAD_TLP
    with made.machine.lock:
        made.hardware(CONTAINED).reset()
    assert made.register(CONTAINED, extended.PCI_ERR_COR_STATUS) == extended.PCI_ERR_COR_BAD_TLP
    made.write(f"{BUS}/devices/{CONTAINED}/reset", "1")
    assert made.register(CONTAINED, extended.PCI_ERR_COR_STATUS) == 0
