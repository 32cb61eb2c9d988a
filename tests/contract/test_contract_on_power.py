"""A part of the contract over the machine that ``make hil ARCH=ppc64`` compares with a real kernel, `contract-ppc64`.

It is what only POWER answers: TCE containers and EEH operations; and what depends on how Linux boots there:
regions, interrupts, functions that go and come back.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pyvfio.testing.contract

FOLDER = Path(pyvfio.testing.contract.__file__).parent
MODULES = ("test_spapr_*.py", "test_eeh_*.py", "test_pci_info.py", "test_pci_hotplug.py", "test_pci_irqs.py")
FUNCTIONS = {
    "pci": "0001:01:00.0",
    "pci2": "0002:01:00.0",
    "entropy": "0003:01:00.0",
    "nvme": "0004:01:00.0",
    "edu": "0005:01:00.0",
}


def test_the_software_machine_of_power_keeps_the_contract() -> None:
    files = [str(path) for pattern in MODULES for path in sorted(FOLDER.glob(pattern))]
    options = [f"--pyvfio-{name}={address}" for name, address in FUNCTIONS.items()]
    words = ["-q", "-p", "no:cacheprovider", "--pyvfio-machine=contract-ppc64", *options, *files]
    # Not from the current directory, in which there is another copy of the package.
    command = [sys.executable, "-P", "-m", "pytest", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= 500
