"""From any backend to the software machine behind it, for tests that look into it."""

from __future__ import annotations

import pytest

from pyvfio.backend import open_backend
from pyvfio.errors import Misuse
from pyvfio_backends.kernel import KernelBackend
from pyvfio_backends.software import MachineSpec, software_of


def test_a_software_backend_is_given_back() -> None:
    with open_backend("software", machine=MachineSpec("m")) as backend:
        assert software_of(backend) is backend
        assert software_of(backend).machine.name == "m"


def test_a_real_host_has_no_machine_to_look_into() -> None:
    with KernelBackend() as backend, pytest.raises(Misuse, match="no software machine"):
        software_of(backend)
