"""Pairs of ``zpci`` and PCI devices: words that make no sense, conflicts, and what is assigned by itself.

The rules are those of ``s390_pci_device_realize()`` and ``s390_pcihost_plug()`` in ``hw/s390x/s390-pci-bus.c`` of QEMU.
"""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvfio.errors import Misuse
from pyvfio.zpci.device_option import DeviceOption
from pyvfio.zpci.identifiers import Identifiers, Pair

WRONG_WORDS = {
    "nothing": ("", "names no device"),
    "only a property": ("uid=8", "names no device"),
    "no value": ("zpci,uid", "'uid' is no property"),
    "no name": ("zpci,=8", "'=8' is no property"),
    "twice": ("zpci,uid=8,uid=8", "uid is given twice"),
    "two drivers": ("zpci,driver=zpci", "driver is given twice"),
    "not JSON": ('{"driver":', "not JSON"),
    "JSON within JSON": ('{"driver":"zpci","uid":{}}', "uid is neither"),
    "a fraction": ('{"driver":"zpci","uid":1.5}', "uid is neither"),
}


@pytest.mark.parametrize("name", WRONG_WORDS)
def test_words_that_are_no_device(name: str) -> None:
    text, cause = WRONG_WORDS[name]
    with pytest.raises(Misuse, match=cause):
        DeviceOption.parse(text)


WRONG_PAIRS = {
    "no target": ("zpci,uid=8", "target must be defined"),
    "empty target": ("zpci,target=", "target must be defined"),
    "target with a pair": ("zpci,target=dev0", "target dev0 has a zpci device already"),
    "uid in use": ("zpci,uid=8,target=dev1", "uid 0x8 is in use already: dev0 has it"),
    "fid in use": ("zpci,fid=0x2,target=dev1", "fid 0x2 is in use already: dev0 has it"),
    "uid too large": ("zpci,uid=65536,target=dev1", "uid is between 0 and 0xffff, not 0x10000"),
    "fid too large": ("zpci,fid=0x100000000,target=dev1", "fid is between 0 and 0xffffffff"),
    "uid beyond all reason": (f"zpci,uid={'1' * 5000},target=dev1", "0xffff, not a number of 5000 digits"),
    "fid beyond all reason": (f"zpci,fid=0x{'1' * 5000},target=dev1", "0xffffffff, not a number of 5002 digits"),
    "uid no number": ("zpci,uid=eight,target=dev1", "uid=eight is no number"),
    "uid negative": ("zpci,uid=-1,target=dev1", "uid=-1 is no number"),
    "no octal number": ("zpci,uid=08,target=dev1", "uid=08 is no number"),
    "switch": ("zpci,target=dev1,interpret=perhaps", "interpret is on or off"),
    "property": ("zpci,target=dev1,vid=1", "no property 'vid'"),
}


@pytest.mark.parametrize("name", WRONG_PAIRS)
def test_pairs_that_cannot_be(name: str) -> None:
    words, cause = WRONG_PAIRS[name]
    identifiers = Identifiers()
    DeviceOption.parse("zpci,uid=8,fid=2,target=dev0").define(identifiers)
    with pytest.raises(Misuse, match=cause):
        DeviceOption.parse(words).define(identifiers)
    assert list(identifiers) == [Pair(8, 2, "dev0")]


def test_a_second_device_of_one_name() -> None:
    identifiers = Identifiers()
    identifiers.join("dev0")
    with pytest.raises(Misuse, match="of this name"):
        identifiers.join("dev0")
    with pytest.raises(Misuse, match="has a zpci device already"):  # the automatic one: a zpci comes first
        identifiers.define("dev0")


def test_no_uid_is_left() -> None:
    identifiers = Identifiers()
    for uid in range(1, 1 << 16):
        identifiers.hold(f"d{uid}", uid, uid)
    with pytest.raises(Misuse, match="no free uid could be found"):
        identifiers.join("more")


@pytest.mark.parametrize("words", ["uid=010", "uid=8", "uid=0x8", "uid=0X08"])
def test_numbers_as_qemu_reads_them(words: str) -> None:
    assert DeviceOption.parse(f"zpci,{words},target=a").define(Identifiers()).uid == 8


