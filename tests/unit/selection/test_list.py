"""``pyvfio list``: the table, its JSON against the schema in docs, its filters, and that reading is cheap."""

from __future__ import annotations

import io
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from laid_out_host import DASD, DISK, FCP, NIC, NIC2, OSA, UUID, WIDE, Layout, lay_out, pci

from pyvfio.host import Host
from pyvfio.inventory import inventory
from pyvfio.pci.names import PciNames
from pyvfio.usage import uses
from pyvfio_tools import options
from pyvfio_tools.cli import run

ROOT = Path(__file__).resolve().parents[3]
BRIDGE = "0000:00:02.0"


@pytest.fixture
def listed(laid_out: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Run ``pyvfio list`` on the host that is laid out; its output."""
    monkeypatch.setattr(options, "open_host", lambda *words: Host(laid_out.backend))

    def call(*arguments: str, code: int = 0) -> str:
        assert run(["list", *arguments]) == code
        text = capsys.readouterr()
        return text.err if code else text.out

    return call


def names(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines() if line and not line[:3].isupper()]


# mistakes


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--driver", "ixgbe"], 3, "drivers that have devices"),
        (["--id", "what"], 2, "VENDOR:DEVICE"),
        (["0000:77:*"], 3, "no address matches"),
        (["--sort", "size"], 2, "size"),
        (["--group", "many"], 2, "many"),
    ],
)
def test_mistakes(listed: Any, arguments: list[str], code: int, words: str) -> None:
    assert words in listed(*arguments, code=code)


def test_standard_input_that_names_nothing(listed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a filter beside it, it must not stand for all devices."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("# none today\n\n"))
    assert "names no device" in listed("-", "--driver", "i40e", code=2)


# the table


def test_table(listed: Any) -> None:
    text = listed()
    tables = text.split("\n\n")
    assert [table.split("  ")[0] for table in tables] == ["PCI FUNCTION", "CCW DEVICE", "MEDIATED DEVICE", "SUBCHANNEL"]
    rows = {line.split()[0]: re.split(r"\s{2,}", line) for line in text.splitlines() if line}
    head = re.split(r"\s{2,}", tables[0].splitlines()[0])
    assert head == ["PCI FUNCTION", "CLASS", "ID", "DRIVER", "GROUP", "NODE", "USED BY"]
    assert rows[BRIDGE][1:] == ["PCI bridge", "8086:2030", "pcieport", "12", "-", "-"]
    assert rows[NIC][1:] == ["Ethernet controller", "8086:1572", "i40e", "12", "0", "eth0 up"]
    assert rows[NIC2][3:] == ["vfio-pci", "12", "-", "vfio0"]
    assert rows[DISK][-1].startswith("nvme0n1 ")
    assert "mounted on /boot" in rows[DISK][-1]
    assert "part of dm-0 (mounted on /)" in rows[DISK][-1]
    assert rows[DASD][1:] == ["3390/0c", "3990/e9", "dasd-eckd", "0.0.0000", "42 43", "online, dasda swap"]
    assert rows[FCP][-1] == "online, sda mounted on /data"
    assert [rows[channel][-1] for channel in OSA] == ["online, encc000"] * 3
    assert rows["0.0.0009"][1:] == ["I/O", "0.0.1234", "vfio_ccw", "42", UUID]
    assert rows[UUID][1:] == ["vfio_ccw-io", "0.0.0009", "vfio_ccw_mdev", "14", "-"]


def test_driver_and_use_are_told_though_there_is_none(listed: Any) -> None:
    head, line = listed("--driver", "none", "--bus", "pci").splitlines()[:2]
    assert "DRIVER" in head.split()
    assert head.endswith("USED BY")
    assert line.split()[-1] == "-"


def test_a_pipe_gets_whole_lines_without_colours(listed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    text = listed()
    assert "\x1b" not in text
    assert "mounted on /" in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_colours_on_a_terminal(listed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    text = listed("--bus", "pci")
    assert "\x1b[33meth0 up\x1b[0m" in text
    assert "\x1b[32mvfio-pci\x1b[0m" in text
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in listed("--bus", "pci")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--bus", "pci"], [BRIDGE, NIC, NIC2, DISK, WIDE]),
        (["--bus", "css", "--driver", "vfio_ccw"], ["0.0.0009"]),
        (["--driver", "vfio*"], [NIC2, UUID, "0.0.0009"]),
        (["--driver", "none"], [WIDE]),
        (["--id", "144d:*"], [DISK, WIDE]),
        (["--id", "1731/01"], list(OSA)),
        (["--group", "12"], [BRIDGE, NIC, NIC2]),
        (["--free"], [WIDE]),
        (["--free", "--group", "12"], []),
        (["3b:*", "dasda", "0.0.1234"], [NIC, NIC2, DASD, "0.0.0009"]),
        (["--bus", "pci", "--sort", "driver"], [NIC, DISK, BRIDGE, NIC2, WIDE]),
        (["--bus", "pci", "--sort", "class"], [DISK, WIDE, NIC, NIC2, BRIDGE]),
        (["--bus", "pci", "--sort", "node"], [NIC, DISK, BRIDGE, NIC2, WIDE]),
        (["--bus", "pci", "--sort", "use"], [NIC, DISK, NIC2, BRIDGE, WIDE]),
    ],
    ids=lambda value: " ".join(value),
)
def test_filters_and_order(listed: Any, arguments: list[str], expected: list[str]) -> None:
    rows = json.loads(listed(*arguments, "--json"))
    assert [row["address"] for row in rows] == expected
    if expected:
        assert listed(*arguments, "--names").split() == [
            f"css/{row['address']}" if row["bus"] == "css" else row["address"] for row in rows
        ]


def test_names_can_be_given_on(listed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``--names`` prints, ``-`` reads."""
    printed = listed("--names")
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"# chosen\n\n{printed}"))
    assert listed("-", "--names") == printed


