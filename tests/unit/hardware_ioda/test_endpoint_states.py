"""The state of every endpoint after any calls and errors, against sets that are kept beside it.

Source: ``hw/phb4.c`` of skiboot (phb4_eeh_freeze_set, _clear, phb4_set_peltv, phb4_ioda_reset, phb4_eeh_next_error).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from ioda_rig import RealMemory

from pyvfio.abi import opal as api
from pyvfio.abi.opal import OpalErrorType, OpalFreezeAction, OpalFreezeState, OpalReset
from pyvfio.ioda.diagnosis import Diagnosis
from pyvfio.ioda.pest import freeze_state
from pyvfio.ioda.segments import Segments
from pyvfio_backends.software.hardware.ioda.model import PHB4
from pyvfio_backends.software.hardware.ioda.opal import Opal
from pyvfio_backends.software.hardware.ioda.phb import Phb
from pyvfio_backends.software.hardware.ioda.port import phb_port

PES = st.integers(0, 5)
ACTIONS = st.sampled_from([OpalFreezeAction.MMIO, OpalFreezeAction.DMA, OpalFreezeAction.ALL])


@dataclass
class Model:
    """Sets of endpoints, and who takes whom along."""

    mmio: set[int] = field(default_factory=set)
    dma: set[int] = field(default_factory=set)
    along: dict[int, set[int]] = field(default_factory=dict)

    def state(self, pe: int) -> int:
        return (pe in self.mmio) + 2 * (pe in self.dma)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("error"), PES),
            st.tuples(st.just("set"), PES, ACTIONS),
            st.tuples(st.just("clear"), PES, ACTIONS),
            st.tuples(st.just("along"), PES, PES, st.booleans()),
            st.tuples(st.just("tables")),
            st.tuples(st.just("complete")),
        ),
        max_size=25,
    )
)
def test_states_follow_what_was_done(steps: list[tuple[object, ...]]) -> None:
    port = phb_port(PHB4)
    phb = Phb(PHB4, RealMemory(0x1000), port, Segments(0x600C000000000, 0x80000000, 0x80000000, 512))
    opal, model = Opal({0: phb}), Model()
    for name, *values in steps:
        numbers = [int(one) for one in values]  # type: ignore[call-overload]
        if name == "error":
            phb.parity(numbers[0])
            struck = {numbers[0], *model.along.get(numbers[0], set())}
            model.mmio |= struck
            model.dma |= struck
        elif name == "set":
            assert opal.pci_eeh_freeze_set(0, *numbers) == api.OPAL_SUCCESS
            model.mmio |= {numbers[0]} if numbers[1] & 1 else set()
            model.dma |= {numbers[0]} if numbers[1] & 2 else set()
        elif name == "clear":
            assert opal.pci_eeh_freeze_clear(0, *numbers) == api.OPAL_SUCCESS
            model.mmio -= {numbers[0]} if numbers[1] & 1 else set()
            model.dma -= {numbers[0]} if numbers[1] & 2 else set()
        elif name == "along":
            assert opal.pci_set_peltv(0, *numbers) == api.OPAL_SUCCESS
            others = model.along.setdefault(numbers[0], set())
            (others.add if numbers[2] else others.discard)(numbers[1])
        elif name == "tables":
            assert opal.pci_reset(0, OpalReset.PCI_IODA_TABLE, api.OPAL_ASSERT_RESET) == api.OPAL_SUCCESS
            model = Model()
        else:
            assert opal.pci_reset(0, OpalReset.PHB_COMPLETE, api.OPAL_ASSERT_RESET) > 0
            while opal.pci_poll(0) > 0:
                pass
            model.mmio, model.dma = set(), set()
        told = [opal.pci_eeh_freeze_status(0, pe).state for pe in range(7)]
        assert told == [OpalFreezeState(model.state(pe)) for pe in range(7)]
        code, data = opal.pci_get_phb_diag_data(0, 1 << 20)
        logged = Diagnosis.parse(data).endpoints
        assert {pe: freeze_state(*pair) for pe, pair in logged.items()} == {
            pe: one for pe, one in enumerate(told) if one
        }
        after = opal.pci_next_error(0)
        first = min(model.mmio | model.dma, default=-1)
        assert (code, after.endpoint) == (api.OPAL_SUCCESS, first)
        assert after.error == (OpalErrorType.NO_ERROR if first < 0 else OpalErrorType.PE_ERROR)
