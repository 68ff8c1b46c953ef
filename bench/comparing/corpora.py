# SPDX-License-Identifier: Apache-2.0
"""The corpora of bench/dedup, made once: lists of (name, tar), and each tar extracted."""
import shutil
import subprocess
from pathlib import Path

from .data import INCLUDE, debootstrap, run

TYPESCRIPT = ("3.0.1 3.1.4 3.2.2 3.4.2 3.5.3 3.7.2 3.8.2 3.9.4 4.0.2 4.0.7 "
              "4.2.2 4.3.5 4.5.3 4.6.3 4.8.4 5.0.3 5.3.3 5.4.3 5.7.2 5.9.3").split()
PACKAGES = "nginx redis python3 nodejs ruby default-jre-headless postgresql gcc php perl".split()


class Corpus:
    def __init__(self, name, title, home: Path, tars):
        self.name, self.title, self.home = name, title, home
        self.tars = tars                    # [(name, tar)], in the order in which they are stored
        self.parent = home / "trees"        # one directory each

    def trees(self):
        return [self.parent / name for name, _ in self.tars]

    def size_bytes(self):
        return sum(tar.stat().st_size for _, tar in self.tars)

    def extract(self):
        for name, tar in self.tars:
            target, partial = self.parent / name, self.home / "partial"
            if target.exists():
                continue
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            run("tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", tar, "-C", partial)
            self.parent.mkdir(exist_ok=True)
            partial.rename(target)


def npm_versions(home: Path):
    tars = []
    for number, version in enumerate(TYPESCRIPT):
        name = f"{number:02}-{version}"
        tar = home / f"{name}.tar"
        if not tar.exists():
            unpacked = home / "unpacked"
            shutil.rmtree(unpacked, ignore_errors=True)
            unpacked.mkdir()
            run("npm", "pack", "--silent", f"typescript@{version}", cwd=home,
                stdout=subprocess.DEVNULL)
            package = home / f"typescript-{version}.tgz"
            run("tar", "-xzf", package, "-C", unpacked)
            package.unlink()
            partial = home / "partial.tar"
            run("tar", "--sort=name", "--owner=0", "--group=0", "--mtime=@0", "-cf", partial,
                "-C", unpacked, "package")
            partial.rename(tar)
        tars.append((name, tar))
    return tars


def debian_images(home: Path):
    tars = []
    for package in PACKAGES:
        tar = home / f"{package}.tar"
        debootstrap(tar, package)
        tars.append((package, tar))
    return tars


def prepare(name, data: Path, rootfs):
    home = data / f"corpus-{name}"
    home.mkdir(parents=True, exist_ok=True)
    if name == "A":
        corpus = Corpus(name, "20 versions of the npm package typescript", home, npm_versions(home))
    elif name == "B":
        corpus = Corpus(name, "ten Debian root filesystems", home, debian_images(home))
    else:
        tar = rootfs or data / "debian.tar"
        if not rootfs:
            debootstrap(tar, INCLUDE)
        corpus = Corpus(name, "one Debian root filesystem", home, [("rootfs", tar)])
    corpus.extract()
    return corpus
