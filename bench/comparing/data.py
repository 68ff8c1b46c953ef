# SPDX-License-Identifier: Apache-2.0
"""The data of a comparison, made once from Debian's packages: the root filesystem (build-essential,
python3, nodejs, npm, a JRE, git, PostgreSQL; about 1.3 GB) with a 1 GiB file added, a base system's
tar, a git repository, a C project, an npm package and a .deb to install."""
import base64
import os
import platform
import random
import shutil
import subprocess
from pathlib import Path

INCLUDE = ("build-essential,python3,python3-pip,nodejs,npm,default-jre-headless,git,postgresql")


def run(*command, **options):
    subprocess.run([str(c) for c in command], check=True, **options)


def machine():
    model = next((l.split(":", 1)[1].strip() for l in Path("/proc/cpuinfo").read_text().splitlines()
                  if l.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{os.cpu_count()} × {model}, {memory:.0f} GB, kernel {os.uname().release}"


def debootstrap(target: Path, include: str):
    if not target.exists():
        partial = target.with_suffix(".partial.tar")
        run("mmdebstrap", "--variant=minbase", f"--include={include}", "bookworm", partial)
        partial.rename(target)


def extract(data: Path, rootfs: Path):
    tree = data / "tree"
    if tree.exists():
        return
    partial = data / "tree.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    run("tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", rootfs, "-C", partial)
    with open(partial / "var/tmp/lower1g", "wb") as out:
        generator = random.Random(1)
        for _ in range(1024):  # compresses by a quarter
            out.write(base64.b64encode(generator.randbytes(3 << 18)))
    partial.rename(tree)


def repository(data: Path):
    target = data / "repository"
    if target.exists():
        return
    partial = data / "repository.partial"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(data / "tree/usr/include", partial, symlinks=True)
    for command in (["init", "-q"], ["add", "-A"],
                    ["-c", "user.name=b", "-c", "user.email=b@localhost", "commit", "-qm", "all"]):
        run("git", *command, cwd=partial)
    partial.rename(target)


def project(data: Path):
    target = data / "project"
    target.mkdir(exist_ok=True)
    names = [f"part{i}" for i in range(60)]
    for name in names:
        (target / f"{name}.c").write_text(
            "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <math.h>\n"
            + "".join(f"int {name}_{j}(int x){{char b[64];snprintf(b,64,\"%d\",x+{j});return atoi(b);}}\n"
                      for j in range(20)))
    (target / "main.c").write_text("int main(void){return 0;}\n")
    (target / "Makefile").write_text(
        "all: program\nprogram: main.o " + " ".join(n + ".o" for n in names)
        + "\n\tgcc -o $@ $^\n%.o: %.c\n\tgcc -O1 -c -o $@ $<\n")


def npm(data: Path):
    target = data / "npm"
    if target.exists():
        return
    package = data / "npm.package"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(data / "tree/usr/include/linux", package / "files")
    (package / "package.json").write_text('{"name":"benchpackage","version":"1.0.0"}')
    run("npm", "pack", "--silent", cwd=package, stdout=subprocess.DEVNULL)
    partial = data / "npm.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    (package / "benchpackage-1.0.0.tgz").rename(partial / "benchpackage-1.0.0.tgz")
    (partial / "package.json").write_text('{"name":"bench","version":"1.0.0"}')
    partial.rename(target)


def debs(data: Path):
    target = data / "debs"
    if target.exists():
        return
    partial = data / "debs.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o777)
    run("apt-get", "download", "-qq", "manpages", "tzdata", cwd=partial)
    partial.rename(target)


def prepare(data: Path, rootfs):
    source = rootfs or data / "debian.tar"
    if not rootfs:
        debootstrap(source, INCLUDE)
    debootstrap(data / "base.tar", "ca-certificates")
    extract(data, source)
    full = data / "rootfs.tar"  # with the 1 GiB file: what layerfs imports is what the others serve
    if not full.exists():
        partial = data / "rootfs.partial.tar"
        run("tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--format=pax", "-cf", partial,
            "-C", data / "tree", ".")
        partial.rename(full)
    (data / "tmp").mkdir(exist_ok=True)
    repository(data)
    project(data)
    npm(data)
    debs(data)
    return full
