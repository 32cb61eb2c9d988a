"""The devices of the x86 guest: a q35 with VT-d, every kind of bridge that QEMU has, and native PCIe hotplug.

function       device                             behind
00:02.0        9p, the host's tree     /src       the root complex
00:03.0        9p, results             /out
00:04.0        root disk
00:05.0        virtio-serial (port "qmp")
00:06.0        edu
00:07.0, .1    pci-testdev
01:00.0        e1000e                             ioh3420 (08.0, without ACS)
02:00.0        edu                                ioh3420 (08.1)
03:00.0        igb, with virtual functions        root port (09.0, with ACS)
04:00.0        nvme                               root port (09.1)
05:00.0 ...    a switch: x3130, two xio3130       root port (0a.0)
07:00.0        e1000e                             xio3130 (06:00.0, slot 6)
08:00.0        virtio-net                         xio3130 (06:01.0, slot 7)
0a:01.0        edu                                pcie-pci-bridge (09:00.0) at a root port (0b.0)
0a:02.0        pci-testdev
0b:            empty, slot 9, for a hotplug       root port (0c.0)
0c:00.0, .1    e1000e with two functions          root port (0d.0)
0d:00.0        virtio-net whose AER works         root port (0f.0)
0e:00.0        virtio-blk, for the contract       root port (10.0, not for hotplug)
0f:00.0        virtio-rng, for the contract       root port (11.0, not for hotplug)
10:00.0        virtio-rng, for DMA                root port (12.0, not for hotplug)
11:00.0        edu, for its driver                root port (13.0, not for hotplug)
12:00.0        nvme with a disk, for its driver   root port (14.0, not for hotplug)
41:00.0        e1000e                             root port at a second root bus (40)

Up to 0d:00.0 and at 41:00.0 this is the machine with which golden/x86 was recorded.  A slot of native hotplug does not
take its device back once its power was off (QEMU unplugs it for good), so what the contract takes is in none.

The virtio-blk has no function-level reset: Linux waits a tenth of a second in one, and every test that opens the
function would do that twice.  Its reset is that of power management.

QEMU sends an AER message only for a function with the capability and with error enables that can be written: virtio
functions with ``aer=on``.  ``pcie_aer_inject_error va0 COMP_TIME`` on the monitor works, others' are lost.
"""

from __future__ import annotations

from pathlib import Path

