"""NUMA nodes and their processors, and masks of processors as the kernel writes them (``lib/bitmap-str.c``).

The processors are dealt out in blocks, as many to each node as to the others; what is left over is the last one's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.kernel import Kernel

__all__ = ["NO_NODE", "list_text", "listed", "mask", "mask_text", "processors"]

NO_NODE: Final = -1
"""What is near no node, or firmware does not tell (``NUMA_NO_NODE``)."""
_WORD: Final = 32


def mask_text(mask: int, bits: int) -> str:
    """A mask as the kernel writes it: words of 32 bits in hexadecimal, the first only as wide as it must be."""
    words = -(-bits // _WORD)
    first = -(-(bits - (words - 1) * _WORD) // 4)
    texts = [f"{mask >> _WORD * word & 0xFFFFFFFF:0{8 if word < words - 1 else first}x}" for word in range(words)]
    return ",".join(reversed(texts))


def list_text(mask: int) -> str:
    """A mask as ranges of numbers (``0-2,5``)."""
    parts: list[str] = []
    number = 0
    while mask >> number:
        if mask >> number & 1:
            last = number
            while mask >> last + 1 & 1:
                last += 1
            parts.append(str(number) if last == number else f"{number}-{last}")
            number = last
        number += 1
    return ",".join(parts)


def processors(kernel: Kernel, node: int) -> int:
    """The mask of the processors of a node; all of them for `NO_NODE` (``cpumask_of_pcibus``)."""
    count = kernel.interrupts.processors
    every = (1 << count) - 1
    if node == NO_NODE:
        return every
    share = max(1, count // kernel.numa_nodes)
    end = count if node == kernel.numa_nodes - 1 else min(count, (node + 1) * share)
    return every & (1 << end) - (1 << min(count, node * share))


def mask(kernel: Kernel, node: int) -> str:
    """These processors as a mask, a line."""
    return f"{mask_text(processors(kernel, node), kernel.interrupts.processors)}\n"


def listed(kernel: Kernel, node: int) -> str:
    """These processors as ranges, a line."""
    return f"{list_text(processors(kernel, node))}\n"
