# SPDX-License-Identifier: Apache-2.0
"""Work on more than one mount, or on images of a size of their own: many containers at once, many
layers, huge directories, mount, commit and import. Each returns (seconds, other values)."""
import copy
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

from comparing import peers
from comparing.work import Work, one_byte

CONTAINERS = 20
FILES = 2000  # of an image of layers


def run(*command, **options):
    return subprocess.run([str(c) for c in command], check=True, **options)


def member(name, body=b"", mode=0o644, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.mtime = kind, mode, len(body), 1700000000
    return info, io.BytesIO(body)


def pss_bytes(pid):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(l.split()[1]) * 1024 for l in lines if l.startswith("Pss:"))


def several(peer, count):
    out = []
    for i in range(count):
        one = copy.copy(peer)
        one.home = peer.home / f"container{i}"
        one.mountpoint = one.home / "mnt"
        one.mountpoint.mkdir(parents=True, exist_ok=True)
        one.container = f"bench{i}"
        out.append(one)
    return out


def containers(peer, data):
    """Mounts them all, starts a program in each at the same time, waits for all."""
    peers.drop_caches()
    mounted = []
    try:
        start = time.monotonic()
        for one in several(peer, CONTAINERS):
            one.mount()
            mounted.append(one)
        programs = [subprocess.Popen(["chroot", one.mountpoint, "/usr/bin/python3", "-c",
                                      "import json, http.server, asyncio"]) for one in mounted]
        if any(p.wait() != 0 for p in programs):
            raise RuntimeError(f"{peer.name}: a program failed")
        seconds = time.monotonic() - start
        daemons = [pid for one in mounted if (pid := one.daemon_pid())]
        busy = sum(map(pss_bytes, daemons)) / 1e6
        time.sleep(2)
        return seconds, {"daemons' memory, MB": busy,
                         "daemons' memory 2 s later, MB": sum(map(pss_bytes, daemons)) / 1e6}
    finally:
        for one in mounted:
            one.unmount()
            one.discard()


# --- images of many layers ------------------------------------------------------------------------

def layer_files(number, count):
    """What layer `number` of `count` holds: every count-th of the files, all in one directory."""
    return [f"d/file{i:04}" for i in range(number, FILES, count)]


def make_layer_directories(target, count):
    if target.exists():
        return
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for number in range(count):
        (partial / str(number) / "d").mkdir(parents=True)
        for name in layer_files(number, count):
            (partial / str(number) / name).write_text(name)
    partial.rename(target)


