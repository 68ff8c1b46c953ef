# SPDX-License-Identifier: Apache-2.0
"""removed_space.py DIRECTORY DAEMON_PID: DIRECTORY is in a mount with a size limit of some 20 MB.

What a removed file took is free when unlink(2), or the close(2) of its last descriptor, returns:
for the next write, and for statfs(2). What is there can be written again in its place, however full it is."""
import errno
import os
import signal
import sys
import threading
import time

root, daemon = sys.argv[1], int(sys.argv[2])
os.chdir(root)
PIECE = 128 * 1024


def write(fd, size, offset):
    """Errno, or 0 once it is on the disk."""
    try:
        os.pwrite(fd, os.urandom(size), offset)
        os.fsync(fd)
        return 0
    except OSError as error:
        return error.errno


def grow():
    """Writes to "other" what takes more room, and gives it back."""
    code = write(other, PIECE, PIECE)
    os.ftruncate(other, PIECE)
    return code


def fill(name):
    """A file that leaves no room for a PIECE; open."""
    fd = os.open(name, os.O_CREAT | os.O_RDWR)
    offset = 0
    for size in (1 << 20, 16384):
        while (code := write(fd, size, offset)) == 0:
            offset += size
        assert code == errno.ENOSPC, os.strerror(code)
        os.ftruncate(fd, offset)
    os.fsync(fd)  # nothing of it is left to be written: closing it sends no message
    os.lseek(fd, 0, os.SEEK_HOLE)  # for which the daemon looks it up by another name
    for mode in range(0o600, 0o700):  # attributes of what is there take nothing
        os.chmod("other", mode)
        os.utime("other", (mode, mode))
    return fd


def free_bytes():
    values = os.statvfs(".")
    return values.f_bavail * values.f_frsize


other = os.open("other", os.O_CREAT | os.O_RDWR)
assert write(other, PIECE, 0) == 0

for round in range(8):
    fd = fill("full")
    assert free_bytes() < 2 * PIECE, free_bytes()
    assert grow() == errno.ENOSPC, "there was room"
    assert write(other, PIECE, 0) == 0, "bytes in the place of others take no room"
    if round % 2 == 0:
        os.close(fd)
        os.unlink("full")
    else:
        os.unlink("full")
        assert grow() == errno.ENOSPC, "an open file's space was given away"
        os.close(fd)
    if round % 4 < 2:
        assert grow() == 0, f"round {round}: no space after removing"
    assert free_bytes() > 15_000_000, f"round {round}: {free_bytes()} bytes free after removing"

# The kernel gives the daemon the write first and then the news that the file is gone.
for round in range(10):
    fd = fill("full")
    os.unlink("full")
    os.fsync(other)
    os.fstat(other)
    result = []
    os.kill(daemon, signal.SIGSTOP)
    try:
        os.close(fd)
        writer = threading.Thread(target=lambda: result.append(grow()))
        writer.start()
        time.sleep(0.1)
    finally:
        os.kill(daemon, signal.SIGCONT)
    writer.join()
    assert result == [0], f"round {round}: {os.strerror(result[0])}"

# A few small files, whose bytes are in the database.
bulk = os.open("bulk", os.O_CREAT | os.O_RDWR)
assert write(bulk, free_bytes() - 2_000_000, 0) == 0


def write_small(name):
    try:
        fd = os.open(name, os.O_CREAT | os.O_RDWR)
        code = write(fd, 12000, 0)
        os.close(fd)
        return code
    except OSError as error:
        return error.errno


count = 0
while write_small(f"small-{count}") == 0:
    count += 1
assert write_small("small-0") == 0, "a small file cannot be replaced in place"
for i in range(20):
    os.unlink(f"small-{i}")
for i in range(10):
    assert write_small(f"again-{i}") == 0, f"no space for small file {i} after removing"
