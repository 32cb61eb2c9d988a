"""The models of PCI functions that a machine file can name."""

from __future__ import annotations

__all__ = ["MODELS"]

MODELS = frozenset({"virtio-bell", "virtio-blk", "virtio-net", "virtio-rng"})
