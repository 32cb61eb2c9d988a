"""The file of lines that several programs write."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pyvfio.process import SharedLog


def test_a_line_that_could_not_be_written_whole_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, other = SharedLog(str(tmp_path / "log")), SharedLog(str(tmp_path / "log"))
    pwrite = os.pwrite

    def full(fd: int, data: bytes, offset: int) -> int:
        if offset:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(fd, data[:3], offset)

    with monkeypatch.context() as patch, log.exclusive():
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space left"):
            log.append(b"first")
    assert other.read_new() == []
    with log.exclusive():
        log.append(b"second")
    assert other.read_new() == [b"second"]
    assert log.read_new() == []
    log.close()
    other.close()
