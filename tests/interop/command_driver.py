"""Runs many command lines of installed console scripts, each in a fork, because each start of Barman takes 0.6 s.

Reads ``{"preload": [modules], "commands": [[script, argument ...], ...]}`` from standard input and writes the list of
exit codes. Only the scripts' entry points are called. It runs in Barman's interpreter as well as in ours, so it imports
nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import runpy
import sys

SECONDS = 100
AT_A_TIME = 2


def start(command: list[str]) -> int:
    """Run one command line in a fork and return its process id."""
    child = os.fork()
    if child == 0:
        _become(command)
    return child


def _become(command: list[str]) -> None:
    import signal

    signal.alarm(SECONDS)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nowhere, descriptor)
    sys.argv = command
    code = 1  # a traceback ends with 1
    with contextlib.suppress(Exception):
        try:
            runpy.run_path(command[0], run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    os._exit(code)


def codes(commands: list[list[str]]) -> list[int]:
    """Return the exit codes in order, as a shell would show them; two commands run at a time.

    There are no threads: a fork of a process that has some may find a lock taken for ever.
    """
    found = [0] * len(commands)
    running: dict[int, int] = {}
    for number, command in enumerate(commands):
        if len(running) == AT_A_TIME:
            _wait(running, found)
        running[start(command)] = number
    while running:
        _wait(running, found)
    return found


def _wait(running: dict[int, int], found: list[int]) -> None:
    child, status = os.wait()
    code = os.waitstatus_to_exitcode(status)
    found[running.pop(child)] = code if code >= 0 else 128 - code


def warm_up(scripts: set[str]) -> None:
    """Ask each program for its version in this process, so that the forks find its modules loaded."""
    for script in sorted(scripts):
        sys.argv = [script, "--version"]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            runpy.run_path(script, run_name="__main__")


def main() -> None:
    """Answer the list on standard input."""
    task = json.load(sys.stdin)
    for module in task["preload"]:
        importlib.import_module(module)
    warm_up({command[0] for command in task["commands"]})
    json.dump(codes(task["commands"]), sys.stdout)


if __name__ == "__main__":
    main()
