"""Runs a program that doesn't outlive its parent: ``python -m barman_cloud.verify.launch PARENT UID GID PROGRAM …``.

PostgreSQL must not stay when the process that started it is killed, and refuses to run as root. Both have to be settled
in the child, between fork and exec, where a program with threads must not run Python; so this small one does.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    parent, uid, gid, *program = sys.argv[1:]
    if int(uid) != os.geteuid():
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    # After the change of user, which takes the setting back. SIGQUIT ends the server at once.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGQUIT))
    if os.getppid() != int(parent):
        sys.exit(1)  # the parent is gone already
    os.execv(program[0], program)  # noqa: S606 - what the caller names


if __name__ == "__main__":
    main()
