# SPDX-License-Identifier: Apache-2.0
"""The programs whose storage is compared. Each stores a corpus's trees in their order in a new
place, and reads all of it back, as a stream nobody keeps wherever it can."""
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from .peers import quiet, run


@dataclass
class Cost:
    cpu_seconds: float = 0
    wall_seconds: float = 0
    peak_bytes: int = 0

    def add(self, *command, **options):
        """Runs a command; adds what it and its children used."""
        start = time.monotonic()
        process = subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, **options)
        error = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.wall_seconds += time.monotonic() - start
        self.cpu_seconds += usage.ru_utime + usage.ru_stime
        self.peak_bytes = max(self.peak_bytes, usage.ru_maxrss * 1024)
        if process.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, command))}: {error.decode(errors='replace')}")


class Storage:
    name = ""
    described = ""
    slow = False  # one round only

    def __init__(self, home: Path, corpus):
        self.corpus = corpus
        self.home = home / self.name
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        self.place = self.home / "stored"
        self.prepare()

    def prepare(self):
        pass

    def store(self) -> Cost:
        raise NotImplementedError

    def restore(self) -> Cost:
        raise NotImplementedError

    def version(self):
        return ""

    def size_bytes(self):
        os.sync()
        text = subprocess.run(["du", "-s", "--apparent-size", "-B1", self.place], check=True,
                              capture_output=True, text=True).stdout
        return int(text.split()[0])

    def remove(self):
        shutil.rmtree(self.home, ignore_errors=True)

    def first_line(self, *command):
        done = subprocess.run(command, capture_output=True, text=True)
        return (done.stdout or done.stderr).strip().splitlines()[0]


class Layerfs(Storage):
    name = "layerfs"
    described = "import"
    program = "layerfs"

    def layerfs(self, *arguments):
        return [self.program, "--root", self.place, "--quiet", *arguments]

    def store(self):
        cost = Cost()
        for name, tar in self.corpus.tars:
            cost.add(*self.layerfs("import", tar, f"bench:{name}"))
        return cost

    def restore(self):
        cost = Cost()
        for name, _ in self.corpus.tars:
            cost.add(*self.layerfs("export", f"bench:{name}", "--format", "tar", "-o", "-"))
        return cost

    def version(self):
        return self.first_line(self.program, "--version")


class LayerfsOptimized(Layerfs):
    name = "layerfs-optimized"
    described = "import, then optimize: both together"
    slow = True

    def store(self):
        cost = super().store()
        cost.add(*self.layerfs("optimize"))
        return cost


class Mounted(Storage):
    """An image that the kernel mounts."""
    kind = ""

    def restore(self):
        mountpoint = self.home / "mnt"
        mountpoint.mkdir(exist_ok=True)
        run("mount", "-t", self.kind, "-o", "loop,ro", self.place, mountpoint)
        try:
            cost = Cost()
            cost.add("sh", "-c", 'tar -cf - -C "$1" . | cat >/dev/null', "sh", mountpoint)
            return cost
        finally:
            quiet("umount", mountpoint)


class Squashfs(Mounted):
    name = "squashfs"
    described = "mksquashfs zstd-3, blocks of 128 KiB"
    kind = "squashfs"
    level, block = "3", "128K"

    def store(self):
        cost = Cost()
        cost.add("mksquashfs", *self.corpus.trees(), self.place, "-comp", "zstd",
                 "-Xcompression-level", self.level, "-b", self.block, "-no-progress", "-quiet")
        return cost

    def version(self):
        return self.first_line("mksquashfs", "-version")


class Squashfs19(Squashfs):
    name = "squashfs-19"
    described = "mksquashfs zstd-19, blocks of 1 MiB"
    level, block = "19", "1M"
    slow = True


class Erofs(Mounted):
    name = "erofs"
    described = "mkfs.erofs lz4hc, clusters of 128 KiB"
    kind = "erofs"

    def store(self):
        cost = Cost()
        cost.add("mkfs.erofs", "--quiet", "-zlz4hc", "-C131072", self.place, self.corpus.parent)
        return cost

    def version(self):
        return self.first_line("mkfs.erofs", "--version")


class Borg(Storage):
    name = "borg"
    described = "zstd,3, chunks of 64 KiB"

    def prepare(self):
        self.env = dict(os.environ, BORG_BASE_DIR=str(self.home / "base"),
                        BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK="yes")
        run("borg", "init", "-e", "none", self.place, env=self.env, stderr=subprocess.DEVNULL)

    def store(self):
        cost = Cost()
        for tree in self.corpus.trees():
            cost.add("borg", "create", "--compression", "zstd,3", "--chunker-params",
                     "buzhash,14,18,16,4095", f"{self.place}::{tree.name}", ".", cwd=tree,
                     env=self.env)
        return cost

    def restore(self):
        cost = Cost()
        for tree in self.corpus.trees():
            cost.add("borg", "export-tar", f"{self.place}::{tree.name}", "-", env=self.env)
        return cost

    def version(self):
        return self.first_line("borg", "--version")


class Restic(Storage):
    name = "restic"
    described = "its defaults"

    def prepare(self):
        self.env = dict(os.environ, RESTIC_PASSWORD="bench", RESTIC_REPOSITORY=str(self.place),
                        RESTIC_CACHE_DIR=str(self.home / "cache"))
        run("restic", "init", env=self.env, stdout=subprocess.DEVNULL)

    def store(self):
        cost = Cost()
        for tree in self.corpus.trees():
            cost.add("restic", "backup", "--quiet", "--tag", tree.name, ".", cwd=tree, env=self.env)
        return cost

    def restore(self):
        cost = Cost()
        for tree in self.corpus.trees():
            cost.add("restic", "dump", "--tag", tree.name, "latest", "/", env=self.env)
        return cost

    def version(self):
        return self.first_line("restic", "version")


class Casync(Storage):
    name = "casync"
    described = "its defaults (zstd, chunks of 64 KiB)"

    def prepare(self):
        self.place.mkdir()

    def store(self):
        cost = Cost()
        for tree in self.corpus.trees():
            cost.add("casync", "make", f"--store={self.place}/store",
                     f"{self.place}/{tree.name}.caidx", tree)
        return cost

    def restore(self):
        cost = Cost()
        for tree in self.corpus.trees():
            target = self.home / "restored"
            target.mkdir()
            cost.add("casync", "extract", f"--store={self.place}/store", "--seed-output=no",
                     f"{self.place}/{tree.name}.caidx", target)
            shutil.rmtree(target)
        return cost

    def version(self):
        return self.first_line("casync", "--version")


ALL = [Layerfs, LayerfsOptimized, Squashfs, Squashfs19, Erofs, Borg, Restic, Casync]
PACKAGES = ["squashfs-tools", "erofs-utils", "borgbackup", "restic", "casync", "mmdebstrap", "npm"]
