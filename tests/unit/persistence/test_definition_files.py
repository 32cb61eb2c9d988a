"""The files of driverctl and mdevctl: what is malformed, what is no definition, and round trips."""

from __future__ import annotations

import contextlib
import errno
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyvfio
from pyvfio.address import MdevUuid
from pyvfio.errors import Misuse
from pyvfio.files import HostFiles
from pyvfio.persistence import BadDefinition, Definitions, PersistentDriver, PersistentMdev, Unreadable
from pyvfio.persistence.definition import check_attribute, check_driver, pairs_of
from pyvfio.persistence.driver_files import parse_name
from pyvfio.persistence.mdev_files import mdev_text, parse_mdev
from pyvfio_backends.software.backend import SoftwareBackend

UUID = MdevUuid("66826a94-72c4-557f-beca-d135a70628e9")
GOOD: dict[str, Any] = {"mdev_type": "vfio_ccw-io", "start": "auto", "attrs": [{"a": "1"}]}


def changed(**keys: Any) -> str:
    return json.dumps({key: value for key, value in {**GOOD, **keys}.items() if value is not Ellipsis})


MALFORMED = {
    "": "not JSON",
    "{": "not JSON",
    "start=auto\nmdev_type=i915": "before 0.50",
    "[]": "not an object",
    "[" * 100_000: "nested too deeply",
    changed(extra=float("nan")): "not JSON: NaN",
    '{"mdev_type": "t", "start": "auto", "extra": 1e999}': "too large",
    '{"mdev_type": "t", "start": "auto", "extra": "\udcff"}': "not UTF-8",
    changed(mdev_type=...): "mdev_type is missing",
    changed(mdev_type=5): "mdev_type is 5",
    changed(mdev_type="../x"): "not the name of a type",
    changed(start=...): "start is missing",
    changed(attrs={}): "attrs is not an array",
    changed(attrs=["a"]): "attrs[0] is not an object",
    changed(attrs=[{"a": "1"}, {}]): "attrs[1] is not an object with one key",
    changed(attrs=[{"a": "1", "b": "2"}]): "attrs[0] is not an object with one key",
    changed(attrs=[{"a": 1}]): "the value of a is not a string",
    changed(attrs=[{"../../remove": "1"}]): "does not name an attribute",
}


@pytest.mark.parametrize(("text", "why"), MALFORMED.items(), ids=range(len(MALFORMED)))
def test_malformed_mediated_devices(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        parse_mdev("p", UUID, text)


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "../x", "/x", ".", ".."])
def test_what_is_no_driver(name: str) -> None:
    assert check_driver(name)


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "..", "a/../b", "a\0"])
def test_what_is_no_attribute(name: str) -> None:
    assert check_attribute(name)


@pytest.mark.parametrize("text", ["a", "=1", "../x=1"])
def test_what_is_no_pair(text: str) -> None:
    with pytest.raises(Misuse):
        pairs_of([text])


def test_pairs() -> None:
    assert pairs_of(["a=1", "a=2=3", "nvidia/vgpu_params=x y"]) == (
        ("a", "1"),
        ("a", "2=3"),
        ("nvidia/vgpu_params", "x y"),
    )


@pytest.mark.parametrize(
    "name",
    [
        "README",
        "pci-",
        "-0011:00:00.0",
        "pci-0011:00:00.0~",
        "pci-0011:00:00.0.pyvfio-new",
        "pci-11:0:0.0",
        "pci-0011:00:1F.0",
        "css-0.0.5",
        "platform-x~",
        str(UUID),
    ],
)
def test_names_that_no_device_has(name: str) -> None:
    assert parse_name(name) is None


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("pci-10000:3b:00.1", ("pci", "10000:3b:00.1")),
        ("css-0.0.0005", ("css", "0.0.0005")),
        ("fsl-mc-dpni.1", ("fsl-mc", "dpni.1")),
        ("vmbus-f8615163-df3e-46c5-913f-f2d2f965ed0e", ("vmbus", "f8615163-df3e-46c5-913f-f2d2f965ed0e")),
    ],
)
def test_names_of_files(name: str, place: tuple[str, str]) -> None:
    assert parse_name(name) == place


def test_an_attribute_of_another_start_is_manual() -> None:
    assert parse_mdev("p", UUID, changed(start="whenever")).start == "manual"


# on a host


def write(host: pyvfio.Host, path: str, text: str) -> None:
    files = HostFiles(host.backend)
    files.make_directory(path.rpartition("/")[0])
    files.write(path, text)


def test_missing_directories_are_empty_lists(definitions: Definitions) -> None:
    assert definitions.all() == []
    assert definitions.mdevs.all("0.0.0005") == []
    assert definitions.mdevs.get(UUID) is None
    assert definitions.drivers.get("pci", "0011:00:00.0") is None


