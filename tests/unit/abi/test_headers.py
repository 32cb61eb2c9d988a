"""Every size, offset and number of `pyvfio.abi` against the kernel's headers, by a compiled probe (`headerprobe`).

The headers are the system's (Debian: linux-libc-dev), with the host's compiler and, where they are installed, with
the cross compilers of `CROSS` and their own; and those in the directory which the environment variable
PYVFIO_KERNEL_HEADERS names (a result of ``make headers_install``), which then must be at least as new as the tables.
Where these are of a machine whose requests have other numbers, PYVFIO_KERNEL_MACHINE names it (``uname -m``).
"""

from __future__ import annotations

import functools
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import headerprobe
import pytest
from headerprobe import TABLES, WRITTEN_FROM, Fact, Verdict

from pyvfio.abi import vfio
from pyvfio.abi.request import VFIO_BASE, VFIO_TYPE, Request, request

CROSS = {
    "s390x-linux-gnu-gcc": ("s390x", "linux-libc-dev-s390x-cross"),
    "powerpc64le-linux-gnu-gcc": ("ppc64le", "linux-libc-dev-ppc64el-cross"),
}
"""Compilers for other machines: the machine, and Debian's package of its headers."""

OLDEST = (6, 1)
"""The oldest headers of which it is known what they lack."""
AFTER_6_1 = {
    "PCI_EXP_DPC_STATUS_TRIGGER_RSN_FE",
    "PCI_EXP_DPC_STATUS_TRIGGER_RSN_IN_EXT",
    "PCI_EXP_DPC_STATUS_TRIGGER_RSN_NFE",
    "PCI_EXP_DPC_STATUS_TRIGGER_RSN_RP_PIO",
    "PCI_EXP_DPC_STATUS_TRIGGER_RSN_SW_TRIGGER",
    "PCI_EXP_DPC_STATUS_TRIGGER_RSN_UNCOR",
    "PCI_EXP_RTCAP_RRS_SV",
    "PCI_EXP_RTCTL_RRS_SVE",
    "PCI_EXP_RTSTA_PME_RQ_ID",
    "PCI_HEADER_TYPE_MFD",
    "PCI_PASID_CAP_WIDTH",
    "VFIO_AP_NUM_IRQS",
    "VFIO_AP_REQ_IRQ_INDEX",
    "VFIO_DEVICE_ATTACH_IOMMUFD_PT",
    "VFIO_DEVICE_BIND_IOMMUFD",
    "VFIO_DEVICE_DETACH_IOMMUFD_PT",
    "VFIO_DEVICE_FEATURE_BUS_MASTER",
    "VFIO_DEVICE_FEATURE_CLEAR_MASTER",
    "VFIO_DEVICE_FEATURE_MIG_DATA_SIZE",
    "VFIO_DEVICE_FEATURE_SET_MASTER",
    "VFIO_DEVICE_FLAGS_CDX",
    "VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP",
    "VFIO_DEVICE_STATE_NR",
    "VFIO_DEVICE_STATE_PRE_COPY",
    "VFIO_DEVICE_STATE_PRE_COPY_P2P",
    "VFIO_MIGRATION_PRE_COPY",
    "VFIO_MIG_GET_PRECOPY_INFO",
    "VFIO_PCI_ATOMIC_COMP128",
    "VFIO_PCI_ATOMIC_COMP32",
    "VFIO_PCI_ATOMIC_COMP64",
    "VFIO_PCI_DEVID_NOT_OWNED",
    "VFIO_PCI_DEVID_OWNED",
    "VFIO_PCI_HOT_RESET_FLAG_DEV_ID",
    "VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED",
    "vfio_device_attach_iommufd_pt",
    "vfio_device_bind_iommufd",
    "vfio_device_detach_iommufd_pt",
    "vfio_device_feature_bus_master",
    "vfio_device_feature_mig_data_size",
    "vfio_device_gfx_plane_info.reserved",
    "vfio_device_info.pad",
    "vfio_device_info_cap_pci_atomic_comp",
    "vfio_device_ioeventfd.reserved",
    "vfio_iommu_type1_info.pad",
    "vfio_pci_dependent_device.devid",
    "vfio_precopy_info",
}
"""What Linux 6.12 has and 6.1 has not: headers between the two may lack these, and nothing else.

A structure stands for its fields.
"""
CHANGED_AFTER_6_1 = {"PCI_CAP_EXP_ENDPOINT_SIZEOF_V2"}
"""What has another value in 6.1 (0x2c, which then stopped short of the slot registers) than in 6.12."""


def _inexcusable(absent: set[str]) -> set[str]:
    return {name for name in absent if name not in AFTER_6_1 and name.partition(".")[0] not in AFTER_6_1}


