"""A /sys with a full subchannel set, written as files: 65,536 I/O subchannels, each with a DASD.

Attributes that are equal everywhere are hard links to one file, so that the tree fits into memory.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["write_css_tree"]

_SUBCHANNEL = {
    "type": "0\n",
    "modalias": "css:t0\n",
    "uevent": "DRIVER=io_subchannel\nST=0\nMODALIAS=css:t0\n",
    "chpids": "42 43 44 45 00 00 00 00 \n",
    "pimpampom": "f0 f0 ff\n",
    "vpm": "f0 \n",
    "driver_override": "(null)\n",
}
_DEVICE = {
    "cutype": "3990/e9\n",
    "devtype": "3390/0c\n",
    "online": "1\n",
    "availability": "good\n",
    "cmb_enable": "0\n",
    "modalias": "ccw:t3990mE9dt3390dm0C\n",
    "uevent": "DRIVER=dasd-eckd\nCU_TYPE=3990\nCU_MODEL=E9\nDEV_TYPE=3390\nDEV_MODEL=0C\n"
    "MODALIAS=ccw:t3990mE9dt3390dm0C\n",
}


def write_css_tree(sys: Path, count: int = 65536) -> None:
    """Write `count` subchannels below `sys`, which stands for ``/sys``."""
    root = str(sys)
    for bus, drivers in (("css", ("io_subchannel", "vfio_ccw")), ("ccw", ("dasd-eckd",))):
        os.makedirs(f"{root}/bus/{bus}/devices")
        for driver in drivers:
            os.makedirs(f"{root}/bus/{bus}/drivers/{driver}")
    originals = f"{root}/module"
    for kind, files in (("subchannel", _SUBCHANNEL), ("device", _DEVICE)):
        os.makedirs(f"{originals}/{kind}")
        for name, text in files.items():
            with open(f"{originals}/{kind}/{name}", "w") as file:
                file.write(text)
    for number in range(count):
        _write(root, originals, f"0.0.{number:04x}", f"0.0.{(number + 0x1000) % count:04x}")


def _write(root: str, originals: str, subchannel: str, device: str) -> None:
    here = f"{root}/devices/css0/{subchannel}"
    below = f"{here}/{device}"
    os.makedirs(below)
    for name in _SUBCHANNEL:
        os.link(f"{originals}/subchannel/{name}", f"{here}/{name}")
    for name in _DEVICE:
        os.link(f"{originals}/device/{name}", f"{below}/{name}")
    with open(f"{here}/dev_busid", "w") as file:
        file.write(f"{device}\n")
    os.symlink("../../../bus/css", f"{here}/subsystem")
    os.symlink("../../../bus/css/drivers/io_subchannel", f"{here}/driver")
    os.symlink("../../../../bus/ccw", f"{below}/subsystem")
    os.symlink("../../../../bus/ccw/drivers/dasd-eckd", f"{below}/driver")
    target = f"devices/css0/{subchannel}"
    os.symlink(f"../../../{target}", f"{root}/bus/css/devices/{subchannel}")
    os.symlink(f"../../../../{target}", f"{root}/bus/css/drivers/io_subchannel/{subchannel}")
    os.symlink(f"../../../{target}/{device}", f"{root}/bus/ccw/devices/{device}")
    os.symlink(f"../../../../{target}/{device}", f"{root}/bus/ccw/drivers/dasd-eckd/{device}")
