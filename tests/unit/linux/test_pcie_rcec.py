"""Root complex event collectors and integrated endpoints, as Linux 6.12 handles them.

QEMU has no event collector: in 10.0 no device has PCI Express capability type 0xa, and an endpoint on a root bus, which
it calls integrated, has errors that nobody hears.  So of all this a lab can only show the refusal of ``aer_inject``.
Source of each rule: ``drivers/pci/pcie/rcec.c``, ``aer.c`` (`find_source_device`, `aer_enable_rootport`,
`aer_root_reset`), ``err.c`` (`pci_walk_bridge`), ``pme.c``, ``portdrv.c`` (`port_pci_ids`, `pcie_portdrv_probe`) and
``aer_inject.c``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from error_rig import Answers, Errors
from pci_fixture import BUS, errno_of
from test_pcie_recovery import BEGIN, FAILED, SUCCESS

import pyvfio
from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.aer_inject import AER_INJECT, AER_INJECT_NODE
from pyvfio.binding import Plan, plan_bind, plan_unbind
from pyvfio.drivers import Nvme
from pyvfio.errors import Misuse, NotAvailable
from pyvfio.pci.aer import Severity
from pyvfio.pci.error_poll import HostErrors, error_roots
from pyvfio.testing.devices import BoundFunction
from pyvfio_backends.software import software_of
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import MachineSpec, PcieBusSpec, PcieFunctionSpec
from pyvfio_backends.software.linux.kernel_log import kernel_log
from pyvfio_backends.software.linux.pci import PciBus
from pyvfio_backends.software.linux.pci_driver import PciId, Recovery
from pyvfio_backends.software.machine import Machine
from pyvfio_backends.software.pcie_tree import build_card
from pyvfio_fixtures import golden

DISK, OTHER, DEAF = "0000:00:02.0", "0000:00:02.1", "0000:00:03.0"
"""Device 2 has two functions that `COLLECTOR` is for; it is not for device 3."""
COLLECTOR, FAR = "0000:00:1e.0", "0000:20:01.0"
"""`FAR` is on another root bus that `COLLECTOR` is for."""
NIC = "0000:20:02.0"
_INSIDE = {"integrated": True}
_SPEC = [
    PcieFunctionSpec("q35-host", "0000:00", "00.0"),
    PcieFunctionSpec("nvme", "0000:00", "02.0", options=_INSIDE),
    PcieFunctionSpec("nvme", "0000:00", "02.1", options=_INSIDE),
    PcieFunctionSpec("nvme", "0000:00", "03.0", options=_INSIDE),
    PcieFunctionSpec("event-collector", "0000:00", "1e.0", options={"devices": [2], "buses": [0x20, 0x2F]}),
    PcieFunctionSpec("nvme", "0000:20", "01.0", options=_INSIDE),
    PcieFunctionSpec("pair-nic", "0000:20", "02.0", options={"mac": "52:54:00:00:00:01", **_INSIDE}),
]


class Inside(Errors):
    """A machine with functions of the root complex; the driver `answers` has the NVMe controllers."""

    def __init__(self, functions: list[PcieFunctionSpec] | None = None) -> None:
        self.machine = Machine(
            MachineSpec(
                name="inside",
                architecture="x86_64",
                memory=512 << 20,
                modules=("vfio", "vfio_iommu_type1", "vfio_pci", "aer_inject"),
                pcie_buses=[PcieBusSpec(), PcieBusSpec(number=0x20)],
                pcie_functions=functions or _SPEC,
            )
        )
        self.kernel = self.machine.kernel
        self.host = SoftwareBackend(self.machine)
        self.complex = self.machine.pcie
        bus = self.kernel.buses["pci"]
        assert isinstance(bus, PciBus)
        self.answers = Answers(bus)
        self.answers.table = (PciId(class_code=0x010802, class_mask=0xFFFFFF),)
        with self.machine.lock:
            bus.register(self.answers)
        self.events = self.host.uevents()
        self.booted = len(kernel_log(self.kernel).lines)

    def asked(self) -> list[tuple[str, str, str]]:
        found, self.answers.asked = self.answers.asked, []
        return found


@pytest.fixture
def made() -> Iterator[Inside]:
    rig = Inside()
    yield rig
    rig.host.close()


# ---- who has what ----------------------------------------------------------------------------------------------------


def test_a_collector_has_the_driver_of_ports_and_its_services(made: Inside) -> None:
    assert made.driver(COLLECTOR) == "pcieport"
    services = [name for name in made.host.listdir(f"{BUS}/devices/{COLLECTOR}") if ":pcie" in name]
    assert services == [f"{COLLECTOR}:pcie601", f"{COLLECTOR}:pcie602"]
    drivers = [made.text(f"/sys/bus/pci_express/devices/{name}/uevent") for name in services]
    assert drivers == ["DRIVER=pcie_pme\n", "DRIVER=aer\n"]
    irqs = made.device(COLLECTOR).msi.irqs
    assert kernel_log(made.kernel).lines[:2] == [
        f"pcieport {COLLECTOR}: PME: Signaling with IRQ {irqs[0]}",
        f"pcieport {COLLECTOR}: AER: enabled with IRQ {irqs[1]}",
    ]
    assert made.register(COLLECTOR, extended.PCI_ERR_ROOT_COMMAND) == 7
    shown = [name for name in made.host.listdir(f"{BUS}/devices/{COLLECTOR}") if name.startswith("aer_")]
    assert len(shown) == 6
    assert sum("rootport_total_err_" in name for name in shown) == 3
    assert len([n for n in made.host.listdir(f"{BUS}/devices/{DISK}") if n.startswith("aer_")]) == 3


def test_who_is_linked_to_it(made: Inside) -> None:
    """By device number on its own bus, and all on other buses of the range."""
    collector = made.device(COLLECTOR)
    linked = {name for name in (DISK, OTHER, DEAF, FAR, NIC) if made.device(name).collector is collector}
    assert linked == {DISK, OTHER, FAR, NIC}


def test_an_endpoint_found_later_is_walked_but_not_linked(made: Inside) -> None:
    """The collector's driver links those that are there when it takes it; errors are looked for among all."""
    made.write(f"{BUS}/devices/{DISK}/remove", "1")
    made.write("/sys/bus/pci/rescan", "1")
    assert made.device(DISK).collector is None
    made.inject(DISK, "RxErr")
    assert made.counters(DISK, Severity.CORRECTABLE) == {"RxErr": 1}


