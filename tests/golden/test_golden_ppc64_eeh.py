"""What the POWER lab answered about EEH (``fixtures/golden/ppc64/lab/eeh_*.json``) against what ``lab-ppc64`` does.

The questions are asked again in the order in which they were asked there; no answer is given to the replay.  QEMU's
host bridges never freeze anything, so what they answered while an endpoint is reset is not what a machine does; see
`DISAGREEING`.  ``pytest tests/golden/test_golden_ppc64_eeh.py -s`` shows how much agrees.
"""

from __future__ import annotations

import copy
import dataclasses
import errno
import fnmatch
import json
import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_spapr as spapr
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.linux.kernel_log import kernel_log
from pyvfio_backends.software.loader import load_machine, machine_files
from pyvfio_backends.software.machine import Machine
from pyvfio_fixtures import golden

REQUIRED = 0.98
"""Facts listed here count as not agreeing."""
DISAGREEING = {
    "host::err_injct_bad_pe": "what was written is not known; ENODEV is for an endpoint that is not there",
    "vfio::v?::reset_hot::1": "QEMU's endpoints do not freeze when Linux has them frozen for a reset: STOPPED here",
    "vfio::v?::reset_fundamental::1": "the same",
    "vfio::v2::reset_hot::0": "skiboot cannot reset QEMU's port a second time: EIO",
    "vfio::v1::reset_fundamental::0": "the same",
    "vfio::v?::reset_deactivate2::5": "QEMU's port did not reset the device before: it is still enabled",
}
_NVME, _DOMAIN = "0002:01:00.0", 2
_DEBUG = "/sys/kernel/debug/powerpc"
_DEVICES = "/sys/bus/pci/devices"
_CONFIG, _BAR0 = abi.VFIO_PCI_CONFIG_REGION_INDEX << 40, 0
_TYPES, _FUNCTIONS = (0, 1), (0, 1, 2, 3, 4, 6, 8, 10)
_STATES = {state.value: state.name for state in spapr.EehState}
_SAMPLES = 12


def recorded(name: str) -> dict[str, Any]:
    """A recording, without what says which kernel answered."""
    found: dict[str, Any] = json.loads(golden(f"ppc64/lab/eeh_{name}.json").read_text(encoding="utf-8"))
    found.pop("_kernel")
    return found


