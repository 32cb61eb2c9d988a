"""Endpoints of machine files that do something: options, what they share, and refusals with their line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import pyvfio
from pyvfio.errors import BadMachine, Misuse
from pyvfio_backends.software.description import PcieFunctionSpec
from pyvfio_backends.software.hardware.devices.nvme.controller import NvmeController
from pyvfio_backends.software.hardware.devices.pair_nic import PairNic
from pyvfio_backends.software.hardware.pcie.block import Block
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.pcie_peripherals import Peripherals

HEAD = """
[machine]
name = "m"
architecture = "x86_64"

[[pcie.bus]]

[[pcie.function]]
behind = "0000:00"
at = "04.0"
"""


def behind(function: Function) -> object:
    block = function.bars[0].registers
    assert isinstance(block, Block)
    return block.parts[0]


def made(model: str, **options: object) -> object:
    return behind(Peripherals().make(PcieFunctionSpec(model, "0000:00", options=options)))


def test_a_controller_on_memory() -> None:
    device = made("nvme", size=1 << 20, block_size=4 << 10, serial="S1")
    assert isinstance(device, NvmeController)
    assert device.identity.serial == "S1"
    assert (device.namespaces[1].blocks, device.namespaces[1].order) == (256, 12)


def test_a_controller_without_namespaces() -> None:
    device = made("nvme")
    assert isinstance(device, NvmeController)
    assert device.namespaces == {}


def test_an_image_keeps_what_was_written(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(64 << 10))
    peripherals = Peripherals()
    device = behind(peripherals.make(PcieFunctionSpec("nvme", "0000:00", options={"image": str(image)})))
    assert isinstance(device, NvmeController)
    device.namespaces[1].storage.write(512, b"kept")
    peripherals.close()
    assert image.read_bytes()[512:516] == b"kept"


def test_a_cable_has_two_ends() -> None:
    peripherals = Peripherals()
    cards = [
        behind(
            peripherals.make(
                PcieFunctionSpec("pair-nic", "0000:00", options={"mac": f"52:54:00:00:00:0{n}", "cable": "a"})
            )
        )
        for n in (1, 2)
    ]
    assert isinstance(cards[0], PairNic)
    assert isinstance(cards[1], PairNic)
    assert cards[0].peer is cards[1]
    assert cards[1].peer is cards[0]
    with pytest.raises(Misuse, match="both are in use"):
        peripherals.make(PcieFunctionSpec("pair-nic", "0000:00", options={"mac": "52:54:00:00:00:03", "cable": "a"}))


@pytest.mark.parametrize(
    ("model", "options", "cause"),
    [
        ("nvme", 'size = "1"', "size is no int"),
        ("nvme", "size = 1000", "no blocks of 512"),
        ("nvme", "block_size = 100", "no power of two"),
        ("nvme", "block_size = 131072", "2 to a power from 9 to 16"),
        ("nvme", 'image = "not-there.img"', "No such file"),
        ("nvme", f"size = {1 << 48}", "no memory for"),
        ("VGA", "size = 0", "from 65536 to 2147483648"),
        ("VGA", f"size = {8 << 30}", "from 65536 to 2147483648"),
        ("ivshmem", "size = 0", "no power of two from 16"),
        ("nvme", 'serial = "far too long for a serial number"', "up to 20 ASCII"),
        ("edu", "mask = 1", "no option 'mask'; it has none"),
        ("pair-nic", 'mac = "1"', "no address like"),
        ("e1000e", "size = 1", "has no options"),
    ],
)
def test_options_that_cannot_be_name_their_line(tmp_path: Path, model: str, options: str, cause: str) -> None:
    path = tmp_path / "machine.toml"
    path.write_text(f'{HEAD}model = "{model}"\noptions = {{ {options} }}\n')
    with pytest.raises(BadMachine, match=cause) as caught, pyvfio.Host("software", machine=path):
        pass
    assert caught.value.line == 8


def test_a_name_that_no_file_has(tmp_path: Path) -> None:
    path = tmp_path / "machine.toml"
    path.write_text(f'{HEAD}model = "nvme"\noptions = {{ image = "a\\u0000b" }}\n')
    with pytest.raises(BadMachine, match="no name of a file") as caught, pyvfio.Host("software", machine=path):
        pass
    assert caught.value.line == 12


def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Misuse, match="Illegal seek"):
        made("nvme", image=str(tmp_path / "pipe"))


def test_an_image_is_found_beside_the_machine_file_and_has_one_controller(tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(bytes(64 << 10))
    path = tmp_path / "machine.toml"
    one = f'{HEAD}model = "nvme"\noptions = {{ image = "disk.img" }}\n'
    path.write_text(one)
    with pyvfio.Host("software", machine=path) as host:
        assert host.device("0000:00:04.0").exists
    path.write_text(
        one + '[[pcie.function]]\nbehind = "0000:00"\nat = "05.0"\nmodel = "nvme"\noptions.image = "disk.img"\n'
    )
    with pytest.raises(BadMachine, match="the image of two devices"), pyvfio.Host("software", machine=path):
        pass