_PORT = "pcie-root-port,bus=pcie.0"
_MODERN = "disable-legacy=on,iommu_platform=on,aer=on"
#: The functions that the contract takes.
CONTRACT = (
    *("-device", f"{_PORT},id=rph,addr=10.0,chassis=10,slot=13,hotplug=off"),
    *("-blockdev", "null-co,node-name=nb0,size=1048576,read-zeroes=on"),
    *("-device", f"virtio-blk-pci,id=vb0,bus=rph,drive=nb0,{_MODERN},x-pcie-flr-init=off"),
    *("-device", f"{_PORT},id=rpi,addr=11.0,chassis=11,slot=14,hotplug=off"),
    *("-device", f"virtio-rng-pci,id=vr0,bus=rpi,{_MODERN}"),
    *("-device", f"{_PORT},id=rpj,addr=12.0,chassis=12,slot=15,hotplug=off"),
    *("-device", f"virtio-rng-pci,id=vr1,bus=rpj,{_MODERN}"),
    *("-device", f"{_PORT},id=rpk,addr=13.0,chassis=13,slot=16,hotplug=off", "-device", "edu,id=edu3,bus=rpk"),
    *("-device", f"{_PORT},id=rpl,addr=14.0,chassis=14,slot=17,hotplug=off"),
    *("-drive", "if=none,id=nd0,driver=null-co,size=16777216,read-zeroes=on,snapshot=on"),
    *("-device", "nvme,id=nvme1,bus=rpl,serial=LAB0002,drive=nd0"),
)
TOPOLOGY = (
    # conventional endpoints on the root complex
    *("-device", "edu,id=edu0,addr=06.0"),
    *("-device", "pci-testdev,id=td0,addr=07.0,multifunction=on"),
    *("-device", "pci-testdev,id=td1,addr=07.1"),
    # ioh3420 root ports (no ACS), two functions of one slot
    *("-device", "ioh3420,id=ioh0,bus=pcie.0,addr=08.0,multifunction=on,chassis=1,slot=1"),
    *("-device", "ioh3420,id=ioh1,bus=pcie.0,addr=08.1,chassis=1,slot=2"),
    *("-device", "e1000e,id=e0,bus=ioh0"),
    *("-device", "edu,id=edu1,bus=ioh1"),
    # generic root ports (with ACS), two functions of one slot
    *("-device", f"{_PORT},id=rpa,addr=09.0,multifunction=on,chassis=2,slot=3"),
    *("-device", f"{_PORT},id=rpb,addr=09.1,chassis=2,slot=4"),
    *("-device", "igb,id=igb0,bus=rpa"),
    *("-device", "nvme,id=nvme0,bus=rpb,serial=LAB0001"),
    # a switch behind a root port with ACS; the xio3130 downstream ports have none
    *("-device", f"{_PORT},id=rpc,addr=0a.0,chassis=3,slot=5"),
    *("-device", "x3130-upstream,id=up0,bus=rpc"),
    *("-device", "xio3130-downstream,id=dn0,bus=up0,chassis=4,slot=6"),
    *("-device", "xio3130-downstream,id=dn1,bus=up0,chassis=4,slot=7"),
    *("-device", "e1000e,id=e1,bus=dn0"),
    *("-device", f"virtio-net-pci,id=vn0,bus=dn1,{_MODERN}"),
    # a PCIe-to-PCI bridge with two conventional devices behind it
    *("-device", f"{_PORT},id=rpd,addr=0b.0,chassis=5,slot=8"),
    *("-device", "pcie-pci-bridge,id=ppb0,bus=rpd"),
    *("-device", "edu,id=edu2,bus=ppb0,addr=1"),
    *("-device", "pci-testdev,id=td2,bus=ppb0,addr=2"),
    # an empty port for hotplug and one with a multifunction endpoint
    *("-device", f"{_PORT},id=rpe,addr=0c.0,chassis=6,slot=9"),
    *("-device", f"{_PORT},id=rpf,addr=0d.0,chassis=7,slot=10"),
    *("-device", "e1000e,id=mf0,bus=rpf,addr=00.0,multifunction=on"),
    *("-device", "e1000e,id=mf1,bus=rpf,addr=00.1"),
    # errors from the monitor reach the kernel here
    *("-device", f"{_PORT},id=rpg,addr=0f.0,chassis=9,slot=12"),
    *("-device", f"virtio-net-pci,id=va0,bus=rpg,{_MODERN}"),
    # a second root bus
    *("-device", "pxb-pcie,id=pxb0,bus_nr=64,bus=pcie.0,addr=0e.0"),
    *("-device", "pcie-root-port,id=rpx,bus=pxb0,chassis=8,slot=11"),
    *("-device", "e1000e,id=ex,bus=rpx"),
)
#: Functions that no IOMMU is in front of: the one profile without VT-d.
BARE = ("-device", "edu,id=edu0,addr=06.0", "-device", f"{_PORT},id=rpl,addr=14.0", *CONTRACT[-4:])
_IOMMU = ("-device", "intel-iommu,intremap=on,caching-mode=on,aw-bits=48")
PROFILES: dict[str, tuple[str, ...]] = {"none": (), "contract": CONTRACT, "all": TOPOLOGY + CONTRACT, "bare": BARE}
_ROOT = "root=/dev/vda ro rootfstype=ext4 init=/init"


def command(kernel: Path, disk: Path, src: Path, out: Path, sockets: Path, profile: str, more: list[str]) -> list[str]:
    """Give QEMU's command line. `sockets` is a directory with a short path; `more` are further QEMU words.

    The guest owns a QMP connection to the QEMU that runs it, the port "qmp", as in the s390x guest.
    """
    return [
        *("qemu-system-x86_64", "-M", "q35,kernel-irqchip=split", "-cpu", "max", "-accel", "tcg", "-m", "768"),
        *("-smp", "1", "-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{out}/console.log"),
        *(
            "-kernel",
            str(kernel),
            "-append",
            "quiet panic=-1 console=ttyS0 root=/dev/vda ro rootfstype=ext4 init=/init",
        ),
        # hotplug by the ports themselves, not by ACPI
        *("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"),
        *(() if profile == "bare" else _IOMMU),
        *("-fsdev", f"local,id=fsrc,path={src},security_model=none,readonly=on"),
        *("-device", "virtio-9p-pci,fsdev=fsrc,mount_tag=src,addr=02.0"),
        *("-fsdev", f"local,id=fout,path={out},security_model=none"),
        *("-device", "virtio-9p-pci,fsdev=fout,mount_tag=out,addr=03.0"),
        *("-drive", f"if=none,id=root,format=raw,readonly=on,file={disk}"),
        *("-device", "virtio-blk-pci,drive=root,addr=04.0"),
        *("-device", "virtio-serial-pci,addr=05.0"),
        *("-chardev", f"socket,id=mon,path={sockets}/qmp,server=on,wait=off", "-mon", "chardev=mon,mode=control"),
        *("-chardev", f"socket,id=gqmp,path={sockets}/qmp", "-device", "virtserialport,chardev=gqmp,name=qmp"),
        *PROFILES[profile],
        *more,
    ]
