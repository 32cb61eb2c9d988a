"""Which tests are skipped on a kernel that is tested alone, each with its reason; another skip is a problem there."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple


class Skip(NamedTuple):
    """Tests, as a pattern of their names in the table, and the pattern of the reason with which they are skipped.

    `whole` is False for tests of files that a whole run leaves out.
    """

    tests: str
    reason: str
    whole: bool = True


X86_SKIPS = (
    Skip("*", "this kernel has no sPAPR TCE IOMMU"),
    Skip("test_pci_errors_unheard::*", "the root ports of this host have a driver", whole=False),
    Skip("test_pci_reset::*", "this is no guest on POWER"),
    # channel I/O
    Skip("*", "this host has no DASD 0.0.0a00", whole=False),
    Skip("*", "this host has no ccw device 0.0.1001"),
    Skip("*", "this host has no channel subsystem"),
    Skip("test_bind::*", "this kernel has no driver of mediated channel devices"),
    Skip("test_chp_vary::*", "this host has no channel path that only an offline device uses", whole=False),
    Skip("test_driver_override::*", "this host has no channel device"),
    Skip("test_library_ccw::*", "this host has no other channel device", whole=False),
    # what this guest has not
    Skip("test_library_noiommu::*", "every function of this host that may be taken is behind an IOMMU"),
    # PCI functions as IBM Z has them
    Skip("*", "this function is no zPCI function"),
    Skip("test_clp::*", "this host has no /dev/clp", whole=False),
    Skip("*", "this host has no function 0040:00:00.0"),
    Skip("*", "this host has no zPCI functions"),
    Skip("*", "this kernel is not of s390"),
    Skip("test_pci_report_error::*", "the function has no report_error: it is no zPCI function"),
    Skip("test_pci_hotplug::*", "this function has no recover"),
    Skip("test_proc::*", "a host without zPCI"),
    Skip("test_proc::*", "a host of another architecture"),
    # what a PCI Express function behind VT-d has, and a zPCI function has not
    Skip("test_dma_map::test_outside_the_ranges*", "the first range begins at 0"),
    Skip("test_library_device::test_an_interrupt_that_is_none*", "a PCI Express function has an interrupt for errors"),
    Skip("test_pci_irqs::test_an_interrupt_the_function_has_not*", "the function has it"),
    Skip("test_pci_irqs::test_no_error_interrupt_without_pci_express", "this is a function of PCI Express"),
    # a slot of native hotplug does not take its device back in QEMU: see devices_x86.py
    Skip("test_pci_hotplug::*", "the function is in no slot"),
)

PPC64_SKIPS = (
    # channel I/O, and PCI functions as IBM Z has them
    Skip("*", "this host has no ccw device 0.0.1001"),
    Skip("*", "this host has no channel subsystem"),
    Skip("test_bind::*", "this kernel has no driver of mediated channel devices"),
    Skip("test_driver_override::*", "this host has no channel device"),
    Skip("*", "this function is no zPCI function"),
    Skip("*", "this host has no zPCI functions"),
    Skip("test_proc_interrupts::*", "this host has no function 0040:00:00.0"),
    Skip("test_proc_interrupts::*", "this kernel is not of s390"),
    Skip("test_pci_hotplug::*", "this function has no recover"),
    Skip("test_proc::*", "a host without zPCI"),
    Skip("test_proc::*", "a host of another architecture"),
    # what Debian's kernel for POWER has not
    Skip("*", "this kernel has no type 1 IOMMU"),
    Skip("*", "this kernel has no iommufd"),
    Skip("*", "this kernel has no mediated devices"),
    Skip("test_pci_sleep::*", "this kernel has no ACPI"),
    Skip("test_iommu_hardware::*", "this kernel has no such mode"),
    Skip("test_library_noiommu::*", "this kernel has no CONFIG_VFIO_NOIOMMU", whole=False),
    # what the platform has not: it switches drivers of ports off, as firmware tells of errors and of slots
    Skip("*", "the root ports of this host have no driver, which errors are told to", whole=False),
    Skip("test_port_services::*", "this host has no empty slot of native hotplug", whole=False),
    Skip("*", "this host has no empty slot of native hotplug, or nobody to plug something in", whole=False),
    Skip("test_iommu_hardware::*", "this host has no VT-d"),
    # what this guest has, or has not
    Skip("test_eeh_absent::*", "this kernel has adapters under EEH", whole=False),
    Skip("test_spapr_hypervisor::*", "this is no guest on POWER", whole=False),
    Skip("test_pci_reset::*", "this is no guest on POWER"),
    Skip("test_memory_files::*", "none was named (*--pyvfio-edu)"),
    Skip("test_edu_driver::*", "none was named (*--pyvfio-edu)", whole=False),
    Skip("test_nvme_edu_commands::*", "none was named (--pyvfio-edu, --pyvfio-nvme)", whole=False),
    Skip("test_shared_group::*", "this host has no group of two functions to take", whole=False),
    Skip("test_library_token::*", "this host has no physical function", whole=False),
    Skip("test_pci_report_error::*", "the function has no report_error: it is no zPCI function", whole=False),
    Skip("test_library_binding::*", "this host has no driver that would refuse"),
    Skip("test_pci_hotplug::*", "the function is in no slot"),
    Skip("test_library_device::test_an_interrupt_that_is_none*", "a PCI Express function has an interrupt for errors"),
    Skip("test_pci_irqs::test_an_interrupt_the_function_has_not*", "the function has it"),
    Skip("test_pci_irqs::test_no_error_interrupt_without_pci_express", "this is a function of PCI Express"),
)

PSERIES_SKIPS = (
    # channel I/O, and PCI functions as IBM Z has them
    Skip("*", "this host has no ccw device 0.0.1001"),
    Skip("*", "this host has no channel subsystem"),
    Skip("test_bind::*", "this kernel has no driver of mediated channel devices"),
    Skip("*", "this function is no zPCI function"),
    Skip("*", "this host has no zPCI functions"),
    # what Debian's kernel for POWER has not
    Skip("*", "this kernel has no type 1 IOMMU"),
    Skip("*", "this kernel has no iommufd"),
    # what is otherwise in a guest on POWER
    Skip("*", "this kernel has no adapter under EEH"),
    Skip("*", "groups of a guest on POWER share no windows"),
    Skip("test_spapr_windows::*", "the hypervisor has the tables of this guest"),
    Skip("test_spapr_windows::*", "windows are the hypervisor's"),
    Skip("test_spapr_dma::*", "no windows with tables of several levels"),
    Skip("test_pci_reset::*", "nothing resets the bus of a guest's host bridge"),
    Skip("test_pci_reset_files::*", "the function is behind no bridge"),
    # the functions of this guest are conventional
    Skip("test_pci_irqs::test_an_interrupt_the_function_has_not*", "the function has it"),
    Skip("test_pci_irqs::*", "the function has no reset"),
    Skip("test_pci_irqs::*", "this is no function of PCI Express"),
    Skip("test_pci_reset_files::*", "the function cannot be reset"),
)

X86_LACKING = (Skip("test_in_use::test_a_port_of_a_console*", "this host has no port of a virtio console"),)
"""What the software machine of the x86 guest is without."""


def allowed(name: str, reason: str, skips: tuple[Skip, ...]) -> Skip | None:
    """The entry that allows this test to be skipped for this reason."""
    return next((one for one in skips if fnmatchcase(name, one.tests) and fnmatchcase(reason, one.reason)), None)
