"""Loads and stores anywhere in every model of function: an answer, a program exception, or "not modelled"."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zpci_rig import BASE, TABLES, Memory

from pyvfio.abi import pci_regs as regs
from pyvfio.css.instructions import OperandException
from pyvfio.errors import NotModelled
from pyvfio.zpci.fib import Fib
from pyvfio.zpci.instructions import CONFIG_SPACE, Answer, FunctionOperation, Request
from pyvfio.zpci.processor import Processor
from pyvfio.zpci.table import Designation, Iota, page_entry, region_entry, segment_entry
from pyvfio_backends.software.description import FunctionSpec
from pyvfio_backends.software.hardware.zpci.facility import ZpciFacility
from pyvfio_backends.software.hardware.zpci.models import MODELS

_VALUES = st.one_of(
    st.sampled_from([0, 1, 2, 0xFF, 0xFFFFFFFF, BASE, BASE + 0x1000, BASE + 0xFF8, 0x8000]),
    st.integers(0, (1 << 64) - 1),
)
_ACCESSES = st.tuples(
    st.sampled_from([0, 1, 2, 4, 4, CONFIG_SPACE, CONFIG_SPACE]),
    st.one_of(st.integers(0, 0x40).map(lambda n: n * 4), st.integers(0, 0x4000), st.sampled_from([0x40, 0x88, 0x94])),
    st.sampled_from([1, 2, 4, 4, 8]),
    st.one_of(st.none(), _VALUES),
)


def machine(model: str) -> tuple[Processor, int]:
    """A function of the model that is enabled, may do DMA and interrupt, and has 64 pages to do it in."""
    memory = Memory()
    options = {"platform": True} if model.startswith("virtio-") and model != "virtio-bell" else {}
    facility = ZpciFacility([FunctionSpec(uid=1, fid=1, model=model, options=options)])
    cpu = Processor(
        facility,
        memory,
        on_interruption=lambda isc: None,
        on_error=lambda event: None,
        schedule=lambda delay, work: work() if not delay else None,
    )
    fh = facility.functions[1].enable()
    for table in (TABLES, TABLES + 0x4000):
        memory.write(table, (0x20).to_bytes(8, "big") * 2048)
    memory.write(TABLES + (BASE >> 31) * 8, region_entry(TABLES + 0x4000, Designation.REGION_THIRD).to_bytes(8, "big"))
    memory.write(TABLES + 0x4000, segment_entry(TABLES + 0x8000).to_bytes(8, "big"))
    entries = [page_entry(0x10000 + page * 0x1000 if page < 64 else 0, valid=page < 64) for page in range(256)]
    memory.write(TABLES + 0x8000, b"".join(entry.to_bytes(8, "big") for entry in entries))
    fib = Fib(pba=BASE, pal=BASE + 0xFFFFF, iota=Iota(TABLES).to_word())
    assert cpu.mpcifc(fh, 0, FunctionOperation.REGISTER_TRANSLATION, fib) == Answer()
    fib = Fib(noi=1, aibv=0x2000, sum=1, aisb=0x2100)
    assert cpu.mpcifc(fh, 0, FunctionOperation.REGISTER_INTERRUPTS, fib) == Answer()
    command = (regs.PCI_COMMAND_MEMORY | regs.PCI_COMMAND_MASTER).to_bytes(2, "little")
    assert cpu.pcistg(int.from_bytes(command, "big"), Request(fh, CONFIG_SPACE, 2), regs.PCI_COMMAND) == Answer()
    return cpu, fh


@pytest.mark.parametrize("model", sorted(MODELS))
@settings(max_examples=40, deadline=None)
@given(accesses=st.lists(_ACCESSES, max_size=40))
def test_loads_and_stores_anywhere(model: str, accesses: list[tuple[int, int, int, int | None]]) -> None:
    cpu, fh = machine(model)
    begun = time.monotonic()
    for space, offset, length, value in accesses:
        request = Request(fh, space, length)
        with contextlib.suppress(OperandException, NotModelled):
            answer = cpu.pcilg(request, offset) if value is None else cpu.pcistg(value, request, offset)
            assert answer.cc in (0, 1)
    assert time.monotonic() - begun < 5
    assert cpu.stpcifc(fh, 0)[0].cc == 0
