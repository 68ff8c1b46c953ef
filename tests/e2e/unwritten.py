# SPDX-License-Identifier: Apache-2.0
"""unwritten.py MOUNT IMAGE_FILE SPARSE_FILE: SEEK_DATA and SEEK_HOLE see what programs have written
or mapped but the kernel has not written back. IMAGE_FILE and SPARSE_FILE are of the image, the
second is a hole of 10 MiB but for a page at 5 MiB."""
import errno
import mmap
import os
import sys

mount, image_file, sparse_file = sys.argv[1:]
os.chdir(mount)
MIB = 1 << 20


def data(fd, at):
    return os.lseek(fd, at, os.SEEK_DATA)


def hole(fd, at):
    return os.lseek(fd, at, os.SEEK_HOLE)


def is_end(fd, at):
    try:
        data(fd, at)
    except OSError as error:
        assert error.errno == errno.ENXIO, error
        return True
    return False


def new_file():
    fd = os.open('unwritten', os.O_RDWR | os.O_CREAT | os.O_EXCL)
    for size in (4096, 300000, 5 * MIB):
        os.ftruncate(fd, 0)
        os.pwrite(fd, b'x' * size, 0)
        assert (data(fd, 0), hole(fd, 0)) == (0, size), size
        assert is_end(fd, size)
    os.ftruncate(fd, 20 * MIB)
    os.pwrite(fd, b'x' * 4096, 10 * MIB)
    assert data(fd, 6 * MIB) == 10 * MIB
    os.close(fd)


def deleted_file():
    fd = os.open('unwritten', os.O_RDWR)
    os.unlink('unwritten')
    os.pwrite(fd, b'x' * 4096, 15 * MIB)
    assert data(fd, 12 * MIB) == 15 * MIB
    os.close(fd)


def appended_to_the_image():
    fd = os.open(image_file, os.O_RDWR | os.O_APPEND)
    size = os.fstat(fd).st_size
    os.write(fd, b'more' * 5000)
    assert hole(fd, 0) == size + 20000, hole(fd, 0)
    os.close(fd)


def mapped_hole_of_the_image():
    fd = os.open(sparse_file, os.O_RDWR)
    assert data(fd, 0) == 5 * MIB
    with mmap.mmap(fd, 10 * MIB) as memory:
        memory[8 * MIB] = 1
        assert data(fd, 6 * MIB) == 8 * MIB
        memory[MIB] = 1
        assert data(fd, 0) == MIB
        assert hole(fd, MIB) < 5 * MIB
    os.close(fd)


for check in (new_file, deleted_file, appended_to_the_image, mapped_hole_of_the_image):
    check()
