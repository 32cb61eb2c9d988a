"""The rule and the units that pyvfio writes, read by systemd's and udev's own programs."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from private_host import PrivateHost

from pyvfio.errors import Misuse
from pyvfio.persistence.units import unit_files

FindTool = Callable[..., Path]
PROGRAM = "/bin/true"  # systemd-analyze wants to see a program there
RULES = "/etc/udev/rules.d/60-pyvfio.rules"
DEVICE = "/sys/devices/virtual/mem/null"  # a device that every host has


def write(top: Path) -> list[Path]:
    made = []
    for name, text in unit_files(PROGRAM).items():
        path = top / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        made.append(path)
    return made


def verify(units: list[Path]) -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("there is no systemd-analyze (Debian: systemd)")
    answer = subprocess.run(
        [program, "verify", "--man=no", *map(str, units)], capture_output=True, text=True, timeout=60
    )
    return answer.stdout + answer.stderr


@pytest.mark.parametrize("program", ["pyvfio", "/opt/my programs/pyvfio", "/usr/bin/%h/pyvfio", "", "/bin/a;b"])
def test_a_program_that_a_unit_cannot_name(program: str) -> None:
    with pytest.raises(Misuse):
        unit_files(program)


def test_systemd_sees_a_mistake_in_a_unit(tmp_path: Path) -> None:
    units = [path for path in write(tmp_path) if path.suffix == ".service"]
    units[0].write_text(units[0].read_text().replace("Type=oneshot", "Type=onshot"))
    assert "onshot" in verify(units)


def test_systemd_has_no_objection_to_the_units(tmp_path: Path) -> None:
    units = [path for path in write(tmp_path) if path.suffix == ".service"]
    assert len(units) == 3
    assert verify(units) == ""


def test_udev_runs_them_for_a_device(host: PrivateHost, find_tool: FindTool) -> None:
    udevadm = find_tool("udev", "udevadm")
    write(host.top)
    host.write("/etc/driverctl.d/mem-null", "vfio-pci\n")
    host.write("/etc/mdevctl.d/null/README", "a parent")
    if not Path(DEVICE).exists():
        pytest.skip(f"no {DEVICE} here")
    text = host.run(udevadm, "test", "--action=add", DEVICE, real_sys=True)
    complaints = [line for line in text.splitlines() if re.search(rf"{RULES}:\d+ (?!RUN|Running)", line)]
    assert complaints == []
    assert "SYSTEMD_WANTS=pyvfio-apply@mem-null.service" in text
    assert "run: 'kmod load vfio-pci'" in text
    assert "run: '/bin/systemctl --no-block start pyvfio-mdevs@null.service'" in text


def test_udev_runs_nothing_for_a_device_without_definition(host: PrivateHost, find_tool: FindTool) -> None:
    udevadm = find_tool("udev", "udevadm")
    write(host.top)
    text = host.run(udevadm, "test", "--action=add", DEVICE, real_sys=True)
    assert "pyvfio-" not in text.replace(RULES, "")


def test_udev_verifies_the_rules(tmp_path: Path) -> None:
    udevadm = shutil.which("udevadm")
    version = subprocess.run([udevadm, "--version"], capture_output=True, text=True).stdout if udevadm else ""
    if udevadm is None or int(version.split()[0] or 0) < 254:
        pytest.skip("udevadm verify came with udev 254")
    write(tmp_path)
    answer = subprocess.run([udevadm, "verify", str(tmp_path / RULES.lstrip("/"))], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
