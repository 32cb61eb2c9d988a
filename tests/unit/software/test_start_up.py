"""A machine that is only looked at loads what it has: everybody waits for each command's imports."""

from __future__ import annotations

import subprocess
import sys

UNUSED = (
    *("tape", "terminal3270", "scripted", "virtio_ccw", "virtio_input", "virtio_models"),  # units that it has not
    *("vfio_core", "vfio_group", "vfio_pci", "vfio_container", "iommufd", "vfio_ccw_device"),  # nobody opens a device
    *("zpci_recovery", "zpci_irq_delivery", "clp", "virtual_block", "console", "guest", "passthrough", "logical"),
)


def test_what_a_list_of_devices_does_not_load() -> None:
    program = (
        "import sys; from pyvfio_tools.cli import run; status = run(['list', '--machine', 'z15-lpar']);"
        "print('LOADED', *(n for n in sys.modules if n.startswith('pyvfio'))); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1].split()[1:]
    assert "pyvfio_backends.software.hardware.devices.dasd" in loaded
    forbidden = [name for name in loaded if name.rpartition(".")[2] in UNUSED and not name.endswith("zpci.clp")]
    assert forbidden == []
