"""Replays of the POWER lab's recordings (``fixtures/golden/ppc64/lab``) on ``lab-ppc64``."""
