"""Get the guest: from the cache, or built now."""

from __future__ import annotations

from pathlib import Path

from . import emulator, initrd, kernel, rootfs
from .architecture import S390X, Architecture
from .cache import Cache
from .debian import Suite, host_mirror
from .guest import Machine
from .progress import Progress, StepFailed

DISK = "root.ext4"


class Store:
    """Kernels and root disks of an architecture; `mirror` overrides the Debian archive of the host's apt."""

    def __init__(self, cache: Cache, progress: Progress, mirror: str = "", architecture: Architecture = S390X) -> None:
        self.architecture = architecture
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
            made_for = self.architecture
            name = kernel.key(made_for, version)
            if self.cache.find("kernel", name) is None:
                log.write_text("")
                self.progress.say(f"kernel {name} is not in the cache: making it")
            with self.cache.scratch() as work:
                built = self.cache.build(
                    "kernel",
                    name,
                    lambda result: kernel.build(made_for, suite, version, work, result, self.progress, log),
                    kernel.need(made_for),
                )
            with self.cache.scratch() as work:
                image = self.cache.build(
                    "image",
                    rootfs.key(made_for, name),
                    lambda result: rootfs.build(made_for, suite, built, work, result, self.progress, log),
                    rootfs.NEED,
                )
            qemu = self._emulator(suite, log) if made_for.emulator else None
        self.progress.say(f"guest: kernel {built.name}, root disk {image.name}, in {self.cache.root}")
        machine = Machine(
            built / made_for.image,
            image / DISK,
            profile,
            initrd=image / initrd.NAME if made_for.initrd_modules else None,
            architecture=made_for,
            qemu=emulator.words(qemu, made_for.qemu) if qemu else (),
            environment=emulator.environment(qemu) if qemu else {},
        )
        return machine, image / "python"

    def _emulator(self, suite: Suite, log: Path) -> Path:
        """Give the entry with QEMU of the guest's own release."""
        with self.cache.scratch() as work:
            return self.cache.build(
                "emulator",
                emulator.key(self.architecture),
                lambda result: emulator.build(self.architecture, suite, work, result, self.progress, log),
                emulator.NEED,
            )

    def _version(self, refresh: bool) -> tuple[Suite, str]:
        """Give the suite and its version of the kernel's source; without a network, the cached one's."""
        label, ending = f"{self.architecture.name}-", f"-{kernel.recipe(self.architecture)}"
        suite = Suite(self.cache.root / "apt", self._mirror or host_mirror())
        if refresh or not suite.is_fresh:
            try:
                with self.progress.stage("package lists"):
                    suite.update()
            except StepFailed as error:
                known = self.cache.newest("kernel", label, ending)
                if known is None:
                    raise
                self.progress.say(f"{error}\ngoing on with the kernel in the cache")
                return suite, known.removeprefix(label).removesuffix(ending)
        return suite, suite.version(kernel.SOURCE)
