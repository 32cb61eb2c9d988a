"""Capabilities that a machine file adds to PCI Express functions."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyvfio import Host
from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.errors import BadMachine
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import PcieCapabilitySpec, PcieFunctionSpec
from pyvfio_backends.software.loader import load_machine
from pyvfio_backends.software.machine import Machine
from pyvfio_backends.software.pcie_capabilities import KINDS

HEAD = """
[machine]
name = "capabilities"
architecture = "x86_64"
modules = ["vfio", "vfio_iommu_type1", "iommufd", "vfio_pci"]
[[pcie.bus]]
"""
PORT = """
[[pcie.function]]
id = "port"
model = "{port}"
behind = "0000:00"
at = "01.0"
slot = 1
"""
EVERY = """
[[pcie.function.capability]]
kind = "vpd"
options = { name = "card", PN = "1" }
[[pcie.function.capability]]
kind = "vendor"
options = { body = "0102", writable = "00ff" }
[[pcie.function.capability]]
kind = "aer"
[[pcie.function.capability]]
kind = "acs"
options = { services = "RR CR EC", egress_ports = 4 }
[[pcie.function.capability]]
kind = "ari"
options = { next = 1 }
[[pcie.function.capability]]
kind = "ats"
options = { depth = 4 }
[[pcie.function.capability]]
kind = "pasid"
options = { width = 16, privileged = true }
[[pcie.function.capability]]
kind = "ltr"
[[pcie.function.capability]]
kind = "dsn"
options = { number = 0x0102030405060708 }
[[pcie.function.capability]]
kind = "vc"
[[pcie.function.capability]]
kind = "vsec"
options = { number = 7, body = "00112233" }
[[pcie.function.capability]]
kind = "dvsec"
options = { vendor = 0x1e98, number = 3, body = "0011" }
"""
EXTENDED = {
    extended.PCI_EXT_CAP_ID_ERR, regs.PCI_EXT_CAP_ID_ACS, extended.PCI_EXT_CAP_ID_ARI, extended.PCI_EXT_CAP_ID_ATS,
    extended.PCI_EXT_CAP_ID_PASID, extended.PCI_EXT_CAP_ID_LTR, extended.PCI_EXT_CAP_ID_DSN,
    extended.PCI_EXT_CAP_ID_VC, extended.PCI_EXT_CAP_ID_VNDR, extended.PCI_EXT_CAP_ID_DVSEC,
}  # fmt: skip


def function(model: str = "nvme", behind: str = "port", at: str = "00.0") -> str:
    return f'[[pcie.function]]\nmodel = "{model}"\nbehind = "{behind}"\nat = "{at}"\n'


def one(kind: str, options: str = "{}", at: int = -1) -> str:
    return f'[[pcie.function.capability]]\nkind = "{kind}"\nat = {at}\noptions = {options}\n'


def written(tmp_path: Path, *parts: str) -> Path:
    path = tmp_path / "capabilities.toml"
    path.write_text(HEAD + "".join(parts))
    return path


def test_all_kinds_are_there_with_what_was_said(tmp_path: Path) -> None:
    path = written(tmp_path, PORT.format(port="pcie-root-port"), function(), EVERY)
    machine = Machine(load_machine(path))
    try:
        found = machine.pcie.function(0, 0x0100)
        assert found is not None
        config = found.config

        def at(number: int, *, is_extended: bool = True) -> int:
            offset = found.offset(number, extended=is_extended)
            assert offset is not None
            return offset

        assert {number for number in EXTENDED if found.offset(number, extended=True)} == EXTENDED
        assert config.read(at(extended.PCI_EXT_CAP_ID_DSN) + 4, 8) == 0x0102030405060708
        assert config.read(at(regs.PCI_EXT_CAP_ID_ACS) + regs.PCI_ACS_CAP, 2) == 4 << 8 | 0x2C
        assert config.read(at(extended.PCI_EXT_CAP_ID_PASID) + extended.PCI_PASID_CAP, 2) == 16 << 8 | 4
        assert config.read(at(extended.PCI_EXT_CAP_ID_ATS) + extended.PCI_ATS_CAP, 2) & 0x1F == 4
        vendors = at(regs.PCI_CAP_ID_VNDR, is_extended=False)
        config.write(vendors + 3, 2, 0xFFFF)
        assert config.read(vendors + 2, 1) == 5
        assert config.read(vendors + 3, 2) == 0xFF01
    finally:
        machine.close()


def test_access_control_decides_about_groups(tmp_path: Path) -> None:
    for more, groups in (("", 1), (one("acs"), 2)):
        path = written(tmp_path, PORT.format(port="ioh3420"), more, function())
        with Host("software", machine=str(path)) as host:
            found = [host.device(name).group for name in ("0000:00:01.0", "0000:01:00.0")]
            assert len({group.number for group in found if group is not None}) == groups


def test_a_device_that_keeps_all_its_bytes_has_room_for_more(tmp_path: Path) -> None:
    path = written(tmp_path, PORT.format(port="ioh3420"), function("e1000e"), one("vc"), one("ltr"))
    machine = Machine(load_machine(path))
    found = machine.pcie.function(0, 0x0100)
    assert found is not None
    places = [
        found.offset(number, extended=True) for number in (extended.PCI_EXT_CAP_ID_VC, extended.PCI_EXT_CAP_ID_LTR)
    ]
    machine.close()
    assert None not in places


def test_a_card_that_is_plugged_has_them_too(tmp_path: Path) -> None:
    backend = SoftwareBackend(Machine(load_machine(written(tmp_path, PORT.format(port="pcie-root-port")))))
    spec = PcieFunctionSpec("copier", "card", capability=[PcieCapabilitySpec("dsn", options={"number": 5})])
    (card,) = backend.machine.slots.plug("1", [spec]).values()
    backend.machine.close()
    assert card.offset(extended.PCI_EXT_CAP_ID_DSN, extended=True)


def test_a_next_function_that_is_not_there_is_not_looked_for_any_further(tmp_path: Path) -> None:
    path = written(tmp_path, PORT.format(port="pcie-root-port"), function(), one("ari", "{ next = 9 }"))
    machine = Machine(load_machine(path))
    names = list(machine.kernel.buses["pci"].devices)
    machine.close()
    assert names == ["0000:00:01.0", "0000:01:00.0"]


@pytest.mark.parametrize(
    ("model", "text", "cause"),
    [
        ("nvme", one("x"), f"x: there is no such capability; there is {', '.join(KINDS)}"),
        ("edu", one("vc"), "vc: the function is not PCI Express"),
        ("nvme", one("dsn"), "dsn: number is not given"),
        ("nvme", one("dsn", "{ number = -1 }"), "dsn: number is no number from 0 to 0xffffffffffffffff: -1"),
        ("nvme", one("ats", "{ deep = 1 }"), "ats: it has no option 'deep'; it has depth, page_aligned"),
        ("nvme", one("ltr", "{ x = 1 }"), "ltr: it has no option 'x'; it has none"),
        ("nvme", one("acs", '{ services = "SV XX" }'), "acs: services is no list of SV TB RR CR UF EC DT: 'SV XX'"),
        ("nvme", one("acs", '{ services = "EC" }'), "acs: egress control (EC) needs egress_ports"),
        ("nvme", one("vendor", '{ body = "0" }'), "vendor: body is no hexadecimal of 1 to 128 bytes: '0'"),
        ("nvme", one("vpd", '{ pn = "1" }'), "vpd: 'pn' is no key of a field (two capital letters, not RV)"),
        ("nvme", one("vpd", "{ PN = 1 }"), "vpd: PN is no ASCII text of up to 255 characters: 1"),
        ("nvme", one("vpd", "{ readonly = 1 }"), "vpd: readonly is true or false, not 1"),
        ("nvme", one("vc") + one("vc"), "vc: the function has it already"),
        ("copier", one("aer"), "aer: the function has it already"),
        ("nvme", one("ssvid", "{ vendor = 1 }"), "ssvid: only a bridge has it, others have it in the header"),
        ("nvme", one("vendor", '{ body = "00" }', at=0x60), "no room for 4 bytes at 0x60"),
        ("nvme", one("vc", at=0x102), "vc: the first extended capability is at 0x100, not at 0x102"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_with_its_line(tmp_path: Path, model: str, text: str, cause: str) -> None:
    path = written(tmp_path, PORT.format(port="ioh3420"), function(model), text)
    with pytest.raises(BadMachine) as caught:
        load_machine(path)
    assert caught.value.cause == cause
    assert caught.value.line


def test_an_unknown_key_is_named_with_its_own_line(tmp_path: Path) -> None:
    path = written(tmp_path, PORT.format(port="ioh3420"), function(), one("vc"), one("ltr"), "kid = 1\n")
    with pytest.raises(BadMachine) as caught:
        load_machine(path)
    assert caught.value.line == len(path.read_text().splitlines())
