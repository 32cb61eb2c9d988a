"""The blocks of PCI's instructions against the kernel's own structures, bit by bit, and its numbers against ours.

They are no part of the user ABI: the headers are those of a kernel's source, which the environment variable
PYVFIO_KERNEL_SOURCE names; without it, of the s390x kernel that the emulated hardware's tests have built, if they did.
A cross compiler (s390x-linux-gnu-gcc) lays the structures out, with a value in each field.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pyvfio.zpci import characteristics, clp, event, fib, forwarding, sclp, sic
from pyvfio.zpci.block import BigBlock
from pyvfio.zpci.fib import FunctionControl
from pyvfio.zpci.instructions import FunctionOperation, Status

GCC, OBJCOPY = "s390x-linux-gnu-gcc", "s390x-linux-gnu-objcopy"
HEADERS = "arch/s390/include/asm"


def find_source() -> Path | None:
    """The kernel's source, or what is kept of it."""
    named = os.environ.get("PYVFIO_KERNEL_SOURCE")
    if named is not None:
        found = [Path(named)]
    else:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        found = sorted(caches.glob("pyvfio/hil/kernel/s390x-*/source"), key=lambda path: path.stat().st_mtime)
    return next((path for path in reversed(found) if (path / HEADERS).is_dir()), None)


SOURCE = find_source() or Path("/nonexistent")

pytestmark = [
    pytest.mark.skipif(
        not SOURCE.is_dir(),
        reason="PYVFIO_KERNEL_SOURCE names no kernel's source, and the emulated hardware's tests have kept none",
    ),
    pytest.mark.skipif(shutil.which(GCC) is None or shutil.which(OBJCOPY) is None, reason=f"no {GCC}"),
]

PRELUDE = """
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long long u64;
typedef u32 __le32;
#define __packed __attribute__((packed))
#define __aligned(x) __attribute__((aligned(x)))
#define DECLARE_STATIC_KEY_FALSE(x) extern int x
#define __iomem
#define PAGE_SIZE 4096
#define PCI_STD_NUM_BARS 6
typedef _Bool bool;
"""

