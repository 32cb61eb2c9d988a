"""Replay of recorded kernel answers on the software machine, call by call.  See ``tests/golden/README.md``."""
