"""The other end of the guest's 3270: accept what QEMU's terminal server proposes, so that a terminal is there.

telnet bytes (RFC 854, 855, 1091)     answer
IAC DO option                         IAC WILL option
IAC WILL option                       IAC DO option
IAC SB TERMINAL-TYPE SEND IAC SE      IAC SB TERMINAL-TYPE IS <name> IAC SE
3270 data up to IAC EOR               none
"""

from __future__ import annotations

import socket
import threading
from pathlib import Path

IAC, SB, SE, EOR = 255, 250, 240, 239
WILL, DO = 251, 253
TERMINAL_TYPE, IS, SEND = 24, 0, 1
NAME = b"IBM-3278-2"


def answer(buffer: bytes) -> tuple[bytes, bytes]:
    """Take one message off the front of `buffer`: (reply, rest); an incomplete message stays in `rest`."""
    if buffer[:1] == bytes([IAC]) and len(buffer) >= 2 and buffer[1] in (DO, WILL):
        if len(buffer) < 3:
            return b"", buffer
        return bytes([IAC, WILL if buffer[1] == DO else DO, buffer[2]]), buffer[3:]
    if buffer[:2] == bytes([IAC, SB]):
        body, end, rest = buffer.partition(bytes([IAC, SE]))
        if not end:
            return b"", buffer
        if body[2:] == bytes([TERMINAL_TYPE, SEND]):
            return bytes([IAC, SB, TERMINAL_TYPE, IS]) + NAME + bytes([IAC, SE]), rest
        return b"", rest
    _, end, rest = buffer.partition(bytes([IAC, EOR]))
    return b"", rest if end else buffer


def serve(path: Path, stop: threading.Event) -> None:
    """Connect to QEMU's socket when it appears and answer until `stop` is set or QEMU closes it."""
    with socket.socket(socket.AF_UNIX) as terminal:
        while terminal.connect_ex(str(path)):  # not there yet, or QEMU ended before it listened
            if stop.wait(0.05):
                return
        terminal.settimeout(0.2)
        buffer = b""
        while not stop.is_set():
            try:
                data = terminal.recv(4096)
            except TimeoutError:
                continue
            except OSError:
                return
            if not data:
                return
            buffer += data
            while buffer:
                reply, rest = answer(buffer)
                if reply:
                    terminal.sendall(reply)
                if rest == buffer:
                    break
                buffer = rest