#: C initializer of a structure, and the block with the same values.
BLOCKS: list[tuple[str, str, BigBlock]] = [
    (
        "zpci_fib",
        ".fc = 0xd0, .pba = 1, .pal = 2, .iota = 3, .fmt0 = {.isc = 5, .noi = 0x123, .aibvo = 0x2a, .sum = 1,"
        ".aisbo = 0x15, .aibv = 4, .aisb = 5}, .fmb_addr = 6, .gd = 7",
        fib.Fib(0, FunctionControl(0xD0), 1, 2, 3, 5, 0x123, 0x2A, 1, 0x15, 4, 5, 6, 7),
    ),
    (
        "zpci_fib",
        ".fmt = 1, .fc = 0x80, .pba = 1, .pal = 2, .iota = 3, .fmt1 = {.noi = 0xabc, .dibvo = 0xdef0},"
        ".fmb_addr = 6, .gd = 7",
        fib.DirectedFib(1, FunctionControl(0x80), 1, 2, 3, 0xABC, 0xDEF0, 6, 7),
    ),
    ("zpci_diib", ".isc = 5, .nr_cpus = 0x1234, .disb_addr = 6", sic.DirectedBlock(5, 0x1234, 6)),
    ("zpci_cdiib", ".dibv_addr = 0x123456789a", sic.ProcessorBlock(0x123456789A)),
    ("zpci_aipb", ".faisb = 1, .gait = 2, .afi = 5, .faal = 0x1234", sic.ForwardingBlock(1, 2, 5, 0x1234)),
    (
        "zpci_gaite",
        ".gisa = 0x12345678, .gisc = 3, .count = 4, .aisbo = 5, .aisb = 6",
        forwarding.GuestEntry(0x12345678, 3, 4, 5, 6),
    ),
    (
        "zpci_ccdf_err",
        ".reserved1 = 9, .fh = 1, .fid = 2, .ett = 3, .mvn = 0x456, .dmaas = 7, .q = 1, .rw = 1, .faddr = 8,"
        ".reserved3 = 0xa, .reserved4 = 0xb, .pec = 0x3b",
        event.ErrorEvent(1, 2, 3, 0x456, 7, 1, 1, 8, 0x3B, 9, 0, 0xA000B),
    ),
    (
        "zpci_ccdf_avail",
        ".reserved1 = 9, .fh = 1, .fid = 2, .reserved6 = 5, .pec = 0x303",
        event.AvailabilityEvent(1, 2, 0x303, 9, bytes(17) + b"\5"),
    ),
    (
        "pci_cfg_sccb",
        ".header = {.length = 4096, .function_code = 1, .control_mask = {2, 3, 4}, .response_code = 0x120},"
        ".atype = 2, .aid = 0x12345678",
        sclp.AdapterSccb(4096, 1, 0x020304, sclp.SclpCode.NOTHING_TO_DO, sclp.ADAPTER_PCI, 0x12345678),
    ),
    (
        "err_notify_sccb",
        ".header = {.length = 0x18, .response_code = 0x20}, .evbuf = {.header = {.length = 0x10, .type = 0x18,"
        ".flags = 0x80}, .action = 2, .atype = 2, .fh = 5, .fid = 6}",
        sclp.ErrorNotification(0x18, code=sclp.SclpCode.COMPLETED, event_length=0x10,
                               event_type=sclp.EVENT_ERROR_NOTIFICATION, flags=0x80,
                               action=sclp.ReportAction.INFORMATION, type=sclp.ADAPTER_PCI, fh=5, fid=6),
    ),
    ("zpci_report_error_header", ".version = 1, .action = 2, .length = 0x1234", sclp.ErrorReport(1, 2, 0x1234)),
    (
        "clp_req_list_pci",
        ".hdr = {.len = 32, .cmd = 2, .fmt = 1, .reserved1 = 2, .reserved2 = 3}, .resume_token = 4",
        clp.ListRequest(32, 2, 1, 2, 3, 4),
    ),
    ("clp_fh_list_entry", ".device_id = 1, .vendor_id = 2, .config_state = 1, .fid = 3, .fh = 4",
     clp.HandleEntry(1, 2, 1, 3, 4)),
    ("clp_req_query_pci", ".hdr = {.len = 32, .cmd = 3}, .fh = 0x80020001", clp.QueryRequest(handle=0x80020001)),
    ("clp_req_query_pci_grp", ".hdr = {.len = 32, .cmd = 4}, .pfgid = 0xfe", clp.QueryRequest(command=4, handle=0xFE)),
    (
        "clp_req_set_pci",
        ".hdr = {.len = 32, .cmd = 5}, .fh = 1, .oc = 2, .ndas = 3, .gisa = 4",
        clp.SetRequest(handle=1, operation=2, dma_spaces=3, gisa=4),
    ),
    (
        "clp_rsp_query_pci",
        ".hdr = {.len = 384, .rsp = 16}, .vfn = 1, .tid_avail = 1, .rid_avail = 0, .is_physfn = 1,"
        ".mio_addr_avail = 1, .util_str_avail = 0, .pfgid = 0xfd, .fid = 2, .bar_size = {1, 2, 3, 4, 5, 6},"
        ".pchid = 0x123, .bar = {0x11121314}, .pfip = {1, 2, 3, 4}, .port = 7, .fmb_len = 128, .pft = 5, .sdma = 6,"
        ".edma = 7, .rid = 8, .tid = 9, .uid = 10, .util_str = {0xc1}, .mio = {.valid = 0x21, .addr = {{1, 2}}}",
        clp.FunctionResponse(
            vfn=1, tid_available=1, physical=1, mio_available=1, pfgid=0xFD, fid=2, bar_sizes=bytes((1, 2, 3, 4, 5, 6)),
            pchid=0x123, bars=bytes((0x11, 0x12, 0x13, 0x14)) + bytes(20), pfip=bytes((1, 2, 3, 4)), port=7,
            fmb_length=128, pft=5, sdma=6, edma=7, rid=8, tid=9, uid=10, utility=b"\xc1" + bytes(63), mio_valid=0x21,
            mio=(1).to_bytes(8, "big") + (2).to_bytes(8, "big") + bytes(80),
        ),
    ),
    (
        "clp_rsp_query_pci_grp",
        ".hdr = {.len = 64, .rsp = 16}, .noi = 0xabc, .version = 2, .frame = 1, .refresh = 1, .maxstbl = 0x1234,"
        ".mui = 4000, .dtsm = 0x40, .maxfaal = 0x567, .dnoi = 0x89a, .maxcpu = 0xbcd, .dasm = 1, .msia = 2",
        clp.GroupResponse(noi=0xABC, version=2, frame=1, refresh=1, maxstbl=0x1234, mui=4000, dtsm=0x40,
                          maxfaal=0x567, dnoi=0x89A, maxcpu=0xBCD, dasm=1, msia=2),
    ),
    ("clp_req_slpc", ".hdr = {.len = 16, .cmd = 1}", characteristics.CharacteristicsRequest()),
    (
        "clp_rsp_slpc",
        ".hdr = {.len = 128, .rsp = 16}, .lpif = {0x11121314}, .lpic = {0x21222324}",
        characteristics.CharacteristicsResponse(
            lpif=bytes.fromhex("11121314") + bytes(28), lpic=bytes.fromhex("21222324") + bytes(28)
        ),
    ),
    (
        "clp_rsp_slpc_pci",
        ".hdr = {.len = 128, .rsp = 16}, .vwb = 1, .mio_wb = 0x2a, .lpic = {0x21222324}",
        characteristics.CharacteristicsResponse(
            mio_valid=1, mio_wb=0x2A, lpic=bytes.fromhex("21222324") + bytes(28)
        ),
    ),
    (
        "clp_rsp_set_pci",
        ".hdr = {.len = 160, .rsp = 16}, .fh = 5, .mio = {.valid = 3, .addr = {{1}}}",
        clp.SetResponse(fh=5, mio_valid=3, mio=(1).to_bytes(8, "big") + bytes(88)),
    ),
]  # fmt: skip

