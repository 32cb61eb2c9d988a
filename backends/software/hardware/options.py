"""Options of models: what a machine file may say of a control unit or a PCI function beyond the common keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyvfio.errors import Misuse

__all__ = ["check_options", "from_hex"]


def check_options(operation: str, model: str, given: Mapping[str, Any], allowed: Mapping[str, type]) -> None:
    """Raise `Misuse` for an option that `model` does not have or whose value is of another type than `allowed`.

    A whole number serves where a float is asked for; true and false are no numbers.
    """
    for name, value in given.items():
        wanted = allowed.get(name)
        if wanted is None:
            raise Misuse(
                operation,
                model,
                cause=f"model {model} has no option {name!r}",
                next_step=f"its options: {', '.join(sorted(allowed)) or 'none'}",
            )
        fits = isinstance(value, (int, float) if wanted is float else wanted)
        if not fits or (isinstance(value, bool) and wanted is not bool):
            raise Misuse(operation, model, cause=f"option {name!r} must be of type {wanted.__name__}")


def from_hex(operation: str, model: str, name: str, text: str) -> bytes:
    """The bytes of an option written in hexadecimal.  Raise `Misuse`."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise Misuse(operation, model, cause=f"option {name!r} is not hexadecimal: {text!r}") from None