@pytest.mark.parametrize("linked", [True, False])
def test_interrupts_are_off_while_a_linked_endpoint_is_reset(made: Inside, linked: bool) -> None:
    """``aer_root_reset`` knows the root registers by ``dev->rcec``."""
    if not linked:
        made.device(DISK).collector = None
    commands: list[int] = []
    function = made.hardware(COLLECTOR)
    at = function.offset(extended.PCI_EXT_CAP_ID_ERR, extended=True)
    assert at is not None
    register = at + extended.PCI_ERR_ROOT_COMMAND
    function.config.watch(register, 4, lambda before, ones: commands.append(function.config.read(register, 4)))
    made.inject(DISK, "DLP")
    assert commands == ([0, 7] if linked else [])
    assert made.log[-1] == f"answers {DISK}: AER: device recovery successful"


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_a_correctable_error_is_counted_and_cleared(made: Inside) -> None:
    made.inject(DISK, "RxErr")
    assert made.messages(COLLECTOR) == (1, 0, 0)
    assert made.counters(DISK, Severity.CORRECTABLE) == {"RxErr": 1}
    assert made.register(DISK, extended.PCI_ERR_COR_STATUS) == 0
    assert made.asked() == []


def test_a_nonfatal_error_has_the_endpoint_asked_and_nobody_else(made: Inside) -> None:
    made.inject(DISK, "COMP_TIME")
    assert made.asked() == [
        (DISK, "error_detected", "normal"),
        (DISK, "mmio_enabled", "normal"),
        (DISK, "resume", "normal"),
    ]
    assert made.told() == [(DISK, BEGIN), (DISK, SUCCESS)]
    assert made.log[-1] == f"answers {DISK}: AER: device recovery successful"
    assert made.messages(COLLECTOR) == (0, 1, 0)
    assert made.register(DISK, extended.PCI_ERR_UNCOR_STATUS) == 0


