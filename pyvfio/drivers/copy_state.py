"""How far a copy came, in a file beside the image, so that one that was interrupted can go on.

The file is called like the image and ``.copy``: JSON with the disk's identity, the direction, the first track that is
not yet copied, and how many are left.  It is gone when the copy is complete.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from pyvfio.errors import Misuse, PyvfioError, from_oserror

__all__ = ["CopyState"]

_RESUME = "resume copy"


class CopyState:
    """The progress of copying between the image in `path` and the disk `identity`; `direction` is free text."""

    def __init__(self, path: str | Path, identity: str, direction: str) -> None:
        self.path = Path(f"{path}.copy")
        self._facts = {"disk": identity, "direction": direction}

    def load(self) -> tuple[int, int]:
        """The first track to copy, and how many.  Raise `Misuse` when nothing was interrupted, or another copy."""
        try:
            found = json.loads(self.path.read_text())
            first, count = int(found["first"]), int(found["tracks"])
        except FileNotFoundError:
            raise Misuse(
                _RESUME, str(self.path), cause="no copy was interrupted here (there is no such file)"
            ) from None
        except OSError as error:
            raise from_oserror(error, _RESUME, str(self.path)) from error
        except (ValueError, KeyError, TypeError) as error:
            raise Misuse(_RESUME, str(self.path), cause="it does not say how far a copy came") from error
        for name, mine in self._facts.items():
            if found.get(name) != mine:
                raise Misuse(_RESUME, str(self.path), cause=f"that copy's {name} is {found.get(name)}, not {mine}")
        return first, count

    @contextlib.contextmanager
    def kept(self, first: int, count: int, flush: Callable[[], None]) -> Iterator[Callable[[int], None]]:
        """Keep the file while copying; the function is told how many tracks are done, after `flush` was called.

        Whatever ends the copying early has a note with the way to go on.  Raise the class for the errno.
        """
        done = 0

        def save() -> None:
            facts = {**self._facts, "first": first + done, "tracks": count - done}
            fresh = self.path.with_name(f"{self.path.name}.new")
            try:
                fresh.write_text(json.dumps(facts))
                fresh.replace(self.path)
            except OSError as error:
                raise from_oserror(error, "write copy state", str(self.path)) from error

        def told(step: int) -> None:
            nonlocal done
            flush()
            done += step
            save()

        save()
        try:
            yield told
        except BaseException as error:
            words = f"{done} of {count} tracks were copied; --resume goes on with track {first + done}"
            error.add_note(words)
            if isinstance(error, PyvfioError):
                error.host = words
            raise
        self.path.unlink(missing_ok=True)
