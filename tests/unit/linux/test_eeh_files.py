"""Files of EEH: what they show is what the lab's kernel showed, what they refuse is what the source says.

Recorded: ``golden/ppc64/lab/platform.json``.  Sources: ``arch/powerpc/kernel/eeh.c``, ``eeh_sysfs.c``, ``eeh_cache.c``,
``platforms/powernv/eeh-powernv.c`` of Linux 6.12 (the function is named).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from eeh_rig import DEBUG, EDU, LEFT, OTHER, EehRig
from pci_fixture import errno_of
from pnv_fixture import Pnv, recorded

from pyvfio.errors import NotModelled
from pyvfio_backends.software.linux.kernel_log import kernel_log
from pyvfio_backends.software.usage import HostSpec

DEVICES = sorted(name for name in recorded() if name.count(":") == 2)
ROOT = "0001:00:00.0"


@pytest.fixture(scope="module")
def lab() -> Iterator[Pnv]:
    lab = Pnv()
    with lab.host:
        yield lab


@pytest.fixture
def rig() -> Iterator[EehRig]:
    rig = EehRig()
    with rig.host:
        yield rig


@pytest.mark.parametrize("name", DEVICES)
def test_what_sysfs_shows(lab: Pnv, name: str) -> None:
    one: dict[str, Any] = recorded()[name]
    assert {file: lab.attr(name, file) for file in one["eeh"]} == one["eeh"]
    files = lab.host.listdir(f"/sys/bus/pci/devices/{name}")
    assert {file for file in files if file.startswith("eeh")} == {file for file in one["entries"] if "eeh" in file}


def test_what_debugfs_and_proc_show(lab: Pnv) -> None:
    for name, text in recorded()["eeh_files"].items():
        if isinstance(text, str):
            assert lab.text(f"{DEBUG}/{name}").rstrip("\n") == text.rstrip("\n")
        else:
            assert errno_of(lab.text, f"{DEBUG}/{name}") == text["errno"]
    assert lab.text("/proc/powerpc/eeh") == recorded()["proc_eeh"].rstrip("\n") + "\n"
    for name, files in recorded()["phb_debugfs"].items():
        ours = {file for file in files if file.startswith("err_injct")}
        assert ours <= set(lab.host.listdir(f"{DEBUG}/{name}"))


@pytest.mark.parametrize("file", ["eeh_dev_check", "eeh_dev_break", "eeh_dev_can_recover"])
@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "EFAULT"),
        ("x", "EINVAL"),
        ("1:2:3", "EINVAL"),
        ("0001:01:00", "EINVAL"),
        ("0009:01:00.0", "ENODEV"),
        ("0001:01:00.1", "ENODEV"),
        ("ffffffffffff:1:0.0", "ENODEV"),
    ],
)
def test_a_device_that_is_not_there(rig: EehRig, file: str, text: str, error: str) -> None:
    """``eeh_debug_lookup_pdev``."""
    assert errno_of(rig.write, f"{DEBUG}/{file}", text) == error
    assert rig.answers.asked == []
    assert rig.eeh.stats.total_mmio_ffs == 0


def test_a_device_in_any_spelling(rig: EehRig) -> None:
    """``sscanf("%x:%x:%x.%x")``: blanks, prefixes, what follows."""
    for text in (OTHER, "1:1:0.0", " 0x1: 1:\t0.0 and more", f"{OTHER}\n"):
        assert rig.write(f"{DEBUG}/eeh_dev_check", text) == len(text)
    assert rig.eeh.stats.total_mmio_ffs == rig.eeh.stats.false_positives == 4


def test_who_can_recover(rig: EehRig) -> None:
    """``eeh_dev_can_recover``: with error_detected and slot_reset."""
    rig.write(f"{DEBUG}/eeh_dev_can_recover", OTHER)
    assert errno_of(rig.write, f"{DEBUG}/eeh_dev_can_recover", EDU) in ("EOPNOTSUPP", "ENOTSUP")
    rig.give_vfio(EDU)
    assert errno_of(rig.write, f"{DEBUG}/eeh_dev_can_recover", EDU) in ("EOPNOTSUPP", "ENOTSUP")


def test_what_has_no_memory_cannot_be_broken(rig: EehRig) -> None:
    """``eeh_break_device``."""
    assert errno_of(rig.write, f"{DEBUG}/eeh_dev_break", ROOT) == "ENXIO"
    assert rig.log[-1].endswith(f"{ROOT}: Unable to find Memory BAR to cause EEH with")


def test_what_is_broken_is_told(rig: EehRig) -> None:
    """The first of its memory that has a place: there a load is made."""
    device = rig.device(OTHER)
    memory = device.resources[1]
    rig.write(f"{DEBUG}/eeh_dev_break", OTHER)
    assert rig.log[0] == f"answers {OTHER}: Going to break: [mem {memory.start:#x}-{memory.end:#x}]"
    rig.wait()
    memory.claimed = False
    rig.write(f"{DEBUG}/eeh_dev_break", OTHER)
    wide = device.resources[4]
    text = f"[mem {wide.start:#x}-{wide.end:#x} 64bit pref]"
    assert f"answers {OTHER}: Going to break: {text}" in rig.log
    memory.claimed = True


@pytest.mark.parametrize(
    ("text", "error"),
    [("", "EFAULT"), ("x", "EINVAL"), ("0", "EINVAL"), ("9:0", "ENODEV"), ("0:77", "ENODEV")],
)
def test_an_endpoint_that_is_not_there(rig: EehRig, text: str, error: str) -> None:
    """``eeh_force_recover_write``."""
    assert errno_of(rig.write, f"{DEBUG}/eeh_force_recover", text) == error


def test_the_firmware_can_be_asked(rig: EehRig) -> None:
    """``hwcheck``: what its interrupt would have told, when nobody listened."""
    phb = rig.phb(1)
    phb.on_error = None
    rig.strike(OTHER)
    assert rig.asked(OTHER) == []
    rig.write(f"{DEBUG}/eeh_force_recover", "hwcheck")
    rig.wait()
    assert rig.asked(OTHER) == ["error_detected", "mmio_enabled", "resume"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "EFAULT"),
        ("fd:0:4:0", "EINVAL"),
        ("77:0:4:0:0", "ENODEV"),
        ("{pe}:2:4:0:0", "ERANGE"),
        ("{pe}:0:14:0:0", "ERANGE"),
        ("{pe}:0:2:0:0", "EIO"),
    ],
)
def test_an_injection_that_cannot_be(rig: EehRig, text: str, error: str) -> None:
    """``pnv_eeh_ei_write``: the endpoint, then type and function, then the firmware (PHB4 has no I/O ports)."""
    text = text.format(pe=f"{rig.eeh_pe(EDU).address:x}")
    assert errno_of(rig.write, f"{DEBUG}/PCI0002/err_injct", text) == error
    assert not rig.phb(2).endpoints.troubled()


def test_an_injected_error_is_recovered_from(rig: EehRig) -> None:
    """A configuration read (function 4) is struck."""
    rig.write(f"{DEBUG}/PCI0000/err_injct", f"{rig.eeh_pe(LEFT).address:x}:0:4:0:0")
    rig.attr(LEFT, "vendor")  # Linux knows it without reading
    assert rig.asked(LEFT) == []
    rig.bytes(f"/sys/bus/pci/devices/{LEFT}/config", 64)
    rig.wait()
    assert rig.asked(LEFT) == ["error_detected", "mmio_enabled", "resume"]
    assert rig.works(LEFT)


@pytest.mark.parametrize(
    ("unit", "value"), [("outbound", 1 << 63), ("inboundA", 1 << 60), ("inboundB", 0x8000000000000000)]
)
def test_registers_of_injection(unit: str, value: int) -> None:
    """``pnv_eeh_dbgfs_set``; what people write to have a bridge fenced (op-test's OpTestEEH), and that it comes back.

    Which bits fence it is what skiboot writes into ..._AIB_FENCE_ENABLE.
    """
    rig = EehRig()
    with rig.host:
        path = f"PCI0001/err_injct_{unit}"
        assert rig.text_of(path) == "0x0\n"
        rig.write(f"{DEBUG}/{path}", f"{value:#x}")
        assert rig.phb(1).fenced
        assert rig.text_of(path) == f"{(1 << 64) - 1:#x}\n"
        assert "EEH: Fenced PHB#1 detected, location: N/A" in kernel_log(rig.kernel).lines
        rig.wait(60)
        assert not rig.phb(1).fenced
        assert rig.works(OTHER)
        assert rig.works(LEFT)
        assert rig.text_of(path) == "0x0\n"


def test_what_registers_of_injection_do_not_take(rig: EehRig) -> None:
    """Numbers of 64 bits; and only errors that fence the bridge are modelled."""
    for text, error in (("", "EINVAL"), ("x", "EINVAL"), ("0x10000000000000000", "ERANGE")):
        assert errno_of(rig.write, f"{DEBUG}/PCI0000/err_injct_inboundA", text + "\n") == error
    with pytest.raises(NotModelled):
        rig.write(f"{DEBUG}/PCI0000/err_injct_outbound", "0x1")
    rig.write(f"{DEBUG}/PCI0000/err_injct_outbound", "0")
    assert not rig.phb(0).fenced


def test_switches(rig: EehRig) -> None:
    rig.write(f"{DEBUG}/eeh_max_freezes", "0x10")
    assert rig.text_of("eeh_max_freezes") == "16\n"
    rig.write(f"{DEBUG}/eeh_disable_recovery", "y")
    assert rig.text_of("eeh_disable_recovery") == "Y\n"
    for file in ("eeh_max_freezes", "eeh_disable_recovery", "eeh_enable"):
        assert errno_of(rig.write, f"{DEBUG}/{file}", "what") == "EINVAL"


def test_switched_off_at_boot() -> None:
    """``eeh=off``: functions are known, but have no files, and nobody looks (``eeh_sysfs_add_device``)."""
    rig = EehRig(host=HostSpec(cmdline="quiet eeh=off"))
    with rig.host:
        assert rig.eeh_pe(LEFT).address == rig.dev(LEFT).address
        assert not [name for name in rig.host.listdir(f"/sys/bus/pci/devices/{LEFT}") if name.startswith("eeh")]
        assert rig.text_of("eeh_enable") == "0x0\n"
        with rig.machine.lock:
            rig.phb(0).parity(rig.eeh_pe(LEFT).address)
        rig.wait()
        assert rig.asked(LEFT) == []
        assert kernel_log(rig.kernel).lines == []


def test_counters(rig: EehRig) -> None:
    """``struct eeh_stats``: looks, those for nothing, and endpoints that were found by one."""
    rig.phb(1).on_error = None
    rig.strike(OTHER)
    with rig.machine.lock:
        rig.device(OTHER).load_bar(1, 0, 4)
    rig.wait()
    rig.write(f"{DEBUG}/eeh_dev_check", OTHER)
    text = rig.text("/proc/powerpc/eeh")
    assert "eeh_total_mmio_ffs=2\neeh_false_positives=1\neeh_slot_resets=1\n" in text
