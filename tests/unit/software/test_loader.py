"""Machine files: every mistake names the file, the key and the line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pyvfio import Host, open_backend
from pyvfio.address import SubchannelId
from pyvfio.css.chsc_machine import Facility
from pyvfio.errors import BadMachine
from pyvfio_backends.software.hardware.devices.ckd_image import create_image
from pyvfio_backends.software.loader import find_machine, load_machine, machine_files

X86 = 'architecture = "x86_64"\n'
E2000 = '[[pcie.function]]\nmodel = "e2000"\nbehind = "0000:00"\n'
PORT = '[[pcie.function]]\nmodel = "ioh3420"\nbehind = "0000:00"\n'
HEAD = '[machine]\nname = "m"\n'
PATH = "[[css.path]]\nchpid = 1\n"
SUBCHANNEL = '[[css.subchannel]]\nschid = "0.0.0001"\ndevice = "0.0.1000"\nunit = "echo"\nchpids = [1]\n'
FUNCTION = '[[zpci.function]]\nuid = 1\nfid = 2\nmodel = "virtio-rng"\n'

MISTAKES = {
    "no table": ("", "machine", None, "missing"),
    "no name": ("[machine]\npage_size = 4096\n", "machine", 1, "missing: name"),
    "unknown table": (HEAD + "[ccs]\n", "ccs", 3, "unknown table"),
    "unknown key": (HEAD + "pagesize = 4096\n", "machine.pagesize", 3, "unknown key"),
    "unknown key of css": (HEAD + "[css]\nchannel = 1\n", "css.channel", 3, "unknown key"),
    "wrong type": (HEAD + 'page_size = "4K"\n', "machine.page_size", 3, "must be a number, not a string"),
    "boolean as number": (HEAD + "seqnum = true\n", "machine.seqnum", 3, "must be a number, not true or false"),
    "architecture": (HEAD + 'architecture = "vax"\n', "machine.architecture", 3, "not modelled"),
    "another architecture's hardware": (HEAD + "[[pcie.bus]]\n", "pcie.bus", 3, "s390x has none"),
    "channels on x86": (HEAD + X86 + "[[css.path]]\nchpid = 1\n", "css.path", 4, "x86_64 has none"),
    "a bus number": (HEAD + X86 + "[[pcie.bus]]\nnumber = 256\n", "pcie.bus.number", 5, "must be between"),
    "a bus number with a point": (
        HEAD + X86 + "[[pcie.bus]]\nnumber = 1.5\n",
        "pcie.bus.number",
        5,
        "a number, not a fraction",
    ),
    "a date": (HEAD + "page_size = 2026-01-01\n", "machine.page_size", 3, "not a date"),
    "no memory": (HEAD + "memory = 0\n", "machine.memory", 3, "a page of 4096 bytes at least"),
    "memory of less than a page": (
        HEAD + "page_size = 65536\nmemory = 4096\n",
        "machine.memory",
        4,
        "a page of 65536 bytes at least",
    ),
    "x86 without a bus": (HEAD + X86, "machine.architecture", 3, "needs a [[pcie.bus]]"),
    "bus numbers of slots": (HEAD + X86 + "slot_buses = 256\n", "machine.slot_buses", 4, "between 0x0 and 0xff"),
    "a slot's number": (HEAD + X86 + "[[pcie.bus]]\n" + PORT + "slot = 8192\n", "pcie.function", 5, "from 0 to 8191"),
    "a slot below none": (HEAD + X86 + "[[pcie.bus]]\n" + PORT + "slot = -2\n", "pcie.function", 5, "from 0 to 8191"),
    "a device number": (
        HEAD + X86 + "[[pcie.bus]]\n" + PORT + 'at = "20.0"\n',
        "pcie.function",
        5,
        "no device.function",
    ),
    "a bus twice": (HEAD + X86 + "[[pcie.bus]]\n[[pcie.bus]]\n", "pcie.bus", 5, "are another's"),
    "an IOMMU's width": (HEAD + X86 + "[[pcie.bus]]\n[[pcie.iommu]]\nwidth = 40\n", "pcie.iommu", 5, "39, 48, 57"),
    "an IOMMU's pages": (
        HEAD + X86 + '[[pcie.bus]]\n[[pcie.iommu]]\nlarge_pages = ["4M"]\n',
        "pcie.iommu",
        5,
        "no pages",
    ),
    "an IOMMU's segment": (HEAD + X86 + "[[pcie.bus]]\n[[pcie.iommu]]\nsegment = 1\n", "pcie.iommu", 5, "no segment"),
    "an IOMMU twice": (HEAD + X86 + "[[pcie.bus]]\n[[pcie.iommu]]\n[[pcie.iommu]]\n", "pcie.iommu", 5, "twice"),
    "a model of PCI Express": (HEAD + X86 + "[[pcie.bus]]\n" + E2000, "pcie.function", 5, "no model 'e2000'"),
    "an argument of PCI Express": (HEAD + X86 + E2000 + "port = 3\n", "pcie.function.port", 7, "unknown key"),
    "module": (HEAD + 'modules = ["vfio", "foo"]\n', "machine.modules", 3, "no module 'foo'"),
    "page size": (HEAD + "page_size = 1000\n", "machine.page_size", 3, "4096, 16384 or 65536"),
    "not a list": (HEAD + "[css.path]\nchpid = 1\n", "css.path", 3, "[[css.path]]"),
    "chpid": (HEAD + "[[css.path]]\nchpid = 256\n", "css.path.chpid", 4, "between"),
    "unknown path": (HEAD + SUBCHANNEL, "css.subchannel.chpids", 7, "channel path 01"),
    "schid": (HEAD + PATH + SUBCHANNEL.replace("0.0.0001", "zero"), "css.subchannel", 5, "'zero'"),
    "twice": (HEAD + PATH + SUBCHANNEL + SUBCHANNEL, "css.subchannel.schid", 11, "twice"),
    "unit": (HEAD + PATH + SUBCHANNEL.replace("echo", "eco"), "css.subchannel.unit", 8, "no control unit 'eco'"),
    "nine paths": (HEAD + PATH + SUBCHANNEL.replace("[1]", "[1,1,1,1,1,1,1,1,1]"), "css.subchannel.chpids", 9, "eight"),
    "uid": (HEAD + FUNCTION.replace("uid = 1", "uid = 65536"), "zpci.function.uid", 4, "between"),
    "uid twice": (HEAD + FUNCTION + FUNCTION.replace("fid = 2", "fid = 3"), "zpci.function.uid", 8, "twice"),
    "model": (HEAD + FUNCTION.replace("-rng", "-gpu"), "zpci.function.model", 6, "no model"),
    "driver": (HEAD + FUNCTION + 'driver = "virtio"\n', "zpci.function.driver", 7, "vfio-pci, virtio-pci"),
    "other driver": (
        *(HEAD + FUNCTION.replace("-rng", "-bell") + 'driver = "virtio-pci"\n', "zpci.function.driver"),
        *(7, "no driver 'virtio-pci' takes a virtio-bell; there is vfio-pci"),
    ),
    "ccw driver": (HEAD + PATH + SUBCHANNEL + 'driver = "dasd"\n', "css.subchannel.driver", 10, "dasd-eckd"),
    "state": (HEAD + FUNCTION + 'state = "on"\n', "zpci.function.state", 7, "configured"),
    "option": (HEAD + FUNCTION + "options = { size = 1 }\n", "zpci.function.options", 7, "no option 'size'"),
    "option's type": (HEAD + FUNCTION + "options = { legacy = 1 }\n", "zpci.function.options", 7, "type bool"),
    "option's value": (HEAD + FUNCTION + 'options = { pfip = "0x" }\n', "zpci.function.options", 7, "hexadecimal"),
    "unit's option": (HEAD + PATH + SUBCHANNEL + "options = { room = 1 }\n", "css.subchannel.options", 10, "'room'"),
    "fid missing": (HEAD + FUNCTION.replace("fid = 2\n", ""), "zpci.function", 3, "missing: fid"),
    "action": (HEAD + PATH + '[[css.event]]\naction = "paint"\n', "css.event.action", 6, "no action 'paint'"),
    "no action": (HEAD + PATH + "[[css.event]]\npath = 1\n", "css.event", 5, "missing: action"),
    "event's path": (HEAD + PATH + '[[css.event]]\naction = "path-off"\npath = 2\n', "css.event.path", 7, "no channel"),
    "event's start": (
        HEAD + PATH + '[[css.event]]\naction = "path-off"\npath = 1\nstarts = 1\n',
        "css.event.starts",
        8,
        "'of'",
    ),
    "event's time": (
        HEAD + PATH + '[[css.event]]\naction = "path-off"\npath = 1\nafter = -1\n',
        "css.event.after",
        8,
        "negative",
    ),
    "event's subchannel": (HEAD + '[[css.event]]\naction = "unplug"\nschid = "x"\n', "css.event.schid", 5, "'x'"),
    "event's status": (
        HEAD + '[[css.event]]\naction = "attention"\nschid = "0.0.0001"\ndstat = 256\n',
        "css.event.dstat",
        6,
        "8 bits",
    ),
    "report": (HEAD + '[[css.event]]\naction = "report"\nwords = ["xy"]\n', "css.event.words", 5, "hexadecimal"),
    "no report": (HEAD + '[[css.event]]\naction = "report"\n', "css.event.words", 3, "one or more"),
    "event": (HEAD + '[[css.event]]\naction = "event"\nsei = "00"\n', "css.event.sei", 5, "event information"),
    "not TOML": (HEAD + "x = \n", "machine", 3, "not TOML"),
    "image": (
        HEAD + PATH + '[[css.subchannel]]\nschid = "5.1.0001"\ndevice = "5.1.1000"\nunit = "echo"\nchpids = [1]\n',
        "css.subchannel.schid",
        6,
        "no image 5",
    ),
    "device of another set": (
        HEAD + PATH + '[[css.subchannel]]\nschid = "0.1.0001"\ndevice = "0.2.1000"\nunit = "echo"\nchpids = [1]\n',
        "css.subchannel.device",
        7,
        "not in the image and set",
    ),
}


BLK = (
    '[[zpci.function]]\nuid = 1\nfid = 1\nmodel = "virtio-blk"\ndriver = "virtio-pci"\n'
    "options = { size = 0x400_0000 }\n"
)
NIC = '[[zpci.function]]\nuid = 2\nfid = 2\nmodel = "virtio-net"\ndriver = "virtio-pci"\n'
DASD = (
    '[[css.subchannel]]\nschid = "0.0.0001"\ndevice = "0.0.1000"\nunit = "dasd-3390"\nchpids = [1]\n'
    'driver = "dasd-eckd"\nonline = true\n'
)
USED = HEAD + BLK + NIC  # 13 lines
GPT = USED + '[[disk]]\nname = "vda"\ntable = "gpt"\n'  # 16 lines
PART = "[[disk.partition]]\n"
DM = '[[holder]]\nname = "dm-0"\ndm_name = "v"\nslaves = ["vda"]\n'
NOWHERE = '[[disk]]\nname = "sda"\n'

MISTAKES |= {
    "disk": (USED + NOWHERE, "disk.name", 15, "no disk 'sda' at boot; there is vda"),
    "disk twice": (GPT + '[[disk]]\nname = "vda"\n', "disk.name", 18, "vda is there twice"),
    "disk's key": (USED + '[[disk]]\nnome = "vda"\n', "disk.nome", 15, "unknown key"),
    "disk's name missing": (USED + "[[disk]]\n", "disk", 14, "missing: name"),
    "disk not a list": (USED + '[disk]\nname = "vda"\n', "disk", 14, "[[disk]]"),
    "disk of a free function": (
        HEAD + BLK.replace('driver = "virtio-pci"\n', "") + '[[disk]]\nname = "vda"\n', "disk.name", 9, "there is none",
    ),
    "table": (USED + '[[disk]]\nname = "vda"\ntable = "bsd"\n', "disk.table", 16, "no table 'bsd'"),
    "table and signature": (GPT + 'signature = "ext4"\n', "disk.signature", 17, "a table or a signature"),
    "signature": (USED + '[[disk]]\nname = "vda"\nsignature = "ntfs"\n', "disk.signature", 16, "no signature 'ntfs'"),
    "no table for partitions": (USED + '[[disk]]\nname = "vda"\n' + PART, "disk.name", 15, "need a table"),
    "table of a DASD": (
        HEAD + PATH + DASD + '[[disk]]\nname = "dasda"\ntable = "gpt"\n', "disk.table", 14, "a table of its own",
    ),
    "track of a DASD": (
        HEAD + PATH + DASD + '[[disk]]\nname = "dasda"\n' + PART + "size = 4096\n",
        "disk.partition.size", 15, "multiple of 49152",
    ),
    "partition's key": (GPT + PART + "length = 1\n", "disk.partition.length", 18, "unknown key"),
    "partition's type": (GPT + PART + 'size = "1M"\n', "disk.partition.size", 18, "must be a number"),
    "partition's number": (GPT + PART + "number = 129\n", "disk.partition.number", 18, "from 1 to 128"),
    "number twice": (
        GPT + PART + "size = 0x10_0000\n" + PART + "number = 1\n", "disk.partition.number", 20, "not 1",
    ),
    "overlap": (
        GPT + PART + "size = 0x10_0000\n" + PART + "start = 0x18_0000\n",
        "disk.partition.start", 20, "overlaps partition 1",
    ),
    "too long": (GPT + PART + "size = 0x400_0000\n", "disk.partition.size", 18, "must lie between"),
    "no room": (GPT + PART + PART, "disk.partition.size", 18, "no room is left"),
    "half a sector": (GPT + PART + "size = 1000\n", "disk.partition.size", 18, "multiple of 512"),
    "too small": (
        GPT + PART + 'size = 0x10_0000\nsignature = "xfs"\n', "disk.partition.signature", 19, "xfs needs 4194304 bytes",
    ),
    "name without GPT": (GPT.replace("gpt", "dos") + PART + 'name = "boot"\n', "disk.partition.name", 18, "for GPT"),
    "fifth partition": (
        GPT.replace("gpt", "dos") + (PART + "size = 0x10_0000\n") * 5, "disk.partition.number", 25, "from 1 to 4",
    ),
    "holder": (USED + DM.replace("dm-0", "bcache0"), "holder.name", 15, "not 'bcache0'"),
    "holder without name": (USED + DM.replace('dm_name = "v"\n', ""), "holder", 14, "missing: dm_name"),
    "holder on nothing": (USED + DM.replace('["vda"]', "[]"), "holder.slaves", 17, "at least one"),
    "slave": (USED + DM.replace("vda", "vda9"), "holder.slaves", 17, "no block device 'vda9'; there is vda"),
    "slave in use": (GPT + PART + DM, "holder.slaves", 21, "in use by its partitions"),
    "level": (USED + DM.replace("dm-0", "md0") + 'level = "raid9"\n', "holder.level", 18, "no level 'raid9'"),
    "mount": (USED + '[[mount]]\ndevice = "vda"\ntarget = "/x"\n', "mount.device", 15, "there is /dev/vda"),
    "mount's target": (USED + '[[mount]]\ndevice = "/dev/vda"\ntarget = "x"\n', "mount.target", 16, "absolute"),
    "mount of what is held": (
        USED + DM + '[[mount]]\ndevice = "/dev/vda"\ntarget = "/x"\n', "mount.device", 19, "in use by dm-0",
    ),
    "swap": (USED + '[[swap]]\ndevice = "/dev/vdb"\n', "swap.device", 15, "no node"),
    "swap on what is mounted": (
        USED + '[[mount]]\ndevice = "/dev/vda"\ntarget = "/x"\n[[swap]]\ndevice = "/dev/vda"\n',
        "swap.device", 18, "in use by a mount",
    ),
    "swap's use": (USED + '[[swap]]\ndevice = "/dev/vda"\nused = -1\n', "swap.used", 16, "cannot be more"),
    "console": (USED + '[host]\nconsoles = ["tty7"]\n', "host.consoles", 15, "no terminal 'tty7'"),
    "host's key": (USED + '[host]\nname = "x"\n', "host.name", 15, "unknown key"),
    "session": (USED + '[session]\npeer = "router"\n', "session.peer", 15, "not an IP address"),
    "interface": (
        USED + '[[net.address]]\ninterface = "eth1"\naddress = "10.0.0.1/8"\n',
        "net.address.interface", 15, "no interface 'eth1'; there is eth0, lo",
    ),
    "address": (
        USED + '[[net.address]]\ninterface = "eth0"\naddress = "10.0.0"\n', "net.address.address", 16, "ADDRESS/PREFIX",
    ),
    "route": (
        USED + '[[net.route]]\ninterface = "eth0"\ndestination = "10.0.0.1/8"\n',
        "net.route.destination", 16, "neither",
    ),
    "gateway": (
        USED + '[[net.route]]\ndestination = "default"\ninterface = "eth0"\ngateway = "gw"\n',
        "net.route.gateway", 17, "not an IP address",
    ),
    "bond's port": (USED + '[[net.bond]]\nname = "b"\nports = ["eth1"]\n', "net.bond.ports", 16, "no interface"),
    "bond of itself": (USED + '[[net.bond]]\nname = "b"\nports = ["b"]\n', "net.bond.ports", 16, "cannot be a port"),
    "two masters": (
        USED + '[[net.bond]]\nname = "b"\nports = ["eth0"]\n[[net.bridge]]\nname = "c"\nports = ["eth0"]\n',
        "net.bridge.ports", 19, "eth0 belongs to b",
    ),
    "mode": (USED + '[[net.bond]]\nname = "b"\nports = []\nmode = "best"\n', "net.bond.mode", 17, "no mode 'best'"),
    "name of another": (USED + '[[net.bridge]]\nname = "eth0"\nports = []\n', "net.bridge.name", 15, "not 'eth0'"),
    "vlan": (USED + '[[net.vlan]]\nname = "v"\nlower = "eth0"\nid = 4095\n', "net.vlan.id", 17, "between 0 and 4094"),
    "vlan on nothing": (USED + '[[net.vlan]]\nname = "v"\nlower = "e"\nid = 1\n', "net.vlan.lower", 16, "no interface"),
    "up": (USED + '[net]\nup = ["eth9"]\n', "net.up", 15, "no interface 'eth9'"),
    "net's key": (USED + "[[net.adress]]\n", "net.adress", 14, "unknown key"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str, tmp_path: Path) -> None:
    text, key, line, cause = MISTAKES[name]
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(BadMachine) as caught:
        load_machine(path)
    error = caught.value
    assert cause in error.cause
    assert error.line == line
    assert error.key in (key, "")
    assert str(path) in str(error)
    assert error.exit_code == 2


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadMachine, match="cannot be read"):
        load_machine(tmp_path / "none.toml")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadMachine, match="UTF-8"):
        load_machine(tmp_path / "binary.toml")


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(BadMachine) as caught:
        find_machine("z15-lpr")
    assert "z15-lpar" in caught.value.next_step


def test_linux_sees_the_sets_of_its_own_image_and_no_other_image(tmp_path: Path) -> None:
    places = ("0.3.0000", "1.1.0001", "3.3.ffff", "0.1.0005")
    rows = [f'[[css.subchannel]]\nschid = "{at}"\ndevice = "{at}"\nunit = "echo"\nchpids = [1]\n' for at in places]
    others = '[[css.other]]\nschid = "2.0.0009"\ntype = "chsc"\n'
    path = tmp_path / "images.toml"
    path.write_text(HEAD + PATH + "".join(rows) + others)
    with open_backend("software", machine=str(path)) as backend:
        host = Host(backend)
        assert [device.name for device in host.ccw_devices()] == ["0.1.0005", "0.3.0000"]
        assert host.sysfs.names("/sys/bus/css/devices") == ["0.1.0005", "0.3.0000"]
        css = backend.machine.css
        css.enable(Facility.IMAGES)
        assert css.stsch(SubchannelId(3, 3, 0xFFFF))[1].pmcw.devno == 0xFFFF


@pytest.mark.parametrize(
    ("model", "behind", "cause"),
    [
        ("ioh3420", "root", "a root port is on a root bus: ioh3420 behind 'root'"),
        ("pcie-root-port", "down", "a root port is on a root bus"),
        ("x3130-upstream", "0000:00", "an upstream port ends a link"),
        ("x3130-upstream", "up", "an upstream port ends a link"),
        ("xio3130-downstream", "0000:00", "a downstream port is behind an upstream port"),
        ("xio3130-downstream", "root", "a downstream port is behind an upstream port"),
        ("edu", "up", "downstream ports alone"),
        ("pcie-pci-bridge", "up", "downstream ports alone"),
    ],
)
def test_ports_where_none_can_be(model: str, behind: str, cause: str, tmp_path: Path) -> None:
    """PCI Express Base Specification, 1.3: root ports on root buses, switches of one upstream port and others below."""
    chain = (("root", "ioh3420", "0000:00"), ("up", "x3130-upstream", "root"), ("down", "xio3130-downstream", "up"))
    row = '[[pcie.function]]\nmodel = "{}"\nbehind = "{}"\n'
    rows = "".join(row.format(name, place) + f'id = "{key}"\n' for key, name, place in chain)
    path = tmp_path / "m.toml"
    path.write_text(HEAD + X86 + "[[pcie.bus]]\n" + rows + row.format(model, behind) + 'at = "1f.0"\n')
    with pytest.raises(BadMachine, match=re.escape(cause)) as caught:
        load_machine(path)
    assert caught.value.next_step.startswith("put")


@pytest.mark.parametrize("name", ["z15-lpar", "lab-s390x", "s390x-server"])
def test_fixture_machines_load(name: str) -> None:
    spec = load_machine(machine_files()[name])
    assert spec.name == name
    assert spec.subchannels
    assert spec.functions


def test_a_virtual_function_that_is_there_already(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(
        '[machine]\nname = "m"\n'
        '[[zpci.function]]\nuid = 1\nfid = 1\nmodel = "virtio-bell"\noptions = { total_vfs = 2, vf_fid = 16 }\n'
        '[[zpci.function]]\nuid = 2\nfid = 2\nmodel = "virtio-bell"\n'
    )
    with pytest.raises(BadMachine) as caught:
        load_machine(path)
    assert "uid 0x2" in str(caught.value) or "0x2 is there twice" in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "line", "cause"),
    [
        ('[[process]]\npid = 0\nname = "a"\n', 4, "must be 1 or more"),
        ('[[process]]\npid = 5\nname = "a"\n[[process]]\npid = 5\nname = "b"\n', 7, "5 is there twice"),
        ('[[process]]\npid = 5\nname = ""\n', 5, "must not be empty"),
        ('[[process]]\npid = 5\nname = "a"\nopen = ["vda"]\n', 6, "no absolute path"),
        ('[[process]]\nname = "a"\n', 3, "missing: pid"),
        ("[[huge_pages]]\nsize = 3\n", 4, "power of 2"),
        ("[[huge_pages]]\nsize = 1024\ntotal = -1\n", 5, "0 or more"),
        ("[[huge_pages]]\nsize = 1024\ntotal = 1\nfree = 2\n", 6, "2 of 1 cannot be free"),
        ("[[huge_pages]]\nsize = 1024\n[[huge_pages]]\nsize = 1024\n", 6, "twice"),
    ],
)
def test_mistakes_with_programs_and_memory(rows: str, line: int, cause: str, tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text('[machine]\nname = "m"\n' + rows)
    with pytest.raises(BadMachine) as caught:
        load_machine(path)
    assert (caught.value.line, cause in caught.value.cause) == (line, True)


IMAGE = PATH + DASD.replace("online = true\n", "")


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ('image = "none.ckd"', "none.ckd: No such file"),
        ('image = "wrong.toml"', "wrong.toml: it has no header"),
        ("image = 1", "type str"),
        ('image = "real.ckd", cylinders = 3', "it has 2 cylinders, not 3"),
        ('image = "real.ckd", volser = "X"', "volume serial"),
        ('model = "3390-7"', "the models are"),
        ('control_unit = "3880"', "no control unit '3880'"),
        ("readonly = 1", "type bool"),
    ],
)
def test_options_of_a_dasd_that_cannot_be(tmp_path: Path, options: str, cause: str) -> None:
    create_image(tmp_path / "real.ckd", "3390-1", 2)
    path = tmp_path / "wrong.toml"
    path.write_text(HEAD + IMAGE + f"options = {{ {options} }}\n")
    with pytest.raises(BadMachine) as caught:
        load_machine(path)
    assert cause in caught.value.cause
    assert (caught.value.key, caught.value.line) == ("css.subchannel.options", 11)


def test_an_image_is_beside_the_machine_file_and_for_one_device(tmp_path: Path) -> None:
    image = create_image(tmp_path / "real.ckd", "3390-1", 2)
    path = tmp_path / "right.toml"
    row = DASD.replace("online = true\n", 'options = { image = "real.ckd" }\n')
    path.write_text(HEAD + PATH + row)
    assert load_machine(path).subchannels[0].options["image"] == str(image.path)
    other = row.replace("0.0.0001", "0.0.0002").replace("0.0.1000", "0.0.2000")
    for text in (row + other, row + "count = 2\n"):
        path.write_text(HEAD + PATH + text)
        with pytest.raises(BadMachine, match="image of two devices"):
            load_machine(path)
    shared = "".join(text.replace('"real.ckd"', '"real.ckd", readonly = true') for text in (row, other))
    path.write_text(HEAD + PATH + shared)
    assert len(load_machine(path).subchannels) == 2


def test_tapes_and_scripts_in_a_machine_file(tmp_path: Path) -> None:
    (tmp_path / "a.aws").write_bytes(b"")
    echo = SUBCHANNEL.replace("echo", "tape-3490") + 'options = { image = "a.aws", capacity = 1000 }\n'
    script = SUBCHANNEL.replace("echo", "scripted").replace("0.0.0001", "0.0.0002").replace("0.0.1000", "0.0.2000")
    path = tmp_path / "right.toml"
    path.write_text(HEAD + PATH + echo + script + 'options = { script = { "02" = "data 00" }, latency = 0.1 }\n')
    assert [row.unit for row in load_machine(path).subchannels] == ["tape-3490", "scripted"]
    path.write_text(HEAD + PATH + script + 'options = { script = { "02" = "date 00" } }\n')
    with pytest.raises(BadMachine, match="'date' is none of"):
        load_machine(path)
