"""Links that save power by themselves: active state power management (``drivers/pci/pcie/aspm.c``, 6.12).

A link is that of a root or downstream port.  It *can* use a state (L0s in each direction, L1) which both of its ends
have, and from which it wakes faster than every endpoint below bears; it *does* as the policy says
(``pcie_aspm.policy``), but for what was taken from it in ``link`` of a function behind it::

    default          what firmware left in link control
    performance      none
    powersave        L0s and L1, once a driver enables a function behind it
    powersupersave   the same: no function here has substates of L1

A link is looked at when somebody asks for it; no function here has clock power management.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from enum import IntFlag
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.linux.kstrtox import kstrtobool
from pyvfio_backends.software.linux.module import Module
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.linux.pcie_type import express_type
from pyvfio_backends.software.linux.subsystems import Key
from pyvfio_backends.software.linux.vfs import Attribute, Directory, Node, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.pci_device import PciDevice
    from pyvfio_backends.software.linux.pcie_function import PcieFunction

__all__ = ["Aspm", "AspmLink", "LinkDirectory", "aspm", "boot"]

_ASPM: Final[Key[Aspm]] = Key("pcie_aspm")
_OFF: Final = "pcie_aspm=off"
_POLICIES: Final = ("default", "performance", "powersave", "powersupersave")
_PORTS: Final = (ExpressType.ROOT_PORT, ExpressType.DOWNSTREAM)
_ENDPOINTS: Final = (ExpressType.ENDPOINT, ExpressType.LEG_END)
_L0S_STEP, _L1_STEP, _SWITCH, _LAST = 64, 1000, 1000, 7
"""Nanoseconds of the least latencies, and what each link on the way adds to L1; the code without a bound."""
_L0S_SHIFT, _L1_SHIFT, _L0S_SLOWEST, _L1_SLOWEST = 12, 15, 5000, 65000
_L0S_BEARS, _L1_BEARS = 6, 9


class _State(IntFlag):
    """States of a link; L0s of its upstream and its downstream direction apart."""

    L0S_UP = 1
    L0S_DOWN = 2
    L1 = 4
    L0S = 3


_EVERY: Final = _State.L0S | _State.L1
_FILES: Final = {"l0s_aspm": _State.L0S, "l1_aspm": _State.L1}


class AspmLink:
    """The link of a port, whose other end is `downstream` (function 0 there)."""

    def __init__(self, owner: Aspm, port: PcieFunction, downstream: PciDevice) -> None:
        self.owner = owner
        self.port = port
        self.downstream = downstream
        self.disabled = _State(0)
        self.enabled = _State(0)
        up, down = (self._control(one) for one in (self._upper, downstream))
        if self._support():
            self.enabled |= _State.L0S_UP if down & express.PCI_EXP_LNKCTL_ASPM_L0S else _State(0)
            self.enabled |= _State.L0S_DOWN if up & express.PCI_EXP_LNKCTL_ASPM_L0S else _State(0)
            self.enabled |= _State.L1 if up & down & express.PCI_EXP_LNKCTL_ASPM_L1 else _State(0)
        self.default = self.enabled

    @property
    def _upper(self) -> PciDevice:
        port = self.port.pdev
        if port is None:  # the link goes with it
            raise fail(errno.ENODEV)
        return port

    @property
    def capable(self) -> _State:
        """The states that it can be in (``aspm_capable``)."""
        found = self._support()
        for endpoint, links in self._endpoints() if found else ():
            bears = endpoint.read_config(endpoint.express + regs.PCI_EXP_DEVCAP, 4)
            up, down = (self._capabilities(one) for one in (self._upper, self.downstream))
            short = _bearable(bears >> _L0S_BEARS, _L0S_STEP)
            if _exit(up >> _L0S_SHIFT, _L0S_STEP, _L0S_SLOWEST) > short:
                found &= ~_State.L0S_UP
            if _exit(down >> _L0S_SHIFT, _L0S_STEP, _L0S_SLOWEST) > short:
                found &= ~_State.L0S_DOWN
            slowest = max(_exit(one >> _L1_SHIFT, _L1_STEP, _L1_SLOWEST) for one in (up, down))
            if slowest + links * _SWITCH > _bearable(bears >> _L1_BEARS, _L1_STEP):
                found &= ~_State.L1
        return found

    def _support(self) -> _State:
        """What both ends have; nothing where a function behind is conventional or of PCI Express 1.0."""
        others = self.port.children()
        if not all(one.express and self._is_new(one) for one in others):
            return _State(0)
        both = self._capabilities(self._upper) & self._capabilities(self.downstream)
        found = _State.L0S if both & express.PCI_EXP_LNKCAP_ASPM_L0S else _State(0)
        return found | (_State.L1 if both & express.PCI_EXP_LNKCAP_ASPM_L1 else _State(0))

    @staticmethod
    def _is_new(device: PciDevice) -> bool:
        return bool(device.read_config(device.express + regs.PCI_EXP_DEVCAP, 4) & regs.PCI_EXP_DEVCAP_RBER)

    @staticmethod
    def _capabilities(device: PciDevice) -> int:
        return device.read_config(device.express + regs.PCI_EXP_LNKCAP, 4)

    @staticmethod
    def _control(device: PciDevice) -> int:
        return device.read_config(device.express + express.PCI_EXP_LNKCTL, 2)

    def _endpoints(self) -> Iterator[tuple[PciDevice, int]]:
        """The endpoints below, each with the number of links between this one and its own."""
        behind = self.port.subordinate
        for function in behind.walk() if behind is not None else ():
            device, links = function.pdev, 0
            if device is None or device.dead:  # it is being taken away
                continue
            above = function.on.above
            while above is not None and above is not self.port:
                links += above.pdev is not None and express_type(above.pdev) in _PORTS
                above = above.on.above
            if express_type(device) in _ENDPOINTS and device.power_state in ("D0", "unknown"):
                yield device, links

    def configure(self, wanted: _State) -> None:
        """Have it use these of its states (``pcie_config_aspm_link``)."""
        state = wanted & self.capable & ~self.disabled
        if state == self.enabled:
            return
        l1 = express.PCI_EXP_LNKCTL_ASPM_L1 if state & _State.L1 else 0
        upper = l1 | (express.PCI_EXP_LNKCTL_ASPM_L0S if state & _State.L0S_DOWN else 0)
        lower = l1 | (express.PCI_EXP_LNKCTL_ASPM_L0S if state & _State.L0S_UP else 0)
        for device, bits in ((self._upper, upper), *((one, lower) for one in self.port.children())):
            at = device.express + express.PCI_EXP_LNKCTL
            device.write_config(at, 2, device.read_config(at, 2) & ~express.PCI_EXP_LNKCTL_ASPMC | bits)
        self.enabled = state

    def files(self) -> dict[str, Node]:
        """What ``link`` of a function behind it has: the states that it can use."""
        able = self.capable
        return {
            name: Attribute(partial(self._show, state), partial(self._store, state))
            for name, state in _FILES.items()
            if able & state
        }

    def _show(self, state: _State) -> str:
        return f"{int(bool(self.enabled & state))}\n"

    def _store(self, state: _State, data: bytes) -> None:
        self.disabled = self.disabled & ~state if kstrtobool(data) else self.disabled | state
        self.configure(self.owner.wanted(self))


class LinkDirectory(Directory):
    """``link`` of a function: a file for each state that its link can use, found out when somebody looks."""

    __slots__ = ("_function",)

    def __init__(self, function: PcieFunction) -> None:
        self._function = function

    def _files(self) -> dict[str, Node]:
        known = aspm(self._function.bus.kernel)
        link = known.link(self._function) if known is not None else None
        return {} if link is None else link.files()

    def lookup(self, name: str) -> Node | None:
        """See `Directory.lookup`."""
        return self._files().get(name)

    def names(self) -> Iterable[str]:
        """See `Directory.names`."""
        return list(self._files())


def _exit(code: int, step: int, slowest: int) -> int:
    """How long leaving a state takes, in nanoseconds, by its code in link capabilities."""
    return slowest if code & _LAST == _LAST else step << (code & _LAST)


def _bearable(code: int, step: int) -> float:
    """How long a device bears it to take, by its code in device capabilities."""
    return float("inf") if code & _LAST == _LAST else step << (code & _LAST)


class Aspm:
    """The links that were looked at, by their ports, and the policy for all."""

    def __init__(self) -> None:
        self.policy = _POLICIES[0]
        self._links: dict[PcieFunction, AspmLink] = {}

    def wanted(self, link: AspmLink) -> _State:
        """What the policy wants of a link (``policy_to_aspm_state``)."""
        if self.policy == "default":
            return link.default
        return _State(0) if self.policy == "performance" else _EVERY

    def link(self, function: PcieFunction) -> AspmLink | None:
        """The link that a function is behind; None on a root bus, inside a switch, and behind a conventional bridge."""
        physical = function.virtual_of
        on = function.on if physical is None else cast("PcieFunction", physical.sysdata).on
        return None if on.above is None else self._of(on.above)

    def _of(self, port: PcieFunction) -> AspmLink | None:
        device = port.pdev
        if device is None or express_type(device) not in _PORTS:
            return None
        first = next((one for one in port.children() if one.devfn == 0), None)
        known = self._links.get(port)
        if known is None or known.downstream is not first:
            if first is None or not first.express:
                return None
            known = self._links[port] = AspmLink(self, port, first)
            if self.policy in _POLICIES[:2]:
                self._configure_path(known)
        return known

    def _configure_path(self, link: AspmLink | None) -> None:
        """Have a link do as the policy says, and those above it, for which the endpoints below matter, too.

        Source: ``pcie_config_aspm_path``.
        """
        while link is not None:
            link.configure(self.wanted(link))
            switch = link.port.on.above
            above = None if switch is None else switch.on.above
            link = None if above is None else self._of(above)

    def enable(self, function: PcieFunction) -> None:
        """A driver enables a function (``pcie_aspm_powersave_config_link``)."""
        if self.policy in _POLICIES[2:]:
            self._configure_path(self.link(function))

    def leave(self, function: PcieFunction) -> None:
        """A function goes, and with the first of its device the link's state (``pcie_aspm_exit_link_state``)."""
        port = function.on.above
        known = None if port is None else self._links.get(port)
        if known is not None and port is not None and known.downstream is function.pdev:
            known.configure(_State(0))
            del self._links[port]
            switch = port.on.above
            if switch is not None:  # the links above need not be as fast for it any more
                self._configure_path(self.link(switch))

    def show(self) -> str:
        """``/sys/module/pcie_aspm/parameters/policy``."""
        return "".join(f"[{name}] " if name == self.policy else f"{name} " for name in _POLICIES) + "\n"

    def store(self, kernel: Kernel, data: bytes) -> None:
        """Change the policy, of all links.  Raise OSError EINVAL for a word that is none."""
        from pyvfio_backends.software.linux.pcie_function import PcieFunction

        word = data.decode("ascii", "replace").removesuffix("\n")
        if word not in _POLICIES:
            raise fail(errno.EINVAL)
        if word == self.policy:
            return
        devices = [one for one in list(kernel.buses["pci"].devices.values()) if isinstance(one, PciDevice)]
        functions = [one.sysdata for one in devices if isinstance(one.sysdata, PcieFunction)]
        links = {link for one in functions if (link := self._of(one)) is not None}
        self.policy = word
        for link in links:
            link.configure(self.wanted(link))


def aspm(kernel: Kernel) -> Aspm | None:
    """The links; None where the command line has them left alone."""
    return kernel.subsystems.get(_ASPM)


def boot(kernel: Kernel) -> None:
    """Have it, with its parameter, unless ``pcie_aspm=off``."""
    if _OFF in kernel.cmdline.split():
        return
    found = Aspm()
    for word in kernel.cmdline.split():
        name, _, value = word.partition("=")
        if name == "pcie_aspm.policy" and value in _POLICIES:
            found.policy = value
    kernel.subsystems[_ASPM] = found
    policy = Attribute(found.show, partial(found.store, kernel))
    kernel.modules.load(Module("pcie_aspm", parameters={"policy": policy}, built_in=True))