NUMBERS = {
    "ZPCI_PCI_ST_FUNC_NOT_ENABLED": Status.FUNCTION_NOT_ENABLED,
    "ZPCI_PCI_ST_FUNC_IN_ERR": Status.FUNCTION_IN_ERROR,
    "ZPCI_PCI_ST_BLOCKED": Status.BLOCKED,
    "ZPCI_PCI_ST_INSUF_RES": Status.INSUFFICIENT_RESOURCES,
    "ZPCI_PCI_ST_INVAL_AS": Status.INVALID_ADDRESS_SPACE,
    "ZPCI_PCI_ST_FUNC_ALREADY_ENABLED": Status.FUNCTION_ALREADY_ENABLED,
    "ZPCI_PCI_ST_DMA_AS_NOT_ENABLED": Status.DMA_SPACE_NOT_ENABLED,
    "ZPCI_PCI_ST_2ND_OP_IN_INV_AS": Status.OPERAND_IN_INVALID_SPACE,
    "ZPCI_PCI_ST_FUNC_NOT_AVAIL": Status.FUNCTION_NOT_AVAILABLE,
    "ZPCI_PCI_ST_ALREADY_IN_RQ_STATE": Status.ALREADY_IN_REQUESTED_STATE,
    "ZPCI_PCIAS_CFGSPC": 15,
    "ZPCI_MOD_FC_REG_INT": FunctionOperation.REGISTER_INTERRUPTS,
    "ZPCI_MOD_FC_DEREG_INT": FunctionOperation.DEREGISTER_INTERRUPTS,
    "ZPCI_MOD_FC_REG_IOAT": FunctionOperation.REGISTER_TRANSLATION,
    "ZPCI_MOD_FC_DEREG_IOAT": FunctionOperation.DEREGISTER_TRANSLATION,
    "ZPCI_MOD_FC_REREG_IOAT": FunctionOperation.REREGISTER_TRANSLATION,
    "ZPCI_MOD_FC_RESET_ERROR": FunctionOperation.RESET_ERROR,
    "ZPCI_MOD_FC_RESET_BLOCK": FunctionOperation.RESET_BLOCK,
    "ZPCI_MOD_FC_SET_MEASURE": FunctionOperation.SET_MEASUREMENT,
    "ZPCI_MOD_FC_REG_INT_D": FunctionOperation.REGISTER_DIRECTED,
    "ZPCI_MOD_FC_DEREG_INT_D": FunctionOperation.DEREGISTER_DIRECTED,
    "ZPCI_FIB_FC_ENABLED": FunctionControl.ENABLED,
    "ZPCI_FIB_FC_ERROR": FunctionControl.ERROR,
    "ZPCI_FIB_FC_LS_BLOCKED": FunctionControl.BLOCKED,
    "ZPCI_FIB_FC_DMAAS_REG": FunctionControl.DMA_REGISTERED,
    "SIC_IRQ_MODE_ALL": sic.SicOperation.ALL,
    "SIC_IRQ_MODE_SINGLE": sic.SicOperation.SINGLE,
    "SIC_SET_AENI_CONTROLS": sic.SicOperation.SET_FORWARDING,
    "SIC_IRQ_MODE_DIRECT": sic.SicOperation.DIRECT,
    "SIC_IRQ_MODE_D_ALL": sic.SicOperation.DIRECTED_ALL,
    "SIC_IRQ_MODE_D_SINGLE": sic.SicOperation.DIRECTED_SINGLE,
    "SIC_IRQ_MODE_SET_CPU": sic.SicOperation.SET_PROCESSOR,
    "CLP_SLPC": clp.ClpCommand.STORE_LOGICAL_PROCESSOR_CHARACTERISTICS,
    "CLP_LIST_PCI": clp.ClpCommand.LIST_PCI,
    "CLP_QUERY_PCI_FN": clp.ClpCommand.QUERY_PCI_FUNCTION,
    "CLP_QUERY_PCI_FNGRP": clp.ClpCommand.QUERY_PCI_FUNCTION_GROUP,
    "CLP_SET_PCI_FN": clp.ClpCommand.SET_PCI_FUNCTION,
    "CLP_RC_OK": clp.ClpCode.OK,
    "CLP_RC_CMD": clp.ClpCode.COMMAND,
    "CLP_RC_PERM": clp.ClpCode.NOT_AUTHORIZED,
    "CLP_RC_FMT": clp.ClpCode.FORMAT,
    "CLP_RC_LEN": clp.ClpCode.LENGTH,
    "CLP_RC_8K": clp.ClpCode.NEEDS_8K,
    "CLP_RC_RESNOT0": clp.ClpCode.RESERVED_NOT_ZERO,
    "CLP_RC_NODATA": clp.ClpCode.NO_DATA,
    "CLP_RC_FC_UNKNOWN": clp.ClpCode.FUNCTION_CODE,
    "CLP_RC_SETPCIFN_FH": clp.ClpCode.INVALID_HANDLE,
    "CLP_RC_SETPCIFN_FHOP": clp.ClpCode.HANDLE_NOT_FOR_OPERATION,
    "CLP_RC_SETPCIFN_DMAAS": clp.ClpCode.INVALID_DMA_SPACES,
    "CLP_RC_SETPCIFN_RES": clp.ClpCode.INSUFFICIENT_RESOURCES,
    "CLP_RC_SETPCIFN_ALRDY": clp.ClpCode.ALREADY_IN_STATE,
    "CLP_RC_SETPCIFN_ERR": clp.ClpCode.PERMANENT_ERROR,
    "CLP_RC_SETPCIFN_RECPND": clp.ClpCode.RECOVERY_PENDING,
    "CLP_RC_SETPCIFN_BUSY": clp.ClpCode.BUSY,
    "CLP_RC_LISTPCI_BADRT": clp.ClpCode.RESUME_TOKEN,
    "CLP_RC_QUERYPCIFG_PFGID": clp.ClpCode.UNKNOWN_GROUP,
    "CLP_SET_ENABLE_PCI_FN": clp.SetOperation.ENABLE,
    "CLP_SET_DISABLE_PCI_FN": clp.SetOperation.DISABLE,
    "CLP_SET_ENABLE_MIO": clp.SetOperation.ENABLE_MIO,
    "CLP_SET_DISABLE_MIO": clp.SetOperation.DISABLE_MIO,
}  # fmt: skip


