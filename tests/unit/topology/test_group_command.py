"""``pyvfio group``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from golden_tree import CONFIG, Tree, golden_tree

from pyvfio.host import Host
from pyvfio.testing.devices import BoundSubchannel
from pyvfio_tools import options
from pyvfio_tools.cli import run

Z15 = ["--machine", "z15-lpar"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["group"], 2, "Missing argument"),
        (["group", "99"], 3, "the groups are: 0, 1, 2"),
        (["group", "0099:00:00.0"], 3, "no such device"),
        (["group", "x:z"], 2, ""),
        (["group", "013f"], 6, "channel I/O does not go through an IOMMU"),
        (["group", "0.0.013f"], 6, "pyvfio ccw take 0.0.013f"),
        (["group", "0.0.0000", "--bus", "css"], 6, "channel I/O"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str) -> None:
    assert run([*arguments, *Z15]) == code
    assert words in capsys.readouterr().err


def test_a_device_without_a_group(tmp_path: Path, on_tree: Callable[[Path], Callable[..., str]]) -> None:
    tree = Tree(tmp_path)
    tree.function("pci0000:00/0000:00:01.0", bytes(CONFIG))
    said = on_tree(tmp_path)("group", "00:01.0", code=6)
    assert "the IOMMU is off, or there is none" in said
    assert "intel_iommu=on" in said
    tree.function("pci0000:00/0000:00:02.0", bytes(CONFIG), group=1)
    assert "no IOMMU of this host covers it" in on_tree(tmp_path)("group", "00:01.0", code=6)


def test_a_group_with_a_blocker(pyvfio: Callable[..., str]) -> None:
    said = pyvfio("group", "0000:02:00.0").splitlines()
    assert said[:4] == [
        "IOMMU group  5",
        "type         DMA",
        "reserved     0xfee00000 to 0xfeefffff msi",
        "viable       no: 0000:01:00.0 (e1000e) blocks; each must be freed, or be given to VFIO too",
    ]
    harmless = "harmless: pcieport only looks after the bridge and does no DMA"
    assert said[4:9] == [
        "members",
        f"  0000:00:08.0  pcieport   PCI bridge           {harmless}",
        f"  0000:00:08.1  pcieport   PCI bridge           {harmless}",
        "  0000:01:00.0  e1000e     Ethernet controller  blocks: e1000e has it, and may do DMA through the group",
        "  0000:02:00.0  no driver  unclassified device  harmless: no driver has it",
    ]
    none = "no ACS capability (SV, RR, CR and UF missing)"
    assert said[9:] == [
        "why they are together, seen from 0000:02:00.0",
        f"  0000:00:08.1, the root port right above 0000:02:00.0, does not keep apart what is below it: {none}",
        f"  0000:00:08.0 and 0000:00:08.1 are functions of one device that are not kept apart: {none}",
        f"  0000:00:08.0, the root port right above 0000:01:00.0, does not keep apart what is below it: {none}",
    ]


def test_a_group_of_one(pyvfio: Callable[..., str]) -> None:
    said = pyvfio("group", "9")
    assert "viable       yes" in said
    assert said.endswith("why: by PCI topology and ACS nothing else belongs to it\n")


def test_several_groups_each_once(pyvfio: Callable[..., str]) -> None:
    documents = json.loads(pyvfio("group", "21", "0000:0c:00.1", "3", "0c:00.0", "--json"))
    assert [document["group"] for document in documents] == [21, 3]
    assert documents[0]["explanation"]["from"] == "0000:0c:00.1"


def test_as_json(pyvfio: Callable[..., str]) -> None:
    (document,) = json.loads(pyvfio("group", "20", "--json"))
    assert document["viable"] is False
    assert document["reserved_regions"] == [{"start": 0xFEE00000, "last": 0xFEEFFFFF, "kind": "msi"}]
    assert [(one["device"], one["driver"], one["blocks"]) for one in document["members"]] == [
        ("0000:09:00.0", "shpchp", True),
        ("0000:0a:01.0", None, False),
        ("0000:0a:02.0", None, False),
    ]
    bridge, beside = document["explanation"]["joins"]
    assert (bridge["device"], beside["device"]) == ("0000:09:00.0", "0000:0a:02.0")
    (link,) = beside["links"]
    assert (link["rule"], link["at"], link["certain"]) == ("same conventional PCI bus", "0000:09:00.0", True)
    assert link["lacks"][0]["missing"] == ["SV", "RR", "CR", "UF"]
    assert document["explanation"]["agrees"] is True
    assert "acs_override" not in document


def test_the_override_is_explained_only_when_asked_and_never_recommended(pyvfio: Callable[..., str]) -> None:
    assert "override" not in pyvfio("group", "5")
    said = pyvfio("group", "5", "--acs-override").splitlines()[-1]
    assert said.startswith("ACS override: an ACS override would make the kernel believe")
    assert "DMA that no IOMMU sees" in said
    (document,) = json.loads(pyvfio("group", "5", "--json", "--acs-override"))
    assert document["acs_override"] in said


def test_an_ordinary_user_is_told_what_needs_root(
    tmp_path: Path, on_tree: Callable[[Path], Callable[..., str]]
) -> None:
    said = on_tree(golden_tree(tmp_path, restricted=True).root)("group", "07:00.0")
    assert "the ACS of 0000:06:00.0, 0000:05:00.0, 0000:00:0a.0 is unknown (needs root)" in said
    assert "note: not all could be read: needs root for 0000:00:0a.0, 0000:05:00.0, 0000:06:00.0" in said


def test_a_zpci_function(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["group", "0011:00:00.0", *Z15]) == 0
    said = capsys.readouterr().out
    assert "IOMMU group  0" in said
    assert "why: on s390 the machine isolates every zPCI function, and each one is a group of its own" in said


def test_a_channel_device_that_vfio_ccw_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its mediated device has the group."""
    with Host("software", machine="z15-lpar") as host:
        monkeypatch.setattr(options, "open_host", lambda *words: Host(host.backend))
        with BoundSubchannel(host.backend, "0.0.0e00") as taken, taken.create() as mdev:
            for name in ("0.0.0e00", mdev.uuid, str(mdev.group_number)):
                assert run(["group", name]) == 0
                said = capsys.readouterr().out
                assert f"IOMMU group  {mdev.group_number}" in said
                assert f"{mdev.uuid}  vfio_ccw_mdev  on bus mdev  ready: a VFIO driver has it" in said
                assert "why: a mediated device is a group of its own" in said
            assert run(["topology", "0.0.0e00"]) == 0
            *_, subchannel, device, made = capsys.readouterr().out.splitlines()
            assert subchannel.endswith(f"{taken.address}  I/O subchannel  vfio_ccw")
            assert device.endswith("0.0.0e00  not registered")
            assert made.endswith(f"{mdev.uuid}  mediated device  vfio_ccw-io  vfio_ccw_mdev  group {mdev.group_number}")
