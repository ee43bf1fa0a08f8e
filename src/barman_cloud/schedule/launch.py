"""Runs a program that ends with its parent: ``python -m barman_cloud.schedule.launch PARENT PROGRAM …``.

A job whose supervisor was killed would otherwise go on without its lease. The setting has to be made in the child,
between fork and exec, where a program with threads must not run Python; so this small one does.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    parent, *program = sys.argv[1:]
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
    if os.getppid() != int(parent):
        sys.exit(1)  # the parent is gone already
    os.execv(program[0], program)  # noqa: S606 - what the caller names


if __name__ == "__main__":
    main()