def headers() -> str:
    """The definitions, without what they include."""
    text = PRELUDE
    for name in ("clp.h", "pci_clp.h", "pci_insn.h"):
        text += re.sub(r"(?m)^#include.*$", "", (SOURCE / HEADERS / name).read_text())
    for path, names in (
        ("arch/s390/pci/pci_event.c", ("zpci_ccdf_err", "zpci_ccdf_avail")),
        ("arch/s390/kvm/pci.h", ("zpci_gaite",)),
        ("arch/s390/include/asm/sclp.h", ("zpci_report_error_header",)),
        ("drivers/s390/char/sclp.h", ("sccb_header", "evbuf_header")),
        ("drivers/s390/char/sclp_pci.c", ("err_notify_evbuf", "err_notify_sccb", "pci_cfg_sccb")),
    ):
        for name in names:
            found = re.search(rf"struct {name} \{{.*?\n\}}[^\n]*;", (SOURCE / path).read_text(), re.S)
            assert found, name
            text += found[0] + "\n"
    return text


def compiled(source: str, folder: Path) -> bytes:
    """What the constants of a C source become."""
    (folder / "probe.c").write_text(source)
    subprocess.run([GCC, "-w", "-O0", "-c", "probe.c"], cwd=folder, check=True)
    subprocess.run([OBJCOPY, "-O", "binary", "-j", ".probe", "probe.o", "probe.bin"], cwd=folder, check=True)
    return (folder / "probe.bin").read_bytes()


