"""What the library says of IOMMU groups, beside what the kernel says and does."""

from __future__ import annotations

import pytest

from pyvfio.abi.vfio import GroupFlags
from pyvfio.backend import Backend
from pyvfio.groups import IommuGroup
from pyvfio.host import Host
from pyvfio.pci.acs import read_facts
from pyvfio.pci.grouping import explain
from pyvfio.testing import requests
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.devices import BoundFunction, BoundMdev
from pyvfio.testing.modes import OpenDevice
from pyvfio.testing.plugin import Lab


@pytest.fixture
def own_group(host: Host, lab: Lab, pci_path: str) -> IommuGroup:
    """The group of the function while its own driver has it."""
    group = host.function(lab.pci).group
    if group is None:
        pytest.skip(f"PCI function {lab.pci} has no IOMMU group")
    return group


def test_a_driver_of_the_kernel_blocks(lab: Lab, own_group: IommuGroup, sysfs: Attributes, pci_path: str) -> None:
    driver = sysfs.link(f"{pci_path}/driver")
    assert not own_group.viable
    (blocker,) = [member for member in own_group.blockers() if member.name == lab.pci]
    assert blocker.driver == driver
    assert blocker.reason.startswith(f"blocks: {driver} ")
    assert own_group.blockers(besides=lab.pci) == []


def test_no_member_of_a_zpci_group_but_the_function(lab: Lab, own_group: IommuGroup, sysfs: Attributes) -> None:
    if not sysfs.exists(f"/sys/bus/pci/devices/{lab.pci}/function_id"):
        pytest.skip("this function is no zPCI function")
    assert [member.name for member in own_group.members()] == [lab.pci]
    account = explain(own_group)
    assert (account.origin, account.joins, account.apart, account.notes) == (lab.pci, (), (), ())
    assert account.rule.startswith("on s390 the machine isolates every zPCI function")


def test_zpci_functions_have_groups_of_their_own(host: Host) -> None:
    zpci = [function for function in host.functions() if function.fid is not None]
    if not zpci:
        pytest.skip("this host has no zPCI functions")
    numbers = [function.group.number for function in zpci if function.group is not None]
    assert len(numbers) == len(set(numbers)) == len(zpci)
    assert all(explain(IommuGroup(host.sysfs, number)).joins == () for number in numbers)


def test_every_member_but_one_has_a_join(host: Host) -> None:
    for group in host.groups():
        names = {member.name for member in group.members()}
        account = explain(group)
        assert {account.origin, *(join.member for join in account.joins)} == names
        assert all(join.text for join in account.joins)


def test_a_function_of_vfio_is_ready(host: Host, backend: Backend, files: OpenFiles, function: BoundFunction) -> None:
    group = host.group(function.group_number)
    (member,) = [member for member in group.members() if member.name == function.address]
    assert (member.driver, member.blocks, member.reason.partition(":")[0]) == ("vfio-pci", False, "ready")
    flags = requests.group_flags(backend, files.open(function.group))
    assert group.viable == bool(flags & GroupFlags.VIABLE)
    assert group.viable


def test_a_group_in_use_is_still_viable(
    host: Host, backend: Backend, function: BoundFunction, opened: OpenDevice
) -> None:
    assert host.group(function.group_number).viable


def test_a_function_without_a_driver_is_harmless(host: Host, function2: BoundFunction) -> None:
    group = host.group(function2.group_number)
    function2.unbind()
    try:
        (member,) = [member for member in group.members() if member.name == function2.address]
        assert (member.driver, member.reason) == (None, "harmless: no driver has it")
        assert group.viable
    finally:
        function2.probe("vfio-pci")


def test_a_mediated_device_has_a_group_of_its_own(host: Host, mdev: BoundMdev) -> None:
    group = host.mdev(mdev.uuid).group
    assert group is not None
    assert [(member.name, member.reason.partition(":")[0]) for member in group.members()] == [(mdev.uuid, "ready")]
    assert group.viable
    account = explain(group)
    assert (account.origin, account.joins) == (mdev.uuid, ())
    assert "mediated device" in account.rule


def test_what_configuration_space_says(host: Host, lab: Lab, sysfs: Attributes, pci_path: str) -> None:
    facts = read_facts(host.sysfs, host.function(lab.pci).path)
    assert (facts.name, facts.unknown, facts.bridge) == (lab.pci, "", False)
    assert (facts.express is not None) == sysfs.exists(f"{pci_path}/max_link_speed")
    assert facts.kind