def test_a_fatal_error_has_the_endpoint_reset_by_itself(made: Inside) -> None:
    """By function-level reset: there is no link; what the error was is not read, as of any endpoint."""
    for name in (DISK, OTHER):
        made.hardware(name).config.write(regs.PCI_INTERRUPT_LINE, 1, 0x77)
    made.inject(DISK, "DLP")
    assert made.asked() == [
        (DISK, "error_detected", "frozen"),
        (DISK, "mmio_enabled", "frozen"),
        (DISK, "resume", "normal"),
    ]
    lines = [made.hardware(name).config.read(regs.PCI_INTERRUPT_LINE, 1) for name in (DISK, OTHER)]
    assert lines == [0, 0x77]
    assert made.log == [
        f"pcieport {COLLECTOR}: AER: Uncorrectable (Fatal) error message received from {DISK}",
        f"answers {DISK}: AER: PCIe Bus Error: severity=Uncorrectable (Fatal), type=Inaccessible, "
        "(Unregistered Agent ID)",
        f"answers {DISK}: AER: has been reset",
        f"answers {DISK}: AER: device recovery successful",
    ]
    assert made.messages(COLLECTOR) == (0, 0, 1)
    assert made.register(COLLECTOR, extended.PCI_ERR_ROOT_COMMAND) == 7
    assert made.register(COLLECTOR, extended.PCI_ERR_ROOT_STATUS) & 0xFF == 0


def test_it_is_reset_by_its_function_level_reset_whatever_is_chosen(made: Inside) -> None:
    made.write(f"{BUS}/devices/{DISK}/reset_method", "")
    made.inject(DISK, "DLP")
    assert f"answers {DISK}: AER: has been reset" in made.log


def test_without_a_function_level_reset_recovery_fails(made: Inside) -> None:
    function = made.hardware(DISK)
    at = (function.offset(regs.PCI_CAP_ID_EXP) or 0) + regs.PCI_EXP_DEVCAP
    function.config.put(at, 4, function.config.read(at, 4) & ~regs.PCI_EXP_DEVCAP_FLR)
    made.inject(DISK, "DLP")
    assert made.asked() == [(DISK, "error_detected", "frozen")]
    assert made.log[-3:] == [
        f"answers {DISK}: AER: not reset (no FLR support: -25)",
        f"answers {DISK}: AER: subordinate device reset failed",
        f"answers {DISK}: AER: device recovery failed",
    ]
    assert made.told() == [(DISK, BEGIN), (DISK, FAILED)]


@pytest.mark.parametrize("question", ["error_detected", "mmio_enabled", "slot_reset"])
def test_a_driver_that_gives_up_ends_it(made: Inside, question: str) -> None:
    if question == "slot_reset":
        made.answers.said[DISK, "error_detected"] = Recovery.NEED_RESET
    made.answers.said[DISK, question] = Recovery.DISCONNECT
    made.inject(DISK, "COMP_TIME")
    assert made.told()[-1] == (DISK, FAILED)


def test_without_a_driver_recovery_fails(made: Inside) -> None:
    made.write(f"{BUS}/drivers/answers/unbind", DISK)
    made.inject(DISK, "COMP_TIME")
    assert made.log[-2:] == [
        f"pci {DISK}: AER: can't recover (no error_detected callback)",
        f"pci {DISK}: AER: device recovery failed",
    ]


