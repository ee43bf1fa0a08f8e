"""Running behind everything else on the machine (Linux)."""

from __future__ import annotations

import ctypes
import os
import platform

from barman_cloud import logs

log = logs.get_logger(__name__)

_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "ppc64le": 273, "s390x": 282}
_IOPRIO_WHO_PROCESS = 1
_IOPRIO_CLASS_IDLE = 3 << 13


def lower_priority(niceness: int) -> None:
    """Add ``niceness`` to this thread's and put its disk access in the idle class; threads started later inherit both.

    A machine that can't set the disk priority (or whose disk scheduler ignores it) is no error.
    """
    os.nice(niceness)
    number = _IOPRIO_SET.get(platform.machine())
    if number is None:
        log.info("the disk priority can't be set on this machine")
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, _IOPRIO_WHO_PROCESS, 0, _IOPRIO_CLASS_IDLE) != 0:
        log.info("the disk priority could not be set: %s", os.strerror(ctypes.get_errno()))