def test_a_machine_whose_uids_are_not_stable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at = Layout(tmp_path)
    zpci = {"uid": "0x7", "function_id": "0x00000010", "uid_is_unique": "0"}
    at.device("/sys/devices/pci0001:00/0001:00:00.0", "pci", None, **pci(0x1014, 0x04ED, 0), **zpci)
    monkeypatch.setattr(options, "open_host", lambda *words: at.host())
    assert run(["list"]) == 0
    text = capsys.readouterr()
    assert re.search(r"0x0007\s+0x00000010", text.out)
    assert "may differ after the next IPL" in text.err
    assert run(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["uid_is_unique"] is False


# JSON


def errors(value: object, schema: dict[str, Any], where: str = "$") -> Iterator[str]:
    """What of `value` is against `schema`, for the part of JSON Schema that ours uses."""
    kinds = {"array": list, "object": dict, "string": str, "integer": int, "boolean": bool, "null": type(None)}
    wanted = schema.get("type", [])
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if wanted and not any(type(value) is kinds[kind] for kind in wanted):
        yield f"{where}: {value!r} is not {wanted}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is not one of {schema['enum']}"
    if isinstance(value, list):
        for place, item in enumerate(value):
            yield from errors(item, schema.get("items", {}), f"{where}[{place}]")
    if isinstance(value, dict):
        yield from (f"{where}: {key} is missing" for key in schema.get("required", []) if key not in value)
        for key, item in value.items():
            if key in schema["properties"]:
                yield from errors(item, schema["properties"][key], f"{where}.{key}")
            elif schema.get("additionalProperties") is False:
                yield f"{where}: {key} is not in the schema"


SCHEMA = json.loads((ROOT / "docs" / "list.schema.json").read_text())


@pytest.mark.parametrize("arguments", [[], ["--bus", "css"], ["-v"]], ids=" ".join)
def test_json_follows_its_schema(listed: Any, arguments: list[str]) -> None:
    rows = json.loads(listed(*arguments, "--json"))
    assert rows
    assert list(errors(rows, SCHEMA)) == []


@pytest.mark.parametrize("machine", ["z15-lpar", "lab-s390x"])
def test_json_of_software_machines_follows_it(machine: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "--machine", machine, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["bus"] for row in rows} >= {"pci", "ccw"}
    assert list(errors(rows, SCHEMA)) == []


def test_the_schema_lists_every_key_that_is_printed(listed: Any) -> None:
    rows = [*json.loads(listed("-v", "--json")), *json.loads(listed("--bus", "css", "--json"))]
    assert {key for row in rows for key in row} == set(SCHEMA["items"]["properties"])


def test_the_check_sees_what_is_wrong() -> None:
    wrong = {"bus": "isa", "address": 3, "more": 1}
    found = list(errors([wrong], SCHEMA))
    assert any("'isa' is not one of" in one for one in found)
    assert any("3 is not ['string']" in one for one in found)
    assert any("more is not in the schema" in one for one in found)
    assert any("driver is missing" in one for one in found)


# names


PCI_IDS = """# a comment
144d  Samsung
\ta80a  NVMe SSD
\t\t144d a801  a subsystem
8086  Intel
# between
\t1572  X710
\t2030  Root Port
ffff  Illegal Vendor ID
C 01  Mass storage controller
\t08  Non-Volatile memory controller
"""


def test_names_of_vendors_and_devices(tmp_path: Path) -> None:
    at = Layout(tmp_path)
    host = at.host()
    assert PciNames(host.backend).vendor(0x8086) is None
    at.file("/usr/share/hwdata/pci.ids", PCI_IDS)
    known = PciNames(host.backend)
    assert (known.vendor(0x144D), known.device(0x144D, 0xA80A)) == ("Samsung", "NVMe SSD")
    assert (known.vendor(0x8086), known.device(0x8086, 0x2030)) == ("Intel", "Root Port")
    assert (known.vendor(0x8086), known.device(0x8086, 0x9999)) == ("Intel", None)
    assert (known.vendor(0x1234), known.device(0x1234, 1)) == (None, None)
    assert known.device(0xFFFF, 0x08) is None


def test_verbose_shows_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at = lay_out(tmp_path)
    monkeypatch.setattr(options, "open_host", lambda *words: at.host())
    assert run(["list", "-v", "--bus", "pci"]) == 0
    assert "NAME" not in capsys.readouterr().out
    at.file("/usr/share/misc/pci.ids", PCI_IDS)
    assert run(["list", "-v", "--bus", "pci"]) == 0
    assert "Intel X710" in capsys.readouterr().out


# marks and cost


def test_a_disk_with_several_ways_to_it(tmp_path: Path) -> None:
    at = Layout(tmp_path)
    subsystem = "/sys/devices/virtual/nvme-subsystem/nvme-subsys0"
    for number in (0, 1):
        function = at.device(f"/sys/devices/pci000{number}:00/000{number}:01:00.0", "pci", "nvme")
        at.child(f"{function}/nvme/nvme{number}", "nvme")
        at.link(f"{subsystem}/nvme{number}", f"{function}/nvme/nvme{number}")
    at.child(f"{subsystem}/nvme0n1", "block", "259:0")
    at.link(f"{subsystem}/subsystem", "/sys/class/nvme-subsystem")
    at.file("/proc/self/mountinfo", "22 1 259:0 / /srv rw - xfs /dev/nvme0n1 rw\n")
    host = at.host()
    marks = {name: [str(use) for use in found] for name, found in uses(host.sysfs).items()}
    assert marks == {f"000{n}:01:00.0": ["nvme0n1 mounted on /srv"] for n in (0, 1)}


def test_each_function_costs_a_few_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of thousands is as fast as it is because nothing is read twice."""
    sys.path.insert(0, str(ROOT / "tests" / "bench"))
    monkeypatch.setattr(sys, "path", sys.path[:])
    from pci_tree import host_functions, write_tree

    count = 300
    assert write_tree(tmp_path / "sys", host_functions(count)) == count
    host = Layout(tmp_path).host()
    calls: Counter[str] = Counter()
    for verb in ("open", "read", "close", "readlink", "listdir", "stat"):
        inner = getattr(host.backend, verb)

        def counted(*arguments: Any, verb: str = verb, inner: Any = inner) -> Any:
            calls[verb] += 1
            return inner(*arguments)

        monkeypatch.setattr(host.backend, verb, counted)
    rows = list(inventory(host.sysfs, {"pci": None}))
    assert len(rows) == count
    children = sum(len(row.uses) for row in rows)
    assert children > 20
    assert calls["open"] <= 2 * count + children + 10
    assert calls["readlink"] <= 2 * count + 2 * children + 10
    assert calls["listdir"] + calls["stat"] <= 10
