"""``pyvfio nvme`` and ``pyvfio edu`` with ``--take``: what they tell, write and refuse; the device is given back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from pyvfio.host import Host
from pyvfio.testing.plugin import Lab

Command = Callable[..., str]
VARIABLES = ("PYVFIO_BACKEND", "PYVFIO_MACHINE", "PYVFIO_JOURNAL", "PYVFIO_SANDBOX", "COLUMNS")


def run(words: list[str]) -> int:
    """Run the command `pyvfio` as installed; its exit status."""
    (command,) = entry_points(group="console_scripts", name="pyvfio")
    try:
        command.load()(words)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture(scope="module")
def express_environment(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The commands work with the host under test."""
    if not (lab.edu and lab.nvme):
        pytest.skip("none was named (--pyvfio-edu, --pyvfio-nvme)")
    before = {name: os.environ.pop(name, None) for name in VARIABLES}
    os.environ.update(lab.environment(tmp_path_factory.mktemp("commands"), express=True), COLUMNS="120")
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@pytest.fixture
def told(
    express_environment: None, express_host: Host, lab: Lab, capfd: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """A function that runs a command and gives its output, or its errors when a `status` is expected."""
    for address in (lab.edu, lab.nvme):
        if not express_host.sysfs.exists(f"/sys/bus/pci/devices/{address}"):
            pytest.skip(f"this host has no pci device {address}")
    before = [express_host.device(address).driver for address in (lab.edu, lab.nvme)]

    def tell(*words: object, status: int = 0) -> str:
        capfd.readouterr()
        ended = run([*map(str, words)])
        output = capfd.readouterr()
        assert ended == status, output.err
        return output.err if status else output.out

    yield tell
    assert [express_host.device(address).driver for address in (lab.edu, lab.nvme)] == before


def test_the_way_to_an_edu(told: Command, lab: Lab) -> None:
    found = json.loads(told("edu", "test", lab.edu, "--take", "--json"))
    assert [one["ok"] for one in found] == [True] * 6
    assert told("edu", "factorial", lab.edu, 12, "--interrupts", "intx", "--take") == "479001600\n"
    assert told("edu", "dma", lab.edu, "--put", "both ways", "--get", 9, "--take") == "both ways\n"


def test_what_a_controller_is(told: Command, lab: Lab) -> None:
    facts = json.loads(told("nvme", "identify", lab.nvme, "--take", "--json"))
    assert facts["interrupts"] == "msix"
    assert [one["nsid"] for one in facts["namespaces"]] == [1]
    assert json.loads(told("nvme", "log", lab.nvme, "--take", "--json"))["warnings"] == []


def test_writing_wants_the_serial_number(told: Command, lab: Lab, tmp_path: Path) -> None:
    facts = json.loads(told("nvme", "identify", lab.nvme, "--take", "--json"))
    size = facts["namespaces"][0]["block_size"]
    (tmp_path / "in.bin").write_bytes(b"n" * size * 16)
    words = ["nvme", "write", lab.nvme, "--take", "-i", tmp_path / "in.bin", "--blocks", "64-", "--force"]
    assert "is not given; nothing was written" in told(*words, status=2)
    assert "nothing was written" in told(*words, "--serial", "another", status=2)
    written = json.loads(told(*words, "--serial", facts["serial"], "--verify", "--json"))
    assert written == {"device": lab.nvme, "nsid": 1, "first": 64, "blocks": 16, "block_size": size}
    assert "more than the 1 blocks" in told(*words[:-3], "--blocks", "0-0", "--serial", facts["serial"], status=2)


def test_a_device_that_was_not_taken(told: Command, lab: Lab) -> None:
    for words in (("edu", "id", lab.edu), ("nvme", "flush", lab.nvme)):
        assert f"pyvfio bind {words[2]}, or say --take" in told(*words, status=6)