def test_the_words_of_the_source_document() -> None:
    identifiers = Identifiers()
    first = DeviceOption.parse("zpci,uid=8,fid=2,target=vfio1")
    assert first.driver == "zpci"
    assert first.properties == {"uid": "8", "fid": "2", "target": "vfio1"}
    assert first.define(identifiers) == Pair(8, 2, "vfio1")
    assert identifiers.waiting() == [Pair(8, 2, "vfio1")]
    assert identifiers.join("vfio1") == Pair(8, 2, "vfio1")
    assert DeviceOption.parse("zpci,target=vfio2").define(identifiers) == Pair(1, 0, "vfio2")
    assert identifiers.join("virtio1") == Pair(2, 1, "virtio1")
    assert str(identifiers.join("other")) == "zpci,uid=0x3,fid=0x3,target=other"


def test_a_uid_of_0_is_none_and_a_fid_of_0_is_one() -> None:
    identifiers = Identifiers()
    assert DeviceOption.parse("zpci,uid=0,fid=0,target=a").define(identifiers) == Pair(1, 0, "a")


def test_json_as_libvirt_writes_it() -> None:
    option = DeviceOption.parse('{"driver":"zpci","uid":25,"fid":31,"target":"hostdev0","interpret":true,"id":"z"}')
    assert (option.id, option.switch("interpret", False)) == ("z", True)
    assert option.define(Identifiers()) == Pair(25, 31, "hostdev0")


def test_a_comma_in_a_value_is_written_twice() -> None:
    assert DeviceOption.parse("x,id=a,,b,c=,,,,").properties == {"id": "a,b", "c": ",,"}
    assert DeviceOption.parse("driver=x,id=a").driver == "x"


# against a reference: what QEMU does, as short as can be


@dataclasses.dataclass
class Reference:
    pairs: dict[str, Pair] = dataclasses.field(default_factory=dict)
    joined: set[str] = dataclasses.field(default_factory=set)

    def define(self, target: str, uid: int | None, fid: int | None) -> Pair | None:
        uids, fids = {pair.uid for pair in self.pairs.values()}, {pair.fid for pair in self.pairs.values()}
        uid = uid or min(set(range(1, 64)) - uids)
        fid = min(set(range(64)) - fids) if fid is None else fid
        if target in self.pairs or uid in uids or fid in fids:
            return None
        self.pairs[target] = Pair(uid, fid, target)
        return self.pairs[target]

    def join(self, target: str) -> Pair | None:
        if target in self.joined:
            return None
        pair = self.pairs.get(target) or self.define(target, None, None)
        self.joined.add(target)
        return pair

    def release(self, target: str) -> None:
        self.pairs.pop(target, None)
        self.joined.discard(target)


TARGETS = st.sampled_from("abcdef")
SMALL = st.none() | st.integers(0, 6)
STEPS = st.lists(
    st.tuples(st.just("define"), TARGETS, SMALL, SMALL)
    | st.tuples(st.just("join"), TARGETS)
    | st.tuples(st.just("release"), TARGETS),
    max_size=30,
)


@given(STEPS)
def test_any_sequence_is_as_the_reference(steps: list[tuple[str, ...]]) -> None:
    identifiers, reference = Identifiers(), Reference()
    for verb, *arguments in steps:
        expected = getattr(reference, verb)(*arguments)
        try:
            found = getattr(identifiers, verb)(*arguments)
        except Misuse:
            found = None
        assert found == expected
        assert list(identifiers) == list(reference.pairs.values())
        assert [pair.target for pair in identifiers.waiting()] == [
            t for t in reference.pairs if t not in reference.joined
        ]


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        option = DeviceOption.parse(text)
    except Misuse:
        return
    assert option.driver


@given(st.dictionaries(st.from_regex(r"[a-ce-z][a-z-]{0,5}", fullmatch=True), st.text(max_size=8), max_size=4))
def test_what_was_written_is_read(properties: dict[str, str]) -> None:
    words = ",".join(["x", *(f"{name}={value.replace(',', ',,')}" for name, value in properties.items())])
    assert DeviceOption.parse(words).properties == properties
