# SPDX-License-Identifier: Apache-2.0
"""stop_at.py PID REGEX BYTES: lets the process, which has stopped itself, run until it has a file
open whose path matches and which has at least so many bytes; then it is stopped again (SIGSTOP).
Fails when the process ends before that."""
import os
import re
import signal
import sys

pid, pattern, size = int(sys.argv[1]), re.compile(sys.argv[2]), int(sys.argv[3])
directory = f"/proc/{pid}/fd"


def state():
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0]


def is_there(fd):
    try:
        return pattern.search(os.readlink(fd)) and os.stat(fd).st_size >= size
    except OSError:
        return False  # closed meanwhile


while state() != "T":
    pass
os.kill(pid, signal.SIGCONT)
while not any(is_there(f"{directory}/{fd}") for fd in os.listdir(directory)):
    if state() == "Z":
        sys.exit("it ended before that")
os.kill(pid, signal.SIGSTOP)
