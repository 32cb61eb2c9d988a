"""PCI devices with names: tables and words of machine files, and devices that programs plug in and take away."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyvfio import Host, open_backend
from pyvfio.errors import BadMachine, Misuse, NoSuchDevice
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import MachineSpec, PciDeviceSpec
from pyvfio_backends.software.loader import load_machine
from pyvfio_backends.software.pci_devices import PciDevices

HEAD = '[machine]\nname = "m"\n'
FUNCTION = '[[zpci.function]]\nuid = 1\nfid = 2\nmodel = "virtio-rng"\n'
PAIR = '[[zpci.pair]]\nuid = 8\nfid = 0x22\ntarget = "dev1"\n'
DEVICE = '[[pci.device]]\nid = "dev1"\nmodel = "virtio-rng"\n'


def words(*given: str) -> str:
    return HEAD + f"devices = {list(given)!r}\n".replace("'", '"')


MISTAKES = {
    "no target": (HEAD + "[[zpci.pair]]\nuid = 8\n", "zpci.pair", 3, "missing: target"),
    "empty target": (HEAD + '[[zpci.pair]]\ntarget = ""\n', "zpci.pair", 3, "zpci: target must be defined"),
    "uid": (HEAD + PAIR.replace("= 8", "= 65536"), "zpci.pair.uid", 4, "between"),
    "fid": (HEAD + PAIR.replace("0x22", "0x100000000"), "zpci.pair.fid", 5, "between"),
    "negative uid": (HEAD + PAIR.replace("= 8", "= -1"), "zpci.pair.uid", 4, "between"),
    "uid of a function": (
        HEAD + FUNCTION + PAIR.replace("= 8", "= 1"),
        "zpci.pair",
        7,
        "zpci,uid=0x1,fid=0x22,target=dev1: uid 0x1 is in use already: the function with fid 0x2 has it",
    ),
    "fid of a pair": (
        HEAD + PAIR + PAIR.replace("dev1", "dev2").replace("= 8", "= 9"),
        "zpci.pair",
        7,
        "zpci,uid=0x9,fid=0x22,target=dev2: fid 0x22 is in use already: dev1 has it",
    ),
    "target twice": (HEAD + PAIR + '[[zpci.pair]]\ntarget = "dev1"\n', "zpci.pair", 7, "dev1 has a zpci device"),
    "device twice": (HEAD + DEVICE + DEVICE, "pci.device.id", 7, "there is a device with the id dev1"),
    "identifiers of a device": (HEAD + DEVICE + "uid = 1\n", "pci.device.uid", 6, "unknown key"),
    "model": (HEAD + DEVICE.replace("rng", "gpu"), "pci.device.model", 5, "no model 'virtio-gpu'"),
    "option": (HEAD + DEVICE + "options = { size = 1 }\n", "pci.device.options", 6, "no option 'size'"),
    "state": (HEAD + DEVICE + 'state = "on"\n', "pci.device.state", 6, "configured, standby"),
    "table of devices": (HEAD + "[[pci.card]]\n", "pci.card", 3, "unknown key"),
    "no words": (words(""), "machine.devices", 3, "names no device"),
    "words": (words("zpci,uid=8"), "machine.devices", 3, "target must be defined"),
    "late zpci": (
        words("virtio-rng-pci,id=dev1", "zpci,uid=8,target=dev1"),
        "machine.devices",
        3,
        "target dev1 has a zpci device already: zpci,uid=0x1,fid=0x0,target=dev1",
    ),
    "unknown driver": (words("virtio-gpu-pci"), "machine.devices", 3, "no model 'virtio-gpu-pci'"),
    "passed through": (words("vfio-pci,host=0001:00:00.0"), "machine.devices", 3, "no host"),
    "uid with the device": (words("virtio-rng-pci,uid=8"), "machine.devices", 3, "no property 'uid'"),
    "drive": (words("virtio-blk-pci,drive=d0"), "machine.devices", 3, "no property 'drive'"),
    "size": (words("virtio-blk-pci,size=large"), "machine.devices", 3, "size=large is no number"),
    "id twice": (words("zpci,target=a,id=z", "virtio-rng-pci,id=z"), "machine.devices", 3, "the id z"),
    "id of a zpci twice": (words("zpci,target=a,id=z", "zpci,target=b,id=z"), "machine.devices", 3, "the id z"),
    "number as words": (HEAD + "devices = [8]\n", "machine.devices", 3, "must be a string"),
    "event": (
        HEAD + FUNCTION + '[[zpci.event]]\naction = "paint"\nfid = 2\n',
        "zpci.event.action",
        8,
        "no action 'paint'",
    ),
    "event's fid": (HEAD + FUNCTION + '[[zpci.event]]\naction = "ask"\nfid = 3\n', "zpci.event.fid", 9, "fid 0x3"),
    "event's time": (
        HEAD + FUNCTION + '[[zpci.event]]\naction = "ask"\nfid = 2\nafter = -1\n',
        "zpci.event.after",
        10,
        "negative",
    ),
    "event's code": (
        HEAD + FUNCTION + '[[zpci.event]]\naction = "fail"\nfid = 2\ncode = 0x301\n',
        "zpci.event.code",
        10,
        "0x301 is no event code of an error",
    ),
    "vf": (words("zpci,fid=1,target=a", "virtio-bell,total_vfs=1,id=b"), "machine.devices", 3, "virtual function"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_names_file_key_and_line(name: str, tmp_path: Path) -> None:
    text, key, line, cause = MISTAKES[name]
    file = tmp_path / "m.toml"
    file.write_text(text)
    with pytest.raises(BadMachine) as caught:
        load_machine(file)
    assert (caught.value.key, caught.value.line) == (key, line)
    assert cause in caught.value.cause
    assert caught.value.exit_code == 2


def domains(machine: object) -> dict[str, str]:
    """Address -> FID of a machine's functions."""
    with Host("software", machine=machine) as host:
        return {str(one): host.sysfs.read_text(f"{one.path}/function_id").strip() for one in host.functions()}