def make_oci_layout(target, count):
    blobs = target / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(content):
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"digest": "sha256:" + digest, "size": len(content)}

    layers = []
    for number in range(count):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
            tar.addfile(*member("d", mode=0o755, kind=tarfile.DIRTYPE))
            for name in layer_files(number, count):
                tar.addfile(*member(name, name.encode()))
        layers.append(blob(out.getvalue()))
    media = "application/vnd.oci.image."
    config = blob(json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {
        "type": "layers", "diff_ids": [l["digest"] for l in layers]}}).encode())
    manifest = blob(json.dumps({
        "schemaVersion": 2, "mediaType": media + "manifest.v1+json",
        "config": {"mediaType": media + "config.v1+json", **config},
        "layers": [{"mediaType": media + "layer.v1.tar", **l} for l in layers]}).encode())
    (target / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [
        {"mediaType": media + "manifest.v1+json", **manifest}]}))
    (target / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


def import_once(peer, reference, make):
    """Imports what make(path) makes, unless the store has it."""
    known = subprocess.run([peer.program, "--root", peer.store, "inspect", reference],
                           capture_output=True)
    if known.returncode == 0:
        return
    source = peer.home / "import"
    shutil.rmtree(source, ignore_errors=True)
    source.unlink(missing_ok=True)
    make(source)
    run(peer.program, "--root", peer.store, "--quiet", "import", source, reference,
        stdout=subprocess.DEVNULL)


def mount_layers(peer, data, count):
    if peer.name == "layerfs":
        import_once(peer, f"layers:{count}", lambda path: make_oci_layout(path, count))
        return peer.mount(f"layers:{count}")
    directories = data / f"layers{count}"
    make_layer_directories(directories, count)
    lower = ":".join(str(n) for n in reversed(range(count)))
    upper, work = peer.fresh("upper"), peer.fresh("work")
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    command = ["mount", "-t", "overlay", "overlay", "-o", options, peer.mountpoint]
    if peer.name == "fuse-overlayfs":
        command = ["fuse-overlayfs", "-o", options, peer.mountpoint]
    run(*command, cwd=directories, stderr=subprocess.DEVNULL)
    return peer.mountpoint


def lookups(count):
    def special(peer, data):
        root = mount_layers(peer, data, count)
        try:
            start = time.monotonic()
            for i in range(FILES):
                os.stat(root / f"d/file{i:04}")
                if os.path.exists(root / f"d/none{i:04}"):
                    raise RuntimeError("a file too many")
            return time.monotonic() - start, {}
        finally:
            peer.unmount()
    return special


# --- big directories and images -------------------------------------------------------------------

def huge_directory_tar(path, count):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(*member("d", mode=0o755, kind=tarfile.DIRTYPE))
        for i in range(count):
            tar.addfile(*member(f"d/entry{i:07}", b"%d\n" % i))


def mount_directory(peer, data, count):
    if peer.name == "layerfs":
        import_once(peer, f"directory:{count}", lambda path: huge_directory_tar(path, count))
        return peer.mount(f"directory:{count}")
    tree = data / f"directory{count}"
    if not (tree / "d").exists():
        tree.mkdir(exist_ok=True)
        partial = data / "tmp/directory.tar"
        huge_directory_tar(partial, count)
        run("tar", "-xf", partial, "-C", tree)
        partial.unlink()
    if peer.name == "native":
        return tree
    other = copy.copy(peer)
    other.tree = tree
    return other.mount()


def list_directory(count):
    def special(peer, data):
        root = mount_directory(peer, data, count)
        try:
            peers.drop_caches()
            start = time.monotonic()
            run("find", root / "d", "-ls", stdout=subprocess.DEVNULL)
            seconds = time.monotonic() - start
            return seconds, {"µs an entry": seconds * 1e6 / count}
        finally:
            peer.unmount()
    return special


def mount_time(count):
    """Of an image with so many entries; 0: the root filesystem."""
    def special(peer, data):
        if count:
            import_once(peer, f"directory:{count}", lambda path: huge_directory_tar(path, count))
        peer.mount(f"directory:{count}" if count else "bench:latest")
        peer.unmount()
        subprocess.run([peer.program, "--root", peer.store, "rm", "bench"], capture_output=True)
        start = time.monotonic()
        peer.mount(f"directory:{count}" if count else "bench:latest", fresh=False)
        seconds = time.monotonic() - start
        memory = pss_bytes(peer.daemon_pid()) / 1e6
        peer.unmount()
        return seconds, {"idle daemon, MB": memory}
    return special


def commit(count, change):
    def special(peer, data):
        if count:
            import_once(peer, f"directory:{count}", lambda path: huge_directory_tar(path, count))
        root = peer.mount(f"directory:{count}" if count else "bench:latest")
        try:
            change(root)
            os.sync()
            start = time.monotonic()
            run(peer.program, "--root", peer.store, "--quiet", "commit", "bench", "bench:commit",
                stdout=subprocess.DEVNULL)
            return time.monotonic() - start, {}
        finally:
            peer.unmount()
            run(peer.program, "--root", peer.store, "rmi", "bench:commit", stdout=subprocess.DEVNULL)
    return special


def change_one_file(root):
    (root / "d/entry0500000").write_text("changed\n")


def change_a_gigabyte(root):
    with open(root / "srv/changed", "wb") as out, open(root / "var/tmp/lower1g", "rb") as source:
        source.seek(1 << 18)
        shutil.copyfileobj(source, out, 1 << 20)


def import_rootfs(peer, data):
    store = peer.fresh("import-store")
    command = [peer.program, "--root", store, "--quiet", "import", peer.tar]
    seconds = []
    for _ in range(2):
        os.sync()
        start = time.monotonic()
        run(*command, stdout=subprocess.DEVNULL)
        seconds.append(time.monotonic() - start)
    shutil.rmtree(store)
    return seconds[0], {"the same again, s": seconds[1]}


def special(name, measure, *names):
    return Work(name, None, special=measure, peers=names)


UNIONS = ("overlayfs", "fuse-overlayfs", "layerfs")
WORK = (
    [special("20 containers", containers, *UNIONS)]
    + [special(f"4,000 lookups, {n} layers", lookups(n), *UNIONS) for n in (1, 10, 200)]
    + [special(f"list {n:,} entries", list_directory(n), "native", *UNIONS) for n in (1000, 1000000)]
    + [special("mount root filesystem", mount_time(0), "layerfs"),
       special("mount 1,000 entries", mount_time(1000), "layerfs"),
       special("mount 1,000,000 entries", mount_time(1000000), "layerfs"),
       special("commit 1 file of 1,000,000", commit(1000000, change_one_file), "layerfs"),
       special("commit 1 byte of 1 GiB", commit(0, lambda root: one_byte(root, None)), "layerfs"),
       special("commit 1 GB", commit(0, change_a_gigabyte), "layerfs"),
       special("import", import_rootfs, "layerfs")]
)