@dataclass(frozen=True)
class Target:
    """A compiler with headers; `include` is None for the system's."""

    compiler: str
    include: Path | None

    @property
    def machine(self) -> str:
        return CROSS[self.compiler][0] if self.compiler in CROSS else os.uname().machine

    def __str__(self) -> str:
        return f"{self.compiler}-{'system' if self.include is None else 'given'}"


def _given_headers() -> Path | None:
    named = os.environ.get("PYVFIO_KERNEL_HEADERS")
    if not named:
        return None
    return Path(named, "include") if Path(named, "include").is_dir() else Path(named)


def _targets() -> list[Target]:
    own = [Target(compiler, None) for compiler in ("cc", *CROSS)]
    given = _given_headers()
    if given is None:
        return own
    # asm/ioctl.h is of one machine: other machines' compilers read it as well if their requests are the same
    of = os.environ.get("PYVFIO_KERNEL_MACHINE", "s390x")
    start = request(VFIO_TYPE, VFIO_BASE)
    return own + [Target(one.compiler, given) for one in own if start.on(one.machine) == start.on(of)]


def _need(target: Target) -> None:
    if shutil.which(target.compiler) is None:
        pytest.skip(f"no compiler {target.compiler} here")
    if target.compiler in CROSS:
        folder = Path("/usr", target.compiler.removesuffix("-gcc"), "include")
        if not (folder / "linux").is_dir():
            pytest.skip(f"no kernel headers in {folder} (Debian: {CROSS[target.compiler][1]})")


@functools.cache
def _verdict(target: Target, header: str) -> Verdict:
    return headerprobe.ask(target.compiler, header, headerprobe.facts_of(header, target.machine), target.include)


every_target = pytest.mark.parametrize("target", _targets(), ids=str)
every_header = pytest.mark.parametrize("header", TABLES)


# ---- the probe can fail ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fact",
    [
        headerprobe.constant_fact("VFIO_GROUP_FLAGS_CONTAINER_SET", 3),
        headerprobe.constant_fact("VFIO_IOMMU_MAP_DMA", 0x3B72),
        headerprobe.constant_fact("VFIO_DEVICE_API_PCI_STRING", "vfio-pcie"),
        headerprobe.constant_fact("VFIO_REGION_TYPE_PCI_VENDOR_TYPE", 0xFFFFFFFF80000000),
        headerprobe.constant_fact("VFIO_PCI_NUM_IRQS", 7),
        Fact("vfio_irq_set", "sizeof(struct vfio_irq_set) == 24"),
        Fact("vfio_irq_set.count", "__builtin_offsetof(struct vfio_irq_set, count) == 12"),
        Fact("vfio_irq_set.count", "sizeof(((struct vfio_irq_set *)0)->count) == 8"),
        Fact("vfio_irq_set.count", "((__typeof__(((struct vfio_irq_set *)0)->count))-1 < 0) == 1"),
        Fact("nonsense", "1 +"),
    ],
    ids=["flag", "request", "string", "sign-extended", "count", "size", "offset", "width", "sign", "syntax"],
)
def test_a_wrong_value_is_found(fact: Fact) -> None:
    _need(Target("cc", None))
    verdict = headerprobe.ask("cc", "linux/vfio.h", [fact])
    assert verdict.has_header
    assert verdict.wrong
    assert not verdict.checked


@pytest.mark.parametrize(("compiler", "machine"), [("cc", "ppc64le"), ("powerpc64le-linux-gnu-gcc", "s390x")])
def test_the_requests_of_another_machine_are_wrong(compiler: str, machine: str) -> None:
    _need(Target(compiler, None))
    if request(VFIO_TYPE, VFIO_BASE).on(Target(compiler, None).machine) == request(VFIO_TYPE, VFIO_BASE).on(machine):
        pytest.skip(f"the requests of {machine} are the same here")
    verdict = headerprobe.ask(compiler, "linux/vfio.h", headerprobe.facts_of("linux/vfio.h", machine))
    wrong = {text.partition(":")[0] for text in verdict.wrong}
    assert {"VFIO_GET_API_VERSION", "VFIO_EEH_PE_OP", "VFIO_DEVICE_FEATURE"} <= wrong
    assert all(type(vars(vfio).get(name, Request(0))) is Request for name in wrong)


def test_a_wrong_value_among_right_ones_is_named() -> None:
    _need(Target("cc", None))
    right = headerprobe.facts_of("linux/vfio_ccw.h")
    wrong = headerprobe.constant_fact("VFIO_CCW_ASYNC_CMD_CSCH", 3)
    verdict = headerprobe.ask("cc", "linux/vfio_ccw.h", [*right, wrong])
    assert [text.partition(":")[0] for text in verdict.wrong] == ["VFIO_CCW_ASYNC_CMD_CSCH"]
    assert verdict.checked == right


