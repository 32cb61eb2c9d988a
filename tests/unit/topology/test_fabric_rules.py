"""The rules on fabrics that no host here has: ACS bits one by one, virtual functions, quirks, VMD, other platforms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from golden_tree import Tree

from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import AcsBits, ExpressType
from pyvfio.host import Host
from pyvfio.pci.acs import REQUIRED, Answer, read_facts
from pyvfio.pci.fabric import Link, LinkKind
from pyvfio.pci.grouping import Account, explain
from pyvfio.pci.topology import branch, functions_up, topology

BRIDGE = 0x060400
EXPRESS_AT = 0x40
ACS_AT = 0x100
ALL = 0x5F


def config(
    express: ExpressType | None = None,
    *,
    bridge: bool = False,
    multifunction: bool = False,
    acs: tuple[int, int] | None = None,
) -> bytes:
    """Configuration space: of a kind of PCI Express function or conventional, with ACS (capability, control)."""
    size = regs.PCI_CFG_SPACE_SIZE if express is None else regs.PCI_CFG_SPACE_EXP_SIZE
    data = bytearray(size)
    data[regs.PCI_VENDOR_ID : 4] = b"\x86\x80\x34\x12"
    data[regs.PCI_HEADER_TYPE] = bridge | (regs.PCI_HEADER_TYPE_MFD if multifunction else 0)
    if express is not None:
        data[regs.PCI_STATUS] = regs.PCI_STATUS_CAP_LIST
        data[regs.PCI_CAPABILITY_LIST] = EXPRESS_AT
        data[EXPRESS_AT] = regs.PCI_CAP_ID_EXP
        data[EXPRESS_AT + regs.PCI_EXP_FLAGS] = express << 4 | 2
    if acs is not None:
        data[ACS_AT : ACS_AT + 4] = (1 << 16 | regs.PCI_EXT_CAP_ID_ACS).to_bytes(4, "little")
        data[ACS_AT + regs.PCI_ACS_CAP : ACS_AT + 6] = acs[0].to_bytes(2, "little")
        data[ACS_AT + regs.PCI_ACS_CTRL : ACS_AT + 8] = acs[1].to_bytes(2, "little")
    return bytes(data)


ROOT = config(ExpressType.ROOT_PORT, bridge=True, acs=(ALL, REQUIRED))
DEAF = config(ExpressType.ROOT_PORT, bridge=True)
UP = config(ExpressType.UPSTREAM, bridge=True)
DOWN = config(ExpressType.DOWNSTREAM, bridge=True, acs=(ALL, REQUIRED))
END = config(ExpressType.ENDPOINT)
BUS = "pci0000:00"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.fixture
def host(tree: Tree) -> Iterator[Host]:
    with Host("kernel", sysfs=str(tree.root)) as opened:
        yield opened


def account(host: Host, number: int, origin: str | None = None) -> Account:
    return explain(host.group(number), origin)


def link_to(found: Account, member: str) -> Link:
    (join,) = [join for join in found.joins if join.member == member]
    return join.links[-1]


# ACS, bit by bit


@pytest.mark.parametrize(
    ("capable", "control", "missing"),
    [
        (ALL, 0, ["SV", "RR", "CR", "UF"]),
        (ALL, AcsBits.SV | AcsBits.UF, ["RR", "CR"]),
        (ALL, REQUIRED & ~AcsBits.UF, ["UF"]),
        (AcsBits.SV, 0, ["SV"]),  # what it does not have counts as wired on
        (AcsBits.SV, AcsBits.SV, []),
        (AcsBits.EC | AcsBits.DT, 0, []),
        (0x80 << 8 | ALL, REQUIRED, []),  # the size of the egress control vector is no service
    ],
)
def test_missing_services(host: Host, tree: Tree, capable: int, control: int, missing: list[str]) -> None:
    port = config(ExpressType.ROOT_PORT, bridge=True, acs=(capable, control))
    tree.function(f"{BUS}/0000:00:01.0", port, code=BRIDGE, group=0)
    tree.function(f"{BUS}/0000:00:01.0/0000:01:00.0", END, group=0)
    found = account(host, 0)
    assert found.agrees is bool(missing)  # a bridge that isolates, and yet one group: not by these rules
    if missing:
        (lack,) = link_to(found, "0000:00:01.0").lacks
        assert list(lack.missing) == missing
        assert all(bit in lack.reason for bit in missing)
        assert lack.reason.endswith(" off")


def test_a_port_further_up_joins_all_below(host: Host, tree: Tree) -> None:
    up = f"{BUS}/0000:00:01.0/0000:01:00.0"
    tree.function(f"{BUS}/0000:00:01.0", DEAF, code=BRIDGE, group=3)
    tree.function(up, UP, code=BRIDGE, group=3)
    for slot in (0, 1):
        tree.function(f"{up}/0000:02:0{slot}.0", DOWN, code=BRIDGE, group=3)
        tree.function(f"{up}/0000:02:0{slot}.0/0000:0{3 + slot}:00.0", END, group=3)
    found = account(host, 3)
    assert (found.origin, found.agrees) == ("0000:03:00.0", True)
    link = link_to(found, "0000:02:00.0")
    assert [lack.name for lack in link.lacks] == ["0000:00:01.0"]
    assert "on the way up from there 0000:00:01.0 (root port: no ACS capability" in link.text
    assert [link.kind for link in found.joins[-1].links] == [LinkKind.BELOW] * len(found.joins[-1].links)


def test_what_needs_no_acs(host: Host, tree: Tree) -> None:
    for number, kind in enumerate(
        (ExpressType.ENDPOINT, ExpressType.UPSTREAM, ExpressType.LEG_END, ExpressType.RC_END)
    ):
        tree.function(f"{BUS}/0000:00:0{number}.0", config(kind))
        one, several = (config(kind), config(kind, multifunction=True))
        for name, data, answer in (("a", one, Answer.YES), ("b", several, Answer.NO)):
            tree.function(f"{BUS}/0000:{name}{number}:00.0", data)
            facts = read_facts(host.sysfs, host.function(f"0000:{name}{number}:00.0").path)
            assert facts.isolation.answer is answer
    for kind in (ExpressType.PCI_BRIDGE, ExpressType.PCIE_BRIDGE, ExpressType.RC_EC):
        tree.function(f"{BUS}/0000:c0:00.0", config(kind, acs=(ALL, ALL)))
        assert read_facts(host.sysfs, host.function("0000:c0:00.0").path).isolation.answer is Answer.NO


def test_a_conventional_bridge_joins_its_bus(host: Host, tree: Tree) -> None:
    tree.function(f"{BUS}/0000:00:1e.0", config(bridge=True), code=BRIDGE, group=1)
    for slot in (0, 1):
        tree.function(f"{BUS}/0000:00:1e.0/0000:05:0{slot}.0", config(), group=1)
    found = account(host, 1)
    assert found.agrees is True
    assert link_to(found, "0000:05:01.0").kind is LinkKind.SAME_BUS
    assert link_to(found, "0000:05:01.0").text.endswith("behind 0000:00:1e.0 (PCI bridge)")


# virtual functions


def test_virtual_functions_are_apart(host: Host, tree: Tree) -> None:
    port = f"{BUS}/0000:00:01.0"
    tree.function(port, ROOT, code=BRIDGE, group=0)
    tree.function(f"{port}/0000:01:00.0", config(ExpressType.ENDPOINT), group=1)
    for number in (1, 2):  # functions of the same slot, as ARI allows
        path = f"{port}/0000:01:00.{number}"
        tree.function(path, b"\xff\xff\xff\xff" + END[4:], group=1 + number)
        (tree.root / "devices" / path / "physfn").symlink_to("../0000:01:00.0")
    for number in (1, 2, 3):
        assert account(host, number).agrees is True
        assert account(host, number).joins == ()


# where the kernel says something else


def test_a_quirk_is_suspected_only_where_the_kernel_disagrees(host: Host, tree: Tree) -> None:
    port = f"{BUS}/0000:00:01.0"
    tree.function(port, DEAF, code=BRIDGE, group=0)
    tree.function(f"{port}/0000:01:00.0", END, group=1)  # a port whose isolation the kernel knows without ACS
    tree.function(f"{BUS}/0000:00:02.0", config(), group=2)
    tree.function(f"{BUS}/0000:00:03.0", config(), group=2)  # one that uses the other's requester ID
    kept_apart = account(host, 1)
    assert (kept_apart.agrees, kept_apart.apart) == (False, ("0000:00:01.0",))
    assert "is in group 0: a quirk of the kernel may apply" in kept_apart.notes[0]
    together = account(host, 2)
    assert (together.agrees, together.apart) == (False, ())
    assert together.joins[0].links == ()
    assert "a quirk of the kernel may apply" in together.joins[0].text


def test_a_bridge_without_a_group_is_walked_past(host: Host, tree: Tree) -> None:
    port = f"{BUS}/0000:00:01.0"
    tree.function(port, DEAF, code=BRIDGE)
    tree.function(f"{port}/0000:01:00.0", END, group=1)
    assert account(host, 1).agrees is True


def test_a_domain_of_a_function(host: Host, tree: Tree) -> None:
    """Intel VMD: what is in its domain does DMA in its name."""
    owner = f"{BUS}/0000:00:0e.0"
    tree.function(owner, config(ExpressType.RC_END), group=7)
    tree.function(f"{owner}/pci10000:e0/10000:e0:06.0", ROOT, code=BRIDGE, group=7)
    tree.function(f"{owner}/pci10000:e0/10000:e0:06.0/10000:e1:00.0", END, code=0x010802, group=7)
    found = account(host, 7, "10000:e1:00.0")
    assert found.agrees is True
    assert link_to(found, "0000:00:0e.0").kind is LinkKind.BEHIND
    assert "has a PCI domain of its own" in link_to(found, "0000:00:0e.0").text
    assert "both in the PCI domain of 0000:00:0e.0" in link_to(found, "10000:e0:06.0").text


# what cannot be read


def test_a_function_without_power_is_unknown(host: Host, tree: Tree) -> None:
    port = f"{BUS}/0000:00:01.0"
    tree.function(port, b"\xff" * regs.PCI_CFG_SPACE_SIZE, code=BRIDGE, group=0)
    tree.function(f"{port}/0000:01:00.0", END, group=0)
    found = account(host, 0)
    assert found.agrees is None
    assert "the function does not answer for 0000:00:01.0" in found.notes[0]


def test_no_configuration_space(host: Host, tree: Tree) -> None:
    tree.function(f"{BUS}/0000:00:01.0", ROOT, code=BRIDGE, group=0)
    (tree.root / "devices" / BUS / "0000:00:01.0" / "config").unlink()
    facts = read_facts(host.sysfs, host.function("0000:00:01.0").path)
    assert facts.unknown == "no configuration space: ENOENT"
    assert [node.kind for root in topology(host.sysfs) for node in root.walk()] == [
        "PCI bridge, kind unknown (no configuration space: ENOENT)"
    ]


@pytest.mark.parametrize("at", [EXPRESS_AT, 0x04])
def test_a_malformed_list_of_capabilities(host: Host, tree: Tree, at: int) -> None:
    broken = bytearray(ROOT)
    broken[regs.PCI_CAPABILITY_LIST if at < EXPRESS_AT else at + 1] = at
    tree.function(f"{BUS}/0000:00:01.0", bytes(broken), code=BRIDGE, group=0)
    assert read_facts(host.sysfs, host.function("0000:00:01.0").path).unknown.startswith("malformed capabilities")


def test_a_loop_of_extended_capabilities(host: Host, tree: Tree) -> None:
    broken = bytearray(ROOT)
    broken[ACS_AT : ACS_AT + 4] = (ACS_AT << 20 | 1 << 16 | 1).to_bytes(4, "little")
    tree.function(f"{BUS}/0000:00:01.0", bytes(broken), code=BRIDGE, group=0)
    assert read_facts(host.sysfs, host.function("0000:00:01.0").path).unknown.startswith("malformed capabilities")


# other platforms


def test_power_groups_are_the_firmwares(host: Host, tree: Tree) -> None:
    for slot in (0, 1):
        tree.function(f"pci0001:00/0001:00:0{slot}.0", END, group=4)
    (tree.root / "kernel/iommu_groups/4/name").write_text("domain1-pe2\n")
    found = account(host, 4)
    assert (found.agrees, len(found.joins)) == (None, 1)
    assert "partitionable endpoint" in found.joins[0].text


def test_what_is_no_pci_function(host: Host, tree: Tree) -> None:
    tree.function(f"{BUS}/0000:00:01.0", config(), group=2)
    other = tree.root / "devices/platform/serial"
    other.mkdir(parents=True)
    (tree.root / "bus/platform").mkdir()
    (other / "subsystem").symlink_to("../../../bus/platform")
    tree.join("platform/serial", 2)
    found = account(host, 2)
    assert (found.origin, [join.member for join in found.joins]) == ("0000:00:01.0", ["serial"])
    assert "no PCI function" in found.joins[0].text


# the tree


def test_the_way_up(host: Host, tree: Tree) -> None:
    path = f"{BUS}/0000:00:01.0/0000:01:00.0/0000:02:00.0"
    tree.function(f"{BUS}/0000:00:01.0", ROOT, code=BRIDGE)
    tree.function(f"{BUS}/0000:00:01.0/0000:01:00.0", UP, code=BRIDGE)
    tree.function(path, DOWN, code=BRIDGE, driver="pcieport", group=9)
    root = branch(host.sysfs, host.function("0000:02:00.0"))
    nodes = list(root.walk())
    assert (root.name, [node.name for node in nodes]) == (BUS, ["0000:00:01.0", "0000:01:00.0", "0000:02:00.0"])
    assert [node.kind for node in nodes] == ["root port", "switch upstream port", "switch downstream port"]
    assert (nodes[-1].driver, nodes[-1].group, nodes[-1].parent) == ("pcieport", 9, nodes[1])
    assert functions_up("/sys/devices/platform/serial") == []
    assert [node.name for one in topology(host.sysfs) for node in one.walk()] == [node.name for node in nodes]
