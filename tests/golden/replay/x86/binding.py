"""Replays of binding: ``bind_semantics`` and ``group_viability``."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from pyvfio.abi import vfio

from .facts import Keys
from .lab import CONTAINER, DEVICES, DRIVERS, Answers, Lab, attempt

__all__ = ["bind_semantics", "group_viability"]

_VFIO = "vfio-pci"
_STUB = "pci-stub"
_NATIVE = "e1000e"
_TEST = "0000:00:07.0"
_TESTS = ("0000:00:07.0", "0000:00:07.1", "0000:0a:02.0")
_NIC = "0000:41:00.0"
_PORT = "0000:00:08.0"
_TEST_ID, _NIC_ID = "1b36 0005", "8086 10d3"
_LONGEST = 4096


class _Binding:
    """The script of ``bind_semantics``, part by part."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.answers = Answers()

    def write(self, key: str, path: str, data: str | bytes) -> None:
        self.answers.ask(key, lambda: self.lab.seam.write(path, data))

    def bind(self, key: str, data: str | bytes, driver: str = _VFIO) -> None:
        self.write(key, f"{DRIVERS}/{driver}/bind", data)

    def unbind(self, key: str, data: str | bytes, driver: str = _VFIO) -> None:
        self.write(key, f"{DRIVERS}/{driver}/unbind", data)

    def override(self, key: str, data: str | bytes, address: str = _TEST) -> None:
        self.write(key, f"{DEVICES}/{address}/driver_override", data)

    def driver(self, key: str, address: str = _TEST) -> None:
        self.answers[key] = self.lab.driver(address)

    def files(self, addresses: list[str]) -> None:
        lab, path = self.lab, f"{DRIVERS}/{_VFIO}"
        self.answers["drivers_at_start"] = lab.drivers(addresses)
        names = lab.seam.listing(path)
        self.answers["driver_dir_vfio"] = names
        self.answers["driver_dir_modes"] = {name: lab.mode(f"{path}/{name}") for name in names if name != "module"}
        self.answers.ask("read_bind_file", lambda: lab.host.open(f"{path}/bind", os.O_RDONLY))

    def misses(self) -> None:
        self.bind("bind_no_match", _TEST)
        self.bind("bind_nonexistent_device", "0000:ff:1f.7")
        self.bind("bind_garbage", "garbage")
        self.bind("bind_empty_string_newline", "\n")
        self.unbind("unbind_unbound", _TEST)
        self.unbind("unbind_bound_to_other_driver", _NIC)

    def with_override(self) -> None:
        answers, lab = self.answers, self.lab
        answers.ask("override_default_read", lambda: lab.text(f"{DEVICES}/{_TEST}/driver_override"))
        self.override("override_write", _VFIO)
        answers.ask("override_read", lambda: lab.text(f"{DEVICES}/{_TEST}/driver_override"))
        self.driver("override_does_not_bind")
        self.bind("bind_with_override", _TEST)
        self.driver("bound")
        self.bind("bind_again_same", _TEST)
        self.write("drivers_probe_when_bound", "/sys/bus/pci/drivers_probe", _TEST)
        self.override("override_other_while_bound", _STUB)
        self.driver("still_bound")
        self.unbind("unbind_returns", _TEST)
        self.bind("bind_when_override_is_other", _TEST)
        self.write("drivers_probe_override_other_nomatch_id", "/sys/bus/pci/drivers_probe", _TEST)
        self.driver("after_probe")
        self.write("drivers_probe_nonexistent", "/sys/bus/pci/drivers_probe", "0000:ff:1f.7")
        attempt(lambda: lab.unbind(_STUB, _TEST))

    def spellings(self) -> None:
        answers, lab = self.answers, self.lab
        self.override("override_newline_in_value", f"{_VFIO}\n")
        answers.ask("override_newline_read", lambda: lab.seam.read(f"{DEVICES}/{_TEST}/driver_override").decode())
        self.bind("bind_with_trailing_newline", f"{_TEST}\n")
        self.driver("bound_nl")
        self.unbind("unbind_with_trailing_newline", f"{_TEST}\n")
        self.bind("bind_two_newlines", f"{_TEST}\n\n")
        self.driver("bound_2nl")
        self.bind("bind_trailing_space", f"{_TEST} ")
        self.bind("bind_uppercase_or_short", _TEST.partition(":")[2])
        self.bind("bind_nul_terminated", f"{_TEST}\0")
        self.driver("bound_nul")
        attempt(lambda: lab.unbind(_VFIO, _TEST))

    def overrides(self) -> None:
        answers, lab = self.answers, self.lab
        path = f"{DEVICES}/{_TEST}/driver_override"
        self.override("override_clear_newline", "\n")
        answers.ask("override_cleared", lambda: lab.text(path))
        attempt(lambda: lab.override(_TEST, _VFIO))
        self.override("override_clear_nul", b"\0")
        answers.ask("override_cleared_nul", lambda: lab.text(path))
        attempt(lambda: lab.override(_TEST, _VFIO))
        self.override("override_clear_empty_write", b"")
        answers.ask("override_after_empty", lambda: lab.text(path))
        for length in (_LONGEST, _LONGEST - 1, _LONGEST - 2):
            self.override(f"override_{length}", "x" * length)
        self.override("override_nonexistent_driver_ok", "no-such")
        self.bind("bind_override_nonexistent", _TEST)
        attempt(lambda: lab.override(_TEST, "\n"))

    def native(self) -> None:
        lab = self.lab
        self.driver("native_driver", _NIC)
        self.bind("bind_while_bound_elsewhere_no_override", _NIC)
        attempt(lambda: lab.override(_NIC, _VFIO))
        self.bind("bind_while_bound_elsewhere_with_override", _NIC)
        self.driver("native_driver_after", _NIC)
        self.unbind("unbind_native", _NIC, _NATIVE)
        self.bind("native_bind_with_override_vfio", _NIC, _NATIVE)
        self.write("probe", "/sys/bus/pci/drivers_probe", _NIC)
        self.driver("probe_driver", _NIC)
        link = f"{DEVICES}/{_NIC}/driver/unbind"
        self.write("device_driver_unbind_link", link, _NIC)
        self.write("device_driver_unbind_after_gone", link, _NIC)
        attempt(lambda: lab.override(_NIC, "\n"))
        attempt(lambda: lab.probe(_NIC))
        self.driver("native_back", _NIC)

    def ids(self) -> None:
        answers, lab = self.answers, self.lab
        new, remove = f"{DRIVERS}/{_VFIO}/new_id", f"{DRIVERS}/{_VFIO}/remove_id"
        self.write("new_id_short", new, "1b36")
        self.write("new_id_garbage", new, "zz yy")
        self.write("remove_id_not_there", remove, _TEST_ID)
        self.write("new_id", new, _TEST_ID)
        answers["new_id_bound_at_once"] = lab.drivers(_TESTS)
        self.write("new_id_again", new, _TEST_ID)
        self.write("new_id_of_native_bound_device", new, _NIC_ID)
        self.driver("native_not_stolen", _NIC)
        attempt(lambda: lab.seam.write(remove, _NIC_ID))
        self.write("remove_id", remove, _TEST_ID)
        answers["remove_id_does_not_unbind"] = lab.drivers(_TESTS)
        self.write("remove_id_again", remove, _TEST_ID)
        for address in _TESTS:
            attempt(partial(lab.unbind, _VFIO, address))

    def bridge(self) -> None:
        lab = self.lab
        self.unbind("unbind_pcieport", _PORT, "pcieport")
        attempt(lambda: lab.override(_PORT, _VFIO))
        self.bind("bind_bridge_to_vfio_pci", _PORT)
        self.write("probe_bridge_to_vfio_pci", "/sys/bus/pci/drivers_probe", _PORT)
        self.driver("probe_bridge_driver", _PORT)
        attempt(lambda: lab.override(_PORT, "\n"))
        self.bind("rebind_pcieport", _PORT, "pcieport")
        self.driver("bridge_driver_back", _PORT)
        self.answers["vfio_devs"] = [name for name in lab.seam.listing("/dev/vfio") if name != "devices"]


