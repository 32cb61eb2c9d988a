"""A small machine whose whole state can be compared: what the sweeps of failures and kills run on."""

from __future__ import annotations

from collections.abc import Callable

from pyvfio.binding.journal import DIRECTORY
from pyvfio.files import HostFiles
from pyvfio.host import Host
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import ChannelPathSpec, FunctionSpec, MachineSpec, SubchannelSpec
from pyvfio_backends.software.linux.tmpfs import RegularFile
from pyvfio_backends.software.linux.vfs import Attribute, Directory, Node, Symlink
from pyvfio_backends.software.machine import Machine

FUNCTION = "0011:00:00.0"
DEVICE = "0.0.013f"
COUNTERS = ("uevent_seqnum", "diskseq", "uevent", "stat", "statistics", "pci_msg/sprintf", "_time")
"""Attributes with numbers that a kernel never gives out twice, and what it notes."""

Action = Callable[[Host], object]


class Rig:
    """A machine with a PCI function and a DASD, in the state that `prepare` makes."""

    def __init__(self, prepare: Action) -> None:
        spec = MachineSpec(
            "small",
            paths=[ChannelPathSpec(0)],
            subchannels=[SubchannelSpec("0.0.0005", DEVICE, "dasd-3390", driver="dasd-eckd", online=True)],
            functions=[
                FunctionSpec(0x11, 0x10, "virtio-rng", driver="virtio-pci"),
                FunctionSpec(0x22, 0x22, "virtio-bell"),
                FunctionSpec(0x33, 0x33, "virtio-rng", driver="virtio-pci", options={"total_vfs": 2}),
            ],
        )
        self.backend = SoftwareBackend(Machine(spec))
        self.faults = self.backend.faults
        self.host = Host(self.backend)
        HostFiles(self.backend).make_directory(DIRECTORY)  # so that each run makes the same calls
        prepare(self.host)
        self.before = self.state()

    def state(self) -> dict[str, str]:
        """Every name of the host with its kind, target or text (read below the seam, where nothing fails)."""
        found: dict[str, str] = {}
        waiting: list[tuple[str, Node]] = [("", self.backend.machine.kernel.vfs.root)]
        while waiting:
            path, node = waiting.pop()
            if isinstance(node, Directory):
                found[path] = "directory"
                for name in node.names():
                    if f"{path}/{name}" == "/var/lib/pyvfio":
                        continue  # the journals, which `Sweep.end` looks at
                    if path == "/proc" and name.isdecimal():
                        continue  # the processes, this one among them, which always changes
                    if path == "/sys/module" or (path.startswith("/sys/bus/") and name == "devices"):
                        continue  # constant, and links to what is looked at anyway
                    below = node.lookup(name)
                    assert below is not None
                    waiting.append((f"{path}/{name}", below))
            elif isinstance(node, Symlink):
                found[path] = f"-> {node.target}"
            elif isinstance(node, Attribute) and node.show is not None and not path.endswith(COUNTERS):
                try:
                    found[path] = str(node.show())
                except OSError as error:
                    found[path] = f"errno {error.errno}"
            elif isinstance(node, RegularFile):
                found[path] = f"{node.st_mode:o} {bytes(node.data)!r}"
            else:
                found[path] = oct(node.st_mode)
        return found

    def calls(self, action: Action) -> list[tuple[str, str]]:
        """The calls of an action that succeeds."""
        log = self.faults.log = []
        action(self.host)
        self.faults.log = None
        return log

    def close(self) -> None:
        self.backend.close()


LOST = ("/reset", "/reset_method")
"""What Linux makes only for PCI functions that are there at boot."""


def differences(state: dict[str, str], other: dict[str, str]) -> list[str]:
    """What differs between two states, the first few."""
    return sorted(
        f"{path}: {other.get(path)} became {state.get(path)}"
        for path in state.keys() | other.keys()
        if state.get(path) != other.get(path) and not (path.endswith(LOST) and path not in state)
    )[:6]
