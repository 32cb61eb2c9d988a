"""What the sysfs files of an idle disk of 512-byte sectors say (``block/genhd.c``, ``block/blk-sysfs.c``)."""

from __future__ import annotations

from collections.abc import Mapping

from pyvfio_backends.software.linux.vfs import Attribute, Node, constant

__all__ = ["BLOCK_SIZES", "DISK", "HARDWARE_QUEUE", "IDLE", "INFLIGHT", "QUEUE", "constants"]

DISK: Mapping[str, str] = {
    "alignment_offset": "0",
    "capability": "0",
    "discard_alignment": "0",
    "events": "",
    "events_async": "",
    "events_poll_msecs": "-1",
    "hidden": "0",
    "removable": "0",
}
QUEUE: Mapping[str, str] = {
    "add_random": "0",
    "atomic_write_boundary_bytes": "0",
    "atomic_write_max_bytes": "0",
    "atomic_write_unit_max_bytes": "0",
    "atomic_write_unit_min_bytes": "0",
    "chunk_sectors": "0",
    "dax": "0",
    "discard_granularity": "512",
    "discard_max_bytes": "2147483136",
    "discard_max_hw_bytes": "2147483136",
    "discard_zeroes_data": "0",
    "dma_alignment": "511",
    "fua": "0",
    "hw_sector_size": "512",
    "io_poll": "0",
    "io_poll_delay": "-1",
    "iostats": "1",
    "logical_block_size": "512",
    "max_discard_segments": "1",
    "max_hw_sectors_kb": "2147483647",
    "max_integrity_segments": "0",
    "max_sectors_kb": "1280",
    "max_segment_size": "4294967295",
    "max_segments": "254",
    "minimum_io_size": "512",
    "nomerges": "0",
    "nr_requests": "256",
    "nr_zones": "0",
    "optimal_io_size": "0",
    "physical_block_size": "512",
    "read_ahead_kb": "128",
    "rotational": "1",
    "rq_affinity": "1",
    "scheduler": "[none] ",
    "stable_writes": "0",
    "virt_boundary_mask": "0",
    "write_cache": "write back",
    "write_same_max_bytes": "0",
    "write_zeroes_max_bytes": "2147483136",
    "zone_append_max_bytes": "0",
    "zone_write_granularity": "0",
    "zoned": "none",
}
BLOCK_SIZES = ("hw_sector_size", "logical_block_size", "minimum_io_size", "physical_block_size")
"""The files of the queue that tell the size of the disk's blocks."""
HARDWARE_QUEUE: Mapping[str, str] = {
    "cpu_list": "0",
    "nr_reserved_tags": "0",
    "nr_tags": "256",
}
_EMPTY = frozenset({"events", "events_async"})
_WRITABLE = frozenset(
    {
        "add_random",
        "cache_type",
        "discard_max_bytes",
        "events_poll_msecs",
        "io_poll",
        "io_poll_delay",
        "iostats",
        "max_sectors_kb",
        "nomerges",
        "nr_requests",
        "read_ahead_kb",
        "rotational",
        "rq_affinity",
        "scheduler",
        "stable_writes",
        "write_cache",
    }
)
IDLE = (" " * 7 + "0 ") + " ".join([" " * 7 + "0"] * 16) + "\n"


INFLIGHT = "       0        0"


def _constant(name: str, text: str) -> Attribute:
    shown = text if name in _EMPTY else f"{text}\n"
    if name in _WRITABLE:
        return Attribute(lambda: shown, lambda data: None)
    return constant(shown)


def constants(table: Mapping[str, str]) -> dict[str, Node]:
    """Attributes that always show the same."""
    return {name: _constant(name, text) for name, text in table.items()}
