"""`pyvfio monitor` beside a running udev: events come after its rules, from its own multicast group."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

UEVENT = "/sys/class/mem/null/uevent"
"""A harmless place to ask the kernel for an event."""

SCRIPT = """
mount -t tmpfs none /run
mkdir -p /run/udev
ln -s {udevadm} /run/systemd-udevd
/run/systemd-udevd --resolve-names=never >/run/udevd.log 2>&1 &
udevd=$!
for n in $(seq 100); do test -S /run/udev/control && break; sleep 0.1; done
test -S /run/udev/control || {{ cat /run/udevd.log; exit 77; }}
watch() {{
    {pyvfio} monitor --source $1 --raw --bus mem --count 1 --seconds 20 >/run/$1.events 2>/run/$1.errors &
    for n in $(seq 100); do grep -q waiting /run/$1.errors && break; sleep 0.1; done
}}
watch udev
udev=$!
watch kernel
kernel=$!
echo change >{uevent}
wait $udev $kernel
kill $udevd
sed 's/^/udev: /' /run/udev.events /run/udev.errors
sed 's/^/kernel: /' /run/kernel.events /run/kernel.errors
"""
_EVENT = "change  mem       /devices/virtual/mem/null"


def test_an_event(find_tool: Callable[[str, str], Path]) -> None:
    if not os.access(UEVENT, os.W_OK):
        pytest.skip(f"{UEVENT} cannot be written here")
    pyvfio = f"{sys.executable} -c 'from pyvfio_tools.cli import main; main()'"
    script = SCRIPT.format(udevadm=find_tool("udev", "udevadm"), pyvfio=pyvfio, uevent=UEVENT)
    command = ["unshare", "--mount", "--propagation", "private", "bash", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    output = done.stdout + done.stderr
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"udev does not start here: {output.strip()[:200]}")
    events = [line for line in done.stdout.splitlines() if _EVENT in line]
    if not events:
        pytest.skip("the kernel's events do not reach this network namespace")
    assert [line.partition(":")[0] for line in events] == ["udev", "kernel"], output
