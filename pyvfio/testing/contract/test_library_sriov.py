"""SR-IOV as the library reads and plans it, on functions that make none and on those that do, where a host has one."""

from __future__ import annotations

import pytest

from pyvfio.binding.virtual import plan_virtual_functions
from pyvfio.errors import Misuse, NotAvailable
from pyvfio.host import Host
from pyvfio.pci.sriov import physical_function, sriov, virtual_functions
from pyvfio.testing.plugin import Lab


def test_a_function_that_makes_none(host: Host, pci_path: str, lab: Lab) -> None:
    function = host.function(lab.pci)
    if sriov(function) is not None:
        pytest.skip(f"{lab.pci} is a physical function")
    assert virtual_functions(function) == {}
    with pytest.raises(NotAvailable) as caught:
        plan_virtual_functions(function, 1)
    assert "SR-IOV" in caught.value.cause or "virtual function" in caught.value.cause


def test_links_go_both_ways(host: Host) -> None:
    for function in host.functions():
        found = sriov(function)
        made = virtual_functions(function)
        assert found is not None or not made
        assert all(physical_function(one) == function for one in made.values())
        if found is not None:
            with pytest.raises(Misuse):
                plan_virtual_functions(function, found.total + 1)
