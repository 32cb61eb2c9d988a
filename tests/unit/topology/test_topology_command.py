"""``pyvfio topology``: the tree on a terminal, as JSON, as SVG and for Graphviz."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from golden_tree import golden_groups

from pyvfio_tools.cli import run

Z15 = ["--machine", "z15-lpar"]
ESCAPE = "\x1b["
STRING = r'"(?:[^"\\]|\\.)*"'
NODE = re.compile(rf"  ({STRING}) \[label={STRING}, shape=\w+(?:, style=filled, fillcolor=\w+)?\];")
EDGE = re.compile(rf"  ({STRING}) -> ({STRING});")


def nodes(branches: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for branch in branches:
        yield branch
        yield from nodes(branch["children"])


def check_graph(text: str) -> tuple[set[str], set[tuple[str, str]]]:
    """Read what `pyvfio_tools.dot` writes: nodes and edges.  An edge joins nodes, and a node has one parent."""
    first, layout, style, *body, last, rest = text.split("\n")
    assert re.fullmatch(rf"digraph {STRING} {{", first)
    assert (layout, last, rest) == ("  rankdir=LR;", "}", "")
    assert style.startswith("  node [")
    names = [match[1] for line in body if (match := NODE.fullmatch(line))]
    edges = [(match[1], match[2]) for line in body if (match := EDGE.fullmatch(line))]
    assert len(names) + len(edges) == len(body)
    assert len(names) == len(set(names))
    assert {end for edge in edges for end in edge} <= set(names)
    assert len({child for _, child in edges}) == len(edges)
    return set(names), set(edges)


# mistakes


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["topology", "0099:00:00.0"], 3),
        (["topology", "--bus", "isa"], 2),
        (["topology", "0011:00:00.0", "--bus", "css"], 3),
        (["topology", "--svg", "/no/such/directory/host.svg"], 7),
        (["topology", "--dot", "/"], 2),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int) -> None:
    assert run([*arguments, *Z15]) == code
    assert capsys.readouterr().err


def test_a_host_without_either(tmp_path: Path, on_tree: Callable[[Path], Callable[..., str]]) -> None:
    assert on_tree(tmp_path)("topology") == "this host has nothing on pci and css\n"


# the tree


def test_the_pci_tree(pyvfio: Callable[..., str]) -> None:
    said = pyvfio("topology").splitlines()
    assert said[0] == "PCI  36 functions on 2 root buses"
    at = said.index("│   ├── 0000:00:0a.0  root port  pcieport  group 8")
    assert said[at + 1 : at + 6] == [
        "│   │   └── 0000:05:00.0  switch upstream port  pcieport  group 17",
        "│   │       ├── 0000:06:00.0  switch downstream port  pcieport  group 18",
        "│   │       │   └── 0000:07:00.0  Ethernet controller  e1000e  group 18",
        "│   │       └── 0000:06:01.0  switch downstream port  pcieport  group 19",
        "│   │           └── 0000:08:00.0  Ethernet controller  virtio-pci  group 19",
    ]
    assert said[-1] == "        └── 0000:41:00.0  Ethernet controller  e1000e  group 24"
    assert ESCAPE not in "".join(said)


def test_the_way_to_one_device(pyvfio: Callable[..., str]) -> None:
    assert pyvfio("topology", "0a:02.0").splitlines() == [
        "PCI",
        "└── pci0000:00  root bus",
        "    └── 0000:00:0b.0  root port  pcieport  group 9",
        "        └── 0000:09:00.0  PCIe-to-PCI bridge  shpchp  group 20",
        "            └── 0000:0a:02.0  unclassified device  no driver  group 20",
    ]


def test_zpci_functions_stand_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["topology", "--bus", "pci", *Z15]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "├── 0011:00:00.0  Ethernet controller  virtio-pci  group 0  uid 0x0011 fid 0x00000010",
        "├── 0020:00:00.0  SCSI controller  virtio-pci  group 1  uid 0x0020 fid 0x00001000",
        "└── 0060:00:00.0  unassigned class  no driver  group 2  uid 0x0060 fid 0x00000060",
    ]


@pytest.mark.parametrize("arguments", [["0.0.013f"], ["0.0.0000", "--bus", "css"]])
def test_the_way_to_a_channel_device(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert run(["topology", *arguments, *Z15]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "channel subsystem",
        "└── css0",
        "    └── channel paths 42 43 44 45  type 1b",
        "        └── 0.0.0000  I/O subchannel  io_subchannel",
        "            └── 0.0.013f  3390/0c behind 3990/e9  dasd-eckd  online",
    ]


def test_as_json(pyvfio: Callable[..., str]) -> None:
    document = json.loads(pyvfio("topology", "--json"))
    found = {one["name"]: one for one in nodes(document["pci"]) if one["kind"] == "function"}
    recorded = golden_groups()["functions"]
    assert found.keys() == recorded.keys()
    for name, one in found.items():
        assert one["path"] == f"/sys/devices/{recorded[name]['path']}"
        assert (one["class"], one["driver"]) == (recorded[name]["class"], recorded[name]["driver"])
        assert one["group"] == int(recorded[name]["iommu_group"])
    assert document["css"] == []


def test_channel_devices_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["topology", "--bus", "css", "--json", *Z15]) == 0
    (image,) = json.loads(capsys.readouterr().out)["css"]
    kinds = [one["kind"] for one in nodes([image])]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"css": 1, "paths": 7, "subchannel": 13, "device": 13}
    assert image["children"][0]["paths"][0] == {"chpid": 0x42, "type": 0x1B, "online": True}


# colours


def _on_a_terminal(environment: dict[str, str]) -> str:
    """What the command writes to a terminal."""
    ours, theirs = pty.openpty()
    program = f"from pyvfio_tools.cli import main; main({['topology', '--bus', 'pci', *Z15]})"
    parts: list[bytes] = []
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        child = subprocess.Popen([sys.executable, "-c", program], stdout=theirs, env=environment)
        os.close(theirs)
        with contextlib.suppress(OSError):  # EIO: the child closed the terminal
            while part := terminal.read(1 << 12):
                parts.append(part)
        assert child.wait(60) == 0
    return b"".join(parts).decode()


def test_colours_on_a_terminal_and_none_with_no_color() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment["TERM"] = "xterm-256color"
    coloured = re.compile(r"\x1b\[(?:\d+;)*3\dm")
    assert coloured.search(_on_a_terminal(environment))
    assert not coloured.search(_on_a_terminal({**environment, "NO_COLOR": "1"}))


# pictures


def test_a_picture(pyvfio: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "host.svg"
    assert pyvfio("topology", "--svg", str(file)) == ""
    text = file.read_text(encoding="utf-8")
    words = " ".join(ElementTree.fromstring(text).itertext()).replace("\xa0", " ")
    for name in golden_groups()["functions"]:
        assert name in words
    assert "https://" not in re.sub(r'xmlns="[^"]*"|<!--.*?-->', "", text)
    assert "@font-face" not in text


def test_a_graph(pyvfio: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "host.dot"
    assert pyvfio("topology", "--dot", str(file)) == ""
    text = file.read_text(encoding="utf-8")
    names, edges = check_graph(text)
    assert {f'"pci {name}"' for name in golden_groups()["functions"]} <= names
    assert ('"pci 0000:06:00.0"', '"pci 0000:07:00.0"') in edges
    assert pyvfio("topology", "--dot", "-") == text


def test_a_graph_of_both_trees(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["topology", "--dot", "-", *Z15]) == 0
    names, edges = check_graph(capsys.readouterr().out)
    assert ('"css 0.0.0000"', '"ccw 0.0.013f"') in edges
    assert len(names) - len(edges) == 2  # a forest of two trees


def test_the_check_of_graphs_can_fail(pyvfio: Callable[..., str]) -> None:
    text = pyvfio("topology", "07:00.0", "--dot", "-")
    check_graph(text)
    for broken in (
        text.replace("label=", "label", 1),
        text.replace('"pci 0000:07:00.0";', '"pci 0000:99:00.0";'),
        text.replace("}", ""),
    ):
        with pytest.raises(AssertionError):
            check_graph(broken)


def test_graphviz_reads_it(pyvfio: Callable[..., str]) -> None:
    graphviz = shutil.which("dot")
    if graphviz is None:
        pytest.skip("Graphviz is not installed here (Debian: graphviz)")
    text = pyvfio("topology", "--dot", "-")
    drawn = subprocess.run([graphviz, "-Tplain"], input=text, capture_output=True, text=True, check=True, timeout=60)
    assert drawn.stderr == ""
    assert sum(line.startswith("node ") for line in drawn.stdout.splitlines()) == len(check_graph(text)[0])