def test_several_errors_are_looked_for_among_all_of_the_collector(made: Inside) -> None:
    """On bus 0 a source id tells Linux nothing: status registers do."""
    with made.machine.lock:
        for name in (OTHER, DISK):
            made.hardware(name).errors.uncorrectable(extended.PCI_ERR_UNC_COMP_TIME, None)
        made.machine.clock.settle()
    assert [name for name, what, _ in made.asked() if what == "resume"] == [DISK, OTHER]
    assert f"answers {DISK}: PCIe Bus Error: severity=Uncorrectable (Non-Fatal)" in "\n".join(made.log)


def test_errors_of_another_root_bus_have_a_source(made: Inside) -> None:
    made.inject(FAR, "COMP_TIME")
    assert [name for name, _, _ in made.asked()] == [FAR] * 3
    assert made.messages(COLLECTOR) == (0, 1, 0)


def test_nobody_hears_whom_no_collector_is_for(made: Inside) -> None:
    made.inject(DEAF, "COMP_TIME", "DLP")
    assert made.log == []
    assert made.messages(COLLECTOR) == (0, 0, 0)
    assert made.register(DEAF, extended.PCI_ERR_UNCOR_STATUS) == 0x4010


def test_a_masked_error_sends_nothing(made: Inside) -> None:
    made.set_register(DISK, extended.PCI_ERR_UNCOR_MASK, extended.PCI_ERR_UNC_COMP_TIME)
    made.inject(DISK, "COMP_TIME")
    assert made.messages(COLLECTOR) == (0, 0, 0)
    made.set_register(DISK, extended.PCI_ERR_UNCOR_MASK, 0)
    made.set_register(DISK, extended.PCI_ERR_UNCOR_SEVER, extended.PCI_ERR_UNC_COMP_TIME)
    made.inject(DISK, "COMP_TIME")
    assert made.messages(COLLECTOR) == (0, 0, 1)


def test_the_collector_hears_itself(made: Inside) -> None:
    """A fatal error resets the collector; its driver wants that and brings its registers back."""
    made.inject(COLLECTOR, "UncorrIntErr", "RxErr")
    assert made.messages(COLLECTOR) == (1, 0, 0)  # internal errors are masked
    made.set_register(COLLECTOR, extended.PCI_ERR_UNCOR_MASK, 0)
    made.inject(COLLECTOR, "DLP")
    assert made.log[-2:] == [
        f"pcieport {COLLECTOR}: AER: has been reset",
        f"pcieport {COLLECTOR}: AER: device recovery successful",
    ]
    made.inject(DISK, "RxErr")
    assert made.messages(COLLECTOR)[0] == 2


def test_without_its_driver_errors_are_noted_and_handled_by_nobody(made: Inside) -> None:
    made.write(f"{BUS}/drivers/pcieport/unbind", COLLECTOR)
    made.inject(DISK, "COMP_TIME")
    assert made.asked() == []
    assert made.register(COLLECTOR, extended.PCI_ERR_ROOT_ERR_SRC) >> 16 == 2 << 3
    made.write(f"{BUS}/drivers/pcieport/bind", COLLECTOR)
    assert made.register(DISK, extended.PCI_ERR_UNCOR_STATUS) == 0  # what was before it is forgotten
    made.inject(DISK, "COMP_TIME")
    assert len(made.asked()) == 3


def test_a_collector_without_an_association_finds_nobody() -> None:
    """``rcec_ea`` is NULL: the message has come, and no one is looked at but the collector itself."""
    rig = Inside()
    try:
        rig.device(COLLECTOR).association = None
        rig.inject(DISK, "COMP_TIME")
        assert rig.log[-1] == f"pcieport {COLLECTOR}: AER: found no error details for {DISK}"
    finally:
        rig.host.close()


# ---- injection, power management events ------------------------------------------------------------------------------


def _request(name: str, uncorrectable: int) -> bytes:
    bus, rest = name.split(":")[1:]
    device, number = rest.split(".")
    return AER_INJECT.pack(int(bus, 16), int(device, 16), int(number), uncorrectable, 0, 0, 0, 0, 0, 0)


