"""``/proc/interrupts`` of s390: its lines, and what VFIO's interrupts of a PCI function change in it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from errno import EPERM

import pytest

import pyvfio
from pyvfio.backend import Backend
from pyvfio.host import Host
from pyvfio.passthrough import GuestMemory, GuestPci
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.entropy import EntropySource
from pyvfio.testing.expect import fails

PATH = "/proc/interrupts"
SOURCE = "0040:00:00.0"
KINDS = ["CLK", "EXC", "EMS", "TMR", "TAL", "PFL", "DSD", "VRT", "SCP", "IUC", "CMS", "CMC", "FTP", "WTI", "CIO", "DAS",
         "C15", "C70", "TAP", "VMR", "LCS", "CTC", "ADM", "CSC", "VIR", "QAI", "APB", "PCF", "PCD", "MSI", "VAI", "GAL",
         "NMI", "RST"]  # fmt: skip


class Table:
    """The file, read once: the sum of each line's columns, and what stands behind them."""

    def __init__(self, sysfs: Attributes) -> None:
        if not sysfs.exists(PATH):
            pytest.skip(f"this kernel has no {PATH}")
        self.lines = sysfs.read(PATH).splitlines()
        if not self.lines[1].startswith("EXT:"):
            pytest.skip("this kernel is not of s390")
        self.processors = len(self.lines[0].split())
        self.counts: dict[str, int] = {}
        self.words: dict[str, str] = {}
        for line in self.lines[1:]:
            name, _, rest = line.partition(":")
            columns = rest.split(maxsplit=self.processors)
            self.counts[name.strip()] = sum(map(int, columns[: self.processors]))
            self.words[name.strip()] = "".join(columns[self.processors :])


@pytest.fixture
def read(sysfs: Attributes) -> Callable[[], Table]:
    return lambda: Table(sysfs)


def test_the_head_has_a_column_for_each_processor(read: Callable[[], Table]) -> None:
    table = read()
    assert table.lines[0] == " " * 11 + "".join(f"CPU{cpu:<8}" for cpu in range(table.processors))


def test_the_form_of_each_line(read: Callable[[], Table]) -> None:
    table = read()
    counts = rf"( *\d{{1,10}} ){{{table.processors}}}"
    for line in table.lines[1:4]:
        assert re.fullmatch(rf"(EXT|I/O|AIO): {counts}", line), line
    for line in table.lines[4 : -len(KINDS)]:
        assert re.fullmatch(rf"[ \d]{{2}}\d: {counts} {{1,}}PCI-MSI(  \S.*)?", line), line
    for line in table.lines[-len(KINDS) :]:
        assert re.fullmatch(rf"[A-Z0-9]{{3}}: {counts}  \[(EXT|I/O|AIO|NMI|CPU)\] \S.*", line), line


def test_the_kinds(read: Callable[[], Table]) -> None:
    table = read()
    assert [line.partition(":")[0] for line in table.lines[-len(KINDS) :]] == KINDS
    assert table.words["PCF"] == "[AIO] PCI Floating Interrupt"
    assert table.words["PCD"] == "[AIO] PCI Directed Interrupt"
    assert table.words["MSI"] == "[AIO] MSI Interrupt"


def test_the_numbers_are_those_of_sysfs(backend: Backend, sysfs: Attributes, read: Callable[[], Table]) -> None:
    """Each number of a device's ``msi_irqs`` that is in use has a line, and no other number has."""
    table = read()
    known: set[str] = set()
    for name in backend.listdir("/sys/bus/pci/devices"):
        path = f"/sys/bus/pci/devices/{name}/msi_irqs"
        if sysfs.exists(path):
            known |= set(backend.listdir(path))
    assert {name for name in table.counts if name.isdecimal()} <= known


@pytest.fixture(scope="module")
def source(backend: Backend, sysfs: Attributes) -> Iterator[BoundFunction]:
    if not sysfs.exists(f"/sys/bus/pci/devices/{SOURCE}"):
        pytest.skip(f"this host has no function {SOURCE}")
    with BoundFunction(backend, SOURCE) as one:
        yield one


def test_interrupts_of_a_device_are_counted(host: Host, source: BoundFunction, read: Callable[[], Table]) -> None:
    """One request of a guest's driver is one interrupt: of its vector, and of the adapter."""
    with GuestMemory(0x20000) as memory, GuestPci(memory) as pci:
        pci.attach(pyvfio.open_device(host, source.address), uid=7, fid=0x123)
        driver = EntropySource(pci, memory, 0, 0x123)
        driver.start()
        before = read()
        names = {words for words in before.words.values() if source.address in words}
        assert f"PCI-MSI  vfio-msix[0]({source.address})" in names
        for count in (1, 2, 3):
            driver.ask(32)
            end = time.monotonic() + 20
            while driver.answered < count and time.monotonic() < end:
                pci.wait(0.2)
        after = read()
        grown = {name: after.counts[name] - before.counts[name] for name in after.counts}
        mine = [name for name, words in after.words.items() if source.address in words]
        assert sum(grown[name] for name in mine) == 3
        assert grown["MSI"] >= 3
        assert 3 <= grown["PCF"] + grown["PCD"] <= grown["AIO"]
    assert not [words for words in read().words.values() if source.address in words]


def test_floating_interrupts_have_no_affinity(backend: Backend, sysfs: Attributes, read: Callable[[], Table]) -> None:
    """All processors may take one, and that cannot be changed; root opens the file all the same."""
    table = read()
    mine = [name for name, words in table.words.items() if name.isdecimal() and "virtio" in words]
    if not mine or table.counts["PCD"]:
        pytest.skip("no function is in use, or interrupts are directed")
    folder = f"/proc/irq/{mine[0]}"
    last = table.processors - 1
    assert sysfs.read(f"{folder}/smp_affinity_list").strip() == (f"0-{last}" if last else "0")
    for name in ("smp_affinity", "smp_affinity_list"):
        assert backend.stat(f"{folder}/{name}").st_mode & 0o777 == 0o444
        fd = backend.open(f"{folder}/{name}", os.O_WRONLY)
        with fails(EPERM):
            backend.write(fd, b"1\n")
        backend.close(fd)
