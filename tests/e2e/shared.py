# SPDX-License-Identifier: Apache-2.0
"""shared.py DIRECTORY [--again]: files and directories that several use at once. DIRECTORY has a
file `log` of 100 KiB and more, and a directory `names` of 3,000 files named 0 to 2999. --again: what
the first run left, after a remount."""
import ctypes
import errno
import fcntl
import mmap
import os
import sys

os.chdir(sys.argv[1])
again = len(sys.argv) > 2
PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
libc.readdir.argtypes = libc.closedir.argtypes = libc.telldir.argtypes = [ctypes.c_void_p]
libc.telldir.restype = ctypes.c_long
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]


def mapped():
    fd = os.open('log', os.O_RDWR)
    size = os.fstat(fd).st_size
    if again:
        assert os.pread(fd, 4, 5 * PAGE - 2) == b'MAPS' and os.pread(fd, 3, 7 * PAGE) == b'FD!'
        return os.close(fd)
    old = os.pread(fd, 16, 9 * PAGE)
    shared = mmap.mmap(fd, size)
    private = mmap.mmap(fd, size, access=mmap.ACCESS_COPY)
    shared[5 * PAGE - 2:5 * PAGE + 2] = b'MAPS'
    os.pwrite(fd, b'FD!', 7 * PAGE)
    private[9 * PAGE:9 * PAGE + 4] = b'mine'
    other = os.open('log', os.O_RDONLY)
    assert os.pread(other, 4, 5 * PAGE - 2) == b'MAPS'
    assert shared[7 * PAGE:7 * PAGE + 3] == private[7 * PAGE:7 * PAGE + 3] == b'FD!'
    assert os.pread(other, 16, 9 * PAGE) == shared[9 * PAGE:9 * PAGE + 16] == old
    if size % PAGE:  # what is mapped beyond the end is in no file
        assert os.pread(other, 10, size) == b''
    os.close(other)
    os.close(fd)  # the mappings remain


def in_child(body):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            body()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def locked():
    fd = os.open('log', os.O_RDWR)
    second = os.open('log', os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX, 100, 1000)

    def others():
        mine = os.open('log', os.O_RDWR)
        fcntl.lockf(mine, fcntl.LOCK_EX | fcntl.LOCK_NB, 1000, 0)
        try:
            fcntl.lockf(mine, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, 1099)
        except OSError as error:
            assert error.errno in (errno.EAGAIN, errno.EACCES)
        else:
            raise AssertionError('locked twice')

    def after():
        fcntl.lockf(os.open('log', os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)

    in_child(others)
    os.close(second)  # POSIX: closing any descriptor of the file gives all up
    in_child(after)
    os.close(fd)


def listed_while_it_changes():
    """What is there all the while is seen exactly once; seekdir goes back to where telldir was."""
    if again:
        return
    directory = libc.opendir(b'names')
    seen = []
    places = []

    def read():
        entry = libc.readdir(directory)
        if not entry:
            return None
        return ctypes.string_at(entry + 19).decode()  # d_name

    while True:
        place = libc.telldir(directory)
        name = read()
        if name is None:
            break
        seen.append(name)
        places.append(place)
        count = len(seen)
        if count % 10 == 0 and count < 3000:
            os.close(os.open('names/new-%d' % count, os.O_CREAT))
            os.unlink('names/%d' % count)
            os.rename('names/%d' % (count + 1), 'names/moved-%d' % count)
    stayed = [str(i) for i in range(3000) if i % 10 > 1]
    for name in stayed:
        assert seen.count(name) == 1, (name, seen.count(name))
    for at in range(0, len(seen), 97):
        if seen[at] in stayed:
            libc.seekdir(directory, places[at])
            assert read() == seen[at], at
    libc.closedir(directory)


for check in (mapped, locked, listed_while_it_changes):
    check()
