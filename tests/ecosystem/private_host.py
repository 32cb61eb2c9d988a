"""A host of directories: programs see them as /sys and /etc, in a mount namespace of their own."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

_ENTER = 'mount --bind "$1/sys" /sys && mount --bind "$1/etc" /etc && mount --bind "$1/run" /run && shift && exec "$@"'
_ETC_ONLY = 'mount --bind "$1/etc" /etc && mount --bind "$1/run" /run && shift && exec "$@"'
_PYVFIO = "from pyvfio_tools.cli import main; main()"


@functools.cache
def why_not() -> str:
    """Why no private mount namespace can be had here; an empty string when one can."""
    if shutil.which("unshare") is None:
        return "there is no program unshare (Debian: util-linux)"
    answer = subprocess.run([*_unshare(), "mount", "--bind", "/tmp", "/mnt"], capture_output=True, text=True)
    return answer.stderr.strip() if answer.returncode else ""


def _unshare() -> list[str]:
    own = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *own, "--mount", "--propagation", "private"]


class PrivateHost:
    """`top` has the host's sys, etc and run."""

    def __init__(self, top: Path) -> None:
        self.top = top
        for name in ("sys/bus/pci/devices", "sys/bus/css/devices", "sys/bus/mdev/devices", "sys/class/mdev_bus"):
            (top / name).mkdir(parents=True)
        for name in ("etc/driverctl.d", "run"):
            (top / name).mkdir(parents=True)
        for name in ("callouts", "notifiers"):  # as Debian's mdevctl has them; it does nothing without
            (top / "etc/mdevctl.d/scripts.d" / name).mkdir(parents=True)

    # running

    def run(self, *command: str | Path, code: int | None = 0, real_sys: bool = False) -> str:
        """Run a program there; its output.  A `code` that is not None must be its exit code."""
        words = [str(word) for word in command]
        script = _ETC_ONLY if real_sys else _ENTER
        answer = subprocess.run(
            [*_unshare(), "sh", "-c", script, "sh", str(self.top), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYVFIO_JOURNAL": str(self.top / "journal"), "RUST_LOG": "error"},
        )
        text = f"{' '.join(words)}: {answer.returncode}\n{answer.stdout}{answer.stderr}"
        assert code is None or answer.returncode == code, text
        return answer.stdout if code == 0 and not real_sys else answer.stdout + answer.stderr

    def pyvfio(self, *arguments: str, code: int = 0) -> str:
        """Run the command ``pyvfio`` there."""
        return self.run(sys.executable, "-c", _PYVFIO, *arguments, code=code)

    def pyvfio_json(self, *arguments: str) -> Any:
        """Run the command ``pyvfio`` there with ``--json``."""
        return json.loads(self.pyvfio(*arguments, "--json"))

    # what it has

    def write(self, path: str, text: str) -> None:
        """Make a file and what is above it."""
        file = self.top / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def read(self, path: str) -> str:
        """Read a file."""
        return (self.top / path.lstrip("/")).read_text()

    def link(self, path: str, target: str) -> None:
        """Make a relative link from `path` to `target`, both below the top."""
        place, aim = self.top / path.lstrip("/"), self.top / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(os.path.relpath(aim, place.parent))

    def names(self, path: str) -> list[str]:
        """The names in a directory."""
        return sorted(entry.name for entry in (self.top / path.lstrip("/")).iterdir())

    def device(self, bus: str, name: str, driver: str, place: str) -> str:
        """A device on a bus with an override and a driver; its directory."""
        path = f"/sys/devices/{place}/{name}"
        for attribute, text in {"driver_override": "(null)\n", "class": "0x010802\n", "uevent": ""}.items():
            self.write(f"{path}/{attribute}", text)
        self.write(f"{path}/vendor", "0x1af4\n")
        self.write(f"{path}/device", "0x1042\n")
        for attribute in ("bind", "unbind"):
            self.write(f"/sys/bus/{bus}/drivers/{driver}/{attribute}", "")
        self.write(f"/sys/bus/{bus}/drivers_probe", "")
        self.link(f"{path}/driver", f"/sys/bus/{bus}/drivers/{driver}")
        self.link(f"{path}/subsystem", f"/sys/bus/{bus}")
        self.link(f"/sys/bus/{bus}/devices/{name}", path)
        return path

    def module(self, name: str) -> None:
        """A loaded module, spelt as the driver is (so driverctl need not load it)."""
        (self.top / "sys/module" / name).mkdir(parents=True, exist_ok=True)

    def parent(self, name: str, place: str, types: dict[str, dict[str, str]]) -> str:
        """A parent of mediated devices with types; its directory."""
        path = f"/sys/devices/{place}/{name}"
        self.link(f"/sys/class/mdev_bus/{name}", path)
        for kind, attributes in types.items():
            base = f"{path}/mdev_supported_types/{kind}"
            self.write(f"{base}/create", "")
            (self.top / base.lstrip("/") / "devices").mkdir()
            for attribute, text in attributes.items():
                self.write(f"{base}/{attribute}", f"{text}\n")
        return path

    def mdev(self, uuid: str, parent: str, kind: str, attributes: dict[str, str]) -> str:
        """An active mediated device below the directory of a parent; its directory."""
        path = f"{parent}/{uuid}"
        self.write(f"{path}/remove", "")
        for attribute, text in attributes.items():
            self.write(f"{path}/{attribute}", text)
        self.link(f"{path}/mdev_type", f"{parent}/mdev_supported_types/{kind}")
        self.link(f"{path}/subsystem", "/sys/bus/mdev")
        self.link(f"/sys/bus/mdev/devices/{uuid}", path)
        return path