def test_tables_and_words_make_the_same_machine(tmp_path: Path) -> None:
    tables, strings = tmp_path / "tables.toml", tmp_path / "strings.toml"
    tables.write_text(HEAD + FUNCTION + PAIR + DEVICE + '[[pci.device]]\nmodel = "virtio-bell"\n')
    head = words("zpci,uid=8,fid=0x22,target=dev1", "virtio-rng,id=dev1", "virtio-bell")
    strings.write_text(head + FUNCTION)
    expected = {"0001:00:00.0": "0x00000002", "0002:00:00.0": "0x00000000", "0008:00:00.0": "0x00000022"}
    assert domains(str(tables)) == domains(str(strings)) == expected


def test_words_as_qemu_has_them(tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    file.write_text(
        words(
            "virtio-rng-pci,disable-legacy=on,iommu_platform=on,addr=1.0",
            "virtio-rng-pci-transitional",
            "virtio-rng-pci-non-transitional,pchid=0x200,state=standby",
            "virtio-blk-pci,size=1048576",
            "virtio-net-pci,mac=52:54:00:00:00:01",
            "virtio-bell,delay=0.5",
        )
    )
    with Host("software", machine=str(file)) as host:
        ids = [host.sysfs.read_text(f"{one.path}/device").strip() for one in host.functions()]
        assert ids == ["0x1044", "0x1005", "0x1001", "0x1000", "0x10f0"]
        assert [one.driver for one in host.functions()] == ["virtio-pci"] * 4 + [None]
        assert host.sysfs.read_text("/sys/bus/pci/slots/00000002/power") == "0"
        assert host.backend.stat("/dev/vda")


def test_devices_of_the_command_come_after_the_file(tmp_path: Path) -> None:
    with Host(
        "software", machine="z15-lpar", devices=["zpci,uid=8,fid=2,target=dev1", "virtio-rng-pci,id=dev1"]
    ) as host:
        assert "0008:00:00.0" in [str(one) for one in host.functions()]
    with pytest.raises(Misuse, match="uid 0x11 is in use already: the function with fid 0x10 has it"):
        open_backend("software", machine="z15-lpar", devices=["zpci,uid=17,target=dev1"])


def test_the_kernel_cannot_be_given_devices() -> None:
    with pytest.raises(Misuse, match="this host has the devices that it has"):
        Host("kernel", devices=["virtio-rng-pci"])


def test_a_machine_from_python() -> None:
    spec = MachineSpec("m", pci_devices=[PciDeviceSpec(model="virtio-bell", id="bell")], devices=("zpci,target=x",))
    assert domains(spec) == {"0001:00:00.0": "0x00000000"}
    assert spec.functions == []


class Running:
    """A machine that runs, with its devices."""

    def __init__(self, *devices: str) -> None:
        self.host = Host("software", machine=MachineSpec("m", devices=devices))
        assert isinstance(self.host.backend, SoftwareBackend)
        self.machine = self.host.backend.machine
        self.devices = self.machine.pci_devices

    @property
    def there(self) -> list[str]:
        return [str(one) for one in self.host.functions()]


@pytest.mark.parametrize(
    "wrong",
    [
        *("virtio-rng-pci,id=dev0", "zpci,uid=1,target=dev2", "virtio-blk-pci,size=-1", "x"),
        *("virtio-rng-pci,state=on", "virtio-rng-pci,pchid=65536", "virtio-rng-pci,port=16"),
        *("virtio-rng-pci,end_dma=0", "virtio-rng-pci,start_dma=18446744073709551615"),
        *("virtio-bell,delay=nan", "virtio-bell,delay=inf", "virtio-bell,delay=-1"),
        *("ivshmem,size=2048", "ivshmem,size=9223372036854775808"),
    ],
)
def test_a_plug_that_fails_changes_nothing(wrong: str) -> None:
    running = Running("zpci,uid=1,target=dev0", "virtio-rng-pci,id=dev0", "zpci,uid=7,fid=7,target=later")
    before = list(running.devices.identifiers)
    with pytest.raises(Misuse):
        running.devices.plug("zpci,target=dev1,id=z", "virtio-rng-pci,id=dev1", "virtio-rng-pci,id=later", wrong)
    assert list(running.devices.identifiers) == before
    assert [pair.target for pair in running.devices.identifiers.waiting()] == ["later"]
    assert running.there == ["0001:00:00.0"]
    running.devices.plug("virtio-rng-pci,id=later")
    assert running.there == ["0001:00:00.0", "0007:00:00.0"]
    for name in ("dev1", "z", "other"):
        with pytest.raises(NoSuchDevice):
            running.devices.unplug(name)


def test_devices_that_are_not_in_a_machine() -> None:
    with pytest.raises(Misuse, match="does not run"):
        PciDevices().plug("virtio-rng-pci")


@pytest.mark.parametrize("name", ["z", "hot0"])
def test_both_of_a_pair_go_together(name: str) -> None:
    running = Running()
    running.devices.plug("zpci,uid=0x77,fid=0x88,target=hot0,id=z", "virtio-rng-pci,id=hot0")
    assert running.there == ["0077:00:00.0"]
    running.devices.unplug(name)
    assert running.there == []
    running.devices.plug("zpci,uid=0x77,fid=0x88,target=hot0,id=z", "virtio-rng-pci,id=hot0")
    assert running.there == ["0077:00:00.0"]
    running.devices.unplug(name, surprise=True)
    assert running.there == []


def test_a_zpci_that_waits_can_be_taken_away() -> None:
    running = Running("zpci,target=later,id=z")
    running.devices.unplug("z")
    running.devices.plug("virtio-rng-pci,id=later")
    assert running.there == ["0001:00:00.0"]


def test_identifiers_are_free_when_the_function_has_left() -> None:
    running = Running("virtio-rng-pci,id=a", "virtio-rng-pci,id=b")
    running.machine.zpci.unplug(0)
    running.devices.plug("virtio-rng-pci,id=c")
    assert [(pair.target, pair.uid, pair.fid) for pair in running.devices.identifiers] == [("b", 2, 1), ("c", 1, 0)]


def test_what_is_offered_to_complete() -> None:
    devices = PciDevices()
    first = [word for word, _ in devices.offer("")]
    assert {"zpci,target=", "virtio-rng-pci,id=", "virtio-bell,id="} <= set(first)
    devices.define("dev1")
    assert ("virtio-rng-pci,id=dev1", "a PCI device") in devices.offer("virtio")
    assert [word for word, _ in devices.offer("zpci,uid=8,")] == ["zpci,uid=8,fid=", "zpci,uid=8,target="]
    assert "virtio-blk-pci,id=a,size=" in [word for word, _ in devices.offer("virtio-blk-pci,id=a,s")]
    assert devices.offer("unknown,") == []
