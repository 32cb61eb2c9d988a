"""The devices of the ppc64 guest: a powernv9, where each device has a PHB4 of its own, or a pseries with three PHBs.

powernv9       device                             at
0000:01:00.0   9p, the host's tree     /src       the root port of PHB 0, functions of one device
0000:01:00.1   9p, results             /out
0000:01:00.2   root disk
0000:01:00.3   virtio-serial (port "qmp")
0000:01:00.4   virtio-net that nobody uses
0001:01:00.0   virtio-blk with AER, for the contract  PHB 1
0002:01:00.0   virtio-rng, for the contract       PHB 2
0003:01:00.0   virtio-rng, for DMA                PHB 3
0004:01:00.0   nvme with a disk, for its driver   PHB 4
0005:01:00.0   edu, for its driver                PHB 5

profile lab, instead of these (the machine with which golden/ppc64 was recorded, but for PHB 0 and 1)
0002:01:00.0   nvme                               PHB 2
0003:01:00.0   e1000e                             PHB 3
0004:01:00.0   edu                                PHB 4

pseries        the four of /src to "qmp"          PHB 0, slots 2 to 5
0001:00:01.0   e1000e                             PHB 1, one group
0001:00:02.0   edu
0001:00:03.0   nvme
0002:00:01.0   pci-testdev                        PHB 2

pseries-contract   the same four                  PHB 0
0001:00:01.0   virtio-blk, for the contract       PHB 1
0002:00:01.0   virtio-rng, for the contract       PHB 2
0003:00:01.0   virtio-rng, for DMA                PHB 3
0004:00:01.0   nvme with a disk, for its driver   PHB 4
0005:00:01.0   pci-testdev                        PHB 5, one group
0005:00:02.0   pci-testdev
0006:00:01.0   e1000e                             PHB 6, one group
0006:00:02.0   edu

QEMU's powernv has its PHBs only without ``-nodefaults``, and skiboot is silent with a second serial port.
"""

from __future__ import annotations

from pathlib import Path

from . import initrd

_MODERN = "disable-legacy=on,iommu_platform=on"
#: The functions that the contract takes, each behind a root port of its own.
CONTRACT = (
    *("-device", f"virtio-net-pci,id=vn0,bus=pcie.0,addr=00.4,{_MODERN},aer=on"),
    *("-blockdev", "null-co,node-name=nb0,size=1048576,read-zeroes=on"),
    *("-device", f"virtio-blk-pci,id=vb0,bus=pcie.1,drive=nb0,{_MODERN},aer=on,x-pcie-flr-init=off"),
    *("-device", f"virtio-rng-pci,id=vr0,bus=pcie.2,{_MODERN}"),
    *("-device", f"virtio-rng-pci,id=vr1,bus=pcie.3,{_MODERN}"),
    *("-drive", "if=none,id=nd0,driver=null-co,size=16777216,read-zeroes=on,snapshot=on"),
    *("-device", "nvme,id=nvme0,bus=pcie.4,serial=LAB0002,drive=nd0"),
    *("-device", "edu,id=edu0,bus=pcie.5"),
)
LAB = (
    *("-device", "nvme,id=nvme0,bus=pcie.2,serial=LAB1"),
    *("-device", "e1000e,id=e0,bus=pcie.3"),
    *("-device", "edu,id=edu0,bus=pcie.4"),
)
PSERIES = (
    *("-device", "spapr-pci-host-bridge,index=1,id=phb1"),
    *("-device", "e1000e,id=e0,bus=phb1.0,addr=1"),
    *("-device", "edu,id=edu0,bus=phb1.0,addr=2"),
    *("-device", "nvme,id=nvme0,bus=phb1.0,addr=3,serial=LAB1"),
    *("-device", "spapr-pci-host-bridge,index=2,id=phb2"),
    *("-device", "pci-testdev,id=td0,bus=phb2.0,addr=1"),
)
PSERIES_CONTRACT = (
    *(word for index in range(1, 7) for word in ("-device", f"spapr-pci-host-bridge,index={index},id=phb{index}")),
    *("-blockdev", "null-co,node-name=nb0,size=1048576,read-zeroes=on"),
    *("-device", f"virtio-blk-pci,id=vb0,bus=phb1.0,addr=1,drive=nb0,{_MODERN}"),
    *("-device", f"virtio-rng-pci,id=vr0,bus=phb2.0,addr=1,{_MODERN}"),
    *("-device", f"virtio-rng-pci,id=vr1,bus=phb3.0,addr=1,{_MODERN}"),
    *("-drive", "if=none,id=nd0,driver=null-co,size=16777216,read-zeroes=on,snapshot=on"),
    *("-device", "nvme,id=nvme0,bus=phb4.0,addr=1,serial=LAB0002,drive=nd0"),
    *("-device", "pci-testdev,id=td0,bus=phb5.0,addr=1"),
    *("-device", "pci-testdev,id=td1,bus=phb5.0,addr=2"),
    *("-device", "e1000e,id=e0,bus=phb6.0,addr=1"),
    *("-device", "edu,id=edu0,bus=phb6.0,addr=2"),
)
PROFILES: dict[str, tuple[str, ...]] = {
    "none": (),
    "contract": CONTRACT,
    "all": CONTRACT,
    "lab": LAB,
    "pseries": PSERIES,
    "pseries-contract": PSERIES_CONTRACT,
}
SERIAL = "hil-root"
"""The root disk's serial number, by which the initial RAM disk knows it."""