def bind_semantics(lab: Lab, questions: Keys) -> Answers:
    """What each word in each file of a driver and of a device comes to."""
    script = _Binding(lab)
    script.files(list(questions["drivers_at_start"] or {}))
    for part in (script.misses, script.with_override, script.spellings, script.overrides):
        part()
    script.native()
    script.ids()
    script.bridge()
    return script.answers


def group_viability(lab: Lab, questions: Keys) -> Answers:
    """Which drivers of its group's other functions let a function be used."""
    answers = Answers()
    answers["group_of_0000:01:00.0"] = _owned(lab, "0000:01:00.0", "0000:02:00.0")
    answers["unviable"] = _unviable(lab, "0000:0c:00.0")
    return answers


def _drivers(lab: Lab, address: str) -> dict[str, str | None]:
    return lab.drivers(lab.members(lab.group(address)))


def _owned(lab: Lab, address: str, sibling: str) -> Answers:
    answers = Answers()
    # the recorder had taken the NIC from its driver before
    attempt(lambda: lab.unbind(_NATIVE, address))
    node = f"/dev/vfio/{lab.group(address)}"
    answers["members_before"] = _drivers(lab, address)
    answers["dev_node_before_bind"] = lab.seam.exists(node)
    attempt(lambda: lab.take(address))
    answers["members"] = _drivers(lab, address)
    answers["dev_node"] = lab.seam.exists(node)
    fds: list[int] = []

    def opened(fd: int) -> int:
        fds.append(fd)
        return fd

    def bound(driver: str) -> list[Any]:
        written = lab.override(sibling, driver) and lab.bind(driver, sibling)
        return [written, lab.driver(sibling)]

    group = attempt(lambda: opened(lab.open_group(address)))
    container = attempt(lambda: opened(lab.open(CONTAINER)))
    answers.ask("status_flags", lambda: lab.group_flags(group))
    answers.ask("set_container", lambda: lab.set_container(group, container))
    answers.ask("status_after", lambda: lab.group_flags(group))
    answers.ask("set_iommu", lambda: lab.host.ioctl(container, vfio.VFIO_SET_IOMMU, vfio.VFIO_TYPE1v2_IOMMU))
    answers.ask("get_device_fd", lambda: opened(lab.seam.device_fd(group, address)))
    answers.ask(f"bind_{sibling}_to_{_STUB}_while_group_owned", lambda: bound(_STUB))
    answers.ask(f"unbind_{sibling}", lambda: lab.unbind(_STUB, sibling))
    answers.ask(f"bind_{sibling}_to_{_VFIO}_while_group_owned", lambda: bound(_VFIO))
    lab.seam.close_all(reversed(fds))
    return answers


def _unviable(lab: Lab, address: str) -> Answers:
    answers = Answers()
    answers["members_before"] = _drivers(lab, address)
    attempt(lambda: lab.take(address))
    group = attempt(lambda: lab.open_group(address))
    container = attempt(lambda: lab.open(CONTAINER))
    answers.ask("status_flags", lambda: lab.group_flags(group))
    answers["members"] = _drivers(lab, address)
    answers.ask("set_container", lambda: lab.set_container(group, container))
    answers.ask("set_container_then_status", lambda: lab.group_flags(group))
    answers.ask("set_iommu", lambda: lab.host.ioctl(container, vfio.VFIO_SET_IOMMU, vfio.VFIO_TYPE1v2_IOMMU))
    answers.ask("get_device_fd", lambda: lab.seam.device_fd(group, address))
    lab.seam.close_all(fd for fd in (group, container) if isinstance(fd, int))
    return answers
