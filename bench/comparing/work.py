# SPDX-License-Identifier: Apache-2.0
"""The work that is timed. Each Work runs on a mounted root filesystem and returns nothing; the
driver times run() only. `before` prepares (not timed); `cold` drops every cache before run();
warm work is run untimed before. Programs of the image run inside it by chroot.
"""
import os
import shutil
import sqlite3
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional


def sh(command, cwd=None, env=None):
    subprocess.run(["/bin/sh", "-ec", command], check=True, cwd=cwd, env=env,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def inside(root, command):
    subprocess.run(["chroot", str(root), "/bin/sh", "-ec", command], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                   env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C"})


@dataclass
class Work:
    name: str
    run: Callable[[Path, Path], None]            # (mounted root, data directory)
    before: Optional[Callable[[Path, Path], None]] = None
    cold: bool = False
    warm: bool = False                           # run before timing
    first: bool = False                          # cold, and by those that learn as if never before
    lessons: int = 0                             # for those: so many cold runs before timing
    writes: bool = True
    touches: tuple = ("srv",)                    # what it changes, for those that have no upper
    peers: tuple = ()                            # only these
    special: Optional[Callable] = None           # (peer, data) -> (seconds, {name: value}); no mount

    def suits(self, peer):
        return ((peer.writable or not self.writes) and (not self.peers or peer.name in self.peers)
                and (peer.learns or not self.first))


def cold_and_warm(name, run, before=None, lessons=0, **how):
    writes = before is not None
    return [Work(name + " cold", run, before, cold=True, lessons=lessons, writes=writes, **how),
            Work(name + " warm", run, before, warm=True, writes=writes, **how)]


def first_cold_and_warm(name, run, before=None, **how):
    """Of what reads files: who learns, learns their order."""
    return [Work(name + " first", run, before, cold=True, first=True, writes=before is not None,
                 **how)] + cold_and_warm(name, run, before, lessons=2, **how)


def find_ls(root, data):
    sh("find . -xdev -ls", cwd=root)


def tar_all(root, data):
    # cat: GNU tar does not read bodies when its output is /dev/null.
    sh("tar --one-file-system --exclude=./var/tmp/lower1g -cf - . | cat", cwd=root)


def grep_tree(root, data):
    sh("grep -rc zzzzunlikely usr/lib/python3 usr/lib/python3.* || true", cwd=root)


def program(command):
    return lambda root, data: inside(root, command)


def hello_source(root, data):
    (root / "tmp/hello.c").write_text("#include <stdio.h>\nint main(){puts(\"hello\");}\n")


def fio(pattern, block, jobs, engine):
    def work(root, data):
        sh(f"fio --name=t --directory={root}/var/tmp --filename=lower1g --readonly --rw={pattern} "
           f"--bs={block} --numjobs={jobs} --ioengine={engine} --size=256m --thread "
           f"--invalidate=0 --io_size={'256m' if pattern == 'read' else '64m'}")
    return work


def untar(root, data):
    target = root / "srv/untar"
    target.mkdir()
    sh(f"tar -xpf {data}/base.tar", cwd=target)


def create_files(root, data):
    directory = root / "srv/many"
    directory.mkdir()
    body = b"x" * 1024
    for i in range(10000):
        fd = os.open(directory / f"f{i}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, body)
        os.close(fd)


def stat_files(root, data):
    for i in range(10000):
        os.stat(root / f"srv/many/f{i}")


def unlink_files(root, data):
    for i in range(10000):
        os.unlink(root / f"srv/many/f{i}")


def remove_lower(root, data):
    shutil.rmtree(root / "usr/share")


def chmod_lower(root, data):
    sh("chmod -R g-w,o+r usr/share", cwd=root)


def write_1g(block):
    count = (1 << 30) // block
    def work(root, data):
        buffer = os.urandom(block)
        with open(root / "srv/big", "wb", buffering=0) as out:
            for _ in range(count):
                out.write(buffer)
    return work


def one_byte(root, data):
    fd = os.open(root / "var/tmp/lower1g", os.O_WRONLY)
    os.pwrite(fd, b"!", 512 << 20)
    os.fsync(fd)
    os.close(fd)


def git_clone(root, data):
    sh(f"git clone -q {data}/repository srv/clone", cwd=root)


def git_status(root, data):
    sh("git status", cwd=root / "srv/clone")


def make_parallel(root, data):
    inside(root, "cd /srv/project && make -j2")


def project(root, data):
    shutil.copytree(data / "project", root / "srv/project")


def npm_install(root, data):
    inside(root, "cd /srv/npm && npm install --offline --no-audit --no-fund ./*.tgz")


def npm_project(root, data):
    shutil.copytree(data / "npm", root / "srv/npm")


def apt_install(root, data):
    inside(root, "dpkg -i /srv/debs/*.deb")


def debs(root, data):
    shutil.copytree(data / "debs", root / "srv/debs")


def sqlite_inserts(root, data):
    db = sqlite3.connect(root / "srv/test.db", isolation_level=None)
    db.execute("pragma synchronous=full")
    db.execute("create table t(a integer primary key, b text)")
    for i in range(300):
        db.execute("insert into t(b) values(?)", ("x" * 100,))
    db.close()


WORK = (
    cold_and_warm("find -ls", find_ls)
    + first_cold_and_warm("tar of everything", tar_all)
    + first_cold_and_warm("grep -r python3", grep_tree)
    + first_cold_and_warm("start python3", program("python3 -c 'import json,http.server,asyncio'"))
    + first_cold_and_warm("start java", program(
        # No /proc there, by which it would find its libraries.
        "LD_LIBRARY_PATH=/usr/lib/jvm/default-java/lib java -version"))
    + first_cold_and_warm("start node", program("node -e 0"))
    + first_cold_and_warm("gcc hello.c", program("gcc -o /tmp/hello /tmp/hello.c"), hello_source,
                    touches=("tmp",))
    + [Work(f"fio {p} {b} x{j} {e} cold", fio(p, b, j, e), cold=True, writes=False)
       for p in ("read", "randread") for b in ("4k", "128k") for j in (1, 4)
       for e in (("psync", "mmap") if (b, j) == ("4k", 1) else ("psync",))]
    + [Work("untar base", untar),
       Work("create 10,000", create_files),
       Work("stat 10,000", stat_files, create_files),
       Work("unlink 10,000", unlink_files, create_files),
       Work("rm -r lower", remove_lower, touches=("usr/share",)),
       Work("chmod -R lower", chmod_lower, touches=("usr/share",)),
       Work("write 1 GiB by 1 MiB", write_1g(1 << 20)),
       Work("write 1 GiB by 4 KiB", write_1g(4096)),
       Work("one byte in 1 GiB lower", one_byte, touches=("var/tmp/lower1g",)),
       Work("git clone", git_clone),
       Work("git status", git_status, git_clone),
       Work("make -j2", make_parallel, project),
       Work("npm install", npm_install, npm_project),
       Work("dpkg -i", apt_install, debs,
            touches=("srv", "usr/share", "etc", "var/lib/dpkg", "var/cache/debconf", "var/log")),
       Work("sqlite inserts", sqlite_inserts)]
)