def command(kernel: Path, disk: Path, src: Path, out: Path, sockets: Path, profile: str, more: list[str]) -> list[str]:
    """Give QEMU's command line. `sockets` is a directory with a short path; `more` are further QEMU words.

    Profiles ``pseries...`` are that machine, the others are a powernv9. The guest owns a QMP connection to the QEMU
    that runs it, the port "qmp", as in the s390x guest.
    """
    pseries = profile.startswith("pseries")
    machine: tuple[str, ...] = (
        *("-M", "pseries", "-nodefaults", "-chardev", f"file,id=con,path={out}/console.log"),
        *("-device", "spapr-vty,chardev=con,reg=0x30000000"),
    )
    if not pseries:
        machine = (
            *("-M", "powernv9", "-net", "none", "-vga", "none", "-monitor", "none", "-audiodev", "none,id=none"),
            *("-serial", f"file:{out}/console.log"),
        )
    places = [f"bus=pci.0,addr={slot}" if pseries else f"bus=pcie.0,addr=00.{slot - 2}" for slot in range(2, 6)]
    if not pseries:
        places[0] += ",multifunction=on"
    return [
        "qemu-system-ppc64",
        *machine,
        *("-accel", "tcg", "-m", "2048", "-smp", "1", "-display", "none", "-no-reboot"),
        *("-kernel", str(kernel), "-initrd", str(disk.with_name(initrd.NAME))),
        *("-append", f"quiet panic=-1 console=hvc0 HIL_DISK={SERIAL}"),
        *("-fsdev", f"local,id=fsrc,path={src},security_model=none,readonly=on"),
        *("-device", f"virtio-9p-pci,fsdev=fsrc,mount_tag=src,{places[0]}"),
        *("-fsdev", f"local,id=fout,path={out},security_model=none"),
        *("-device", f"virtio-9p-pci,fsdev=fout,mount_tag=out,{places[1]}"),
        *("-drive", f"if=none,id=root,format=raw,readonly=on,file={disk}"),
        *("-device", f"virtio-blk-pci,drive=root,serial={SERIAL},{places[2]}"),
        *("-device", f"virtio-serial-pci,{places[3]}"),
        *("-chardev", f"socket,id=mon,path={sockets}/qmp,server=on,wait=off", "-mon", "chardev=mon,mode=control"),
        *("-chardev", f"socket,id=gqmp,path={sockets}/qmp", "-device", "virtserialport,chardev=gqmp,name=qmp"),
        *PROFILES[profile],
        *more,
    ]
