#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a daemon holds does not grow with what it has served. growth.py TREE PID [MEMORY_LIMIT_MIB]"""
import mmap
import os
import sys
import time

tree, pid = sys.argv[1], sys.argv[2]
limit_mib = int(sys.argv[3]) if len(sys.argv) > 3 else None
MIB = 1 << 20


def descriptors():
    return len(os.listdir('/proc/%s/fd' % pid))


def memory(kind):
    with open('/proc/%s/status' % pid) as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(kind))


def forget():
    with open('/proc/sys/vm/drop_caches', 'w') as drop:
        drop.write('2')


def directories_hold_no_descriptor():
    before = descriptors()
    for _ in range(3000):
        os.mkdir(tree + '/made')
        os.rmdir(tree + '/made')
    assert descriptors() <= before + 8, '%d descriptors, before %d' % (descriptors(), before)


def mapped_files_hold_no_descriptor():
    os.mkdir(tree + '/mapped')
    maps = []
    for i in range(600):
        with open('%s/mapped/%d' % (tree, i), 'wb+') as file:
            file.truncate(40000)
            maps.append(mmap.mmap(file.fileno(), 40000))
        maps[-1][30000] = i % 251
    for map_ in maps:
        map_.flush()
    # A few of the bodies last used are kept open, whatever is mapped.
    assert descriptors() < 300, '%d descriptors for 600 mapped files' % descriptors()
    forget()
    assert all(m[30000] == i % 251 for i, m in enumerate(maps))


def memory_does_not_follow_the_number_of_files():
    os.mkdir(tree + '/many')
    for round_ in range(2):
        for i in range(5000):
            with open('%s/many/%d-%d' % (tree, round_, i), 'w') as file:
                file.write(str(i))
        assert len([e.stat().st_ino for e in os.scandir(tree + '/many')]) == 5000 * (round_ + 1)
        forget()
    for name in os.listdir(tree + '/many'):
        os.unlink(tree + '/many/' + name)
    os.rmdir(tree + '/many')
    resident = memory('VmRSS')
    assert limit_mib is None or resident < limit_mib * MIB, '%d MiB' % (resident // MIB)


def rest_gives_memory_back():
    with open(tree + '/large', 'wb') as file:
        for _ in range(32):
            file.write(os.urandom(MIB))
        os.fsync(file.fileno())
    with open(tree + '/large', 'rb') as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert len(file.read()) == 32 * MIB
    os.unlink(tree + '/large')
    for _ in range(100):
        if limit_mib is None or memory('RssAnon') < 2.5 * MIB:
            return
        time.sleep(0.1)
    raise AssertionError('%d KiB at rest' % (memory('RssAnon') >> 10))


rest_gives_memory_back()
directories_hold_no_descriptor()
mapped_files_hold_no_descriptor()
memory_does_not_follow_the_number_of_files()
