"""Each cause of a refusal: provoked on a software machine, and what the user reads then."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import posixpath
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_machine import BELL, DISK, machine_of

import pyvfio
from pyvfio import causes
from pyvfio.errors import DeviceBusy, KernelRefused, Misuse, NotAvailable, PermissionDenied, PyvfioError, StepFailed
from pyvfio.files import HostFiles
from pyvfio.iommu.spapr import SpaprTable
from pyvfio.process import AnonymousMemory
from pyvfio_backends.software.loader import load_machine, machine_files

Boot = Callable[..., pyvfio.Host]
PAGE = 1 << 12
EVERY_MODULE = ("vfio", "vfio_iommu_type1", "iommufd", "vfio_pci", "mdev", "vfio_ccw")


def refusal(kind: type[PyvfioError], call: Callable[[], object]) -> PyvfioError:
    """The error of a call, which must be of exactly this kind and say what to do next."""
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    return caught.value


# busy


@pytest.mark.parametrize("way", ["group", "iommufd"])
def test_busy_names_who_has_it(boot: Boot, way: str) -> None:
    host = boot()
    with pyvfio.open_device(host, BELL, way="group"):
        error = refusal(DeviceBusy, lambda: pyvfio.open_device(host, BELL, way=way))
    assert error.errno == errno.EBUSY
    if way == "group":
        assert "/dev/vfio/0 is open in " in error.cause
        assert f"(pid {os.getpid()}, fd " in error.cause
        assert "close it there" in error.next_step


def test_busy_by_somebody_that_cannot_be_seen(boot: Boot) -> None:
    host = boot()
    machine_of(host).faults.fail("open", errno.EBUSY, path="/dev/vfio/0")
    error = refusal(DeviceBusy, lambda: pyvfio.open_device(host, BELL, way="group"))
    assert error.cause == "/dev/vfio/0 is in use, by a process which this user cannot see"
    assert error.next_step == "look again as root"


# permission


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
@pytest.mark.parametrize(
    ("way", "node"), [("group", "/dev/vfio/vfio"), ("group", "/dev/vfio/0"), ("iommufd", "/dev/iommu")]
)
def test_not_permitted_names_owner_and_mode(boot: Boot, number: int, way: str, node: str) -> None:
    host = boot()
    machine_of(host).faults.fail("open", number, path=node)
    status = host.backend.stat(node)
    error = refusal(PermissionDenied, lambda: pyvfio.open_device(host, BELL, way=way))
    assert error.errno == number
    assert error.path == node
    mode = status.st_mode & 0o7777
    assert error.cause == f"{node} belongs to uid {status.st_uid}, gid {status.st_gid}, mode {mode:04o}"
    assert "run as its owner" in error.next_step


def test_not_permitted_to_enter_the_directory(boot: Boot) -> None:
    host = boot()
    machine_of(host).faults.fail("open", errno.EACCES, path="/dev/vfio/vfio")
    machine_of(host).faults.fail("stat", errno.EACCES, path="/dev/vfio/vfio", times=-1)
    error = refusal(PermissionDenied, lambda: pyvfio.open_device(host, BELL, way="group"))
    status = host.backend.stat("/dev/vfio")
    mode = status.st_mode & 0o7777
    assert error.cause == f"directory /dev/vfio belongs to uid {status.st_uid}, gid {status.st_gid}, mode {mode:04o}"


def test_not_permitted_to_look_anywhere(boot: Boot) -> None:
    host = boot()
    machine_of(host).faults.fail("open", errno.EACCES, path="/sys/bus/pci/drivers_probe")
    machine_of(host).faults.fail("stat", errno.EACCES, times=-1)
    error = refusal(PermissionDenied, lambda: host.sysfs.write_text("/sys/bus/pci/drivers_probe", BELL))
    assert (error.cause, error.next_step) == ("", "run as root")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
@pytest.mark.parametrize(
    ("verb", "path", "call"),
    [
        ("open", "/sys/kernel/uevent_seqnum", lambda host, path: host.sysfs.read_text(path)),
        ("open", "/sys/kernel/uevent_seqnum", lambda host, path: host.sysfs.read_bytes(path)),
        ("open", "/sys/kernel/uevent_seqnum", lambda host, path: host.sysfs.read_at(path, 0, 1)),
        ("read", "/sys/kernel/uevent_seqnum", lambda host, path: host.sysfs.attribute(path)),
        ("open", "/sys/bus/pci/drivers_probe", lambda host, path: host.sysfs.write_text(path, "x")),
        ("write", "/sys/bus/pci/drivers_probe", lambda host, path: host.sysfs.write_text(path, "x")),
        ("listdir", "/sys/bus/pci/devices", lambda host, path: host.sysfs.names(path)),
        ("readlink", f"/sys/bus/pci/devices/{BELL}", lambda host, path: host.sysfs.link(path)),
        ("open", "/etc/passwd", lambda host, path: HostFiles(host.backend).read(path)),
        ("listdir", "/etc", lambda host, path: HostFiles(host.backend).names(path)),
        ("unlink", "/etc/hostname", lambda host, path: HostFiles(host.backend).remove(path)),
        ("open", "/dev/vfio/vfio", lambda host, path: pyvfio.Container(host)),
        ("open", "/dev/iommu", lambda host, path: pyvfio.Iommufd(host)),
        ("open", "/dev/vfio/0", lambda host, path: pyvfio.Group(host, 0)),
        ("open", "/dev/vfio/devices/vfio0", lambda host, path: pyvfio.Cdev(host, host.function(BELL))),
    ],
)
def test_each_file_that_is_not_permitted_is_named(
    boot: Boot, number: int, verb: str, path: str, call: Callable[[pyvfio.Host, str], object]
) -> None:
    host = boot()
    machine_of(host).faults.fail(verb, number, path=path)
    error = refusal(PermissionDenied, lambda: call(host, path))
    assert error.path == path
    assert error.errno == number
    assert f"{posixpath.dirname(path)}" in error.cause
    assert " belongs to uid " in error.cause
    assert ", mode 0" in error.cause
    assert ("pyvfio grant" in error.next_step) == path.startswith("/dev/")


def test_not_permitted_to_make_a_file(boot: Boot) -> None:
    host = boot()
    machine_of(host).faults.fail("open", errno.EACCES, path="/etc/pyvfio.conf*")
    error = refusal(PermissionDenied, lambda: HostFiles(host.backend).write("/etc/pyvfio.conf", "x"))
    assert error.cause.startswith("directory /etc belongs to uid ")


# no VFIO


def test_no_module_vfio(boot: Boot) -> None:
    host = boot(modules=())
    error = refusal(NotAvailable, lambda: pyvfio.Container(host))
    assert "the module vfio is not loaded" in error.cause
    assert "modprobe vfio-pci" in error.next_step


def test_no_directory(boot: Boot) -> None:
    host = boot()
    faults = machine_of(host).faults
    faults.fail("open", errno.ENOENT, path="/dev/vfio/vfio")
    faults.fail("stat", errno.ENOENT, path="/dev/vfio")
    error = refusal(NotAvailable, lambda: pyvfio.Container(host))
    assert error.cause == "VFIO is there, but /dev/vfio is not"
    assert "container" in error.next_step


def test_no_container(boot: Boot) -> None:
    host = boot()
    machine_of(host).faults.fail("open", errno.ENOENT, path="/dev/vfio/vfio")
    error = refusal(NotAvailable, lambda: pyvfio.Container(host))
    assert error.cause == "this kernel has no VFIO container"
    assert "iommufd" in error.next_step


def test_no_member_with_a_vfio_driver(boot: Boot) -> None:
    host = boot()
    number = host.function(DISK).group
    assert number is not None
    error = refusal(NotAvailable, lambda: pyvfio.Group(host, number.number))
    assert error.cause == "no VFIO driver has a device of this group"
    assert "pyvfio bind" in error.next_step


def test_no_module_iommufd(boot: Boot) -> None:
    host = boot(modules=tuple(name for name in EVERY_MODULE if name != "iommufd"))
    error = refusal(NotAvailable, lambda: pyvfio.Iommufd(host))
    assert "the module iommufd is not loaded" in error.cause
    assert error.next_step == "modprobe iommufd"


def test_iommufd_without_its_node(boot: Boot) -> None:
    host = boot()
    machine_of(host).faults.fail("open", errno.ENOENT, path="/dev/iommu")
    error = refusal(NotAvailable, lambda: pyvfio.Iommufd(host))
    assert error.cause == "iommufd is there, but its node is not"


# mapping


@pytest.fixture(params=["group", "iommufd"])
def space(boot: Boot, request: pytest.FixtureRequest) -> Iterator[pyvfio.AddressSpace]:
    with pyvfio.open_device(boot(), BELL, way=request.param) as device:
        yield device.space


@pytest.mark.parametrize(
    ("iova", "length", "shift", "words"),
    [
        (None, PAGE, 1, "the process address"),
        (1, PAGE, 0, "the IOVA"),
        (None, PAGE + 1, 0, "the length"),
        ((1 << 64) - PAGE, 2 * PAGE, 0, "goes past the end"),
        (0, PAGE, 0, "is not inside what this IOMMU can map"),
    ],
)
def test_a_mapping_that_breaks_a_rule(
    space: pyvfio.AddressSpace, iova: int | None, length: int, shift: int, words: str
) -> None:
    first = space.ranges()[0].start
    place = first if iova is None else iova + (first if iova == 1 else 0)
    with AnonymousMemory(4 * PAGE) as memory:
        with pytest.raises(PyvfioError) as caught:
            space.map(memory.address + shift, length, iova=place)
    assert caught.value.errno_name in ("EINVAL", "EOVERFLOW")
    assert words in caught.value.cause
    assert space.mappings() == []


def test_a_mapping_of_nothing(space: pyvfio.AddressSpace) -> None:
    with AnonymousMemory(PAGE) as memory, pytest.raises(PyvfioError) as caught:
        space.map(memory.address, 0, iova=space.ranges()[0].start)
    assert caught.value.cause == "the length is zero"


def test_a_mapping_that_allows_nothing(boot: Boot) -> None:
    with pyvfio.open_device(boot(), BELL, way="group") as device, AnonymousMemory(PAGE) as memory:
        error = refusal(
            KernelRefused,
            lambda: device.space.map(memory.address, PAGE, read=False, write=False),
        )
    assert error.cause == "the device may neither read nor write it"
    assert device.space.mappings() == []


def test_a_mapping_of_memory_that_is_not_there(space: pyvfio.AddressSpace) -> None:
    error = refusal(KernelRefused, lambda: space.map(PAGE, PAGE))
    assert error.errno == errno.EFAULT
    cause = "no memory of this process with these permissions is at 0x1000"
    if space.kind == "iommufd":
        cause += ", or it is a device's, which iommufd does not map"
    assert error.cause == cause


def test_a_mapping_over_another(space: pyvfio.AddressSpace) -> None:
    with space.buffer(PAGE) as buffer:
        error = refusal(KernelRefused, lambda: space.map(buffer.address, PAGE, iova=buffer.iova))
        assert error.errno == errno.EEXIST
        assert error.cause == "another mapping has some of these IOVAs"
        assert "unmap it first" in error.next_step


def test_no_mapping_is_left(boot: Boot) -> None:
    host = boot()
    host.sysfs.write_text("/sys/module/vfio_iommu_type1/parameters/dma_entry_limit", "2")
    with pyvfio.open_device(host, BELL, way="group") as device:
        space = device.space
        with space.buffer(PAGE), space.buffer(PAGE):
            error = refusal(KernelRefused, lambda: space.buffer(PAGE))
            assert error.errno == errno.ENOSPC
            assert error.cause == "no DMA mapping is left: 2 are in use here"
            assert "dma_entry_limit" in error.next_step
            assert space.allocator.free_bytes == _free(space, 2)
        with space.buffer(PAGE):
            assert len(space.mappings()) == 1


def _free(space: pyvfio.AddressSpace, pages: int) -> int:
    return sum(one.last + 1 - one.start for one in space.ranges()) - pages * PAGE


@pytest.mark.parametrize("way", ["group", "iommufd"])
def test_the_limit_of_locked_memory(boot: Boot, way: str) -> None:
    host = boot(memlock=4 * PAGE, ipc_lock=False)
    with pyvfio.open_device(host, BELL, way=way) as device:
        with device.space.buffer(3 * PAGE):
            error = refusal(KernelRefused, lambda: device.space.buffer(2 * PAGE))
        assert error.errno == errno.ENOMEM
        assert error.cause == "8192 bytes are to be locked, 12288 are, and the limit is 16384 (RLIMIT_MEMLOCK)"
        assert "ulimit -l" in error.next_step
        with device.space.buffer(4 * PAGE):
            pass


def test_no_memory_for_another_reason(boot: Boot) -> None:
    host = boot()
    with pyvfio.open_device(host, BELL, way="group") as device:
        space = device.space
        assert space.allocator.free_bytes  # ranges are known, so the next request is the mapping
        assert space.available
        machine_of(host).faults.fail("ioctl", errno.ENOMEM, nth=2)
        error = refusal(KernelRefused, lambda: space.buffer(PAGE))
        assert error.errno == errno.ENOMEM
        assert error.cause == ""


# groups


def neighbours(host: pyvfio.Host) -> None:
    """Put the disk, which its own driver has, into the group of the bell."""
    kernel = machine_of(host).kernel
    devices = kernel.buses["pci"].devices
    kernel.groups.leave(devices[DISK])
    group = devices[BELL].iommu_group
    assert group is not None
    kernel.groups.join(group, devices[DISK])


def test_a_group_that_is_not_viable(boot: Boot) -> None:
    host = boot()
    neighbours(host)
    with pytest.raises(PyvfioError) as caught:
        pyvfio.open_device(host, BELL, way="group")
    assert f"group 0 has members with other drivers: {DISK} (virtio-pci): blocks" in caught.value.cause
    assert "bind these members to a VFIO driver too" in caught.value.next_step


def test_a_plan_notes_that_the_group_is_not_viable(boot: Boot) -> None:
    host = boot()
    neighbours(host)
    function = host.function(BELL)
    pyvfio.release(function)
    (note,) = pyvfio.plan_bind(function).notes
    assert "IOMMU group 0 cannot be used until these go too" in note
    assert DISK in note


def test_a_group_with_a_container_already(boot: Boot) -> None:
    host = boot()
    with pyvfio.Container(host) as first, pyvfio.Container(host) as second, pyvfio.Group(host, 0) as group:
        first.attach(group)
        error = refusal(KernelRefused, lambda: second.attach(group))
    assert error.errno == errno.EINVAL
    assert "the group has a container already" in error.cause


# drivers


def test_no_such_driver(host: pyvfio.Host) -> None:
    error = refusal(NotAvailable, lambda: pyvfio.bind(host.function(BELL), "vfio-pcie"))
    assert error.cause == "bus pci has no driver vfio-pcie"
    assert error.next_step.startswith("modprobe vfio-pcie")


def test_no_vfio_ccw(boot: Boot) -> None:
    with pyvfio.Host("software", machine="z15-lpar") as host:
        kernel = machine_of(host).kernel
        kernel.buses["css"].drivers.pop("vfio_ccw")
        error = refusal(NotAvailable, lambda: pyvfio.plan_ccw_take(host, "0.0.013f"))
    assert error.cause == "bus css has no driver vfio_ccw"


def test_a_driver_that_refuses(host: pyvfio.Host) -> None:
    error = refusal(StepFailed, lambda: pyvfio.bind(host.function(BELL), "pcieport"))
    assert f"driver pcieport looked at {BELL} and refused it" in error.cause
    assert "dmesg" in error.next_step


@pytest.mark.parametrize("enabled", [False, True])
def test_a_device_without_an_iommu_group(enabled: bool) -> None:
    """``vfio_group_find_or_alloc``: EINVAL, unless ``enable_unsafe_noiommu_mode`` says that it may be without."""
    with pyvfio.Host("software", machine="x86-no-iommu") as host:
        edu = host.device("0000:00:02.0")
        if enabled:
            host.sysfs.write_text("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y")
            assert pyvfio.bind(edu).steps
            return
        error = refusal(StepFailed, lambda: pyvfio.bind(edu))
        assert "has no IOMMU group" in error.cause
        assert "enable_unsafe_noiommu_mode=1" in error.next_step
        assert edu.override is None


def test_a_bridge_is_refused_before_anything_is_done() -> None:
    """``vfio_pci_core_register_device`` takes headers of type 0 alone; its port services would have gone by then."""
    with pyvfio.Host("software", machine="q35-switch") as host:
        port = host.device("0000:00:03.0")
        error = refusal(Misuse, lambda: pyvfio.bind(port))
        assert "it is a bridge" in error.cause
        assert (port.driver, port.override) == ("pcieport", None)


@pytest.mark.parametrize("way", ["type1v2", "iommufd"])
def test_memory_that_firmware_has_reserved(tmp_path: Path, way: str) -> None:
    file = tmp_path / "kept.toml"
    file.write_text(
        '[machine]\nname = "kept"\narchitecture = "x86_64"\n[[pcie.bus]]\n'
        '[[pcie.function]]\nid = "kept"\nmodel = "edu"\nbehind = "0000:00"\nat = "02.0"\n'
        '[[pcie.reserved]]\nfirst = 0x100000\nlast = 0x100fff\ndevices = ["kept"]\n'
    )
    with pyvfio.Host("software", machine=file) as host:
        assert pyvfio.bind(host.device("0000:00:02.0")).steps
        error = refusal(KernelRefused, lambda: pyvfio.open_device(host, "0000:00:02.0", way=way))
    assert error.errno == errno.EINVAL
    assert "0x100000 to 0x100fff" in error.cause
    assert "the kernel log names the device" in error.next_step


def test_an_override_that_keeps_a_driver_away(host: pyvfio.Host) -> None:
    from pyvfio.binding.steps import Bind

    function = host.function(BELL)
    function.write("driver_override", "virtio-pci\n")
    with pytest.raises(PyvfioError) as caught:
        Bind("pci", function.name, "vfio-pci").do(function.sysfs)
    assert caught.value.cause == f"driver_override of {BELL} is virtio-pci, which keeps vfio-pci away"


def test_another_driver_came_instead(host: pyvfio.Host) -> None:
    from pyvfio.binding.steps import Bind

    function = host.function(DISK)
    with pytest.raises(PyvfioError) as caught:
        Bind("pci", function.name, "vfio-pci").do(function.sysfs)
    assert caught.value.cause == f"driver virtio-pci took {DISK} instead of vfio-pci"


# POWER


@contextlib.contextmanager
def power(memlock: int) -> Iterator[pyvfio.Host]:
    """A machine of POWER on which a process may lock so many bytes."""
    described = load_machine(machine_files()["power9-phb4"])
    with pyvfio.Host("software", machine=dataclasses.replace(described, memlock=memlock, ipc_lock=False)) as host:
        for name in ("0000:01:00.0", "0001:01:00.0"):
            pyvfio.bind(host.function(name))
        yield host


def test_a_window_that_counts_as_locked() -> None:
    with power(64 << 20) as host:
        error = refusal(KernelRefused, lambda: pyvfio.open_device(host, "0000:01:00.0", way="tce"))
        assert error.errno == errno.ENOMEM
        assert "version 1 of the TCE IOMMU counts its whole window as locked memory, 2147483648 bytes" in error.cause
        with pyvfio.open_device(host, "0000:01:00.0") as device:
            assert device.space.kind == "tcev2"


def test_a_second_group_of_version_1() -> None:
    with power(-1) as host, pyvfio.Container(host) as container:
        with pyvfio.open_device(host, "0000:01:00.0", space=container, way="tce"), pytest.raises(PyvfioError) as caught:
            pyvfio.open_device(host, "0001:01:00.0", space=container)
        assert caught.value.errno == errno.EBUSY
        assert caught.value.cause == "version 1 of the TCE IOMMU has one group in a container"


def test_small_memory_in_a_window_of_large_pages() -> None:
    large = 2 << 20
    with power(-1) as host, pyvfio.open_device(host, "0000:01:00.0") as device, AnonymousMemory(2 * large) as memory:
        assert isinstance(device.space.table, SpaprTable)
        window = device.space.table.add_window(1 << 30, page_size=large)
        device.space.refresh()
        start = memory.address + -memory.address % large
        with pytest.raises(PyvfioError) as caught:
            device.space.map(start, large, iova=window.start)
        assert caught.value.errno == errno.EINVAL
        assert caught.value.cause.startswith("the DMA window has pages of 0x200000 bytes")


def test_two_groups_of_a_guest_on_power_in_one_container() -> None:
    with pyvfio.Host("software", machine="contract-pseries") as host, pyvfio.Container(host) as container:
        names = ["0001:00:01.0", "0002:00:01.0"]
        for name in names:
            pyvfio.bind(host.device(name))
        one, other = (pyvfio.open_device(host, name, space=container) for name in names)
        with pytest.raises(PyvfioError) as caught:
            one.space.buffer(PAGE)
        assert (caught.value.errno, caught.value.next_step) == (errno.EPERM, "a container for each group")
        other.close()
        one.space.buffer(PAGE).close()
        one.close()


# the functions alone


def test_evidence_that_explains_nothing() -> None:
    nothing = causes.Cause()
    assert causes.memlock(PAGE, -1, 1 << 40) == nothing
    assert causes.memlock(PAGE, 2 * PAGE, PAGE) == nothing
    assert causes.not_viable(3, []) == nothing
    assert causes.tce_group(3, "EBUSY", "tcev2", 1) == causes.tce_group(3, "EINVAL", "tce", 1) == nothing
    assert causes.map_invalid(0, PAGE, 0, granule=PAGE, ranges=[(0, PAGE - 1)]) == nothing
    assert causes.map_invalid(0, PAGE, 0, granule=PAGE, ranges=[]) == nothing


def test_every_cause_is_tested_here() -> None:
    """A cause without a test in this file would be found by its name."""
    provoked = {
        "bind_refused": test_a_driver_that_refuses,
        "busy": test_busy_names_who_has_it,
        "firmware_memory": test_memory_that_firmware_has_reserved,
        "entry_limit": test_no_mapping_is_left,
        "map_invalid": test_a_mapping_that_breaks_a_rule,
        "memlock": test_the_limit_of_locked_memory,
        "no_driver": test_no_such_driver,
        "no_vfio": test_no_module_vfio,
        "not_permitted": test_not_permitted_names_owner_and_mode,
        "not_viable": test_a_group_that_is_not_viable,
        "tce_large_pages": test_small_memory_in_a_window_of_large_pages,
        "tce_group": test_a_second_group_of_version_1,
        "tce_window": test_a_window_that_counts_as_locked,
        "tce_window_of_groups": test_two_groups_of_a_guest_on_power_in_one_container,
    }
    assert set(provoked) == set(causes.__all__) - {"Cause"}
