# SPDX-License-Identifier: Apache-2.0
"""The filesystems under comparison. Each peer serves one prepared root filesystem at a mount point.

prepare() runs once (not timed); mount() gives a fresh writable view of the same tree, unmount()
throws the changes away. Read-only peers have writable = False and are asked for read-only work only.
"""
import json
import os
import shutil
import subprocess
import time
from pathlib import Path


def run(*command, **options):
    return subprocess.run([str(c) for c in command], check=True, **options)


def quiet(*command):
    return subprocess.run([str(c) for c in command], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode == 0


def in_turn(peers, number):
    """In each round another one begins."""
    first = number % len(peers) if peers else 0
    return peers[first:] + peers[:first]


def drop_caches():
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


class Peer:
    name = ""
    writable = True
    learns = False  # a cold run is quicker for another one before it, until forget()

    def __init__(self, data: Path, rootfs_tar: Path):
        self.data, self.tar = data, rootfs_tar
        self.tree = data / "tree"                 # the tar extracted, shared as lower layer
        self.home = data / "peers" / self.name
        self.mountpoint = self.home / "mnt"

    def prepare(self):
        self.home.mkdir(parents=True, exist_ok=True)
        self.mountpoint.mkdir(exist_ok=True)

    def mount(self) -> Path:
        raise NotImplementedError

    def unmount(self):
        run("umount", self.mountpoint)

    def version(self) -> str:
        return ""

    def discard(self):
        """Removes what an unmounted writable view holds."""

    def options(self) -> str:
        for line in Path("/proc/self/mounts").read_text().splitlines():
            fields = line.split()
            if fields[1] == str(self.mountpoint):
                return f"{fields[2]} {fields[3]}"
        return ""

    def daemon_pid(self):
        """The process that serves the mount, or None for kernel filesystems."""
        return None

    def restore(self, touched):
        """Undoes what work did to these paths of the root filesystem; unmount() did, mostly."""

    def fresh(self, name: str) -> Path:
        path = self.home / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path


class Native(Peer):
    """The host's own filesystem: a copy of the tree, of which is renewed what work changed."""
    name = "native"

    def prepare(self):
        super().prepare()
        stamp = self.home / "copied"
        if not stamp.exists():
            shutil.rmtree(self.mountpoint)
            run("cp", "-a", "--reflink=never", self.tree, self.mountpoint)
            stamp.touch()

    def mount(self):
        return self.mountpoint

    def unmount(self):
        pass

    def restore(self, touched):
        for path in touched:
            target = self.mountpoint / path
            if target.is_dir():
                shutil.rmtree(target)
            run("cp", "-a", "-T", "--reflink=never", self.tree / path, target)

    def options(self):
        return subprocess.run(["findmnt", "-no", "FSTYPE,OPTIONS", "-T", self.mountpoint],
                              capture_output=True, text=True).stdout.strip()


class Overlayfs(Peer):
    name = "overlayfs"

    def mount(self):
        upper, work = self.fresh("upper"), self.fresh("work")
        run("mount", "-t", "overlay", "overlay", "-o",
            f"lowerdir={self.tree},upperdir={upper},workdir={work}", self.mountpoint)
        return self.mountpoint

    def version(self):
        return "kernel " + os.uname().release


class FuseOverlayfs(Peer):
    name = "fuse-overlayfs"

    def mount(self):
        upper, work = self.fresh("upper"), self.fresh("work")
        run("fuse-overlayfs", "-o", f"lowerdir={self.tree},upperdir={upper},workdir={work}",
            self.mountpoint, stderr=subprocess.DEVNULL)
        return self.mountpoint

    def version(self):
        text = subprocess.run(["fuse-overlayfs", "--version"], capture_output=True, text=True).stdout
        return next((l.split()[-1] for l in text.splitlines() if l.startswith("fuse-overlayfs")), "")

    def daemon_pid(self):
        found = subprocess.run(["pgrep", "-f", f"fuse-overlayfs .*{self.mountpoint}$"],
                               capture_output=True, text=True).stdout.split()
        return int(found[0]) if found else None


class Layerfs(Peer):
    name = "layerfs"
    learns = True
    program = "layerfs"
    container = "bench"

    def layerfs(self, *arguments):
        done = subprocess.run([str(a) for a in (self.program, "--root", self.store, "--quiet",
                                                *arguments)], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"layerfs {arguments[0]}: {done.stderr}")
        return done.stdout

    def prepare(self):
        super().prepare()
        self.store = self.home / "store"
        stamp = self.home / "imported"
        if not stamp.exists():
            shutil.rmtree(self.store, ignore_errors=True)
            self.layerfs("import", self.tar, "bench:latest")
            stamp.touch()

    def mount(self, reference="bench:latest", fresh=True):
        if fresh and (self.store / "containers" / self.container).exists():
            self.discard()
        self.layerfs("mount", "--container", self.container, reference, self.mountpoint)
        return self.mountpoint

    def unmount(self):
        self.layerfs("umount", self.mountpoint)

    def discard(self):
        quiet(self.program, "--root", self.store, "rm", self.container)

    def forget(self):
        for memory in ("read_history", "group_copies"):
            (self.store / memory).unlink(missing_ok=True)

    def version(self):
        return subprocess.run([self.program, "--version"], capture_output=True,
                              text=True).stdout.strip()

    def daemon_pid(self):
        information = self.store / "containers" / self.container / "mount.json"
        return json.loads(information.read_text())["pid"]

    def stats(self):
        return json.loads(self.layerfs("stats", "--json", self.mountpoint))


class Squashfuse(Peer):
    name = "squashfuse"
    writable = False

    def prepare(self):
        super().prepare()
        self.image = self.home / "image.sqfs"
        if not self.image.exists():
            run("mksquashfs", self.tree, self.image, "-comp", "zstd", "-Xcompression-level", "3",
                "-b", "128K", "-no-progress", stdout=subprocess.DEVNULL)

    def mount(self):
        run("squashfuse_ll", self.image, self.mountpoint)
        return self.mountpoint

    def unmount(self):
        run("umount", self.mountpoint)
        time.sleep(0.1)  # the daemon closes the image after the mount is gone


class Erofs(Peer):
    name = "erofs"
    writable = False

    def prepare(self):
        super().prepare()
        self.image = self.home / "image.erofs"
        if not self.image.exists():
            run("mkfs.erofs", "-zlz4hc", self.image, self.tree, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL)

    def mount(self):
        run("mount", "-t", "erofs", "-o", "loop,ro", self.image, self.mountpoint)
        return self.mountpoint


ALL = [Native, Overlayfs, FuseOverlayfs, Layerfs, Squashfuse, Erofs]
PACKAGES = ["fuse-overlayfs", "squashfuse", "squashfs-tools", "erofs-utils", "fio", "git", "sqlite3",
            "attr", "mmdebstrap", "procps", "python3"]