@pytest.mark.parametrize(("name", "fields", "block"), BLOCKS, ids=[f"{n}-{type(b).__name__}" for n, _, b in BLOCKS])
def test_a_block_lies_as_the_kernels(name: str, fields: str, block: BigBlock, tmp_path: Path) -> None:
    place = '__attribute__((section(".probe")))'
    theirs = compiled(f"{headers()}\nconst struct {name} {place} probe = {{ {fields} }};\n", tmp_path)
    ours = block.to_bytes()
    assert theirs.hex(" ", 4) == ours.hex(" ", 4)
    again: Any = type(block).from_bytes(theirs)
    assert again == block


def test_the_numbers_are_the_kernels(tmp_path: Path) -> None:
    lines = "".join(f'_Static_assert({name} == {int(value)}, "{name}");\n' for name, value in NUMBERS.items())
    place = '__attribute__((section(".probe")))'
    assert compiled(f"{headers()}\n{lines}const char {place} probe = 7;\n", tmp_path)[:1] == b"\7"


def test_no_number_of_the_headers_is_left_out() -> None:
    found = set(re.findall(r"(?m)^#define\s+((?:ZPCI|SIC|CLP)_\w+)\s+(?:0x)?[0-9a-f]+\b", headers()))
    known = {*NUMBERS, *(f"ZPCI_PCIAS_MEMIO_{bar}" for bar in range(6))}
    codes = {"ZPCI_PCI_LS_OK", "ZPCI_PCI_LS_ERR", "ZPCI_PCI_LS_BUSY", "ZPCI_PCI_LS_INVAL_HANDLE"}
    assert {name for name in found if re.match(r"ZPCI|SIC|CLP_(RC|SET|LIST|QUERY|SLPC)", name)} - known - codes == {
        "ZPCI_RID_MASK_DEVFN"
    }
