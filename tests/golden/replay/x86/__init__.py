"""Replays of what the x86 lab's kernel answered (``fixtures/golden/x86/lab``), on the software machine ``lab-x86``."""