def flatten(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The facts of a document: what stands at the ends of its tables and lists."""
    if isinstance(value, dict) and value and value.keys() != {"errno"}:
        for key, inner in value.items():
            yield from flatten(f"{path}::{key}", inner)
    elif isinstance(value, list) and value and not all(isinstance(one, str) for one in value):
        for number, inner in enumerate(value):
            yield from flatten(f"{path}::{number}", inner)
    else:
        yield path, value


class Lab:
    """The machine, with these modules besides its own."""

    def __init__(self, *modules: str) -> None:
        spec = load_machine(machine_files()["lab-ppc64"])
        self.machine = Machine(dataclasses.replace(spec, modules=(*spec.modules, *modules)))
        self.host = SoftwareBackend(self.machine)
        self._said = 0

    def ask(self, work: Callable[[], Any]) -> Any:
        """An answer, or the errno of a refusal."""
        try:
            return work()
        except OSError as error:
            return {"errno": errno.errorcode[error.errno or 0]}

    def text(self, path: str) -> str:
        """A file, without the end of its line."""
        fd = self.host.open(path, os.O_RDONLY)
        try:
            return self.host.read(fd, 1 << 12).decode().rstrip("\n")
        finally:
            self.host.close(fd)

    def write(self, path: str, data: str) -> int:
        """Write a file."""
        fd = self.host.open(path, os.O_WRONLY)
        try:
            return self.host.write(fd, data.encode())
        finally:
            self.host.close(fd)

    def said(self) -> list[str]:
        """The lines of the kernel's log since this was asked last."""
        lines = kernel_log(self.machine.kernel).lines
        new, self._said = lines[self._said :], len(lines)
        return new

    def state(self) -> dict[str, Any]:
        """What sysfs shows of the device."""
        device = f"{_DEVICES}/{_NVME}"
        driver = self.host.readlink(f"{device}/driver").rsplit("/", 1)[-1]
        files = ("eeh_mode", "eeh_pe_state", "eeh_pe_config_addr")
        return {"driver": driver, "present": True} | {name: self.text(f"{device}/{name}") for name in files}


def replay_host() -> dict[str, Any]:
    """``eeh_host``: files of debugfs, on a device that its driver holds."""
    lab = Lab("nvme")
    answers: dict[str, Any] = {"device": _NVME, "driver": lab.state()["driver"], "before": lab.state()}
    for name in ("eeh_dev_can_recover", "eeh_dev_check"):
        path = f"{_DEBUG}/{name}"
        lab.said()
        found: dict[str, Any] = {
            "bad_name": lab.ask(lambda path=path: lab.write(path, "not a name")),
            "absent": lab.ask(lambda path=path: lab.write(path, "0009:09:09.0")),
            "ret": lab.ask(lambda path=path: lab.write(path, _NVME)),
            "states": [],
        }
        for _ in range(_SAMPLES):
            found["states"].append(lab.state())
            lab.machine.clock.advance(0.5)
        answers[name] = found | {"dmesg": lab.said()}
    answers["after"] = lab.state()
    answers["proc_eeh"] = lab.text("/proc/powerpc/eeh")
    path = f"{_DEBUG}/PCI{_DOMAIN:04x}/err_injct"
    answers["err_injct_empty"] = lab.ask(lambda: lab.write(path, ""))
    answers["err_injct_bad"] = lab.ask(lambda: lab.write(path, "not numbers"))
    answers["err_injct_bad_pe"] = lab.ask(lambda: lab.write(path, "77:0:4:0:0"))
    return answers


class Opened:
    """The device for a program, in a container of `version`."""

    def __init__(self, lab: Lab, version: int) -> None:
        self.lab, self.host = lab, lab.host
        self.answers: dict[str, Any] = {}
        group = lab.host.readlink(f"{_DEVICES}/{_NVME}/iommu_group").rsplit("/", 1)[-1]
        self.container = lab.host.open("/dev/vfio/vfio", os.O_RDWR)
        self.answers["op_before_group"] = self.op(spapr.VFIO_EEH_PE_GET_STATE)
        self.group = lab.host.open(f"/dev/vfio/{group}", os.O_RDWR)
        container = bytearray(self.container.to_bytes(4, "little"))
        ioctl = lab.host.ioctl
        self.answers["set_container"] = lab.ask(lambda: ioctl(self.group, abi.VFIO_GROUP_SET_CONTAINER, container))
        self.answers["set_iommu"] = lab.ask(lambda: ioctl(self.container, abi.VFIO_SET_IOMMU, version))
        self.answers["check_eeh"] = self.check()
        self.answers["get_state_before_open"] = self.op(spapr.VFIO_EEH_PE_GET_STATE)
        self.answers["enable_before_open"] = self.op(spapr.VFIO_EEH_PE_ENABLE)
        self.fd = ioctl(self.group, abi.VFIO_GROUP_GET_DEVICE_FD, bytearray(_NVME.encode() + b"\0"))
        self.error = os.eventfd(0, os.EFD_NONBLOCK)
        self.answers["set_err"] = lab.ask(self._set_err)
        self.config_write(4, 0x0006.to_bytes(2, "little"))

    def _set_err(self) -> int:
        flags = abi.VFIO_IRQ_SET_DATA_EVENTFD | abi.VFIO_IRQ_SET_ACTION_TRIGGER
        words = (24, flags, abi.VFIO_PCI_ERR_IRQ_INDEX, 0, 1, self.error)
        head = b"".join(value.to_bytes(4, "little") for value in words)
        return self.host.ioctl(self.fd, abi.VFIO_DEVICE_SET_IRQS, bytearray(head))

    def check(self) -> Any:
        return self.lab.ask(lambda: self.host.ioctl(self.container, abi.VFIO_CHECK_EXTENSION, abi.VFIO_EEH))

    def op(self, number: int, *, argsz: int | None = None, flags: int = 0, err: tuple[int, ...] = ()) -> Any:
        """``VFIO_EEH_PE_OP``."""
        request = spapr.EehPeOp.sized(op=number, flags=flags)
        if argsz is not None:
            request.argsz = argsz
        if err:
            request.err.type, request.err.func, request.err.addr, request.err.mask = err
        return self.lab.ask(lambda: self.host.ioctl(self.container, spapr.VFIO_EEH_PE_OP, request))

    def state(self) -> Any:
        """The state's name."""
        found = self.op(spapr.VFIO_EEH_PE_GET_STATE)
        return found if isinstance(found, dict) else _STATES[found]

    def config(self, at: int, count: int) -> Any:
        return self.lab.ask(lambda: self.host.pread(self.fd, count, _CONFIG | at).hex())

    def config_write(self, at: int, data: bytes) -> None:
        self.host.pwrite(self.fd, data, _CONFIG | at)

    def mmio(self) -> Any:
        return self.lab.ask(lambda: hex(int.from_bytes(self.host.pread(self.fd, 4, _BAR0), "little")))

    def events(self) -> int:
        try:
            return os.eventfd_read(self.error)
        except BlockingIOError:
            return 0

    def sysfs(self) -> str:
        fd = self.host.open(f"{_DEVICES}/{_NVME}/config", os.O_RDONLY)
        try:
            return self.host.read(fd, 8).hex()
        finally:
            self.host.close(fd)

    def injected(self, type_: int, function: int) -> dict[str, Any]:
        """An error is injected, then everything is used."""
        self.lab.said()
        ret = self.op(spapr.VFIO_EEH_PE_INJECT_ERR, err=(type_, function, 0, 0))
        return {
            "type": type_,
            "func": function,
            "ret": ret,
            "state_after": self.state(),
            "mmio_read": self.mmio(),
            "cfg_read": self.config(0, 4),
            "state_after_access": self.state(),
            "err_eventfd": self.events(),
            "dmesg": self.lab.said(),
        }

    def step(self, number: int) -> list[Any]:
        """One step of a reset, and what can be seen then."""
        self.lab.said()
        ret = self.op(number)
        return [ret, self.state(), self.config(0, 4), self.config(4, 2), self.sysfs(), self.lab.said()]

    def close(self) -> None:
        os.close(self.error)
        self.host.close(self.fd)
        self.answers["state_after_close"] = self.state()
        self.host.close(self.group)
        self.host.close(self.container)


def replay_version(lab: Lab, version: int) -> dict[str, Any]:
    """All operations in a container of `version`."""
    program = Opened(lab, version)
    answers, op = program.answers, program.op
    answers["enable"] = op(spapr.VFIO_EEH_PE_ENABLE)
    answers["enable_again"] = op(spapr.VFIO_EEH_PE_ENABLE)
    answers["state0"] = program.state()
    answers["bad_argsz"] = op(spapr.VFIO_EEH_PE_GET_STATE, argsz=4)
    answers["bad_flags"] = op(spapr.VFIO_EEH_PE_GET_STATE, flags=1)
    answers["bad_op"] = op(99)
    answers["unfreeze_io_normal"] = op(spapr.VFIO_EEH_PE_UNFREEZE_IO)
    answers["unfreeze_dma_normal"] = op(spapr.VFIO_EEH_PE_UNFREEZE_DMA)
    answers["configure_normal"] = op(spapr.VFIO_EEH_PE_CONFIGURE)
    answers["inject_short_argsz"] = op(spapr.VFIO_EEH_PE_INJECT_ERR, argsz=12)
    answers["inject_bad_type"] = op(spapr.VFIO_EEH_PE_INJECT_ERR, err=(7, 0, 0, 0))
    answers["inject_bad_func"] = op(spapr.VFIO_EEH_PE_INJECT_ERR, err=(0, 99, 0, 0))
    answers["mmio_before"] = program.mmio()
    answers["inject"] = [program.injected(type_, function) for type_ in _TYPES for function in _FUNCTIONS]
    answers["reset_hot"] = program.step(spapr.VFIO_EEH_PE_RESET_HOT)
    answers["reset_deactivate"] = program.step(spapr.VFIO_EEH_PE_RESET_DEACTIVATE)
    answers["reset_fundamental"] = program.step(spapr.VFIO_EEH_PE_RESET_FUNDAMENTAL)
    answers["reset_deactivate2"] = program.step(spapr.VFIO_EEH_PE_RESET_DEACTIVATE)
    answers["configure"] = program.step(spapr.VFIO_EEH_PE_CONFIGURE)
    answers["disable"] = op(spapr.VFIO_EEH_PE_DISABLE)
    answers["state_disabled"] = program.state()
    answers["check_eeh_disabled"] = program.check()
    answers["unfreeze_disabled"] = op(spapr.VFIO_EEH_PE_UNFREEZE_IO)
    program.close()
    return answers


def replay_vfio() -> dict[str, Any]:
    """``eeh_vfio``."""
    lab = Lab()
    lab.write(f"{_DEVICES}/{_NVME}/driver_override", "vfio-pci")
    lab.write("/sys/bus/pci/drivers_probe", _NVME)
    members = lab.host.listdir(f"{_DEVICES}/{_NVME}/iommu_group/devices")
    bound = [name for name in members if lab.host.readlink(f"{_DEVICES}/{name}/driver").endswith("/vfio-pci")]
    answers: dict[str, Any] = {"device": _NVME, "bound": bound, "members": members}
    answers["v1"] = replay_version(lab, abi.VFIO_SPAPR_TCE_IOMMU)
    answers["v2"] = replay_version(lab, abi.VFIO_SPAPR_TCE_v2_IOMMU)
    return answers


_REPLAYS = {"host": replay_host, "vfio": replay_vfio}


@cache
def verdicts(name: str) -> dict[str, tuple[Any, Any]]:
    """Of each fact, what the kernel and what the machine answered."""
    replayed = dict(flatten(name, _REPLAYS[name]()))
    return {fact: (value, replayed.get(fact, "no answer")) for fact, value in flatten(name, recorded(name))}


def wrong(name: str) -> dict[str, tuple[Any, Any]]:
    """Those that do not agree."""
    return {fact: pair for fact, pair in verdicts(name).items() if pair[0] != pair[1]}


def listed(fact: str) -> bool:
    """Whether a fact is known not to agree."""
    return any(fnmatch.fnmatchcase(fact, pattern) for pattern in DISAGREEING)


@pytest.mark.parametrize("name", _REPLAYS)
def test_every_fact_of_eeh_agrees_or_is_listed(name: str) -> None:
    assert {fact: pair for fact, pair in wrong(name).items() if not listed(fact)} == {}


def test_every_listed_fact_of_eeh_is_needed() -> None:
    facts = [fact for name in _REPLAYS for fact in wrong(name)]
    assert [pattern for pattern in DISAGREEING if not fnmatch.filter(facts, pattern)] == []


def test_the_share_of_eeh_that_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    every = sum(len(verdicts(name)) for name in _REPLAYS)
    agreeing = every - sum(len(wrong(name)) for name in _REPLAYS)
    with capsys.disabled():
        print(f"\nppc64 eeh {agreeing:>6} of {every:>5} agree ({agreeing / every:.2%})")
    assert agreeing >= REQUIRED * every


@pytest.mark.parametrize("name", _REPLAYS)
def test_a_changed_fact_of_eeh_is_found_out(name: str) -> None:
    """Each recorded answer, changed, would not agree."""
    for fact, (expected, actual) in verdicts(name).items():
        changed = copy.deepcopy(expected)
        changed = [*changed, "more"] if isinstance(changed, list) else f"{changed}+"
        assert changed != actual, fact
