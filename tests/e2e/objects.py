#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every operation on every kind of object, in two trees side by side: the first is the truth.

  objects.py make TREE            the part that becomes the image
  objects.py run EXPECTED ACTUAL  changes both alike, does every operation in both, compares answers

A case is one operation on one object (or a pair of objects) in a directory of its own, in which
there is one of each: from the image (lower), made since (upper), from the image and changed since
(merged), and deleted since (gone).
"""
import errno
import os
import stat
import sys
import ctypes

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
NOREPLACE, EXCHANGE = 1, 2


def write(path, text, flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
    fd = os.open(path, flags, 0o644)
    try:
        os.write(fd, text)
    finally:
        os.close(fd)


def make_objects(at, prefix):
    write(at + prefix + 'file', b'content of a file\n' * 3)
    write(at + prefix + 'link1', b'linked')
    os.link(at + prefix + 'link1', at + prefix + 'link2')
    os.mkdir(at + prefix + 'empty')
    os.mkdir(at + prefix + 'full')
    os.mkdir(at + prefix + 'full/sub')
    write(at + prefix + 'full/sub/leaf', b'leaf')
    write(at + prefix + 'full/a', b'a')
    os.symlink(prefix + 'file', at + prefix + 'sym')
    os.mkfifo(at + prefix + 'fifo', 0o600)


def make_image(at):
    make_objects(at, 'l-')
    write(at + 'm-file', b'to be changed')
    os.mkdir(at + 'm-dir')
    write(at + 'm-dir/gone', b'')
    write(at + 'm-dir/stays', b's')
    os.mkdir(at + 'm-emptied')
    write(at + 'm-emptied/gone', b'')
    write(at + 'g-file', b'gone')
    os.mkdir(at + 'g-dir')
    write(at + 'g-dir/x', b'x')


def change(at):
    make_objects(at, 'u-')
    write(at + 'm-file', b'CHANGED', os.O_WRONLY)
    os.chmod(at + 'm-file', 0o600)
    os.unlink(at + 'm-dir/gone')
    write(at + 'm-dir/new', b'n')
    os.unlink(at + 'm-emptied/gone')
    os.unlink(at + 'g-file')
    os.unlink(at + 'g-dir/x')
    os.rmdir(at + 'g-dir')


LOWER_UPPER = ['file', 'link1', 'empty', 'full', 'sym', 'fifo']
NAMES = ['l-' + n for n in LOWER_UPPER] + ['u-' + n for n in LOWER_UPPER]
NAMES += ['m-file', 'm-dir', 'm-emptied', 'g-file', 'g-dir']


def opened(flags):
    def operation(at, name):
        fd = os.open(at + name, flags | os.O_NONBLOCK, 0o640)
        os.close(fd)
    return operation


def append(at, name):
    write(at + name, b'more', os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)


def read(at, name):
    fd = os.open(at + name, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


def look(at, name):
    s = os.lstat(at + name)
    return oct(s.st_mode), s.st_nlink, s.st_size if not stat.S_ISDIR(s.st_mode) else 0


def held_unlink(at, name):
    fd = os.open(at + name, os.O_RDWR | os.O_NONBLOCK)
    try:
        os.unlink(at + name)
        os.write(fd, b'into the void')
        s = os.fstat(fd)
        return s.st_nlink, s.st_size, os.pread(fd, 4, 0)
    finally:
        os.close(fd)


def set_xattr(at, name):
    os.setxattr(at + name, 'trusted.t', b'v', follow_symlinks=False)
    return os.getxattr(at + name, 'trusted.t', follow_symlinks=False)


def replace_by_new(at, name):
    write(at + 'fresh', b'fresh')
    os.rename(at + 'fresh', at + name)


UNARY = {
    'look': look,
    'read': read,
    'readlink': lambda at, n: os.readlink(at + n),
    'list': lambda at, n: sorted(os.listdir(at + n)),
    'creat': opened(os.O_WRONLY | os.O_CREAT),
    'creat_excl': opened(os.O_WRONLY | os.O_CREAT | os.O_EXCL),
    'creat_trunc': opened(os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    'trunc_read': opened(os.O_RDONLY | os.O_TRUNC),
    'open_dir': opened(os.O_RDONLY | os.O_DIRECTORY),
    'open_nofollow': opened(os.O_RDONLY | os.O_NOFOLLOW),
    'append': append,
    'truncate_shorter': lambda at, n: os.truncate(at + n, 3),
    'truncate_longer': lambda at, n: os.truncate(at + n, 30000),
    'mkdir': lambda at, n: os.mkdir(at + n),
    'rmdir': lambda at, n: os.rmdir(at + n),
    'unlink': lambda at, n: os.unlink(at + n),
    'held_unlink': held_unlink,
    'symlink': lambda at, n: os.symlink('target', at + n),
    'mknod': lambda at, n: os.mknod(at + n, stat.S_IFCHR | 0o600, os.makedev(0, 0)),
    'chmod': lambda at, n: os.chmod(at + n, 0o2711),
    'lchown': lambda at, n: os.lchown(at + n, 1234, 5678),
    'utimes': lambda at, n: os.utime(at + n, ns=(1, 999999999), follow_symlinks=False),
    'set_xattr': set_xattr,
    'make_below': lambda at, n: write(at + n + '/below', b'b'),
    'remove_below': lambda at, n: os.unlink(at + n + '/a'),
    'replace_by_new': replace_by_new,
    'make_again': lambda at, n: (os.unlink(at + n), write(at + n, b'again')),
    'make_dir_again': lambda at, n: (os.rmdir(at + n), os.mkdir(at + n),
                                     sorted(os.listdir(at + n)))[2],
}


def renamed(flags):
    def operation(at, one, two):
        if libc.renameat2(AT_FDCWD, (at + one).encode(), AT_FDCWD, (at + two).encode(), flags):
            raise OSError(ctypes.get_errno(), '')
    return operation


BINARY = {
    'rename': renamed(0),
    'rename_noreplace': renamed(NOREPLACE),
    'rename_exchange': renamed(EXCHANGE),
    'link': lambda at, one, two: os.link(at + one, at + two, follow_symlinks=False),
    'rename_into': lambda at, one, two: os.rename(at + one, at + two + '/moved'),
}


def cases():
    for operation in UNARY:
        for name in NAMES:
            yield operation, (name,)
    for operation in BINARY:
        for one in NAMES:
            for two in NAMES:
                yield operation, (one, two)


def answer(root, number, operation, names):
    call = UNARY.get(operation) or BINARY[operation]
    try:
        return call('%s/%d/' % (root, number), *names)
    except OSError as error:
        return errno.errorcode[error.errno]


def main():
    os.umask(0o022)
    what, *roots = sys.argv[1:]
    if what == 'make':
        for number, _ in enumerate(cases()):
            at = '%s/%d/' % (roots[0], number)
            os.mkdir(at)
            make_image(at)
        return 0
    wrong = 0
    for number, (operation, names) in enumerate(cases()):
        for root in roots:
            change('%s/%d/' % (root, number))
        want, got = (answer(root, number, operation, names) for root in roots)
        if want != got:
            wrong += 1
            print('%s %s: %r, expected %r' % (operation, ' '.join(names), got, want))
    print('%d cases, %d wrong' % (number + 1, wrong))
    return 1 if wrong else 0


sys.exit(main())
