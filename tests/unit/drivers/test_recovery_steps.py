"""The recovery of an endpoint, against a kernel's answers that are played: `pyvfio.drivers.recovery`."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from pyvfio.abi import pci_regs as regs
from pyvfio.abi.opal_diag import OPAL_PHB_ERROR_DATA_TYPE_PHB4
from pyvfio.abi.vfio_spapr import EehState
from pyvfio.drivers.freeze import Freeze, Stage
from pyvfio.drivers.recovery import Blocking, EndpointFailed, Recovery
from pyvfio.errors import KernelRefused, MalformedAnswer, Misuse
from pyvfio.ioda.diagnosis import Diagnosis
from pyvfio.ioda.diagnosis_text import parse_messages
from pyvfio.ioda.pe import Pe
from pyvfio.ioda.pest import Cause, PestEntry, Transfer
from pyvfio.pci.config import ConfigSpace
from pyvfio.pci.saved_state import SavedState
from pyvfio.vfio.device import Device

ALL = [Stage.NOTICED, Stage.LOGGED, Stage.RESET, Stage.CONFIGURED, Stage.RESTORED, Stage.RESUMED]


class Endpoint:
    """A function with configuration space, and its endpoint; `refusals` are calls that fail, `after` resets that do not
    help."""

    def __init__(self) -> None:
        self.name = "0002:01:00.0"
        self.registers = bytearray(regs.PCI_CFG_SPACE_SIZE)
        self.registers[:4] = bytes.fromhex("361b1000")
        self.registers[regs.PCI_COMMAND] = regs.PCI_COMMAND_MASTER | regs.PCI_COMMAND_MEMORY
        self.registers[regs.PCI_INTERRUPT_LINE] = 9
        self.state = EehState.NORMAL
        self.calls: list[str] = []
        self.useless_resets = 0
        self.refusals: dict[str, KernelRefused] = {}
        self.each: Callable[[str], None] = lambda call: None
        self.enabled = False
        self.error = None
        self.backend = self

    # the device

    @property
    def config(self) -> ConfigSpace:
        return ConfigSpace(self._read, self.name, write=self._write)

    def _read(self, at: int, count: int) -> bytes:
        if self.state in (EehState.STOPPED, EehState.UNAVAIL, EehState.RESET):
            return b"\xff" * count
        return bytes(self.registers[at : at + count])

    def _write(self, at: int, data: bytes) -> None:
        if self.state in (EehState.NORMAL, EehState.STOPPED_DMA):
            self.registers[at : at + len(data)] = data

    def renew_interrupts(self) -> None:
        self._call("renew")

    def open(self, path: str, flags: int) -> int:
        raise OSError(errno.EACCES, "no log for this user")

    # the endpoint

    def _call(self, name: str) -> None:
        self.calls.append(name)
        self.each(name)
        if name in self.refusals:
            raise self.refusals[name]

    @property
    def frozen(self) -> bool:
        return self.state is not EehState.NORMAL

    def enable(self) -> None:
        self.enabled = True

    def close(self) -> None:
        self._call("close")

    def unfreeze_io(self) -> None:
        self._call("unfreeze_io")
        if self.state is EehState.STOPPED:
            self.state = EehState.STOPPED_DMA

    def unfreeze_dma(self) -> None:
        self._call("unfreeze_dma")
        self.state = EehState.NORMAL

    def reset(self, kind: str) -> None:
        self._call(kind)
        if self.useless_resets:
            self.useless_resets -= 1
            self.state = EehState.STOPPED
            return
        self.registers[regs.PCI_COMMAND] = 0
        self.registers[regs.PCI_INTERRUPT_LINE] = 0
        self.state = EehState.NORMAL

    def configure(self) -> None:
        self._call("configure")


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


def recovery_of(endpoint: Endpoint, **options: Any) -> Recovery:
    """Made while it was well."""
    state, endpoint.state = endpoint.state, EehState.NORMAL
    recovery = Recovery(cast("Device", endpoint), pe=cast("Pe", endpoint), **options)
    endpoint.state = state
    return recovery


def test_the_whole_way(endpoint: Endpoint) -> None:
    """The order of ``Documentation/driver-api/vfio.rst``."""
    told: list[Stage] = []
    recovery = recovery_of(endpoint, told=lambda freeze, stage: told.append(stage))
    assert not recovery.noticed(0xFFFFFFFF)
    endpoint.state = EehState.STOPPED
    assert not recovery.noticed(0x7FFFFFFF)
    assert recovery.noticed(0xFFFFFFFF)
    assert recovery.noticed(0xFF, width=1)
    freeze = recovery.run()
    assert endpoint.calls == ["unfreeze_io", "hot", "configure", "renew"]
    assert told == [stage for stage, _ in freeze.stages] == ALL
    assert (freeze.state, freeze.number, freeze.resets, freeze.error) == (EehState.STOPPED, 1, 1, "")
    assert freeze.functions[0].answers
    assert freeze.functions[0].command == regs.PCI_COMMAND_MASTER | regs.PCI_COMMAND_MEMORY
    assert endpoint.config.command == regs.PCI_COMMAND_MASTER | regs.PCI_COMMAND_MEMORY
    assert endpoint.config.read_u8(regs.PCI_INTERRUPT_LINE) == 9
    assert recovery.freezes == 1
    assert recovery.stage is None
    assert freeze.as_dict()["stage"] == "resumed"
    assert "noted no error" in str(freeze)


def test_without_a_reset(endpoint: Endpoint) -> None:
    endpoint.state = EehState.STOPPED
    recovery_of(endpoint, reset="none").run()
    assert endpoint.calls == ["unfreeze_io", "unfreeze_io", "unfreeze_dma", "configure", "renew"]


@pytest.mark.parametrize(("useless", "kinds"), [(1, ["hot", "hot"]), (2, ["hot", "hot", "fundamental"])])
def test_resets_that_do_not_help(endpoint: Endpoint, useless: int, kinds: list[str]) -> None:
    """``eeh_pe_reset_full`` makes three attempts."""
    endpoint.state, endpoint.useless_resets = EehState.STOPPED, useless
    freeze = recovery_of(endpoint).run()
    assert ([one for one in endpoint.calls if one in kinds], freeze.resets) == (kinds, len(kinds))


def test_given_up_after_three_resets(endpoint: Endpoint) -> None:
    endpoint.state, endpoint.useless_resets = EehState.STOPPED, 9
    recovery = recovery_of(endpoint)
    with pytest.raises(EndpointFailed, match="3 resets did not help; it is STOPPED") as caught:
        recovery.run()
    assert caught.value.freeze.stage is Stage.FAILED
    calls = list(endpoint.calls)
    with pytest.raises(EndpointFailed):  # for good
        recovery.run()
    assert endpoint.calls == calls


def test_a_reset_that_is_refused(endpoint: Endpoint) -> None:
    endpoint.state = EehState.STOPPED
    endpoint.refusals["hot"] = KernelRefused("reset", errno=errno.EIO, cause="firmware did not do it")
    assert recovery_of(endpoint).run().resets == 3
    assert endpoint.calls[-3:] == ["fundamental", "configure", "renew"]


def test_too_many_freezes(endpoint: Endpoint) -> None:
    """``eeh_max_freezes``: more than so many, and the device is permanently failed."""
    recovery = recovery_of(endpoint, most=2)
    for _ in range(2):
        endpoint.state = EehState.STOPPED
        recovery.run()
    endpoint.state = EehState.STOPPED
    with pytest.raises(EndpointFailed, match="3 times within 3600 s, 2 are allowed"):
        recovery.run()
    assert endpoint.state is EehState.STOPPED  # left alone
    assert [one.stage for one in recovery.history] == [Stage.RESUMED, Stage.RESUMED, Stage.FAILED]


def test_old_freezes_do_not_count(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("pyvfio.drivers.recovery.time.monotonic", lambda: now[0])
    recovery = recovery_of(endpoint, most=1)
    for _ in range(3):
        endpoint.state = EehState.STOPPED
        recovery.run()
        now[0] += 3601
    assert (recovery.freezes, len(recovery.history)) == (0, 3)


@pytest.mark.parametrize("at", ["configure", "renew"])
def test_it_freezes_again(endpoint: Endpoint, at: str) -> None:
    """Another freeze during the recovery counts, and begins it anew."""
    times = [2]

    def again(call: str) -> None:
        if call == at and times[0]:
            times[0] -= 1
            endpoint.state = EehState.STOPPED

    endpoint.each, endpoint.state = again, EehState.STOPPED
    recovery = recovery_of(endpoint)
    freeze = recovery.run()
    assert (freeze.number, recovery.freezes, freeze.stage) == (3, 3, Stage.RESUMED)
    assert "froze again" in freeze.reason
    assert endpoint.config.command == regs.PCI_COMMAND_MASTER | regs.PCI_COMMAND_MEMORY


def test_another_function_is_there(endpoint: Endpoint) -> None:
    recovery = recovery_of(endpoint)
    endpoint.state = EehState.STOPPED
    endpoint.registers[0] = 0x11
    with pytest.raises(EndpointFailed, match="restore configuration space"):
        recovery.run()


def test_the_kernel_recovers_a_bridge_above(endpoint: Endpoint) -> None:
    """``eeh_pe_get_state`` is UNAVAIL as long; nothing is to be done meanwhile."""
    endpoint.state = EehState.UNAVAIL
    recovery = recovery_of(endpoint)
    work = recovery.work()
    for _ in range(5):
        assert isinstance(next(work), float)
    assert endpoint.calls == []
    endpoint.state = EehState.STOPPED
    assert isinstance(next(work), Blocking)
    assert recovery.stage is Stage.LOGGED
    with pytest.raises(Misuse, match="being recovered"):
        recovery.run()
    work.close()
    assert recovery.stage is None


def test_asyncio(endpoint: Endpoint) -> None:
    async def main() -> tuple[bool, Freeze]:
        recovery = recovery_of(endpoint)
        assert not await recovery.wait_async(0.02, every=0.005)
        asyncio.get_running_loop().call_later(0.02, setattr, endpoint, "state", EehState.STOPPED)
        return await recovery.wait_async(5, every=0.005), await recovery.run_async()

    noticed, freeze = asyncio.run(main())
    assert noticed
    assert [stage for stage, _ in freeze.stages] == ALL


def test_waiting(endpoint: Endpoint) -> None:
    recovery = recovery_of(endpoint)
    assert not recovery.wait(0.02, every=0.005)
    endpoint.state = EehState.STOPPED_DMA
    assert recovery.wait(0)


def test_bad_options(endpoint: Endpoint) -> None:
    for options in ({"reset": "warm"}, {"most": -1}, {"within": float("nan")}):
        with pytest.raises(Misuse):
            recovery_of(endpoint, **options)
    endpoint.state = EehState.STOPPED
    with pytest.raises(MalformedAnswer, match="nobody answers"):
        Recovery(cast("Device", endpoint), pe=cast("Pe", endpoint))
    with Recovery(cast("Device", Endpoint()), pe=cast("Pe", endpoint)) as recovery:
        assert recovery.pe is cast("Pe", endpoint)
    assert "close" not in endpoint.calls  # an endpoint that was given is its owner's to close


ENTRY = PestEntry(Transfer.LOAD, Cause.MMIO | Cause.TIMEOUT, 0x100, 0x600C100000000)


def dump() -> Iterator[str]:
    a, b = ENTRY.encode(frozen=True, stopped=True)
    yield "EEH: Frozen PHB#2-PE#fd detected"
    yield "PHB4 PHB#2 Diag-data (Version: 1)"
    yield "brdgCtl:    00000002"
    yield "RootSts:    00000020 00402000 e0000008 00100107 00000000"
    yield "PhbTxeErr:  0000000000000001 0000000000000001 0000000000000002 0000000000000000"
    yield f"PE[0fd] A/B: {a:016x} {b:016x}"
    yield "PE[..0ff] A/B: as above"


def test_what_the_kernel_prints() -> None:
    """Formats of ``pnv_pci_dump_phb4_diag_data`` and ``pnv_pci_dump_pest``."""
    ((domain, log),) = parse_messages(dump())
    assert (domain, log.type) == (2, OPAL_PHB_ERROR_DATA_TYPE_PHB4)
    assert dict(log.registers) == {
        "brdgCtl": 2,
        "deviceStatus": 0x20,
        "slotStatus": 0x402000,
        "linkStatus": 0xE0000008,
        "devCmdStatus": 0x100107,
        "phbTxeErrorStatus": 1,
        "phbTxeFirstErrorStatus": 1,
        "phbTxeErrorLog0": 2,
    }
    assert log.causes == {0xFD: ENTRY, 0xFE: ENTRY, 0xFF: ENTRY}
    assert Diagnosis.parse(log.to_bytes()) == log
    assert parse_messages(["PE[0fd] A/B: 8000000000000000 0000000000000000", "nothing: 12"]) == []
    assert parse_messages(["P7IOC PHB#1 Diag-data (Version: 1)", "brdgCtl: 00000002"]) == []
    ((domain, log),) = parse_messages(["PHB3 PHB#1f Diag-data (Version: 1)", "Lem: 0000000000000001 0 0"])
    assert (domain, dict(log.registers)) == (0x1F, {"lemFir": 1})


def test_messages_that_no_kernel_writes() -> None:
    """Whoever may write to ``/dev/kmsg`` writes what he likes; a recovery goes on all the same."""
    for number in ("a", "12345678901", "9" * 5000, ""):
        assert parse_messages([f"PHB4 PHB#{number} Diag-data (Version: 1)", "Lem: 0000000000000001 0 0"]) == []


def test_the_host_bridge_says_why(endpoint: Endpoint) -> None:
    ((_, log),) = parse_messages(dump())
    recovery = recovery_of(endpoint, diagnosis=log.to_bytes)
    endpoint.state = EehState.STOPPED
    freeze = recovery.run()
    assert freeze.causes[0xFD] == ENTRY
    assert "LOAD" in str(freeze)
    endpoint.state = EehState.STOPPED
    assert recovery_of(endpoint).run().causes == {}


def test_saved_state_of_a_function(endpoint: Endpoint) -> None:
    saved = SavedState.take(endpoint.config)
    assert saved.restore(endpoint.config) == 0
    endpoint.registers[regs.PCI_COMMAND] = 0
    endpoint.registers[regs.PCI_BASE_ADDRESS_0] = 0x10
    assert [at for at, _, _ in saved.differences(endpoint.config)] == [regs.PCI_BASE_ADDRESS_0, regs.PCI_COMMAND]
    assert saved.restore(endpoint.config) == 2
    assert not saved.differences(endpoint.config)
