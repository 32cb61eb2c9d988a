"""What an architecture's guest is made with: kernel, Debian packages, emulator, devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import devices, devices_ppc64, devices_x86
from .packages import Package

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Architecture:
    """One architecture; `name` is what ``--arch`` says and what its entries of the cache begin with."""

    name: str
    debian: str
    machine: str
    """What ``uname -m`` says there."""
    kbuild: str
    """The kernel's name of it, ``ARCH`` of its make and a folder below ``arch``."""
    compiler: str
    """What the names of the compiler's programs begin with."""
    modules: tuple[str, ...]
    """What the guest's init loads."""
    command: Callable[[Path, Path, Path, Path, Path, str, list[str]], list[str]]
    """QEMU's command line: kernel, disk, /src, /out, a directory for sockets, profile, further words."""
    profiles: Mapping[str, tuple[str, ...]]
    config: Path | None = None
    """What the kernel's configuration has over allnoconfig; without one the kernel is Debian's own."""
    kernel_steps: int = 0
    """Lines that make prints for one build; only for the percentage shown."""
    stock: str = ""
    """The package of Debian's own kernel."""
    stock_modules: tuple[str, ...] = ()
    """Modules of Debian's kernel that programs of the guest may load."""
    image: str = "bzImage"
    """The kernel's file."""
    qemu: str = "qemu-system-x86_64"
    """QEMU's program in the packages `emulator`."""
    unread_source: tuple[str, ...] = ()
    """Patterns of the kernel's source that this architecture's build does not read either."""
    kept_source: tuple[str, ...] = ()
    """Files of the kernel's source that are kept with the kernel (read by tests/unit/abi/test_zpci_layout.py)."""
    packages: tuple[Package, ...] = ()
    """What the host needs besides what every build needs."""
    emulator: tuple[str, ...] = ()
    """Debian packages with QEMU of the guest's own release; none: the host's QEMU is used."""
    initrd_modules: tuple[str, ...] = ()
    """Modules of an initial RAM disk, if a guest needs one."""
    guests: tuple[str, ...] = ("qemu",)
    terminal: bool = False
    """Whether a 3270 is to be answered."""


VFIO_MODULES = ("vfio", "vfio_iommu_type1", "iommufd", "vfio-pci", "mdev")

S390X = Architecture(
    name="s390x",
    debian="s390x",
    machine="s390x",
    kbuild="s390",
    compiler="s390x-linux-gnu-",
    config=_HERE / "kernel.config",
    kernel_steps=1563,
    unread_source=("drivers/net/ethernet/*.[chS]",),
    kept_source=(
        *(f"arch/s390/include/asm/{name}.h" for name in ("clp", "pci_clp", "pci_insn", "sclp")),
        "arch/s390/pci/pci_event.c",
        "arch/s390/kvm/pci.h",
        "drivers/s390/char/sclp.h",
        "drivers/s390/char/sclp_pci.c",
    ),
    modules=(*VFIO_MODULES, "vfio_ccw"),
    command=devices.command,
    profiles=devices.PROFILES,
    packages=(
        Package("gcc-s390x-linux-gnu", "s390x-linux-gnu-gcc", "to cross-build the kernel"),
        Package("qemu-system-s390x", "qemu-system-s390x", "to run the guest"),
        Package("hercules", "hercules", "to run the guest with a DASD"),
        Package("ipxe-qemu", "/usr/lib/ipxe/qemu/efi-virtio.rom", "to run the guest (a function's expansion ROM)"),
    ),
    initrd_modules=("dasd_mod", "dasd_fba_mod"),
    guests=("qemu", "hercules"),
    terminal=True,
)

X86 = Architecture(
    name="x86",
    debian="amd64",
    machine="x86_64",
    kbuild="x86",
    compiler="x86_64-linux-gnu-",
    config=_HERE / "kernel-x86.config",
    kernel_steps=2014,
    unread_source=("arch/s390/*.[chS]",),
    modules=(*VFIO_MODULES, "e1000e", "igb", "igbvf", "nvme"),
    command=devices_x86.command,
    guests=("qemu", "bare"),
    profiles=devices_x86.PROFILES,
    packages=(
        Package("gcc-x86-64-linux-gnu", "x86_64-linux-gnu-gcc", "to build the kernel"),
        Package("libelf-dev", "/usr/include/libelf.h", "to build the kernel's own tools (objtool)"),
    ),
    emulator=("qemu-system-x86", "seabios", "ipxe-qemu"),
)

PPC64 = Architecture(
    name="ppc64",
    debian="ppc64el",
    machine="ppc64le",
    kbuild="powerpc",
    compiler="powerpc64le-linux-gnu-",
    stock="linux-image-powerpc64le",
    image="vmlinux",
    guests=("qemu", "pseries"),
    initrd_modules=("virtio_blk", "crc32c_generic", "crc16", "mbcache", "jbd2", "ext4"),
    modules=("vfio", "vfio_iommu_spapr_tce", "vfio-pci", "e1000e", "nvme", "virtio_net"),
    stock_modules=("9p", "9pnet_virtio", "pci-stub", "virtio-rng"),
    command=devices_ppc64.command,
    profiles=devices_ppc64.PROFILES,
    packages=(
        Package(
            "gcc-powerpc64le-linux-gnu", "powerpc64le-linux-gnu-gcc", "to compare numbers with the kernel's headers"
        ),
    ),
    qemu="qemu-system-ppc64",
    emulator=("qemu-system-ppc", "qemu-system-data", "ipxe-qemu"),
)

ARCHITECTURES = {one.name: one for one in (S390X, X86, PPC64)}
