"""The guest's devices. Their order on QEMU's command line gives subchannel numbers, so it is part of the contract.

subchannel   device     what
0.0.0000     0.0.f000   virtio-serial (port "qmp")
0.0.0001     0.0.f010   9p, the host's tree     /src
0.0.0002     0.0.f011   9p, results             /out
0.0.0003     0.0.f001   root disk
0.0.0004     0.0.1000   virtio-rng              profile ccw
0.0.0005     0.0.1001   virtio-blk              profile ccw
0.0.0006     0.0.000a   3270                    profile ccw

function       uid   fid    what
0011:00:00.0   17    16     virtio-net          profile zpci
0020:00:00.0   32    4096   virtio-blk          profile zpci
0030:00:00.0   48    33     virtio-rng, modern  profile zpci
0040:00:00.0   64    34     the same, with DMA by the function's own addresses
"""

from __future__ import annotations

from pathlib import Path

CCW = (
    *("-device", "virtio-rng-ccw,devno=fe.0.1000,id=ccw_rng"),
    *("-blockdev", "null-co,node-name=nb0,size=1048576,read-zeroes=on"),
    *("-device", "virtio-blk-ccw,devno=fe.0.1001,id=ccw_blk,drive=nb0,serial=LABBLK"),
    *("-chardev", "socket,id=tn,path={sockets}/tn3270,server=on,wait=off,tn3270=on"),
    *("-device", "x-terminal3270,devno=fe.0.000a,id=ccw_3270,chardev=tn"),
)
ZPCI = (
    *("-device", "zpci,uid=17,fid=16,target=pnet0,id=zp0"),
    *("-device", "virtio-net-pci,id=pnet0,mac=52:54:00:12:34:56"),
    *("-blockdev", "null-co,node-name=nb1,size=1048576,read-zeroes=on"),
    *("-device", "zpci,uid=32,fid=4096,target=pblk0,id=zp1"),
    *("-device", "virtio-blk-pci,id=pblk0,drive=nb1"),
    *("-device", "zpci,uid=48,fid=33,target=prng0,id=zp2"),
    *("-device", "virtio-rng-pci,id=prng0,disable-legacy=on"),
    *("-device", "zpci,uid=64,fid=34,target=prng1,id=zp3"),
    *("-device", "virtio-rng-pci,id=prng1,disable-legacy=on,iommu_platform=on"),
)
#: What golden/s390x/ccw-virtio.json was recorded with: the subchannels from 0.0.0004 on, and four in other sets.
VIRTIO = (
    *("-device", "virtio-net-ccw,devno=fe.0.2001,mac=52:54:00:12:34:77"),
    *("-device", "virtio-serial-ccw,devno=fe.0.2003,max_ports=4"),
    *("-device", "virtio-rng-ccw,devno=fe.0.2004"),
    *("-device", "virtio-balloon-ccw,devno=fe.0.2005"),
    *("-device", "virtio-scsi-ccw,devno=fe.0.2008"),
    *("-fsdev", "local,id=fthird,path={sockets},security_model=none,readonly=on"),
    *("-device", "virtio-9p-ccw,devno=fe.0.2009,fsdev=fthird,mount_tag=third"),
    *("-device", "virtio-gpu-ccw,devno=fe.0.2010"),
    *("-device", "virtio-keyboard-ccw,devno=fe.0.2012"),
    *("-device", "virtio-tablet-ccw,devno=fe.0.2013"),
    *("-object", "cryptodev-backend-builtin,id=crypto0"),
    *("-device", "virtio-crypto-ccw,devno=fe.0.2014,cryptodev=crypto0"),
    *("-blockdev", "null-co,node-name=nb3,size=8388608,read-zeroes=on"),
    "-device",
    "virtio-blk-ccw,devno=fe.0.2002,drive=nb3,serial=MANYQ,num-queues=4,"
    "logical_block_size=4096,physical_block_size=4096",
    *("-chardev", "socket,id=tn,path={sockets}/tn3270,server=on,wait=off,tn3270=on"),
    *("-device", "x-terminal3270,devno=fe.0.000a,chardev=tn"),
    *("-device", "virtio-rng-ccw,devno=fe.1.2004"),
    *("-blockdev", "null-co,node-name=nb4,size=1048576,read-zeroes=on"),
    *("-device", "virtio-blk-ccw,devno=fe.1.ffff,drive=nb4,serial=SET1"),
    *("-device", "virtio-net-ccw,devno=fe.2.0000,mac=52:54:00:12:34:78"),
    *("-device", "virtio-rng-ccw,devno=fe.3.abcd"),
)
PROFILES: dict[str, tuple[str, ...]] = {"none": (), "ccw": CCW, "zpci": ZPCI, "all": CCW + ZPCI, "virtio": VIRTIO}


def command(kernel: Path, disk: Path, src: Path, out: Path, sockets: Path, profile: str, more: list[str]) -> list[str]:
    """Give QEMU's command line. `sockets` is a directory with a short path; `more` are further QEMU words.

    The guest owns a QMP connection to the QEMU that runs it: the port "qmp" is a client of the monitor's
    socket, so a test in the guest can plug and unplug devices without a helper on the host.
    """
    devices = [word.format(sockets=sockets) for word in PROFILES[profile]]
    # PCI disks are named before the channel-attached root disk.
    disks = sum(word.startswith("virtio-blk-pci") for word in devices)
    root = f"root=/dev/vd{chr(ord('a') + disks)} ro rootfstype=ext4 init=/init"
    return [
        *("qemu-system-s390x", "-M", "s390-ccw-virtio", "-cpu", "max", "-accel", "tcg", "-m", "512", "-smp", "1"),
        *("-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{out}/console.log"),
        *("-kernel", str(kernel), "-append", f"quiet panic=-1 {root}"),
        *("-device", "virtio-serial-ccw,devno=fe.0.f000"),
        *("-chardev", f"socket,id=mon,path={sockets}/qmp,server=on,wait=off", "-mon", "chardev=mon,mode=control"),
        *("-chardev", f"socket,id=gqmp,path={sockets}/qmp", "-device", "virtserialport,chardev=gqmp,name=qmp"),
        *("-fsdev", f"local,id=fsrc,path={src},security_model=none,readonly=on"),
        *("-device", "virtio-9p-ccw,devno=fe.0.f010,fsdev=fsrc,mount_tag=src"),
        *("-fsdev", f"local,id=fout,path={out},security_model=none"),
        *("-device", "virtio-9p-ccw,devno=fe.0.f011,fsdev=fout,mount_tag=out"),
        *("-drive", f"if=none,id=root,format=raw,readonly=on,file={disk}"),
        *("-device", "virtio-blk-ccw,devno=fe.0.f001,drive=root"),
        *devices,
        *more,
    ]
