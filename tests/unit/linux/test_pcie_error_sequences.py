"""Random sequences of errors: counters, senders and messages are those of a model of a few lines, masks hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from error_rig import CONTAINED, CONTAINING, FIRST, LEFT, PORT, RIGHT, SECOND, SWITCH, Errors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.address import PciAddress
from pyvfio.errors import NoSuchDevice
from pyvfio.pci.aer import CORRECTABLE, UNCORRECTABLE, AerError, Severity, find_error
from pyvfio_backends.software.hardware.pcie import aer as hardware

FUNCTIONS = {FIRST: PORT, SECOND: PORT, LEFT: SWITCH, RIGHT: SWITCH}
"""Functions and the root ports above them."""
DETECTED = [one for one in UNCORRECTABLE if one.mask & hardware.UNCORRECTABLE]
DETECTED += [one for one in CORRECTABLE if one.mask & hardware.CORRECTABLE]


@dataclass
class Model:
    """What a function has noted and which errors it masks and calls fatal; what was counted of it."""

    status: int = 0
    correctable: int = 0
    mask: int = extended.PCI_ERR_UNC_INTN | extended.PCI_ERR_UNC_TLPPRE
    correctable_mask: int = (
        extended.PCI_ERR_COR_ADV_NFAT | extended.PCI_ERR_COR_INTERNAL | extended.PCI_ERR_COR_LOG_OVER
    )
    severity: int = hardware.FATAL
    counts: dict[Severity, Counter[str]] = field(default_factory=lambda: {one: Counter() for one in Severity})

    def detect(self, error: AerError) -> Severity | None:
        """What is reported of an error, if anything is."""
        if error.correctable:
            self.correctable |= error.mask
            return None if self.correctable_mask & error.mask else Severity.CORRECTABLE
        self.status |= error.mask
        if self.mask & error.mask:
            return None
        return Severity.FATAL if self.severity & error.mask else Severity.NONFATAL

    def handle(self, severity: Severity) -> None:
        """Linux: counts what it reads, and clears; drivers start anew after a recovery, as `Answers.resume` does."""
        if severity is Severity.CORRECTABLE:
            self._count(severity, self.correctable & ~self.correctable_mask, CORRECTABLE)
            self.correctable = 0
            return
        if severity is Severity.NONFATAL:
            self._count(severity, self.status & ~self.mask, UNCORRECTABLE)
        self.restart()

    def restart(self) -> None:
        self.status = self.correctable = 0

    def _count(self, severity: Severity, bits: int, table: tuple[AerError, ...]) -> None:
        self.counts[severity].update(one.name for one in table if bits & one.mask)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("inject"), st.sampled_from(sorted(FUNCTIONS)), st.sampled_from(DETECTED)),
        st.tuples(st.just("mask"), st.sampled_from(sorted(FUNCTIONS)), st.sampled_from(DETECTED)),
        st.tuples(st.just("unmask"), st.sampled_from(sorted(FUNCTIONS)), st.sampled_from(DETECTED)),
        st.tuples(st.just("severity"), st.sampled_from(sorted(FUNCTIONS)), st.sampled_from(DETECTED)),
    ),
    max_size=25,
)


def _masks(made: Errors, name: str, model: Model) -> None:
    made.set_register(name, extended.PCI_ERR_UNCOR_MASK, model.mask)
    made.set_register(name, extended.PCI_ERR_COR_MASK, model.correctable_mask)
    made.set_register(name, extended.PCI_ERR_UNCOR_SEVER, model.severity)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_counters_equal_what_was_reported(steps: list[tuple[str, str, AerError]]) -> None:
    made = Errors()
    with made.host:
        models = {name: Model() for name in FUNCTIONS}
        messages = {port: Counter[Severity]() for port in (PORT, SWITCH)}
        for what, name, error in steps:
            model, port = models[name], FUNCTIONS[name]
            if what == "inject":
                said = len(made.log)
                made.inject(name, error)
                severity = model.detect(error)
                assert (len(made.log) > said) == (severity is not None)
                if severity is None:
                    continue
                messages[port][severity] += 1
                model.handle(severity)
                if severity is not Severity.CORRECTABLE:
                    for other in models if port == PORT else ():
                        if FUNCTIONS[other] == PORT:
                            models[other].restart()
                source = made.register(port, extended.PCI_ERR_ROOT_ERR_SRC)
                address = PciAddress.parse(name)
                rid = address.bus << 8 | address.device << 3 | address.function
                assert (source & 0xFFFF if error.correctable else source >> 16) == rid
            else:
                bits = "correctable_mask" if error.correctable else "mask"
                if what == "severity":
                    model.severity ^= 0 if error.correctable else error.mask
                elif what == "mask":
                    setattr(model, bits, getattr(model, bits) | error.mask)
                else:
                    setattr(model, bits, getattr(model, bits) & ~error.mask)
                _masks(made, name, model)
        for name, model in models.items():
            for severity in Severity:
                assert made.counters(name, severity) == dict(model.counts[severity]), (name, severity)
        for port, counted in messages.items():
            assert made.messages(port) == tuple(counted[severity] for severity in Severity)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(["DLP", "MALF_TLP", "COMP_TIME", "RCVR", "release", "software", "look"]), max_size=20))
def test_containment_holds_until_it_is_released(steps: list[str]) -> None:
    """The port's driver is away, so nobody releases but the test."""
    made = Errors()
    with made.host:
        made.write("/sys/bus/pci/drivers/pcieport/unbind", CONTAINING)
        port, function = made.hardware(CONTAINING), made.hardware(CONTAINED)
        at = port.offset(extended.PCI_EXT_CAP_ID_DPC, extended=True)
        express = function.offset(regs.PCI_CAP_ID_EXP)
        assert at is not None
        assert express is not None
        port.config.write(at + extended.PCI_EXP_DPC_CTL, 2, extended.PCI_EXP_DPC_CTL_EN_FATAL)
        triggered = False
        for step in steps:
            if step == "release":
                status = extended.PCI_EXP_DPC_STATUS_TRIGGER
                port.config.write(at + extended.PCI_EXP_DPC_STATUS, 2, status)
                triggered = False
                # the link was down: the function forgot what it had been told
                function.config.write(express + regs.PCI_EXP_DEVCTL, 2, regs.PCI_EXP_DEVCTL_FERE)
            elif step == "software":
                made.machine.errors.trigger_containment(CONTAINING)
                triggered = True
            elif triggered and step != "look":
                with pytest.raises(NoSuchDevice):  # nobody is behind the link
                    made.inject(CONTAINED, step)
            elif step != "look":
                reports = function.config.read(express + regs.PCI_EXP_DEVCTL, 2) & regs.PCI_EXP_DEVCTL_FERE
                made.inject(CONTAINED, step)
                fatal = not find_error(step).correctable and step != "COMP_TIME"
                triggered = bool(fatal and reports)
            seen = made.complex.config_read(0, 0x0200, regs.PCI_VENDOR_ID, 2)
            assert (seen == 0xFFFF) == triggered
            noted = port.config.read(at + extended.PCI_EXP_DPC_STATUS, 2)
            assert bool(noted & extended.PCI_EXP_DPC_STATUS_TRIGGER) == triggered
        assert made.messages(CONTAINING)[2] == 0


@pytest.mark.parametrize("error", DETECTED, ids=lambda one: one.name)
def test_every_error_has_its_counter(error: AerError) -> None:
    made = Errors()
    with made.host:
        made.set_register(FIRST, extended.PCI_ERR_UNCOR_MASK, 0)
        made.set_register(FIRST, extended.PCI_ERR_COR_MASK, 0)
        made.set_register(FIRST, extended.PCI_ERR_UNCOR_SEVER, 0)
        made.inject(FIRST, error)
        severity = Severity.CORRECTABLE if error.correctable else Severity.NONFATAL
        assert made.counters(FIRST, severity) == {error.name: 1}