@pytest.mark.parametrize(
    "fact",
    [
        headerprobe.constant_fact("VFIO_GROUP_FLAGS_VIABEL", 1),
        Fact("vfio_no_such", "sizeof(struct vfio_no_such) == 8"),
        Fact("vfio_irq_set.cuont", "__builtin_offsetof(struct vfio_irq_set, cuont) == 16"),
    ],
    ids=["constant", "structure", "field"],
)
def test_a_misspelt_name_counts_as_absent_and_is_not_excused(fact: Fact) -> None:
    _need(Target("cc", None))
    verdict = headerprobe.ask("cc", "linux/vfio.h", [fact])
    assert verdict.absent_names == {fact.subject}
    assert not verdict.checked
    assert _inexcusable(verdict.absent_names) == {fact.subject}


def test_a_missing_header_is_reported() -> None:
    _need(Target("cc", None))
    assert not headerprobe.ask("cc", "linux/no_such_header.h", []).has_header


# ---- the tables are right ----------------------------------------------------------------------------------------


@every_header
@every_target
def test_tables_agree_with_the_header(target: Target, header: str) -> None:
    _need(target)
    verdict = _verdict(target, header)
    if not verdict.has_header:
        # iommufd.h came after 6.1; the other headers are in every package of them.
        if target.include is None and header == "linux/iommufd.h":
            pytest.skip(f"the headers of {target.compiler} have no {header}; PYVFIO_KERNEL_HEADERS can name newer ones")
        pytest.fail(
            f"{target}: no {header} (Debian: linux-libc-dev, or {' or '.join(one[1] for one in CROSS.values())})"
        )
    if verdict.version < OLDEST:
        pytest.skip(f"these headers are of Linux {verdict.version}; what may differ before {OLDEST} is not known")
    excused = CHANGED_AFTER_6_1 if verdict.version < WRITTEN_FROM else set()
    wrong = [text for text in verdict.wrong if text.partition(":")[0] not in excused]
    assert not wrong, "\n".join(wrong)
    assert verdict.checked
    if verdict.version >= WRITTEN_FROM:
        assert verdict.absent_names == set()
    elif header != "linux/iommufd.h":
        assert _inexcusable(verdict.absent_names) == set()


@every_target
def test_a_compiler_that_exists_checked_something(target: Target) -> None:
    _need(target)
    counts = {header: len(_verdict(target, header).checked) for header in TABLES}
    print(f"{target}: {counts}")
    assert sum(counts.values()) > 800, f"almost nothing was compared: {counts}"


@pytest.mark.parametrize(
    "header", [header for header in TABLES if header not in ("linux/pci_regs.h", "linux/virtio_pci.h")]
)
@every_target
def test_nothing_of_the_header_is_left_out(target: Target, header: str) -> None:
    _need(target)
    verdict = _verdict(target, header)
    if not verdict.has_header:
        pytest.skip(f"the headers of {target.compiler} have no {header}")
    if not OLDEST <= verdict.version <= WRITTEN_FROM:
        pytest.skip(f"these headers are of Linux {verdict.version}: they may have what the tables do not")
    theirs = headerprobe.names_in_header(target.compiler, header, target.include)
    ours = {cls._c_name_ for module in TABLES[header] for cls in headerprobe.structures(module)}
    for module in TABLES[header]:
        ours |= set(headerprobe.constants(module))
    assert len(theirs) > 4
    assert theirs - ours == set()


def test_every_value_was_compared_somewhere() -> None:
    """Skip, and say what is missing, where no headers here are new enough to confirm all of the tables."""
    usable = [target for target in _targets() if shutil.which(target.compiler)]
    if not usable:
        pytest.skip("no C compiler here: not one value was compared")
    missing: list[str] = []
    total = 0
    for header in TABLES:
        facts = headerprobe.facts_of(header)
        total += len(facts)
        open_facts = set(range(len(facts)))
        for target in usable:
            checked = set(_verdict(target, header).checked)
            of_target = headerprobe.facts_of(header, target.machine)  # requests have other numbers there
            open_facts -= {place for place, fact in enumerate(of_target) if fact in checked}
        missing += sorted({facts[place].subject for place in open_facts})
    if missing:
        versions = {".".join(map(str, _verdict(target, "linux/vfio.h").version)) for target in usable}
        pytest.skip(
            f"headers here are of Linux {', '.join(sorted(versions))}: of {total} facts those about "
            f"{len(missing)} names could not be compared (set PYVFIO_KERNEL_HEADERS): {' '.join(missing[:4])} ..."
        )