def test_a_program_injects_by_the_collector(made: Inside) -> None:
    made.write_node(AER_INJECT_NODE, _request(DISK, extended.PCI_ERR_UNC_COMP_TIME))
    assert [what for _, what, _ in made.asked()] == ["error_detected", "mmio_enabled", "resume"]
    assert errno_of(made.write_node, AER_INJECT_NODE, _request(DEAF, extended.PCI_ERR_UNC_COMP_TIME)) == "ENODEV"
    refused = json.loads(golden("x86/port_services.json").read_text(encoding="utf-8"))["refused"]
    assert made.log[-1] == f"answers {DEAF}: {refused}"


def test_a_power_management_event_comes_to_the_collector(made: Inside) -> None:
    made.write(f"{BUS}/devices/{NIC}/driver_override", "vfio-pci")
    made.write(f"{BUS}/drivers_probe", NIC)
    made.write(f"{BUS}/devices/{NIC}/power/control", "auto")
    assert made.attr(NIC, "power_state") == "D3hot"
    heard: list[int] = []
    function = made.hardware(COLLECTOR)
    config, at = function.config, (function.offset(regs.PCI_CAP_ID_EXP) or 0) + express.PCI_EXP_RTSTA
    with made.machine.lock:
        made.hardware(NIC).raise_event()
        heard.append(config.read(at, 4))
        made.machine.clock.settle()
    assert heard == [express.PCI_EXP_RTSTA_PME | 0x20 << 8 | 2 << 3]
    assert config.read(at, 4) & express.PCI_EXP_RTSTA_PME == 0
    assert not [line for line in made.log if "Spurious" in line]


# ---- the program that owns one, and people ---------------------------------------------------------------------------


@pytest.fixture
def host() -> Iterator[pyvfio.Host]:
    with pyvfio.Host("software", machine="q35-switch") as opened:
        yield opened


OWNED, OWNER_PORT = "0000:00:1c.0", "0000:00:1e.0"


@pytest.mark.parametrize("way", ["group", "iommufd"])
def test_the_owner_is_told_what_it_was(host: pyvfio.Host, way: str) -> None:
    injector = software_of(host.backend).machine.errors
    with BoundFunction(host.backend, OWNED), pyvfio.open_device(host, OWNED, way=way) as device:
        errors = device.errors()
        injector.inject(OWNED, "COMP_TIME", header=(0x40000001, 0x0D00000F, 0xFEE00000, 0))
        error = errors.wait(5)
        assert (error.source, error.severity, error.outcome) == (OWNED, Severity.NONFATAL, "recovered")
        assert [one.name for one in error.errors] == ["CmpltTO"]
        assert error.counters[OWNER_PORT, "nonfatal", "messages"] == (0, 1)
        injector.inject(OWNED, "DLP")
        error = errors.wait(5)
        assert (error.source, error.severity, error.outcome) == (OWNED, Severity.FATAL, "recovered")
        assert ([one.name for one in error.errors], error.reset, error.answers) == (["DLP"], True, True)


def test_its_disk_works_after_an_error(host: pyvfio.Host) -> None:
    """For whoever opens it next: what a fatal error has cleared vfio-pci brings back when it is closed."""
    with BoundFunction(host.backend, OWNED):
        for error in ("COMP_TIME", "DLP"):
            with pyvfio.open_device(host, OWNED):
                software_of(host.backend).machine.errors.inject(OWNED, error)
            with pyvfio.open_device(host, OWNED) as device, Nvme(device) as disk:
                disk.write(0, error.encode().ljust(512))
                assert disk.read(0).rstrip() == error.encode()


