"""Get the guest: from the cache, or built now."""

from __future__ import annotations

from pathlib import Path

from . import kernel, rootfs
from .cache import Cache
from .debian import Suite, host_mirror
from .guest import Machine
from .progress import Progress, StepFailed

DISK = "root.ext4"
INITRD = "initrd.img"


class Store:
    """Kernels and root disks in one cache; `mirror` overrides the Debian archive of the host's apt."""

    def __init__(self, cache: Cache, progress: Progress, mirror: str = "") -> None:
        self.cache = cache
        self.progress = progress
        self._mirror = mirror

    def get(self, profile: str = "all", refresh: bool = False) -> tuple[Machine, Path]:
        """Give the machine and the host's build of its Python; build what the cache does not have.

        `refresh` looks for a newer kernel source even if the suite's lists are less than a day old.
        """
        with self.cache.lock(self.progress.say):
            log = self.cache.root / "build.log"
            suite, version = self._version(refresh)
            name = kernel.key(version)
            if self.cache.find("kernel", name) is None:
                log.write_text("")
                self.progress.say(f"kernel {name} is not in the cache: building it")
            with self.cache.scratch() as work:
                built = self.cache.build(
                    "kernel",
                    name,
                    lambda result: kernel.build(suite, version, work, result, self.progress, log),
                    kernel.NEED,
                )
            with self.cache.scratch() as work:
                image = self.cache.build(
                    "image",
                    rootfs.key(name),
                    lambda result: rootfs.build(suite, built, work, result, self.progress, log),
                    rootfs.NEED,
                )
        self.progress.say(f"guest: kernel {built.name}, root disk {image.name}, in {self.cache.root}")
        return Machine(built / "bzImage", image / DISK, profile, initrd=image / INITRD), image / "python"

    def _version(self, refresh: bool) -> tuple[Suite, str]:
        """Give the suite and its version of the kernel's source; without a network, the cached one's."""
        suite = Suite(self.cache.root / "apt", self._mirror or host_mirror())
        if refresh or not suite.is_fresh:
            try:
                with self.progress.stage("package lists"):
                    suite.update()
            except StepFailed as error:
                known = self.cache.newest("kernel", "s390x-", "-" + kernel.recipe())
                if known is None:
                    raise
                self.progress.say(f"{error}\ngoing on with the kernel in the cache")
                return suite, known.removeprefix("s390x-").removesuffix("-" + kernel.recipe())
        return suite, suite.version(kernel.SOURCE)
