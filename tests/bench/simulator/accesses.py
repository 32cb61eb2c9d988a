"""What the simulator runs: cocotbext-pcie's root complex, a switch and one endpoint, which is read for a while.

It runs in an interpreter of its own, with cocotb and cocotbext-pcie and without pyvfio (see `simulated`), and writes
reads per second to the file that ``PYVFIO_RATES`` names.
"""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import cocotb
from cocotbext.pcie.core import Device, MemoryEndpoint, RootComplex, Switch

_SIZE, _COUNT, _ROUNDS = 1 << 20, 40, 5
_MARK = b"pyvf"


async def _rate(read: Any) -> float:
    """Reads per second, in the best of some rounds."""
    await read()
    fastest = float("inf")
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        for _ in range(_COUNT):
            await read()
        fastest = min(fastest, (time.perf_counter() - start) / _COUNT)
    return 1 / fastest


@cocotb.test()
async def accesses(dut: Any) -> None:
    """Measure reads of 4 bytes of configuration space, and of memory behind a base address."""
    logging.disable(logging.CRITICAL)
    root, switch, endpoint = RootComplex(), Switch(), MemoryEndpoint()
    endpoint.add_mem_region(_SIZE)
    root.make_port().connect(switch)
    switch.make_port().connect(Device(endpoint))
    await root.enumerate()
    device = root.find_device(endpoint.pcie_id)
    await device.enable_device()
    await device.bar_window[0].write(0, _MARK)
    if await root.config_read_dword(endpoint.pcie_id, 0) != endpoint.device_id << 16 | endpoint.vendor_id:
        raise RuntimeError("the simulated endpoint does not answer")
    if await device.bar_window[0].read(0, 4) != _MARK:
        raise RuntimeError("the simulated endpoint's memory does not answer")
    rates = {
        "config": await _rate(lambda: root.config_read(endpoint.pcie_id, 0, 4)),
        "bar": await _rate(lambda: device.bar_window[0].read(0, 4)),
    }
    Path(os.environ["PYVFIO_RATES"]).write_text(json.dumps(rates))
