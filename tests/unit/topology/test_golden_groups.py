"""The groups of a real x86 host: the rules give what its kernel made, and so does viability."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from golden_tree import Tree, golden_groups, golden_tree

from pyvfio.host import Host
from pyvfio.pci.acs import Answer, read_facts
from pyvfio.pci.fabric import LinkKind
from pyvfio.pci.grouping import explain
from pyvfio.pci.topology import topology

GOLDEN = golden_groups()
GROUPS = {int(number): group for number, group in GOLDEN["groups"].items()}
LARGE = [number for number, group in GROUPS.items() if len(group["devices"]) > 1]
ALL_FOUR = ("SV", "RR", "CR", "UF")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return golden_tree(tmp_path)


@pytest.fixture
def host(tree: Tree) -> Iterator[Host]:
    with Host("kernel", sysfs=str(tree.root)) as opened:
        yield opened


def test_the_recording_has_all_kinds() -> None:
    assert (len(GROUPS), len(GOLDEN["functions"])) == (25, 36)
    assert LARGE == [4, 5, 14, 18, 19, 20, 21]


@pytest.mark.parametrize("number", GROUPS)
def test_the_rules_make_the_groups_of_the_kernel(host: Host, number: int) -> None:
    for origin in GROUPS[number]["devices"]:
        account = explain(host.group(number), origin)
        assert account.origin == origin
        assert account.agrees is True
        assert (account.apart, account.notes) == ((), ())
        assert {join.member for join in account.joins} == {*GROUPS[number]["devices"]} - {origin}
        assert all(join.links and not join.note for join in account.joins)


@pytest.mark.parametrize("number", GROUPS)
def test_members_and_reserved_regions(host: Host, number: int) -> None:
    group = host.group(number)
    assert [member.name for member in group.members()] == GROUPS[number]["devices"]
    regions = [f"0x{one.start:016x} 0x{one.last:016x} {one.kind}" for one in group.reserved_regions]
    assert regions == GROUPS[number]["reserved_regions"]
    assert group.type == GROUPS[number]["type"]


def test_acs_as_it_was_recorded(host: Host) -> None:
    recorded = {name: acs for group in GROUPS.values() for name, acs in group["acs"].items()}
    assert recorded
    for function in host.functions():
        acs = read_facts(host.sysfs, function.path).acs
        assert (acs is not None) == (function.name in recorded)
        if acs is not None:
            assert (f"{acs.capable:#x}", f"{acs.control:#x}") == tuple(recorded[function.name].values())


# what joins them


def test_ports_without_acs_and_what_is_below_them(host: Host) -> None:
    account = explain(host.group(5))
    assert account.origin == "0000:01:00.0"
    joins = {join.member: join for join in account.joins}
    assert [link.kind for link in joins["0000:02:00.0"].links] == [
        LinkKind.BELOW,
        LinkKind.FUNCTIONS,
        LinkKind.BELOW,
    ]
    assert [link.at for link in joins["0000:02:00.0"].links] == ["0000:00:08.0", "0000:00:08", "0000:00:08.1"]
    (port,) = joins["0000:00:08.0"].links
    assert [(one.name, one.kind, one.missing) for one in port.lacks] == [("0000:00:08.0", "root port", ALL_FOUR)]
    assert port.text == (
        "0000:00:08.0, the root port right above 0000:01:00.0, does not keep apart what is below it: "
        "no ACS capability (SV, RR, CR and UF missing)"
    )


def test_functions_of_one_device(host: Host) -> None:
    (join,) = explain(host.group(21)).joins
    (link,) = join.links
    assert (link.kind, link.at) == (LinkKind.FUNCTIONS, "0000:0c:00")
    assert [one.name for one in link.lacks] == ["0000:0c:00.0", "0000:0c:00.1"]
    assert [one.missing for one in link.lacks] == [ALL_FOUR, ALL_FOUR]


def test_a_conventional_bus(host: Host) -> None:
    bridge, other = explain(host.group(20)).joins
    assert [link.kind for link in bridge.links] == [LinkKind.BEHIND]
    assert bridge.links[0].at == "0000:09:00.0"
    assert other.text == (
        "0000:0a:02.0 is on the same conventional PCI bus as 0000:0a:01.0, behind 0000:09:00.0 (PCIe-to-PCI bridge)"
    )


def test_a_switch_port_without_acs_keeps_its_sibling_out(host: Host) -> None:
    for number, port, below in ((18, "0000:06:00.0", "0000:07:00.0"), (19, "0000:06:01.0", "0000:08:00.0")):
        account = explain(host.group(number))
        assert (account.origin, [join.member for join in account.joins]) == (below, [port])
        assert account.joins[0].links[0].lacks[0].kind == "switch downstream port"


# an ordinary user


def test_nothing_is_guessed_without_the_rest_of_configuration_space(tmp_path: Path) -> None:
    tree = golden_tree(tmp_path, restricted=True)
    with Host("kernel", sysfs=str(tree.root)) as host:
        for number, group in GROUPS.items():
            account = explain(host.group(number))
            assert {join.member for join in account.joins} == {*group["devices"]} - {account.origin}
            assert account.apart == ()
            if account.agrees is None:
                assert "needs root" in account.notes[0]
            for link in (link for join in account.joins for link in join.links):
                assert link.certain != ("needs root" in link.text)
        assert explain(host.group(5)).agrees is None
        assert explain(host.group(4)).agrees is True  # functions without capabilities show all that there is
        facts = read_facts(host.sysfs, host.function("0000:00:09.0").path)
        assert (facts.express, facts.acs, facts.aliases) == (None, None, Answer.UNKNOWN)
        assert facts.isolation.answer is Answer.UNKNOWN
        ports = [node for root in topology(host.sysfs) for node in root.walk() if node.bridge]
        assert ports
        assert {node.kind for node in ports} == {"PCI bridge, kind unknown (needs root)"}


# viability


def _drive(tree: Tree, drivers: dict[str, str | None]) -> None:
    for name, driver in drivers.items():
        tree.drive(GOLDEN["functions"][name]["path"], driver, vfio=driver == "vfio-pci")


def test_viability_with_a_pcieport_and_members_without_drivers(tree: Tree, host: Host) -> None:
    recorded = GOLDEN["viability"]["group_of_0000:01:00.0"]
    assert recorded["status_flags"] == 1  # VFIO_GROUP_FLAGS_VIABLE
    for drivers in (recorded["members_before"], recorded["members"]):
        _drive(tree, drivers)
        group = host.group(5)
        assert {member.name: member.driver for member in group.members()} == drivers
        assert group.viable
    words = {member.name: member.reason.partition(":")[0] for member in host.group(5).members()}
    assert words == {
        "0000:00:08.0": "harmless",
        "0000:00:08.1": "harmless",
        "0000:01:00.0": "ready",
        "0000:02:00.0": "harmless",
    }
    assert recorded["set_container"] == 0


def test_viability_with_pci_stub_in_an_owned_group(tree: Tree, host: Host) -> None:
    recorded = GOLDEN["viability"]["group_of_0000:01:00.0"]
    bound = recorded["bind_0000:02:00.0_to_pci-stub_while_group_owned"]
    assert bound[1] == "pci-stub"
    _drive(tree, {**recorded["members"], "0000:02:00.0": "pci-stub"})
    assert host.group(5).viable


def test_a_sibling_with_its_own_driver_blocks(tree: Tree, host: Host) -> None:
    recorded = GOLDEN["viability"]["unviable"]
    assert (recorded["status_flags"], recorded["set_container"]) == (0, {"errno": "EPERM"})
    for drivers, blockers in (
        (recorded["members_before"], ["0000:0c:00.0", "0000:0c:00.1"]),
        (recorded["members"], ["0000:0c:00.1"]),
    ):
        _drive(tree, drivers)
        group = host.group(21)
        assert not group.viable
        assert [member.name for member in group.blockers()] == blockers
        assert all(member.reason.startswith("blocks: e1000e ") for member in group.blockers())


def test_a_bridge_under_shpchp_blocks(tree: Tree, host: Host) -> None:
    """The recording's 0000:0a:01.0: SET_CONTAINER was EPERM with both endpoints on vfio-pci."""
    _drive(tree, {"0000:0a:01.0": "vfio-pci", "0000:0a:02.0": "vfio-pci"})
    group = host.group(20)
    assert [(member.name, member.driver) for member in group.blockers()] == [("0000:09:00.0", "shpchp")]
