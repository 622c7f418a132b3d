"""The first process of a pod: makes the private parts of a container, then becomes Patroni.

usage: init.py HOSTNAME SERVICE_ACCOUNT_DIR PROGRAM [ARGUMENT...]

mount(8) refuses every user except for uid 0, with any capabilities. mount(2) does not.
"""
import ctypes
import os
import socket
import sys

MS_BIND = 4096
libc = ctypes.CDLL(None, use_errno=True)


def mount(source, target, kind=None, flags=0, options=None):
    words = [word and word.encode() for word in (source, target, kind, options)]
    if libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"mounting {source}: {os.strerror(error)}", target)


hostname, service_account, *program = sys.argv[1:]
socket.sethostname(hostname)
run = os.path.realpath("/var/run")
mount("tmpfs", run, "tmpfs", options="mode=755")
mount("tmpfs", "/dev/shm", "tmpfs", options="mode=1777")
os.mkdir(f"{run}/postgresql")
token = f"{run}/secrets/kubernetes.io/serviceaccount"
os.makedirs(token)
mount(service_account, token, flags=MS_BIND)
os.execv(program[0], program)
