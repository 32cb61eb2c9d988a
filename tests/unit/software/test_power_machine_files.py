"""Broken machine files of POWER: each is refused with its place and its cause, or the machine boots."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyvfio.errors import BadMachine
from pyvfio_backends.software import open_backend
from pyvfio_backends.software.description import MachineSpec
from pyvfio_backends.software.loader import load_machine, machine_files

HEAD = '[machine]\nname = "m"\narchitecture = "ppc64le"\n'
GUEST = HEAD + 'platform = "pseries"\n'
PHB = "[[pcie.phb]]\nsegment = 0\n"
EDU = '[[pcie.function]]\nmodel = "edu"\nbehind = "phb0"\n'

BAD = {
    "pages": (HEAD + "page_size = 16384\n", "machine.page_size", 4, "4096 or 65536"),
    "memory over windows": (HEAD + "memory = 0x6000000010000\n", "machine.memory", 4, "begin, at 0x6000000000000"),
    "a guest's memory": (GUEST + "memory = 0x200000010000\n", "machine.memory", 5, "begin, at 0x200000000000"),
    "type 1": (HEAD + 'modules = ["vfio", "vfio_iommu_type1"]\n', "machine.modules", 4, "vfio_iommu_spapr_tce"),
    "iommufd": (HEAD + 'modules = ["iommufd"]\n', "machine.modules", 4, "kernels have none"),
    "vfio-ccw": (HEAD + 'modules = ["vfio-ccw"]\n', "machine.modules", 4, "no channel I/O"),
    "mtty": (HEAD + 'modules = ["mtty"]\n', "machine.modules", 4, "not modelled"),
    "devices of IBM Z": (HEAD + 'devices = ["virtio-rng-pci"]\n', "machine.devices", 4, "has none"),
    "locked memory": (HEAD + "memlock = -2\n", "machine.memlock", 4, "or -1: none; not -2"),
    "a slot of 13 bits": (HEAD + PHB + "slot = 8192\n", "pcie.phb", 4, "0 to 8191"),
    "a slot below none": (HEAD + PHB + "slot = -2\n", "pcie.phb", 4, "0 to 8191"),
    "a segment": (HEAD + PHB.replace("0", "96"), "pcie.phb", 4, "0 to 95"),
    "a guest's segment": (GUEST + PHB.replace("0", "31"), "pcie.phb", 5, "0 to 30"),
    "a segment twice": (HEAD + PHB + PHB, "pcie.phb", 6, "another's"),
    "a model": (HEAD + PHB + 'model = "PHB5"\n', "pcie.phb", 4, "no model 'PHB5'"),
    "a root bus": (HEAD + PHB + "[[pcie.bus]]\n", "pcie.bus", 6, "has none"),
    "behind nothing": (HEAD + EDU, "pcie.function", 4, "no bus or port 'phb0'"),
    "no table": (HEAD + "[pcie]\nphb = 5\n", "pcie.phb", 4, "[[pcie.phb]]"),
    "an inline row": (HEAD + "[pcie]\nphb = [{ segments = 1 }]\n", "pcie.phb.segments", 4, "unknown key"),
    "a scalar on top": ("swap = 3\n" + HEAD, "swap", 1, "[[swap]]"),
    "rows of a table that is not there": (HEAD + "[[foo.bar]]\n", "foo", 4, "unknown table"),
    "no table at all": ("phbs = 1\n" + HEAD, "phbs", 1, "unknown table"),
}


@pytest.mark.parametrize("name", BAD)
def test_refused(name: str, tmp_path: Path) -> None:
    text, key, line, words = BAD[name]
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(BadMachine) as caught:
        load_machine(path)
    assert (caught.value.key, caught.value.line) == (key, line)
    assert words in str(caught.value)


def test_the_largest(tmp_path: Path) -> None:
    path = tmp_path / "good.toml"
    path.write_text(HEAD + "page_size = 4096\nmemory = 0x6000000000000\n" + PHB + "slot = 8191\n" + EDU)
    with open_backend(machine=str(path)) as backend:
        assert backend.machine.spec.pcie_phbs[0].slot == 8191


def test_modules_that_are_not_named() -> None:
    assert MachineSpec("m", architecture="ppc64le").modules == ("vfio", "vfio_iommu_spapr_tce", "vfio_pci")
    assert "vfio_iommu_type1" in MachineSpec("m").modules
    assert MachineSpec("m", architecture="ppc64le", modules=()).modules == ()


WRONG = (
    *("-1", "0", "1", "255", "8192", "0xffff", "0x10000", "0x80000000", "0x100000000", str((1 << 63) - 1), "1.5"),
    *('""', '"x"', '"phb0"', '"up0"', '"1f.7"', '"01.0"', '"20.0"', '"0000:00"', '"\\u0000"', '"PHB3"', '"PHB5"'),
    *('"pseries"', '"powernv"', '"x86_64"', '"ppc64"', '"riscv64"', '"nvme"', '"igb"', '"x3130-upstream"', '"VGA"'),
    *('"pcie-root-port"', '"event-collector"', '"pair-nic"', '"ivshmem"', "true", "[]", "[[]]", '["vfio"]', "{}"),
    *("{ size = -1 }", "{ total_vfs = 65535 }", "{ size = 0x4000000000000000 }", "{ integrated = true }", "07:32:00"),
)
KEYS = ("segment", "model", "id", "slot", "behind", "at", "options", "memory", "page_size", "platform", "row")
MACHINES = ("power9-phb4", "power9-pseries", "lab-ppc64")


def broken(text: str, chance: random.Random) -> str:
    """A machine file with one to three lines or tables wrong."""
    tables = re.split(r"\n(?=\[)", text)
    for _ in range(chance.choice((1, 1, 2, 3))):
        place = chance.randrange(len(tables))
        lines = tables[place].splitlines()
        at = chance.randrange(len(lines))
        how = chance.choice(("value", "value", "value", "key", "delete", "twice", "swap", "header"))
        if how == "value" and "=" in lines[at]:
            lines[at] = f"{lines[at].partition('=')[0]}= {chance.choice(WRONG)}"
        elif how == "key":
            lines.append(f"{chance.choice(KEYS)} = {chance.choice(WRONG)}")
        elif how == "delete":
            del lines[at]
        elif how == "header":
            lines[0] = chance.choice(("[pcie.phb]", "[[pcie.bus]]", "[[zpci.function]]", "[[mount]]", "[pcie]", "[["))
        tables[place] = "\n".join(lines)
        if how == "twice":
            tables.insert(chance.randrange(len(tables)), tables[place])
        elif how == "swap":
            other = chance.randrange(len(tables))
            tables[place], tables[other] = tables[other], tables[place]
    return "\n".join(tables) + "\n"


def mutants(count: int) -> Iterator[str]:
    """Broken files, the same ones each time."""
    texts = [machine_files()[name].read_text() for name in MACHINES]
    for seed in range(count):
        chance = random.Random(seed)
        yield broken(chance.choice(texts), chance)


def refusal(path: Path) -> BadMachine | None:
    """Why a machine is not booted; None: it is."""
    try:
        open_backend(machine=str(path)).close()
    except BadMachine as error:
        return error
    return None


def test_broken_at_random(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    booted = 0
    for text in mutants(120):
        path.write_text(text)
        error = refusal(path)
        booted += error is None
        if error is not None:
            assert error.line or "[machine]" not in text, f"{error}\n{text}"
            assert error.cause, text
    assert 10 < booted < 70
