"""Run a command that dies with its parent: launch.py SIGNAL UID GID PARENT_PID COMMAND [ARGUMENT ...].

A program of its own, because `preexec_fn` is unsafe in a process with threads and `setpriv` is not everywhere.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent(death_signal: int) -> None:
    """Have the kernel send this process a signal when the thread that started it ends; only Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)


def main() -> None:
    death_signal, uid, gid, parent = (int(argument) for argument in sys.argv[1:5])
    command = sys.argv[5:]
    if uid != os.geteuid():
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # A group of its own in the same session: Ctrl-C does not reach it, and when the parent dies while the group is
    # stopped (a paused server), the kernel continues it, so that the death signal is acted upon.
    os.setpgid(0, 0)
    # A shell that runs the tests in the background has them, and all that they start, ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # After setuid, which clears it.
    die_with_parent(death_signal)
    if os.getppid() != parent:
        sys.exit("launch.py: the parent is gone already")
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
