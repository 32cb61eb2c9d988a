"""A part of the contract over the machines that ``make hil ARCH=ppc64`` compares with real kernels.

It is what only POWER answers: TCE containers and EEH operations; and what depends on how Linux boots there:
regions, interrupts, functions that go and come back.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import pyvfio.testing.contract
from pyvfio_backends.software.loader import machine_files

FOLDER = Path(pyvfio.testing.contract.__file__).parent
BARE = ("test_spapr_*.py", "test_eeh_*.py", "test_pci_info.py", "test_pci_hotplug.py", "test_pci_irqs.py")
GUEST = (
    "test_spapr_[chdlw]*.py",
    "test_eeh_absent.py",
    "test_pci_irqs.py",
    "test_pci_reset.py",
    "test_shared_group.py",
)
FUNCTIONS = ("pci", "pci2", "entropy", "nvme")
"""Each in a domain of its own, from the first on."""


def passed(machine: str, place: str, *modules: str) -> int:
    """Run these files of the contract over a machine: how many tests passed; none failed."""
    files = [str(path) for pattern in modules for path in sorted(FOLDER.glob(pattern))]
    options = [f"--pyvfio-{name}={number:04x}:{place}" for number, name in enumerate(FUNCTIONS, 1)]
    words = ["-q", "-p", "no:cacheprovider", f"--pyvfio-machine={machine}", *options, *files]
    # Not from the current directory, in which there is another copy of the package.
    command = [sys.executable, "-P", "-m", "pytest", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    found = re.search(r"(\d+) passed", done.stdout)
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize(
    ("machine", "place", "modules", "least"),
    [("contract-ppc64", "01:00.0", BARE, 500), ("contract-pseries", "00:01.0", GUEST, 250)],
    ids=["bare-metal", "guest"],
)
def test_the_software_machine_of_power_keeps_the_contract(
    machine: str, place: str, modules: tuple[str, ...], least: int
) -> None:
    assert passed(machine, place, *modules) >= least


def test_a_host_with_pages_of_64_kib(tmp_path: Path) -> None:
    """The pages of the default window stay 4 KiB; memory is registered, and tables are allocated, in 64 KiB."""
    text = machine_files()["contract-ppc64"].read_text(encoding="utf-8")
    machine = tmp_path / "pages.toml"
    machine.write_text(text.replace("[machine]\n", "[machine]\npage_size = 0x10000\n", 1), encoding="utf-8")
    assert passed(str(machine), "01:00.0", "test_spapr_[cdmw]*.py") >= 180
