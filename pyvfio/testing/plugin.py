"""The pytest plugin: a machine in a fixture, and the choice of the backend by option.

Options::

    --pyvfio-backend NAME     the backend of the fixture `backend` (default: software)
    --pyvfio-machine NAME     the machine of the software backend (default: lab-s390x; hercules-lab for tests of a disk)
    --pyvfio-ccw DEVNO        the channel device the suite may take (default: 0.0.1001)
    --pyvfio-dasd DEVNO       the DASD the suite may take and write to (default: 0.0.0a00)
    --pyvfio-pci ADDRESS      the PCI function the suite may take (default: 0020:00:00.0)
    --pyvfio-pci2 ADDRESS     a second one (default: 0030:00:00.0)
    --pyvfio-entropy ADDRESS  a virtio entropy source behind an IOMMU (default: 0040:00:00.0)
    --pyvfio-edu ADDRESS      an edu that the suite may take (default: that of the machine q35-switch)
    --pyvfio-nvme ADDRESS     an NVMe controller that it may take and whose disk it may overwrite (likewise)

A host that has no such device makes the tests skip with that reason; a run on a host which names a device and then
tests nothing is for the caller to refuse (``make hil`` does).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pyvfio.address import PciAddress
from pyvfio.backend import Backend, open_backend
from pyvfio.sandbox import VARIABLE, Sandbox

__all__ = ["Lab", "backend", "lab", "machine", "software_machine"]


_MACHINE, _DISK_MACHINE, _EXPRESS_MACHINE = "lab-s390x", "hercules-lab", "q35-switch"
_MIGRATING_MACHINE, _BARE_MACHINE = "x86-copiers", "x86-no-iommu"
_EDU, _NVME = PciAddress(0, 0, 2, 0), PciAddress(0, 1, 0, 0)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options above."""
    group = parser.getgroup("pyvfio", "backends and devices of pyvfio")
    group.addoption("--pyvfio-backend", default="software", help="backend to test: software or kernel")
    group.addoption("--pyvfio-machine", help=f"machine of the software backend ({_MACHINE}; {_DISK_MACHINE} for disks)")
    group.addoption("--pyvfio-ccw", default="0.0.1001", help="channel device the suite may take")
    group.addoption("--pyvfio-dasd", default="0.0.0a00", help="DASD the suite may take and write to")
    group.addoption("--pyvfio-pci", default="0020:00:00.0", help="PCI function the suite may take")
    group.addoption("--pyvfio-pci2", default="0030:00:00.0", help="second PCI function the suite may take")
    group.addoption("--pyvfio-entropy", default="0040:00:00.0", help="virtio entropy source that the suite may take")
    group.addoption("--pyvfio-edu", help="edu that the suite may take")
    group.addoption("--pyvfio-nvme", help="NVMe controller the suite may take and overwrite")


def pytest_report_header(config: pytest.Config) -> str:
    """Say which backend is tested."""
    name = config.getoption("--pyvfio-backend")
    return f"pyvfio: backend {name}" + (
        f", machine {config.getoption('--pyvfio-machine') or _MACHINE}" if name == "software" else ""
    )


class Lab:
    """What the run was told about its host: `backend_name`, the machines, and the devices it may take.

    `named` is whether it has the one host for all tests: a real one, or a machine that was named.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.backend_name: str = config.getoption("--pyvfio-backend")
        self.machine: str = config.getoption("--pyvfio-machine") or _MACHINE
        self.bare_machine: str = config.getoption("--pyvfio-machine") or _BARE_MACHINE
        self.disk_machine: str = config.getoption("--pyvfio-machine") or _DISK_MACHINE
        self.express_machine: str = config.getoption("--pyvfio-machine") or _EXPRESS_MACHINE
        self.ccw: str = config.getoption("--pyvfio-ccw")
        self.dasd: str = config.getoption("--pyvfio-dasd")
        self.pci: str = config.getoption("--pyvfio-pci")
        self.pci2: str = config.getoption("--pyvfio-pci2")
        self.entropy: str = config.getoption("--pyvfio-entropy")
        self.named: bool = self.backend_name != "software" or bool(config.getoption("--pyvfio-machine"))
        self.edu: str = config.getoption("--pyvfio-edu") or ("" if self.named else str(_EDU))
        self.nvme: str = config.getoption("--pyvfio-nvme") or ("" if self.named else str(_NVME))

    def open(
        self,
        *,
        log: str | None = None,
        disk: bool = False,
        express: bool = False,
        migrating: bool = False,
        bare: bool = False,
    ) -> Backend:
        """A new backend as the options say; for tests of a `disk`, of PCI Express, of a device that is `migrating`, or
        of one that is `bare` of an IOMMU, with a machine that has that.

        `log` is a file that carries the state of a software machine from one process to the next; a host needs none.
        """
        if self.backend_name != "software":
            if migrating:
                from pyvfio.testing.migrating import load_samples  # with all of the library behind it

                load_samples()
            return open_backend(self.backend_name)
        options = {} if log is None else {"log": log}
        machine = self.disk_machine if disk else self.express_machine if express else self.machine
        machine = self.bare_machine if bare else _MIGRATING_MACHINE if migrating else machine
        return open_backend(self.backend_name, machine=machine, **options)

    def may_take(self, address: str) -> bool:
        """Whether the suite may take the PCI function at `address`: on a host only those that were named to it."""
        return self.backend_name == "software" or address in (self.pci, self.pci2, self.entropy, self.edu, self.nvme)

    def environment(self, folder: Path, *, disk: bool = False, express: bool = False) -> dict[str, str]:
        """The environment for commands on such a host; a software machine is made in `folder` and keeps its state."""
        journal = {"PYVFIO_JOURNAL": str(folder / "journal")}
        if self.backend_name != "software":
            return {"PYVFIO_BACKEND": self.backend_name, **journal}
        machine = self.disk_machine if disk else self.express_machine if express else self.machine
        return {VARIABLE: str(Sandbox.create(folder / "sandbox", machine).directory)}


@pytest.fixture(scope="session")
def lab(pytestconfig: pytest.Config) -> Lab:
    """The options of this run."""
    return Lab(pytestconfig)


@pytest.fixture(scope="module")
def backend(lab: Lab) -> Iterator[Backend]:
    """The backend under test, one for each module."""
    with lab.open() as opened:
        yield opened


@pytest.fixture
def software_machine() -> Iterator[Callable[..., Backend]]:
    """A function that boots software machines, ``software_machine("z15-lpar", paced=True)``; all are closed after."""
    with ExitStack() as stack:

        def boot(machine: object = "z15-lpar", **options: Any) -> Backend:
            return stack.enter_context(open_backend("software", machine=machine, **options))

        yield boot


@pytest.fixture
def machine(software_machine: Callable[..., Backend]) -> Backend:
    """A fresh ``z15-lpar``, the software machine with DASD, OSA, FCP and PCI functions."""
    return software_machine("z15-lpar")