def test_the_collector_is_watched_for_its_endpoints(host: pyvfio.Host) -> None:
    paths = {path.rsplit("/", 1)[-1] for path in error_roots(host)}
    assert OWNER_PORT in paths
    with HostErrors(host, [OWNED], interval=0.01) as errors:
        software_of(host.backend).machine.errors.inject(OWNED, "RxErr")
        found = errors.read(5)
        assert found is not None
        assert (found.device, found.source, found.severity) == (OWNED, OWNED, Severity.CORRECTABLE)
        software_of(host.backend).machine.errors.inject("0000:06:00.0", "RxErr")
        assert errors.read(0) is None


def test_an_endpoint_without_a_collector_cannot_be_watched(made: Inside) -> None:
    opened = pyvfio.Host(made.host)
    with pytest.raises(NotAvailable, match=f"Linux counts no errors at {DEAF}"):
        HostErrors(opened, [DISK, DEAF])


@pytest.mark.parametrize(
    ("port", "names"), [(OWNER_PORT, OWNED), ("0000:00:05.0", "0000:03:00.0, 0000:04:00.0, 0000:04:01.0, 0000:04:02.0")]
)
def test_who_takes_its_driver_is_told_whose_errors_are_lost(host: pyvfio.Host, port: str, names: str) -> None:
    def told(plan: Plan) -> list[str]:
        return [note for note in plan.notes if "nobody reports the errors of" in note]

    (note,) = told(plan_unbind(host.function(port)))
    assert note.startswith(f"Without pcieport at {port} nobody reports the errors of {names}")
    assert note.endswith((names, " and 3 more"))
    if port == OWNER_PORT:
        assert told(plan_bind(host.function(port))) == [note]
    pyvfio.unbind(host.function(port))
    assert not told(plan_bind(host.function(port), "pcieport"))  # it comes back
    assert not told(plan_bind(host.function(OWNED)))


# ---- machine files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "cause"),
    [
        (PcieFunctionSpec("nvme", "port", options=_INSIDE), "is no root bus"),
        (PcieFunctionSpec("event-collector", "port"), "is no root bus"),
        (PcieFunctionSpec("event-collector", "0000:00", "1e.0", options={"devices": [32]}), "numbers below 32"),
        (PcieFunctionSpec("event-collector", "0000:00", "1e.0", options={"buses": [3]}), "first and the last"),
        (PcieFunctionSpec("event-collector", "0000:00", "1e.0", options={"buses": [4, 3]}), "first and the last"),
        (PcieFunctionSpec("event-collector", "0000:00", "1e.0", options={"device": 1}), "has no option 'device'"),
        (PcieFunctionSpec("edu", "0000:00", "02.0", options=_INSIDE), "has no option 'integrated'"),
        (PcieFunctionSpec("nvme", "port", "01.0"), "link is device 00 alone"),
        (PcieFunctionSpec("igb", "port", "01.0"), "link is device 00 alone"),
    ],
)
def test_what_a_machine_file_cannot_have(spec: PcieFunctionSpec, cause: str) -> None:
    with pytest.raises(Misuse, match=cause):
        Inside([PcieFunctionSpec("ioh3420", "0000:00", "01.0", "port"), spec])


@pytest.mark.parametrize(
    ("spec", "cause"),
    [
        (PcieFunctionSpec("nvme", "card", "01.0"), "link is device 00 alone"),
        (PcieFunctionSpec("nvme", "card", options=_INSIDE), "is no root bus"),
    ],
)
def test_what_no_card_is(spec: PcieFunctionSpec, cause: str) -> None:
    with pytest.raises(Misuse, match=cause):
        build_card([PcieFunctionSpec("nvme", "card", "00.1"), spec])


def test_a_function_beyond_the_eighth_has_a_place_behind_a_port() -> None:
    """With ARI: function 8 of the one device, which is written 01.0."""
    port = PcieFunctionSpec("ioh3420", "0000:00", "01.0", "port")
    rig = Inside([port, PcieFunctionSpec("igb", "port"), PcieFunctionSpec("igb", "port", "01.0")])
    try:
        assert "0000:01:00.0" in rig.host.listdir(f"{BUS}/devices")
    finally:
        rig.host.close()