def test_what_is_no_definition_is_left_out(host: pyvfio.Host, definitions: Definitions) -> None:
    write(host, "/etc/mdevctl.d/0.0.0005/README", "x")
    write(host, f"/etc/mdevctl.d/scripts.d/{UUID}", "x")
    write(host, "/etc/mdevctl.d/stray", "x")
    write(host, "/etc/driverctl.d/pci-0011:00:00.0~", "nvme")
    assert definitions.all() == []


def test_a_malformed_file_is_marked_and_the_others_listed(host: pyvfio.Host, definitions: Definitions) -> None:
    write(host, "/etc/driverctl.d/pci-0011:00:00.0", "\n")
    write(host, "/etc/driverctl.d/pci-0022:00:00.0", "vfio-pci\n")
    write(host, f"/etc/mdevctl.d/0.0.0005/{UUID}", "{")
    bad, good, mdev = definitions.all()
    assert isinstance(bad, Unreadable)
    assert bad.path == "/etc/driverctl.d/pci-0011:00:00.0"
    assert good == PersistentDriver("pci", "0022:00:00.0", "vfio-pci")
    assert isinstance(mdev, Unreadable)
    with pytest.raises(BadDefinition, match=r"line 1, column 2") as caught:
        definitions.mdevs.get(UUID)
    assert caught.value.path == f"/etc/mdevctl.d/0.0.0005/{UUID}"
    with pytest.raises(BadDefinition):
        definitions.drivers.get("pci", "0011:00:00.0")


def test_a_file_that_cannot_be_read_is_marked(host: pyvfio.Host, definitions: Definitions) -> None:
    write(host, "/etc/driverctl.d/pci-0011:00:00.0", "vfio-pci\n")
    assert isinstance(host.backend, SoftwareBackend)
    host.backend.faults.fail("read", errno.EIO, nth=1)
    (bad,) = definitions.all()
    assert isinstance(bad, Unreadable)
    assert "EIO" in bad.why


def test_a_uuid_below_two_parents_needs_the_parent(host: pyvfio.Host, definitions: Definitions) -> None:
    for parent in ("0.0.0005", "0.0.0006"):
        write(host, f"/etc/mdevctl.d/{parent}/{UUID}", changed())
    with pytest.raises(Misuse, match="--parent"):
        definitions.mdevs.get(UUID)
    found = definitions.mdevs.get(UUID, "0.0.0006")
    assert found is not None
    assert found.parent == "0.0.0006"


def test_a_name_in_capitals_is_read_and_kept(host: pyvfio.Host, definitions: Definitions) -> None:
    path = f"/etc/mdevctl.d/0.0.0005/{str(UUID).upper()}"
    write(host, path, changed())
    found = definitions.mdevs.get(UUID)
    assert found is not None
    assert definitions.mdevs.file_of(found) == path


def test_another_root(host: pyvfio.Host) -> None:
    write(host, "/run/image/etc/driverctl.d/css-0.0.0005", "vfio_ccw\n")
    assert Definitions(host).all() == []
    for root in ("/run/image", "/run/image/"):
        assert Definitions(host, root).all() == [PersistentDriver("css", "0.0.0005", "vfio_ccw")]


# round trips

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
names = st.text("abc_/-", min_size=1, max_size=8).filter(lambda name: not check_attribute(name))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
unknown = st.dictionaries(texts.filter(lambda key: key not in ("mdev_type", "start", "attrs")), values, max_size=3)
mdevs = st.builds(
    PersistentMdev,
    st.uuids().map(lambda uuid: MdevUuid(str(uuid))),
    st.just("0.0.0005"),
    st.text("abc-_0", min_size=1, max_size=8),
    st.sampled_from(["auto", "manual"]),
    st.lists(st.tuples(names, texts), max_size=4).map(tuple),
    unknown,
)


@given(mdevs)
def test_what_is_written_is_read_again(definition: PersistentMdev) -> None:
    assert parse_mdev(definition.parent, definition.uuid, mdev_text(definition)) == definition


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_mdev("p", UUID, text)


@given(st.text(st.characters(codec="ascii"), max_size=20))
def test_any_name_is_a_place_or_none(name: str) -> None:
    place = parse_name(name)
    assert place is None or "-".join(place) == name


def test_a_lone_surrogate_is_written_as_an_escape() -> None:
    text = '{"mdev_type": "t", "start": "auto", "note": "\\ud800"}'
    definition = parse_mdev("p", UUID, text)
    mdev_text(definition).encode()
    assert parse_mdev("p", UUID, mdev_text(definition)) == definition
