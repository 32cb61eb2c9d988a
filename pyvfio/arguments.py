"""Arguments of the wrong type: who called is told the name of the argument, where the library is entered.

Types are the caller's to check (``py.typed``), so this is for the calls that people make most, by hand.  A wrong type
is a `TypeError` of Python, not a `pyvfio.errors.PyvfioError`: the program is wrong, and nothing was tried.
"""

from __future__ import annotations

__all__ = ["require_host", "require_kind", "require_numbers"]


def require_numbers(call: str, *, optional: bool = False, **values: object) -> None:
    """Raise `TypeError` for one of the `values` that is no whole number; `optional` ones may be None."""
    for name, value in values.items():
        if not hasattr(value, "__index__") and not (optional and value is None):
            raise TypeError(f"{call}: {name} is a whole number, not {_words(value)}")


def require_kind(call: str, name: str, value: object, kind: type | tuple[type, ...], what: str) -> None:
    """Raise `TypeError` for a `value` that is not of `kind`, which is said as `what`."""
    if not isinstance(value, kind):
        raise TypeError(f"{call}: {name} is {what}, not {_words(value)}")


def require_host(call: str, host: object) -> None:
    """Raise `TypeError` for what is no `pyvfio.Host`."""
    if not hasattr(host, "backend"):
        raise TypeError(f"{call}: host is a pyvfio.Host, not {_words(host)}")


def _words(value: object) -> str:
    text = repr(value)
    return f"{text[:57]}..." if len(text) > 60 else text
