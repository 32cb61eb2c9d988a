"""A message is taken only when its address, its data and the endpoint of its sender agree: by a dictionary of them."""

from __future__ import annotations

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st
from ioda_rig import PE_A, PE_B, rig

from pyvfio.ioda.message import MESSAGE_SIZE, message_32, message_64
from pyvfio.ioda.pest import Cause, Transfer
from pyvfio_backends.software.hardware.ioda.model import P7IOC, PHB3, PHB4, PhbModel
from pyvfio_backends.software.hardware.pcie.request import Request

#: Interrupts, of which the last ones are those of the smallest bridge.
NUMBERS = st.sampled_from([0, 1, 30, 31, 32, 33, 63, 64, 127, 128, 254, 255])
OTHER = 99
OWNERS = st.dictionaries(NUMBERS, st.sampled_from([PE_A, PE_B, OTHER]), max_size=8)


@cache
def meant(messages: int) -> dict[tuple[int, int], int]:
    """The interrupt of every address and data that a bridge with so many has."""
    return {message(one): one for one in range(messages) for message in (message_32, message_64)}


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from([P7IOC, PHB3, PHB4]),
    OWNERS,
    NUMBERS,
    st.booleans(),
    st.sampled_from([0, 4, 8, 0x10, 0x20, 0x100, 0x200, 0x1000, 1 << 32, 1 << 58, 1 << 59]),
    st.sampled_from([0, 1, 0x1F, 0x20, 0x80, 0x100, 0x10000, 0x80000000]),
    st.booleans(),
    st.sampled_from([4, 2, 8]),
)
def test_address_data_and_sender(
    model: PhbModel,
    owners: dict[int, int],
    number: int,
    short: bool,
    wrong_address: int,
    wrong_data: int,
    second: bool,
    length: int,
) -> None:
    r = rig(model)
    for interrupt, pe in owners.items():
        assert not r.opal.pci_set_xive_pe(0, pe, interrupt)
    sender = r.b if second else r.a
    address, data = (message_32 if short else message_64)(number)
    address, data = address ^ wrong_address, data ^ wrong_data
    found = meant(model.messages).get((address, data)) if length == MESSAGE_SIZE else None
    before = r.memory.read(0, len(r.memory.data))
    sender.send(Request.store(address, data.to_bytes(8, "little")[:length]))
    if found is not None and owners.get(found) == r.pe(sender):
        assert r.interrupts == [(sender.rid, found)]
        assert not r.phb.endpoints.troubled()
        return
    assert not r.interrupts
    pe = r.pe(sender)
    assert r.phb.endpoints.frozen == r.phb.endpoints.stopped == {pe}
    assert r.memory.read(0, len(before)) == before
    entry = r.phb.endpoints[pe].entry
    assert entry is not None
    assert (entry.causes, entry.rid) == (Cause.WINDOW, sender.rid)
    assert entry.transfer in (Transfer.MESSAGE, Transfer.DMA_WRITE)
