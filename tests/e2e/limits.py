#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Limits and odd states in a mount, each as ext4 has it. limits.py TREE [--again: after a remount]"""
import errno
import os
import sys
import threading

tree = sys.argv[1]
again = len(sys.argv) > 2


def fails(code, call, *args):
    try:
        call(*args)
    except OSError as error:
        assert error.errno == code, '%s: %s, expected %s' % (
            args, errno.errorcode[error.errno], errno.errorcode[code])
        return
    raise AssertionError('%r must fail with %s' % (args, errno.errorcode[code]))


def names_at_their_limit():
    longest = tree + '/' + 'n' * 255
    too_long = tree + '/' + 'n' * 256
    if again:
        assert os.path.exists(longest)
        return
    open(longest, 'w').close()
    for call in (os.mkdir, os.stat, os.unlink, os.rmdir, os.listdir):
        fails(errno.ENAMETOOLONG, call, too_long)
    fails(errno.ENAMETOOLONG, os.rename, longest, too_long)
    fails(errno.ENAMETOOLONG, os.link, longest, too_long)
    fails(errno.ENAMETOOLONG, os.symlink, 'x', too_long)
    assert os.statvfs(tree).f_namemax == 255
    odd = os.fsencode(tree) + b'/\xff\x01\n '
    open(odd, 'w').close()
    assert os.path.basename(odd) in os.listdir(os.fsencode(tree))
    os.unlink(odd)


def paths_at_their_limit():
    name = 'p' * 200
    before = os.getcwd()
    os.chdir(tree)
    if not again:
        for _ in range(25):
            os.mkdir(name)
            os.chdir(name)
        os.symlink('s' * 4095, 'link')
        fails(errno.ENAMETOOLONG, os.symlink, 's' * 4096, 'link2')
        os.chdir(tree)
    for _ in range(25):
        os.chdir(name)
    assert len(os.readlink('link')) == 4095
    os.chdir(before)
    base = tree + ('/' + name) * 20
    longest = base[:4095 - 201] if len(base) > 4095 else base
    while len(longest) + 2 <= 4095:
        longest += '/.'
    assert os.stat(longest[:4095] if len(longest) <= 4095 else longest)
    fails(errno.ENAMETOOLONG, os.stat, longest + '/.' * 4)


def many_xattrs():
    path = tree + '/xattrs'
    values = {'user.attribute-%03d' % i: b'%d' % i * 20 for i in range(100)}
    if not again:
        open(path, 'w').close()
        for name, value in values.items():
            os.setxattr(path, name, value)
        os.setxattr(path, 'user.large', b'L' * 60000)
        os.setxattr(path, 'user.empty', b'')
        fails(errno.EEXIST, os.setxattr, path, 'user.large', b'', os.XATTR_CREATE)
        fails(errno.ENODATA, os.setxattr, path, 'user.none', b'', os.XATTR_REPLACE)
        fails(errno.ENODATA, os.getxattr, path, 'user.none')
    have = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    values.update({'user.large': b'L' * 60000, 'user.empty': b''})
    assert have == values, set(have) ^ set(values)


def deleted_but_open():
    path = tree + '/deleted'
    with open(path, 'w+') as file:
        file.write('still here')
        file.flush()
        os.unlink(path)
        assert os.fstat(file.fileno()).st_nlink == 0
        file.seek(0)
        assert file.read() == 'still here'
    fails(errno.ENOENT, os.stat, path)


def caches_dropped_all_the_while():
    """Lookups, changes and links while the kernel is made to forget inodes."""
    stop = threading.Event()

    def drop():
        while not stop.wait(0.05):
            with open('/proc/sys/vm/drop_caches', 'w') as file:
                file.write('2')

    thread = threading.Thread(target=drop)
    if os.access('/proc/sys/vm/drop_caches', os.W_OK):
        thread.start()
    else:
        stop.set()
    try:
        for turn in range(60):
            at = '%s/pressure-%d' % (tree, turn)
            os.makedirs(at + '/a/b')
            with open(at + '/a/b/f', 'w') as file:
                file.write('x')
            os.link(at + '/a/b/f', at + '/a/g')
            os.chown(at + '/a/b/f', turn, turn)
            assert os.stat(at + '/a/g').st_uid == turn
            os.rename(at + '/a', at + '/c')
            assert open(at + '/c/g').read() == 'x'
            os.unlink(at + '/c/b/f')
            os.unlink(at + '/c/g')
            os.rmdir(at + '/c/b')
            os.rmdir(at + '/c')
            os.rmdir(at)
            assert int(open('%s/many/%d' % (tree, turn + 20)).read()) == turn + 20
    finally:
        stop.set()
        if thread.ident:
            thread.join()


for check in (names_at_their_limit, paths_at_their_limit, many_xattrs, deleted_but_open,
              caches_dropped_all_the_while):
    check()
